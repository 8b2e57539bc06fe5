"""The data plane's service: batches of calls in, lists of replies out.

It knows nothing of gRPC's machinery. A front decodes requests, gives reads one by one and writes
as the batch that waits, and sends the replies. All writes of a batch share one transaction.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, final

from featurestore import convert, record, wire
from featurestore.codec import MAX_KEY, NEVER, StoredValue, group_prefix
from featurestore.embedded import EmbeddedStore
from featurestore.encryption import sealed_extra
from featurestore.errors import (
    AccessDenied,
    FeatureGroupNotFound,
    FeatureStoreError,
    InvalidRequest,
    Throttled,
)
from featurestore.online import Batch, Outcome, Write
from featurestore.position import SourcePosition
from featurestore.registry import Registered, named
from featurestore.requested import check_readable, readable, refused_delete, write_error
from featurestore.schema import Ttl
from featurestore.server.access import Access
from featurestore.throughput import Limiter
from featurestore.v1 import runtime_pb2

__all__ = ["SERVICE", "Call", "Reply", "RuntimeService"]

SERVICE: Final = "featurestore.v1.FeatureStoreRuntime"
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100
Reply = bytes | FeatureStoreError
_Wanted = tuple[int, bytes, Any]
_Groups = Mapping[str, Registered]
_Answer = Sequence[StoredValue | None] | FeatureStoreError
_EMPTY: Final = b""
_BULK: Final = 100  # from so many records on, checking them by the column is faster


class Call(NamedTuple):
    """One request, by the name of its method; who makes it is known while access is guarded."""

    method: str
    request: Any
    caller: Any = None
    request_id: str = ""


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
        "UpdateRecord": runtime_pb2.UpdateRecordRequest,
        "DeleteRecord": runtime_pb2.DeleteRecordRequest,
    }

    def __init__(
        self,
        store: EmbeddedStore,
        *,
        limiter: Limiter | None = None,
        access: Access | None = None,
    ) -> None:
        self._store = store
        self._access = access
        self._limiter = limiter or Limiter()
        self._reads: dict[str, Callable[[Call], bytes]] = {
            "ListRecords": self._list,
            "GetSourcePosition": self._position,
        }
        self._writes: dict[str, Callable[[Call, _Groups], _Prepared]] = {
            "PutRecord": self._put,
            "BatchWriteRecord": self._batch_write,
            "UpdateRecord": self._update,
            "DeleteRecord": self._delete,
        }

    @property
    def reads_block(self) -> bool:
        """Whether `read` waits for others, see OnlineStore; else it takes microseconds."""
        return self._store.online.reads_block

    def read(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer a batch of reads; the gets of all calls share one look into the store."""
        replies: list[Reply] = [_EMPTY] * len(calls)
        gets: dict[int, tuple[Registered, list[_Wanted]]] = {}
        batch_gets: list[tuple[int, _BatchGet]] = []
        groups = self._store.registry.current()
        access = self._access
        for index, call in enumerate(calls):
            request = call.request
            try:
                if access is not None:
                    access.check(
                        call.method, request, call.caller, groups, request_id=call.request_id
                    )
                if call.method == "BatchGetRecord":
                    batch_gets.append((index, self._prepare_batch_get(call)))
                    continue
                if call.method != "GetRecord":
                    replies[index] = self._reads[call.method](call)
                    continue
                if request.feature_group_name not in groups:
                    data = self._windowed(
                        request.feature_group_name,
                        [request.record_identifier_value_as_string],
                        request.feature_names,
                    )
                    if data is not None:
                        replies[index] = _field(1, data[0])
                        continue
                entry = readable(groups, request.feature_group_name, request.feature_names)
                self._limiter.admit_read(entry)
                identifier = record.identifier_text(
                    entry.group, request.record_identifier_value_as_string
                )
            except FeatureStoreError as error:
                replies[index] = error
            else:
                wanted = (index, identifier.encode(), request)
                gets.setdefault(entry.number, (entry, []))[1].append(wanted)
        if gets or batch_gets:
            self._get(list(gets.values()), batch_gets, replies)
        return replies

    def write(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer a batch of writes in one durable transaction; each reply is final.

        Updates of one record build on each other, so all but the first take a further transaction.
        """
        replies: list[Reply] = [_EMPTY] * len(calls)
        waiting: list[tuple[int, Call]] = []
        for index, call in enumerate(calls):
            try:
                if self._access is not None:
                    self._access.check(
                        call.method, call.request, call.caller, request_id=call.request_id
                    )
            except FeatureStoreError as error:
                replies[index] = error
            else:
                waiting.append((index, call))
        while waiting:
            waiting = self._write(waiting, replies)
        return replies

    def _write(
        self, calls: Sequence[tuple[int, Call]], replies: list[Reply]
    ) -> list[tuple[int, Call]]:
        """Answer writes in one transaction; return those that must be prepared again."""
        again: list[tuple[int, Call]] = []
        updated: set[tuple[str, str]] = set()
        prepared: list[tuple[int, Call, _Prepared]] = []
        try:
            groups = self._store.registry.current()
        except FeatureStoreError as error:
            for index, _ in calls:
                replies[index] = error
            return again
        for index, call in calls:
            if call.method == "UpdateRecord":
                request = call.request
                key = (request.feature_group_name, request.record_identifier_value_as_string)
                if key in updated:
                    again.append((index, call))
                    continue
                updated.add(key)
            try:
                make = self._writes[call.method]
                if call.method == "BatchWriteRecord" and self._is_all_allowed(call):
                    make = self._bulk_write
                made = make(call, groups)
            except FeatureStoreError as error:
                replies[index] = error
                continue
            if made.batch is None:
                replies[index] = made.reply
            else:
                prepared.append((index, call, made))
        if not prepared:
            return again
        try:
            answers = self._store.bounded.put([made.batch for _, _, made in prepared if made.batch])
        except FeatureStoreError as error:
            answers = [error] * len(prepared)
        for (index, call, made), answer in zip(prepared, answers, strict=True):
            reply = _settle(made, answer)
            if reply is None:
                again.append((index, call))
            else:
                replies[index] = reply
        return again

    def _windowed(
        self, name: str, keys: Sequence[str], features: Sequence[str]
    ) -> list[bytes] | None:
        """Return the records of a windowed group as of now; None where there is no such group."""
        entry = self._store.registry.windows().get(name)
        if entry is None:
            return None
        check_readable(entry.windows.schema, features)
        windowed = self._store.windowed
        return windowed.records(entry, windowed.texts(entry, keys), features)

    def _get(
        self,
        gets: Sequence[tuple[Registered, Sequence[_Wanted]]],
        batch_gets: Sequence[tuple[int, _BatchGet]],
        replies: list[Reply],
    ) -> None:
        """Answer the GetRecord calls, by their groups, and the BatchGetRecord calls of a batch."""
        wanted: list[tuple[int, Sequence[bytes]]] = [
            (entry.number, [identifier for _, identifier, _ in members]) for entry, members in gets
        ]
        for _, prepared in batch_gets:
            wanted += [(part.entry.number, part.identifiers) for part in prepared.parts]
        answers = iter(self._store.online.get_many(wanted))
        for entry, members in gets:
            answer = next(answers)
            if isinstance(answer, FeatureStoreError):
                for index, _, _ in members:
                    replies[index] = answer
            else:
                self._reply(entry, members, answer, replies)
        for index, prepared in batch_gets:
            try:
                replies[index] = self._batch_reply(
                    prepared, [next(answers) for _ in prepared.parts]
                )
            except FeatureStoreError as error:
                replies[index] = error

    def _reply(
        self,
        entry: Registered,
        wanted: Sequence[_Wanted],
        values: Sequence[StoredValue | None],
        replies: list[Reply],
    ) -> None:
        if entry.group.kms_key:
            refused: dict[int, FeatureStoreError] = {}
            values = self._store.sealing.open(entry, values, refused=refused)
            for place, failure in refused.items():
                replies[wanted[place][0]] = failure
        now = record.now_us()
        is_limited = entry.group.throughput.is_provisioned
        for (index, _, request), value in zip(wanted, values, strict=True):
            if is_limited:
                self._limiter.charge_read(entry, 0 if value is None else len(value.record))
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

    def _prepare_batch_get(self, call: Call) -> _BatchGet:
        """Check the entries of a call; those that are refused are in its reply already."""
        request: runtime_pb2.BatchGetRecordRequest = call.request
        if not request.identifiers:
            raise InvalidRequest("identifiers: expected at least one entry, got none")
        failed = runtime_pb2.BatchGetRecordResponse()
        parts: list[_Part] = []
        windows: list[tuple[Any, tuple[str, ...]]] = []
        groups = self._store.registry.current()
        checked = self._access and self._access.entries(
            call.method, call.caller, groups, request_id=call.request_id
        )
        for wanted in request.identifiers:
            name = wanted.feature_group_name
            try:
                if checked is not None:
                    checked.check(wanted)  # may name the features that are not denied
                features = tuple(wanted.feature_names)
                if name not in groups and name in self._store.registry.windows():
                    windows.append((wanted, features))
                    continue
                entry = readable(groups, name, features)
                self._limiter.admit_read(entry)
            except Throttled:
                failed.unprocessed_identifiers.append(wanted)
                continue
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
            if entry.group.throughput.is_provisioned:
                # Before the call's next entry of the group is admitted.
                for _ in identifiers:
                    self._limiter.charge_read(entry, 0)
            parts.append(_Part(entry, features, identifiers))
        records: list[bytes] = []
        for wanted, features in windows:
            name = wanted.feature_group_name
            for text in wanted.record_identifiers_value_as_string:
                try:
                    found = self._windowed(name, [text], features)
                except FeatureStoreError as error:
                    _add_error(failed, name, text, error)
                else:
                    head = _field(1, name.encode()) + _field(2, text.encode())
                    records += [_field(1, head + _field(3, data)) for data in found or ()]
        return _BatchGet(parts, failed, records)

    def _batch_reply(self, prepared: _BatchGet, answers: Iterable[_Answer]) -> bytes:
        # The reply is put together from bytes: a record is not parsed to be written again.
        pieces = list(prepared.windowed)
        failed = prepared.failed
        now = record.now_us()
        for (entry, features, identifiers), answer in zip(prepared.parts, answers, strict=True):
            if isinstance(answer, FeatureStoreError):
                raise answer
            name = entry.group.name
            head = _field(1, name.encode())
            values = answer
            if entry.group.kms_key:
                refused: dict[int, FeatureStoreError] = {}
                values = self._store.sealing.open(entry, values, refused=refused)
                for place, failure in refused.items():
                    _add_error(failed, name, identifiers[place].decode(), failure)
            is_limited = entry.group.throughput.is_provisioned
            for identifier, value in zip(identifiers, values, strict=True):
                if is_limited:
                    size = 0 if value is None else len(value.record)
                    self._limiter.charge_read(entry, size, charged=1)
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
                pieces.append(_field(1, body))
        if failed.errors or failed.unprocessed_identifiers:
            pieces.append(failed.SerializeToString())
        return b"".join(pieces)

    def _list(self, call: Call) -> bytes:
        request: runtime_pb2.ListRecordsRequest = call.request
        entry = self._store.registry.get(request.feature_group_name)
        limit = request.max_results or DEFAULT_PAGE
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"max_results: expected 1 to {MAX_PAGE}, got {limit}")
        identifiers, after = self._store.reader.page(
            entry,
            after=_read_token(request.next_token, entry.number),
            limit=limit,
            include_soft_deleted=request.include_soft_deleted,
        )
        return runtime_pb2.ListRecordsResponse(
            record_identifiers=identifiers, next_token=_write_token(after)
        ).SerializeToString()

    def _position(self, call: Call) -> bytes:
        stored = self._store.source_position(call.request.source)
        return runtime_pb2.GetSourcePositionResponse(next=stored).SerializeToString()

    def _put(self, call: Call, groups: _Groups) -> _Prepared:
        if call.request.HasField("deletion"):
            raise InvalidRequest(
                "deletion: expected it in an entry of BatchWriteRecord or StreamRecords only; "
                "call DeleteRecord"
            )
        return _Prepared(Batch([self._write_of(groups, call.request, None)]))

    def _is_all_allowed(self, call: Call) -> bool:
        """Whether no entry of the batch need be looked at for access, if all are of one group."""
        if self._access is None or call.caller is None or not call.request.entries:
            return call.caller is None
        name = call.request.entries[0].feature_group_name
        return self._access.is_settled(call.caller, "sagemaker:BatchWriteRecord", name)

    def _batch_write(self, call: Call, groups: _Groups) -> _Prepared:
        request: runtime_pb2.BatchWriteRecordRequest = call.request
        position: SourcePosition | None = wire.position_from(request)
        if not request.entries and position is None:
            raise InvalidRequest("entries: expected at least one record in the batch, got none")
        writes: list[Write] = []
        response = runtime_pb2.BatchWriteRecordResponse()
        total = len(request.entries)
        ttl = wire.ttl_from(request)
        checked = self._access and self._access.entries(
            call.method, call.caller, groups, request_id=call.request_id
        )
        for index, entry in enumerate(request.entries):
            try:
                if checked is not None:
                    checked.check(entry)
                writes.append(self._write_of(groups, entry, ttl))
            except Throttled:
                if position is not None:  # its source would go on without the record
                    raise
                response.unprocessed.append(index)
            except (InvalidRequest, FeatureGroupNotFound, AccessDenied) as error:
                if position is not None and isinstance(error, AccessDenied):
                    raise  # a policy can be mended; the source must not go on without the record
                refused = write_error(index, total, error)
                response.errors.add(index=index, code=refused.code, message=refused.message)
        reply = response.SerializeToString()
        if not writes and position is None:
            return _Prepared(None, reply)
        return _Prepared(Batch(writes, position), reply)

    def _bulk_write(self, call: Call, groups: _Groups) -> _Prepared:
        """Check many records of one group at once, where they are alike; else one by one.

        No entry is looked at for access: the caller may write any record of any group.
        """
        request: runtime_pb2.BatchWriteRecordRequest = call.request
        alike = wire.records_of(request) if len(request.entries) >= _BULK else None
        if alike is None:
            return self._batch_write(call, groups)
        name, records = alike
        entry = groups.get(name)
        if entry is None or entry.group.throughput.is_provisioned:
            return self._batch_write(call, groups)
        writes, refused = self._store.prepare.records(entry, records, wire.ttl_from(request))
        position = wire.position_from(request)
        response = runtime_pb2.BatchWriteRecordResponse()
        for index, error in refused:
            why = write_error(index, len(records), error)
            response.errors.add(index=index, code=why.code, message=why.message)
        reply = response.SerializeToString()
        if not writes and position is None:
            return _Prepared(None, reply)
        return _Prepared(Batch(writes, position), reply)

    def _delete(self, call: Call, groups: _Groups) -> _Prepared:
        request: runtime_pb2.DeleteRecordRequest = call.request
        entry = named(groups, request.feature_group_name)
        self._limiter.admit_write(entry)
        hard = request.mode == runtime_pb2.DeleteRecordRequest.HARD
        write = self._store.prepare.delete(
            entry,
            request.record_identifier_value_as_string,
            request.event_time or None,
            hard=hard,
            stores=wire.stores_from(request),
        )
        self._limiter.charge_write(entry, _clear_bytes(entry, write))
        return _Prepared(Batch([write]), _EMPTY, refused_delete(entry, write))

    def _update(self, call: Call, groups: _Groups) -> _Prepared:
        request: runtime_pb2.UpdateRecordRequest = call.request
        entry = named(groups, request.feature_group_name)
        self._limiter.admit_write(entry)
        write = self._store.prepare.update(
            entry,
            request.record_identifier_value_as_string,
            wire.update_features(request),
            wire.ttl_from(request),
            wire.stores_from(request),
        )
        self._limiter.charge_write(entry, _clear_bytes(entry, write))
        return _Prepared(Batch([write]))

    def _write_of(
        self,
        groups: _Groups,
        request: runtime_pb2.PutRecordRequest,
        ttl: Ttl | None,
    ) -> Write:
        entry = named(groups, request.feature_group_name)
        self._limiter.admit_write(entry)
        if request.HasField("deletion"):
            if request.HasField("record") or request.HasField("ttl_duration"):
                raise InvalidRequest(
                    f"{entry.group.name}: expected a record or a deletion in an entry, got both"
                )
            write = self._store.prepare.delete(
                entry,
                request.deletion.record_identifier_value_as_string,
                request.deletion.event_time or None,
                hard=False,
                stores=wire.stores_from(request),
            )
        else:
            write = self._store.prepare.message(
                entry, request.record, wire.ttl_from(request) or ttl, wire.stores_from(request)
            )
        self._limiter.charge_write(entry, _clear_bytes(entry, write))
        return write


class _Part(NamedTuple):
    """What a BatchGetRecord call wants of one group."""

    entry: Registered
    features: tuple[str, ...]
    identifiers: Sequence[bytes]


class _BatchGet(NamedTuple):
    """A checked BatchGetRecord call, what of it failed, and its records of windowed groups."""

    parts: Sequence[_Part]
    failed: runtime_pb2.BatchGetRecordResponse
    windowed: Sequence[bytes] = ()


class _Prepared(NamedTuple):
    """A checked write call: what to store, what to answer, and what a refusal means."""

    batch: Batch | None
    reply: bytes = _EMPTY
    refusal: FeatureStoreError | None = None


def _settle(made: _Prepared, answer: list[Outcome] | FeatureStoreError) -> Reply | None:
    """Return what to answer; None: the record was changed meanwhile, prepare the call again."""
    if isinstance(answer, FeatureStoreError):
        return answer
    if answer and answer[0] is Outcome.CHANGED:
        return None
    if made.refusal is not None and answer[0] is Outcome.REFUSED:
        return made.refusal
    return made.reply


def _clear_bytes(entry: Registered, write: Write) -> int:
    size = len(write.record)
    return size - sealed_extra(write.identifier) if entry.group.kms_key else size


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
