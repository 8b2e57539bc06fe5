"""Questions about several entities of a graph, or about all that one comes from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from lineage.association import AssociationType
from lineage.entity import Entity
from lineage.filter import Filter
from lineage.graph.filtered import Filtered
from lineage.graph.kept import Kept
from lineage.query import Direction
from lineage.questions import (
    CommonEntities,
    Explanation,
    FeatureUse,
    LineageDiff,
    LineagePath,
    Paths,
    ask,
)


class Asking(Kept, Filtered):
    """The part of a graph that answers questions: see `lineage.questions`."""

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

    def _in_common(
        self,
        entities: Sequence[str | Entity],
        wanted: Filter,
        *,
        upstream: bool,
        depth: int | None,
        through: Collection[AssociationType | str] | None,
        limit: int | None,
        as_of: int | datetime | None,
    ) -> CommonEntities:
        return ask.common(
            self._store,
            entities,
            upstream=upstream,
            depth=depth,
            wanted=wanted,
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
