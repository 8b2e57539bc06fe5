"""Documents as counts of words, for topic models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from training.errors import InvalidData
from training.inputs import Inputs
from training.matrix import dimensions, sparse

__all__ = ["counts_of"]


def counts_of(table: pa.Table, inputs: Inputs, *, channel: str) -> Any:
    """Return encoded rows as counts of words: a CSR matrix (n, `inputs.width`) without zeros.

    Raises:
        InvalidData: a count is missing, negative or no whole number.
    """
    counts = sparse(table, inputs, dtype=np.float64, channel=channel)
    wrong = (counts.data < 0) | (counts.data != np.floor(counts.data))
    if wrong.any():
        place = int(wrong.argmax())
        row = int(np.searchsorted(counts.indptr, place, side="right"))
        raise InvalidData(
            f"{channel}: {dimensions(inputs)[counts.indices[place]]} is "
            f"{counts.data[place]:g} in row {row}, and topics are of counts of words: whole "
            "numbers >= 0",
            channel=channel,
        )
    counts.eliminate_zeros()
    return counts
