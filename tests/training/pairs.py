"""Pairs of sequences of tokens that are of one topic or of two."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["make_pairs"]


def make_pairs(
    rows: int, *, seed: int, vocabulary: int = 20, longest: int = 6, values: bool = False
) -> pa.Table:
    """Make `label`, `in0` and `in1`: odd and even tokens are two topics, and equal ones label 1.

    Args:
        rows: how many.
        seed: of the random numbers.
        vocabulary: tokens are 1 to this less 1.
        longest: the length of the longest sequence.
        values: whether labels are values: how much of both is of the odd topic.
    """
    random = np.random.default_rng(seed)
    topics = random.integers(0, 2, (rows, 2))
    lengths = random.integers(1, longest + 1, (rows, 2))
    columns = {
        f"in{side}": [
            (2 * random.integers(1, vocabulary // 2, length) - topic).tolist()
            for topic, length in zip(topics[:, side], lengths[:, side], strict=True)
        ]
        for side in (0, 1)
    }
    label: npt.NDArray[np.float64] = (topics[:, 0] == topics[:, 1]).astype(np.float64)
    if values:
        label = topics.sum(axis=1) / 2 + random.normal(scale=0.01, size=rows)
    kind = pa.list_(pa.int32())
    return pa.table(
        {"label": label, **{name: pa.array(column, kind) for name, column in columns.items()}}
    )
