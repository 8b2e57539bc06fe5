"""Messages of records as of times: plain functions that the clients and the server share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.ipc

from featurestore import wire
from featurestore.asof import checked_times
from featurestore.errors import InvalidRequest
from featurestore.store import FeatureStore
from featurestore.v1 import asof_pb2

__all__ = ["answered", "requests", "table_of"]

_PAIRS_PER_CALL: Final = 10_000
_TIME: Final = pa.timestamp("us", "UTC")


def requests(
    group: str,
    identifiers: Iterable[object],
    times: Iterable[object],
    features: Sequence[str],
    lookback: dt.timedelta | None,
) -> Iterator[asof_pb2.GetRecordsAsOfRequest]:
    """Write the requests for pairs of identifiers and times, at least one.

    Raises:
        InvalidRequest: there are not as many times, or one has no zone.
    """
    values = (
        identifiers.to_pylist()
        if isinstance(identifiers, pa.Array | pa.ChunkedArray)
        else identifiers
    )
    texts = [wire.text(value) for value in values]
    times_us = checked_times(group, times)
    if len(texts) != len(times_us):
        raise InvalidRequest(
            f"{group}: expected as many times as identifiers, got {len(times_us)} for {len(texts)}"
        )
    for start in range(0, max(1, len(texts)), _PAIRS_PER_CALL):
        request = asof_pb2.GetRecordsAsOfRequest(
            feature_group_name=group,
            record_identifiers_value_as_string=texts[start : start + _PAIRS_PER_CALL],
            times_us=times_us[start : start + _PAIRS_PER_CALL],
            feature_names=features,
        )
        if lookback is not None:
            request.lookback_us = lookback // dt.timedelta(microseconds=1)
        yield request


def answered(store: FeatureStore, request: Any) -> asof_pb2.GetRecordsAsOfResponse:
    """Answer a request from a store."""
    lookback = None
    if request.HasField("lookback_us"):
        try:
            lookback = dt.timedelta(microseconds=request.lookback_us)
        except OverflowError:
            raise InvalidRequest(
                f"lookback_us: expected a length of time, got {request.lookback_us}"
            ) from None
    table = store.get_as_of(
        request.feature_group_name,
        list(request.record_identifiers_value_as_string),
        pa.array(request.times_us, pa.int64()).cast(_TIME),
        features=tuple(request.feature_names),
        lookback=lookback,
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return asof_pb2.GetRecordsAsOfResponse(rows=sink.getvalue().to_pybytes())


def table_of(responses: Iterable[Any]) -> pa.Table:
    """Read the rows of replies."""
    return pa.concat_tables(
        pa.ipc.open_stream(response.rows).read_all() for response in responses
    ).combine_chunks()
