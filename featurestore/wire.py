"""Requests and replies: plain functions that both clients and the server share.

Nothing here sends anything; `client`, `aio` and `server` only differ in how they do.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import grpc
import pyarrow as pa
import pyarrow.ipc

from featurestore import convert, errors, eventtime
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.errors import FeatureStoreError, InternalError, InvalidRequest, StoreUnavailable
from featurestore.feature import FeatureDefinition, FeatureType
from featurestore.offline.flusher import Flushed
from featurestore.position import PartitionPosition, SourcePosition
from featurestore.record import Put
from featurestore.schema import FeatureGroup, Store, Ttl
from featurestore.store import Description, Found, Get, WriteError
from featurestore.v1 import control_pb2, record_pb2, runtime_pb2
from featurestore.verify import Difference, VerifyReport

__all__ = ["CHANNEL_OPTIONS", "MAX_MESSAGE_BYTES", "error_metadata", "raise_from_rpc"]

MAX_MESSAGE_BYTES: Final = 64 << 20
CHUNK_BYTES: Final = 1 << 20
ERROR_KEY: Final = "featureline-error"
FACTS_KEY: Final = "featureline-facts-bin"
_MAX_FACTS_BYTES: Final = 4096

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
    Store.ONLINE.value: record_pb2.ONLINE_STORE,
    Store.OFFLINE.value: record_pb2.OFFLINE_STORE,
}
_FROM_STORES: Final = {number: store for store, number in _STORES.items()}


# -- errors -----------------------------------------------------------------------------------


def error_metadata(error: FeatureStoreError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that lets a client raise the same error."""
    facts = json.dumps(error.facts, default=str).encode()
    if len(facts) > _MAX_FACTS_BYTES:
        facts = b"{}"
    return ((ERROR_KEY, type(error).__name__), (FACTS_KEY, facts))


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


def put_message(
    group: str,
    record: Mapping[str, object],
    ttl: Ttl | None = None,
    stores: Sequence[str] | None = None,
) -> runtime_pb2.PutRecordRequest:
    """Write one put. Values are checked by the server."""
    message = runtime_pb2.PutRecordRequest(
        feature_group_name=group, ttl_duration=convert.ttl_to_message(ttl)
    )
    if stores is not None:
        message.target_stores.extend(_store_number(store) for store in stores)
    add_values(message.record, group, record)
    return message


def put_of(put: Put) -> runtime_pb2.PutRecordRequest:
    """Write one entry of a batch."""
    ttl = put.ttl
    if ttl is not None and not isinstance(ttl, Ttl):
        raise InvalidRequest(f"{put.group}: expected a Ttl, got {ttl!r}")
    return put_message(put.group, put.record, ttl, put.stores)


def add_values(message: record_pb2.Record, group: str, record: Mapping[str, object]) -> None:
    """Add a record's values to its message; nulls and NaN are left out.

    Raises:
        InvalidRecord: a value has no form on the wire.
    """
    if not isinstance(record, Mapping):
        raise errors.InvalidRecord(
            f"{group}: expected a record as a mapping of feature names to values, "
            f"got {type(record).__name__}",
            group=group,
        )
    add = message.values.add
    for name, value in record.items():
        if value is None or value != value:
            continue
        entry = add()
        try:
            entry.feature_name = name
            if isinstance(value, str):
                entry.value.string_value = value
            elif isinstance(value, bool):
                raise TypeError
            elif isinstance(value, float):
                entry.value.fractional_value = value
            elif isinstance(value, dt.datetime):
                entry.value.string_value = eventtime.format_iso(eventtime.to_us(value))
            elif hasattr(value, "__index__"):
                entry.value.integral_value = value.__index__()
            elif hasattr(value, "__float__"):
                entry.value.fractional_value = float(value)
            else:
                raise TypeError
        except (TypeError, ValueError, UnicodeEncodeError) as error:
            reason = f": {error}" if str(error) else ""
            raise errors.InvalidRecord(
                f"{group}.{name}: expected an Integral, Fractional or String value, "
                f"got {value!r}{reason}",
                group=group,
                feature=str(name),
                got=repr(value),
            ) from None


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


def write_errors_from(messages: Iterable[Any]) -> list[WriteError]:
    """Read refused records."""
    return [WriteError(message.index, message.code, message.message) for message in messages]


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
    """Write an identifier for the wire; the server reads it in the identifier's type."""
    return identifier if isinstance(identifier, str) else repr(identifier)


def event_time_text(event_time: object) -> str:
    """Write an event time for the wire: text as it is, numbers in full, datetimes as ISO-8601."""
    if isinstance(event_time, dt.datetime):
        return eventtime.format_iso(eventtime.to_us(event_time))
    return "" if event_time is None else text(event_time)


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
    as_of: dt.datetime | None,
    spine_name: str,
) -> Iterator[control_pb2.BuildDatasetRequest]:
    """Write a dataset request: the spec, then the spine in chunks."""
    spec = control_pb2.DatasetSpec(time_column=time, spine_name=spine_name)
    if as_of is not None:
        micros = eventtime.to_us(as_of)
        spec.as_of.seconds, spec.as_of.nanos = micros // 1_000_000, micros % 1_000_000 * 1000
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


def _store_number(store: str) -> Any:
    number = _STORES.get(str(store))
    if number is None:
        raise InvalidRequest(f"target_stores: expected one of {sorted(_STORES)}, got {store!r}")
    return number
