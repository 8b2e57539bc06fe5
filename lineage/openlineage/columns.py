"""Column lineage as OpenLineage says it: columnLineage of a dataset, and explicit lineage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, final

from lineage.openlineage.event import Notes

__all__ = ["SaidEdge", "Source", "column_edges", "explicit_inputs", "transformations"]

_MAX_COLUMN: Final = 1024
_MAX_DESCRIPTION: Final = 8192


class Source(NamedTuple):
    """Where something comes from: a dataset, or a job or one of its runs.

    Args:
        is_job: whether it is a job.
        namespace: of both.
        name: of both; empty for the event's own job.
        run_id: of a job's run; empty when none is named.
    """

    is_job: bool
    namespace: str
    name: str
    run_id: str = ""


@final
class SaidEdge(NamedTuple):
    """One edge between columns; see `lineage.column.ColumnEdge`."""

    source: Source
    source_column: str
    column: str
    type: str
    subtype: str
    description: str
    masking: bool


class _Transformation(NamedTuple):
    type: str
    subtype: str
    description: str
    masking: bool


def column_edges(facet: Mapping[str, Any], where: str, notes: Notes) -> Iterator[SaidEdge]:
    """The edges of a columnLineage facet; versions 1-0-0 to 1-2-0.

    Args:
        facet: of a dataset.
        where: its path.
        notes: told what cannot be read.
    """
    for column, said in _items(facet.get("fields"), f"{where}.fields", notes):
        place = f"{where}.fields.{column}"
        fields = said if isinstance(said, dict) else {}
        for source, one in _fields(fields.get("inputFields"), f"{place}.inputFields", notes):
            # Before 1-1-0 the transformation stood on the column, for all of its inputs.
            for how in transformations(one) or _older(fields) or [_DIRECT]:
                yield _edge(source, one, column, how)
    for source, one in _fields(facet.get("dataset"), f"{where}.dataset", notes):
        for how in transformations(one) or [_INDIRECT]:
            yield _edge(source, one, "", how)


def explicit_inputs(
    entry: Mapping[str, Any], where: str, notes: Notes
) -> Iterator[tuple[str, Source, SaidEdge | None]]:
    """What LineageFacet 1-0-0 says of one target: column, source, and the edge between them.

    The column is empty and the edge None where a source goes into the target as a whole.
    """
    for source, one in _inputs(entry.get("inputs"), f"{where}.inputs", notes):
        if not one.get("field"):
            yield "", source, None
            continue
        for how in transformations(one) or [_INDIRECT]:
            yield "", source, _edge(source, one, "", how)
    for column, said in _items(entry.get("fields"), f"{where}.fields", notes):
        fields = said if isinstance(said, dict) else {}
        place = f"{where}.fields.{column}.inputs"
        for source, one in _inputs(fields.get("inputs"), place, notes):
            for how in transformations(one) or [_DIRECT]:
                yield column, source, _edge(source, one, column, how)


def transformations(said: Mapping[str, Any]) -> list[_Transformation]:
    """The transformations of an input field; none when it names none."""
    listed = said.get("transformations")
    return [
        _Transformation(
            _text(one.get("type"), 64) or "DIRECT",
            _text(one.get("subtype"), 256),
            _text(one.get("description"), _MAX_DESCRIPTION),
            one.get("masking") is True,
        )
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    ]


_DIRECT: Final = _Transformation("DIRECT", "", "", False)
_INDIRECT: Final = _Transformation("INDIRECT", "", "", False)


def _older(fields: Mapping[str, Any]) -> list[_Transformation]:
    said = _text(fields.get("transformationType"), 256)
    description = _text(fields.get("transformationDescription"), _MAX_DESCRIPTION)
    if not said and not description:
        return []
    if said.upper() == "MASKED":
        return [_Transformation("DIRECT", "TRANSFORMATION", description, True)]
    return [_Transformation("DIRECT", said, description, False)]


def _fields(said: Any, where: str, notes: Notes) -> Iterator[tuple[Source, Mapping[str, Any]]]:
    if not isinstance(said, list | None):
        notes.problem(where, "a list of input fields", said)
        return
    for place, one in enumerate(said or ()):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str) or not name.strip():
            notes.problem(f"{where}[{place}].name", "the name of a dataset", name)
            continue
        yield Source(False, _text(one.get("namespace"), 8192) or "default", name), one


def _inputs(said: Any, where: str, notes: Notes) -> Iterator[tuple[Source, Mapping[str, Any]]]:
    if not isinstance(said, list | None):
        notes.problem(where, "a list of sources", said)
        return
    for place, one in enumerate(said or ()):
        if not isinstance(one, dict):
            notes.problem(f"{where}[{place}]", "an object", one)
            continue
        name = one.get("name")
        is_job = one.get("type") == "JOB"
        if not is_job and (not isinstance(name, str) or not name.strip()):
            notes.problem(f"{where}[{place}].name", "the name of a dataset", name)
            continue
        namespace = _text(one.get("namespace"), 8192)
        yield (
            Source(
                is_job,
                namespace or ("" if is_job and not name else "default"),
                name if isinstance(name, str) else "",
                _text(one.get("runId"), 400),
            ),
            one,
        )


def _items(said: Any, where: str, notes: Notes) -> Iterator[tuple[str, Any]]:
    if isinstance(said, dict):
        yield from said.items()
    elif said is not None:
        notes.problem(where, "an object with a column each", said)


def _edge(source: Source, said: Mapping[str, Any], column: str, how: _Transformation) -> SaidEdge:
    return SaidEdge(source, _column(said.get("field")), _column(column), *how)


def _column(said: Any) -> str:
    """A column's name, long ones cut and hashed."""
    name = said if isinstance(said, str) else ""
    if len(name) <= _MAX_COLUMN:
        return name
    return f"{name[: _MAX_COLUMN - 24]}…{hashlib.sha256(name.encode()).hexdigest()[:20]}"


def _text(said: Any, limit: int) -> str:
    return said[:limit] if isinstance(said, str) else ""
