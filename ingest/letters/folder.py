"""Dead letters in a folder: refused messages, put aside with the reason, exactly once.

One file per batch and partition that had refusals, JSON lines or Parquet:

    FOLDER/<group>/<source and partition, hashed>/<start>-<next>.jsonl

It is durable before the transaction that moves the source's position past the batch, so no refusal
is lost. A batch that is read again from the same start replaces it. Two processes that race for
one batch may leave files that overlap (the loser cannot tell whether the other's file has the same
name, so it never deletes); both name the same messages, and `read` gives each message once.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, final

import lineage
from featurestore import PartitionPosition, SourcePosition
from ingest.errors import IngestError
from ingest.letters.file import FORMATS, read_file, sync_folder, write_whole
from ingest.letters.letter import DeadLetter, DeadLetterSink, partition_digest, rank

__all__ = ["DeadLetter", "DeadLetterSink", "DeadLetters", "SeveralSinks"]

_FILE: Final = re.compile(r"(\d{20})-(\d{20})\.(?:jsonl|parquet)\Z")
_LOCK: Final = ".lock"


@final
class DeadLetters(DeadLetterSink):
    """A folder of dead letters.

    Several processes may use one folder at once. Files of both formats may lie in it, and are read
    alike; the format is for those that are written from now on.

    Args:
        folder: made when the first letter is written.
        format: `jsonl`: one JSON object a line, see `DeadLetter.to_json`. `parquet`: the columns
            of `ingest.letterfile.PARQUET_SCHEMA`, for DuckDB, pandas and the like.

    Raises:
        ValueError: another format.
    """

    def __init__(
        self, folder: str | Path, *, format: Literal["jsonl", "parquet"] = "jsonl"
    ) -> None:
        if format not in FORMATS:
            raise ValueError(f"format: expected 'jsonl' or 'parquet', got {format!r}")
        self.folder = Path(folder)
        self.format = format
        # Partition folder → files that no batch of this process has been settled with: those that
        # were there before, and those of its own tries. Filled at the first settling.
        self._leftovers: dict[Path, list[tuple[int, int, Path]]] = {}

    def write(
        self, letters: Sequence[DeadLetter], position: SourcePosition, *, group: str
    ) -> list[Path]:
        """See DeadLetterSink.write; one file per partition with letters.

        Written again under the same position they replace what was there. Each partition's file
        appears whole or not at all.
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
                    write_whole(path, of_part)
                    written.append(path)
                    if path.parent in self._leftovers:
                        self._leftovers[path.parent].append((part.start, part.next, path))
        except OSError as error:
            raise IngestError(
                f"dead letters cannot be written to {self.folder}: {error}; nothing of the batch "
                f"was stored, so it is read again when the folder can be written"
            ) from error
        return written

    def settle(self, position: SourcePosition, *, group: str, written: Sequence[Path] = ()) -> None:
        """See DeadLetterSink.settle.

        A try that was cut short may have covered more or fewer messages from the same start, or
        have gone past this batch's start, which it could not if it had been stored.
        """
        for part in position.partitions:
            path = self._path(group, position.source, part)
            leftovers = self._leftovers.get(path.parent)
            if leftovers is None:
                leftovers = self._leftovers[path.parent] = _stretches(path.parent)
            left = [one for one in leftovers if not one[0] <= part.start < one[1]]
            for _, _, stale in set(leftovers).difference(left):
                if stale not in written:
                    stale.unlink(missing_ok=True)
            leftovers[:] = left

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
            for start, after, path in _stretches(partition):
                if start >= end:
                    yield from (overlapping[offset] for offset in sorted(overlapping))
                    overlapping.clear()
                for letter in _present(path):
                    known = overlapping.get(letter.offset)
                    if known is None or rank(letter) >= rank(known):
                        overlapping[letter.offset] = letter
                end = max(end, after)
            yield from (overlapping[offset] for offset in sorted(overlapping))

    def amend(self, letters: Sequence[DeadLetter]) -> None:
        """See DeadLetterSink.amend."""
        for (group, source, partition), of_one in groupby(
            letters, key=lambda letter: (letter.group, letter.source, letter.partition)
        ):
            newer = {letter.offset: letter for letter in of_one}
            folder = self.folder / group / partition_digest(source, partition)
            for start, after, path in _stretches(folder):
                if any(start <= offset < after for offset in newer):
                    self._change(path, partial(_newer, newer))

    def artifacts(self, group: str) -> Sequence[lineage.Entity]:
        """See DeadLetterSink.artifacts."""
        uri = f"{self.folder.resolve().as_uri()}/{group}"
        name = f"dead letters of {group}"
        return (lineage.artifact("DeadLetterFolder", uri, name=name, properties={"group": group}),)

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
                gone = self._change(path, lambda letter: letter if is_kept(letter) else None)
                removed += gone
                files += gone > 0
        return removed, files

    def _change(self, path: Path, change: Callable[[DeadLetter], DeadLetter | None]) -> int:
        """Write a file anew with its letters changed, or without those that become None.

        One process at a time: else one would bring back what another has just erased.
        """
        try:
            with _locked(path.parent.parent / _LOCK):
                letters = list(_present(path))
                changed = [change(letter) for letter in letters]
                kept = [letter for letter in changed if letter is not None]
                if not letters or kept == letters:
                    return 0
                if kept:
                    write_whole(path, kept)
                else:
                    path.unlink(missing_ok=True)
                    sync_folder(path.parent)
        except OSError as error:
            raise IngestError(
                f"dead letters of {path} cannot be changed: {error}; try again when it can be "
                f"written"
            ) from error
        return len(letters) - len(kept)

    def _path(self, group: str, source: str, part: PartitionPosition) -> Path:
        name = f"{part.start:020d}-{part.next:020d}.{self.format}"
        return self.folder / group / partition_digest(source, part.partition) / name


@final
class SeveralSinks(DeadLetterSink):
    """Several places for the same letters, such as a topic for programs and a folder for people.

    A batch's position moves when all of them have its letters. What is read, comes from the first.

    Args:
        sinks: one or more.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, *sinks: DeadLetterSink) -> None:
        if not sinks:
            raise ValueError("sinks: expected at least one, got none")
        self.sinks = sinks

    def open(self) -> None:
        """See DeadLetterSink.open."""
        for sink in self.sinks:
            sink.open()

    def write(
        self, letters: Sequence[DeadLetter], position: SourcePosition, *, group: str
    ) -> list[Path]:
        """See DeadLetterSink.write."""
        return [path for sink in self.sinks for path in sink.write(letters, position, group=group)]

    def settle(self, position: SourcePosition, *, group: str, written: Sequence[Path] = ()) -> None:
        """See DeadLetterSink.settle."""
        for sink in self.sinks:
            sink.settle(position, group=group, written=written)

    def read(self, group: str | None = None) -> Iterator[DeadLetter]:
        """See DeadLetterSink.read."""
        return self.sinks[0].read(group)

    def amend(self, letters: Sequence[DeadLetter]) -> None:
        """See DeadLetterSink.amend."""
        for sink in self.sinks:
            sink.amend(letters)

    def artifacts(self, group: str) -> Sequence[lineage.Entity]:
        """See DeadLetterSink.artifacts."""
        return [entity for sink in self.sinks for entity in sink.artifacts(group)]

    def close(self) -> None:
        """Close them all."""
        for sink in self.sinks:
            sink.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _newer(newer: Mapping[int, DeadLetter], letter: DeadLetter) -> DeadLetter:
    return newer.get(letter.offset, letter)


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


def _stretches(folder: Path) -> list[tuple[int, int, Path]]:
    """Return the files of a partition with what they cover, in order of name."""
    if not folder.is_dir():
        return []
    found = [(_FILE.match(path.name), path) for path in sorted(folder.iterdir())]
    return [(int(name[1]), int(name[2]), path) for name, path in found if name is not None]


def _present(path: Path) -> Iterable[DeadLetter]:
    """Return a file's letters; none when another process has removed it meanwhile."""
    try:
        return list(read_file(path))
    except FileNotFoundError:
        return ()


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir())
