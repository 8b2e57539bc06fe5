"""The graph as tables of a SQLite database: read for queries, written event by event."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain
from typing import Any, final, overload

from lineage.change import Change, columns_digest, facets_from_json, facets_to_json, to_json
from lineage.column import ColumnLineage
from lineage.entity import Entity, Kind, from_us, stored_entity, to_us
from lineage.filter import Filter
from lineage.projection import past
from lineage.run import Run, merged_run
from lineage.store import ColumnRow, Edge, TimedEdge, View

_FIELDS = (
    "entity.kind, entity.type, entity.name, entity.uid, entity.source_uri, entity.content_hash, "
    "entity.version, entity.state, entity.properties, entity.created_us, entity.modified_us, "
    "entity.facets, entity.id, entity.created_seq, entity.modified_seq"
)
_ENTITY = f"SELECT {_FIELDS} FROM entity"

_KINDS = {kind.value: kind for kind in Kind}


@final
class SQLiteTables(View):
    """The tables of the graph over one connection; node n is the row n.

    Args:
        connection: in a transaction, for as long as this is used.
        as_of: sequence of the last event that counts; None for the present.
    """

    def __init__(self, connection: sqlite3.Connection, as_of: int | None = None) -> None:
        self.connection = connection
        self._as_of = as_of
        self._exists = "TRUE" if as_of is None else f"created_seq <= {int(as_of)}"
        self._is_valid = (
            "valid_to_seq IS NULL"
            if as_of is None
            else f"valid_from_seq <= {int(as_of)} "
            f"AND (valid_to_seq IS NULL OR valid_to_seq > {int(as_of)})"
        )
        self._last: int | None = None
        # Of the entities read for an event, so that its associations need not look them up.
        self._nodes: dict[str, int] = {}

    def write(
        self,
        sequence: int,
        change: Change,
        entities: Sequence[Entity],
        before: Mapping[str, Entity],
    ) -> None:
        """Put in what an event projects to.

        Args:
            sequence: of the event.
            change: what it says.
            entities: as they are after it.
            before: the entities it touches as they were, read through this object.
        """
        new = [entity for entity in entities if entity.uid not in before]
        first = self._next_node(len(new))
        self._nodes.update({entity.uid: first + place for place, entity in enumerate(new)})
        self.connection.executemany(
            "INSERT INTO entity (kind, type, name, uid, source_uri, content_hash, version, state, "
            "properties, created_us, modified_us, facets, id, created_seq, modified_seq) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*_to_row(entity), self._nodes[entity.uid], sequence, sequence) for entity in new],
        )
        amended = [entity for entity in entities if entity.uid in before]
        if amended:
            self._amend(sequence, amended)
        # What has a new end is new itself; only between known ends is there anything to find.
        unknown: list[tuple[int, int, str, int]] = []
        known: list[tuple[int, int, str, int]] = []
        for source, destination, link in change.associations:
            row = (self._nodes[destination], self._nodes[source], link, sequence)
            is_known = source in before and destination in before
            (known if is_known else unknown).append(row)
        self.connection.executemany(
            "INSERT INTO edge (dst, src, type, valid_from_seq) VALUES (?, ?, ?, ?)", unknown
        )
        self.connection.executemany(
            "INSERT INTO edge (dst, src, type, valid_from_seq) SELECT ?1, ?2, ?3, ?4 "
            "WHERE NOT EXISTS (SELECT 1 FROM edge WHERE dst = ?1 AND src = ?2 AND type = ?3 "
            "AND valid_to_seq IS NULL)",
            known,
        )
        self.connection.executemany(
            "UPDATE edge SET valid_to_seq = ? WHERE dst = ? AND src = ? AND type = ? "
            "AND valid_to_seq IS NULL",
            [
                (sequence, self._nodes[destination], self._nodes[source], link)
                for source, destination, link in change.retractions
            ],
        )
        for said in change.columns:
            self._say_columns(sequence, said)
        for run in change.runs:
            self._put_run(sequence, run)
        for uid, key, value in change.tags:
            self._put_tag(sequence, self._nodes[uid], key, value)
        self.connection.executemany(
            "INSERT OR IGNORE INTO alias (alias, entity, valid_from_seq) VALUES (?, ?, ?)",
            [(alias, self._nodes[uid], sequence) for alias, uid in change.aliases],
        )

    def by_uid(self, uids: Collection[str]) -> dict[str, Entity]:
        """Those of these uids that exist."""
        rows = self.connection.execute(
            f"SELECT {_FIELDS} FROM json_each(?) AS wanted CROSS JOIN entity "
            f"ON entity.uid = wanted.value AND {self._exists}",
            (json.dumps(list(uids)),),
        )
        return {row[3]: self._met(row) for row in rows.fetchall()}

    def latest(self, source_uris: Collection[str]) -> dict[str, Entity]:
        """The highest version at each of these uris."""
        rows = self.connection.execute(
            f"SELECT {_FIELDS} FROM json_each(?) AS wanted CROSS JOIN entity ON entity.id = "
            f"(SELECT id FROM entity WHERE kind = 'Artifact' AND source_uri = wanted.value "
            f"ORDER BY version DESC LIMIT 1)",
            (json.dumps(list(source_uris)),),
        )
        return {row[4]: self._met(row) for row in rows.fetchall()}

    def artifact(self, source_uri: str, content_hash: str) -> Entity | None:
        """The artifact with this identity."""
        return self._one(
            f"{_ENTITY} WHERE kind = 'Artifact' AND source_uri = ? AND content_hash = ?",
            source_uri,
            content_hash,
        )

    def around(self, source_uri: str, version: int) -> tuple[Entity | None, ...]:
        """The versions nearest to one: (below, equal, above)."""
        artifacts = f"{_ENTITY} WHERE kind = 'Artifact' AND source_uri = ? AND version"
        return (
            self._one(f"{artifacts} < ? ORDER BY version DESC LIMIT 1", source_uri, version),
            self._one(f"{artifacts} = ?", source_uri, version),
            self._one(f"{artifacts} > ? ORDER BY version LIMIT 1", source_uri, version),
        )

    def nearest(self, uid: str) -> str | None:
        """The newest entity of this name, else the most similar of the uids that stand near."""
        row = self.connection.execute(
            "SELECT uid FROM entity WHERE name = ? ORDER BY id DESC LIMIT 1", (uid,)
        ).fetchone()
        if row is not None:
            return str(row[0])
        # Uids that share a beginning stand together in the index.
        rows = chain(
            self.connection.execute(
                "SELECT uid FROM entity WHERE uid < ? ORDER BY uid DESC LIMIT 16", (uid,)
            ),
            self.connection.execute(
                "SELECT uid FROM entity WHERE uid > ? ORDER BY uid LIMIT 16", (uid,)
            ),
        )
        scored = [(SequenceMatcher(None, uid, near).ratio(), near) for (near,) in rows]
        ratio, near = max(scored, default=(0.0, ""))
        return near if ratio >= 0.6 else None

    def find(
        self,
        *,
        kind: Kind | None,
        type: str | None,
        name: str | None,
        source_uri: str | None,
    ) -> list[Entity]:
        """The entities equal in every field that is not None."""
        conditions, values = [], []
        fields = {
            "kind": kind and kind.value,
            "type": type,
            "name": name,
            "source_uri": source_uri,
        }
        for field, value in fields.items():
            if value is not None:
                conditions.append(f"{field} = ?")
                values.append(value)
        wanted = " AND ".join(conditions) or "TRUE"
        if source_uri:
            # One index serves the artifacts and another the rest; SQLite sees it when told.
            others = "kind <> 'Artifact' AND source_uri <> ''"
            wanted = f"{wanted} AND kind = 'Artifact' OR {wanted} AND {others}"
            values = values * 2
        rows = self.connection.execute(
            f"{_ENTITY} WHERE ({wanted}) AND {self._exists} ORDER BY id", values
        )
        found = map(self._entity, rows.fetchall())
        # A uri may have been given to an entity only later.
        return [entity for entity in found if source_uri in (None, entity.source_uri)]

    def alias(self, alias: str) -> str | None:
        """The uid of what has this other name."""
        until = "" if self._as_of is None else f" AND valid_from_seq <= {int(self._as_of)}"
        row = self.connection.execute(
            f"SELECT uid FROM alias JOIN entity ON entity.id = entity WHERE alias = ?{until}",
            (alias,),
        ).fetchone()
        return None if row is None else str(row[0])

    def has_association(self, source: str, destination: str, type: str) -> bool:
        """Whether this association is valid."""
        row = self.connection.execute(
            f"SELECT 1 FROM edge WHERE dst = (SELECT id FROM entity WHERE uid = ?) AND "
            f"src = (SELECT id FROM entity WHERE uid = ?) AND type = ? AND {self._is_valid}",
            (destination, source, type),
        ).fetchone()
        return row is not None

    def node(self, uid: str) -> int | None:
        """The row number of an entity."""
        known = self._nodes.get(uid)
        if known is not None:
            return known
        row = self.connection.execute(
            f"SELECT id FROM entity WHERE uid = ? AND {self._exists}", (uid,)
        ).fetchone()
        return None if row is None else int(row[0])

    def neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        """The associations at any of `nodes`, from a covering index."""
        at = "dst" if upstream else "src"
        # CROSS JOIN keeps the order: for each node of the frontier, its part of the index.
        return self.connection.execute(
            f"SELECT src, dst, edge.type FROM json_each(?) AS frontier CROSS JOIN edge "
            f"ON edge.{at} = frontier.value WHERE {self._is_valid}",
            (json.dumps(nodes),),
        ).fetchall()

    def matching(self, nodes: Sequence[int], wanted: Filter) -> list[int]:
        """Those of `nodes` that pass."""
        if self._as_of is not None:
            return [
                node
                for node, entity in zip(nodes, self.entities(nodes), strict=True)
                if wanted.matches(entity)
            ]
        conditions = ["TRUE"]
        values: list[str | int] = [json.dumps(nodes)]
        for field, several in (
            ("type", wanted.types),
            ("kind", wanted.kinds),
            ("state", wanted.states),
        ):
            if several:
                conditions.append(f"entity.{field} IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(sorted(several)))
        for condition, time in (
            ("created_us >= ?", wanted.created_after),
            ("created_us <= ?", wanted.created_before),
            ("modified_us >= ?", wanted.modified_after),
            ("modified_us <= ?", wanted.modified_before),
        ):
            if time is not None:
                conditions.append(condition)
                values.append(time)
        fields = _FIELDS if wanted.properties else "entity.id"
        rows = self.connection.execute(
            f"SELECT {fields} FROM json_each(?) AS wanted CROSS JOIN entity "
            f"ON entity.id = wanted.value WHERE {' AND '.join(conditions)}",
            values,
        )
        if not wanted.properties:
            return [row[0] for row in rows]
        return [row[12] for row in rows if wanted.has_properties(_to_entity(row))]

    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        """The entities of `nodes`; each is built when it is looked at."""
        rows = self.connection.execute(
            f"SELECT {_FIELDS} FROM json_each(?) AS wanted CROSS JOIN entity "
            f"ON entity.id = wanted.value",
            (json.dumps(nodes),),
        ).fetchall()
        return _Rows(rows) if self._as_of is None else [self._entity(row) for row in rows]

    def edges(self, after: int) -> Iterator[TimedEdge]:
        """The associations that a later event began or ended."""
        select = "SELECT src, dst, type, valid_from_seq, valid_to_seq FROM edge WHERE"
        rows = self.connection.execute(
            f"{select} valid_from_seq > ?1 UNION ALL {select} valid_to_seq > ?1 "
            f"AND valid_from_seq <= ?1",
            (after,),
        )
        return (TimedEdge(*row) for row in rows)

    def column_edges(
        self, columns: Sequence[tuple[int, str]], *, upstream: bool
    ) -> list[ColumnRow]:
        """The edges at any of these columns."""
        at = "dst" if upstream else "src"
        rows = self.connection.execute(
            f"SELECT DISTINCT src, src_column, dst, dst_column, by, edge.type, subtype, "
            f"description, masking, properties FROM json_each(?) AS wanted "
            f"CROSS JOIN column_edge AS edge ON edge.{at} = json_extract(wanted.value, '$[0]') "
            f"WHERE (edge.{at}_column = json_extract(wanted.value, '$[1]') "
            f"OR edge.{at}_column = '' OR json_extract(wanted.value, '$[1]') = '') "
            f"AND {self._is_valid}",
            (json.dumps(columns),),
        )
        return [ColumnRow(*(*row[:8], bool(row[8]), row[9])) for row in rows]

    def runs(self, node: int) -> list[Run]:
        """The executions of a job."""
        rows = self.connection.execute(
            f"SELECT run.uid, entity.uid, run.state, started_us, ended_us, run.properties "
            f"FROM run JOIN entity ON entity.id = run.entity WHERE run.entity = ? "
            f"AND {self._is_valid} ORDER BY started_us, run.uid",
            (node,),
        )
        return [Run(*(*row[:5], json.loads(row[5]))) for row in rows]

    def tags(self, nodes: Sequence[int]) -> dict[int, dict[str, str]]:
        """The tags of `nodes`."""
        rows = self.connection.execute(
            f"SELECT entity, tag.key, tag.value FROM json_each(?) AS wanted CROSS JOIN tag "
            f"ON entity = wanted.value WHERE {self._is_valid} ORDER BY valid_from_seq",
            (json.dumps(nodes),),
        )
        found: dict[int, dict[str, str]] = {}
        for node, key, value in rows:
            found.setdefault(node, {})[key] = value
        return found

    def tagged(self, key: str, value: str | None) -> list[int]:
        """The nodes with this tag."""
        rows = self.connection.execute(
            f"SELECT DISTINCT entity FROM tag WHERE key = ?1 AND (?2 IS NULL OR value = ?2) "
            f"AND {self._is_valid} ORDER BY entity",
            (key, value),
        )
        return [row[0] for row in rows]

    def sequence_at(self, time_us: int) -> int:
        """Found by halving: times rise with the sequence, and the log has no index by time."""
        low, high = 0, self.connection.execute("SELECT seq FROM head").fetchone()[0]
        while low < high:
            middle = (low + high + 1) // 2
            row = self.connection.execute(
                "SELECT time_us FROM log WHERE seq = ?", (middle,)
            ).fetchone()
            if row is not None and row[0] <= time_us:
                low = middle
            else:
                high = middle - 1
        return int(low)

    def counts(self) -> dict[str, int]:
        """Counted anew: reads an index from end to end."""
        row = self.connection.execute(
            f"SELECT (SELECT seq FROM head), (SELECT count(*) FROM entity WHERE {self._exists}), "
            f"(SELECT count(*) FROM edge WHERE {self._is_valid})"
        ).fetchone()
        counted = dict(zip(("events", "entities", "associations"), row, strict=True))
        if self._as_of is not None:
            counted["events"] = self._as_of
        return counted

    def _amend(self, sequence: int, entities: Sequence[Entity]) -> None:
        self.connection.executemany(
            "UPDATE entity SET source_uri = ?, content_hash = ?, version = ?, state = ?, "
            "properties = ?, facets = ?, modified_us = ?, modified_seq = ? WHERE id = ?",
            [
                (*row[4:9], row[11], row[10], sequence, self._nodes[str(row[3])])
                for row in map(_to_row, entities)
            ],
        )
        self.connection.executemany(
            "INSERT INTO amendment (entity, seq) VALUES (?, ?)",
            [(self._nodes[entity.uid], sequence) for entity in entities],
        )

    def _say_columns(self, sequence: int, said: ColumnLineage) -> None:
        """Put in what is said of the columns, unless something later is known."""
        node, by = self._nodes[str(said.destination)], said.by
        place = said.rank, columns_digest(said)
        known = self.connection.execute(
            "SELECT rank, digest FROM column_set WHERE dst = ? AND by = ?", (node, by)
        ).fetchone()
        if known is not None:
            if known >= place:
                return
            self._end("column_edge", sequence, "dst = ? AND by = ?", node, by)
        self.connection.execute(
            "INSERT OR REPLACE INTO column_set (dst, by, rank, digest) VALUES (?, ?, ?, ?)",
            (node, by, *place),
        )
        self.connection.executemany(
            "INSERT INTO column_edge (dst, dst_column, src, src_column, by, type, subtype, "
            "description, masking, properties, valid_from_seq) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    node,
                    edge.column,
                    self._nodes[str(edge.source)],
                    edge.source_column,
                    by,
                    edge.type,
                    edge.subtype,
                    edge.description,
                    edge.masking,
                    to_json(edge.properties),
                    sequence,
                )
                for edge in said.edges
            ],
        )

    def _put_run(self, sequence: int, run: Run) -> None:
        row = self.connection.execute(
            "SELECT entity, state, started_us, ended_us, properties FROM run "
            "WHERE uid = ? AND valid_to_seq IS NULL",
            (run.uid,),
        ).fetchone()
        node, known = self._nodes[str(run.entity)], None
        if row is not None:
            node = row[0]
            known = Run(*(run.uid, run.entity, *row[1:4], json.loads(row[4])))
            self._end("run", sequence, "uid = ?", run.uid)
        merged = merged_run(known, run)
        self.connection.execute(
            "INSERT INTO run (uid, valid_from_seq, entity, state, started_us, ended_us, "
            "properties) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                run.uid,
                sequence,
                node,
                merged.state,
                merged.started_us,
                merged.ended_us,
                to_json(merged.properties),
            ),
        )

    def _put_tag(self, sequence: int, node: int, key: str, value: str | None) -> None:
        self._end("tag", sequence, "entity = ? AND key = ?", node, key)
        if value is not None:
            self.connection.execute(
                "INSERT INTO tag (entity, key, valid_from_seq, value) VALUES (?, ?, ?, ?)",
                (node, key, sequence, value),
            )

    def _end(self, table: str, sequence: int, condition: str, *values: int | str) -> None:
        """End what is valid; what began with the same event never was."""
        valid = f"{condition} AND valid_to_seq IS NULL"
        self.connection.execute(
            f"DELETE FROM {table} WHERE {valid} AND valid_from_seq = ?", (*values, sequence)
        )
        self.connection.execute(
            f"UPDATE {table} SET valid_to_seq = ? WHERE {valid}", (sequence, *values)
        )

    def _one(self, select: str, *values: str | int) -> Entity | None:
        row = self.connection.execute(select, values).fetchone()
        return None if row is None else self._met(row)

    def _met(self, row: tuple[Any, ...]) -> Entity:
        self._nodes[row[3]] = row[12]
        return self._entity(row)

    def _entity(self, row: tuple[Any, ...]) -> Entity:
        """The entity of a row, as it was then."""
        if self._as_of is None or row[14] <= self._as_of:
            return _to_entity(row)
        events = self.connection.execute(
            "SELECT time_us, body FROM log WHERE seq = ?1 OR seq IN (SELECT seq FROM amendment "
            "WHERE entity = ?2 AND seq <= ?3) ORDER BY seq",
            (row[13], row[12], self._as_of),
        )
        return past(row[3], ((time_us, Change.decode(body)) for time_us, body in events))

    def _next_node(self, count: int) -> int:
        """The first of `count` free nodes: in a write transaction they are ours to give."""
        if self._last is None:
            self._last = self.connection.execute("SELECT max(id) FROM entity").fetchone()[0] or 0
        first = self._last + 1
        self._last += count
        return first


@final
class _Rows(Sequence[Entity]):
    """Entities as the rows they were read from: reading them costs less than building them."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Entity: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Entity]: ...
    def __getitem__(self, place: int | slice) -> Entity | Sequence[Entity]:
        if isinstance(place, slice):
            return _Rows(self._rows[place])
        return _to_entity(self._rows[place])

    def __iter__(self) -> Iterator[Entity]:
        return map(_to_entity, self._rows)


def _to_entity(row: tuple[Any, ...]) -> Entity:
    (
        kind, what, name, uid, uri, content_hash, version, state, properties, created, modified,
        facets, *_
    ) = row  # fmt: skip
    created_at = from_us(created)
    return stored_entity(
        kind=_KINDS[kind],
        type=what,
        name=name,
        uid=uid,
        source_uri=uri,
        content_hash=content_hash,
        version=version,
        state=state,
        properties=json.loads(properties) if properties != "{}" else {},
        created=created_at,
        modified=created_at if modified == created else from_us(modified),
        facets=facets_from_json(json.loads(facets)) if facets != "{}" else None,
    )


def _to_row(entity: Entity) -> tuple[str | int, ...]:
    if entity.created is None or entity.modified is None:
        raise AssertionError("a projected entity has its times")
    return (
        entity.kind.value,
        entity.type,
        entity.name,
        entity.uid,
        entity.source_uri,
        entity.content_hash,
        entity.version,
        entity.state,
        to_json(entity.properties) if entity.properties else "{}",
        to_us(entity.created),
        to_us(entity.modified),
        to_json(facets_to_json(entity.facets)) if entity.facets else "{}",
    )
