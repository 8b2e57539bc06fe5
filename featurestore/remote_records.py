"""Records of a server: what `RemoteStore` does with them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, final

import pyarrow as pa

from featurestore import convert, eventtime, wire
from featurestore.arrowcode import encode_batch
from featurestore.batches import identifier_texts, record_batches
from featurestore.checked import CheckedBatch
from featurestore.errors import InvalidRequest, PositionConflict
from featurestore.feature import Value
from featurestore.position import SourcePosition
from featurestore.record import Delete, Put
from featurestore.remote_call import RemoteCalls
from featurestore.requested import check_readable
from featurestore.schema import FeatureGroup, Ttl
from featurestore.store import Found, Get, PutResult, WriteError
from featurestore.v1 import runtime_pb2
from featurestore.wire import control as wire_control

__all__ = ["RemoteRecords"]

_ROWS_PER_CALL: Final = 5_000
_BYTES_PER_CALL: Final = 16 << 20
_IDENTIFIERS_PER_CALL: Final = 1_000
_CALLS_IN_FLIGHT: Final = 4
_NO_ERRORS: Final = runtime_pb2.BatchWriteRecordResponse()


@final
class RemoteRecords:
    """The verbs of records over gRPC.

    Args:
        calls: makes the calls.
    """

    def __init__(self, calls: RemoteCalls) -> None:
        self._calls = calls
        self._runtime = calls.runtime
        # BatchWriteRecord of a request that is bytes already.
        self._write_rows: Any = calls.channel.unary_unary(
            "/featurestore.v1.FeatureStoreRuntime/BatchWriteRecord",
            request_serializer=bytes,
            response_deserializer=runtime_pb2.BatchWriteRecordResponse.FromString,
        )

    def put(
        self,
        group: str,
        record: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.put."""
        request = wire.put_message(Put(group, record, ttl, stores))
        self._calls.call(self._runtime.PutRecord, request)

    def get(
        self, group: str, identifier: object, *, features: Sequence[str] = ()
    ) -> dict[str, Value] | None:
        """See FeatureStore.get."""
        request = runtime_pb2.GetRecordRequest(
            feature_group_name=group,
            record_identifier_value_as_string=wire.text(identifier),
            feature_names=features,
        )
        response = self._calls.call(self._runtime.GetRecord, request)
        return convert.message_to_values(response.record) if response.HasField("record") else None

    def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        if not requests:
            return []
        response = self._calls.call(self._runtime.BatchGetRecord, wire.batch_get_message(requests))
        if not response.unprocessed_identifiers:
            return wire.found_from(response)
        # Throttled: one entry after the other, as the group's units allow, keeps the order asked.
        found: list[Found] = []
        deadline = time.monotonic() + self._calls.timeout_s
        for request in requests:
            message = wire.batch_get_message([request])
            response = self._calls.call(self._runtime.BatchGetRecord, message)
            while response.unprocessed_identifiers:
                if time.monotonic() > deadline:
                    raise wire.read_throttled(request)
                time.sleep(wire.THROTTLED_WAIT_S)
                response = self._calls.call(self._runtime.BatchGetRecord, message)
            found.extend(wire.found_from(response))
        return found

    def get_table(
        self, definition: FeatureGroup, identifiers: Iterable[object], features: Sequence[str]
    ) -> pa.Table:
        """See FeatureStore.get_table; some calls are under way at once.

        Args:
            definition: what the group, windowed or not, reads as.
            identifiers: see there.
            features: see there.
        """
        check_readable(definition, features)
        texts = identifier_texts(definition, identifiers)
        records: list[bytes | None] = []
        under_way: deque[tuple[Get, Any]] = deque()

        def settle() -> None:
            asked, call = under_way.popleft()
            records.extend(wire.records_from(asked, self._read_result(asked, call)))

        for start in range(0, len(texts), _IDENTIFIERS_PER_CALL):
            part = Get(
                definition.name, texts[start : start + _IDENTIFIERS_PER_CALL], tuple(features)
            )
            under_way.append((part, self._read(part)))
            if len(under_way) == _CALLS_IN_FLIGHT:
                settle()
        while under_way:
            settle()
        return convert.records_to_table(definition, texts, records, features)

    def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.batch_write."""
        batch = wire.WriteBatch(position)
        for entry in entries:
            batch.add(entry)
        return batch.errors(self._settled(batch))

    def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.put_checked."""
        if not batch and position is None:
            raise InvalidRequest("batch: expected at least one accepted record, got none")
        rows = wire.RowBatch(batch.group.name, position)
        rows.add_checked(batch)
        return rows.checked_errors(self._settled_rows(rows))

    def put_rows(
        self,
        definition: FeatureGroup,
        table: Any,
        position: SourcePosition | None,
        on_progress: Callable[[int], None] | None,
    ) -> PutResult:
        """See FeatureStore.put_table. Without a position, some calls are under way at once."""
        group = definition.name
        rows = 0
        errors: list[WriteError] = []
        if position is not None:
            whole = wire.RowBatch(group, position)
            for part in record_batches(table):
                _add_rows(whole, definition, part)
            rows = whole.count
            _check_rows(group, rows)
            errors = whole.row_errors(self._settled_rows(whole))
            if on_progress is not None:
                on_progress(rows)
            return PutResult(rows - len(errors), errors)
        under_way: deque[tuple[int, wire.RowBatch, Any]] = deque()

        def settle() -> None:
            done, batch, call = under_way.popleft()
            response = _NO_ERRORS
            if call is not None:
                response = self._completed(batch, self._calls.result(call))
            errors.extend(batch.row_errors(response))
            if on_progress is not None:
                on_progress(done)

        for part in record_batches(table, _ROWS_PER_CALL, _BYTES_PER_CALL):
            batch = wire.RowBatch(group, start=rows)
            _add_rows(batch, definition, part)
            rows += batch.count
            under_way.append((rows, batch, self._send(batch)))
            if len(under_way) == _CALLS_IN_FLIGHT:
                settle()
        while under_way:
            settle()
        _check_rows(group, rows)
        return PutResult(rows - len(errors), errors)

    def update(
        self,
        group: str,
        identifier: object,
        features: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.update."""
        request = wire.update_message(group, identifier, features, ttl, stores)
        self._calls.call(self._runtime.UpdateRecord, request)

    def delete(
        self, group: str, identifier: object, *, event_time: object, hard: bool = False
    ) -> None:
        """See FeatureStore.delete."""
        modes = runtime_pb2.DeleteRecordRequest
        request = runtime_pb2.DeleteRecordRequest(
            feature_group_name=group,
            record_identifier_value_as_string=wire.text(identifier),
            event_time=wire.event_time_text(event_time),
            mode=modes.HARD if hard else modes.SOFT,
        )
        self._calls.call(self._runtime.DeleteRecord, request)

    def records(self, group: str, *, include_soft_deleted: bool = False) -> Iterator[str]:
        """See FeatureStore.records."""
        token = ""
        while True:
            response = self._calls.call(
                self._runtime.ListRecords,
                runtime_pb2.ListRecordsRequest(
                    feature_group_name=group,
                    max_results=1000,
                    next_token=token,
                    include_soft_deleted=include_soft_deleted,
                ),
            )
            yield from response.record_identifiers
            token = response.next_token
            if not token:
                return

    def source_position(self, source: str) -> dict[str, int]:
        """See FeatureStore.source_position."""
        request = runtime_pb2.GetSourcePositionRequest(source=source)
        return dict(self._calls.call(self._runtime.GetSourcePosition, request).next)

    def move_source(
        self, source: str, positions: Mapping[str, int], *, expected: Mapping[str, int]
    ) -> dict[str, int]:
        """See FeatureStore.move_source. Lineage names the token that the call was made with."""
        request = wire_control.move_message(source, positions, expected)
        try:
            return dict(self._calls.call(self._calls.control.MoveSource, request).next)
        except PositionConflict as conflict:
            if "stored" not in conflict.facts:  # too long for an error's metadata
                conflict.facts["stored"] = self.source_position(source)
            raise

    def _settled(self, batch: wire.WriteBatch) -> Any:
        return self._write(batch, self._runtime.BatchWriteRecord, batch.request)

    def _settled_rows(self, batch: wire.RowBatch) -> Any:
        return self._write(batch, self._write_rows, batch.data)

    def _write(self, batch: wire.WriteBatch | wire.RowBatch, method: Any, request: Any) -> Any:
        if batch.is_settled:
            return _NO_ERRORS
        try:
            return self._completed(batch, self._calls.call(method, request))
        except PositionConflict as conflict:
            if "stored" not in conflict.facts:  # too long for an error's metadata
                source = batch.request.position.source
                conflict.facts["stored"] = self.source_position(source)
            raise

    def _completed(self, batch: wire.WriteBatch | wire.RowBatch, response: Any) -> Any:
        """Send what a throttled server left for later, until the deadline."""
        if not response.unprocessed:
            return response
        left = wire.Unprocessed(batch.request, response)
        deadline = time.monotonic() + self._calls.timeout_s
        while (request := left.request) is not None and time.monotonic() < deadline:
            time.sleep(left.wait_s)
            left.take(self._calls.call(self._runtime.BatchWriteRecord, request))
        return left.response()

    def _read(self, request: Get) -> Any:
        return self._calls.begin(self._runtime.BatchGetRecord, wire.batch_get_message([request]))

    def _read_result(self, request: Get, call: Any) -> Any:
        """Wait for a batch get; ask a throttled server again until the deadline."""
        response = self._calls.result(call)
        deadline = time.monotonic() + self._calls.timeout_s
        while response.unprocessed_identifiers:
            if time.monotonic() > deadline:
                raise wire.read_throttled(request)
            time.sleep(wire.THROTTLED_WAIT_S)
            response = self._calls.result(self._read(request))
        return response

    def _send(self, batch: wire.RowBatch) -> Any:
        return None if batch.is_settled else self._calls.begin(self._write_rows, batch.data)


def _add_rows(batch: wire.RowBatch, group: FeatureGroup, part: pa.RecordBatch) -> None:
    # What lies in the future the server's clock decides.
    batch.add(encode_batch(group, part, now=eventtime.MAX_US, tolerance_us=0), len(part))


def _check_rows(group: str, rows: int) -> None:
    if rows == 0:
        raise InvalidRequest(f"{group}: expected a table with rows, got an empty one")
