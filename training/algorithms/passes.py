"""The rows of a fit as matrices: one in memory, or a part after another of those on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import numpy as np
import numpy.typing as npt

from training.data import Dataset
from training.errors import InvalidData
from training.inputs import Inputs
from training.streaming import Stream

__all__ = ["Passes", "matrix_of"]


@final
class Passes:
    """Rows that a fit passes over, as often as it asks.

    Args:
        data: n rows. Those of a dataset are made one matrix, once; those of a stream are read
            again in each pass, and their parts are made matrices one by one.

    Attributes:
        count: n.
        width: d, the numbers of a row.
        inputs: how rows are encoded.
        is_sparse: whether matrices are CSR.
        ends: where each part ends; the last is n.
    """

    def __init__(self, data: Dataset | Stream) -> None:
        self.count = len(data)
        self.width = data.width
        self.inputs: Inputs = data.inputs
        self.is_sparse = data.inputs.is_sparse
        self._stream = data if isinstance(data, Stream) else None
        self._whole: Any = None if isinstance(data, Stream) else matrix_of(data)
        self.ends = (self.count,) if self._stream is None else self._stream.bounds[1:]

    @property
    def in_memory(self) -> Any:
        """The matrix of all rows; None where they are read a part at a time."""
        return self._whole

    @property
    def cut(self) -> dict[str, int]:
        """What a checkpoint that counts batches must have been made with: how rows are cut."""
        return {} if self._stream is None else {"parts": len(self.ends), "part": self.ends[0]}

    def parts(self) -> Iterator[Any]:
        """Pass over the rows: matrices (m, d) of float32, arrays or CSR, in the rows' order.

        Raises:
            InvalidData: a value is missing or cannot be computed with.
        """
        if self._stream is None:
            yield self._whole
            return
        for part in self._stream.parts():
            yield matrix_of(part)

    def batches(self, size: int) -> int:
        """Count the batches of at most `size` rows, none of which has rows of two parts."""
        starts = (0, *self.ends[:-1])
        return sum(-(-(end - start) // size) for start, end in zip(starts, self.ends, strict=True))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Any:
        """Return the rows of these numbers as a matrix, in their order; a stream is read once.

        Raises:
            InvalidData: a value is missing or cannot be computed with.
        """
        if self._stream is None:
            return self._whole[rows]
        order = np.argsort(rows, kind="stable")
        try:
            found = matrix_of(self._stream.take(rows[order]))
        except InvalidData:
            # Its row is one of the rows taken; a pass over all names it as the files have it.
            for _ in self.parts():
                pass
            raise
        back = np.empty(len(rows), np.intp)
        back[order] = np.arange(len(rows))
        return found[back]


def matrix_of(data: Dataset) -> Any:
    """Return a dataset's matrix: CSR where an input is sparse, else an array, both float32."""
    return data.csr() if data.inputs.is_sparse else data.matrix()
