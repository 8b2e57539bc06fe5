"""Batches of writes: built entry by entry or from encoded rows, and what of them was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from operator import itemgetter
from typing import Any, Final, final

from featurestore.arrowcode import Encoded
from featurestore.checked import CheckedBatch
from featurestore.errors import (
    InvalidRequest,
)
from featurestore.position import SourcePosition
from featurestore.record import Delete, Put
from featurestore.store import WriteError
from featurestore.v1 import runtime_pb2
from featurestore.wire.record import fill_delete, fill_put, position_message

__all__ = ["THROTTLED_WAIT_S", "RowBatch", "Unprocessed", "WriteBatch", "records_of"]

THROTTLED_WAIT_S: Final = 0.05
_LAST_WAIT_S: Final = 1.0
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
                fill_delete(self.request.entries.add(), entry)
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
            fill_delete(message, delete)
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
