"""The lineage graph: record events, look up entities, walk, and check the log."""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self, final

from lineage.association import as_association_type
from lineage.change import Draft, End, Recorded
from lineage.entity import Entity, Kind, as_kind
from lineage.errors import EntityNotFound, InvalidEntity
from lineage.log import LogReport, new_uid, verify_chain
from lineage.query import Direction, as_query, run_query
from lineage.result import LineageResult
from lineage.store import LineageStore
from lineage.store.sqlite import SQLiteStore

_MAX_CHARACTERS = 256


def open(path: str | Path) -> Graph:  # noqa: A001 - `lineage.open` is the front door
    """Open the lineage graph in the file at `path`, made when absent.

    Any number of threads and processes may have it open. The file has to lie on
    a local disk.

    Raises:
        NotALineageFile: the path holds something else; it is not touched.
        StoreUnavailable: the path cannot be read or written.
        StoreCorrupt: the file is damaged.
    """
    return Graph(SQLiteStore.open(path))


@final
class Graph:
    """Entities and the associations between them, recorded event by event.

    May be used from any thread. As a context manager it closes at the end.

    Args:
        store: where the graph is kept.

    >>> from lineage import MemoryStore, artifact, trial_component
    >>> graph = Graph(MemoryStore())
    >>> data = artifact("DataSet", "s3://bucket/flights.parquet", content_hash="51b2")
    >>> job = trial_component("TrainingJob", "flights-1", state="Completed")
    >>> model = artifact("Model", "s3://bucket/model.tar.gz", content_hash="9f2c")
    >>> recorded = graph.record(
    ...     [data, job, model],
    ...     [(data, job, "ContributedTo"), (job, model, "Produced")],
    ...     kind="JobCompleted",
    ... )
    >>> [entity.name for entity in graph.query(recorded.entities[2], "ascendants")]
    ['model.tar.gz', 'flights-1', 'flights.parquet']
    """

    def __init__(self, store: LineageStore) -> None:
        self._store = store

    def record(
        self,
        entities: Sequence[Entity],
        associations: Sequence[tuple[End, End, str]] = (),
        *,
        kind: str,
        event_uid: str | None = None,
        actor: str | None = None,
    ) -> Recorded:
        """Append one event: all of it or nothing, durable on return.

        Entities are merged into what is there: a later state replaces, later properties
        are added to the earlier ones or replace them by name, and kind, type and name
        stay. New content at a known source uri becomes the next version, with a
        DerivedFrom association from the version before. An association that is there
        already stays one.

        Args:
            entities: to add or to merge.
            associations: (source, destination, type), the source upstream. An end is
                an entity or a uid; an entity that only stands here is recorded when it is
                new, and left as it is when known.
            kind: what happened, such as `JobCompleted`; 1 to 256 characters.
            event_uid: names the event. The same one again changes nothing and returns
                what the first returned, so a retry is safe. By default a new one.
            actor: who records; by default the user of the process.

        Returns:
            The place in the log, and the entities as stored, with uid and version, in
            the order given.

        Raises:
            InvalidEntity: `kind`, `actor` or `event_uid` is no short text, or the event is
                too large.
            InvalidAssociation: an unknown type, equal ends, or two experiment entities.
            EntityNotFound: an end is a uid that does not exist.
            EntityConflict: a uid stands for something else.
            StoreUnavailable: nothing was written.
        """
        return self._store.append(
            Draft(
                kind=_short_text(kind, "kind"),
                actor=_short_text(_user() if actor is None else actor, "actor"),
                event_uid=new_uid() if event_uid is None else _short_text(event_uid, "event_uid"),
                entities=tuple(entities),
                associations=tuple(
                    (source, destination, as_association_type(link))
                    for source, destination, link in associations
                ),
            )
        )

    def entity(self, uid: str) -> Entity:
        """The entity with this uid.

        Raises:
            EntityNotFound: there is none; the error names the nearest.
        """
        with self._store.view() as view:
            known = view.by_uid([uid])
            if uid not in known:
                raise EntityNotFound(uid, nearest=view.nearest(uid))
            return known[uid]

    def find(
        self,
        kind: Kind | str | None = None,
        type: str | None = None,
        name: str | None = None,
        source_uri: str | None = None,
    ) -> list[Entity]:
        """The entities equal in every field given, oldest first.

        Raises:
            InvalidEntity: there is no such kind.
        """
        wanted = None if kind is None else as_kind(kind)
        with self._store.view() as view:
            return view.find(kind=wanted, type=type, name=name, source_uri=source_uri)

    def query(
        self,
        start: str | Entity,
        direction: Direction | str = Direction.ASCENDANTS,
        *,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        include_edges: bool = True,
        limit: int | None = None,
    ) -> LineageResult:
        """Walk from one entity, over one state of the graph.

        Filters restrict what is returned, not what is walked: the values of one filter
        are alternatives, and both filters have to match. The start is in the answer when
        it matches. Cycles end the walk where they meet it.

        Args:
            start: the entity or its uid.
            direction: ascendants, descendants or both; `both` walks both ways from every
                visited entity.
            depth: most associations from the start; None for no limit.
            types: entity types to return; None for all.
            kinds: kinds to return; None for all.
            include_edges: whether to return the associations too; with filters those on
                the paths to what matches, and the entities there.
            limit: most entities to return, nearest first; None for all.

        Raises:
            EntityNotFound: the start does not exist.
            InvalidQuery: an unknown direction or a depth or limit out of range.
            InvalidEntity: an unknown kind.

        Cost: grows with what is walked, not with the graph.
        """
        return run_query(
            self._store,
            as_query(
                start,
                direction,
                depth=depth,
                types=types,
                kinds=kinds,
                include_edges=include_edges,
                limit=limit,
            ),
        )

    def verify(self, *, projections: bool = False) -> LogReport:
        """Check the hash chain of the whole log, and name the first altered event.

        Args:
            projections: also project the log anew and compare the entities and associations
                with it; `rebuild` mends what differs.

        Cost: reads the log once; with `projections` about as long as recording it took,
        without the waits for the disk.
        """
        with self._store.log() as (events, head):
            report = verify_chain(events, head)
        if projections and report.intact and (stale := self._store.stale()):
            return LogReport(False, report.events, *stale)
        return report

    def rebuild(self) -> int:
        """Project entities and associations anew from the log alone.

        Returns:
            The number of events read.
        """
        return self._store.rebuild()

    def stats(self) -> dict[str, int]:
        """How many `events`, `entities` and `associations` there are."""
        with self._store.view() as view:
            return view.counts()

    def close(self) -> None:
        """Close the store; idempotent. What was recorded is durable already."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _short_text(value: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_CHARACTERS:
        raise InvalidEntity(
            f"event {name}: expected text of 1 to {_MAX_CHARACTERS} characters, got {value!r:.300}"
        )
    if not value.isprintable():
        raise InvalidEntity(f"event {name}: expected printable text, got {value!a}")
    return value


@cache
def _user() -> str:
    """The user of the process, as a number where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
