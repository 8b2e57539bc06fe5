"""The spool: where events wait on disk while the store is away, so that none is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, final

from lineage.association import AssociationType
from lineage.change import Draft, edge_to_json, entity_from_json, entity_to_json, to_json
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import JSON, End, Entity
from lineage.errors import LineageError, StoreUnavailable
from lineage.filelock import lock
from lineage.run import Run
from lineage.store import LineageStore

_LOCK_TIMEOUT_S = 60.0
# What goes into one transaction of a replay.
_EVENTS_AT_ONCE = 200
_BYTES_AT_ONCE = 4 << 20


@final
@dataclass(frozen=True)
class Replayed:
    """What became of the events that waited.

    Args:
        recorded: how many are in the store now.
        refused: how many the graph refuses; they are kept, with the reason, beside the spool.
    """

    recorded: int
    refused: int


@final
class Spool:
    """A file of events, one JSON line each, that wait for a store in the order they came.

    Several processes may use one spool. A line is on disk when `put` returns; one that a kill
    cut short was never acknowledged, and is left out.

    Args:
        path: of the file; made when the first event has to wait, for its user alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused_path = path.with_name(f"{path.stem}.refused{path.suffix}")

    def __bool__(self) -> bool:
        """Whether any event waits."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def put(self, draft: Draft) -> None:
        """Let an event wait; durable on return.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        try:
            with self._locked() as file:
                _append(file, _draft_to_json(draft))
        except OSError as error:
            raise StoreUnavailable(
                f"{self.path}: the store is away and the event cannot wait on disk: "
                f"{error.strerror or error}"
            ) from error

    def replay(self, store: LineageStore) -> Replayed:
        """Record what waits, in order; an event that is in the store already is not doubled.

        An event that the graph refuses is moved to `refused_path` with the reason, and the
        others go on.

        Raises:
            StoreUnavailable: the store is still away; what is not recorded waits on.
        """
        recorded, refused = 0, list[tuple[bytes, str]]()
        try:
            if not self:
                return Replayed(0, 0)
            with self._locked() as file:
                for lines in _parts(file):
                    outcomes = _record(lines, store)
                    recorded += outcomes.count(None)
                    refused += [
                        (line, reason)
                        for line, reason in zip(lines, outcomes, strict=True)
                        if reason is not None
                    ]
                self._refuse(refused)
                # A kill before this replays again: each event is known by its uid.
                file.truncate(0)
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable(
                f"{self.path}: cannot be read or written: {error.strerror or error}"
            ) from error
        return Replayed(recorded, len(refused))

    def waiting(self) -> int:
        """How many events wait.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                return sum(line.endswith(b"\n") and len(line) > 1 for line in file)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreUnavailable(
                f"{self.path}: cannot be read: {error.strerror or error}"
            ) from error

    def _refuse(self, refused: Sequence[tuple[bytes, str]]) -> None:
        if not refused:
            return
        with _opened(self.refused_path) as file:
            for line, reason in refused:
                _append(file, {"reason": reason, "event": line.decode(errors="replace")})

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(self.path) as file:
            lock(file.fileno(), _LOCK_TIMEOUT_S)
            yield file


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if is_new:
        _sync_folder(path.parent)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        yield file  # unbuffered, so a line is one write


def _append(file: BinaryIO, value: JSON) -> None:
    size = os.fstat(file.fileno()).st_size
    line = to_json(value).encode() + b"\n"
    if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
        line = b"\n" + line  # behind a line that a kill cut short
    try:
        written = file.write(line)
        if written != len(line):
            raise OSError(28, "No space left on device")
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def _sync_folder(folder: Path) -> None:
    """Without it a power cut may forget that a new file is there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parts(file: BinaryIO) -> Iterator[list[bytes]]:
    """The whole lines, some at a time; what follows the last line break was never promised."""
    lines: list[bytes] = []
    size = 0
    # A reader of its own, whose place is not that of the appends.
    with open(os.dup(file.fileno()), "rb") as reader:
        reader.seek(0)
        for line in reader:
            if not line.endswith(b"\n"):
                break
            if line == b"\n":
                continue
            lines.append(line[:-1])
            size += len(line)
            if len(lines) == _EVENTS_AT_ONCE or size > _BYTES_AT_ONCE:
                yield lines
                lines, size = [], 0
    if lines:
        yield lines


def _record(lines: Sequence[bytes], store: LineageStore) -> list[str | None]:
    """Record lines in one transaction; for each the reason why it cannot be, if so."""
    reasons: list[str | None] = []
    drafts: dict[int, Draft] = {}
    for place, line in enumerate(lines):
        draft = _parsed(line)
        reasons.append(draft if isinstance(draft, str) else None)
        if not isinstance(draft, str):
            drafts[place] = draft
    answers = store.append_all(list(drafts.values()))
    for place, answer in zip(drafts, answers, strict=True):
        if isinstance(answer, LineageError):
            reasons[place] = f"{type(answer).__name__}: {answer}"
    return reasons


def _parsed(line: bytes) -> Draft | str:
    """The event of a line, or why it holds none."""
    try:
        return _draft_from_json(json.loads(line))
    except LineageError as error:
        return str(error)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"no event: {error!r}"


def _draft_to_json(draft: Draft) -> JSON:
    return {
        "kind": draft.kind,
        "actor": draft.actor,
        "event_uid": draft.event_uid,
        "entities": [entity_to_json(entity) for entity in draft.entities],
        "associations": _links(draft.associations),
        "columns": [
            {
                "destination": _end(said.destination),
                "by": said.by,
                "rank": said.rank,
                "edges": [
                    {**edge_to_json(edge), "source": _end(edge.source)} for edge in said.edges
                ],
            }
            for said in draft.columns
        ],
        "runs": [
            {
                "uid": run.uid,
                "entity": _end(run.entity),
                "state": run.state,
                "started_us": run.started_us,
                "ended_us": run.ended_us,
                "properties": run.properties,
            }
            for run in draft.runs
        ],
        "tags": [[_end(end), key, value] for end, key, value in draft.tags],
        "aliases": [[alias, _end(end)] for alias, end in draft.aliases],
        "retractions": _links(draft.retractions),
        "cycles": draft.cycles,
    }


def _draft_from_json(body: Mapping[str, Any]) -> Draft:
    return Draft(
        kind=body["kind"],
        actor=body["actor"],
        event_uid=body["event_uid"],
        entities=tuple(map(entity_from_json, body["entities"])),
        associations=_from_links(body["associations"]),
        columns=tuple(
            ColumnLineage(
                _from_end(said["destination"]),
                said["by"],
                tuple(
                    ColumnEdge(**{**edge, "source": _from_end(edge["source"])})
                    for edge in said["edges"]
                ),
                said["rank"],
            )
            for said in body["columns"]
        ),
        runs=tuple(Run(**{**run, "entity": _from_end(run["entity"])}) for run in body["runs"]),
        tags=tuple((_from_end(end), key, value) for end, key, value in body["tags"]),
        aliases=tuple((alias, _from_end(end)) for alias, end in body["aliases"]),
        retractions=_from_links(body["retractions"]),
        cycles=body["cycles"],
    )


def _links(associations: Sequence[tuple[End, End, AssociationType]]) -> JSON:
    return [[_end(source), _end(target), link.value] for source, target, link in associations]


def _from_links(links: Sequence[Any]) -> tuple[tuple[End, End, AssociationType], ...]:
    return tuple(
        (_from_end(source), _from_end(target), AssociationType(link))
        for source, target, link in links
    )


def _end(end: End) -> JSON:
    return entity_to_json(end) if isinstance(end, Entity) else end


def _from_end(value: Any) -> End:
    return value if isinstance(value, str) else entity_from_json(value)
