"""Datasets that Spark joins: in memory, or written by the executors."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import parted, pointintime
from featurestore.convert import arrow_type
from featurestore.dataset import METADATA_KEY, Dataset, Resolved
from featurestore.datasetbuild import Proof, describe_build, output_names
from featurestore.digest import TableDigest, table_digest
from featurestore.errors import InternalError, InvalidRequest
from featurestore.spark.join import Step, as_of_join
from featurestore.spark.session import configured, session
from featurestore.spark.spine import facts, key_of, numbered, spine_files
from featurestore.streamed import WrittenDataset, folder_beside

__all__ = ["build", "write"]

FILE_ROWS: Final = 1 << 20
_BATCH_ROWS: Final = 1 << 16  # a multiple of 8, as digests need it


def build(
    spine: pa.Table,
    resolved: Sequence[Resolved],
    *,
    time: str,
    as_of_us: int | None = None,
    spark: Any | None = None,
) -> Dataset:
    """Join a spine in memory by Spark; the result is that of `datasetbuild.build`.

    Only times and identifiers go to the executors, and the features come back.

    Args:
        spine: see `datasetbuild.build`.
        resolved: the selections, whose files the executors can read.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        spark: the session; None: see `session`.

    Raises:
        InvalidSpine: a column is missing, has the wrong type, or a time is null.
        FeatureNotFound: a selection names no feature of its group.
        InvalidRequest: pyspark or Java is not there, or a selection is of a windowed group.
        StoreUnavailable: Spark could not finish.
    """
    _refuse_windows(resolved)
    names = output_names(spine.schema.names, resolved)
    times = pointintime.spine_times(spine, time)
    asked: dict[str, Any] = {"_row": np.arange(len(spine)), "_time": times.cast(pa.int64())}
    for number, entry in enumerate(resolved):
        key = entry.selection.key or entry.group.record_identifier
        asked[f"k{number}"] = pointintime.spine_keys(spine, key, entry.group)
    ends = pc.min_max(asked["_time"]).as_py()
    keys = [f"k{number}" for number in range(len(resolved))]
    steps = _steps(resolved, names, keys, (ends["min"], ends["max"]), as_of_us)
    opened = session(spark)
    with configured(opened):
        frame = as_of_join(
            opened,
            opened.createDataFrame(pa.table(asked)),
            steps,
            rows=len(spine),
            latest_us=ends["max"] or 0,
            as_of_us=as_of_us,
        )
        wanted = [name for step in steps for name in (*step.columns, step.age)]
        joined = frame.select("_row", *wanted).toArrow().sort_by("_row")
    if not np.array_equal(joined["_row"].to_numpy(), np.arange(len(spine))):
        raise InternalError(
            f"Spark's join gave {len(joined)} rows for {len(spine)} spine rows; please report it"
        )
    columns: dict[str, Any] = dict(zip(spine.schema.names, spine.columns, strict=True))
    proof = []
    for entry, chosen, step in zip(resolved, names, steps, strict=True):
        kinds = entry.group.definitions
        for (feature, output), column in zip(chosen.items(), step.columns, strict=True):
            columns[output] = joined[column].cast(arrow_type(kinds[feature])).combine_chunks()
        ages = joined[step.age]
        proof.append(_proof(entry, len(ages) - ages.null_count, pc.min(ages).as_py()))
    table = pa.table(columns)
    manifest = describe_build(
        spine.schema.names,
        resolved,
        names,
        time=time,
        as_of_us=as_of_us,
        rows=len(table),
        spine_digest=table_digest(spine),
        rows_digest=table_digest(table),
        proof=proof,
    )
    return Dataset(table, manifest)


def write(
    spine: object,
    resolved: Sequence[Resolved],
    path: Path,
    *,
    time: str,
    as_of_us: int | None = None,
    recorded: Callable[[dict[str, Any]], dict[str, Any]],
    spark: Any | None = None,
) -> WrittenDataset:
    """Build a dataset into a folder; Spark's executors read the spine and write the rows.

    The rows lie in `part-00000.parquet` and on in the spine's order, about a million in each. This
    process reads what was written once, column by column, for the digests, and needs the memory
    of a batch. The folder appears whole or not at all, and replaces a dataset of its name.

    Args:
        spine: Parquet files, a Spark DataFrame, or any other spine; see `spine_files`.
        resolved: the selections, whose files the executors can read.
        path: the folder; on a file system that this process and the executors share.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        recorded: records the manifest in lineage, before the folder appears; returns what it shall
            carry.
        spark: the session; None: see `session`.

    Raises:
        InvalidSpine: a column is missing, has the wrong type, or a time is null.
        FeatureNotFound: a selection names no feature of its group.
        InvalidRequest: pyspark or Java is not there, a selection is of a windowed group, or
            something else has the folder's name.
        StoreUnavailable: Spark could not finish.

    Cost: each group's files are read once, and spread over the executors with the spine.
    """
    _refuse_windows(resolved)
    _refuse_other(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = session(spark)
    with folder_beside(path.absolute()) as folder, configured(opened):
        asked = spine_files(spine, folder)
        names = output_names(asked.schema.names, resolved)
        keys = [key_of(asked, entry) for entry in resolved]
        frame = numbered(opened, asked, time)
        known = facts(opened, frame, asked, time, resolved)
        steps = _steps(resolved, names, keys, known[1:], as_of_us)
        joined = as_of_join(
            opened,
            frame,
            steps,
            rows=known.rows,
            latest_us=known.latest_us or 0,
            as_of_us=as_of_us,
        )
        schema = pa.schema(
            [
                *asked.schema,
                *(
                    pa.field(output, arrow_type(entry.group.definitions[feature]))
                    for entry, chosen in zip(resolved, names, strict=True)
                    for feature, output in chosen.items()
                ),
            ]
        )
        rows = folder / "rows"
        seen = _write_rows(joined, steps, known.rows, schema.names, rows)
        files = _named(rows)
        if parted.file_rows(files) != known.rows:
            raise InternalError(
                f"Spark's join gave {parted.file_rows(files)} rows for {known.rows} spine rows; "
                f"please report it"
            )
        proof = [
            _proof(entry, seen[f"n{number}"], seen[f"least{number}"])
            for number, entry in enumerate(resolved)
        ]
        spine_digest, rows_digest = _digests(files, schema, known.rows, len(asked.schema))
        manifest = recorded(
            describe_build(
                asked.schema.names,
                resolved,
                names,
                time=time,
                as_of_us=as_of_us,
                rows=known.rows,
                spine_digest=spine_digest,
                rows_digest=rows_digest,
                proof=proof,
            )
        )
        parted.seal(rows, schema.with_metadata({METADATA_KEY: json.dumps(manifest)}))
        if path.exists():
            path.rename(folder / "replaced")
        rows.rename(path)
    return WrittenDataset(path, manifest)


def _steps(
    resolved: Sequence[Resolved],
    names: Sequence[Mapping[str, str]],
    keys: Sequence[str],
    ends: Sequence[int | None],
    as_of_us: int | None,
) -> list[Step]:
    times = pa.array([us for us in ends if us is not None], pa.int64())
    return [
        Step(
            group=entry.group,
            features=tuple(chosen),
            key=key,
            columns=tuple(f"v{number}_{place}" for place in range(len(chosen))),
            age=f"age{number}",
            snapshot=pointintime.seen_files(
                entry.snapshot,
                times.cast(pa.timestamp("us", "UTC")),
                entry.selection.lookback_us,
                as_of_us=as_of_us,
            )
            if len(times)
            else None,
            lookback_us=entry.selection.lookback_us,
        )
        for number, (entry, chosen, key) in enumerate(zip(resolved, names, keys, strict=True))
    ]


def _write_rows(
    joined: Any, steps: Sequence[Step], rows: int, names: Sequence[str], target: Path
) -> Mapping[str, Any]:
    """Write the joined rows in their order; return of each step how many matched, and their age."""
    functions = importlib.import_module("pyspark.sql.functions")
    observation = importlib.import_module("pyspark.sql").Observation()
    measured = [functions.count("_row").alias("rows")]
    for number, step in enumerate(steps):
        measured.append(functions.count(step.age).alias(f"n{number}"))
        measured.append(functions.min(step.age).alias(f"least{number}"))
    values = [name for step in steps for name in step.columns]
    carried = [f"c{number}" for number in range(len(names) - len(values))]
    # Row numbers have no gaps, so that each file's rows are known without a sample of them. What is
    # observed behind the exchange is counted once, also when a task is run again.
    ordered = (
        joined.repartitionById(
            max(1, -(-rows // FILE_ROWS)), functions.expr(f"CAST(_row div {FILE_ROWS} AS INT)")
        )
        .sortWithinPartitions("_row")
        .observe(observation, *measured)
        .select(*carried, *values)
        .toDF(*names)
    )
    ordered.write.option("compression", "zstd").parquet(str(target))
    found: Mapping[str, Any] = observation.get
    return found


def _named(rows: Path) -> list[Path]:
    """Give the files that Spark wrote our names; remove what it wrote beside them."""
    written = parted.parts_of(rows)
    files = []
    for number, file in enumerate(written):
        files.append(file.rename(rows / f"part-{number:05d}.parquet"))
    for other in rows.iterdir():
        if other not in files:
            other.unlink()
    return files


def _digests(
    files: Sequence[Path], schema: pa.Schema, rows: int, spine_columns: int
) -> tuple[str, str]:
    """Return the digest of the spine's columns, which come first, and that of all."""
    digest = TableDigest(rows)
    spine_digest = ""
    for number, field in enumerate(schema):
        if number == spine_columns:
            spine_digest = digest.hexdigest()
        digest.add(field.name, field.type, partial(_column, files, schema, field.name))
    return spine_digest or digest.hexdigest(), digest.hexdigest()


def _column(files: Sequence[Path], schema: pa.Schema, name: str) -> Iterator[pa.Array]:
    return (batch.column(0) for batch in parted.batches(files, schema, _BATCH_ROWS, [name]))


def _proof(entry: Resolved, matched: int, youngest_us: int | None) -> Proof:
    if youngest_us is not None and youngest_us < 0:
        raise InternalError(
            f"{entry.group.name}: the join saw a value newer than its row; please report it"
        )
    return {"matched": matched, "youngest_us": youngest_us}


def _refuse_windows(resolved: Sequence[Resolved]) -> None:
    for entry in resolved:
        if entry.windows is not None:
            raise InvalidRequest(
                f"{entry.group.name}: a windowed group is computed by engine='duckdb', got "
                f"engine='spark'; write its features to a file and join that as the spine"
            )


def _refuse_other(path: Path) -> None:
    """Replace a dataset's folder, and nothing else."""
    if not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if not path.is_dir():
        raise InvalidRequest(f"{path}: expected the name of a folder, there is a file")
    try:
        parted.schema_of(path)
    except InvalidRequest:
        raise InvalidRequest(
            f"{path}: expected a new folder or one of a dataset, there is another one"
        ) from None
