"""`text/csv` as SageMaker's algorithms take it: no header row, the label first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

__all__ = ["LABEL", "read"]

LABEL = "label"

_MAX_BLOCK_BYTES = 2**30


def read(path: Path, parameters: Mapping[str, str]) -> pa.Table:
    """Read a CSV file; its columns are called `label`, `f0`, `f1` and so on.

    With `label_size=0` there is no label column, so that the input columns have the same names
    with and without a label. Types are found from the values; an empty field is null.
    """
    try:
        table = _read(path, pyarrow.csv.ReadOptions(autogenerate_column_names=True))
    except pa.ArrowInvalid:
        # The reader decides a type from the first block, and a later block held other values
        # (`1`, then `1.5`): let it see the whole file before it decides.
        size = min(max(path.stat().st_size * 2, 2**20), _MAX_BLOCK_BYTES)
        table = _read(
            path, pyarrow.csv.ReadOptions(autogenerate_column_names=True, block_size=size)
        )
    labels = min(int(parameters.get("label_size", "1")), 1)
    names = [LABEL] * labels + [f"f{i}" for i in range(table.num_columns - labels)]
    return table.rename_columns(names)


def _read(path: Path, options: pyarrow.csv.ReadOptions) -> pa.Table:
    return pyarrow.csv.read_csv(
        path,
        read_options=options,
        convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True),
    )
