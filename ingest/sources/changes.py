"""A Delta table as a source: the rows that its versions added, changed and deleted."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, final

import pyarrow as pa
import pyarrow.parquet as pq

import lineage
from featurestore import PartitionPosition
from featurestore.errors import nearest
from ingest.errors import IngestError, SourceUnavailable
from ingest.source import DELETED, Batch, Message, Source, StoredPositions
from ingest.sources.deltalog import Commit, DataFile, DeltaLog, TableDefinition
from ingest.sources.deltarows import ChangedRow, FileRows, partition_value, shown_columns
from ingest.sources.rows import CHUNK_ROWS, refuse_naive_times

__all__ = ["DeltaChanges"]

_log = logging.getLogger(__name__)

_PARTITION: Final = "table"
_VERSION_BITS: Final = 32
_SNAPSHOT: Final = 1 << 31
_REFRESH_S: Final = 30.0


@final
class DeltaChanges(Source):
    """Reads the changes of a Delta table, version by version, and waits for more.

    Without a start it first gives the rows of the table as it is, then the changes after that.
    With the table's change data feed switched on (`delta.enableChangeDataFeed`) an inserted or
    updated row is a record, and a deleted one a deletion, at the time of its version. Without the
    feed only versions that add rows can be followed. Compaction changes no rows and is passed over.

    In a feature group's own table the store's columns are hidden, and its deletion markers are
    deletions at their own event time: so one group may be derived from another.

    The order is the same whenever it is read: by version, by file as the log names them, by row.
    The position is `version * 2**32 + row`, where rows of the table as it was at the beginning
    count from `2**31`; once a version is stored whole, it is the beginning of the next one.

    Args:
        uri: the table's folder, local or on an object store.
        storage_options: what the object store asks for, as deltalake takes it.
        starting_version: begin with what this version changed; 0 is the first one.
        starting_time: begin with the first version committed at this time or later.
        on_rewrite: what to do about a version that changes or removes rows without saying which:
            end the run, or leave the version out with a warning.
        identifier: the column of the record identifier. With it a version that replaces files
            whole (an overwrite) can be followed in a table with the feed: rows that do not come
            again are deletions.
        look_s: time between two looks for a new version.
        unavailable_timeout_s: how long to try again while the table cannot be read.

    Raises:
        ValueError: an option is out of range, or two starts are given.

    Cost: one file's row group of memory; a commit's list of files. An overwrite takes the
    identifiers of the rows it adds.
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, str] | None = None,
        starting_version: int | None = None,
        starting_time: dt.datetime | None = None,
        on_rewrite: Literal["fail", "skip"] = "fail",
        identifier: str | None = None,
        look_s: float = 1.0,
        unavailable_timeout_s: float = 60.0,
    ) -> None:
        if starting_version is not None and starting_time is not None:
            raise ValueError("starting_version: expected it or starting_time, got both")
        if starting_version is not None and starting_version < 0:
            raise ValueError(f"starting_version: expected 0 or more, got {starting_version}")
        if starting_time is not None and starting_time.tzinfo is None:
            raise ValueError(f"starting_time: expected a time with a zone, got {starting_time}")
        if on_rewrite not in ("fail", "skip"):
            raise ValueError(f"on_rewrite: expected 'fail' or 'skip', got {on_rewrite!r}")
        if not look_s > 0:
            raise ValueError(f"look_s: expected more than 0 seconds, got {look_s}")
        self.uri = uri
        self.starting_version = starting_version
        self.starting_time = starting_time
        self.on_rewrite = on_rewrite
        self.identifier = identifier
        self._options = dict(storage_options or {})
        self._look_s = look_s
        self._unavailable_timeout_s = unavailable_timeout_s
        self._away_since: float | None = None
        self._table: DeltaLog | None = None
        self._definition: TableDefinition | None = None
        self._target = 0
        self._next = 0
        # Where the last batch ended: versions without rows move only the place that is next.
        self._handed_out = 0
        self._chunks: Iterator[_Chunk] = iter(())
        self._chunk = _Chunk([], 0)
        self._error: IngestError | None = None
        self._refreshed_at = 0.0
        self._versions: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """`delta:ID`, with the id that the table got when it was made."""
        return f"delta:{self.uri if self._table is None else self._table.definition.table_id}"

    def inputs(self) -> Sequence[lineage.Entity]:
        """Name the table with the versions whose rows were read."""
        if self._versions is None:
            return ()
        first, last = self._versions
        return (
            lineage.artifact(
                "Table",
                self.uri,
                content_hash=f"delta:{self._log.definition.table_id}@{first}-{last}",
                properties={"first_version": first, "last_version": last},
            ),
        )

    def seek(self, stored: StoredPositions) -> None:
        """Go on where the store stands.

        Raises:
            SourceNotFound: there is no table.
            SourceUnavailable: it cannot be reached.
            PositionLost: the log no longer has the version that comes next.
            IngestError: the table has what cannot be read, or no such starting version.
        """
        self.close()
        self._table = table = DeltaLog(self.uri, self._options)
        self._target = table.latest
        self._refreshed_at = time.monotonic()
        position = stored().get(_PARTITION)
        self._next = self._begin(table) if position is None else position
        self._handed_out = self._next
        version = self._next >> _VERSION_BITS
        self._define(table.definition if version > table.latest else table.definition_at(version))
        self.columns = shown_columns(table.definition.schema)
        self._check_identifier(self.columns)
        self._chunks = self._follow(*divmod(self._next, 1 << _VERSION_BITS))
        self._chunk = _Chunk([], self._next)

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next changes; small versions share a batch.

        Raises:
            PositionLost: a file or a version is gone before all of it was stored.
            SourceUnavailable: the table could not be read for `unavailable_timeout_s`.
            IngestError: a version removes rows without saying which (see `on_rewrite`), or needs
                more than this reader does.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        deadline = time.monotonic() + timeout_s
        messages: list[Message] = []
        while len(messages) < max_records:
            room = max_records - len(messages)
            taken, left = self._chunk.rows[:room], self._chunk.rows[room:]
            messages += taken
            if left:
                self._chunk = self._chunk._replace(rows=left)
                self._next = taken[-1].offset + 1
                break
            self._next = self._chunk.end
            self._chunk = _Chunk([], self._next)
            try:
                fresh = next(self._chunks)
            except SourceUnavailable as error:
                # What is left of the iterator is of no use; a new one goes on at the same place.
                self._chunks = self._follow(*divmod(self._next, 1 << _VERSION_BITS))
                self._wait(error)
                fresh = _NOTHING
            except IngestError as error:
                if not messages:
                    raise
                self._error = error  # after what was read before it
                break
            else:
                self._away_since = None
            if fresh is not _NOTHING:
                self._chunk = fresh
                continue
            if messages or time.monotonic() >= deadline:
                break
            time.sleep(max(0.0, min(self._look_s, deadline - time.monotonic())))
        is_caught_up = self._next >> _VERSION_BITS > self._target and self._error is None
        if not messages:
            return Batch(is_caught_up=is_caught_up)
        first = messages[0].offset >> _VERSION_BITS
        last = messages[-1].offset >> _VERSION_BITS
        self._versions = (first if self._versions is None else self._versions[0], last)
        stretch = PartitionPosition(_PARTITION, self._handed_out, self._next)
        self._handed_out = self._next
        return Batch(messages, (stretch,), is_caught_up=is_caught_up)

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Do nothing: a table knows of no readers."""

    def close(self) -> None:
        """Forget what was read and not handed out."""
        self._chunks = iter(())
        self._error = None

    @property
    def _log(self) -> DeltaLog:
        assert self._table is not None, "known once connected"
        return self._table

    def _wait(self, error: SourceUnavailable) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since > self._unavailable_timeout_s:
            raise error
        _log.warning("%s; trying again", error)

    def _begin(self, table: DeltaLog) -> int:
        if self.starting_time is not None:
            return table.first_version_from(self.starting_time) << _VERSION_BITS
        if self.starting_version is None:
            return table.latest << _VERSION_BITS | _SNAPSHOT
        if self.starting_version > table.latest + 1:
            raise IngestError(
                f"{self.uri}: expected a starting_version up to {table.latest + 1}, got "
                f"{self.starting_version}"
            )
        return self.starting_version << _VERSION_BITS

    def _define(self, definition: TableDefinition) -> None:
        names = shown_columns(definition.schema)
        refuse_naive_times(
            pa.schema([definition.schema.field(name) for name in names]),
            self.uri,
            advice="cast the column to a timestamp with a zone",
        )
        self._definition = definition

    def _check_identifier(self, columns: Sequence[str]) -> None:
        if self.identifier is not None and self.identifier not in columns:
            raise IngestError(
                f"{self.uri}: identifier: the table has no column {self.identifier!r}"
                f"{nearest(self.identifier, columns)}"
            )

    def _follow(self, version: int, row: int) -> Iterator[_Chunk]:
        """Give the chunks from a place on, and _NOTHING whenever there is no more for now."""
        if row & _SNAPSHOT:
            files = self._log.snapshot(version)
            rows = self._rows(files, version, row ^ _SNAPSHOT, None)
            yield from _ending(self._placed(rows, version, _SNAPSHOT), version)
            version, row = version + 1, 0
        while True:
            commit = self._log.commit(version)
            if commit is None:
                self._refresh()
                yield _NOTHING
                continue
            if commit.definition is not None:
                self._define(commit.definition)
            rows = self._changed(commit, row)
            yield from _ending(self._placed(rows, version, 0), version)
            version, row = version + 1, 0

    def _refresh(self) -> None:
        """Now and then, make sure that "no such version" means "not yet"."""
        if time.monotonic() - self._refreshed_at > _REFRESH_S:
            self._log.refresh()
            self._refreshed_at = time.monotonic()

    def _placed(
        self, rows: Iterator[ChangedRow], version: int, first: int
    ) -> Iterator[list[Message]]:
        """Make messages of a version's rows, in chunks."""
        base = version << _VERSION_BITS | first
        chunk: list[Message] = []
        for row in rows:
            if row.number >= _SNAPSHOT:
                raise IngestError(
                    f"{self.uri} version {version}: expected at most {_SNAPSHOT:,} rows"
                )
            headers = (DELETED,) if row.is_deletion else ()
            chunk.append(
                Message(_PARTITION, base + row.number, row.values, None, row.time_us, headers)
            )
            if len(chunk) == CHUNK_ROWS:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _changed(self, commit: Commit, start: int) -> Iterator[ChangedRow]:
        assert self._definition is not None
        if self._definition.has_change_feed and commit.changes:
            return self._rows(commit.changes, commit.version, start, commit.time_us)
        if not commit.removed:
            return self._rows(commit.added, commit.version, start, commit.time_us)
        if self._definition.has_change_feed and (not commit.added or self.identifier):
            return self._replaced(commit, start)
        what = (
            f"{self.uri} version {commit.version} ({commit.operation or 'unknown operation'}) "
            f"removes or rewrites {len(commit.removed)} files without saying which rows changed"
        )
        if self.on_rewrite == "fail":
            advice = (
                "give the column of the record identifier"
                if self._definition.has_change_feed
                else "switch on the change data feed (delta.enableChangeDataFeed) for versions to "
                "come"
            )
            raise IngestError(
                f"{what}; {advice}, or leave such versions out with on_rewrite='skip' if their "
                f"rows can be done without"
            )
        _log.warning("%s: it is left out", what)
        return iter(())

    def _replaced(self, commit: Commit, start: int) -> Iterator[ChangedRow]:
        """Give the rows of removed files that do not come again as deletions, then those added."""
        again = None
        if commit.added:
            assert self.identifier is not None
            again = pa.chunked_array(
                [
                    chunk
                    for file in commit.added
                    for chunk in self._column(self.identifier, file, commit.version).chunks
                ]
            )
        number = 0
        for row in self._rows(
            commit.removed, commit.version, start, commit.time_us, is_removed=True, again=again
        ):
            yield row
        number = sum(self._length(file, commit.version) for file in commit.removed)
        for row in self._rows(commit.added, commit.version, max(start - number, 0), commit.time_us):
            yield row._replace(number=row.number + number)

    def _column(self, name: str, file: DataFile, version: int) -> pa.ChunkedArray:
        assert self._definition is not None
        with (
            self._log.reading(file, version),
            self._log.open(file, version) as opened,
            pq.ParquetFile(opened) as parquet,
        ):
            if name not in file.partition:
                return parquet.read(columns=[name]).column(0)
            value = partition_value(file.partition[name], self._definition.schema.field(name).type)
            return pa.chunked_array([pa.repeat(value, parquet.metadata.num_rows)])

    def _length(self, file: DataFile, version: int) -> int:
        with (
            self._log.reading(file, version),
            self._log.open(file, version) as opened,
            pq.ParquetFile(opened) as parquet,
        ):
            return int(parquet.metadata.num_rows)

    def _rows(
        self,
        files: Sequence[DataFile],
        version: int,
        start: int,
        time_us: int | None,
        *,
        is_removed: bool = False,
        again: pa.ChunkedArray | None = None,
    ) -> Iterator[ChangedRow]:
        """Give the rows of files from one on, which counts through all of them."""
        assert self._definition is not None
        first = 0
        for file in files:
            with (
                self._log.reading(file, version),
                self._log.open(file, version) as opened,
                pq.ParquetFile(opened) as parquet,
            ):
                reader = FileRows(parquet, file, self._definition.schema)
                for group in range(parquet.num_row_groups):
                    after = first + parquet.metadata.row_group(group).num_rows
                    if after <= start:
                        first = after
                        continue
                    for batch in reader.batches(group):
                        skipped = min(max(start - first, 0), len(batch))
                        kept = batch.slice(skipped)
                        yield from reader.changes(
                            kept, first + skipped, time_us, is_removed, self.identifier, again
                        )
                        first += len(batch)


class _Chunk(NamedTuple):
    """Messages, and the position after them."""

    rows: list[Message]
    end: int


_NOTHING: Final = _Chunk([], -1)


def _ending(chunks: Iterator[list[Message]], version: int) -> Iterator[_Chunk]:
    """Say of a version's last chunk that the next version comes after it.

    The position of a version that is stored whole must not need its files: they may be vacuumed.
    """
    held: list[Message] = []
    for chunk in chunks:
        if held:
            yield _Chunk(held, held[-1].offset + 1)
        held = chunk
    yield _Chunk(held, version + 1 << _VERSION_BITS)
