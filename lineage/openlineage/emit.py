"""Following the log and sending our jobs to others as events of OpenLineage."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from lineage.errors import InvalidEvent, StoreUnavailable
from lineage.graph import Graph
from lineage.openlineage.outward import Outward
from lineage.openlineage.record import write_whole
from lineage.openlineage.sink import Sink
from lineage.openlineage.tell import MOST, Tells, Told, ToldEvents, tell

__all__ = ["Emitted", "Emitter"]

_POLL_S: Final = 0.5
_FIRST_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 60.0
_log = logging.getLogger(__name__)


@final
@dataclass
class Emitted:
    """What was sent.

    Args:
        sequence: of the last event of the log that was looked at.
        sent: events that were taken.
        refused: events that the other side will never take; the log says why.
    """

    sequence: int = 0
    sent: int = 0
    refused: int = 0


@final
class Emitter:
    """Sends what jobs record, each event at least once, however often this or the other side ends.

    A job waits for none of it: it is read from the log afterwards, and the place in it is kept in
    a file once the other side has taken what stands before. What came from OpenLineage is not
    sent again.

    Args:
        graph: whose log is followed; that of a server (`lineage.connect`) is asked for it.
        sink: where to; this closes it.
        cursor: the file that keeps the place; it begins with the oldest event when absent.
        outward: names.

    >>> import lineage, tempfile
    >>> from lineage.openlineage import FileSink
    >>> graph = lineage.Graph(lineage.MemoryStore())
    >>> with lineage.Recorder(graph, "TrainingJob", "flights-1") as job:
    ...     data = job.input(lineage.artifact("DataSet", "s3://bucket/flights"))
    >>> folder = Path(tempfile.mkdtemp())
    >>> with Emitter(graph, FileSink(folder / "events.jsonl"), folder / "cursor.json") as emitter:
    ...     emitter.step().sent
    2
    >>> [
    ...     json.loads(line)["eventType"]
    ...     for line in (folder / "events.jsonl").read_text().splitlines()
    ... ]
    ['START', 'COMPLETE']
    """

    def __init__(
        self, graph: Graph | Tells, sink: Sink, cursor: Path, *, outward: Outward | None = None
    ) -> None:
        self._graph = graph
        self._sink = sink
        self._cursor = cursor
        self._outward = outward or Outward()
        self._stop = threading.Event()
        # Of an event of the log that was sent in part, how much: a retry does not repeat it.
        self._within = (0, 0)
        self.done = Emitted(self._place())

    def step(self) -> Emitted:
        """Send what was recorded since; returns what was done since the start.

        Raises:
            StoreUnavailable: the other side is away; what it took is noted.
        """
        while not self._stop.is_set():
            before = self.done.sequence
            part = self._tell(before)
            try:
                for told in part.told:
                    if not self._send(told):
                        break
                    self.done.sequence = told.sequence
            finally:
                if self.done.sequence != before:
                    self._keep()
            if self.done.sequence >= part.last:
                break
        return self.done

    def follow(self) -> Emitted:
        """Send what is recorded until `stop` is called; where the other side is away, wait."""
        backoff_s = _FIRST_BACKOFF_S
        while not self._stop.is_set():
            try:
                self.step()
            except StoreUnavailable as error:
                _log.warning("lineage is not sent: %s; trying again in %g s", error, backoff_s)
                self._stop.wait(backoff_s)
                backoff_s = min(_MAX_BACKOFF_S, backoff_s * 2)
            else:
                backoff_s = _FIRST_BACKOFF_S
                self._stop.wait(_POLL_S)
        return self.done

    def stop(self) -> None:
        """End `follow` and `step` after the event under way; from any thread."""
        self._stop.set()

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()

    def __enter__(self) -> Emitter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tell(self, after: int, limit: int = MOST) -> ToldEvents:
        """The next events of the log, as what they are told as."""
        if isinstance(self._graph, Graph):
            return tell(self._graph, after, self._outward, limit=limit)
        named = self._outward
        return self._graph.openlineage_events(
            after, namespace=named.namespace, producer=named.producer, limit=limit
        )

    def _send(self, told: Told) -> bool:
        """Send what one event of the log is told as; whether that was all of it."""
        sequence, sent = self._within
        for place, event in enumerate(told.events):
            if sequence == told.sequence and place < sent:
                continue
            if self._stop.is_set():
                return False
            try:
                self._sink.send(json.loads(event))
                self.done.sent += 1
            except InvalidEvent as error:
                self.done.refused += 1
                _log.warning("event %d of the log is left out: %s", told.sequence, error)
            self._within = (told.sequence, place + 1)
        return True

    def _place(self) -> int:
        try:
            said = json.loads(self._cursor.read_bytes())
        except FileNotFoundError:
            return 0
        except ValueError:
            said = None
        place = said.get("sequence") if isinstance(said, Mapping) else None
        if not isinstance(place, int) or isinstance(place, bool) or place < 0:
            raise StoreUnavailable(
                f"{self._cursor}: expected the place in the log as JSON, got something else; "
                f"delete it to send everything again"
            )
        head = self._tell(place, 0).last
        if place > head:
            raise StoreUnavailable(
                f"{self._cursor}: says that event {place} was sent, and the log ends with {head}; "
                f"it is of another graph: choose another file, or delete it to send everything"
            )
        return place

    def _keep(self) -> None:
        self._cursor.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._cursor, json.dumps({"sequence": self.done.sequence}).encode())
