"""Documents as counts of words, for topic models."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from training.errors import InvalidData
from training.inputs import Inputs
from training.matrix import dimensions, sparse

__all__ = ["counts_of"]

_MOST: Final = 2**24
"""The most occurrences of a word in a document: up to here single precision has every number."""


def counts_of(table: pa.Table, inputs: Inputs, *, channel: str) -> Any:
    """Return encoded rows as counts of words: a CSR matrix (n, `inputs.width`) without zeros.

    Raises:
        InvalidData: a count is missing, negative, no whole number, or more than 2^24.
    """
    counts = sparse(table, inputs, dtype=np.float64, channel=channel)
    wrong = (counts.data < 0) | (counts.data != np.floor(counts.data)) | (counts.data > _MOST)
    if wrong.any():
        place = int(wrong.argmax())
        row = int(np.searchsorted(counts.indptr, place, side="right"))
        raise InvalidData(
            f"{channel}: {dimensions(inputs)[counts.indices[place]]} is "
            f"{counts.data[place]:g} in row {row}, and topics are of counts of words: whole "
            f"numbers from 0 to {_MOST:,}",
            channel=channel,
        )
    counts.eliminate_zeros()
    return counts
