"""Dead letters: refused messages, put aside with the reason, exactly once.

One file of JSON lines per batch and partition that had refusals:

    FOLDER/<group>/<source and partition, hashed>/<start>-<next>.jsonl

It is durable before the transaction that moves the source's position past the batch, so no refusal
is lost. A batch that is read again from the same start replaces it. Two processes that race for
one batch may leave files that overlap (the loser cannot tell whether the other's file has the same
name, so it never deletes); both name the same messages, and `read` gives each message once.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from featurestore import PartitionPosition, SourcePosition
from ingest.errors import IngestError
from ingest.source import Message

__all__ = ["DeadLetter", "DeadLetters"]

_FILE: Final = re.compile(r"(\d{20})-(\d{20})\.jsonl\Z")


@final
@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused message and why it was refused.

    Args:
        group: the feature group it was meant for.
        source: the source's name.
        partition: where in the source.
        offset: where in the partition.
        payload: the message's value as it came: bytes, a row, or None.
        key: the message's key as it came.
        error: the refusing error's class.
        reason: the refusing error's text.
        time: when it was refused, UTC.
    """

    group: str
    source: str
    partition: str
    offset: int
    payload: bytes | Mapping[str, object] | None
    key: bytes | None
    error: str
    reason: str
    time: dt.datetime

    @classmethod
    def of(
        cls,
        message: Message,
        *,
        group: str,
        source: str,
        error: str,
        reason: str,
        time: dt.datetime,
    ) -> DeadLetter:
        """Make the letter of one refused message."""
        return cls(
            group=group,
            source=source,
            partition=message.partition,
            offset=message.offset,
            payload=message.value,
            key=message.key,
            error=error,
            reason=reason,
            time=time,
        )

    def to_json(self) -> dict[str, object]:
        """Write the letter as a JSON object.

        Bytes that are UTF-8 go into `payload` (`key`) as text, others as base64 into
        `payload_base64` (`key_base64`); a row goes into `payload_row`.
        """
        body: dict[str, object] = {
            "group": self.group,
            "source": self.source,
            "partition": self.partition,
            "offset": self.offset,
            "error": self.error,
            "reason": self.reason,
            "time": self.time.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        }
        if isinstance(self.payload, Mapping):
            body["payload_row"] = {name: _plain(value) for name, value in self.payload.items()}
        elif self.payload is not None:
            body.update(_bytes_to_json("payload", self.payload))
        if self.key is not None:
            body.update(_bytes_to_json("key", self.key))
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> DeadLetter:
        """Read a letter that `to_json` wrote.

        Raises:
            KeyError, ValueError: it is not one.
        """
        row = body.get("payload_row")
        return cls(
            group=body["group"],
            source=body["source"],
            partition=body["partition"],
            offset=int(body["offset"]),
            payload=row if row is not None else _bytes_from_json("payload", body),
            key=_bytes_from_json("key", body),
            error=body["error"],
            reason=body["reason"],
            time=dt.datetime.fromisoformat(body["time"]),
        )


@final
class DeadLetters:
    """A folder of dead letters.

    Several processes may use one folder at once.

    Args:
        folder: made when the first letter is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        # Partition folder → files that were there before this process wrote any, by start.
        self._leftovers: dict[Path, dict[int, list[Path]]] = {}

    def write(
        self, letters: Sequence[DeadLetter], position: SourcePosition, *, group: str
    ) -> list[Path]:
        """Make the letters of one batch durable, before the batch's position is stored.

        Written again under the same position they replace what was there. Each partition's file
        appears whole or not at all.

        Args:
            letters: the refused messages of the batch, all of partitions that `position` names.
            position: what the batch covers.
            group: the feature group.

        Returns:
            The files, one per partition with letters.

        Raises:
            IngestError: the folder cannot be written.
        """
        by_partition: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_partition.setdefault(letter.partition, []).append(letter)
        written = []
        try:
            for part in position.partitions:
                of_part = by_partition.get(part.partition)
                if of_part:
                    path = self._path(group, position.source, part)
                    _write_whole(path, of_part)
                    written.append(path)
        except OSError as error:
            raise IngestError(
                f"dead letters cannot be written to {self.folder}: {error}; nothing of the batch "
                f"was stored, so it is read again when the folder can be written"
            ) from error
        return written

    def settle(self, position: SourcePosition, *, group: str, written: Sequence[Path] = ()) -> None:
        """Forget what earlier, unfinished tries of a batch left, once its position is stored.

        A try that was cut short may have covered more or fewer messages from the same start. Only
        the try whose position was stored counts, and only its owner calls this.

        Args:
            position: what was stored.
            group: the feature group.
            written: the files of this batch, which stay.
        """
        for part in position.partitions:
            path = self._path(group, position.source, part)
            leftovers = self._leftovers.get(path.parent)
            if leftovers is None:
                leftovers = self._leftovers[path.parent] = _files_by_start(path.parent)
            for stale in leftovers.pop(part.start, ()):
                if stale not in written:
                    stale.unlink(missing_ok=True)

    def read(self, group: str | None = None) -> Iterator[DeadLetter]:
        """Give every refused message once, by group, source and partition, in order of offset.

        Args:
            group: only this feature group's.

        Raises:
            IngestError: a file is not one of dead letters.
        """
        groups = [self.folder / group] if group is not None else _folders(self.folder)
        for partition in (inner for outer in groups for inner in _folders(outer)):
            # Only files whose stretches overlap can hold the same message.
            overlapping: dict[int, DeadLetter] = {}
            end = 0
            for path in sorted(partition.iterdir()):
                stretch = _FILE.match(path.name)
                if stretch is None:
                    continue
                if int(stretch[1]) >= end:
                    yield from (overlapping[offset] for offset in sorted(overlapping))
                    overlapping.clear()
                overlapping.update((letter.offset, letter) for letter in _read_file(path))
                end = max(end, int(stretch[2]))
            yield from (overlapping[offset] for offset in sorted(overlapping))

    def retain(self, group: str, is_kept: Callable[[DeadLetter], bool]) -> tuple[int, int]:
        """Remove the letters of a group that are not to be kept, and what killed writers left.

        Args:
            group: the feature group.
            is_kept: asked once for each letter in a file; of one in two files, twice.

        Returns:
            How many letters were removed, and from how many files.

        Raises:
            IngestError: a file is not one of dead letters, or cannot be written; done again, it
                goes on.
        """
        removed = files = 0
        for partition in _folders(self.folder / group):
            for path in sorted(partition.iterdir()):
                if _FILE.match(path.name) is None:
                    if path.name.startswith(".") and _is_left(path):
                        path.unlink(missing_ok=True)
                    continue
                letters = list(_read_file(path))
                kept = [letter for letter in letters if is_kept(letter)]
                if len(kept) == len(letters):
                    continue
                removed += len(letters) - len(kept)
                files += 1
                try:
                    if kept:
                        _write_whole(path, kept)
                    else:
                        path.unlink(missing_ok=True)
                        _sync_folder(partition)
                except OSError as error:
                    raise IngestError(
                        f"dead letters cannot be removed from {path}: {error}; try again when it "
                        f"can be written"
                    ) from error
        return removed, files

    def _path(self, group: str, source: str, part: PartitionPosition) -> Path:
        # Source and partition hold slashes and may be longer than a file name allows.
        digest = hashlib.sha256(f"{source}\0{part.partition}".encode()).hexdigest()[:32]
        return self.folder / group / digest / f"{part.start:020d}-{part.next:020d}.jsonl"


def _write_whole(path: Path, letters: Sequence[DeadLetter]) -> None:
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            for letter in letters:
                file.write(json.dumps(letter.to_json()).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    # A new name is only as durable as the folder that lists it.
    for folder in (path.parent, *(made.parent for made in missing)):
        _sync_folder(folder)


def _is_left(path: Path) -> bool:
    """Whether a file that was being written belongs to a process that has ended."""
    pid = path.name.rpartition(".")[2]
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return True
    except PermissionError:
        return False
    return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_by_start(folder: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    if folder.is_dir():
        for path in folder.iterdir():
            matched = _FILE.match(path.name)
            if matched:
                found.setdefault(int(matched[1]), []).append(path)
    return found


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _read_file(path: Path) -> Iterator[DeadLetter]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield DeadLetter.from_json(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise IngestError(
                    f"{path}, line {number}: expected a dead letter, got {line[:80]!r} ({error}); "
                    f"the file was altered: restore it or move it away"
                ) from error


def _bytes_to_json(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _bytes_from_json(name: str, body: Mapping[str, Any]) -> bytes | None:
    encoded = body.get(f"{name}_base64")
    if encoded is not None:
        return base64.b64decode(encoded, validate=True)
    text = body.get(name)
    return None if text is None else str(text).encode()


def _plain(value: object) -> object:
    """Return a row's value as JSON can hold it; other values as their text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else str(value)
