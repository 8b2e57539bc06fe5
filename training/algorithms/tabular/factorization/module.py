"""The factorization machine as a torch module on sparse and on dense rows. Imports torch."""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

__all__ = ["FactorizationMachine"]

Array = npt.NDArray[np.float32]


@final
class FactorizationMachine(torch.nn.Module):
    """b + w·x + ½ Σ_f [(Σ_i v_if x_i)² − Σ_i v_if² x_i²], in O(numbers of a batch × factors).

    Of sparse rows the gradients are sparse: they have the columns that the batch has.

    Args:
        bias: (1,); all three are trained where they lie.
        linear: (columns, 1).
        factors: (columns, factors).

    Source: Rendle, "Factorization Machines", ICDM 2010, lemma 3.1.
    """

    def __init__(self, bias: Array, linear: Array, factors: Array) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.from_numpy(bias))
        self.linear = _table(linear)
        self.factors = _table(factors)

    def forward(
        self, indices: torch.Tensor, offsets: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Return the scores (rows,) of sparse rows: indices, where rows begin, values."""
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(indices)]))
        rows = torch.repeat_interleave(lengths)
        straight = self.linear(indices)[:, 0] * values
        products = functional.embedding(indices, self.factors.weight, sparse=True) * values[:, None]
        width = products.shape[1]
        sums = products.new_zeros(len(offsets), width).index_add(0, rows, products)
        squares = products.new_zeros(len(offsets), width).index_add(0, rows, products**2)
        pairs = (sums**2 - squares).sum(dim=1) / 2
        score: torch.Tensor = self.bias + pairs.index_add(0, rows, straight)
        return score

    def dense(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the scores (rows,) of dense rows (rows, columns): the same sum, by products."""
        sums = rows @ self.factors.weight
        squares = rows**2 @ self.factors.weight**2
        pairs = (sums**2 - squares).sum(dim=1) / 2
        score: torch.Tensor = self.bias + pairs + rows @ self.linear.weight[:, 0]
        return score


def _table(rows: Array) -> torch.nn.Embedding:
    count, size = rows.shape
    return torch.nn.Embedding(count, size, sparse=True, _weight=torch.from_numpy(rows))
