"""Flushes, verifications, selections and tables on the wire."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.ipc

from featurestore import eventtime
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.errors import (
    InvalidRequest,
)
from featurestore.offline.flusher import Flushed
from featurestore.v1 import control_pb2
from featurestore.verify import Difference, VerifyReport

__all__ = [
    "CHUNK_BYTES",
    "as_of_from",
    "flushed_from",
    "manifest_message",
    "selection_message",
    "selections_from",
    "set_moment",
    "table_chunks",
    "table_from",
    "verify_from",
]

CHUNK_BYTES: Final = 1 << 20


def flushed_from(response: Any) -> dict[str, Flushed]:
    """Read what a flush did."""
    return {
        message.feature_group_name: Flushed(
            message.records, None if message.table_version < 0 else message.table_version
        )
        for message in response.flushed
    }


def verify_from(response: Any) -> VerifyReport:
    """Read a verification."""
    return VerifyReport(
        response.equal,
        response.online,
        response.offline,
        tuple(
            Difference(entry.record_identifier_value_as_string, entry.reason)
            for entry in response.differences
        ),
    )


def selection_message(selection: FeatureSelection) -> control_pb2.FeatureSelection:
    """Write one selection of a dataset."""
    return control_pb2.FeatureSelection(
        feature_group_name=selection.group,
        feature_names=selection.features,
        key=selection.key or "",
        prefix=selection.prefix,
        lookback_us=selection.lookback_us,
        version=selection.version,
    )


def set_moment(stamp: Any, us: int | None) -> None:
    """Write a time into a message's Timestamp; None leaves it unset."""
    if us is not None:
        stamp.seconds, stamp.nanos = us // 1_000_000, us % 1_000_000 * 1000
        stamp.SetInParent()


def selections_from(spec: Any) -> list[FeatureSelection]:
    """Read the selections of a dataset spec."""
    return [
        FeatureSelection(
            message.feature_group_name,
            tuple(message.feature_names),
            key=message.key or None,
            prefix=message.prefix if message.HasField("prefix") else None,
            lookback=(
                dt.timedelta(microseconds=message.lookback_us)
                if message.HasField("lookback_us")
                else None
            ),
            version=message.version if message.HasField("version") else None,
        )
        for message in spec.selections
    ]


def as_of_from(spec: Any) -> dt.datetime | None:
    """Read the optional as-of time of a dataset spec.

    Raises:
        InvalidRequest: it is none of the years 1 to 9999.
    """
    if not spec.HasField("as_of"):
        return None
    stamp = spec.as_of
    try:
        return eventtime.to_datetime(stamp.seconds * 1_000_000 + stamp.nanos // 1000)
    except OverflowError:
        raise InvalidRequest(
            f"as_of: expected a time of the years 0001 to 9999, got {stamp.seconds} s and "
            f"{stamp.nanos} ns since the epoch"
        ) from None


def manifest_message(dataset: Dataset) -> control_pb2.DatasetManifest:
    """Write a dataset's manifest."""
    return control_pb2.DatasetManifest(
        fingerprint=dataset.fingerprint,
        spine_digest=dataset.manifest["spine_digest"],
        rows=dataset.manifest["rows"],
        versions={k: v for k, v in dataset.versions.items() if v is not None},
        manifest_json=json.dumps(dict(dataset.manifest)),
    )


def table_chunks(table: pa.Table) -> Iterator[bytes]:
    """Write a table as the bytes of one Arrow IPC stream, in chunks."""
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = memoryview(sink.getvalue())
    for start in range(0, len(data), CHUNK_BYTES):
        yield bytes(data[start : start + CHUNK_BYTES])


def table_from(chunks: Sequence[bytes], where: str) -> pa.Table:
    """Read a table from the bytes of one Arrow IPC stream.

    Raises:
        InvalidRequest: the bytes are no such stream.
    """
    try:
        return pyarrow.ipc.open_stream(b"".join(chunks)).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidRequest(f"{where}: expected one Arrow IPC stream: {error}") from error
