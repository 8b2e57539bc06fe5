"""The log of a server as events of OpenLineage."""

from __future__ import annotations

from lineage.openlineage.tell import MOST, Told, ToldEvents
from lineage.v1 import lineage_pb2 as pb
from lineage.wire.client.called import Called


class Telling(Called):
    """The part of a client that an `openlineage.Emitter` follows."""

    def openlineage_events(
        self,
        after: int = 0,
        *,
        namespace: str = "featureline",
        producer: str = "",
        limit: int = MOST,
    ) -> ToldEvents:
        """The events of the server's log behind one, as events of OpenLineage.

        Args:
            after: sequence of the last event of the log that is known; 0 for none.
            namespace: of the jobs, and of datasets that have no place of their own.
            producer: a uri that names it; "": the server's version of featureline.
            limit: most events of the log, 0 to 100; fewer come where they are large.

        Raises:
            InvalidQuery: a number is out of its range.
        """
        reply: pb.ListOpenLineageEventsResponse = self._call(
            self._stub.ListOpenLineageEvents,
            pb.ListOpenLineageEventsRequest(
                after=after, namespace=namespace, producer=producer, limit=limit
            ),
        )
        return ToldEvents(
            tuple(Told(one.sequence, tuple(one.events)) for one in reply.told), reply.last
        )
