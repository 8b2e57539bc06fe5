"""One entry of the records' maps, such as the features' `values`, over n records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["DTYPES", "KINDS", "NO_SHAPE", "Tensors", "joined"]

DTYPES: Final[dict[int, np.dtype[Any]]] = {
    2: np.dtype("<f4"),
    3: np.dtype("<f8"),
    7: np.dtype("<i4"),
}
"""Of each tensor's field number in `Value`, the type of its values."""

KINDS: Final = {dtype: number for number, dtype in DTYPES.items()}

NO_SHAPE: Final = -1


@final
@dataclass(frozen=True)
class Tensors:
    """The tensors that n records have under one name; a record may have none.

    Attributes:
        values: the numbers of all records, one behind the other.
        counts: how many values each record has.
        keys: the positions of a sparse vector's values, likewise.
        key_counts: how many keys each record has.
        shape: the product of each record's shape; `NO_SHAPE` where it says none.
        present: whether each record has the tensor at all.
    """

    values: npt.NDArray[Any]
    counts: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]
    key_counts: npt.NDArray[np.int64]
    shape: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]

    @classmethod
    def dense(cls, values: npt.NDArray[Any]) -> Tensors:
        """Make the dense tensors of n records of a matrix (n, d)."""
        count, width = values.shape
        return cls(
            values.reshape(-1),
            np.full(count, width),
            np.zeros(0, np.uint64),
            np.zeros(count, np.int64),
            np.full(count, NO_SHAPE),
            np.ones(count, np.bool_),
        )

    @classmethod
    def absent(cls, count: int, dtype: np.dtype[Any]) -> Tensors:
        """Make those of records that have none."""
        return cls(
            np.zeros(0, dtype),
            np.zeros(count, np.int64),
            np.zeros(0, np.uint64),
            np.zeros(count, np.int64),
            np.full(count, NO_SHAPE),
            np.zeros(count, np.bool_),
        )


def joined(parts: Sequence[Tensors]) -> Tensors:
    """Join the tensors of consecutive records; values of several types take one that holds all."""
    if len(parts) == 1:
        return parts[0]
    return Tensors(
        # Of float32 and int32 NumPy makes float64, which holds both.
        np.concatenate([part.values for part in parts if part.present.any()] or [parts[0].values]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.key_counts for part in parts]),
        np.concatenate([part.shape for part in parts]),
        np.concatenate([part.present for part in parts]),
    )
