"""The gRPC service lineage.v1.Lineage over a graph."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, final

import grpc

from lineage.change import Draft, Recorded
from lineage.collection import Collects
from lineage.errors import InvalidQuery, LineageError
from lineage.graph import Graph, as_draft
from lineage.openlineage.outward import Outward
from lineage.openlineage.tell import MOST, tell
from lineage.query import Direction
from lineage.questions import CommonEntities
from lineage.result import LineageResult
from lineage.v1 import lineage_pb2 as pb
from lineage.v1 import lineage_pb2_grpc
from lineage.wire import (
    convert,
    convert_answer,
    convert_collect,
    convert_proof,
    convert_record,
)
from lineage.wire.exported import Exported
from lineage.wire.pages import Pages
from lineage.wire.subscription_remote import match_to_message, subscribed
from lineage.wire.trailer import fit_text

Reply = TypeVar("Reply")

_LOOK_AGAIN_S = 0.01


@final
class LineageService(lineage_pb2_grpc.LineageServicer):
    """Answers lineage calls on a `grpc.aio` server.

    The work of a call runs on a thread, so that the event loop never waits for the disk
    and calls that record at the same time share commits. An error ends the call with its
    status, and with its class in the trailing metadata; `lineage.connect` raises it again.

    Args:
        graph: open until `close`; the caller closes it.
        threads: most calls at work at once.
        collects: collects the garbage of the graph's home; None: it has none.
        caller: says who makes the call at hand: the actor of what is recorded, unless the call
            names one; None: the user of the process.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        threads: int = 16,
        collects: Collects | None = None,
        caller: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._graph = graph
        self._caller = caller
        self._collects = collects
        self._is_ending = False
        self._pages = Pages()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="lineage")

    async def Record(  # noqa: D102 - the proto file says what it promises
        self, request: pb.RecordRequest, context: Any
    ) -> pb.RecordResponse:
        return await self._answer(context, lambda: self._record(request))

    async def RecordBatch(  # noqa: D102
        self, request: pb.RecordBatchRequest, context: Any
    ) -> pb.RecordBatchResponse:
        return await self._answer(context, lambda: self._record_batch(request))

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
        return await self._answer(context, lambda: self._verify(request))

    async def SearchEntities(  # noqa: D102
        self, request: pb.SearchEntitiesRequest, context: Any
    ) -> pb.SearchEntitiesResponse:
        return await self._answer(context, lambda: self._search(request))

    async def FindPaths(  # noqa: D102
        self, request: pb.FindPathsRequest, context: Any
    ) -> pb.FindPathsResponse:
        return await self._answer(context, lambda: self._paths(request))

    async def CommonAncestors(  # noqa: D102
        self, request: pb.CommonEntitiesRequest, context: Any
    ) -> pb.CommonEntitiesResponse:
        ask = self._graph.common_ancestors
        return await self._answer(context, lambda: self._common(ask, request))

    async def CommonDescendants(  # noqa: D102
        self, request: pb.CommonEntitiesRequest, context: Any
    ) -> pb.CommonEntitiesResponse:
        ask = self._graph.common_descendants
        return await self._answer(context, lambda: self._common(ask, request))

    async def DiffLineage(  # noqa: D102
        self, request: pb.DiffLineageRequest, context: Any
    ) -> pb.DiffLineageResponse:
        return await self._answer(context, lambda: self._diff(request))

    async def ExplainEntity(  # noqa: D102
        self, request: pb.ExplainEntityRequest, context: Any
    ) -> pb.ExplainEntityResponse:
        return await self._answer(context, lambda: self._explain(request))

    async def QueryColumns(  # noqa: D102
        self, request: pb.QueryColumnsRequest, context: Any
    ) -> pb.QueryColumnsResponse:
        return await self._answer(context, lambda: self._columns(request))

    async def ListInputFeatures(  # noqa: D102
        self, request: pb.ListInputFeaturesRequest, context: Any
    ) -> pb.ListInputFeaturesResponse:
        return await self._answer(context, lambda: self._features(request))

    async def ListFeatureUsers(  # noqa: D102
        self, request: pb.ListFeatureUsersRequest, context: Any
    ) -> pb.ListFeatureUsersResponse:
        return await self._answer(context, lambda: self._users(request))

    async def ListRuns(  # noqa: D102
        self, request: pb.ListRunsRequest, context: Any
    ) -> pb.ListRunsResponse:
        return await self._answer(context, lambda: self._runs(request))

    async def ListEvents(  # noqa: D102
        self, request: pb.ListEventsRequest, context: Any
    ) -> pb.ListEventsResponse:
        return await self._answer(context, lambda: self._events(request))

    async def AddTags(  # noqa: D102
        self, request: pb.AddTagsRequest, context: Any
    ) -> pb.AddTagsResponse:
        return await self._answer(context, lambda: self._add_tags(request))

    async def DeleteTags(  # noqa: D102
        self, request: pb.DeleteTagsRequest, context: Any
    ) -> pb.DeleteTagsResponse:
        return await self._answer(context, lambda: self._delete_tags(request))

    async def ListTags(  # noqa: D102
        self, request: pb.ListTagsRequest, context: Any
    ) -> pb.ListTagsResponse:
        return await self._answer(context, lambda: self._tags(request))

    async def DescribeGraph(  # noqa: D102
        self, request: pb.DescribeGraphRequest, context: Any
    ) -> pb.DescribeGraphResponse:
        return await self._answer(context, lambda: self._describe_graph(request))

    async def Subscribe(  # noqa: D102
        self, request: pb.SubscribeRequest, context: Any
    ) -> AsyncIterator[pb.SubscribeResponse]:
        # A look at the log takes a thread for a moment: none is held while nothing is recorded.
        following = await self._answer(context, lambda: subscribed(self._graph, request))
        with following:
            yield pb.SubscribeResponse(sequence=following.position)
            while True:
                if self._is_ending:
                    await context.abort(
                        grpc.StatusCode.UNAVAILABLE,
                        "the server ends; subscribe again, after the last match",
                    )
                match = await self._answer(context, following.poll)
                if match is None:
                    await asyncio.sleep(_LOOK_AGAIN_S)
                else:
                    yield match_to_message(match)

    async def MakeCheckpoint(  # noqa: D102
        self, request: pb.MakeCheckpointRequest, context: Any
    ) -> pb.MakeCheckpointResponse:
        made = await self._answer(context, self._graph.checkpoint)
        return pb.MakeCheckpointResponse(checkpoint=convert_proof.checkpoint_to_message(made))

    async def ListCheckpoints(  # noqa: D102
        self, request: pb.ListCheckpointsRequest, context: Any
    ) -> pb.ListCheckpointsResponse:
        made = await self._answer(context, self._graph.checkpoints)
        return pb.ListCheckpointsResponse(
            checkpoints=map(convert_proof.checkpoint_to_message, made)
        )

    async def ProveEntity(  # noqa: D102
        self, request: pb.ProveEntityRequest, context: Any
    ) -> pb.ProveEntityResponse:
        return await self._answer(context, lambda: self._prove(request))

    async def ProveGrowth(  # noqa: D102
        self, request: pb.ProveGrowthRequest, context: Any
    ) -> pb.ProveGrowthResponse:
        return await self._answer(context, lambda: self._prove_growth(request))

    async def RebuildGraph(  # noqa: D102
        self, request: pb.RebuildGraphRequest, context: Any
    ) -> pb.RebuildGraphResponse:
        events = await self._answer(context, self._graph.rebuild)
        return pb.RebuildGraphResponse(events=events)

    async def ReplaySpool(  # noqa: D102
        self, request: pb.ReplaySpoolRequest, context: Any
    ) -> pb.ReplaySpoolResponse:
        return await self._answer(context, self._replay_spool)

    async def ExportGraph(  # noqa: D102
        self, request: pb.ExportGraphRequest, context: Any
    ) -> AsyncIterator[pb.ExportGraphResponse]:
        exported = await self._answer(context, lambda: Exported(self._graph, request))
        try:
            while (message := await self._answer(context, exported.next)) is not None:
                yield message
        finally:
            exported.close()

    async def ListOpenLineageEvents(  # noqa: D102
        self, request: pb.ListOpenLineageEventsRequest, context: Any
    ) -> pb.ListOpenLineageEventsResponse:
        return await self._answer(context, lambda: self._tell(request))

    async def CollectGarbage(  # noqa: D102
        self, request: pb.CollectGarbageRequest, context: Any
    ) -> pb.CollectGarbageResponse:
        return await self._answer(context, lambda: self._collect(request))

    def end_streams(self) -> None:
        """End the calls that would go on for ever."""
        self._is_ending = True

    def close(self) -> None:
        """Wait for the calls at work, and let the threads go."""
        self._threads.shutdown()

    async def _answer(self, context: Any, work: Callable[[], Reply]) -> Reply:
        loop = asyncio.get_running_loop()
        try:
            # The context knows who calls.
            return await loop.run_in_executor(self._threads, partial(copy_context().run, work))
        except LineageError as error:
            await context.abort(
                grpc.StatusCode[error.code], fit_text(str(error)), convert.error_to_metadata(error)
            )
            raise AssertionError("abort never returns") from error

    def _record(self, request: pb.RecordRequest) -> pb.RecordResponse:
        recorded = self._graph.record(**self._said(request))
        return convert_record.recorded_to_message(recorded)

    def _said(self, request: pb.RecordRequest) -> dict[str, Any]:
        return convert_record.record_arguments(request, by=self._caller())

    def _record_batch(self, request: pb.RecordBatchRequest) -> pb.RecordBatchResponse:
        """Record what can be read in one transaction; what is refused leaves the others in."""
        outcomes: list[Draft | Recorded | LineageError] = []
        for event in request.events:
            try:
                outcomes.append(as_draft(**self._said(event)))
            except LineageError as error:
                outcomes.append(error)
        drafts = [one for one in outcomes if isinstance(one, Draft)]
        recorded = iter(self._graph.record_all(drafts) if drafts else ())
        return pb.RecordBatchResponse(
            outcomes=[
                convert_record.outcome_to_message(next(recorded) if isinstance(one, Draft) else one)
                for one in outcomes
            ]
        )

    def _replay_spool(self) -> pb.ReplaySpoolResponse:
        done = self._graph.replay_spool()
        spool = self._graph.spool
        return pb.ReplaySpoolResponse(
            recorded=done.recorded,
            refused=done.refused,
            waiting=0 if spool is None else spool.waiting(),
        )

    def _tell(self, request: pb.ListOpenLineageEventsRequest) -> pb.ListOpenLineageEventsResponse:
        if request.after < 0 or not 0 <= request.limit <= MOST:
            raise InvalidQuery(
                f"after: expected 0 or more, limit: 0 to {MOST}; got {request.after} "
                f"and {request.limit}"
            )
        outward = Outward(request.namespace or "featureline", producer=request.producer)
        found = tell(self._graph, request.after, outward, limit=request.limit)
        return pb.ListOpenLineageEventsResponse(
            told=[
                pb.ListOpenLineageEventsResponse.Told(sequence=one.sequence, events=one.events)
                for one in found.told
            ],
            last=found.last,
        )

    def _collect(self, request: pb.CollectGarbageRequest) -> pb.CollectGarbageResponse:
        if self._collects is None:
            raise InvalidQuery(
                "this server keeps a graph alone, and no home that could be collected; ask the "
                "server of a home, as `featureline serve` starts it"
            )
        found = self._collects(
            apply=request.apply,
            keep=list(request.keep),
            older_than=convert_collect.age_from_message(request),
            kinds=list(request.kinds),
        )
        return convert_collect.collection_to_message(found)

    def _describe(self, request: pb.DescribeEntityRequest) -> pb.DescribeEntityResponse:
        as_of = convert.as_of_from_message(request.as_of)
        entity = self._graph.entity(request.uid, as_of=as_of)
        return pb.DescribeEntityResponse(entity=convert.entity_to_message(entity))

    def _find(self, request: pb.FindEntitiesRequest) -> pb.FindEntitiesResponse:
        """On the wire a field that is empty was not given."""
        found = self._graph.find(
            kind=convert.kind_from_message(request.kind) if request.kind else None,
            type=request.type or None,
            name=request.name or None,
            source_uri=request.source_uri or None,
            as_of=convert.as_of_from_message(request.as_of),
        )
        return pb.FindEntitiesResponse(entities=map(convert.entity_to_message, found))

    def _query(self, request: pb.QueryLineageRequest) -> pb.QueryLineageResponse:
        """Answer with matching entities and those on the paths, nearest first.

        A page shows the graph as it was for the first one, whatever is recorded in between, and
        the walk is not repeated for each. An association is in the page of the later of its ends.
        """
        if request.depth < 0 or request.max_results < 0:
            raise InvalidQuery(
                f"depth and max_results: expected 0 or more; got {request.depth} "
                f"and {request.max_results}"
            )
        direction = convert.direction_from_message(request.direction)
        given = convert.filter_arguments(request.filter)
        given["types"] += request.types
        given["kinds"] += [convert.kind_from_message(kind) for kind in request.kinds]

        def ask(as_of: int | datetime | None) -> LineageResult:
            return self._graph.query(
                request.start,
                direction,
                depth=request.depth if request.HasField("depth") else None,
                through=request.through,
                include_edges=request.include_edges,
                limit=request.limit if request.HasField("limit") else None,
                max_walked=request.max_walked if request.HasField("max_walked") else None,
                as_of=as_of,
                **given,
            )

        def sequence(time: datetime | None) -> int:
            return self._graph.last_sequence() if time is None else self._graph.sequence_at(time)

        return self._pages.answer(request, ask, sequence)

    def _verify(self, request: pb.VerifyLogRequest) -> pb.VerifyLogResponse:
        kept = [convert_proof.checkpoint_from_message(one) for one in request.against]
        report = self._graph.verify(against=kept, projections=request.projections)
        return pb.VerifyLogResponse(
            intact=report.intact,
            events=report.events,
            first_altered=report.first_altered or 0,
            reason=report.reason or "",
            checkpoints=report.checkpoints,
        )

    def _search(self, request: pb.SearchEntitiesRequest) -> pb.SearchEntitiesResponse:
        found = self._graph.search(
            name=request.name or None,
            source_uri=request.source_uri or None,
            content_hash=request.content_hash or None,
            tags={tag.key: tag.value if tag.HasField("value") else None for tag in request.tags},
            limit=request.limit if request.HasField("limit") else None,
            as_of=convert.as_of_from_message(request.as_of),
            **convert.filter_arguments(request.filter),
        )
        return pb.SearchEntitiesResponse(entities=map(convert.entity_to_message, found))

    def _paths(self, request: pb.FindPathsRequest) -> pb.FindPathsResponse:
        found = self._graph.paths(
            request.start,
            request.end,
            direction=convert.direction_from_message(request.direction)
            if request.direction
            else Direction.EITHER,
            limit=request.limit or 10,
            max_length=request.max_length if request.HasField("max_length") else None,
            through=request.through,
            max_walked=request.max_walked if request.HasField("max_walked") else None,
            as_of=convert.as_of_from_message(request.as_of),
        )
        return convert_answer.paths_to_message(found)

    def _common(
        self, ask: Callable[..., CommonEntities], request: pb.CommonEntitiesRequest
    ) -> pb.CommonEntitiesResponse:
        found = ask(
            *request.entities,
            depth=request.depth if request.HasField("depth") else None,
            through=request.through,
            limit=request.limit if request.HasField("limit") else None,
            as_of=convert.as_of_from_message(request.as_of),
            **convert.filter_arguments(request.filter),
        )
        return convert_answer.common_to_message(found)

    def _diff(self, request: pb.DiffLineageRequest) -> pb.DiffLineageResponse:
        as_of = convert.as_of_from_message(request.as_of)
        found = self._graph.diff(request.a, request.b, through=request.through, as_of=as_of)
        return convert_answer.diff_to_message(found)

    def _explain(self, request: pb.ExplainEntityRequest) -> pb.ExplainEntityResponse:
        as_of = convert.as_of_from_message(request.as_of)
        return convert_answer.explanation_to_message(
            self._graph.explain(request.entity, as_of=as_of)
        )

    def _columns(self, request: pb.QueryColumnsRequest) -> pb.QueryColumnsResponse:
        found = self._graph.columns(
            request.start,
            request.column,
            convert.direction_from_message(request.direction),
            depth=request.depth if request.HasField("depth") else None,
            as_of=convert.as_of_from_message(request.as_of),
        )
        return convert_answer.columns_to_message(found)

    def _features(self, request: pb.ListInputFeaturesRequest) -> pb.ListInputFeaturesResponse:
        as_of = convert.as_of_from_message(request.as_of)
        found = self._graph.features(request.entity, as_of=as_of)
        return pb.ListInputFeaturesResponse(features=map(convert_answer.use_to_message, found))

    def _users(self, request: pb.ListFeatureUsersRequest) -> pb.ListFeatureUsersResponse:
        found = self._graph.feature_users(
            request.entity,
            request.column,
            types=request.types,
            as_of=convert.as_of_from_message(request.as_of),
        )
        return pb.ListFeatureUsersResponse(users=map(convert_answer.use_to_message, found))

    def _runs(self, request: pb.ListRunsRequest) -> pb.ListRunsResponse:
        as_of = convert.as_of_from_message(request.as_of)
        found = self._graph.runs(request.entity, as_of=as_of)
        return pb.ListRunsResponse(runs=map(convert.run_to_message, found))

    def _events(self, request: pb.ListEventsRequest) -> pb.ListEventsResponse:
        found = self._graph.events(
            request.entity or None,
            kinds=request.kinds,
            actors=request.actors,
            since=convert.time_of(request.since),
            until=convert.time_of(request.until),
            before=request.before if request.HasField("before") else None,
            limit=request.limit or 100,
        )
        return pb.ListEventsResponse(events=map(convert_answer.event_to_message, found))

    def _add_tags(self, request: pb.AddTagsRequest) -> pb.AddTagsResponse:
        recorded = self._graph.add_tags(
            request.entity, request.tags, actor=request.actor or self._caller()
        )
        return pb.AddTagsResponse(sequence=recorded.sequence)

    def _delete_tags(self, request: pb.DeleteTagsRequest) -> pb.DeleteTagsResponse:
        recorded = self._graph.delete_tags(
            request.entity, request.keys, actor=request.actor or self._caller()
        )
        return pb.DeleteTagsResponse(sequence=recorded.sequence)

    def _tags(self, request: pb.ListTagsRequest) -> pb.ListTagsResponse:
        as_of = convert.as_of_from_message(request.as_of)
        return pb.ListTagsResponse(tags=self._graph.tags(request.entity, as_of=as_of))

    def _describe_graph(self, request: pb.DescribeGraphRequest) -> pb.DescribeGraphResponse:
        if request.HasField("time"):
            time = convert.moment_of(request.time)
            return pb.DescribeGraphResponse(sequence=self._graph.sequence_at(time))
        return pb.DescribeGraphResponse(
            counts=self._graph.stats(), sequence=self._graph.last_sequence()
        )

    def _prove(self, request: pb.ProveEntityRequest) -> pb.ProveEntityResponse:
        kept = request.checkpoint if request.HasField("checkpoint") else None
        proof = self._graph.prove(
            request.sequence or request.entity,
            None if kept is None else convert_proof.checkpoint_from_message(kept),
        )
        return convert_proof.proof_to_message(proof)

    def _prove_growth(self, request: pb.ProveGrowthRequest) -> pb.ProveGrowthResponse:
        later = request.later if request.HasField("later") else None
        proof = self._graph.prove_growth(
            convert_proof.checkpoint_from_message(request.earlier),
            None if later is None else convert_proof.checkpoint_from_message(later),
        )
        return convert_proof.growth_to_message(proof)
