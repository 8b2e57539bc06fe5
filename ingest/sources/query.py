"""A query as a source: whatever DuckDB reads, in an order that gives each row its place."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, final

import duckdb
import pyarrow as pa

import lineage
from featurestore import PartitionPosition
from featurestore.errors import nearest
from ingest.errors import (
    IngestError,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
)
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.place import Counted, Placed, Places, Valued
from ingest.sources.rows import CHUNK_ROWS, refuse_naive_times

__all__ = ["QuerySource"]

_NO_PARAMETERS: Final[Mapping[str, object]] = MappingProxyType({})


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
        self._places: Places | None = None
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
            Counted(self.order_by) if self.increasing is None else Valued(self.increasing, schema)
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


@final
class _Answer:
    """A query that runs, and the rows that did not fit the last batch."""

    def __init__(
        self, reader: pa.RecordBatchReader, placed: Iterator[Placed], stack: contextlib.ExitStack
    ) -> None:
        self._reader = reader
        self._placed = placed
        self._stack = stack
        self._left = Placed([], [])
        self._error: IngestError | None = None

    def take(self, limit: int) -> tuple[list[Message], int]:
        """Return the next rows and the position after them.

        Raises:
            IngestError: what `Places.placed` raises, after the rows before it.
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
            self._left = Placed(messages[count:], after[count:])
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
