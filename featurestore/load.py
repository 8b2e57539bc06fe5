"""A bulk load: rows straight into the offline table, the latest ones online, once for each key.

    rows ─► checked, in a file ─► sorted by date and identifier ─► one Delta commit ─► online store
            loads/…                 parts of the table               with the key

A load is done again, whole, until it comes to its end; what an earlier try has done is not done
twice. The commit carries the key, and the content's digest as the transaction's number, so the
table says what is in it. What the online store needs to know of the moment of the commit is noted
before it in a journal; should that be lost, the table is asked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import convert, eventtime, pointintime
from featurestore.arrowcode import Encoded, encode_batch
from featurestore.codec import NEVER, OutboxEntries
from featurestore.digest import table_digest
from featurestore.errors import FeatureGroupNotFound, InvalidRequest, StoreUnavailable
from featurestore.journal import Journal
from featurestore.latest import MEMORY_LIMIT, latest_versions, slice_rows
from featurestore.loaded import LoadResult, Progress
from featurestore.offline.bulk import append_sorted
from featurestore.pointintime import quoted
from featurestore.provenance import recorded_load
from featurestore.registry import Registered
from featurestore.rows import numbers_of_text, pieces, row_batches
from featurestore.schema import Ttl
from featurestore.settle import Stores, settle
from featurestore.store import WriteError

__all__ = ["expiries", "load"]

FOLDER: Final = "loads"
MAX_KEY: Final = 200
_WRITE_ROWS: Final = 65_536
_DIGEST_DIGITS: Final = 15  # of 4 bits; a transaction's number has 63
_SPILLED: Final = "spilled"
_ROWS: Final = "rows.parquet"


def load(
    stores: Stores,
    group: str,
    data: object,
    *,
    key: str,
    source: str = "",
    on_progress: Progress | None = None,
) -> LoadResult:
    """Load rows into both stores of a group; see FeatureStore.load."""
    tell = on_progress or (lambda step, rows: None)
    _check_key(key)
    entry = stores.registry.get(group)
    if not entry.group.offline:
        raise InvalidRequest(
            f"{group}: the group has no offline store, and a load goes straight into it; use "
            f"put_table, which for the online store alone may be done twice"
        )
    batches = row_batches(data)
    with _own_folder(stores.home / FOLDER) as folder:
        staged = _stage(stores, entry, batches, folder / _ROWS, tell)
        if staged.seen == 0:
            raise InvalidRequest(f"{group}: expected a table with rows, got an empty one")
        if staged.rows == 0:
            return LoadResult(group, key, 0, staged.errors, False, None)
        stores.on_step("staged")
        with stores.flusher.settling(entry.number):
            return _bring_in(stores, entry, staged, key, source, tell)


def expiries(ttl: Ttl | None, event_times_us: Any) -> Any:
    """Return when records with a ttl cannot be read any more, µs; NEVER without one."""
    if ttl is None or ttl.us > eventtime.MAX_US - eventtime.MIN_US:
        return np.full(len(event_times_us), NEVER, np.int64)
    ends = event_times_us + ttl.us
    # One that ends after the last event time there is never ends.
    return np.where(ends > eventtime.MAX_US, NEVER, ends)


@final
@dataclass
class _Staged:
    """The checked rows of a load, as the offline table has them but for their write time.

    Args:
        path: a Parquet file.
        columns: of the offline table.
        seen: rows that were read.
        rows: rows that were accepted.
        size_bytes: of these, in memory.
        digest: of everything that was read.
        errors: of the others.
    """

    path: Path
    columns: pa.Schema
    seen: int = 0
    rows: int = 0
    size_bytes: int = 0
    digest: str = ""
    errors: list[WriteError] = field(default_factory=list)

    @property
    def spilled(self) -> Path:
        """A folder for what does not fit into memory."""
        return self.path.with_name(_SPILLED)


def _check_key(key: str) -> None:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidRequest(
            f"key: expected a text of 1 to {MAX_KEY} printable characters that names this load, "
            f"got {key!r:.80}"
        )


@contextmanager
def _own_folder(loads: Path) -> Iterator[Path]:
    """Make a folder for one load, and remove those that killed loads have left."""
    loads.mkdir(parents=True, exist_ok=True)
    for left in loads.glob("*.rows"):
        with _held(left) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)
    folder = loads / f"{uuid.uuid4().hex}.rows"
    part = folder.with_suffix(".part")
    part.mkdir()
    # Its lock is held before it has the name that others look for.
    with _held(part):
        part.rename(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock, which a kill gives back; say whether it was free."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


# -- from the rows to a file ----------------------------------------------------------------------


def _stage(
    stores: Stores,
    entry: Registered,
    batches: Iterator[pa.RecordBatch],
    path: Path,
    tell: Progress,
) -> _Staged:
    group = entry.group
    schema = convert.offline_schema(group)
    staged = _Staged(path, schema)
    written = schema.remove(schema.get_field_index("write_time"))
    digest = hashlib.sha256()
    called = stores.now()
    with pq.ParquetWriter(
        path, written, compression="lz4", use_dictionary=False, write_statistics=False
    ) as writer:
        for piece in pieces(
            batches, on_block=lambda block: digest.update(table_digest(block).encode())
        ):
            encoded = encode_batch(
                group,
                numbers_of_text(group, piece),
                now=stores.now(),
                tolerance_us=stores.tolerance_us,
            )
            staged.errors.extend(
                WriteError(
                    staged.seen + row,
                    type(error).__name__,
                    f"{error} (row {staged.seen + row})",
                )
                for row, error in encoded.refused
            )
            rows = convert.entries_to_table(
                group, _as_entries(entry, encoded, staged.seen, called), write_time_us=0
            ).select(written.names)
            writer.write_table(rows)
            staged.seen += len(piece)
            staged.rows += len(rows)
            staged.size_bytes += rows.nbytes
            tell("read", staged.seen)
    staged.digest = digest.hexdigest()
    return staged


def _as_entries(entry: Registered, encoded: Encoded, start: int, called: int) -> OutboxEntries:
    """Write accepted rows as a flush takes them; the sequence is the number of the row, from 1."""
    count = len(encoded.records)
    return OutboxEntries(
        [
            encoded.rows + (start + 1),
            np.zeros(count, np.int64),
            np.full(count, entry.version, np.int64),
            encoded.event_times_us,
            expiries(entry.group.ttl, encoded.event_times_us),
            np.full(count, called, np.int64),
        ],
        encoded.records,
    )


# -- from the file into the stores ----------------------------------------------------------------


def _bring_in(
    stores: Stores, entry: Registered, staged: _Staged, key: str, source: str, tell: Progress
) -> LoadResult:
    """Do what is left of a load; nobody else brings rows of the group online meanwhile."""
    group = entry.group.name
    current = stores.registry.get(group)
    if current.number != entry.number:
        raise FeatureGroupNotFound(group)
    table = stores.table(current)
    application = f"featureline-load:{key}"
    transaction = int(staged.digest[:_DIGEST_DIGITS], 16) + 1
    found = table.last_sequence(application)
    if found not in (0, transaction):
        raise InvalidRequest(
            f"{group}: the load {key!r} was done with other rows (or the same ones in another "
            f"form); give other rows another key"
        )
    named = hashlib.sha256(f"{entry.number}/{key}".encode()).hexdigest()[:32]
    journal = Journal(stores.home / FOLDER / f"{named}.json")
    noted = journal.read()
    if noted.get("digest") != staged.digest or noted.get("store_id") != stores.online.store_id:
        noted = {}
    if found and noted.get("done"):
        return LoadResult(group, key, staged.rows, staged.errors, True, noted["version"])
    with recorded_load(
        stores.graph(), group, source, name=f"load-{group}-{named[:16]}", key=key
    ) as job:
        if not found:
            noted = {
                "key": key,
                "digest": staged.digest,
                "store_id": stores.online.store_id,
                "done": False,
            }
            with stores.appending(current) as (appending, mark):
                # An erasure that begins behind this line waits for the commit, and reaches it.
                _leave_out_erased(stores, entry, staged)
                noted["mark"] = mark
                journal.write(noted)
                stores.on_step("noted")
                noted["version"] = append_sorted(
                    table,
                    _sorted(entry, staged, appending.write_time(), mark),
                    identifier=entry.group.record_identifier,
                    application=application,
                    transaction=transaction,
                    metadata={"key": key, "digest": staged.digest},
                    on_rows=lambda rows: tell("write", rows),
                    on_files=lambda: stores.on_step("files"),
                )
            stores.on_step("committed")
        if entry.group.online:
            _bring_online(stores, current, staged, noted, tell)
        job.property("rows", staged.rows)
        job.property("refused", len(staged.errors))
        stores.on_step("recorded")
    version = noted.get("version") or table.version()
    journal.write(
        {
            "key": key,
            "digest": staged.digest,
            "store_id": stores.online.store_id,
            "version": version,
            "done": True,
        }
    )
    return LoadResult(group, key, staged.rows, staged.errors, bool(found), version)


def _leave_out_erased(stores: Stores, entry: Registered, staged: _Staged) -> None:
    """Take out what an erasure covers: as with records that are put, it is stored nowhere."""
    identifier = entry.group.record_identifier
    masks = []
    with pq.ParquetFile(staged.path) as file:
        for batch in file.iter_batches(_WRITE_ROWS, columns=[identifier, "_event_time"]):
            values = batch.column(identifier).to_pylist()
            texts = [(v if isinstance(v, str) else repr(v)).encode() for v in values]
            through = stores.online.erased_through(entry.number, texts)
            times = batch.column("_event_time").cast(pa.int64()).to_pylist()
            pairs = zip(through, times, strict=True)
            masks.append(np.array([end is None or time > end for end, time in pairs]))
        if all(mask.all() for mask in masks):
            return
        kept = staged.path.with_name(f"kept-{staged.path.name}")
        with pq.ParquetWriter(
            kept, file.schema_arrow, compression="lz4", use_dictionary=False, write_statistics=False
        ) as writer:
            for batch, mask in zip(file.iter_batches(_WRITE_ROWS), masks, strict=True):
                writer.write_batch(batch.filter(pa.array(mask)))
    kept.replace(staged.path)


def _bring_online(
    stores: Stores, entry: Registered, staged: _Staged, noted: dict[str, Any], tell: Progress
) -> None:
    rows = slice_rows(staged.rows, staged.size_bytes)
    if "mark" in noted:
        latest = latest_versions(
            entry.group,
            [str(staged.path)],
            staged.columns.names,
            spill=staged.spilled,
            slice_rows=rows,
            order="ROW(_event_time, _sequence)",
        )
        mark = int(noted["mark"])
    else:
        # Without a note of the moment of the commit, the table says what comes last.
        table = stores.table(entry)
        with stores.appending(entry) as (_, mark):
            snapshot = table.scan()
        assert snapshot is not None
        latest = latest_versions(
            entry.group,
            snapshot.files,
            snapshot.columns,
            spill=staged.spilled,
            slice_rows=rows,
            among=staged.path,
        )
    done = 0
    for batch in latest:
        settle(stores, entry, batch, mark=mark)
        done += len(batch)
        tell("online", done)


def _sorted(
    entry: Registered, staged: _Staged, write_time_us: int, mark: int
) -> pa.RecordBatchReader:
    """Read the staged rows as the offline table takes them, by date and identifier."""
    schema = staged.columns
    made = {
        "write_time": f"make_timestamptz({write_time_us:d}) AS write_time",
        # Behind what was put before, whose sequences go up to the mark.
        "_sequence": f"_sequence + {mark:d} AS _sequence",
    }
    chosen = ", ".join(made.get(name) or quoted(name) for name in schema.names)
    identifier = quoted(entry.group.record_identifier)

    def batches() -> Iterator[pa.RecordBatch]:
        connection = pointintime.connect(memory_limit=MEMORY_LIMIT, spill=staged.spilled)
        try:
            reader = connection.sql(
                f"SELECT {chosen} FROM read_parquet($file, hive_partitioning = false) "
                f"ORDER BY _event_date, {identifier}, _event_time, _sequence",
                params={"file": str(staged.path)},
            ).to_arrow_reader(slice_rows(staged.rows, staged.size_bytes, at_most=_WRITE_ROWS))
            for batch in reader:
                yield _cast(batch.columns, schema)
        except duckdb.Error as error:
            raise StoreUnavailable(
                f"{entry.group.name}: the rows cannot be sorted: {error}; nothing was stored"
            ) from error
        finally:
            connection.close()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _cast(columns: Sequence[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [column.cast(kind.type) for column, kind in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
