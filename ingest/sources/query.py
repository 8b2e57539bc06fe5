"""A query as a source: whatever DuckDB reads, in an order that gives each row its place."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import shutil
import tempfile
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import duckdb
import pyarrow as pa

import lineage
from featurestore import PartitionPosition
from featurestore.errors import nearest
from ingest.errors import (
    IngestError,
    PositionLost,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
)
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.rows import CHUNK_ROWS, refuse_naive_times, rows_of

__all__ = ["QuerySource"]

_CHECK_BITS: Final = 24
_TIE_BITS: Final = 11
_NO_PARAMETERS: Final[Mapping[str, object]] = MappingProxyType({})
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@final
class QuerySource(Source):
    """Reads the rows of a query that DuckDB answers: over files, a database, or both.

    **Snapshot** (`order_by`): the answer as it is, once. The columns must order it totally: each
    key comes once and none is null, else the first duplicate ends the run. The position is
    `rows * 2**24 + check`, where the check is of the ordering keys of all rows before it: a run
    that goes on reads them over, and refuses to when the answer has changed there.

    **Incremental** (`increasing`): rows whose value of one column is higher than those before,
    look by look. An integer must be unique and is the position itself; timestamps have a zone, at
    most 2,048 rows share one, and the position is `µs * 2**11`. A row that comes with a value
    below the position is never read: where rows become visible late, give `settle_s`.

    The query must be one SELECT. It runs on a connection of its own that writes nothing, and the
    answer is streamed; what must be sorted spills to disk beyond `memory_limit`.

    Args:
        sql: the query, with `$name` for each parameter.
        order_by: columns that order the answer totally.
        increasing: the column that grows. One of the two must be given.
        database: a DuckDB file, opened read-only, and only while the query runs; None: none.
        parameters: name → value.
        memory_limit: for DuckDB, such as `2GB`.
        threads: for DuckDB; None: as many as there are cores.
        look_s: time between two looks for higher values.
        settle_s: timestamps younger than this are left for a later look.

    Raises:
        ValueError: an option is out of range, or not one of `order_by` and `increasing` is given.
        IngestError: the text is no single SELECT.

    Cost: the query, sorted by its key; a snapshot that goes on at row n reads n keys first.
    """

    def __init__(
        self,
        sql: str,
        *,
        order_by: Sequence[str] = (),
        increasing: str | None = None,
        database: str | Path | None = None,
        parameters: Mapping[str, object] = _NO_PARAMETERS,
        memory_limit: str = "1GB",
        threads: int | None = None,
        look_s: float = 10.0,
        settle_s: float = 0.0,
    ) -> None:
        if isinstance(order_by, str):
            raise ValueError(f"order_by: expected a list of columns, got {order_by!r}")
        if bool(order_by) == (increasing is not None):
            raise ValueError("order_by: expected it or increasing, and not both")
        for what, seconds in (("look_s", look_s), ("settle_s", settle_s)):
            if not seconds >= 0:
                raise ValueError(f"{what}: expected 0 seconds or more, got {seconds}")
        self.sql = _single_select(sql)
        self.order_by = tuple(order_by)
        self.increasing = increasing
        self.database = None if database is None else Path(database)
        self.parameters = dict(parameters)
        self._settings: dict[str, Any] = {
            "memory_limit": memory_limit,
            "autoinstall_known_extensions": False,
        }
        if threads is not None:
            self._settings["threads"] = threads
        self._look_s = look_s
        self._settle_s = settle_s
        self._digest = self._identity()
        self._answer: _Answer | None = None
        self._places: _Places | None = None
        self._schema: pa.Schema | None = None
        self._next: int | None = None
        self._look_at = 0.0
        self._has_read = False
        self._is_over = False

    @property
    def name(self) -> str:
        """`query:DIGEST`, of the text, its parameters, the database and the order."""
        return f"query:{self._digest[:32]}"

    def inputs(self) -> Sequence[lineage.Entity]:
        """Name the query by its digest, if it gave rows."""
        if not self._has_read:
            return ()
        how = "increasing" if self.increasing is not None else "order_by"
        columns = self.increasing or ", ".join(self.order_by)
        return (
            lineage.artifact(
                "Query",
                self.name,
                content_hash=f"sha256:{self._digest}",
                properties={how: columns},
            ),
        )

    def seek(self, stored: StoredPositions) -> None:
        """Learn the answer's columns and go on where the store stands.

        Raises:
            SourceNotFound: there is no such database file.
            SourceUnavailable: another process writes to the database.
            IngestError: DuckDB refuses the query, or its answer has not the columns it needs.
        """
        self.close()
        with self._connected() as connection:
            schema = self._asked(connection, f"{self._wrapped()} LIMIT 0").schema
        refuse_naive_times(
            schema, "query", advice="cast it: column AT TIME ZONE 'UTC', or ::TIMESTAMPTZ"
        )
        for column in self.order_by or (self.increasing,):
            if column not in schema.names:
                raise IngestError(
                    f"query: the answer has no column {column!r}"
                    f"{nearest(str(column), schema.names)}"
                )
        self.columns = tuple(schema.names)
        self._schema = schema
        self._places = (
            _Counted(self.order_by) if self.increasing is None else _Valued(self.increasing, schema)
        )
        self._next = stored().get(self._places.partition)
        self._look_at = 0.0
        self._is_over = False

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next rows; only higher values are waited for.

        Raises:
            PositionLost: the answer changed in the part that is stored (snapshot).
            SourceUnavailable: another process writes to the database.
            SourceChanged: the answer has other columns than at the beginning.
            IngestError: the ordering columns do not order the answer, or DuckDB gives up.
        """
        assert self._places is not None, "seek comes first"
        deadline = time.monotonic() + timeout_s
        while not self._is_over:
            if self._answer is None:
                pause_s = min(self._look_at, deadline) - time.monotonic()
                if pause_s > 0:
                    time.sleep(pause_s)
                if time.monotonic() < self._look_at:
                    return Batch(is_caught_up=True)
                self._answer = self._ask()
            messages, following = self._answer.take(max_records)
            if messages:
                start = messages[0].offset if self._next is None else self._next
                self._next = following
                self._has_read = True
                stretch = PartitionPosition(self._places.partition, start, following)
                return Batch(messages, (stretch,))
            self._answer.close()
            self._answer = None
            if self.increasing is None:
                self._is_over = True
            else:
                self._look_at = time.monotonic() + self._look_s
                return Batch(is_caught_up=True)
        return Batch(is_caught_up=True, is_last=True)

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Do nothing: a query has no tools of its own."""

    def close(self) -> None:
        """End the query that runs, and remove what it spilled."""
        if self._answer is not None:
            self._answer.close()
        self._answer = None

    def _identity(self) -> str:
        database = None if self.database is None else str(self.database.resolve())
        identity = [self.sql, self.parameters, database, self.order_by, self.increasing]
        return hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()

    def _wrapped(self) -> str:
        # On lines of its own: the query may end with a comment.
        return f"SELECT * FROM (\n{self.sql}\n) AS answer"

    def _ask(self) -> _Answer:
        """Run the query from where reading stands on."""
        assert self._places is not None
        stack = contextlib.ExitStack()
        with stack:
            connection = stack.enter_context(self._connected())
            until = None
            if self._settle_s:
                until = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=self._settle_s)
            text = f"{self._wrapped()} {self._places.clause(self._next, until)}"
            reader = self._asked(connection, text)
            if self._schema is not None and reader.schema != self._schema:
                raise SourceChanged(
                    "query: the columns of the answer have changed while it was followed; start "
                    "again"
                )
            return _Answer(
                reader, self._places.placed(_batches(reader), self._next), stack.pop_all()
            )
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self.database is not None and not self.database.is_file():
            raise SourceNotFound(f"{self.database}: no such database file")
        spill = tempfile.mkdtemp(prefix="featureline-query-")
        try:
            try:
                connection = duckdb.connect(
                    ":memory:" if self.database is None else str(self.database),
                    read_only=self.database is not None,
                    config={**self._settings, "temp_directory": spill},
                )
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                raise SourceUnavailable(
                    f"{self.database}: cannot be opened to read; a DuckDB file cannot be read "
                    f"while another process writes to it: {error}"
                ) from error
            except duckdb.Error as error:
                raise IngestError(f"query: DuckDB refuses a setting: {error}") from error
            with connection:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection
        finally:
            shutil.rmtree(spill, ignore_errors=True)

    def _asked(self, connection: duckdb.DuckDBPyConnection, text: str) -> pa.RecordBatchReader:
        with _explained():
            relation = connection.sql(text, params=self.parameters or None)
            return relation.to_arrow_reader(CHUNK_ROWS)


class _Placed(NamedTuple):
    """Rows with their offsets, and the position after each; None: a batch may not end there."""

    messages: list[Message]
    after: list[int | None]


class _Places(ABC):
    """How rows get their offsets."""

    partition: str

    @abstractmethod
    def clause(self, position: int | None, until: dt.datetime | None) -> str:
        """Return what follows FROM, so that the rows from a position on come in order."""

    @abstractmethod
    def placed(self, batches: Iterator[pa.RecordBatch], position: int | None) -> Iterator[_Placed]:
        """Give the rows from a position on; a batch may end after the last of each."""


@final
class _Counted(_Places):
    """Rows by number, with a check of all ordering keys before."""

    partition = "answer"

    def __init__(self, order_by: Sequence[str]) -> None:
        self._columns = list(order_by)

    def clause(self, position: int | None, until: dt.datetime | None) -> str:
        return "ORDER BY " + ", ".join(f"{_quoted(name)} NULLS FIRST" for name in self._columns)

    def placed(self, batches: Iterator[pa.RecordBatch], position: int | None) -> Iterator[_Placed]:
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
                yield _Placed(messages, [*offsets[1:], _counted(number, check)])
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
class _Valued(_Places):
    """Rows by the value of a column that grows."""

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

    def placed(self, batches: Iterator[pa.RecordBatch], position: int | None) -> Iterator[_Placed]:
        """Keep rows with the same value together: a position cannot lie between them."""
        held = _Placed([], [])
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
                            held = _Placed([], [])
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


@final
class _Answer:
    """A query that runs, and the rows that did not fit the last batch."""

    def __init__(
        self, reader: pa.RecordBatchReader, placed: Iterator[_Placed], stack: contextlib.ExitStack
    ) -> None:
        self._reader = reader
        self._placed = placed
        self._stack = stack
        self._left = _Placed([], [])
        self._error: IngestError | None = None

    def take(self, limit: int) -> tuple[list[Message], int]:
        """Return the next rows and the position after them.

        Raises:
            IngestError: what `_Places.placed` raises, after the rows before it.
        """
        taken: list[Message] = []
        following = 0
        while len(taken) < limit:
            if not self._left.messages and not self._read_on():
                break
            messages, after = self._left
            count = min(limit - len(taken), len(messages))
            while count and after[count - 1] is None:
                count -= 1
            if not count:
                break
            taken += messages[:count]
            following = after[count - 1] or 0
            self._left = _Placed(messages[count:], after[count:])
        if not taken:
            if self._error is not None:
                raise self._error
            if self._left.messages:
                raise IngestError(
                    f"query: more than {limit:,} rows share the value of the column that grows, "
                    f"and must be stored together; make batches larger"
                )
        return taken, following

    def close(self) -> None:
        self._reader.close()
        self._stack.close()

    def _read_on(self) -> bool:
        try:
            self._left = next(self._placed)
        except StopIteration:
            return False
        except IngestError as error:
            self._error = error
            return False
        return True


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    while True:
        with _explained():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise IngestError(f"query: DuckDB gives up: {error}") from error


def _single_select(sql: str) -> str:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise IngestError(f"query: expected a SELECT that DuckDB reads: {error}") from error
    kinds = [statement.type for statement in statements]
    if kinds != [duckdb.StatementType.SELECT]:
        got = ", ".join(str(kind).rpartition(".")[2] for kind in kinds) or "nothing"
        raise IngestError(f"query: expected one SELECT, got {got}")
    return str(statements[0].query).strip().rstrip(";").rstrip()


def _counted(number: int, check: int) -> int:
    return number << _CHECK_BITS | check & (1 << _CHECK_BITS) - 1


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
