"""Requests and replies: plain functions that both clients and the server share.

Nothing here sends anything; `client`, `aio` and `server` only differ in how they do.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from itertools import count
from operator import itemgetter
from typing import Any, Final, NoReturn, final

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.ipc

from featurestore import convert, errors, eventtime
from featurestore.arrowcode import Encoded
from featurestore.checked import CheckedBatch
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.errors import (
    FeatureStoreError,
    InternalError,
    InvalidRecord,
    InvalidRequest,
    StoreUnavailable,
    Throttled,
)
from featurestore.feature import Value
from featurestore.offline.flusher import Flushed
from featurestore.position import PartitionPosition, SourcePosition
from featurestore.record import Delete, Put, shown
from featurestore.requested import target_stores
from featurestore.schema import Store, Ttl
from featurestore.store import Found, Get, WriteError
from featurestore.v1 import control_pb2, record_pb2, runtime_pb2
from featurestore.verify import Difference, VerifyReport
from lineage.errors import InvalidLogin, LineageError
from lineage.wire.channel import ClientTls, Login
from lineage.wire.convert import error_from_metadata, error_to_metadata
from lineage.wire.handshake import why_unreachable
from lineage.wire.trailer import fit_facts

__all__ = ["CHANNEL_OPTIONS", "MAX_MESSAGE_BYTES", "error_metadata", "raise_from_rpc"]

MAX_MESSAGE_BYTES: Final = 64 << 20
CHUNK_BYTES: Final = 1 << 20
ERROR_KEY: Final = "featureline-error"
FACTS_KEY: Final = "featureline-facts-bin"

THROTTLED_WAIT_S: Final = 0.05
_LAST_WAIT_S: Final = 1.0
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"

# Reads are tried again while the server restarts. Puts are not: a put whose reply was lost may
# have been stored, and a second one would be a second record offline. What the server refused for
# load was not stored, and is tried again when the server says so.
_RETRIED: Final = [
    {"service": "featurestore.v1.FeatureStoreRuntime", "method": method}
    for method in ("GetRecord", "BatchGetRecord", "ListRecords", "GetSourcePosition")
] + [
    {"service": "featurestore.v1.FeatureStore", "method": method}
    for method in (
        "DescribeFeatureGroup",
        "ListFeatureGroups",
        "DescribeFeatureMetadata",
        "Search",
        "DescribeDataset",
        "ListTableVersions",
        "GetRecordsAsOf",
    )
]
_RETRIED_ON_LOAD: Final = [
    {"service": "featurestore.v1.FeatureStoreRuntime", "method": method}
    for method in ("PutRecord", "BatchWriteRecord", "UpdateRecord", "DeleteRecord")
]
_RETRY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
}
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
                        "retryPolicy": _RETRY
                        | {
                            # A server that ends may leave a call as CANCELLED.
                            "retryableStatusCodes": [
                                "UNAVAILABLE",
                                "RESOURCE_EXHAUSTED",
                                "CANCELLED",
                            ]
                        },
                    },
                    {
                        "name": _RETRIED_ON_LOAD,
                        "retryPolicy": _RETRY | {"retryableStatusCodes": ["RESOURCE_EXHAUSTED"]},
                    },
                ]
            }
        ),
    ),
)

_STORES: Final = {
    Store.ONLINE: record_pb2.ONLINE_STORE,
    Store.OFFLINE: record_pb2.OFFLINE_STORE,
}
_FROM_STORES: Final = {number: store.value for store, number in _STORES.items()}
_INT64: Final = 2**63


# -- connections ------------------------------------------------------------------------------


def login(token: str | None, tls: ClientTls | None, *, plaintext_token: bool = False) -> Login:
    """Return how a client shows who it is: as given, else as the environment says.

    Raises:
        InvalidRequest: the token or the files of TLS cannot be used.
    """
    try:
        return Login.of(token, tls, plaintext_token=plaintext_token)
    except InvalidLogin as error:
        raise InvalidRequest(str(error)) from error


def channel(make: Callable[[str, Sequence[tuple[str, Any]]], Any], target: str) -> Any:
    """Make a channel by one of the methods of a `Login`.

    Raises:
        InvalidRequest: the files of TLS cannot be used, or the token would travel in clear text.
    """
    try:
        return make(target, CHANNEL_OPTIONS)
    except InvalidLogin as error:
        raise InvalidRequest(str(error)) from error


# -- errors -----------------------------------------------------------------------------------


def error_metadata(
    error: FeatureStoreError | LineageError,
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that lets a client raise the same error.

    A refusal for load also tells gRPC's own retries when to come back; a full disk tells them not
    to. What lineage refuses is raised as lineage's own error.
    """
    if isinstance(error, LineageError):
        return error_to_metadata(error)
    known = ((ERROR_KEY, type(error).__name__), (FACTS_KEY, fit_facts(error.facts)))
    if error.code != "RESOURCE_EXHAUSTED":
        return known
    wait_s = error.facts.get("retry_after_s")
    pushback = str(int(wait_s * 1000)) if isinstance(wait_s, int | float) else "-1"
    return (*known, (PUSHBACK_KEY, pushback))


def raise_from_rpc(error: Any, target: str, login: Login, request_id: str) -> None:
    """Raise what the server raised, or what a failed call means.

    Args:
        error: a grpc.RpcError that is also a call.
        target: the server's address, for the message.
        login: how the client connected.
        request_id: of the call; where the server made one of its own, that counts.

    Cost: as `lineage.wire.handshake.why_unreachable`, where no connection came about.
    """
    failure = _to_error(error, target, login)
    if isinstance(failure, LineageError):
        failure.request_id = failure.request_id or request_id
    else:
        failure.facts.setdefault("request_id", request_id)
    raise failure from error


def _to_error(error: Any, target: str, login: Login) -> FeatureStoreError | LineageError:
    metadata = dict(error.trailing_metadata() or ())
    name = metadata.get(ERROR_KEY)
    details = error.details() or ""
    if name is not None:
        cls: type[FeatureStoreError] | None = getattr(errors, str(name), None)
        # What both packages have, such as StoreUnavailable, is this one's.
        refused = None if cls else error_from_metadata(tuple(metadata.items()), details)
        facts = json.loads(metadata.get(FACTS_KEY, b"{}"))
        return refused or (cls or InternalError)(details, **facts)
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return StoreUnavailable(
            f"no feature store answers at {target} ({details}); "
            + (
                why_unreachable(details, target, login.tls)
                or "start one with `featureline serve`, or check the address"
            )
        )
    if code is grpc.StatusCode.CANCELLED:  # by the server: a caller's own wish raises otherwise
        return StoreUnavailable(
            f"the feature store at {target} ended before it answered; call again"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return StoreUnavailable(f"the feature store at {target} did not answer in time")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        return InvalidRequest(
            f"the request or reply is larger than {MAX_MESSAGE_BYTES >> 20} MiB ({details}); "
            f"write or read fewer records in a call"
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.StoreFull(f"the feature store at {target}: {details}")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(details)
    if code is grpc.StatusCode.UNAUTHENTICATED:  # said by somebody between us and the server
        return errors.Unauthenticated(f"{target}: {details}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return errors.AccessDenied(f"{target}: {details}")
    return InternalError(f"the feature store at {target}: {code.name}: {details}")


# -- records ----------------------------------------------------------------------------------


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
    _add_values(message.record.values, put.group, put.record)


def _fill_delete(message: runtime_pb2.PutRecordRequest, delete: Delete) -> None:
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
    _add_values(message.features, group, features, keep_nulls=True)
    return message


def update_features(message: runtime_pb2.UpdateRecordRequest) -> dict[str, object]:
    """Read the changes of a partial update.

    Raises:
        InvalidRecord: a feature is given twice.
    """
    return convert.given_values(message.feature_group_name, message.features)


_ROW_PARTS: Final = 5


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

    def add(self, entry: Put | Delete) -> None:
        """Add the next entry."""
        try:
            if isinstance(entry, Delete):
                _fill_delete(self.request.entries.add(), entry)
            else:
                fill_put(self.request.entries.add(), entry)
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
        return _join_errors(self._sent, self._refused, response, self._start, name)


@final
class RowBatch:
    """A batch of encoded rows: like `WriteBatch`, without a message object per record.

    Args:
        group: the feature group.
        position: stored with the batch.
        start: number of the first row.
    """

    def __init__(
        self, group: str, position: SourcePosition | None = None, *, start: int = 0
    ) -> None:
        name = group.encode()
        self._head = b"\x0a" + _varint(len(name)) + name + b"\x12"
        self._position = position_message(position)
        self._parts: list[bytes] = []
        self.count = 0
        self._start = start
        self._sent: list[int] = []
        self._refused: list[tuple[int, InvalidRequest]] = []

    def add(self, encoded: Encoded, rows: int) -> None:
        """Add the next rows, as they were encoded."""
        head, before = self._head, len(self._head)
        add = self._parts.extend
        for record in encoded.records:
            # PutRecordRequest: the group's name is field 1, the record field 2.
            size = _varint(len(record))
            # As many parts as _ROW_PARTS says.
            add((b"\x0a", _varint(before + len(size) + len(record)), head, size, record))
        self._sent.extend((encoded.rows + self.count).tolist())
        self._refused.extend((self.count + row, error) for row, error in encoded.refused)
        self.count += rows

    def add_checked(self, batch: CheckedBatch) -> None:
        """Add what was checked, deletions between the records; numbers are those of the check."""
        self.add(batch.encoded, len(batch.encoded.records))
        if not batch.deletes:
            return
        entries: list[tuple[int, bytes]] = [
            (number, b"".join(self._parts[place : place + _ROW_PARTS]))
            for number, place in zip(self._sent, count(0, _ROW_PARTS), strict=False)
        ]
        for number, delete in batch.deletes:
            message = runtime_pb2.PutRecordRequest()
            _fill_delete(message, delete)
            data = message.SerializeToString()
            entries.append((number, b"\x0a" + _varint(len(data)) + data))
        entries.sort(key=itemgetter(0))
        self._parts = [entry for _, entry in entries]
        self._sent = [number for number, _ in entries]

    def checked_errors(self, response: Any) -> list[WriteError]:
        """Say what the server refused of a checked batch, by the numbers of the check."""
        return [
            WriteError(self._sent[error.index], error.code, error.message.rsplit(" (record ", 1)[0])
            for error in response.errors
        ]

    @property
    def data(self) -> bytes:
        """The bytes of the request."""
        rest = runtime_pb2.BatchWriteRecordRequest(position=self._position).SerializeToString()
        return b"".join([*self._parts, rest])

    @property
    def request(self) -> runtime_pb2.BatchWriteRecordRequest:
        """The request as a message: what a throttled server left for later is taken from it."""
        return runtime_pb2.BatchWriteRecordRequest.FromString(self.data)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to send: every row was refused."""
        return bool(self._refused) and not self._sent and self._position is None

    def row_errors(self, response: Any) -> list[WriteError]:
        """Join what was refused here and by the server; messages say `row 1`."""
        return _join_errors(
            self._sent,
            self._refused,
            response,
            self._start,
            lambda place: f"row {self._start + place}",
        )


def records_of(request: runtime_pb2.BatchWriteRecordRequest) -> tuple[str, list[bytes]] | None:
    """Return the group and the records of a batch, where each entry has nothing else.

    The entries are taken apart as bytes: an object for each would cost more than all the checks.

    Returns:
        The group's name, and bytes of a `featurestore.v1.Record` each; None: entries are of
        several groups, or one has a ttl, target stores or no record.
    """
    name = request.entries[0].feature_group_name
    data = request.SerializeToString()
    title = name.encode()
    head = b"\x0a" + _varint(len(title)) + title + b"\x12"
    records: list[bytes] = []
    place, end = 0, len(data)
    while place < end and data[place] == 0x0A:  # BatchWriteRecordRequest.entries
        size, place = _read_varint(data, place + 1)
        after = place + size
        if not data.startswith(head, place):
            return None
        size, place = _read_varint(data, place + len(head))
        if place + size != after:
            return None
        records.append(data[place:after])
        place = after
    return name, records


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number and the place behind it."""
    number = data[place]
    if number < 0x80:
        return number, place + 1
    following = data[place + 1]
    if following < 0x80:
        return number & 0x7F | following << 7, place + 2
    number, shift = number & 0x7F, 7
    while data[place + 1] >= 0x80:
        place += 1
        number |= (data[place] & 0x7F) << shift
        shift += 7
    return number | data[place + 1] << shift, place + 2


def _join_errors(
    sent: Sequence[int],
    refused: Sequence[tuple[int, InvalidRequest]],
    response: Any,
    start: int,
    name: Callable[[int], str],
) -> list[WriteError]:
    found = [(place, type(error).__name__, error.message) for place, error in refused]
    for error in response.errors:
        # The server counted what it got.
        message = error.message.rsplit(" (record ", 1)[0]
        found.append((sent[error.index], error.code, message))
    return [
        WriteError(start + place, code, f"{message} ({name(place)})")
        for place, code, message in sorted(found)
    ]


@cache
def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


@final
class Unprocessed:
    """The entries of a batch that the server left for later, since a group is throttled.

    Args:
        request: the batch.
        response: its first answer.
    """

    def __init__(self, request: Any, response: Any) -> None:
        self._request = request
        self._left = list(response.unprocessed)
        self._merged = runtime_pb2.BatchWriteRecordResponse(errors=response.errors)
        self.wait_s = THROTTLED_WAIT_S

    @property
    def request(self) -> runtime_pb2.BatchWriteRecordRequest | None:
        """What to send next, after `wait_s`; None when nothing is left."""
        if not self._left:
            return None
        message = runtime_pb2.BatchWriteRecordRequest(
            entries=(self._request.entries[index] for index in self._left)
        )
        if self._request.HasField("ttl_duration"):
            message.ttl_duration.CopyFrom(self._request.ttl_duration)
        return message

    def take(self, response: Any) -> None:
        """Take the answer to the last request."""
        for error in response.errors:
            error.index = self._left[error.index]
        self._merged.errors.extend(response.errors)
        progress = len(response.unprocessed) < len(self._left)
        self._left = [self._left[index] for index in response.unprocessed]
        self.wait_s = THROTTLED_WAIT_S if progress else min(2 * self.wait_s, _LAST_WAIT_S)

    def response(self) -> runtime_pb2.BatchWriteRecordResponse:
        """Return one answer for the whole batch; what is left is refused as throttled."""
        total = len(self._request.entries)
        for index in self._left:
            name = self._request.entries[index].feature_group_name
            self._merged.errors.add(
                index=index,
                code="Throttled",
                message=f"{name}: the group's write units were used up until the deadline; "
                f"nothing was done: put the record again (record {index + 1} of {total})",
            )
        return self._merged


def _add_values(
    message: Any, group: str, record: Mapping[str, object], *, keep_nulls: bool = False
) -> None:
    """Add a record's values to its message; nulls and NaN are left out, or kept without a value."""
    if not isinstance(record, Mapping):
        raise InvalidRecord(
            f"{group}: expected a record as a mapping of feature names to values, "
            f"got {type(record).__name__}",
            group=group,
        )
    add = message.add
    for name, value in record.items():
        if not isinstance(name, str):
            _refuse(group, name, "a feature's name as text", name)
        kind = type(value)
        typed: Any = value
        # Nearly every value is text or a double, and loads have millions.
        if kind is not str and (kind is not float or value != value):
            typed = _typed(group, name, value)
            if typed is None and not keep_nulls:
                continue
            kind = type(typed)
        entry = add()
        try:
            entry.feature_name = name
            if kind is str:
                entry.value.string_value = typed
            elif kind is float:
                entry.value.fractional_value = typed
            elif kind is int:
                entry.value.integral_value = typed
            elif kind is list:
                convert.fill_list(entry.value, typed)
        except UnicodeEncodeError:
            _refuse(group, name, "String of valid Unicode", value)


def _typed(group: str, name: str, value: object) -> Value | None:
    """Give a value a type of the wire, as `featurestore.record` would take it."""
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
    if isinstance(value, np.ndarray | list | tuple | set | frozenset):
        return _elements(group, name, value)
    if isinstance(value, dt.datetime):
        try:
            return eventtime.format_iso(eventtime.to_us(value))
        except ValueError as error:
            raise InvalidRecord(f"{group}.{name}: {error}", group=group, feature=name) from None
    _refuse(group, name, "an Integral, Fractional or String value", value)


def _elements(group: str, name: str, values: Any) -> Value:
    """Give the elements of a collection one type of the wire: text, or numbers."""
    elements = list(values.tolist() if isinstance(values, np.ndarray) else values)
    if isinstance(values, set | frozenset):
        elements.sort(key=lambda element: (str(type(element)), element))  # any run alike
    typed: list[Any] = [_typed(group, name, element) for element in elements]
    texts = sum(isinstance(element, str) for element in typed)
    if any(element is None or isinstance(element, list) for element in typed) or (
        0 < texts < len(typed)
    ):
        _refuse(group, name, "a collection of texts, or of numbers, without nulls", values)
    if any(isinstance(element, float) for element in typed):
        return [float(element) for element in typed]
    return typed


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
