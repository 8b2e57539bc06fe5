"""The graph as tables of a database: read for queries, written event by event."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain
from typing import Any, Protocol, final

import numpy as np

from lineage.change import Change, columns_digest, facets_to_json, to_json
from lineage.column import ColumnLineage
from lineage.entity import KIND_TEXTS, Entity, Kind, to_us
from lineage.filter import Filter
from lineage.projection import past
from lineage.rows import EntityRows, to_entity
from lineage.run import Run, merged_run
from lineage.store import ColumnRow, Edge, Nodes, Reaching, TimedEdge, View

# Those of `rows.COLUMNS`: the present state of an entity takes no more.
_PRESENT = (
    "entity.kind, entity.type, entity.name, entity.uid, entity.source_uri, entity.content_hash, "
    "entity.version, entity.state, entity.properties, entity.created_us, entity.modified_us, "
    "entity.facets"
)
_FIELDS = f"{_PRESENT}, entity.id, entity.created_seq, entity.modified_seq"
_ENTITY = f"SELECT {_FIELDS} FROM entity"


class Connection(Protocol):
    """A connection in a transaction; parameters stand as `?`."""

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement answers."""

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        """The first row that a statement answers."""

    def each(self, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that a statement answers, read as they are taken."""

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of several rows."""


@final
@dataclass(frozen=True)
class Dialect:
    """How a database takes a list as one parameter, so that a statement stays prepared.

    Args:
        integers: SQL of a table `wanted` with the column `value`, made of a list of integers.
        texts: the same of texts.
        columns: the same of pairs, as the columns `node` and `name`.
        join: joins such a table with another one, beginning with its rows.
        array: makes the parameter.
        pairs: makes the parameters of pairs.
        in_order: SQL that sorts by the place in the list, where the join does not keep it.
        joined: SQL of all values of an integer column in one text, with commas between them.
        equal: SQL that a column of long texts equals a value, in the form that its index takes.
        values: the parameters of that, for a value that is a parameter.
    """

    integers: str
    texts: str
    columns: str
    join: str
    array: Callable[[Sequence[Any]], Any]
    pairs: Callable[[Sequence[tuple[int, str]]], tuple[Any, ...]]
    in_order: str
    joined: str
    equal: str
    values: Callable[[str], tuple[str, ...]]


@final
class Tables(View):
    """The tables of the graph over one connection; node n is the row n.

    Args:
        connection: in a transaction, for as long as this is used.
        dialect: of its database.
        as_of: sequence of the last event that counts; None for the present.
    """

    def __init__(self, connection: Connection, dialect: Dialect, as_of: int | None = None) -> None:
        self.connection = connection
        self._sql = dialect
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
        if new:
            self.connection.many(
                "INSERT INTO entity (kind, type, name, uid, source_uri, content_hash, version, "
                "state, properties, created_us, modified_us, facets, id, created_seq, "
                "modified_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        if unknown:
            self.connection.many(
                "INSERT INTO edge (dst, src, type, valid_from_seq) VALUES (?, ?, ?, ?)", unknown
            )
        if known:
            self.connection.many(
                "INSERT INTO edge (dst, src, type, valid_from_seq) SELECT CAST(? AS BIGINT), "
                "CAST(? AS BIGINT), CAST(? AS TEXT), CAST(? AS BIGINT) WHERE NOT EXISTS (SELECT "
                "1 FROM edge WHERE dst = ? AND src = ? AND type = ? AND valid_to_seq IS NULL)",
                [(*row, *row[:3]) for row in known],
            )
        if change.retractions:
            self.connection.many(
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
        for alias, uid in change.aliases:
            if self.alias(alias) is None:
                self.connection.many(
                    "INSERT INTO alias (alias, entity, valid_from_seq) VALUES (?, ?, ?)",
                    [(alias, self._nodes[uid], sequence)],
                )

    def by_uid(self, uids: Collection[str]) -> dict[str, Entity]:
        """Those of these uids that exist."""
        rows = self.connection.all(
            f"SELECT {_FIELDS} FROM {self._sql.texts} {self._sql.join} entity "
            f"ON entity.uid = wanted.value AND {self._exists}",
            self._sql.array(list(uids)),
        )
        return {row[3]: self._met(row) for row in rows}

    def latest(self, source_uris: Collection[str]) -> dict[str, Entity]:
        """The highest version at each of these uris."""
        rows = self.connection.all(
            f"SELECT {_FIELDS} FROM {self._sql.texts} {self._sql.join} entity ON entity.id = "
            f"(SELECT id FROM entity WHERE kind = 'Artifact' "
            f"AND {self._equal('source_uri', 'wanted.value')} ORDER BY version DESC LIMIT 1)",
            self._sql.array(list(source_uris)),
        )
        return {row[4]: self._met(row) for row in rows}

    def artifact(self, source_uri: str, content_hash: str) -> Entity | None:
        """The artifact with this identity."""
        return self._one(
            f"{_ENTITY} WHERE kind = 'Artifact' AND {self._equal('source_uri')} "
            f"AND content_hash = ?",
            *self._sql.values(source_uri),
            content_hash,
        )

    def same_content(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Entity]:
        """The oldest artifact of each of these content hashes (64 hex digits) and types."""
        rows = self.connection.all(
            f"SELECT {_FIELDS} FROM {self._sql.texts} {self._sql.join} entity ON entity.id = "
            f"(SELECT id FROM entity WHERE kind = 'Artifact' "
            f"AND content_hash = substr(wanted.value, 1, 64) AND content_hash <> '' "
            f"AND type = substr(wanted.value, 65) ORDER BY id LIMIT 1)",
            self._sql.array([f"{content}{kind}" for content, kind in wanted]),
        )
        return {(row[5], row[1]): self._met(row) for row in rows}

    def around(self, source_uri: str, version: int) -> tuple[Entity | None, ...]:
        """The versions nearest to one: (below, equal, above)."""
        artifacts = f"{_ENTITY} WHERE kind = 'Artifact' AND {self._equal('source_uri')} AND version"
        near: tuple[str | int, ...] = (*self._sql.values(source_uri), version)
        return (
            self._one(f"{artifacts} < ? ORDER BY version DESC LIMIT 1", *near),
            self._one(f"{artifacts} = ?", *near),
            self._one(f"{artifacts} > ? ORDER BY version LIMIT 1", *near),
        )

    def nearest(self, uid: str) -> str | None:
        """The newest entity of this name, else the most similar of the uids that stand near."""
        row = self.connection.one(
            f"SELECT uid FROM entity WHERE {self._equal('name')} ORDER BY id DESC LIMIT 1",
            *self._sql.values(uid),
        )
        if row is not None:
            return str(row[0])
        # Uids that share a beginning stand together in the index.
        rows = chain(
            self.connection.all(
                "SELECT uid FROM entity WHERE uid < ? ORDER BY uid DESC LIMIT 16", uid
            ),
            self.connection.all("SELECT uid FROM entity WHERE uid > ? ORDER BY uid LIMIT 16", uid),
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
        conditions: list[str] = []
        values: list[str] = []
        fields = {
            "kind": kind and kind.value,
            "type": type,
            "name": name,
            "source_uri": source_uri,
        }
        for field, value in fields.items():
            if value is not None:
                is_long = field in ("name", "source_uri")
                conditions.append(self._equal(field) if is_long else f"{field} = ?")
                values += self._sql.values(value) if is_long else (value,)
        select = f"{_ENTITY} WHERE {' AND '.join([*conditions, self._exists])}"
        if source_uri:
            # One index serves the artifacts and another the rest; databases see it when told.
            artifacts = f"{select} AND kind = 'Artifact'"
            others = f"{select} AND kind <> 'Artifact' AND source_uri <> ''"
            select = f"{artifacts} UNION ALL {others}"
            values = values * 2
        rows = self.connection.all(f"{select} ORDER BY id", *values)
        found = map(self._entity, rows)
        # A uri may have been given to an entity only later.
        return [entity for entity in found if source_uri in (None, entity.source_uri)]

    def alias(self, alias: str) -> str | None:
        """The uid of what has this other name."""
        until = "" if self._as_of is None else f" AND valid_from_seq <= {int(self._as_of)}"
        row = self.connection.one(
            f"SELECT uid FROM alias JOIN entity ON entity.id = alias.entity WHERE alias = ?{until}",
            alias,
        )
        return None if row is None else str(row[0])

    def has_association(self, source: str, destination: str, type: str) -> bool:
        """Whether this association is valid."""
        row = self.connection.one(
            f"SELECT 1 FROM edge WHERE dst = (SELECT id FROM entity WHERE uid = ?) AND "
            f"src = (SELECT id FROM entity WHERE uid = ?) AND type = ? AND {self._is_valid}",
            destination,
            source,
            type,
        )
        return row is not None

    def node(self, uid: str) -> int | None:
        """The row number of an entity."""
        known = self._nodes.get(uid)
        if known is not None:
            return known
        row = self.connection.one(f"SELECT id FROM entity WHERE uid = ? AND {self._exists}", uid)
        return None if row is None else int(row[0])

    def neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        """The associations at any of `nodes`, from a covering index."""
        at = "dst" if upstream else "src"
        # For each node of the frontier its part of the index.
        found: list[Any] = self.connection.all(
            f"SELECT src, dst, edge.type FROM {self._sql.integers} {self._sql.join} edge "
            f"ON edge.{at} = wanted.value WHERE {self._is_valid}",
            self._sql.array(nodes),
        )
        return found

    @property
    def reaching(self) -> Reaching:
        """A database gives ids in bulk."""
        return self

    def reached(self, nodes: Nodes, *, upstream: bool, through: Collection[str]) -> Nodes:
        """The other ends, from a covering index, in one text: rows cost twice as much."""
        at, other = ("dst", "src") if upstream else ("src", "dst")
        of_type = f"AND edge.type IN ({', '.join('?' * len(through))})" if through else ""
        row = self.connection.one(
            f"SELECT {self._sql.joined.format(other)} FROM {self._sql.integers} {self._sql.join} "
            f"edge ON edge.{at} = wanted.value WHERE {self._is_valid} {of_type}",
            self._sql.array(nodes.tolist()),
            *sorted(through),
        )
        return np.fromstring((row and row[0]) or "", np.int64, sep=",")

    def links(self, first: int, after: int, types: Sequence[str]) -> tuple[Nodes, Nodes, Nodes]:
        """The associations that end at a stretch of nodes, in three texts."""
        # A statement that answers with one row lets other threads go on until it is there.
        places = " ".join(f"WHEN '{link}' THEN {place}" for place, link in enumerate(types))
        joined = self._sql.joined
        row = self.connection.one(
            f"SELECT {joined.format('src')}, {joined.format('dst')}, "
            f"{joined.format(f'(CASE type {places} END)')} FROM edge "
            f"WHERE dst >= ? AND dst < ? AND {self._is_valid}",
            first,
            after,
        )
        texts = row or ("", "", "")
        source, destination, code = (np.fromstring(text or "", np.int64, sep=",") for text in texts)
        return source, destination, code

    def last_node(self) -> int:
        """The greatest row number."""
        return int((self.connection.one("SELECT max(id) FROM entity") or (0,))[0] or 0)

    def matching(self, nodes: Sequence[int], wanted: Filter) -> list[int]:
        """Those of `nodes` that pass."""
        if self._as_of is not None:
            return [
                node
                for node, entity in zip(nodes, self.entities(nodes), strict=True)
                if wanted.matches(entity)
            ]
        conditions = ["TRUE"]
        values: list[Any] = [self._sql.array(nodes)]
        for field, several in (
            ("type", wanted.types),
            ("kind", wanted.kinds),
            ("state", wanted.states),
        ):
            if several:
                conditions.append(f"entity.{field} IN (SELECT value FROM {self._sql.texts})")
                values.append(self._sql.array(sorted(several)))
        if wanted.uris:
            conditions.append(
                f"EXISTS (SELECT 1 FROM {self._sql.texts} "
                f"WHERE substr(entity.source_uri, 1, length(wanted.value)) = wanted.value)"
            )
            values.append(self._sql.array(sorted(wanted.uris)))
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
        rows = self.connection.all(
            f"SELECT {fields} FROM {self._sql.integers} {self._sql.join} entity "
            f"ON entity.id = wanted.value WHERE {' AND '.join(conditions)} {self._sql.in_order}",
            *values,
        )
        if not wanted.properties:
            return [row[0] for row in rows]
        return [row[12] for row in rows if wanted.has_properties(to_entity(row))]

    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        """The entities of `nodes`; each is built when it is looked at."""
        fields = _PRESENT if self._as_of is None else _FIELDS
        rows = self.connection.all(
            f"SELECT {fields} FROM {self._sql.integers} {self._sql.join} entity "
            f"ON entity.id = wanted.value {self._sql.in_order}",
            self._sql.array(nodes),
        )
        return EntityRows(rows) if self._as_of is None else [self._entity(row) for row in rows]

    def sequence(self) -> int:
        """The last event that counts."""
        if self._as_of is not None:
            return self._as_of
        return int((self.connection.one("SELECT seq FROM head") or (0,))[0])

    def edges(self, after: int) -> Iterator[TimedEdge]:
        """The associations that a later event began or ended."""
        select = "SELECT src, dst, type, valid_from_seq, valid_to_seq FROM edge"
        if not after:  # all of them: from end to end, past the indexes
            return map(TimedEdge._make, self.connection.each(select))
        rows = self.connection.each(
            f"{select} WHERE valid_from_seq > ? UNION ALL {select} WHERE valid_to_seq > ? "
            f"AND valid_from_seq <= ?",
            after,
            after,
            after,
        )
        return map(TimedEdge._make, rows)

    def column_edges(
        self, columns: Sequence[tuple[int, str]], *, upstream: bool
    ) -> list[ColumnRow]:
        """The edges at any of these columns."""
        at = "dst" if upstream else "src"
        rows = self.connection.all(
            f"SELECT DISTINCT src, src_column, dst, dst_column, by, edge.type, subtype, "
            f"description, masking, properties FROM {self._sql.columns} "
            f"{self._sql.join} column_edge AS edge ON edge.{at} = wanted.node "
            f"WHERE (edge.{at}_column = wanted.name OR edge.{at}_column = '' OR wanted.name = '') "
            f"AND {self._is_valid}",
            *self._sql.pairs(columns),
        )
        return [ColumnRow(*(*row[:8], bool(row[8]), row[9])) for row in rows]

    def runs(self, node: int) -> list[Run]:
        """The executions of a job."""
        rows = self.connection.all(
            f"SELECT run.uid, entity.uid, run.state, started_us, ended_us, run.properties "
            f"FROM run JOIN entity ON entity.id = run.entity WHERE run.entity = ? "
            f"AND {self._is_valid} ORDER BY started_us NULLS FIRST, run.uid",
            node,
        )
        return [Run(*(*row[:5], json.loads(row[5]))) for row in rows]

    def tags(self, nodes: Sequence[int]) -> dict[int, dict[str, str]]:
        """The tags of `nodes`."""
        rows = self.connection.all(
            f"SELECT tag.entity, tag.key, tag.value FROM {self._sql.integers} {self._sql.join} tag "
            f"ON tag.entity = wanted.value WHERE {self._is_valid} ORDER BY valid_from_seq",
            self._sql.array(nodes),
        )
        found: dict[int, dict[str, str]] = {}
        for node, key, value in rows:
            found.setdefault(node, {})[key] = value
        return found

    def tagged(self, key: str, value: str | None) -> list[int]:
        """The nodes with this tag."""
        of_value = "" if value is None else "AND value = ? "
        rows = self.connection.all(
            f"SELECT DISTINCT entity FROM tag WHERE key = ? {of_value}"
            f"AND {self._is_valid} ORDER BY entity",
            *((key,) if value is None else (key, value)),
        )
        return [row[0] for row in rows]

    def beginning(self, content_hash: str) -> list[int]:
        """The artifacts whose content hash begins like this; no index knows."""
        rows = self.connection.all(
            f"SELECT id FROM entity WHERE kind = 'Artifact' AND substr(content_hash, 1, ?) = ? "
            f"AND {self._exists} ORDER BY id",
            len(content_hash),
            content_hash,
        )
        return [row[0] for row in rows]

    def sequence_at(self, time_us: int) -> int:
        """Found by halving: times rise with the sequence, and the log has no index by time."""
        low, high = 0, (self.connection.one("SELECT seq FROM head") or (0,))[0]
        while low < high:
            middle = (low + high + 1) // 2
            row = self.connection.one("SELECT time_us FROM log WHERE seq = ?", middle)
            if row is not None and row[0] <= time_us:
                low = middle
            else:
                high = middle - 1
        return int(low)

    def counts(self) -> dict[str, int]:
        """Counted anew: reads an index from end to end."""
        [row] = self.connection.all(
            f"SELECT (SELECT seq FROM head), (SELECT count(*) FROM entity WHERE {self._exists}), "
            f"(SELECT count(*) FROM edge WHERE {self._is_valid})"
        )
        counted = dict(zip(("events", "entities", "associations"), row, strict=True))
        if self._as_of is not None:
            counted["events"] = self._as_of
        return counted

    def _amend(self, sequence: int, entities: Sequence[Entity]) -> None:
        self.connection.many(
            "UPDATE entity SET source_uri = ?, content_hash = ?, version = ?, state = ?, "
            "properties = ?, facets = ?, modified_us = ?, modified_seq = ? WHERE id = ?",
            [
                (*row[4:9], row[11], row[10], sequence, self._nodes[str(row[3])])
                for row in map(_to_row, entities)
            ],
        )
        self.connection.many(
            "INSERT INTO amendment (entity, seq) VALUES (?, ?)",
            [(self._nodes[entity.uid], sequence) for entity in entities],
        )

    def _say_columns(self, sequence: int, said: ColumnLineage) -> None:
        """Put in what is said of the columns, unless something later is known."""
        node, by = self._nodes[str(said.destination)], said.by
        place = said.rank, columns_digest(said)
        known = self.connection.one(
            "SELECT rank, digest FROM column_set WHERE dst = ? AND by = ?", node, by
        )
        if known is not None:
            if known >= place:
                return
            self._end("column_edge", sequence, "dst = ? AND by = ?", node, by)
        self.connection.many(
            "INSERT INTO column_set (dst, by, rank, digest) VALUES (?, ?, ?, ?) ON CONFLICT "
            "(dst, by) DO UPDATE SET rank = excluded.rank, digest = excluded.digest",
            [(node, by, *place)],
        )
        self.connection.many(
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
                    int(edge.masking),
                    to_json(edge.properties),
                    sequence,
                )
                for edge in said.edges
            ],
        )

    def _put_run(self, sequence: int, run: Run) -> None:
        row = self.connection.one(
            "SELECT entity, state, started_us, ended_us, properties FROM run "
            "WHERE uid = ? AND valid_to_seq IS NULL",
            run.uid,
        )
        node, known = self._nodes[str(run.entity)], None
        if row is not None:
            node = row[0]
            known = Run(*(run.uid, run.entity, *row[1:4], json.loads(row[4])))
            self._end("run", sequence, "uid = ?", run.uid)
        merged = merged_run(known, run)
        properties = to_json(merged.properties)
        times = merged.started_us, merged.ended_us
        self.connection.many(
            "INSERT INTO run (uid, valid_from_seq, entity, state, started_us, ended_us, "
            "properties) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(run.uid, sequence, node, merged.state, *times, properties)],
        )

    def _put_tag(self, sequence: int, node: int, key: str, value: str | None) -> None:
        self._end("tag", sequence, "entity = ? AND key = ?", node, key)
        if value is not None:
            self.connection.many(
                "INSERT INTO tag (entity, key, valid_from_seq, value) VALUES (?, ?, ?, ?)",
                [(node, key, sequence, value)],
            )

    def _end(self, table: str, sequence: int, condition: str, *values: int | str) -> None:
        """End what is valid; what began with the same event never was."""
        valid = f"{condition} AND valid_to_seq IS NULL"
        self.connection.many(
            f"DELETE FROM {table} WHERE {valid} AND valid_from_seq = ?", [(*values, sequence)]
        )
        self.connection.many(
            f"UPDATE {table} SET valid_to_seq = ? WHERE {valid}", [(sequence, *values)]
        )

    def _equal(self, column: str, value: str = "?") -> str:
        return self._sql.equal.format(column=column, value=value)

    def _one(self, select: str, *values: str | int) -> Entity | None:
        row = self.connection.one(select, *values)
        return None if row is None else self._met(row)

    def _met(self, row: tuple[Any, ...]) -> Entity:
        self._nodes[row[3]] = row[12]
        return self._entity(row)

    def _entity(self, row: tuple[Any, ...]) -> Entity:
        """The entity of a row, as it was then."""
        if self._as_of is None or row[14] <= self._as_of:
            return to_entity(row)
        events = self.connection.all(
            "SELECT time_us, body FROM log WHERE seq = ? OR seq IN (SELECT seq FROM amendment "
            "WHERE entity = ? AND seq <= ?) ORDER BY seq",
            row[13],
            row[12],
            self._as_of,
        )
        return past(row[3], ((time_us, Change.decode(body)) for time_us, body in events))

    def _next_node(self, count: int) -> int:
        """The first of `count` free nodes: in a write transaction they are ours to give."""
        if self._last is None:
            self._last = self.last_node()
        first = self._last + 1
        self._last += count
        return first


def _to_row(entity: Entity) -> tuple[str | int, ...]:
    if entity.created is None or entity.modified is None:
        raise AssertionError("a projected entity has its times")
    created_us = to_us(entity.created)
    return (
        KIND_TEXTS[entity.kind],
        entity.type,
        entity.name,
        entity.uid,
        entity.source_uri,
        entity.content_hash,
        entity.version,
        entity.state,
        to_json(entity.properties) if entity.properties else "{}",
        created_us,
        created_us if entity.modified is entity.created else to_us(entity.modified),
        to_json(facets_to_json(entity.facets)) if entity.facets else "{}",
    )
