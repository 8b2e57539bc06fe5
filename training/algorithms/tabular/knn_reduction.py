"""Fewer dimensions for k-NN by random projections, made again from their seed and never stored.

Sources: Achlioptas, "Database-friendly random projections", PODS 2001, for signs. Ailon and
Chazelle, "The fast Johnson-Lindenstrauss transform", SIAM J. Computing 2009; Tropp, "Improved
analysis of the subsampled randomized Hadamard transform", 2011, for signs, transform and choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithms.distance import as_array, blocks, is_csr
from training.algorithms.signs import signs

__all__ = ["Reduction", "hadamard"]

Floats = npt.NDArray[np.float32]

_CHOICE: Final = 1


@final
@dataclass(frozen=True)
class Reduction:
    """A random projection that nearly keeps distances.

    Attributes:
        type: `sign`, a matrix of ±1/√target; or `fjlt`, random signs, the Walsh-Hadamard transform
            and a choice of its dimensions.
        seed: of the random numbers.
        target_dim: dimensions that are left.
        input_dim: dimensions there are.
    """

    type: str
    seed: int
    target_dim: int
    input_dim: int

    def apply(self, rows: Any) -> Floats:
        """Return rows (n, input_dim), an array or CSR matrix, as an array (n, target_dim).

        >>> Reduction("fjlt", 0, 2, 4).apply(np.eye(4, dtype=np.float32)).shape
        (4, 2)
        """
        if is_csr(rows):
            used = np.unique(rows.indices)
            part = rows[:, used].astype(np.float64)
            return as_array(part @ self._matrix(used)).astype(np.float32)
        out: Floats = np.empty((len(rows), self.target_dim), np.float32)
        for at in blocks(len(rows), self._padded):
            if self.type == "sign":
                out[at] = rows[at] @ self._signs
            else:
                wide = np.zeros((at.stop - at.start, self._padded), np.float32)
                wide[:, : self.input_dim] = rows[at] * self._flips
                hadamard(wide)
                out[at] = wide[:, self._chosen] / np.float32(np.sqrt(self.target_dim))
        return out

    @cached_property
    def _signs(self) -> Floats:
        """The matrix of `sign` (input_dim, target_dim)."""
        made = signs(self.seed, 0, self.input_dim, self.target_dim)
        scaled: Floats = (made / np.sqrt(self.target_dim)).astype(np.float32)
        return scaled

    @property
    def _padded(self) -> int:
        """The input's dimensions, and those of the target, as the next power of two."""
        return 1 << (max(self.input_dim, self.target_dim) - 1).bit_length()

    @cached_property
    def _flips(self) -> Floats:
        flips: Floats = signs(self.seed, 0, self.input_dim, 1)[:, 0].astype(np.float32)
        return flips

    @cached_property
    def _chosen(self) -> npt.NDArray[np.int64]:
        random = np.random.default_rng([self.seed, _CHOICE])
        return np.sort(random.choice(self._padded, self.target_dim, replace=False))

    def _matrix(self, used: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return some rows of the projection as a matrix (len(used), target_dim)."""
        if self.type == "sign":
            scaled: npt.NDArray[np.float64] = self._signs[used].astype(np.float64)
            return scaled
        # The entries of the Walsh-Hadamard matrix are (-1) to the bits that both numbers have.
        shared = used[:, None].astype(np.int64) & self._chosen
        for bits in (32, 16, 8, 4, 2, 1):
            shared ^= shared >> bits
        entries = 1.0 - 2.0 * (shared & 1)
        matrix = entries * self._flips[used, None] / np.sqrt(self.target_dim)
        return np.asarray(matrix, np.float64)


def hadamard(rows: Floats) -> None:
    """Transform rows (n, 2^m) in place by the Walsh-Hadamard matrix of ones and minus ones."""
    count, width = rows.shape
    step = 1
    while step < width:
        pairs = rows.reshape(count, width // (2 * step), 2, step)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        both = first + second
        np.subtract(first, second, out=second)
        first[:] = both
        step *= 2
