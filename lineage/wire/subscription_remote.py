"""Standing queries over the network: their messages, and the matches of a stream."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, final

from lineage.errors import LineageError
from lineage.filter import Filter
from lineage.graph import Graph
from lineage.query import Direction
from lineage.subscription import Match, Subscription
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert


@final
class RemoteSubscription:
    """The matches of a standing query on a server: an iterator that waits.

    Args:
        stream: the call, begun.
        position: sequence that it began behind.
        explained: turns errors of the call into those of this package.
    """

    def __init__(
        self,
        stream: Any,
        position: int,
        explained: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._stream = stream
        self._explained = explained
        self._closed = False
        self.position = position

    def close(self) -> None:
        """End the iteration, also one that waits in another thread; idempotent."""
        self._closed = True
        self._stream.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Match:
        try:
            with self._explained():
                match = match_from_message(next(self._stream))
        except LineageError:
            if self._closed:
                raise StopIteration from None
            raise
        self.position = match.sequence
        return match

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def request_of(
    start: str,
    direction: Direction,
    wanted: Filter,
    through: Collection[str],
    after: int | None,
) -> pb.SubscribeRequest:
    """A standing query as a message."""
    return pb.SubscribeRequest(
        start=start,
        direction=convert.direction_to_message(direction),
        filter=convert.filter_to_message(wanted),
        through=sorted(through),
        after=after,
    )


def subscribed(graph: Graph, request: pb.SubscribeRequest) -> Subscription:
    """The standing query that a message asks for; errors as for `Graph.subscribe`."""
    wanted = convert.filter_arguments(request.filter)
    return graph.subscribe(
        request.start,
        convert.direction_from_message(request.direction),
        types=wanted["types"],
        kinds=wanted["kinds"],
        states=wanted["states"],
        uris=wanted["uris"],
        properties=wanted.get("properties"),
        through=request.through,
        after=request.after if request.HasField("after") else None,
    )


def match_to_message(match: Match) -> pb.SubscribeResponse:
    """A match as a message."""
    return pb.SubscribeResponse(
        sequence=match.sequence,
        time=convert.timestamp(match.time),
        actor=match.actor,
        kind=match.kind,
        event_uid=match.event_uid,
        reached=map(convert.entity_to_message, match.reached),
        changed=map(convert.entity_to_message, match.changed),
        lost=match.lost,
    )


def match_from_message(message: pb.SubscribeResponse) -> Match:
    """A match."""
    return Match(
        message.sequence,
        convert.moment_of(message.time),
        message.actor,
        message.kind,
        message.event_uid,
        tuple(map(convert.entity_from_reply, message.reached)),
        tuple(map(convert.entity_from_reply, message.changed)),
        tuple(message.lost),
    )
