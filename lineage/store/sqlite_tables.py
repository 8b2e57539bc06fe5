"""The graph as tables of a SQLite database: read for queries, written event by event."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import chain
from typing import Any, final, overload

from lineage.change import Link, to_json
from lineage.entity import Entity, Kind, from_us, stored_entity, to_us
from lineage.store import Edge, View

_FIELDS = (
    "entity.kind, entity.type, entity.name, entity.uid, entity.source_uri, entity.content_hash, "
    "entity.version, entity.state, entity.properties, entity.created_us, entity.modified_us, "
    "entity.id"
)
_ENTITY = f"SELECT {_FIELDS} FROM entity"

_KINDS = {kind.value: kind for kind in Kind}


@final
class SQLiteTables(View):
    """The entity and edge tables of one connection; node n is the row n.

    Args:
        connection: in a transaction, for as long as this is used.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._last: int | None = None
        # Of the entities read for an event, so that its associations need not look them up.
        self._nodes: dict[str, int] = {}

    def write(
        self,
        sequence: int,
        entities: Sequence[Entity],
        associations: Sequence[Link],
        before: Mapping[str, Entity],
    ) -> None:
        """Put in what an event projects to.

        Args:
            sequence: of the event.
            entities: as they are after it.
            associations: it adds, none twice; some may be there.
            before: the entities it touches as they were, read through this object.
        """
        new = [entity for entity in entities if entity.uid not in before]
        first = self._next_node(len(new))
        self._nodes.update({entity.uid: first + place for place, entity in enumerate(new)})
        self.connection.executemany(
            "INSERT INTO entity (kind, type, name, uid, source_uri, content_hash, version, state, "
            "properties, created_us, modified_us, id, created_seq, modified_seq) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*_to_row(entity), self._nodes[entity.uid], sequence, sequence) for entity in new],
        )
        self.connection.executemany(
            "UPDATE entity SET source_uri = ?, content_hash = ?, version = ?, state = ?, "
            "properties = ?, modified_us = ?, modified_seq = ? WHERE id = ?",
            [
                (*row[4:9], row[10], sequence, self._nodes[entity.uid])
                for entity in entities
                if entity.uid in before
                for row in (_to_row(entity),)
            ],
        )
        # What has a new end is new itself; only between known ends is there anything to find.
        unknown: list[tuple[int, int, str, int]] = []
        known: list[tuple[int, int, str, int]] = []
        for source, destination, link in associations:
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

    def by_uid(self, uids: Collection[str]) -> dict[str, Entity]:
        """Those of these uids that exist."""
        rows = self.connection.execute(
            f"SELECT {_FIELDS} FROM json_each(?) AS wanted CROSS JOIN entity "
            f"ON entity.uid = wanted.value",
            (json.dumps(list(uids)),),
        )
        return {row[3]: self._met(row) for row in rows}

    def latest(self, source_uris: Collection[str]) -> dict[str, Entity]:
        """The highest version at each of these uris."""
        rows = self.connection.execute(
            f"SELECT {_FIELDS} FROM json_each(?) AS wanted CROSS JOIN entity ON entity.id = "
            f"(SELECT id FROM entity WHERE kind = 'Artifact' AND source_uri = wanted.value "
            f"ORDER BY version DESC LIMIT 1)",
            (json.dumps(list(source_uris)),),
        )
        return {row[4]: self._met(row) for row in rows}

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
        rows = self.connection.execute(f"{_ENTITY} WHERE {wanted} ORDER BY id", values)
        return [_to_entity(row) for row in rows]

    def node(self, uid: str) -> int | None:
        """The row number of an entity."""
        row = self.connection.execute("SELECT id FROM entity WHERE uid = ?", (uid,)).fetchone()
        return None if row is None else int(row[0])

    def neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        """The associations at any of `nodes`, from a covering index."""
        at = "dst" if upstream else "src"
        # CROSS JOIN keeps the order: for each node of the frontier, its part of the index.
        return self.connection.execute(
            f"SELECT src, dst, edge.type FROM json_each(?) AS frontier CROSS JOIN edge "
            f"ON edge.{at} = frontier.value WHERE valid_to_seq IS NULL",
            (json.dumps(nodes),),
        ).fetchall()

    def matching(
        self, nodes: Sequence[int], *, types: Collection[str], kinds: Collection[Kind]
    ) -> list[int]:
        """Those of `nodes` with any of the types and any of the kinds."""
        rows = self.connection.execute(
            "SELECT entity.id FROM json_each(?1) AS wanted CROSS JOIN entity "
            "ON entity.id = wanted.value "
            "WHERE (?2 = '[]' OR entity.type IN (SELECT value FROM json_each(?2))) "
            "AND (?3 = '[]' OR entity.kind IN (SELECT value FROM json_each(?3)))",
            (json.dumps(nodes), json.dumps(list(types)), json.dumps(list(kinds))),
        )
        return [row[0] for row in rows]

    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        """The entities of `nodes`; each is built when it is looked at."""
        rows = self.connection.execute(
            f"SELECT {_FIELDS} FROM json_each(?) AS wanted CROSS JOIN entity "
            f"ON entity.id = wanted.value",
            (json.dumps(nodes),),
        )
        return _Rows(rows.fetchall())

    def counts(self) -> dict[str, int]:
        """Counted anew: reads an index from end to end."""
        one = "SELECT (SELECT seq FROM head), (SELECT count(*) FROM entity), (SELECT count(*) "
        row = self.connection.execute(f"{one} FROM edge WHERE valid_to_seq IS NULL)").fetchone()
        return dict(zip(("events", "entities", "associations"), row, strict=True))

    def _one(self, select: str, *values: str | int) -> Entity | None:
        row = self.connection.execute(select, values).fetchone()
        return None if row is None else self._met(row)

    def _met(self, row: tuple[Any, ...]) -> Entity:
        self._nodes[row[3]] = row[11]
        return _to_entity(row)

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
        kind, what, name, uid, uri, content_hash, version, state, properties, created, modified, _
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
    )
