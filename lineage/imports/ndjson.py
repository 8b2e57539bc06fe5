"""Reading NDJSON lines of a lineage graph into another graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from lineage.change import facets_from_json
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import JSON, STATE, Entity, Facet
from lineage.errors import InvalidImport, LineageError
from lineage.exports.ndjson import FORM
from lineage.run import Run

if TYPE_CHECKING:
    from lineage.graph import Graph
    from lineage.wire.client import LineageClient

IMPORTED: Final = "imported"
"""The facet that keeps when an imported entity was created and modified where it came from."""

_LINES = 500
_BYTES = 4 * 1024 * 1024

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Imported:
    """What an import read.

    Args:
        entities: that were read, those included that were there already.
        associations: that were read.
        events: that were recorded; an event that is known already counts too.
        notes: what could not be read, and why; empty when everything could.
    """

    entities: int
    associations: int
    events: int
    notes: tuple[str, ...] = ()


def import_ndjson(
    graph: Graph | LineageClient, path: str | Path, *, actor: str | None = None
) -> Imported:
    """Record the lines that `Graph.export(..., "ndjson")` wrote in another graph.

    Uids, versions, states, properties, facets, associations, columns, runs, tags and other
    names arrive as they were. Times of creation are of this graph; those of the other are
    kept in the facet `imported`. The file is read whole before anything is recorded, and
    the same lines again change nothing.

    Args:
        graph: to record in, here or of a server.
        path: of the file.
        actor: who records; by default the user of the process.

    Raises:
        InvalidImport: a line is no line of such a file; nothing is recorded.
        EntityConflict: a uid stands for something else in this graph; what stands before
            it in the file is in.
        OSError: the file cannot be read.
    """
    place = Path(path)
    for _ in _chunks(place):
        pass  # the first reading checks every line
    entities = associations = events = 0
    for chunk in _chunks(place):
        graph.record(
            chunk.entities,
            chunk.associations,
            kind="Imported",
            event_uid=f"ndjson:{chunk.digest.hexdigest()}",
            actor=actor,
            columns=chunk.columns,
            runs=chunk.runs,
            tags=chunk.tags,
            aliases=chunk.aliases,
            cycles="allow",
        )
        entities += len(chunk.entities)
        associations += len(chunk.associations)
        events += 1
    return Imported(entities, associations, events)


@dataclass
class _Chunk:
    """The lines of one event."""

    entities: list[Entity] = field(default_factory=list)
    associations: list[tuple[str, str, str]] = field(default_factory=list)
    columns: list[ColumnLineage] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    tags: list[tuple[str, str, str | None]] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)


_Reader = Callable[[dict[str, Any], _Chunk], None]


def _chunks(path: Path) -> Iterator[_Chunk]:
    """The lines in events of moderate size; entities first, since the rest names them.

    Raises:
        InvalidImport: a line is wrong; the error says which.
    """
    chunk, size, lines = _Chunk(), 0, 0
    last = ""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            if not line.strip():
                continue
            fields = _fields(line, where)
            what = fields.pop("is", None)
            if number == 1 or what == "header":
                _check_header(what, fields, where)
                continue
            if what not in _READERS:
                raise InvalidImport(
                    f"{where}: is: expected one of {', '.join(_READERS)}, got {what!r:.100}"
                )
            if lines and (lines >= _LINES or size + len(line) > _BYTES or what != last):
                yield chunk
                chunk, size, lines = _Chunk(), 0, 0
            try:
                _READERS[what](fields, chunk)
            except KeyError as missing:
                raise InvalidImport(
                    f"{where}: expected a line of {what} with {missing}, got {line[:200]!r}"
                ) from missing
            except (LineageError, TypeError, ValueError, AttributeError) as error:
                raise InvalidImport(f"{where}: {error}") from error
            chunk.digest.update(line.strip() + b"\n")
            size, lines, last = size + len(line), lines + 1, what
    if not last and lines == 0 and path.stat().st_size == 0:
        raise InvalidImport(f"{path}: expected lines of a lineage graph, got an empty file")
    if lines:
        yield chunk


def _fields(line: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidImport(
            f"{where}: expected a JSON object, got {line[:80]!r}: {error}"
        ) from error
    if not isinstance(fields, dict):
        raise InvalidImport(f"{where}: expected a JSON object, got {line[:80]!r}")
    return fields


def _check_header(what: object, fields: dict[str, Any], where: str) -> None:
    if what != "header" or fields.get("format") != "featureline.lineage":
        raise InvalidImport(
            f"{where}: expected the header of a lineage file "
            f'({{"is":"header","format":"featureline.lineage",…}}), got {what!r:.100}; '
            f"export one with format ndjson"
        )
    if fields.get("form") != FORM:
        raise InvalidImport(
            f"{where}: expected form {FORM}, got {fields.get('form')!r:.100}; a newer version of "
            f"this package may read it"
        )


def _entity(fields: dict[str, Any], chunk: _Chunk) -> None:
    facets = facets_from_json(fields.get("facets", {}))
    times: dict[str, JSON] = {
        name: fields[name] for name in ("created_us", "modified_us") if name in fields
    }
    if times and IMPORTED not in facets:
        facets[IMPORTED] = Facet(int(fields.get("modified_us", 0)), times)
    # What a facet says of the state it says itself.
    state = "" if STATE in facets else fields.get("state", "")
    chunk.entities.append(
        Entity(
            fields["kind"],
            fields["type"],
            fields["name"],
            uid=fields["uid"],
            source_uri=fields.get("source_uri", ""),
            content_hash=fields.get("content_hash", ""),
            version=fields["version"],
            state=state,
            properties=fields.get("properties", {}),
            facets={name: Facet(facet.rank, facet.value) for name, facet in facets.items()},
        )
    )


def _association(fields: dict[str, Any], chunk: _Chunk) -> None:
    chunk.associations.append((fields["source"], fields["destination"], fields["type"]))


def _columns(fields: dict[str, Any], chunk: _Chunk) -> None:
    edges = tuple(ColumnEdge(**edge) for edge in fields["edges"])
    chunk.columns.append(ColumnLineage(fields["destination"], fields["by"], edges, fields["rank"]))


def _run(fields: dict[str, Any], chunk: _Chunk) -> None:
    chunk.runs.append(Run(**fields))


def _tag(fields: dict[str, Any], chunk: _Chunk) -> None:
    chunk.tags.append((fields["entity"], fields["key"], fields["value"]))


def _alias(fields: dict[str, Any], chunk: _Chunk) -> None:
    chunk.aliases.append((fields["alias"], fields["entity"]))


_READERS: Final[dict[str, _Reader]] = {
    "entity": _entity,
    "association": _association,
    "columns": _columns,
    "run": _run,
    "tag": _tag,
    "alias": _alias,
}
