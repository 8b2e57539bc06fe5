"""Datasets larger than memory: the spine goes through in pieces, what is made waits on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import duckdb
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from featurestore import parted, pointintime
from featurestore.dataset import METADATA_KEY, Resolved
from featurestore.datasetbuild import Proof, describe_build, join, output_names
from featurestore.digest import TableDigest
from featurestore.errors import InvalidRequest, InvalidSpine

__all__ = ["WrittenDataset", "folder_beside", "memory_bytes", "write"]

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_UNITS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_LEAST_BYTES: Final = 64 << 20
# DuckDB gets half. Of the rest, a piece of the spine is held about six times over while it is
# joined: as it came, as keys and times, joined, and on its way to the disk.
_PIECES: Final = 12
_ROW_BYTES: Final = 64
_LARGEST_PIECE: Final = 1 << 20
_ROW_GROUP: Final = 1 << 16


@final
@dataclass(frozen=True)
class WrittenDataset:
    """A dataset in a file, or in the folder of files that Spark wrote.

    Args:
        path: the Parquet file, which carries the manifest, or a folder as `parted` has it.
        manifest: see `Dataset`.
    """

    path: Path
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Names the content; that of the same dataset built in memory."""
        return str(self.manifest["fingerprint"])

    @property
    def versions(self) -> dict[str, int | None]:
        """The Delta table version that was read of each group."""
        return dict(self.manifest["versions"])

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    def reader(self, batch_rows: int = _ROW_GROUP) -> pa.RecordBatchReader:
        """Return the rows as a stream of batches, in order, read as they are asked for.

        Args:
            batch_rows: at most so many rows in a batch.
        """
        if batch_rows < 1:
            raise InvalidRequest(f"batch_rows: expected 1 or more, got {batch_rows}")
        if self.path.is_dir():
            schema = parted.schema_of(self.path).remove_metadata()
            parts = parted.batches(parted.parts_of(self.path), schema, batch_rows)
            return pa.RecordBatchReader.from_batches(schema, parts)
        file = pq.ParquetFile(self.path)
        schema = file.schema_arrow.remove_metadata()
        batches = file.iter_batches(batch_rows)
        return pa.RecordBatchReader.from_batches(
            schema, (batch.replace_schema_metadata(None) for batch in batches)
        )


def memory_bytes(limit: int | str) -> int:
    """Read a memory limit: bytes, or a text such as `512MB` or `2 GB` (of 1024).

    Raises:
        InvalidRequest: another form, or less than 64 MB.

    >>> memory_bytes("1.5GB")
    1610612736
    """
    found = _SIZE.fullmatch(str(limit).strip())
    if found is None:
        raise InvalidRequest(f"memory_limit: expected bytes or a text like 512MB, got {limit!r}")
    size = int(float(found.group(1)) * 1024 ** _UNITS[found.group(2).upper()])
    if size < _LEAST_BYTES:
        raise InvalidRequest(f"memory_limit: expected 64MB or more, got {limit!r}")
    return size


def write(
    spine: pa.RecordBatchReader,
    resolved: Sequence[Resolved],
    path: Path,
    *,
    time: str,
    as_of_us: int | None = None,
    memory_limit: int,
    recorded: Callable[[dict[str, Any]], dict[str, Any]],
    threads: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> WrittenDataset:
    """Build a dataset into a file, holding only a piece of it in memory.

    The joined rows wait in an uncompressed file beside `path`, which DuckDB's spilled sorts join;
    both are gone at the end. `path` appears whole or not at all.

    Args:
        spine: see `datasetbuild.build`.
        resolved: the selections.
        path: the Parquet file to write.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        memory_limit: bytes that the build may take beyond what the process holds already. Pages
            of the waiting file that the system keeps cached are not counted.
        recorded: records the manifest in lineage, before the file appears; returns what the file
            shall carry.
        threads: for DuckDB; the result does not depend on it.
        on_progress: called with the number of rows joined so far.

    Raises:
        InvalidSpine: a column is missing, has the wrong type, or a time is null.
        FeatureNotFound: a selection names no feature of its group.
        InvalidRequest: the join does not fit into the limit.

    Cost: each group's files are read once for each piece of the spine; a spine in the order of time
    reads the fewest.
    """
    names = output_names(spine.schema.names, resolved)
    features = sum(map(len, names))
    proof: list[Proof] = [{"matched": 0, "youngest_us": None} for _ in resolved]
    rows = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(path) as folder:
        connection = pointintime.connect(
            threads=threads, memory_limit=f"{memory_limit // 2}B", spill=folder / "sort"
        )
        waiting = folder / "rows.arrow"
        try:
            with pa.OSFile(str(waiting), "wb") as sink:
                writer = None
                for piece in _pieces(spine, memory_limit // _PIECES, features):
                    with _told_where(rows, memory_limit):
                        table, seen = join(
                            piece,
                            resolved,
                            names,
                            time=time,
                            as_of_us=as_of_us,
                            connection=connection,
                            held_bytes=memory_limit // _PIECES,
                        )
                    table = _plain(table)
                    writer = writer or pa.ipc.new_stream(sink, table.schema)
                    writer.write_table(table, _ROW_GROUP)
                    proof = [_both(one, other) for one, other in zip(proof, seen, strict=True)]
                    rows += len(piece)
                    if on_progress is not None:
                        on_progress(rows)
                assert writer is not None
                writer.close()
        finally:
            connection.close()
        spine_digest, rows_digest = _digests(waiting, rows, len(spine.schema.names))
        manifest = describe_build(
            spine.schema.names,
            resolved,
            names,
            time=time,
            as_of_us=as_of_us,
            rows=rows,
            spine_digest=spine_digest,
            rows_digest=rows_digest,
            proof=proof,
        )
        manifest = recorded(manifest)
        part = folder / "rows.parquet"
        _write_parquet(waiting, part, manifest)
        part.replace(path)
        return WrittenDataset(path, manifest)


def _pieces(spine: pa.RecordBatchReader, size_bytes: int, features: int) -> Iterator[pa.Table]:
    """Cut the spine so that a joined piece is about so large; at least one piece, maybe empty."""
    held: list[pa.RecordBatch] = []
    rows = 0
    wanted = 0
    given = False
    for batch in spine:
        if not wanted and len(batch):
            width = batch.nbytes / len(batch) + _ROW_BYTES + 16 * features
            # Digests take pieces whose length is a multiple of 8.
            wanted = min(_LARGEST_PIECE, max(8, int(size_bytes / width) // 8 * 8))
        start = 0
        while len(batch) - start >= wanted - rows > 0:
            held.append(batch.slice(start, wanted - rows))
            start += len(held[-1])
            yield pa.Table.from_batches(held, spine.schema)
            given, held, rows = True, [], 0
        if len(batch) > start:
            held.append(batch.slice(start))
            rows += len(held[-1])
    if held or not given:
        yield pa.Table.from_batches(held, spine.schema)


def _plain(table: pa.Table) -> pa.Table:
    """Decode dictionaries, which would differ from piece to piece."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).combine_chunks()


def _both(one: Proof, other: Proof) -> Proof:
    ages = [proof["youngest_us"] for proof in (one, other) if proof["youngest_us"] is not None]
    matched = (one["matched"] or 0) + (other["matched"] or 0)
    return {"matched": matched, "youngest_us": min(ages, default=None)}


def _digests(waiting: Path, rows: int, spine_columns: int) -> tuple[str, str]:
    """Return the digest of the spine's columns, which come first, and that of all."""
    digest = TableDigest(rows)
    spine_digest = ""
    with pa.memory_map(str(waiting)) as source:
        reader = pa.ipc.open_stream(source)
        schema = reader.schema
        batches = list(reader)
        for number, column in enumerate(schema):
            if number == spine_columns:
                spine_digest = digest.hexdigest()
            digest.add(column.name, column.type, partial(_column, batches, number))
    return spine_digest or digest.hexdigest(), digest.hexdigest()


def _column(batches: Sequence[pa.RecordBatch], number: int) -> Iterator[pa.Array]:
    return (batch.column(number) for batch in batches)


def _write_parquet(waiting: Path, path: Path, manifest: Mapping[str, Any]) -> None:
    with pa.memory_map(str(waiting)) as source:
        reader = pa.ipc.open_stream(source)
        schema = reader.schema.with_metadata({METADATA_KEY: json.dumps(manifest)})
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Make a folder beside a path for what waits to become it; gone at the end."""
    folder = path.with_name(f".{path.name}.{os.getpid()}.parts")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _told_where(rows: int, memory_limit: int) -> Iterator[None]:
    """Say which rows an error is about, and what to do when the memory does not suffice."""
    try:
        yield
    except InvalidSpine as error:
        if not rows:
            raise
        raise InvalidSpine(f"{error.message} (rows counted from row {rows:,})") from error
    except duckdb.OutOfMemoryException as error:
        what = str(error).partition("\n")[0]  # then it says what to set in DuckDB
        raise InvalidRequest(
            f"memory_limit: the join does not fit into {memory_limit >> 20} MB after "
            f"{rows:,} rows; allow more, select fewer features, or set threads=1: {what}"
        ) from error
