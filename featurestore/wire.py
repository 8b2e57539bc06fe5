"""Requests and replies: plain functions that both clients and the server share.

Nothing here sends anything; `client`, `aio` and `server` only differ in how they do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn, final

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.ipc

from featurestore import convert, errors, eventtime
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.embedded import target_stores
from featurestore.errors import (
    FeatureStoreError,
    InternalError,
    InvalidRecord,
    InvalidRequest,
    StoreUnavailable,
)
from featurestore.feature import FeatureDefinition, FeatureType, Value
from featurestore.offline.flusher import Flushed
from featurestore.position import PartitionPosition, SourcePosition
from featurestore.record import Put, shown
from featurestore.schema import FeatureGroup, Store, Ttl
from featurestore.store import Description, Found, Get, WriteError
from featurestore.v1 import control_pb2, record_pb2, runtime_pb2
from featurestore.verify import Difference, VerifyReport
from lineage.trailer import fit_facts

__all__ = ["CHANNEL_OPTIONS", "MAX_MESSAGE_BYTES", "error_metadata", "raise_from_rpc"]

MAX_MESSAGE_BYTES: Final = 64 << 20
CHUNK_BYTES: Final = 1 << 20
ERROR_KEY: Final = "featureline-error"
FACTS_KEY: Final = "featureline-facts-bin"

# Reads are tried again while the server restarts. Puts are not: a put whose reply was lost may
# have been stored, and a second one would be a second record offline.
_RETRIED: Final = [
    {"service": "featurestore.v1.FeatureStoreRuntime", "method": method}
    for method in ("GetRecord", "BatchGetRecord", "ListRecords", "GetSourcePosition")
] + [
    {"service": "featurestore.v1.FeatureStore", "method": method}
    for method in ("DescribeFeatureGroup", "ListFeatureGroups")
]
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": _RETRIED,
                        "retryPolicy": {
                            "maxAttempts": 4,
                            "initialBackoff": "0.05s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 3,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
)

_TYPES: Final = {
    FeatureType.INTEGRAL: control_pb2.INTEGRAL,
    FeatureType.FRACTIONAL: control_pb2.FRACTIONAL,
    FeatureType.STRING: control_pb2.STRING,
}
_FROM_TYPES: Final = {number: kind for kind, number in _TYPES.items()}
_STORES: Final = {
    Store.ONLINE: record_pb2.ONLINE_STORE,
    Store.OFFLINE: record_pb2.OFFLINE_STORE,
}
_FROM_STORES: Final = {number: store.value for store, number in _STORES.items()}
_INT64: Final = 2**63


# -- errors -----------------------------------------------------------------------------------


def error_metadata(error: FeatureStoreError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that lets a client raise the same error."""
    return ((ERROR_KEY, type(error).__name__), (FACTS_KEY, fit_facts(error.facts)))


def raise_from_rpc(error: Any, target: str) -> None:
    """Raise what the server raised, or what a failed call means.

    Args:
        error: a grpc.RpcError that is also a call.
        target: the server's address, for the message.
    """
    metadata = dict(error.trailing_metadata() or ())
    name = metadata.get(ERROR_KEY)
    details = error.details() or ""
    if name is not None:
        cls = getattr(errors, str(name), InternalError)
        facts = json.loads(metadata.get(FACTS_KEY, b"{}"))
        raise cls(details, **facts) from error
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        raise StoreUnavailable(
            f"no feature store answers at {target} ({details}); start one with "
            f"`featureline serve`, or check the address"
        ) from error
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise StoreUnavailable(f"the feature store at {target} did not answer in time") from error
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        raise InvalidRequest(
            f"the request or reply is larger than {MAX_MESSAGE_BYTES >> 20} MiB ({details}); "
            f"write or read fewer records in a call"
        ) from error
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        raise errors.StoreFull(f"the feature store at {target}: {details}") from error
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        raise InvalidRequest(details) from error
    raise InternalError(f"the feature store at {target}: {code.name}: {details}") from error


# -- feature groups ---------------------------------------------------------------------------


def definitions_message(
    features: Iterable[FeatureDefinition],
) -> list[control_pb2.FeatureDefinition]:
    """Write feature definitions."""
    return [
        control_pb2.FeatureDefinition(feature_name=f.name, feature_type=_TYPES[f.type])
        for f in features
    ]


def definitions_from(messages: Iterable[Any]) -> tuple[FeatureDefinition, ...]:
    """Read feature definitions.

    Raises:
        InvalidFeatureGroup: a definition has no type.
    """
    found = []
    for message in messages:
        kind = _FROM_TYPES.get(message.feature_type)
        if kind is None:
            raise errors.InvalidFeatureGroup(
                f"feature {message.feature_name!r}: expected a feature_type of INTEGRAL, "
                f"FRACTIONAL or STRING"
            )
        found.append(FeatureDefinition(message.feature_name, kind))
    return tuple(found)


def group_message(group: FeatureGroup) -> control_pb2.FeatureGroup:
    """Write a definition."""
    return control_pb2.FeatureGroup(
        feature_group_name=group.name,
        record_identifier_feature_name=group.record_identifier,
        event_time_feature_name=group.event_time,
        feature_definitions=definitions_message(group.features),
        enable_online_store=group.online,
        enable_offline_store=group.offline,
        ttl_duration=convert.ttl_to_message(group.ttl),
        description=group.description,
        tags=[control_pb2.Tag(key=key, value=value) for key, value in group.tags.items()],
    )


def group_from(message: Any) -> FeatureGroup:
    """Read a definition; it is checked as any other."""
    return FeatureGroup(
        message.feature_group_name,
        record_identifier=message.record_identifier_feature_name,
        event_time=message.event_time_feature_name,
        features=definitions_from(message.feature_definitions),
        online=message.enable_online_store,
        offline=message.enable_offline_store,
        ttl=ttl_from(message),
        description=message.description,
        tags={tag.key: tag.value for tag in message.tags},
    )


def description_message(description: Description) -> control_pb2.FeatureGroupDescription:
    """Write a description."""
    message = control_pb2.FeatureGroupDescription(
        feature_group=group_message(description.group),
        version=description.version,
        status="Created",
        offline_store_uri=description.offline_uri,
    )
    message.creation_time.FromDatetime(description.created)
    message.last_modified_time.FromDatetime(description.modified)
    return message


def description_from(message: Any) -> Description:
    """Read a description."""
    return Description(
        group_from(message.feature_group),
        message.version,
        message.creation_time.ToDatetime(dt.UTC),
        message.last_modified_time.ToDatetime(dt.UTC),
        message.offline_store_uri,
    )


def ttl_from(message: Any) -> Ttl | None:
    """Read the optional ttl_duration of a message."""
    if not message.HasField("ttl_duration"):
        return None
    return convert.ttl_from_message(message.ttl_duration)


# -- records ----------------------------------------------------------------------------------


def put_message(put: Put) -> runtime_pb2.PutRecordRequest:
    """Write one put. Values are checked by the server.

    Raises:
        InvalidRequest: it has no form on the wire.
    """
    message = runtime_pb2.PutRecordRequest()
    fill_put(message, put)
    return message


def fill_put(message: runtime_pb2.PutRecordRequest, put: Put) -> None:
    """Write one put into an empty message."""
    ttl = put.ttl
    if ttl is not None and not isinstance(ttl, Ttl):
        raise InvalidRequest(f"{put.group}: expected a Ttl, got {ttl!r}")
    message.feature_group_name = put.group
    duration = convert.ttl_to_message(ttl)
    if duration is not None:
        message.ttl_duration.CopyFrom(duration)
    if put.stores is not None:
        wanted = target_stores(put.group, put.stores)
        message.target_stores.extend(_STORES[store] for store in sorted(wanted))
    _add_values(message.record, put.group, put.record)


@final
class WriteBatch:
    """A batch under construction; entries without a form on the wire are refused here already.

    Args:
        position: stored with the batch.
        start: number of the first entry.
    """

    def __init__(self, position: SourcePosition | None = None, *, start: int = 0) -> None:
        self.request = runtime_pb2.BatchWriteRecordRequest(position=position_message(position))
        self.count = 0
        self._start = start
        self._sent: list[int] = []
        self._refused: list[tuple[int, InvalidRequest]] = []

    def add(self, put: Put) -> None:
        """Add the next entry."""
        try:
            fill_put(self.request.entries.add(), put)
        except InvalidRequest as error:
            del self.request.entries[-1]
            self._refused.append((self.count, error))
        else:
            self._sent.append(self.count)
        self.count += 1

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to send: every entry was refused."""
        return bool(self._refused) and not self._sent and not self.request.HasField("position")

    def errors(self, response: Any) -> list[WriteError]:
        """Join what was refused here and by the server; messages say `record 2 of 3`."""
        return self._joined(response, lambda place: f"record {place + 1} of {self.count}")

    def row_errors(self, response: Any) -> list[WriteError]:
        """Join what was refused here and by the server; messages say `row 1`."""
        return self._joined(response, lambda place: f"row {self._start + place}")

    def _joined(self, response: Any, name: Callable[[int], str]) -> list[WriteError]:
        found = [(place, type(error).__name__, error.message) for place, error in self._refused]
        for error in response.errors:
            # The server counted what it got.
            message = error.message.rsplit(" (record ", 1)[0]
            found.append((self._sent[error.index], error.code, message))
        return [
            WriteError(self._start + place, code, f"{message} ({name(place)})")
            for place, code, message in sorted(found)
        ]


def _add_values(message: record_pb2.Record, group: str, record: Mapping[str, object]) -> None:
    """Add a record's values to its message; nulls and NaN are left out."""
    if not isinstance(record, Mapping):
        raise InvalidRecord(
            f"{group}: expected a record as a mapping of feature names to values, "
            f"got {type(record).__name__}",
            group=group,
        )
    add = message.values.add
    for name, value in record.items():
        if not isinstance(name, str):
            _refuse(group, name, "a feature's name as text", name)
        kind = type(value)
        typed: Any = value
        # Nearly every value is text or a double, and loads have millions.
        if kind is not str and (kind is not float or value != value):
            typed = _typed(group, name, value)
            if typed is None:
                continue
            kind = type(typed)
        entry = add()
        try:
            entry.feature_name = name
            if kind is str:
                entry.value.string_value = typed
            elif kind is float:
                entry.value.fractional_value = typed
            else:
                entry.value.integral_value = typed
        except UnicodeEncodeError:
            _refuse(group, name, "String of valid Unicode", value)


def _typed(group: str, name: str, value: object) -> Value | None:
    """Give a value one of the three types of the wire, as `featurestore.record` would take it."""
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if isinstance(value, Decimal):
        if value.is_nan():
            return None
        is_whole = abs(value) < _INT64 and value == int(value)
        value = int(value) if is_whole else float(value)
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # beyond the largest double
            return int(value) if -_INT64 <= value < _INT64 else float(value)
    if isinstance(value, dt.datetime):
        try:
            return eventtime.format_iso(eventtime.to_us(value))
        except ValueError as error:
            raise InvalidRecord(f"{group}.{name}: {error}", group=group, feature=name) from None
    _refuse(group, name, "an Integral, Fractional or String value", value)


def _refuse(group: str, name: object, expected: str, got: object) -> NoReturn:
    raise InvalidRecord(
        f"{group}.{name}: expected {expected}, got {shown(got)}",
        group=group,
        feature=str(name),
        expected=expected,
        got=shown(got),
    )


def stores_from(message: Any) -> tuple[str, ...] | None:
    """Read target stores; None when none are named.

    Raises:
        InvalidRequest: an unknown store.
    """
    if not message.target_stores:
        return None
    try:
        return tuple(_FROM_STORES[number] for number in message.target_stores)
    except KeyError as error:
        raise InvalidRequest(
            f"target_stores: expected ONLINE_STORE or OFFLINE_STORE, got {error.args[0]}"
        ) from None


def position_message(position: SourcePosition | None) -> runtime_pb2.SourcePosition | None:
    """Write a source position."""
    if position is None:
        return None
    return runtime_pb2.SourcePosition(
        source=position.source,
        partitions=[
            runtime_pb2.SourcePosition.Partition(
                partition=part.partition, start=part.start, next=part.next
            )
            for part in position.partitions
        ],
    )


def position_from(message: Any) -> SourcePosition | None:
    """Read the optional position of a batch."""
    if not message.HasField("position"):
        return None
    return SourcePosition(
        message.position.source,
        tuple(
            PartitionPosition(part.partition, part.start, part.next)
            for part in message.position.partitions
        ),
    )


def batch_get_message(requests: Sequence[Get]) -> runtime_pb2.BatchGetRecordRequest:
    """Write a batch get."""
    return runtime_pb2.BatchGetRecordRequest(
        identifiers=[
            runtime_pb2.BatchGetRecordRequest.Identifier(
                feature_group_name=request.group,
                record_identifiers_value_as_string=[text(i) for i in request.identifiers],
                feature_names=request.features,
            )
            for request in requests
        ]
    )


def found_from(response: Any) -> list[Found]:
    """Read a batch get's records.

    Raises:
        FeatureStoreError: the first error of the batch, by its class.
    """
    for failed in response.errors:
        cls = getattr(errors, failed.code, InternalError)
        raise cls(failed.message, group=failed.feature_group_name)
    return [
        Found(
            message.feature_group_name,
            message.record_identifier_value_as_string,
            convert.message_to_values(message.record),
        )
        for message in response.records
    ]


def text(identifier: object) -> str:
    """Write an identifier for the wire; the server reads it in the identifier's type.

    Raises:
        InvalidRecord: it is no valid Unicode.
    """
    if isinstance(identifier, np.number):
        identifier = identifier.item()
    if identifier is None:
        return ""  # which no record has either
    written = str(identifier) if isinstance(identifier, str | Decimal) else repr(identifier)
    try:
        written.encode()
    except UnicodeEncodeError:
        raise InvalidRecord(
            f"expected a record identifier of valid Unicode, got {shown(identifier)}"
        ) from None
    return written


def event_time_text(event_time: object) -> str:
    """Write an event time for the wire: text as it is, numbers in full, datetimes as ISO-8601.

    Raises:
        InvalidRecord: a datetime has no zone.
    """
    if isinstance(event_time, dt.datetime):
        try:
            return eventtime.format_iso(eventtime.to_us(event_time))
        except ValueError as error:
            raise InvalidRecord(f"event_time: {error}") from None
    return text(event_time)


# -- offline ----------------------------------------------------------------------------------


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


def dataset_requests(
    spine: pa.Table,
    features: Sequence[FeatureSelection],
    time: str,
    as_of_us: int | None,
    spine_name: str,
) -> Iterator[control_pb2.BuildDatasetRequest]:
    """Write a dataset request: the spec, then the spine in chunks."""
    spec = control_pb2.DatasetSpec(time_column=time, spine_name=spine_name)
    if as_of_us is not None:
        spec.as_of.seconds, spec.as_of.nanos = as_of_us // 1_000_000, as_of_us % 1_000_000 * 1000
    for selection in features:
        message = spec.selections.add(
            feature_group_name=selection.group,
            feature_names=selection.features,
            key=selection.key or "",
        )
        if selection.prefix is not None:
            message.prefix = selection.prefix
        if selection.lookback_us is not None:
            message.lookback_us = selection.lookback_us
        if selection.version is not None:
            message.version = selection.version
    yield control_pb2.BuildDatasetRequest(spec=spec)
    for chunk in table_chunks(spine):
        yield control_pb2.BuildDatasetRequest(spine=chunk)


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
    """Read the optional as-of time of a dataset spec."""
    if not spec.HasField("as_of"):
        return None
    return eventtime.to_datetime(spec.as_of.seconds * 1_000_000 + spec.as_of.nanos // 1000)


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
