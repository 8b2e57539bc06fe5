"""Walking a graph from one entity or column, and following what comes within reach."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from lineage.association import AssociationType, as_association_type
from lineage.column import ColumnResult
from lineage.column_walk import walk_columns
from lineage.entity import JSON, Entity, Kind, derived_uid
from lineage.filter import as_filter
from lineage.graph.filtered import Filtered
from lineage.graph.kept import Kept
from lineage.query import Direction, Query, as_direction, run_query, viewed
from lineage.result import LineageResult
from lineage.subscription import Subscription


class Walking(Kept, Filtered):
    """The part of a graph that walks."""

    def _queried(self, query: Query) -> LineageResult:
        return run_query(self._store, query, self._mirroring)

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
