"""Walking a graph from one entity or column, and following what comes within reach."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from lineage.association import AssociationType, as_association_type
from lineage.column import ColumnResult
from lineage.column_walk import walk_columns
from lineage.entity import JSON, Entity, Kind, derived_uid
from lineage.filter import as_filter
from lineage.graph.kept import Kept
from lineage.query import (
    Direction,
    as_direction,
    as_query,
    run_query,
    viewed,
)
from lineage.result import LineageResult
from lineage.subscription import Subscription


class Walking(Kept):
    """The part of a graph that walks."""

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

        >>> from lineage import Graph, MemoryStore, action, artifact
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
