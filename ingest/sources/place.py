"""Places in an answer: how each row of a query gets its offset."""

from __future__ import annotations

import datetime as dt
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, final

import pyarrow as pa

from ingest.errors import IngestError, PositionLost
from ingest.source import Message
from ingest.sources.rows import CHUNK_ROWS, rows_of

__all__ = ["Counted", "Placed", "Places", "Valued"]

_CHECK_BITS: Final = 24
_TIE_BITS: Final = 11
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Placed(NamedTuple):
    """Rows with their offsets, and the position after each; None: a batch may not end there."""

    messages: list[Message]
    after: list[int | None]


class Places(ABC):
    """How rows get their offsets."""

    partition: str

    @abstractmethod
    def clause(self, position: int | None, until: dt.datetime | None) -> str:
        """Return what follows FROM, so that the rows from a position on come in order.

        Args:
            position: None: from the first row.
            until: leave later rows out, where the place is a time.
        """

    @abstractmethod
    def placed(self, batches: Iterator[pa.RecordBatch], position: int | None) -> Iterator[Placed]:
        """Give the rows from a position on; a batch may end after the last of each."""


@final
class Counted(Places):
    """Rows by number, with a check of all ordering keys before: `number * 2**24 + check`.

    Args:
        order_by: columns that order the answer totally.
    """

    partition = "answer"

    def __init__(self, order_by: Sequence[str]) -> None:
        self._columns = list(order_by)

    def clause(self, position: int | None, until: dt.datetime | None) -> str:
        """See Places.clause."""
        return "ORDER BY " + ", ".join(f"{_quoted(name)} NULLS FIRST" for name in self._columns)

    def placed(self, batches: Iterator[pa.RecordBatch], position: int | None) -> Iterator[Placed]:
        """See Places.placed.

        Raises:
            PositionLost: the keys before the position are not those that were stored.
            IngestError: a key comes twice or is null.
        """
        stored = (position or 0) >> _CHECK_BITS
        number = check = 0
        before: tuple[object, ...] | None = None
        for batch in batches:
            first = number
            columns = [batch.column(name).to_pylist() for name in self._columns]
            offsets = []
            for key in zip(*columns, strict=True):
                if key == before or None in key:
                    raise self._unordered(number, key, is_duplicate=key == before)
                before = key
                if number == stored and position is not None:
                    self._verify(number, check, position)
                offsets.append(_counted(number, check))
                check = zlib.crc32("\x1f".join(map(str, key)).encode(errors="replace"), check)
                number += 1
            if number > stored:
                skipped = max(stored - first, 0)
                offsets = offsets[skipped:]
                messages = [
                    Message(self.partition, offset, row)
                    for offset, row in zip(offsets, rows_of(batch.slice(skipped)), strict=True)
                ]
                yield Placed(messages, [*offsets[1:], _counted(number, check)])
        if position is not None and number <= stored:
            self._verify(number, check, position)

    def _verify(self, number: int, check: int, position: int) -> None:
        if _counted(number, check) != position:
            raise PositionLost(
                f"query: the answer has changed in the {position >> _CHECK_BITS:,} rows that are "
                f"stored; bring new rows in with a column that grows (increasing), or ask for "
                f"them with another query",
                partition=self.partition,
                position=position,
            )

    def _unordered(
        self, number: int, key: tuple[object, ...], *, is_duplicate: bool
    ) -> IngestError:
        shown = ", ".join(f"{name}={value}" for name, value in zip(self._columns, key, strict=True))
        if is_duplicate:
            return IngestError(
                f"query: rows {number - 1:,} and {number:,} have the same key ({shown}); order by "
                f"columns that tell all rows apart"
            )
        return IngestError(
            f"query: row {number:,} has no key ({shown}); order by columns without null"
        )


@final
class Valued(Places):
    """Rows by the value of a column that grows.

    Args:
        column: an integer, unique; or a time, which some rows may share.
        schema: of the answer.

    Raises:
        IngestError: the column is of another type.
    """

    partition = "increasing"

    def __init__(self, column: str, schema: pa.Schema) -> None:
        kind = schema.field(column).type
        self._column = column
        self._others = [name for name in schema.names if name != column]
        self._is_time = pa.types.is_timestamp(kind)
        self._bits = _TIE_BITS if self._is_time else 0
        if not (self._is_time or pa.types.is_integer(kind)):
            raise IngestError(
                f"query: increasing: expected an integer or a timestamp with a zone, column "
                f"{column!r} is {kind}"
            )

    def clause(self, position: int | None, until: dt.datetime | None) -> str:
        """See Places.clause."""
        column = _quoted(self._column)
        conditions = []
        if position is not None:
            conditions.append(f"{column} >= {self._literal(position >> self._bits)}")
        if until is not None and self._is_time:
            microseconds = (until - _EPOCH) // dt.timedelta(microseconds=1)
            conditions.append(f"{column} <= {self._literal(microseconds)}")
        where = f"WHERE ({' AND '.join(conditions)}) OR {column} IS NULL " if conditions else ""
        order = f"{where}ORDER BY {column} NULLS FIRST"
        if self._is_time:
            # Rows that share a time have an order, too, and the same one each time.
            order += "".join(f", {_quoted(name)}" for name in self._others)
        return order

    def placed(self, batches: Iterator[pa.RecordBatch], position: int | None) -> Iterator[Placed]:
        """See Places.placed. Rows with one value stay together: no position lies between them.

        Raises:
            IngestError: a value is null, negative, or shared by too many rows.
        """
        held = Placed([], [])
        value, ties, is_first = 0, 0, True
        for batch in batches:
            for number, row in zip(self._values(batch), rows_of(batch), strict=True):
                if number == value and not is_first:
                    ties += 1
                    if ties >> self._bits:
                        raise IngestError(
                            f"query: increasing: expected at most {1 << self._bits:,} rows with "
                            f"the same {self._column!r}, got more with {value}; take a column "
                            f"that tells them apart"
                        )
                else:
                    if held.messages:
                        held.after[-1] = value + 1 << self._bits
                        if len(held.messages) >= CHUNK_ROWS:
                            yield held
                            held = Placed([], [])
                    value, ties, is_first = number, 0, False
                    if not 0 <= value < 1 << (63 - self._bits):
                        raise IngestError(
                            f"query: increasing: expected {self._column!r} from 0 (times: from "
                            f"1970) to 2**{63 - self._bits}, got {value}"
                        )
                offset = (value << self._bits) + ties
                held.messages.append(Message(self.partition, offset, row))
                held.after.append(None)
        if held.messages:
            held.after[-1] = value + 1 << self._bits
            yield held

    def _values(self, batch: pa.RecordBatch) -> Sequence[int]:
        column = batch.column(self._column)
        if column.null_count:
            raise IngestError(
                f"query: increasing: expected a value in {self._column!r} of each row, got null; "
                f"leave such rows out, or give them one"
            )
        if self._is_time:
            column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        return list(column.to_pylist())

    def _literal(self, value: int) -> str:
        return f"make_timestamptz({value})" if self._is_time else str(value)


def _counted(number: int, check: int) -> int:
    return number << _CHECK_BITS | check & (1 << _CHECK_BITS) - 1


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
