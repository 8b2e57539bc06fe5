"""Questions to the graph of a server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from lineage.association import AssociationType
from lineage.entity import Entity
from lineage.filter import Filter
from lineage.graph.filtered import Filtered
from lineage.query import Direction, as_direction
from lineage.questions import (
    CommonEntities,
    Explanation,
    FeatureUse,
    LineageDiff,
    LineagePath,
    Paths,
)
from lineage.questions.ask import as_links, check_count, check_paths, uid_of
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert, convert_answer
from lineage.wire.client.called import Called


class Asking(Called, Filtered):
    """The part of a client that asks: see `lineage.questions`."""

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
        """The ways from one entity to another, shortest first; see `Graph.paths`."""
        check_paths(limit)
        check_count("max_length", max_length, 0)
        check_count("max_walked", max_walked, 2)
        reply: pb.FindPathsResponse = self._call(
            self._stub.FindPaths,
            pb.FindPathsRequest(
                start=uid_of(start),
                end=uid_of(end),
                direction=convert.direction_to_message(as_direction(direction)),
                limit=convert.count_to_message(limit),
                max_length=convert.count_to_message(max_length),
                through=sorted(as_links(through)),
                max_walked=convert.count_to_message(max_walked),
                as_of=convert.as_of_to_message(as_of),
            ),
        )
        return convert_answer.paths_from_message(reply)

    def shortest_path(
        self,
        start: str | Entity,
        end: str | Entity,
        *,
        direction: Direction | str = Direction.EITHER,
        through: Collection[AssociationType | str] | None = None,
        as_of: int | datetime | None = None,
    ) -> LineagePath | None:
        """One shortest way from one entity to another; see `Graph.shortest_path`."""
        found = self.paths(start, end, direction=direction, limit=1, through=through, as_of=as_of)
        return found[0] if found else None

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
        check_count("depth", depth, 0)
        check_count("limit", limit, 1)
        request = pb.CommonEntitiesRequest(
            entities=map(uid_of, entities),
            depth=convert.count_to_message(depth),
            filter=convert.filter_to_message(wanted),
            through=sorted(as_links(through)),
            limit=convert.count_to_message(limit),
            as_of=convert.as_of_to_message(as_of),
        )
        ask = self._stub.CommonAncestors if upstream else self._stub.CommonDescendants
        direction = Direction.ASCENDANTS if upstream else Direction.DESCENDANTS
        return convert_answer.common_from_message(self._call(ask, request), direction.value)

    def diff(
        self,
        a: str | Entity,
        b: str | Entity,
        *,
        through: Collection[AssociationType | str] | None = None,
        as_of: int | datetime | None = None,
    ) -> LineageDiff:
        """Why two models, or any two entities, differ; see `Graph.diff`."""
        reply: pb.DiffLineageResponse = self._call(
            self._stub.DiffLineage,
            pb.DiffLineageRequest(
                a=uid_of(a),
                b=uid_of(b),
                through=sorted(as_links(through)),
                as_of=convert.as_of_to_message(as_of),
            ),
        )
        return convert_answer.diff_from_message(reply)

    def explain(self, entity: str | Entity, *, as_of: int | datetime | None = None) -> Explanation:
        """Where an entity comes from, and what uses it; see `Graph.explain`."""
        reply: pb.ExplainEntityResponse = self._call(
            self._stub.ExplainEntity,
            pb.ExplainEntityRequest(entity=uid_of(entity), as_of=convert.as_of_to_message(as_of)),
        )
        return convert_answer.explanation_from_message(reply)

    def features(
        self, entity: str | Entity, *, as_of: int | datetime | None = None
    ) -> list[FeatureUse]:
        """The features that feed a model; see `Graph.features`."""
        reply: pb.ListInputFeaturesResponse = self._call(
            self._stub.ListInputFeatures,
            pb.ListInputFeaturesRequest(
                entity=uid_of(entity), as_of=convert.as_of_to_message(as_of)
            ),
        )
        return [convert_answer.use_from_message(use) for use in reply.features]

    def feature_users(
        self,
        entity: str | Entity,
        column: str = "",
        *,
        types: Collection[str] | None = ("Model",),
        as_of: int | datetime | None = None,
    ) -> list[FeatureUse]:
        """The models that use a column; see `Graph.feature_users`."""
        reply: pb.ListFeatureUsersResponse = self._call(
            self._stub.ListFeatureUsers,
            pb.ListFeatureUsersRequest(
                entity=uid_of(entity),
                column=column,
                types=(types,) if isinstance(types, str) else types,
                as_of=convert.as_of_to_message(as_of),
            ),
        )
        return [convert_answer.use_from_message(use) for use in reply.users]
