"""Rows for the trainer: taken by number, a whole batch at once."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Arrays", "Sampled", "Source", "SparseRows", "as_tensor"]

Index = npt.NDArray[np.int64]


class Source(ABC):
    """Rows that a trainer draws batches from."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abstractmethod
    def take(self, rows: Index) -> tuple[torch.Tensor, ...]:
        """Return the rows of these numbers as the tensors that the loss takes."""

    def batches(self, size: int, order: np.random.Generator | None) -> Iterator[Index]:
        """Cut all rows into batches of `size`, the last smaller; mixed where an order is given."""
        rows = np.arange(len(self)) if order is None else order.permutation(len(self))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def count(self, size: int) -> int:
        """How many batches there are."""
        return -(-len(self) // size)


@final
class Arrays(Source):
    """Dense rows: arrays or tensors of n rows each.

    They stay where they are: give tensors on the device where they fit into its memory.
    """

    def __init__(self, *arrays: npt.NDArray[Any] | torch.Tensor) -> None:
        self._tensors = tuple(
            array if isinstance(array, torch.Tensor) else as_tensor(array) for array in arrays
        )

    def __len__(self) -> int:
        return len(self._tensors[0])

    def take(self, rows: Index) -> tuple[torch.Tensor, ...]:
        """Return the rows."""
        index = torch.from_numpy(rows)
        return tuple(t.index_select(0, index.to(t.device)) for t in self._tensors)


@final
class SparseRows(Source):
    """Sparse rows as what `EmbeddingBag` takes: indices, offsets, weights; then further arrays.

    Args:
        matrix: a CSR matrix of n rows.
        arrays: further arrays of n rows, such as labels.
    """

    def __init__(self, matrix: Any, *arrays: npt.NDArray[Any]) -> None:
        self._starts = matrix.indptr.astype(np.int64)
        self._indices = matrix.indices.astype(np.int64)
        self._values = matrix.data.astype(np.float32, copy=False)
        self._more = tuple(as_tensor(array) for array in arrays)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def take(self, rows: Index) -> tuple[torch.Tensor, ...]:
        """Return indices (nnz,), offsets (rows,), weights (nnz,), then the further tensors."""
        starts = self._starts[rows]
        lengths = self._starts[rows + 1] - starts
        ends = np.cumsum(lengths)
        offsets = ends - lengths
        # Where each kept number lies: its row's start, and its place within the row.
        places = np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))
        index = torch.from_numpy(rows)
        return (
            torch.from_numpy(self._indices[places]),
            torch.from_numpy(offsets),
            torch.from_numpy(self._values[places]),
            *(tensor.index_select(0, index) for tensor in self._more),
        )


@final
class Sampled(Source):
    """A share of the rows of another source in each epoch, drawn anew each time.

    Args:
        source: the rows.
        share: how many of them, from 0 to 1; at least one row is taken.
    """

    def __init__(self, source: Source, share: float) -> None:
        self._source = source
        self._rows = min(len(source), max(1, round(share * len(source))))

    def __len__(self) -> int:
        return self._rows

    def take(self, rows: Index) -> tuple[torch.Tensor, ...]:
        """Return the rows of these numbers among all."""
        return self._source.take(rows)

    def batches(self, size: int, order: np.random.Generator | None) -> Iterator[Index]:
        """Cut a sample into batches; the first rows where no order is given."""
        every = len(self._source)
        rows = (np.arange(every) if order is None else order.permutation(every))[: self._rows]
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def as_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor without a copy, also one that must not be written to."""
    with warnings.catch_warnings():
        # It is only read: torch would warn that it cannot keep others from writing.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))
