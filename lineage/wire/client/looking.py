"""Looking up what the graph of a server has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from lineage.entity import Entity, Kind, as_kind
from lineage.errors import EntityNotFound
from lineage.filter import Filter
from lineage.graph.filtered import Filtered
from lineage.query import check_as_of
from lineage.questions import EventSummary
from lineage.questions.ask import check_count, check_time, uid_of
from lineage.run import Run
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert, convert_answer
from lineage.wire.client.called import Called

_COUNTS = ("events", "entities", "associations")


class Looking(Called, Filtered):
    """The part of a client that looks up, and walks nowhere."""

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

    def _describe_graph(self) -> pb.DescribeGraphResponse:
        reply: pb.DescribeGraphResponse = self._call(
            self._stub.DescribeGraph, pb.DescribeGraphRequest()
        )
        return reply
