"""The gRPC service lineage.v1.Lineage over a graph."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, final

import grpc

from lineage import convert
from lineage.entity import End, Entity, derived_uid
from lineage.errors import InvalidQuery, LineageError
from lineage.graph import Graph
from lineage.trailer import fit_text
from lineage.v1 import lineage_pb2 as pb
from lineage.v1 import lineage_pb2_grpc

Reply = TypeVar("Reply")


@final
class LineageService(lineage_pb2_grpc.LineageServicer):
    """Answers lineage calls on a `grpc.aio` server.

    The work of a call runs on a thread, so that the event loop never waits for the disk
    and calls that record at the same time share commits. An error ends the call with its
    status, and with its class in the trailing metadata; `lineage.connect` raises it again.

    Args:
        graph: open until `close`; the caller closes it.
        threads: most calls at work at once.
    """

    def __init__(self, graph: Graph, *, threads: int = 16) -> None:
        self._graph = graph
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="lineage")

    async def Record(  # noqa: D102 - the proto file says what it promises
        self, request: pb.RecordRequest, context: Any
    ) -> pb.RecordResponse:
        return await self._answer(context, lambda: self._record(request))

    async def DescribeEntity(  # noqa: D102
        self, request: pb.DescribeEntityRequest, context: Any
    ) -> pb.DescribeEntityResponse:
        return await self._answer(context, lambda: self._describe(request))

    async def FindEntities(  # noqa: D102
        self, request: pb.FindEntitiesRequest, context: Any
    ) -> pb.FindEntitiesResponse:
        return await self._answer(context, lambda: self._find(request))

    async def QueryLineage(  # noqa: D102
        self, request: pb.QueryLineageRequest, context: Any
    ) -> pb.QueryLineageResponse:
        return await self._answer(context, lambda: self._query(request))

    async def VerifyLog(  # noqa: D102
        self, request: pb.VerifyLogRequest, context: Any
    ) -> pb.VerifyLogResponse:
        return await self._answer(context, self._verify)

    def close(self) -> None:
        """Wait for the calls at work, and let the threads go."""
        self._threads.shutdown()

    async def _answer(self, context: Any, work: Callable[[], Reply]) -> Reply:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work)
        except LineageError as error:
            await context.abort(
                grpc.StatusCode[error.code], fit_text(str(error)), convert.error_to_metadata(error)
            )
            raise AssertionError("abort never returns") from error

    def _record(self, request: pb.RecordRequest) -> pb.RecordResponse:
        entities = [convert.entity_from_request(message) for message in request.entities]
        # An end may be the uid of an entity of the same request, whose identity the graph
        # may know under another uid.
        ends: dict[str, Entity] = {}
        for entity in entities:
            ends[entity.uid or derived_uid(entity)] = entity

        def end(uid: str) -> End:
            return ends.get(uid, uid)

        recorded = self._graph.record(
            entities,
            [(end(a.source), end(a.destination), a.type) for a in request.associations],
            kind=request.kind,
            event_uid=request.event_uid or None,
            actor=request.actor or None,
            cycles="allow" if request.cycles else "refuse",
        )
        return pb.RecordResponse(
            sequence=recorded.sequence,
            entities=[convert.entity_to_message(entity) for entity in recorded.entities],
        )

    def _describe(self, request: pb.DescribeEntityRequest) -> pb.DescribeEntityResponse:
        entity = self._graph.entity(request.uid)
        return pb.DescribeEntityResponse(entity=convert.entity_to_message(entity))

    def _find(self, request: pb.FindEntitiesRequest) -> pb.FindEntitiesResponse:
        """On the wire a field that is empty was not given."""
        found = self._graph.find(
            kind=convert.kind_from_message(request.kind) if request.kind else None,
            type=request.type or None,
            name=request.name or None,
            source_uri=request.source_uri or None,
        )
        return pb.FindEntitiesResponse(entities=map(convert.entity_to_message, found))

    def _query(self, request: pb.QueryLineageRequest) -> pb.QueryLineageResponse:
        """Answer with matching entities and those on the paths, nearest first, a page at a time.

        A page ends with the uid of its last entity in the token, and the next
        starts behind it: what is recorded in between may show or not, and nothing
        shows twice. An association is in the page of the later of its ends.
        """
        if request.depth < 0 or request.max_results < 0:
            raise InvalidQuery(
                f"depth and max_results: expected 0 or more; got {request.depth} "
                f"and {request.max_results}"
            )
        result = self._graph.query(
            request.start,
            convert.direction_from_message(request.direction),
            depth=request.depth if request.HasField("depth") else None,
            types=request.types,
            kinds=[convert.kind_from_message(kind) for kind in request.kinds],
            include_edges=request.include_edges,
        )
        depths = result.depths
        entities = sorted(
            (*result.entities, *result.path_entities), key=lambda entity: depths[entity.uid]
        )
        places = {entity.uid: place for place, entity in enumerate(entities)}
        first = places[_last_uid(request.next_token, places)] + 1 if request.next_token else 0
        end = first + request.max_results if request.max_results else len(entities)
        return pb.QueryLineageResponse(
            entities=[convert.entity_to_message(entity) for entity in entities[first:end]],
            associations=[
                convert.association_to_message(association)
                for association in result.associations
                if first <= max(places[association.source], places[association.destination]) < end
            ],
            next_token=_token(entities[end - 1].uid) if end < len(entities) else "",
        )

    def _verify(self) -> pb.VerifyLogResponse:
        report = self._graph.verify()
        return pb.VerifyLogResponse(
            intact=report.intact,
            events=report.events,
            first_altered=report.first_altered or 0,
            reason=report.reason or "",
        )


def _token(uid: str) -> str:
    return base64.urlsafe_b64encode(uid.encode()).decode()


def _last_uid(token: str, places: dict[str, int]) -> str:
    try:
        uid = base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        uid = ""
    if uid not in places:
        raise InvalidQuery(
            "next_token: expected the token of the page before, with the rest of the request "
            "unchanged; start again without one"
        )
    return uid
