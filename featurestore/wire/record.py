"""Single records: puts, updates, deletes, gets, and what they carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from featurestore import convert, errors
from featurestore.errors import (
    InternalError,
    InvalidRequest,
    Throttled,
)
from featurestore.position import PartitionPosition, SourcePosition
from featurestore.record import Delete, Put
from featurestore.requested import target_stores
from featurestore.schema import Store, Ttl
from featurestore.store import Found, Get
from featurestore.v1 import record_pb2, runtime_pb2
from featurestore.wire.value import add_values, event_time_text, text

__all__ = [
    "batch_get_message",
    "fill_delete",
    "fill_put",
    "found_from",
    "position_from",
    "position_message",
    "put_message",
    "read_throttled",
    "records_from",
    "stores_from",
    "ttl_from",
    "update_features",
    "update_message",
]

_STORES: Final = {
    Store.ONLINE: record_pb2.ONLINE_STORE,
    Store.OFFLINE: record_pb2.OFFLINE_STORE,
}
_FROM_STORES: Final = {number: store.value for store, number in _STORES.items()}


def ttl_from(message: Any) -> Ttl | None:
    """Read the optional ttl_duration of a message."""
    if not message.HasField("ttl_duration"):
        return None
    return convert.ttl_from_message(message.ttl_duration)


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
    add_values(message.record.values, put.group, put.record)


def fill_delete(message: runtime_pb2.PutRecordRequest, delete: Delete) -> None:
    """Write a deletion in a batch."""
    message.feature_group_name = delete.group
    message.deletion.record_identifier_value_as_string = text(delete.identifier)
    message.deletion.event_time = event_time_text(delete.event_time)
    if delete.stores is not None:
        wanted = target_stores(delete.group, delete.stores)
        message.target_stores.extend(_STORES[store] for store in sorted(wanted))


def update_message(
    group: str,
    identifier: object,
    features: Mapping[str, object],
    ttl: Ttl | None,
    stores: tuple[str, ...] | None,
) -> runtime_pb2.UpdateRecordRequest:
    """Write a partial update. Values are checked by the server; None becomes null there."""
    message = runtime_pb2.UpdateRecordRequest(
        feature_group_name=group,
        record_identifier_value_as_string=text(identifier),
        ttl_duration=convert.ttl_to_message(ttl),
    )
    if stores is not None:
        message.target_stores.extend(
            _STORES[store] for store in sorted(target_stores(group, stores))
        )
    add_values(message.features, group, features, keep_nulls=True)
    return message


def update_features(message: runtime_pb2.UpdateRecordRequest) -> dict[str, object]:
    """Read the changes of a partial update.

    Raises:
        InvalidRecord: a feature is given twice.
    """
    return convert.given_values(message.feature_group_name, message.features)


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
    _raise_first(response.errors)
    return [
        Found(
            message.feature_group_name,
            message.record_identifier_value_as_string,
            convert.message_to_values(message.record),
        )
        for message in response.records
    ]


def read_throttled(request: Get) -> Throttled:
    """Build the error of a read that a throttled server left for later until the deadline."""
    return Throttled(
        f"{request.group}: the group's read units were used up until the deadline; read fewer "
        f"records, or raise its throughput",
        group=request.group,
    )


def records_from(request: Get, response: Any) -> Iterator[bytes | None]:
    """Read the records of one batch get as bytes, one per identifier asked; None: there is none.

    Raises:
        FeatureStoreError: the first error of the batch, by its class.
    """
    _raise_first(response.errors)
    # In the order asked, those without a record left out.
    found = iter(response.records)
    message = next(found, None)
    for identifier in request.identifiers:
        if message is None or message.record_identifier_value_as_string != identifier:
            yield None
            continue
        yield message.record.SerializeToString()
        message = next(found, None)


def _raise_first(failures: Any) -> None:
    for failed in failures:
        cls = getattr(errors, failed.code, InternalError)
        raise cls(failed.message, group=failed.feature_group_name)
