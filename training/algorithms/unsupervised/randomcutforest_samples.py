"""The samples under a forest's trees: one reservoir per tree, each drawn without replacement.

Every row offered gets a key for each tree, and a tree keeps the rows with the smallest keys. With
exponential keys that is a uniform sample of all rows so far; with decay a row's weight halves with
its age (Efraimidis and Spirakis 2006, in logarithms so that age never overflows).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["Samples"]

_BLOCK_KEYS: Final = 1 << 21


@final
@dataclass(frozen=True, eq=False)
class Samples:
    """Which rows each tree has.

    Attributes:
        rows: (trees, size) numbers of rows; -1 where a reservoir is not full.
        keys: (trees, size) of the same places; infinite where there is no row.
        clock: the sum of the decay over the rows offered so far.
    """

    rows: npt.NDArray[np.int32]
    keys: npt.NDArray[np.float64]
    clock: float = 0.0

    @classmethod
    def draw(cls, trees: int, size: int, n: int, random: np.random.Generator) -> Samples:
        """Draw samples of n rows at once, with the keys that offering them would have left.

        The k-th smallest of n exponential numbers is the one before plus an exponential number
        divided by those left (Rényi 1953).
        """
        taken = min(size, n)
        rows = np.full((trees, size), -1, np.int32)
        keys = np.full((trees, size), np.inf)
        for tree in rows:
            tree[:taken] = random.choice(n, taken, replace=False)
        steps = random.standard_exponential((trees, taken)) / (n - np.arange(taken))
        keys[:, :taken] = np.log(np.cumsum(steps, axis=1))
        return cls(rows, keys)

    def offer(self, n: int, first: int, decay: float, random: np.random.Generator) -> Samples:
        """Offer n more rows, numbered from `first`, each by `decay` heavier than the one before."""
        samples = self
        for start, end in _blocks(n, len(self.rows)):
            clocks = samples.clock + decay * np.arange(1, end - start + 1)
            draws = random.standard_exponential((len(self.rows), end - start))
            keys = np.hstack([samples.keys, np.log(draws) - clocks])
            new = np.arange(first + start, first + end, dtype=np.int32)
            rows = np.hstack([samples.rows, np.broadcast_to(new, draws.shape)])
            size = samples.keys.shape[1]
            kept = np.sort(np.argpartition(keys, size - 1, axis=1)[:, :size], axis=1)
            samples = Samples(
                np.take_along_axis(rows, kept, axis=1),
                np.take_along_axis(keys, kept, axis=1),
                float(clocks[-1]),
            )
        return samples

    def without(self, rows: npt.NDArray[np.bool_]) -> Samples:
        """Leave out the rows that are marked."""
        gone = (self.rows >= 0) & rows[self.rows]
        return replace(
            self, rows=np.where(gone, -1, self.rows), keys=np.where(gone, np.inf, self.keys)
        )

    def used(self) -> tuple[npt.NDArray[np.intp], Samples]:
        """Return the rows that some tree has, sorted, and the samples with numbers among those."""
        rows = np.unique(self.rows[self.rows >= 0]).astype(np.intp)
        places = np.searchsorted(rows, self.rows).astype(np.int32)
        return rows, replace(self, rows=np.where(self.rows < 0, np.int32(-1), places))


def _blocks(n: int, trees: int) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK_KEYS // trees)
    for start in range(0, n, step):
        yield start, min(start + step, n)
