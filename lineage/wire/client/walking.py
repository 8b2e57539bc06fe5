"""Walking the graph of a server."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from lineage.association import AssociationType
from lineage.column import ColumnResult
from lineage.entity import JSON, Entity, Kind
from lineage.filter import as_filter
from lineage.graph.filtered import Filtered
from lineage.query import Direction, Query, as_direction
from lineage.questions.ask import as_links, check_count, uid_of
from lineage.result import Content, LineageResult
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert, convert_answer
from lineage.wire.client.called import Called
from lineage.wire.subscription_remote import RemoteSubscription, request_of

# Larger answers are read when their entities are first asked for, as embedded.
_PAGE = 5_000


class Walking(Called, Filtered):
    """The part of a client that walks."""

    def _queried(self, query: Query) -> LineageResult:
        request = pb.QueryLineageRequest(
            start=query.start,
            direction=convert.direction_to_message(query.direction),
            depth=convert.count_to_message(query.depth),
            filter=convert.filter_to_message(query.wanted),
            include_edges=query.include_edges,
            max_results=_PAGE,
            through=sorted(query.through),
            limit=convert.count_to_message(query.limit),
            max_walked=convert.count_to_message(query.max_walked),
            as_of=convert.as_of_to_message(query.as_of),
        )
        first: pb.QueryLineageResponse = self._call(self._stub.QueryLineage, request)

        def content() -> Content:
            pages = [first]
            while pages[-1].next_token:
                request.next_token = pages[-1].next_token
                pages.append(self._call(self._stub.QueryLineage, request))
            return _content(pages)

        return LineageResult(
            start=first.start,
            direction=query.direction.value,
            count=first.count,
            truncated=first.truncated,
            content=content,
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
    ) -> RemoteSubscription:
        """Follow what comes within reach of an entity; see `Graph.subscribe`.

        The subscription begins before this returns. When the server goes away, the iteration
        ends with StoreUnavailable: subscribe again with `after` the last match's sequence.
        """
        request = request_of(
            uid_of(start),
            as_direction(direction),
            as_filter(kinds=kinds, types=types, states=states, uris=uris, properties=properties),
            as_links(through),
            after,
        )
        metadata = self._login.call_metadata()
        with self._explained(metadata):
            stream = self._stub.Subscribe(request, metadata=metadata)
            first = next(stream)
        return RemoteSubscription(stream, first.sequence, lambda: self._explained(metadata))

    def columns(
        self,
        start: str | Entity,
        column: str = "",
        direction: Direction | str = Direction.ASCENDANTS,
        *,
        depth: int | None = None,
        as_of: int | datetime | None = None,
    ) -> ColumnResult:
        """Walk from column to column; see `Graph.columns`."""
        check_count("depth", depth, 0)
        reply: pb.QueryColumnsResponse = self._call(
            self._stub.QueryColumns,
            pb.QueryColumnsRequest(
                start=uid_of(start),
                column=column,
                direction=convert.direction_to_message(as_direction(direction)),
                depth=convert.count_to_message(depth),
                as_of=convert.as_of_to_message(as_of),
            ),
        )
        return convert_answer.columns_from_message(reply)


def _content(pages: Sequence[pb.QueryLineageResponse]) -> Content:
    """What a result holds, from all of its pages."""
    found: list[Entity] = []
    on_paths: list[Entity] = []
    depths: dict[str, int] = {}
    for page in pages:
        for message, depth, matches in zip(page.entities, page.depths, page.matches, strict=True):
            entity = convert.entity_from_reply(message)
            (found if matches else on_paths).append(entity)
            depths[entity.uid] = depth
    links = [(one.source, one.destination, one.type) for page in pages for one in page.associations]
    return Content(found, on_paths, depths, lambda: links)
