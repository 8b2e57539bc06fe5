"""The lineage graph of a server, over gRPC, in the words of `Graph`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, final

import grpc

from lineage.association import AssociationType
from lineage.change import Draft, Recorded
from lineage.collection import KINDS
from lineage.collection import Collection as Collected
from lineage.column import ColumnLineage, ColumnResult
from lineage.entity import JSON, End, Entity, Kind, as_kind
from lineage.errors import (
    AccessDenied,
    EntityNotFound,
    LineageError,
    StoreClosed,
    StoreUnavailable,
    Unauthenticated,
)
from lineage.filter import Filter, as_filter
from lineage.graph.filtered import Filtered
from lineage.log import LogReport
from lineage.proofs.checkpoint import Checkpoint
from lineage.proofs.proof import GrowthProof, Proof
from lineage.query import Direction, Query, as_direction, check_as_of
from lineage.questions import (
    CommonEntities,
    EventSummary,
    Explanation,
    FeatureUse,
    LineageDiff,
    LineagePath,
    Paths,
)
from lineage.questions.ask import as_links, check_count, check_paths, check_time, uid_of
from lineage.result import Content, LineageResult
from lineage.run import Run
from lineage.spool import Replayed
from lineage.v1 import lineage_pb2 as pb
from lineage.v1 import lineage_pb2_grpc
from lineage.wire import (
    convert,
    convert_answer,
    convert_collect,
    convert_proof,
    convert_record,
)
from lineage.wire.channel import ClientTls, Login
from lineage.wire.handshake import why_unreachable
from lineage.wire.subscription_remote import RemoteSubscription, request_of

Reply = TypeVar("Reply")

# Larger answers are read when their entities are first asked for, as embedded.
_PAGE = 5_000
# One event may be half as large, and the server takes twice as much.
_BATCH_BYTES = 32 << 20
_COUNTS = ("events", "entities", "associations")


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
class LineageClient(Filtered):
    """A lineage graph somewhere else: record, look up, walk, ask, verify.

    The methods promise what those of `Graph` of the same name do, and raise the same
    errors. When no server answers, that is StoreUnavailable.

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
        """Append one event; see `Graph.record`.

        An end that came from a graph is sent as its uid.
        """
        request = convert_record.record_to_message(
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
        return convert_record.recorded_from_message(self._call(self._stub.Record, request))

    def record_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Append several events; see `Graph.record_all`.

        More than 32 MiB of them are several calls, and each is a transaction.
        """
        outcomes: list[Recorded | LineageError] = []
        for batch in _batches(map(convert_record.draft_to_message, drafts)):
            reply: pb.RecordBatchResponse = self._call(
                self._stub.RecordBatch, pb.RecordBatchRequest(events=batch)
            )
            outcomes += map(convert_record.outcome_from_message, reply.outcomes)
        return outcomes

    def entity(self, uid: str, *, as_of: int | datetime | None = None) -> Entity:
        """The entity with this uid or alias; see `Graph.entity`."""
        reply: pb.DescribeEntityResponse = self._call(
            self._stub.DescribeEntity,
            pb.DescribeEntityRequest(uid=uid, as_of=convert.as_of_to_message(as_of)),
        )
        return convert.entity_from_reply(reply.entity)

    def get(self, uid: str, *, as_of: int | datetime | None = None) -> Entity | None:
        """The entity with this uid, or None; see `Graph.get`."""
        try:
            known = self.entity(uid, as_of=as_of)
        except EntityNotFound:
            return None
        return known if known.uid == uid else None

    def find(
        self,
        kind: Kind | str | None = None,
        type: str | None = None,
        name: str | None = None,
        source_uri: str | None = None,
        *,
        as_of: int | datetime | None = None,
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
                as_of=convert.as_of_to_message(as_of),
            ),
        )
        return [convert.entity_from_reply(entity) for entity in reply.entities]

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

    def runs(self, job: str | Entity, *, as_of: int | datetime | None = None) -> list[Run]:
        """The executions of a job; see `Graph.runs`."""
        reply: pb.ListRunsResponse = self._call(
            self._stub.ListRuns,
            pb.ListRunsRequest(entity=uid_of(job), as_of=convert.as_of_to_message(as_of)),
        )
        return [convert.run_from_message(run) for run in reply.runs]

    def tags(self, entity: str | Entity, *, as_of: int | datetime | None = None) -> dict[str, str]:
        """The tags of an entity; see `Graph.tags`."""
        reply: pb.ListTagsResponse = self._call(
            self._stub.ListTags,
            pb.ListTagsRequest(entity=uid_of(entity), as_of=convert.as_of_to_message(as_of)),
        )
        return dict(reply.tags)

    def tagged(
        self, key: str, value: str | None = None, *, as_of: int | datetime | None = None
    ) -> list[Entity]:
        """The entities with a tag, oldest first; see `Graph.tagged`."""
        return self.search(tags={key: value}, as_of=as_of)[::-1]

    def _searched(
        self,
        wanted: Filter,
        *,
        name: str | None,
        source_uri: str | None,
        content_hash: str | None,
        tags: Mapping[str, str | None],
        limit: int | None,
        as_of: int | datetime | None,
    ) -> list[Entity]:
        """Ask the server; an empty text counts as not given."""
        check_count("limit", limit, 1)
        reply: pb.SearchEntitiesResponse = self._call(
            self._stub.SearchEntities,
            pb.SearchEntitiesRequest(
                filter=convert.filter_to_message(wanted),
                name=name,
                source_uri=source_uri,
                content_hash=content_hash,
                tags=[pb.Tag(key=key, value=value) for key, value in tags.items()],
                limit=convert.count_to_message(limit),
                as_of=convert.as_of_to_message(as_of),
            ),
        )
        return [convert.entity_from_reply(entity) for entity in reply.entities]

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
        """The newest events of the log; see `Graph.events`."""
        check_count("limit", limit, 1, is_optional=False)
        check_count("before", before, 1)
        check_time("since", since)
        check_time("until", until)
        reply: pb.ListEventsResponse = self._call(
            self._stub.ListEvents,
            pb.ListEventsRequest(
                entity=None if entity is None else uid_of(entity),
                kinds=(kinds,) if isinstance(kinds, str) else kinds,
                actors=(actors,) if isinstance(actors, str) else actors,
                since=convert.timestamp(since),
                until=convert.timestamp(until),
                before=None if before is None else min(before, convert.MAX_SEQUENCE),
                limit=convert.count_to_message(limit),
            ),
        )
        return [convert_answer.event_from_message(event) for event in reply.events]

    def add_tags(
        self, entity: str | Entity, tags: Mapping[str, str], *, actor: str | None = None
    ) -> Recorded:
        """Put tags on an entity; see `Graph.add_tags`."""
        reply: pb.AddTagsResponse = self._call(
            self._stub.AddTags,
            pb.AddTagsRequest(entity=uid_of(entity), tags=tags, actor=actor or ""),
        )
        return Recorded(reply.sequence, ())

    def delete_tags(
        self, entity: str | Entity, keys: Collection[str], *, actor: str | None = None
    ) -> Recorded:
        """Take tags off an entity; see `Graph.delete_tags`."""
        gone = (keys,) if isinstance(keys, str) else keys
        reply: pb.DeleteTagsResponse = self._call(
            self._stub.DeleteTags,
            pb.DeleteTagsRequest(entity=uid_of(entity), keys=gone, actor=actor or ""),
        )
        return Recorded(reply.sequence, ())

    def sequence_at(self, time: datetime) -> int:
        """The sequence of the last event recorded at or before a time; see `Graph.sequence_at`."""
        check_as_of(time)
        reply: pb.DescribeGraphResponse = self._call(
            self._stub.DescribeGraph, pb.DescribeGraphRequest(time=convert.timestamp(time))
        )
        return reply.sequence

    def last_sequence(self) -> int:
        """The sequence of the last event; 0 when there is none."""
        return self._describe_graph().sequence

    def stats(self) -> dict[str, int]:
        """How many `events`, `entities` and `associations` there are; see `Graph.stats`."""
        counts = self._describe_graph().counts
        return {name: counts[name] for name in sorted(counts, key=_COUNTS.index)}

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

    def verify(self, *, projections: bool = False, against: Sequence[Checkpoint] = ()) -> LogReport:
        """Check the log of the server; see `Graph.verify`."""
        kept = map(convert_proof.checkpoint_to_message, against)
        reply: pb.VerifyLogResponse = self._call(
            self._stub.VerifyLog,
            pb.VerifyLogRequest(against=kept, projections=projections),
            is_long=projections,
        )
        return LogReport(
            reply.intact,
            reply.events,
            reply.first_altered or None,
            reply.reason or None,
            reply.checkpoints,
        )

    def rebuild(self) -> int:
        """Project the server's graph anew from its log; see `Graph.rebuild`.

        It takes as long as it takes: `timeout_s` does not count.
        """
        reply: pb.RebuildGraphResponse = self._call(
            self._stub.RebuildGraph, pb.RebuildGraphRequest(), is_long=True
        )
        return reply.events

    def replay_spool(self) -> Replayed:
        """Record what waited on the server's disk; see `Graph.replay_spool`."""
        reply: pb.ReplaySpoolResponse = self._call(
            self._stub.ReplaySpool, pb.ReplaySpoolRequest(), is_long=True
        )
        return Replayed(reply.recorded, reply.refused)

    def collect(
        self,
        *,
        apply: bool = False,
        keep: Collection[str] = (),
        older_than: timedelta = timedelta(days=30),
        kinds: Collection[str] = KINDS,
    ) -> Collected:
        """Say what of the server's home no replay of anything in use needs, or delete it.

        It takes as long as it takes: `timeout_s` does not count.

        Args:
            apply: delete it, and record that.
            keep: uids of what is in use, too.
            older_than: younger things stay; >= 0.
            kinds: of `lineage.collection.KINDS`: what may go at all.

        Raises:
            InvalidQuery: an unknown kind or a negative age, or a server without a home.
            EntityNotFound: what is to be kept does not exist.
        """
        request = convert_collect.request_to_message(
            apply=apply, keep=keep, older_than=older_than, kinds=kinds
        )
        reply = self._call(self._stub.CollectGarbage, request, is_long=True)
        return convert_collect.collection_from_message(reply)

    def checkpoint(self) -> Checkpoint:
        """Make a checkpoint of the log as it is now; see `Graph.checkpoint`."""
        reply: pb.MakeCheckpointResponse = self._call(
            self._stub.MakeCheckpoint, pb.MakeCheckpointRequest()
        )
        return convert_proof.checkpoint_from_message(reply.checkpoint)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the store keeps, in sequence."""
        reply: pb.ListCheckpointsResponse = self._call(
            self._stub.ListCheckpoints, pb.ListCheckpointsRequest()
        )
        return [convert_proof.checkpoint_from_message(one) for one in reply.checkpoints]

    def prove(self, what: str | Entity | int, checkpoint: Checkpoint | None = None) -> Proof:
        """Prove that an entity, or an event, is in the log; see `Graph.prove`.

        What the server answered is checked.
        """
        kept = None if checkpoint is None else convert_proof.checkpoint_to_message(checkpoint)
        request = (
            pb.ProveEntityRequest(sequence=what, checkpoint=kept)
            if isinstance(what, int)
            else pb.ProveEntityRequest(entity=uid_of(what), checkpoint=kept)
        )
        reply: pb.ProveEntityResponse = self._call(self._stub.ProveEntity, request)
        proof = convert_proof.proof_from_message(reply)
        proof.check(None if checkpoint is None else checkpoint.root)
        return proof

    def prove_growth(self, earlier: Checkpoint, later: Checkpoint | None = None) -> GrowthProof:
        """Prove that the log only grew; see `Graph.prove_growth`.

        What the server answered is checked, with the checkpoints given here.
        """
        kept = None if later is None else convert_proof.checkpoint_to_message(later)
        request = pb.ProveGrowthRequest(
            earlier=convert_proof.checkpoint_to_message(earlier), later=kept
        )
        reply: pb.ProveGrowthResponse = self._call(self._stub.ProveGrowth, request)
        answer = convert_proof.growth_from_message(reply)
        proof = replace(answer, earlier=earlier, later=later or answer.later)
        proof.check()
        return proof

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

    def _describe_graph(self) -> pb.DescribeGraphResponse:
        reply: pb.DescribeGraphResponse = self._call(
            self._stub.DescribeGraph, pb.DescribeGraphRequest()
        )
        return reply

    def _call(
        self, method: Callable[..., Reply], request: object, *, is_long: bool = False
    ) -> Reply:
        metadata = self._login.call_metadata()
        with self._explained(metadata):
            timeout_s = None if is_long else self._timeout_s
            return method(request, timeout=timeout_s, metadata=metadata)

    @contextmanager
    def _explained(self, metadata: Sequence[tuple[str, Any]]) -> Iterator[None]:
        try:
            yield
        except ValueError as error:  # gRPC's way to say that the channel is closed
            raise StoreClosed() from error
        except grpc.RpcError as error:
            failure = _to_error(error, self._target, self._login)
            failure.request_id = metadata[0][1]
            raise failure from error


def _batches(events: Iterable[pb.RecordRequest]) -> Iterator[list[pb.RecordRequest]]:
    """Events in order, so many at a time as a message may hold."""
    batch: list[pb.RecordRequest] = []
    size = 0
    for event in events:
        more = event.ByteSize()
        if batch and size + more > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += more
    if batch:
        yield batch


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
