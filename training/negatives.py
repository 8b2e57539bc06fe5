"""Pairs that nobody saw: each row with what belongs to another row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["shuffled"]


def shuffled(rows: int, times: int, order: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Give, some times over, another row for each of `rows` rows; one row alone has no other.

    >>> [found.tolist() for found in shuffled(2, 1, np.random.default_rng(0))]
    [[1, 0]]
    """
    for _ in range(times if rows > 1 else 0):
        mixed = order.permutation(rows)
        found = np.empty(rows, np.int64)
        # Each is given a later one of a random circle, so none is given itself.
        found[mixed] = np.roll(mixed, int(order.integers(1, rows)))
        yield found
