"""Walking from column to column, frontier by frontier."""

from __future__ import annotations

import json

from lineage.column import ColumnLink, ColumnNode, ColumnResult
from lineage.errors import InvalidQuery
from lineage.query import Direction, located
from lineage.store import ColumnRow, View

_Column = tuple[int, str]


def walk_columns(
    view: View, start: str, column: str, direction: Direction, depth: int | None
) -> ColumnResult:
    """The columns that one comes from or goes into; the rules are those of `Graph.columns`.

    Raises:
        EntityNotFound: the start does not exist.
        InvalidQuery: both directions from every column, or a depth below 0.
    """
    if direction is Direction.BOTH:
        raise InvalidQuery(
            "direction: expected ascendants, descendants or either for columns; got 'both'"
        )
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise InvalidQuery(f"depth: expected an int of at least 0, or None; got {depth!r}")
    _, node = located(view, start)
    depths: dict[_Column, int] = {(node, column): 0}
    rows: dict[ColumnRow, None] = {}
    for upstream in (True, False):
        if direction is not (Direction.DESCENDANTS if upstream else Direction.ASCENDANTS):
            _walk(view, (node, column), depth, depths, rows, upstream=upstream)
    nodes = sorted({node for node, _ in depths} | {end for row in rows for end in (row[0], row[2])})
    uids = {node: entity.uid for node, entity in zip(nodes, view.entities(nodes), strict=True)}
    return ColumnResult(
        tuple(
            ColumnNode(uids[at], name, level)
            for (at, name), level in sorted(depths.items(), key=lambda item: (item[1], item[0]))
        ),
        tuple(
            ColumnLink(
                uids[row.source],
                row.source_column,
                uids[row.destination],
                row.column,
                row.by,
                row.type,
                row.subtype,
                row.description,
                row.masking,
                json.loads(row.properties),
            )
            for row in rows
        ),
    )


def _walk(
    view: View,
    start: _Column,
    depth: int | None,
    depths: dict[_Column, int],
    rows: dict[ColumnRow, None],
    *,
    upstream: bool,
) -> None:
    seen = {start}
    frontier = [start]
    level = 0
    while frontier and (depth is None or level < depth):
        level += 1
        found = sorted(view.column_edges(frontier, upstream=upstream))
        rows.update(dict.fromkeys(found))
        reached = {row[0:2] if upstream else row[2:4] for row in found} - seen
        seen |= reached
        frontier = sorted(reached)
        for column in frontier:
            depths[column] = min(level, depths.get(column, level))
