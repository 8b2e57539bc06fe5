"""The latest version of each identifier in Parquet files, in the order of identifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from featurestore import pointintime
from featurestore.convert import INTERNAL_COLUMNS, arrow_type
from featurestore.errors import StoreUnavailable
from featurestore.pointintime import quoted
from featurestore.schema import FeatureGroup

__all__ = ["MEMORY_LIMIT", "latest_versions", "slice_rows"]

MEMORY_LIMIT: Final = "256MB"
_SLICE_BYTES: Final = 32 << 20
_SLICE_ROWS: Final = 10_000
_INTERNAL: Final = ("_event_time", "is_deleted", "_expires_at")


def latest_versions(
    group: FeatureGroup,
    files: Sequence[str],
    columns: Sequence[str],
    *,
    spill: Path,
    slice_rows: int = _SLICE_ROWS,
    order: str = pointintime.VERSION_ORDER,
    after: object = None,
    among: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read the latest version of each identifier, markers too, a slice at a time.

    Whatever the files' size it takes 256 MB and what a slice needs; the rest waits in `spill`.

    Args:
        group: the definition.
        files: Parquet files.
        columns: that they have.
        spill: a folder, made when needed.
        slice_rows: at most so many in a batch.
        order: of the versions of an identifier, in SQL; the last one counts.
        after: only identifiers behind this one; None: all.
        among: a Parquet file whose identifiers alone count; None: all.

    Returns:
        The features, `_event_time`, `is_deleted` and `_expires_at`.

    Raises:
        StoreUnavailable: a file cannot be read.
    """
    if not files:
        return
    names = [name for name in group.feature_names if name in columns]
    fields = [(name, arrow_type(group.definitions[name])) for name in names]
    schema = pa.schema(fields + [(name, INTERNAL_COLUMNS[name]) for name in _INTERNAL])
    identifier = quoted(group.record_identifier)
    parameters: dict[str, Any] = {"files": list(files)}
    conditions = ["true"]
    if after is not None:
        conditions.append(f"{identifier} > $after")
        parameters["after"] = after
    if among is not None:
        conditions.append(
            f"{identifier} IN (SELECT {identifier} FROM read_parquet($among, "
            f"hive_partitioning = false))"
        )
        parameters["among"] = str(among)
    connection = pointintime.connect(memory_limit=MEMORY_LIMIT, spill=spill)
    try:
        # The order of rows without one does not matter, and keeping it takes memory.
        connection.execute("SET preserve_insertion_order = false")
        reader = connection.sql(
            f"""
            SELECT {", ".join(map(quoted, schema.names))}
            FROM read_parquet($files, union_by_name = true, hive_partitioning = false)
            WHERE {" AND ".join(conditions)}
            QUALIFY row_number() OVER (PARTITION BY {identifier} ORDER BY {order} DESC) = 1
            ORDER BY {identifier}
            """,
            params=parameters,
        ).to_arrow_reader(slice_rows)
        for batch in reader:
            arrays = [
                column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except (duckdb.Error, OSError) as error:
        raise StoreUnavailable(
            f"{group.name}: the offline rows cannot be read: {error}; try again"
        ) from error
    finally:
        connection.close()


def slice_rows(rows: int, size_bytes: int, *, at_most: int = _SLICE_ROWS) -> int:
    """Return how many rows a slice may have that is to hold 32 MiB.

    >>> slice_rows(1000, 1000), slice_rows(1000, 1000 << 20)
    (10000, 32)
    """
    return max(1, min(at_most, _SLICE_BYTES * max(1, rows) // max(1, size_bytes)))
