"""The lineage graph: record events, look up entities, walk, and check the log."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, final

from lineage.association import AssociationType, as_association_type
from lineage.change import Draft, Recorded
from lineage.column import ColumnLineage, ColumnResult
from lineage.column_walk import walk_columns
from lineage.entity import JSON, End, Entity, Kind, amended, as_kind, derived_uid, to_us
from lineage.errors import InvalidEntity, LineageError, StoreUnavailable
from lineage.exports import Part, as_format, export_part, export_text
from lineage.filter import as_filter
from lineage.log import LogReport, new_uid, verify_chain
from lineage.mirror import Mirroring
from lineage.proofs.checkpoint import Checkpoint
from lineage.proofs.proof import GrowthProof, Proof, checkpoint_now, prove, prove_growth
from lineage.proofs.witness import Watch
from lineage.query import (
    Direction,
    as_direction,
    as_query,
    check_as_of,
    located,
    run_query,
    viewed,
)
from lineage.questions import (
    CommonEntities,
    DataChanges,
    EventSummary,
    Explanation,
    FeatureUse,
    LineageDiff,
    LineagePath,
    Paths,
    ask,
)
from lineage.result import LineageResult
from lineage.run import Run
from lineage.spool import Replayed, Spool
from lineage.store import LineageStore
from lineage.store.postgres import PostgresStore
from lineage.store.sqlite import SQLiteStore
from lineage.subscription import Subscription

_MAX_CHARACTERS = 256
_LOOK_AGAIN_S = 5.0


def open(  # noqa: A001 - `lineage.open` is the front door
    path: str | Path, *, changes: DataChanges | None = None
) -> Graph:
    """Open the lineage graph in the file at `path`, made when absent.

    Any number of threads and processes may have it open. The file has to lie on
    a local disk. A `postgresql://` URL opens a graph that many machines share instead; see
    `PostgresStore.open`.

    Args:
        path: of the file.
        changes: as for `Graph`.

    Raises:
        NotALineageFile: the path holds something else; it is not touched.
        StoreUnavailable: the path cannot be read or written.
        StoreCorrupt: the file is damaged.
    """
    if isinstance(path, str) and path.startswith(("postgresql://", "postgres://")):
        return Graph(PostgresStore.open(path), changes=changes)
    return Graph(SQLiteStore.open(path), changes=changes)


@final
class Graph:
    """Entities and the associations between them, recorded event by event.

    May be used from any thread. As a context manager it closes at the end.

    Args:
        store: where the graph is kept.
        changes: says what changed between two versions of data, for `diff`.
        spool: where events wait while the store is away; None: they are refused then.

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

    def __init__(
        self,
        store: LineageStore,
        *,
        changes: DataChanges | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._store = store
        self._changes = changes
        self._spool = spool
        self._away_until = 0.0
        self._mirroring = Mirroring(store)

    @property
    def store(self) -> LineageStore:
        """Where the graph is kept, for those who follow its log."""
        return self._store

    @property
    def mirroring(self) -> Mirroring:
        """The associations in memory, when that is worth it."""
        return self._mirroring

    @property
    def spool(self) -> Spool | None:
        """Where events wait while the store is away."""
        return self._spool

    def replay_spool(self) -> Replayed:
        """Record the events that waited while the store was away.

        Raises:
            StoreUnavailable: it still is.
        """
        return Replayed(0, 0) if self._spool is None else self._spool.replay(self._store)

    def record(
        self,
        entities: Sequence[Entity] = (),
        associations: Sequence[tuple[End, End, str]] = (),
        *,
        kind: str,
        event_uid: str | None = None,
        actor: str | None = None,
        columns: Sequence[ColumnLineage] = (),
        runs: Sequence[Run] = (),
        tags: Sequence[tuple[End, str, str | None]] = (),
        aliases: Sequence[tuple[str, End]] = (),
        retract: Sequence[tuple[End, End, str]] = (),
        cycles: Literal["refuse", "allow"] = "refuse",
    ) -> Recorded:
        """Append one event: all of it or nothing, durable on return.

        Entities are merged into what is there: a later state replaces, later properties
        are added to the earlier ones or replace them by name, of each facet the one of the
        greater rank stays, and kind, type and name stay. New content at a known source uri
        becomes the next version, with a DerivedFrom association from the version before; a new
        artifact with bytes that are known at another place is SameAs the oldest of its type with
        them (content hashes that are a SHA-256; of 64 bytes or more where `bytes` says how many;
        places are paths and `scheme://` uris). An association that is there already stays one.

        Args:
            entities: to add or to merge.
            associations: (source, destination, type), the source upstream. An end is
                an entity, a uid or an alias; an entity that only stands here is recorded when
                it is new, and left as it is when known.
            kind: what happened, such as `JobCompleted`; 1 to 256 characters.
            event_uid: names the event. The same one again changes nothing and returns
                what the first returned, so a retry is safe. By default a new one.
            actor: who records; by default the user of the process.
            columns: which columns went into which.
            runs: executions of jobs.
            tags: (what is tagged, key, value); None takes the tag off.
            aliases: (another name, what it stands for); entities are found under it too.
            retract: associations that are valid no more from now on.
            cycles: whether an association may make something its own origin. A job that runs
                several times may have to: its second run reads what the first one wrote.

        Returns:
            The place in the log, and the entities as stored, with uid and version, in
            the order given. While the store is away and there is a spool: place 0, and the
            entities with the uid they will have.

        Raises:
            InvalidEntity: `kind`, `actor` or `event_uid` is no short text, or the event is
                too large.
            InvalidAssociation: an unknown type, equal ends, two experiment entities, a circle
                of causes, or an association to retract that is not there.
            EntityNotFound: an end is a uid that does not exist.
            EntityConflict: a uid or alias stands for something else.
            StoreUnavailable: nothing was written.
        """
        return self._append(
            as_draft(
                entities,
                associations,
                kind=kind,
                event_uid=event_uid,
                actor=actor,
                columns=columns,
                runs=runs,
                tags=tags,
                aliases=aliases,
                retract=retract,
                cycles=cycles,
            )
        )

    def record_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Append several events in one transaction, in order; durable on return.

        Args:
            drafts: made by `lineage.as_draft`.

        Returns:
            for each its answer, or the error for which that one was refused; the others
            are in.

        Raises:
            StoreUnavailable: nothing was written.
        """
        return self._store.append_all(drafts)

    def entity(self, uid: str, *, as_of: int | datetime | None = None) -> Entity:
        """The entity with this uid or alias.

        Args:
            uid: of the entity, or another name of it.
            as_of: as for `query`.

        Raises:
            EntityNotFound: there is none; the error names the nearest.
            InvalidQuery: `as_of` is no point in time.
        """
        with viewed(self._store, as_of) as view:
            known, _ = located(view, uid)
            return view.by_uid([known])[known]

    def get(self, uid: str, *, as_of: int | datetime | None = None) -> Entity | None:
        """The entity with this uid, or None; no other name counts, and none is suggested.

        Raises:
            InvalidQuery: `as_of` is no point in time.
        """
        with viewed(self._store, as_of) as view:
            return view.by_uid([uid]).get(uid)

    def find(
        self,
        kind: Kind | str | None = None,
        type: str | None = None,
        name: str | None = None,
        source_uri: str | None = None,
        *,
        as_of: int | datetime | None = None,
    ) -> list[Entity]:
        """The entities equal in every field given, oldest first.

        Raises:
            InvalidEntity: there is no such kind.
            InvalidQuery: `as_of` is no point in time.
        """
        wanted = None if kind is None else as_kind(kind)
        with viewed(self._store, as_of) as view:
            return view.find(kind=wanted, type=type, name=name, source_uri=source_uri)

    def query(
        self,
        start: str | Entity,
        direction: Direction | str = Direction.ASCENDANTS,
        *,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        through: Collection[AssociationType | str] | None = None,
        include_edges: bool = True,
        limit: int | None = None,
        max_walked: int | None = None,
        as_of: int | datetime | None = None,
    ) -> LineageResult:
        """Walk from one entity, over one state of the graph.

        Filters restrict what is returned, not what is walked: the values of one filter
        are alternatives, and all filters have to match. The start is in the answer when
        it matches. Cycles end the walk where they meet it.

        Args:
            start: the entity, its uid or an alias.
            direction: ascendants, descendants, both or either; `both` walks both ways from
                every visited entity, `either` joins ascendants and descendants.
            depth: most associations from the start; None for no limit.
            types: entity types to return; None for all.
            kinds: kinds to return; None for all.
            states: states to return; None for all.
            uris: beginnings of source uris to return, such as `s3://lake/`; None for all.
            properties: pairs of which any has to be there; dots in a name look into nested
                values, and facets count too.
            created_after: created at or after this time.
            created_before: created before or at this time.
            modified_after: last modified at or after this time.
            modified_before: last modified before or at this time.
            through: association types to walk along; None for all.
            include_edges: whether to return the associations too; with filters those on
                the paths to what matches, and the entities there.
            limit: most entities to return, nearest first; None for all.
            max_walked: most entities to visit, nearest first; None for all.
            as_of: the graph exactly as it was after the event of this sequence, or at this
                time; None for the present.

        Raises:
            EntityNotFound: the start does not exist.
            InvalidQuery: an unknown direction or a depth, limit or time out of range.
            InvalidEntity: an unknown kind.
            InvalidAssociation: an unknown association type.

        Cost: grows with what is walked, not with the graph.
        """
        return run_query(
            self._store,
            as_query(
                start,
                direction,
                depth=depth,
                wanted=as_filter(
                    kinds=kinds,
                    types=types,
                    states=states,
                    uris=uris,
                    properties=properties,
                    created_after=created_after,
                    created_before=created_before,
                    modified_after=modified_after,
                    modified_before=modified_before,
                ),
                include_edges=include_edges,
                limit=limit,
                through=through,
                max_walked=max_walked,
                as_of=as_of,
            ),
            self._mirroring,
        )

    def subscribe(
        self,
        start: str | Entity,
        direction: Direction | str = Direction.DESCENDANTS,
        *,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        through: Collection[AssociationType | str] | None = None,
        after: int | None = None,
    ) -> Subscription:
        """Follow what comes within reach of an entity, as it is recorded by any process.

        Each event that brings entities within reach, says something of one that is, or takes
        some out, gives one match, in the order of the log, some milliseconds after its commit.
        Nothing is walked twice: an association extends what is known to be within reach.

        Args:
            start: the entity, its uid or an alias.
            direction: as for `query`.
            types: entity types to be told of; None for all.
            kinds: kinds to be told of; None for all.
            states: states to be told of; None for all.
            uris: beginnings of source uris to be told of; None for all.
            properties: as for `query`.
            through: association types to walk along; None for all.
            after: sequence of the last match that was handled, to go on behind it: none is
                lost, none comes twice. None: from now on; 0: from the beginning of the log.

        Raises:
            EntityNotFound: the start does not exist.
            InvalidQuery: an unknown direction, or no such event.
            InvalidAssociation: an unknown association type.

        >>> from lineage import MemoryStore, action, artifact
        >>> graph = Graph(MemoryStore())
        >>> data, job = artifact("DataSet", "s3://b/flights"), action("Clean", "c")
        >>> recorded = graph.record([data], kind="Loaded")
        >>> following = graph.subscribe(data)
        >>> recorded = graph.record([job], [(data, job, "ContributedTo")], kind="Cleaned")
        >>> [entity.name for entity in next(following).reached]
        ['c']
        """
        links = (through,) if isinstance(through, str) else through or ()
        return Subscription(
            self._store,
            (start.uid or derived_uid(start)) if isinstance(start, Entity) else start,
            as_direction(direction),
            wanted=as_filter(
                kinds=kinds, types=types, states=states, uris=uris, properties=properties
            ),
            through=frozenset(as_association_type(link).value for link in links),
            after=after,
        )

    def columns(
        self,
        start: str | Entity,
        column: str = "",
        direction: Direction | str = Direction.ASCENDANTS,
        *,
        depth: int | None = None,
        as_of: int | datetime | None = None,
    ) -> ColumnResult:
        """Walk from a column to the columns it comes from, or to those it goes into.

        Args:
            start: what has the column: an entity, its uid or an alias.
            column: its name; empty for every column.
            direction: ascendants, descendants, or either for the two together.
            depth: most edges from the start; None for no limit.
            as_of: as for `query`.

        Raises:
            EntityNotFound: the start does not exist.
            InvalidQuery: a direction, depth or point in time that is none.
        """
        uid = (start.uid or derived_uid(start)) if isinstance(start, Entity) else start
        with viewed(self._store, as_of) as view:
            return walk_columns(view, uid, column, as_direction(direction), depth)

    def runs(self, job: str | Entity, *, as_of: int | datetime | None = None) -> list[Run]:
        """The executions of a job, in order of their start.

        Raises:
            EntityNotFound: the job does not exist.
        """
        uid = (job.uid or derived_uid(job)) if isinstance(job, Entity) else job
        with viewed(self._store, as_of) as view:
            return view.runs(located(view, uid)[1])

    def tags(self, entity: str | Entity, *, as_of: int | datetime | None = None) -> dict[str, str]:
        """The tags of an entity.

        Raises:
            EntityNotFound: it does not exist.
        """
        uid = (entity.uid or derived_uid(entity)) if isinstance(entity, Entity) else entity
        with viewed(self._store, as_of) as view:
            _, node = located(view, uid)
            return view.tags([node]).get(node, {})

    def tagged(
        self, key: str, value: str | None = None, *, as_of: int | datetime | None = None
    ) -> list[Entity]:
        """The entities with a tag, of any value when none is given, oldest first."""
        with viewed(self._store, as_of) as view:
            return list(view.entities(view.tagged(key, value)))

    def search(
        self,
        *,
        name: str | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        tags: Mapping[str, str | None] | None = None,
        source_uri: str | None = None,
        content_hash: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        limit: int | None = None,
        as_of: int | datetime | None = None,
    ) -> list[Entity]:
        """The entities that fit in every way asked for, newest first.

        Args:
            name: exactly this.
            types: any of these, as the filters that follow are for `query`.
            kinds: any of these.
            states: any of these.
            uris: begins like any of these.
            properties: any of these pairs.
            tags: all of these, of any value where it is None.
            source_uri: exactly this.
            content_hash: of artifacts, begins like this.
            created_after: created at or after this time.
            created_before: created before or at this time.
            modified_after: last modified at or after this time.
            modified_before: last modified before or at this time.
            limit: most to return.
            as_of: as for `query`.

        Raises:
            InvalidEntity: an unknown kind.
            InvalidQuery: a limit or point in time that is none.

        Cost: by name, uri, types or tags an index is used; the content hash alone is looked for
        in all artifacts, and by anything else alone the whole graph is read.
        """
        return ask.search(
            self._store,
            name=name,
            source_uri=source_uri,
            content_hash=content_hash,
            tags=tags,
            wanted=as_filter(
                kinds=kinds,
                types=types,
                states=states,
                uris=uris,
                properties=properties,
                created_after=created_after,
                created_before=created_before,
                modified_after=modified_after,
                modified_before=modified_before,
            ),
            limit=limit,
            as_of=as_of,
        )

    def paths(
        self,
        start: str | Entity,
        end: str | Entity,
        *,
        direction: Direction | str = Direction.EITHER,
        limit: int = 10,
        max_length: int | None = None,
        through: Collection[AssociationType | str] | None = None,
        max_walked: int | None = None,
        as_of: int | datetime | None = None,
    ) -> Paths:
        """The ways from one entity to another, shortest first.

        No entity stands on a path twice. Of equal length, the path whose entities were
        recorded earlier comes first.

        Args:
            start: where they begin: an entity, its uid or an alias.
            end: where they end.
            direction: descendants follows associations forwards, ascendants backwards,
                either takes the paths that do one of the two throughout, and both turns
                wherever it may.
            limit: most paths, from 1 to 10,000.
            max_length: most associations on a path.
            through: association types to walk along; None for all.
            max_walked: most entities to visit; the paths found by then may not be the shortest.
            as_of: as for `query`.

        Raises:
            EntityNotFound: an end does not exist.
            InvalidQuery: an unknown direction, or a number or point in time out of range.
            InvalidAssociation: an unknown association type.

        Cost: walks from both ends, the smaller side first, and no farther than the smaller side
        goes; then each path costs its length times what lies between, however many there are.
        """
        return ask.paths(
            self._store,
            start,
            end,
            direction=direction,
            limit=limit,
            max_length=max_length,
            through=through,
            max_walked=max_walked,
            as_of=as_of,
        )

    def shortest_path(
        self,
        start: str | Entity,
        end: str | Entity,
        *,
        direction: Direction | str = Direction.EITHER,
        through: Collection[AssociationType | str] | None = None,
        as_of: int | datetime | None = None,
    ) -> LineagePath | None:
        """One shortest way from one entity to another, or None; arguments as for `paths`.

        Cost: walks from both ends until they meet.
        """
        return ask.shortest_path(
            self._store, start, end, direction=direction, through=through, as_of=as_of
        )

    def common_ancestors(
        self,
        *entities: str | Entity,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        through: Collection[AssociationType | str] | None = None,
        limit: int | None = None,
        as_of: int | datetime | None = None,
    ) -> CommonEntities:
        """What all of some entities come from, nearest first; `.closest` are the lowest ones.

        Each of the entities counts as its own ancestor. The other arguments are those of
        `query`; filters restrict what is returned, and not which ones are the closest.

        Raises:
            EntityNotFound: one does not exist.
            InvalidQuery: less than two entities, or a number or point in time out of range.

        Cost: one walk from each of them.
        """
        return ask.common(
            self._store,
            entities,
            upstream=True,
            depth=depth,
            wanted=as_filter(
                kinds=kinds,
                types=types,
                states=states,
                uris=uris,
                properties=properties,
                created_after=created_after,
                created_before=created_before,
                modified_after=modified_after,
                modified_before=modified_before,
            ),
            through=through,
            limit=limit,
            as_of=as_of,
        )

    def common_descendants(
        self,
        *entities: str | Entity,
        depth: int | None = None,
        types: Collection[str] | None = None,
        kinds: Collection[Kind | str] | None = None,
        states: Collection[str] | None = None,
        uris: Collection[str] | None = None,
        properties: Mapping[str, JSON] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        modified_after: datetime | None = None,
        modified_before: datetime | None = None,
        through: Collection[AssociationType | str] | None = None,
        limit: int | None = None,
        as_of: int | datetime | None = None,
    ) -> CommonEntities:
        """What comes from all of some entities, nearest first; see `common_ancestors`."""
        return ask.common(
            self._store,
            entities,
            upstream=False,
            depth=depth,
            wanted=as_filter(
                kinds=kinds,
                types=types,
                states=states,
                uris=uris,
                properties=properties,
                created_after=created_after,
                created_before=created_before,
                modified_after=modified_after,
                modified_before=modified_before,
            ),
            through=through,
            limit=limit,
            as_of=as_of,
        )

    def diff(
        self,
        a: str | Entity,
        b: str | Entity,
        *,
        through: Collection[AssociationType | str] | None = None,
        as_of: int | datetime | None = None,
    ) -> LineageDiff:
        """Why two models, or any two entities, differ.

        Holds the ascendants of both against each other, pair by pair in the same role, and
        returns the smallest set of causes: versions of data, code, parameters, seed and
        environment. What follows from a cause further upstream is not among them. Metrics
        are outcomes, and never causes.

        Args:
            a: the first: an entity, its uid or an alias.
            b: the second.
            through: association types to follow; None for those that say what was made of
                what (ContributedTo, Produced, DerivedFrom).
            as_of: as for `query`.

        Raises:
            EntityNotFound: one does not exist.
            InvalidQuery: one is a trial or experiment, or a point in time that is none.

        Cost: reads the ascendants that the two do not have in common.
        """
        return ask.diff(self._store, a, b, through=through, changes=self._changes, as_of=as_of)

    def explain(self, entity: str | Entity, *, as_of: int | datetime | None = None) -> Explanation:
        """Where an entity comes from, in one readable account, and what uses it.

        Raises:
            EntityNotFound: it does not exist.
            InvalidQuery: a point in time that is none.

        Cost: reads its ascendants and descendants.
        """
        return ask.explain(self._store, entity, as_of=as_of)

    def features(
        self, entity: str | Entity, *, as_of: int | datetime | None = None
    ) -> list[FeatureUse]:
        """The features that feed a model, or the columns that anything is made of.

        Those at the far end: nothing further upstream is recorded of them. The most important
        come first; importance is what the job recorded on the column that goes in.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidQuery: a point in time that is none.
        """
        return ask.features(self._store, entity, as_of=as_of)

    def feature_users(
        self,
        entity: str | Entity,
        column: str = "",
        *,
        types: Collection[str] | None = ("Model",),
        as_of: int | datetime | None = None,
    ) -> list[FeatureUse]:
        """The models that use a column, the most important use first.

        Args:
            entity: what has the column; of a feature group those of its table's versions count.
            column: its name; empty for every column.
            types: entity types that count as users; None for all.
            as_of: as for `query`.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidQuery: a point in time that is none.
        """
        return ask.feature_users(self._store, entity, column, types=types, as_of=as_of)

    def events(
        self,
        entity: str | Entity | None = None,
        *,
        kinds: Collection[str] | None = None,
        actors: Collection[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[EventSummary]:
        """The newest events of the log that fit in every way, newest first.

        Args:
            entity: only events that recorded it.
            kinds: any of these kinds of event.
            actors: recorded by any of these.
            since: at or after this time.
            until: before or at this time.
            before: only events before this sequence, to go on where the last answer ended.
            limit: most to return.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidQuery: a number or time that is none.

        Cost: reads the log from its end until enough are found.
        """
        return ask.events(
            self._store,
            entity,
            kinds=kinds,
            actors=actors,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )

    def add_tags(
        self, entity: str | Entity, tags: Mapping[str, str], *, actor: str | None = None
    ) -> Recorded:
        """Put tags on an entity; one of the same key is replaced.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidEntity: a key or value is no short text.
            StoreUnavailable: nothing was written.
        """
        known = self.entity(ask.uid_of(entity))
        pairs = [(known.uid, key, value) for key, value in tags.items()]
        return self.record(tags=pairs, kind="TagsAdded", actor=actor)

    def delete_tags(
        self, entity: str | Entity, keys: Collection[str], *, actor: str | None = None
    ) -> Recorded:
        """Take tags off an entity; the log keeps that they were there.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidEntity: a key is no short text.
            StoreUnavailable: nothing was written.
        """
        known = self.entity(ask.uid_of(entity))
        gone = [(known.uid, key, None) for key in ((keys,) if isinstance(keys, str) else keys)]
        return self.record(tags=gone, kind="TagsDeleted", actor=actor)

    def sequence_at(self, time: datetime) -> int:
        """The sequence of the last event recorded at or before a time; 0 before the first.

        Raises:
            InvalidQuery: the time has no zone.
        """
        check_as_of(time)
        with self._store.view() as view:
            return view.sequence_at(to_us(time))

    def last_sequence(self) -> int:
        """The sequence of the last event; 0 when there is none. Cheap."""
        return self._store.head().sequence

    def export(
        self,
        path: str | Path,
        format: str | None = None,
        *,
        of: LineageResult | None = None,
        as_of: int | datetime | None = None,
    ) -> str:
        """Write the graph, or what a query found, as a file of another tool's form.

        Args:
            path: of the file, or of the folder for `parquet`; replaced when it is whole.
            format: `html`, `tree`, `mermaid`, `dot`, `prov-json`, `prov-n`, `graphml`, `gexf`,
                `ndjson`, `json` or `parquet`; by default the ending of the path decides.
            of: the answer to a query on this graph; None for all of it.
            as_of: as for `query`; of columns, runs and tags too.

        Returns:
            The format.

        Raises:
            InvalidQuery: no such format, or more than a page or picture can show.
            OSError: the path cannot be written.

        Cost: reads the graph in pieces; all but pictures need no more memory for more.
        """
        form = as_format(format, Path(path))
        failed = None
        with self._part(of, as_of) as part:
            try:
                export_part(part, Path(path), form)
            except OSError as error:
                # Of the file written: a store would take it for its own.
                failed = error
        if failed is not None:
            raise failed
        return form

    def export_text(
        self,
        format: str,
        *,
        of: LineageResult | None = None,
        as_of: int | datetime | None = None,
    ) -> str:
        """The graph, or what a query found, as one text: see `export`.

        Raises:
            InvalidQuery: no such format, or one that is no text (`parquet`).
        """
        with self._part(of, as_of) as part:
            return export_text(part, format)

    @contextmanager
    def _part(self, of: LineageResult | None, as_of: int | datetime | None) -> Iterator[Part]:
        with viewed(self._store, as_of) as view:
            sequence = view.counts()["events"]
            yield Part(of, view=view, log=self._store.log, sequence=sequence)

    def verify(self, *, projections: bool = False, against: Sequence[Checkpoint] = ()) -> LogReport:
        """Check the hash chain and the checkpoints of the whole log; name the first altered event.

        Args:
            against: checkpoints that were kept elsewhere: they also witness against somebody
                who rewrote the log with everything that the store keeps beside it.
            projections: also project the log anew and compare the entities and associations
                with it; `rebuild` mends what differs.

        Cost: reads the log once; with `projections` about as long as recording it took,
        without the waits for the disk.
        """
        kept = self._store.checkpoints()
        with self._store.log() as (events, head):
            watch = Watch(kept, against)
            report = watch.report(verify_chain(watch.over(events), head), head)
        if projections and report.intact and (stale := self._store.stale()):
            return LogReport(False, report.events, *stale)
        return report

    def rebuild(self) -> int:
        """Project entities and associations anew from the log alone.

        Returns:
            The number of events read.
        """
        return self._store.rebuild()

    def checkpoint(self) -> Checkpoint:
        """Make a checkpoint of the log as it is now, and keep it in the store.

        Keep a copy where nobody who can write the store can write too, and give it to
        `verify(against=...)` and to those who check proofs.

        Raises:
            InvalidProof: nothing was recorded yet.

        Cost: two hashes for each event since the last checkpoint.
        """
        return checkpoint_now(self._store)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the store keeps, in sequence; one at every 4,096 events."""
        return self._store.checkpoints()

    def prove(self, what: str | Entity | int, checkpoint: Checkpoint | None = None) -> Proof:
        """Prove that an entity, or an event, is in the log that a checkpoint stands for.

        The proof holds the event and the few hashes that lead from it to the root. It is
        checked without this package and without the graph: see `Proof`.

        Args:
            what: an entity, its uid or an alias, for the event that recorded it first; or the
                sequence of an event.
            checkpoint: to prove it against; None: one that is made now.

        Raises:
            EntityNotFound: the entity does not exist.
            InvalidProof: the event is later than the checkpoint, or the log is not the one that
                the checkpoint was made of.

        Cost: reads at most some ten thousand hashes, however long the log is.
        """
        uid = (what.uid or derived_uid(what)) if isinstance(what, Entity) else what
        return prove(self._store, uid, checkpoint or self.checkpoint())

    def prove_growth(self, earlier: Checkpoint, later: Checkpoint | None = None) -> GrowthProof:
        """Prove that the log of an earlier checkpoint is the beginning of that of a later one.

        Args:
            earlier: such as one that an auditor kept.
            later: None: one that is made now.

        Raises:
            InvalidProof: it is not: something up to the earlier checkpoint was altered.
        """
        return prove_growth(self._store, earlier, later or self.checkpoint())

    def stats(self) -> dict[str, int]:
        """How many `events`, `entities` and `associations` there are."""
        with self._store.view() as view:
            return view.counts()

    def _append(self, draft: Draft) -> Recorded:
        """Append an event behind those that wait, or let it wait with them."""
        if self._spool is None:
            return self._store.append(draft)
        try:
            # A store that was away a moment ago is not waited for with every event.
            if time.monotonic() < self._away_until:
                raise StoreUnavailable("the store was away a moment ago")
            if self._spool:
                self._spool.replay(self._store)
            return self._store.append(draft)
        except StoreUnavailable:
            self._away_until = time.monotonic() + _LOOK_AGAIN_S
            self._spool.put(draft)
        entities = (
            amended(entity, uid=entity.uid or derived_uid(entity)) for entity in draft.entities
        )
        return Recorded(0, tuple(entities))

    def close(self) -> None:
        """Close the store; idempotent. What was recorded is durable already."""
        self._mirroring.close()
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


def as_draft(
    entities: Sequence[Entity] = (),
    associations: Sequence[tuple[End, End, str]] = (),
    *,
    kind: str,
    event_uid: str | None = None,
    actor: str | None = None,
    columns: Sequence[ColumnLineage] = (),
    runs: Sequence[Run] = (),
    tags: Sequence[tuple[End, str, str | None]] = (),
    aliases: Sequence[tuple[str, End]] = (),
    retract: Sequence[tuple[End, End, str]] = (),
    cycles: Literal["refuse", "allow"] = "refuse",
) -> Draft:
    """An event to hand to `Graph.record_all`; the arguments are those of `Graph.record`.

    Raises:
        InvalidEntity: `kind`, `actor` or `event_uid` is no short text.
        InvalidAssociation: an unknown type.
    """
    return Draft(
        kind=_short_text(kind, "kind"),
        actor=_short_text(_user() if actor is None else actor, "actor"),
        event_uid=new_uid() if event_uid is None else _short_text(event_uid, "event_uid"),
        entities=tuple(entities),
        associations=_typed(associations),
        columns=tuple(columns),
        runs=tuple(runs),
        tags=tuple(tags),
        aliases=tuple(aliases),
        retractions=_typed(retract),
        cycles=cycles == "allow",
    )


def _typed(
    associations: Sequence[tuple[End, End, str]],
) -> tuple[tuple[End, End, AssociationType], ...]:
    return tuple(
        (source, destination, as_association_type(link))
        for source, destination, link in associations
    )


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
