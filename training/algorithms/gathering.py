"""Rows of a fit whose processes each have some: how many there are, and a sample of all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.data import Dataset
from training.streaming import Stream
from training.world import World

__all__ = ["gathered", "offset_of"]


def offset_of(rows: int, world: World) -> tuple[int, int]:
    """Return the number of this process's first row among all, and how many rows there are."""
    counts = world.gather(rows)
    return sum(counts[: world.rank]), sum(counts)


def gathered(
    data: Dataset | Stream, rows: npt.NDArray[np.integer], first: int, world: World
) -> Dataset | None:
    """Bring rows of all processes to the first one.

    Args:
        data: the rows of this process; of a stream, which has one process, the rows are read.
        rows: sorted numbers among the rows of all.
        first: the number of this process's first row.
        world: the processes.

    Returns:
        the rows in their order; None in the other processes.
    """
    if isinstance(data, Stream):
        return data.take(rows)
    if world.size == 1 and len(rows) == len(data):
        return data
    own = rows[(rows >= first) & (rows < first + len(data))] - first
    parts: list[Dataset] = world.gather(data.take(own))
    return Dataset.joined(parts) if world.is_first else None
