"""OpenLineage: events read into the graph, and jobs of the graph written as events."""

from lineage.openlineage.emit import Emitted, Emitter
from lineage.openlineage.event import Event, read_event
from lineage.openlineage.merge import to_draft
from lineage.openlineage.naming import dataset_uri
from lineage.openlineage.outward import Outward, run_event
from lineage.openlineage.record import (
    Cursor,
    Imported,
    RefusedEvent,
    import_file,
    record_event,
    record_events,
)
from lineage.openlineage.sink import FileSink, HttpSink, Sink, open_sink
from lineage.openlineage.tell import Tells, Told, ToldEvents, tell

__all__ = [  # noqa: RUF022 - by topic
    # in
    "read_event",
    "Event",
    "to_draft",
    "record_event",
    "record_events",
    "RefusedEvent",
    "import_file",
    "Imported",
    "Cursor",
    "dataset_uri",
    # out
    "run_event",
    "Emitter",
    "Emitted",
    "Outward",
    "tell",
    "Tells",
    "Told",
    "ToldEvents",
    "open_sink",
    "Sink",
    "FileSink",
    "HttpSink",
]
