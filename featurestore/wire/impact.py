"""Messages of records traced: plain functions that the clients and the server share."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from featurestore import eventtime, wire
from featurestore.errors import InvalidRequest
from featurestore.impact.report import ImpactReport
from featurestore.store import FeatureStore
from featurestore.v1 import impact_pb2

__all__ = ["report_of", "rows_behind", "table_of", "traced", "tracing_message"]


def tracing_message(
    group: str, identifier: object, event_time: dt.datetime | None, until: dt.datetime | None
) -> impact_pb2.TraceRecordRequest:
    """Write the request for records.

    Raises:
        InvalidRequest: a time has no zone.
    """
    request = impact_pb2.TraceRecordRequest(
        feature_group_name=group, record_identifier_value_as_string=wire.text(identifier)
    )
    for name, time in (("event_time", event_time), ("until", until)):
        if time is None:
            continue
        if time.tzinfo is None:
            raise InvalidRequest(f"{group}: {name}: expected a zone, got {time}")
        setattr(request, name, time.isoformat())
    return request


def traced(store: FeatureStore, request: Any) -> impact_pb2.TraceRecordResponse:
    """Answer a request from a store."""
    times: dict[str, dt.datetime | None] = {"event_time": None, "until": None}
    for name in times:
        if text := getattr(request, name):
            try:
                times[name] = eventtime.to_datetime(eventtime.parse_iso(text))
            except ValueError as error:
                raise InvalidRequest(f"{request.feature_group_name}: {name}: {error}") from None
    report = store.impact(
        request.feature_group_name,
        request.record_identifier_value_as_string,
        times["event_time"],
        until=times["until"],
    )
    return impact_pb2.TraceRecordResponse(report_json=json.dumps(report.to_json()))


def report_of(response: Any) -> ImpactReport:
    """Read an answer."""
    return ImpactReport.from_json(json.loads(response.report_json))


def rows_behind(tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """Write tables of records, a part at a time."""
    for table in tables:
        for batch in table.to_batches(max_chunksize=65_536):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            yield sink.getvalue().to_pybytes()


def table_of(response: Any) -> pa.Table:
    """Read a part."""
    return pa.ipc.open_stream(response.rows).read_all()
