"""The lineage graph of a server, over gRPC, in the words of `Graph`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, final

import grpc

from lineage import convert
from lineage.association import as_association_type
from lineage.change import Recorded
from lineage.channel import ClientTls, Login
from lineage.entity import End, Entity, Kind, as_kind, derived_uid
from lineage.errors import (
    AccessDenied,
    LineageError,
    StoreClosed,
    StoreUnavailable,
    Unauthenticated,
)
from lineage.filter import Filter, as_filter
from lineage.handshake import why_unreachable
from lineage.log import LogReport, new_uid
from lineage.query import Direction, Picked, Query, as_query, pick
from lineage.result import LineageResult
from lineage.store import Edge
from lineage.v1 import lineage_pb2 as pb
from lineage.v1 import lineage_pb2_grpc

Reply = TypeVar("Reply")


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    plaintext_token: bool = False,
    timeout_s: float = 30.0,
) -> LineageClient:
    """The lineage graph of the server at `target` (`host:port`).

    Connects with the first call.

    Args:
        target: address of the server.
        token: as `featureline token create` printed it; None: `$FEATURELINE_TOKEN`, if set.
        tls: None: as `$FEATURELINE_TLS_CA`, `_CERT` and `_KEY` say, else plaintext.
        plaintext_token: send the token in plaintext to other machines, too; see
            `featurestore.connect`.
        timeout_s: for each call, in seconds.

    Raises:
        InvalidLogin: the token or the files of TLS cannot be used, or the token would travel to
            another machine in clear text.
    """
    options = [
        ("grpc.max_send_message_length", convert.MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", -1),
    ]
    login = Login.of(token, tls, plaintext_token=plaintext_token)
    return LineageClient(
        login.channel(target, options), target=target, login=login, timeout_s=timeout_s
    )


@final
class LineageClient:
    """A lineage graph somewhere else: record, look up, walk, verify.

    The methods promise what those of `Graph` of the same name do, and raise the same
    errors. When no server answers, that is StoreUnavailable. Integers beyond 2^53 in
    properties arrive as text.

    Args:
        channel: closed by `close`.
        target: where it leads, for messages.
        login: what made the channel, and each call carries.
        timeout_s: for each call, in seconds.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        target: str,
        login: Login,
        timeout_s: float,
    ) -> None:
        self._channel = channel
        self._target = target
        self._timeout_s = timeout_s
        self._login = login
        self._stub = lineage_pb2_grpc.LineageStub(channel)

    def record(
        self,
        entities: Sequence[Entity],
        associations: Sequence[tuple[End, End, str]] = (),
        *,
        kind: str,
        event_uid: str | None = None,
        actor: str | None = None,
        cycles: Literal["refuse", "allow"] = "refuse",
    ) -> Recorded:
        """Append one event; see `Graph.record`.

        An entity that only stands in an association is sent along as one to record,
        unless it came from the graph.
        """
        given = {entity.uid or derived_uid(entity) for entity in entities}
        extra: dict[str, Entity] = {}

        def end(value: End) -> str:
            if isinstance(value, str):
                return value
            uid = value.uid or derived_uid(value)
            if uid not in given and value.created is None:
                extra[uid] = value
            return uid

        messages = [
            pb.Association(
                source=end(source),
                destination=end(destination),
                type=as_association_type(link).value,
            )
            for source, destination, link in associations
        ]
        reply: pb.RecordResponse = self._call(
            self._stub.Record,
            pb.RecordRequest(
                # Settled here, so that a call that gRPC sends twice is recorded once.
                event_uid=new_uid() if event_uid is None else event_uid,
                actor=actor or "",
                kind=kind,
                entities=map(convert.entity_to_message, (*entities, *extra.values())),
                associations=messages,
                cycles=cycles == "allow",
            ),
        )
        stored = [convert.entity_from_reply(entity) for entity in reply.entities]
        return Recorded(reply.sequence, tuple(stored[: len(entities)]))

    def entity(self, uid: str) -> Entity:
        """The entity with this uid; see `Graph.entity`."""
        reply: pb.DescribeEntityResponse = self._call(
            self._stub.DescribeEntity, pb.DescribeEntityRequest(uid=uid)
        )
        return convert.entity_from_reply(reply.entity)

    def find(
        self,
        kind: Kind | str | None = None,
        type: str | None = None,
        name: str | None = None,
        source_uri: str | None = None,
    ) -> list[Entity]:
        """The entities equal in every field given, oldest first; see `Graph.find`.

        An empty text counts as not given.
        """
        reply: pb.FindEntitiesResponse = self._call(
            self._stub.FindEntities,
            pb.FindEntitiesRequest(
                kind=None if kind is None else convert.kind_to_message(as_kind(kind)),
                type=type,
                name=name,
                source_uri=source_uri,
            ),
        )
        return [convert.entity_from_reply(entity) for entity in reply.entities]

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
        """Walk from one entity; see `Graph.query`."""
        query = as_query(
            start,
            direction,
            depth=depth,
            wanted=as_filter(kinds=kinds, types=types),
            include_edges=include_edges,
            limit=limit,
        )
        filtered = bool(query.wanted)
        reply: pb.QueryLineageResponse = self._call(
            self._stub.QueryLineage,
            pb.QueryLineageRequest(
                start=query.start,
                direction=convert.direction_to_message(query.direction),
                depth=query.depth,
                types=sorted(query.wanted.types),
                kinds=sorted(map(convert.kind_to_message, query.wanted.kinds)),
                # The reply has no depths: they follow from the associations.
                include_edges=True,
                max_results=0 if filtered else query.limit or 0,
            ),
        )
        answer = _Answer(reply)
        picked = answer.pick(query)
        return LineageResult(
            start=query.start,
            direction=query.direction.value,
            count=len(picked.found),
            truncated=picked.truncated or bool(reply.next_token),
            content=lambda: picked.content(*picked.read(answer.entities_of)),
        )

    def verify(self) -> LogReport:
        """Check the log of the server; see `Graph.verify`."""
        reply: pb.VerifyLogResponse = self._call(self._stub.VerifyLog, pb.VerifyLogRequest())
        return LogReport(
            reply.intact, reply.events, reply.first_altered or None, reply.reason or None
        )

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Reply], request: object) -> Reply:
        metadata = self._login.call_metadata()
        try:
            return method(request, timeout=self._timeout_s, metadata=metadata)
        except ValueError as error:  # gRPC's way to say that the channel is closed
            raise StoreClosed() from error
        except grpc.RpcError as error:
            failure = _to_error(error, self._target, self._login)
            failure.request_id = metadata[0][1]
            raise failure from error


@final
class _Answer:
    """A reply as the small graph that it is; node n is its n-th entity."""

    def __init__(self, reply: pb.QueryLineageResponse) -> None:
        self._entities = [convert.entity_from_reply(entity) for entity in reply.entities]
        self._nodes = {entity.uid: node for node, entity in enumerate(self._entities)}
        self._upstream: dict[int, list[Edge]] = {}
        self._downstream: dict[int, list[Edge]] = {}
        for association in reply.associations:
            source = self._nodes[association.source]
            destination = self._nodes[association.destination]
            edge = (source, destination, association.type)
            self._upstream.setdefault(destination, []).append(edge)
            self._downstream.setdefault(source, []).append(edge)

    def pick(self, query: Query) -> Picked:
        """Walk again: what the server found, cut to depth and limit, with its depths."""
        start = self._nodes.get(query.start)
        if start is None:  # nothing matched
            return Picked([], [], {}, False, list)
        return pick(query, start, self._neighbours, self._matching)

    def entities_of(self, nodes: Sequence[int]) -> list[Entity]:
        """The entities of nodes."""
        return [self._entities[node] for node in nodes]

    def _neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        edges = self._upstream if upstream else self._downstream
        return list(chain.from_iterable(edges.get(node, ()) for node in nodes))

    def _matching(self, nodes: Sequence[int], wanted: Filter) -> list[int]:
        return [node for node in nodes if wanted.matches(self._entities[node])]


def _to_error(error: Any, target: str, login: Login) -> LineageError:
    """What a failed call means to the caller; the RpcError of a call is a `grpc.Call` too."""
    details = error.details() or ""
    known = convert.error_from_metadata(tuple(error.trailing_metadata() or ()), details)
    if known is not None:
        return known
    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        why = why_unreachable(details, target, login.tls)
        return StoreUnavailable(
            f"no lineage server answers at {target} ({code.name}: {details}); "
            f"{why or 'check that it runs and that the address is right'}"
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:  # said by somebody between us and the server
        return Unauthenticated(f"{target}: {details}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return AccessDenied(f"{target}: {details}")
    return LineageError(f"the lineage server at {target} failed: {code.name}: {details}")
