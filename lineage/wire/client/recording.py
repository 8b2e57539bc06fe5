"""Recording in the graph of a server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from lineage.change import Draft, Recorded
from lineage.column import ColumnLineage
from lineage.entity import End, Entity
from lineage.errors import LineageError
from lineage.questions.ask import uid_of
from lineage.run import Run
from lineage.spool import Replayed
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert_record
from lineage.wire.client.called import Called

# One event may be half as large, and the server takes twice as much.
_BATCH_BYTES = 32 << 20


class Recording(Called):
    """The part of a client that records."""

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

    def replay_spool(self) -> Replayed:
        """Record what waited on the server's disk; see `Graph.replay_spool`."""
        reply: pb.ReplaySpoolResponse = self._call(
            self._stub.ReplaySpool, pb.ReplaySpoolRequest(), is_long=True
        )
        return Replayed(reply.recorded, reply.refused)

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
