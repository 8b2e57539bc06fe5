"""Recording events of OpenLineage: one, a batch in one transaction, or files of them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, final

from lineage.change import Draft, Recorded
from lineage.errors import InvalidEvent, LineageError, StoreUnavailable
from lineage.openlineage.event import read_event
from lineage.openlineage.merge import to_draft

__all__ = [
    "Cursor",
    "Imported",
    "RecordsDrafts",
    "RefusedEvent",
    "import_file",
    "record_event",
    "record_events",
]

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BATCH: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
_WITNESS_BYTES: Final = 4096


class RecordsDrafts(Protocol):
    """What recording needs of a graph; `lineage.Graph` and `lineage.connect` have it."""

    def record_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Append several events in one transaction."""


@final
class RefusedEvent(NamedTuple):
    """An event that was not taken.

    Args:
        place: its place among those handed in, from 0; of a file its line, from 1.
        error: why.
    """

    place: int
    error: LineageError


@final
@dataclass
class Imported:
    """What an import of a file did.

    Args:
        path: of the file.
        events: that are in the graph now, those that were there before included.
        noted: how many of them had problems, which they carry as the facet `validation`.
        refused: by line.
        skipped: lines that an earlier import of the same file had read.
    """

    path: Path
    events: int = 0
    noted: int = 0
    refused: list[RefusedEvent] = field(default_factory=list)
    skipped: int = 0


def record_event(
    graph: RecordsDrafts,
    said: bytes | str | Mapping[str, Any],
    *,
    strict: bool = False,
    actor: str | None = None,
) -> Recorded:
    """Record one event; the same one again changes nothing.

    Args:
        graph: where to.
        said: JSON text, or what was parsed from it.
        strict: as for `read_event`.
        actor: who sent it; by default the user of this process.

    Raises:
        InvalidEvent: it is none, or not strictly so.
        InvalidEntity: it is larger than the graph takes.
        StoreUnavailable: nothing was written.

    >>> import lineage
    >>> graph = lineage.Graph(lineage.MemoryStore())
    >>> said = {
    ...     "eventType": "COMPLETE",
    ...     "eventTime": "2026-01-31T12:00:00Z",
    ...     "run": {"runId": "01890a5d-ac96-774b-bcce-b302099a8057"},
    ...     "job": {"namespace": "airflow", "name": "load"},
    ...     "inputs": [{"namespace": "s3://bucket", "name": "raw"}],
    ...     "outputs": [{"namespace": "s3://bucket", "name": "flights"}],
    ... }
    >>> record_event(graph, said).sequence, record_event(graph, said).sequence
    (1, 1)
    >>> [found.name for found in graph.query("s3://bucket/flights", types=["DataSet"])]
    ['flights', 'raw']
    """
    recorded = graph.record_all([to_draft(read_event(said, strict=strict), actor=actor)])[0]
    if isinstance(recorded, LineageError):
        raise recorded
    return recorded


def record_events(
    graph: RecordsDrafts,
    events: Sequence[bytes | str | Mapping[str, Any]],
    *,
    strict: bool = False,
    actor: str | None = None,
) -> list[RefusedEvent]:
    """Record a batch of events in one transaction; those that are refused leave the others in.

    Returns:
        those that were refused, in order.

    Raises:
        StoreUnavailable: nothing was written.
    """
    refused: list[RefusedEvent] = []
    drafts: list[Draft] = []
    places: list[int] = []
    for place, said in enumerate(events):
        try:
            drafts.append(to_draft(read_event(said, strict=strict), actor=actor))
            places.append(place)
        except LineageError as error:
            refused.append(RefusedEvent(place, error))
    for place, outcome in zip(places, graph.record_all(drafts), strict=True) if drafts else ():
        if isinstance(outcome, LineageError):
            refused.append(RefusedEvent(place, outcome))
    return sorted(refused, key=lambda one: one.place)


def import_file(
    graph: RecordsDrafts,
    path: Path,
    *,
    strict: bool = False,
    actor: str | None = None,
    cursor: Cursor | None = None,
    on_batch: Callable[[Imported], None] = lambda imported: None,
) -> Imported:
    """Record the events of a file that has one JSON object in each line.

    A batch of events is one transaction. An import that was cut goes on behind its last batch
    where a cursor is given, and otherwise reads everything again, which changes nothing: each
    event is recorded once. Lines that are refused are named and leave the others in.

    Args:
        graph: where to.
        path: of the file; it may grow, and be imported again.
        strict: as for `read_event`.
        actor: who imports.
        cursor: remembers how far the file was read.
        on_batch: called after each batch with what was done so far.

    Raises:
        StoreUnavailable: what stands behind the last batch was not written, or the file cannot be
            read.
    """
    imported = Imported(path)
    try:
        with path.open("rb") as file:
            offset, lines = (0, 0) if cursor is None else cursor.find(path)
            file.seek(offset)
            imported.skipped = lines
            for batch in _batches(file):
                _import_batch(graph, imported, lines, batch, strict=strict, actor=actor)
                lines += len(batch)
                if cursor is not None and batch[-1].endswith(b"\n"):
                    cursor.move(path, file.tell(), lines)
                on_batch(imported)
    except OSError as error:
        raise StoreUnavailable(
            f"{path}: {error.strerror}; give a file that this process may read"
        ) from error
    return imported


@final
class Cursor:
    """How far files were read, in a file of its own.

    A file that was replaced by another, or cut, is read from its start: the bytes before the place
    are compared.

    Args:
        path: of the cursor; made when absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, dict[str, Any]] = {}
        try:
            places = json.loads(path.read_bytes())
            self._places = places if isinstance(places, dict) else {}
        except (FileNotFoundError, ValueError):
            pass  # what cannot be read is made anew: reading again changes nothing

    def find(self, path: Path) -> tuple[int, int]:
        """The bytes and lines of a file that were read before; 0 where it is another by now."""
        place = self._places.get(str(path.resolve()), {})
        offset, lines = place.get("offset"), place.get("lines")
        if not isinstance(offset, int) or not isinstance(lines, int):
            return 0, 0
        return (offset, lines) if _witness(path, offset) == place.get("witness") else (0, 0)

    def forget(self, path: Path) -> None:
        """Read a file from its start the next time."""
        self._places.pop(str(path.resolve()), None)

    def move(self, path: Path, offset: int, lines: int) -> None:
        """Remember that so much of a file is in the graph."""
        self._places[str(path.resolve())] = {
            "offset": offset,
            "lines": lines,
            "witness": _witness(path, offset),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps(self._places).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once: a crash leaves the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _import_batch(
    graph: RecordsDrafts,
    imported: Imported,
    before: int,
    lines: Sequence[bytes],
    *,
    strict: bool,
    actor: str | None,
) -> None:
    drafts: list[Draft] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, before + 1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_EVENT_BYTES:
                expected = f"at most {MAX_EVENT_BYTES} bytes"
                raise InvalidEvent("", expected, "more")
            event = read_event(line, strict=strict)
            drafts.append(to_draft(event, actor=actor))
            numbers.append(number)
            imported.noted += bool(event.validation)
        except LineageError as error:
            imported.refused.append(RefusedEvent(number, error))
    for number, outcome in zip(numbers, graph.record_all(drafts), strict=True) if drafts else ():
        if isinstance(outcome, LineageError):
            imported.refused.append(RefusedEvent(number, outcome))
        else:
            imported.events += 1
    imported.refused.sort(key=lambda refused: refused.place)


def _batches(file: Any) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    while line := file.readline(MAX_EVENT_BYTES + 1):
        if len(line) > MAX_EVENT_BYTES and not line.endswith(b"\n"):
            # One byte too long stands for it; the rest is read over.
            while (rest := file.readline(MAX_EVENT_BYTES)) and not rest.endswith(b"\n"):
                pass
        batch.append(line)
        size += len(line)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _witness(path: Path, offset: int) -> str:
    """A digest of the bytes before a place."""
    with path.open("rb") as file:
        start = max(0, offset - _WITNESS_BYTES)
        file.seek(start)
        return hashlib.sha256(file.read(offset - start)).hexdigest()
