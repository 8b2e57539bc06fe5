"""The data plane's service: batches of calls in, lists of replies out.

It knows nothing of gRPC's machinery. A front decodes requests, gives reads one by one and writes
as the batch that waits, and sends the replies. All writes of a batch share one transaction.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, final

from featurestore import convert, record, wire
from featurestore.codec import MAX_KEY, NEVER, StoredValue, group_prefix
from featurestore.embedded import EmbeddedStore, readable, refused_delete, write_error
from featurestore.errors import FeatureGroupNotFound, FeatureStoreError, InvalidRequest
from featurestore.online import Batch, Outcome, Write
from featurestore.position import SourcePosition
from featurestore.registry import Registered, named
from featurestore.v1 import runtime_pb2

__all__ = ["SERVICE", "Call", "Reply", "RuntimeService"]

SERVICE: Final = "featurestore.v1.FeatureStoreRuntime"
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100
Reply = bytes | FeatureStoreError
_EMPTY: Final = b""


class Call(NamedTuple):
    """One request, by the name of its method."""

    method: str
    request: Any


@final
class RuntimeService:
    """Answers the calls of `featurestore.v1.FeatureStoreRuntime` on an embedded store.

    Replies are serialised messages, or the error to send instead.
    """

    READS: ClassVar[dict[str, Any]] = {
        "GetRecord": runtime_pb2.GetRecordRequest,
        "BatchGetRecord": runtime_pb2.BatchGetRecordRequest,
        "ListRecords": runtime_pb2.ListRecordsRequest,
        "GetSourcePosition": runtime_pb2.GetSourcePositionRequest,
    }
    WRITES: ClassVar[dict[str, Any]] = {
        "PutRecord": runtime_pb2.PutRecordRequest,
        "BatchWriteRecord": runtime_pb2.BatchWriteRecordRequest,
        "DeleteRecord": runtime_pb2.DeleteRecordRequest,
    }

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._reads: dict[str, Callable[[Any], bytes]] = {
            "BatchGetRecord": self._batch_get,
            "ListRecords": self._list,
            "GetSourcePosition": self._position,
        }
        self._writes: dict[str, Callable[[Any], _Prepared]] = {
            "PutRecord": self._put,
            "BatchWriteRecord": self._batch_write,
            "DeleteRecord": self._delete,
        }

    def read(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer a batch of reads; they take microseconds and block on nothing.

        The GetRecord calls of one group share one look into the store.
        """
        replies: list[Reply] = [_EMPTY] * len(calls)
        gets: dict[int, list[tuple[int, bytes, Any]]] = {}
        groups = self._store.registry.current()
        for index, call in enumerate(calls):
            request = call.request
            try:
                if call.method != "GetRecord":
                    replies[index] = self._reads[call.method](request)
                    continue
                entry = readable(groups, request.feature_group_name, request.feature_names)
                identifier = record.identifier_text(
                    entry.group, request.record_identifier_value_as_string
                )
            except FeatureStoreError as error:
                replies[index] = error
            else:
                wanted = (index, identifier.encode(), request)
                gets.setdefault(entry.number, []).append(wanted)
        for number, found in gets.items():
            self._get(number, found, replies)
        return replies

    def write(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer a batch of writes in one durable transaction; each reply is final."""
        replies: list[Reply | None] = [None] * len(calls)
        prepared: list[tuple[int, _Prepared]] = []
        for index, call in enumerate(calls):
            try:
                made = self._writes[call.method](call.request)
            except FeatureStoreError as error:
                replies[index] = error
                continue
            if made.batch is None:
                replies[index] = made.reply
            else:
                prepared.append((index, made))
        if prepared:
            try:
                answers = self._store.online.put([made.batch for _, made in prepared if made.batch])
            except FeatureStoreError as error:
                answers = [error] * len(prepared)
            for (index, made), answer in zip(prepared, answers, strict=True):
                replies[index] = _settle(made, answer)
        return [reply for reply in replies if reply is not None]

    def _get(
        self, number: int, wanted: Sequence[tuple[int, bytes, Any]], replies: list[Reply]
    ) -> None:
        try:
            values = self._store.online.get(number, [identifier for _, identifier, _ in wanted])
        except FeatureStoreError as error:
            for index, _, _ in wanted:
                replies[index] = error
            return
        now = record.now_us()
        for (index, _, request), value in zip(wanted, values, strict=True):
            if value is None or not value.is_readable(now):
                continue  # OK and `record` unset
            data = value.record
            if request.feature_names:
                data = convert.select_features(data, request.feature_names)
            # GetRecordResponse.record is field 1: its bytes are the stored ones.
            reply = b"\x0a" + _varint(len(data)) + data
            if value.expires_us != NEVER and request.expiration_time_response:
                reply += _expiry(value).SerializeToString()
            replies[index] = reply

    def _batch_get(self, request: runtime_pb2.BatchGetRecordRequest) -> bytes:
        if not request.identifiers:
            raise InvalidRequest("identifiers: expected at least one entry, got none")
        # The reply is put together from bytes: a record is not parsed to be written again.
        parts: list[bytes] = []
        failed = runtime_pb2.BatchGetRecordResponse()
        now = record.now_us()
        groups = self._store.registry.current()
        for wanted in request.identifiers:
            name = wanted.feature_group_name
            features = tuple(wanted.feature_names)
            try:
                entry = readable(groups, name, features)
            except FeatureStoreError as error:
                for text in wanted.record_identifiers_value_as_string:
                    _add_error(failed, name, text, error)
                continue
            identifiers: list[bytes] = []
            for text in wanted.record_identifiers_value_as_string:
                try:
                    identifiers.append(record.identifier_text(entry.group, text).encode())
                except FeatureStoreError as error:
                    _add_error(failed, name, text, error)
            head = _field(1, name.encode())
            values = self._store.online.get(entry.number, identifiers)
            for identifier, value in zip(identifiers, values, strict=True):
                if value is None or not value.is_readable(now):
                    continue
                data = value.record
                if features:
                    data = convert.select_features(data, features)
                body = head + _field(2, identifier) + _field(3, data)
                if value.expires_us != NEVER:
                    expiry = runtime_pb2.BatchGetRecordResponse.BatchRecord()
                    expiry.expires_at.FromMicroseconds(value.expires_us)
                    body += expiry.SerializeToString()
                parts.append(_field(1, body))
        if failed.errors:
            parts.append(failed.SerializeToString())
        return b"".join(parts)

    def _list(self, request: runtime_pb2.ListRecordsRequest) -> bytes:
        entry = self._store.registry.get(request.feature_group_name)
        limit = request.max_results or DEFAULT_PAGE
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"max_results: expected 1 to {MAX_PAGE}, got {limit}")
        identifiers, after = self._store.list_page(
            entry,
            after=_read_token(request.next_token, entry.number),
            limit=limit,
            include_soft_deleted=request.include_soft_deleted,
        )
        return runtime_pb2.ListRecordsResponse(
            record_identifiers=identifiers, next_token=_write_token(after)
        ).SerializeToString()

    def _position(self, request: runtime_pb2.GetSourcePositionRequest) -> bytes:
        stored = self._store.source_position(request.source)
        return runtime_pb2.GetSourcePositionResponse(next=stored).SerializeToString()

    def _put(self, request: runtime_pb2.PutRecordRequest) -> _Prepared:
        return _Prepared(Batch([self._write_of(self._store.registry.current(), request)]))

    def _batch_write(self, request: runtime_pb2.BatchWriteRecordRequest) -> _Prepared:
        position: SourcePosition | None = wire.position_from(request)
        if not request.entries and position is None:
            raise InvalidRequest("entries: expected at least one record in the batch, got none")
        writes: list[Write] = []
        response = runtime_pb2.BatchWriteRecordResponse()
        total = len(request.entries)
        groups = self._store.registry.current()
        for index, entry in enumerate(request.entries):
            try:
                writes.append(self._write_of(groups, entry))
            except (InvalidRequest, FeatureGroupNotFound) as error:
                refused = write_error(index, total, error)
                response.errors.add(index=index, code=refused.code, message=refused.message)
        reply = response.SerializeToString()
        if not writes and position is None:
            return _Prepared(None, reply)
        return _Prepared(Batch(writes, position), reply)

    def _delete(self, request: runtime_pb2.DeleteRecordRequest) -> _Prepared:
        entry = self._store.registry.get(request.feature_group_name)
        hard = request.mode == runtime_pb2.DeleteRecordRequest.HARD
        write = self._store.prepare_delete(
            entry,
            request.record_identifier_value_as_string,
            request.event_time or None,
            hard=hard,
            stores=wire.stores_from(request),
        )
        return _Prepared(Batch([write]), _EMPTY, refused_delete(entry, write))

    def _write_of(
        self, groups: Mapping[str, Registered], request: runtime_pb2.PutRecordRequest
    ) -> Write:
        return self._store.prepare_message(
            named(groups, request.feature_group_name),
            request.record,
            wire.ttl_from(request),
            wire.stores_from(request),
        )


class _Prepared(NamedTuple):
    """A checked write call: what to store, what to answer, and what a refusal means."""

    batch: Batch | None
    reply: bytes = _EMPTY
    refusal: FeatureStoreError | None = None


def _settle(made: _Prepared, answer: list[Outcome] | FeatureStoreError) -> Reply:
    if isinstance(answer, FeatureStoreError):
        return answer
    if made.refusal is not None and answer[0] is Outcome.REFUSED:
        return made.refusal
    return made.reply


def _add_error(response: Any, group: str, identifier: str, error: FeatureStoreError) -> None:
    response.errors.add(
        feature_group_name=group,
        record_identifier_value_as_string=identifier,
        code=type(error).__name__,
        message=error.message,
    )


def _expiry(value: StoredValue) -> runtime_pb2.GetRecordResponse:
    response = runtime_pb2.GetRecordResponse()
    response.expires_at.FromMicroseconds(value.expires_us)
    return response


def _field(number: int, data: bytes) -> bytes:
    """Write a length-delimited field of a protobuf message."""
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _write_token(after: bytes | None) -> str:
    return "" if after is None else base64.urlsafe_b64encode(after).decode()


def _read_token(token: str, group: int) -> bytes | None:
    """Read where a page begins: behind a key of the group."""
    if not token:
        return None
    try:
        after = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        after = b""
    if not after.startswith(group_prefix(group)) or len(after) > MAX_KEY:
        raise InvalidRequest(
            "next_token: expected the token of an earlier reply for this feature group, got "
            f"{record.shown(token)}"
        )
    return after
