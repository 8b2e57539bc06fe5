"""Rows that come one after another: shingles of them, and a forest and threshold that follow."""

from __future__ import annotations

import math
from typing import Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithms.unsupervised.randomcutforest_model import SIGMAS, RandomCutForestModel
from training.data import as_table
from training.errors import InvalidData
from training.inputs import Inputs
from training.matrix import dense

__all__ = ["RandomCutForestStream", "shingle"]

_REPLY: Final = pa.schema(
    [("score", pa.float64()), ("threshold", pa.float64()), ("anomaly", pa.bool_())]
)


def shingle(batch: object, size: int) -> pa.Table:
    """Lay each row together with those before it, so that a forest sees the shape of a series.

    Args:
        batch: n rows of d numbers, in the order of time.
        size: how many rows, >= 1.

    Returns:
        n - size + 1 rows (none where n is less) of one column `shingle`: vectors of size × d
        numbers, the oldest row first.

    Raises:
        InvalidData: a column is no number, or a value is missing.

    >>> shingle(pa.table({"load": [1.0, 2.0, 3.0]}), 2)["shingle"].to_pylist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    if size < 1:
        raise ValueError(f"size: expected an integer >= 1, got {size!r}")
    table = as_table(batch)
    inputs = Inputs.of(table, channel="input")
    for column in inputs.columns:
        if column.kind not in ("number", "vector"):
            raise InvalidData(
                f"input: column {column.name!r} is {column.kind}, and a shingle takes numbers",
                channel="input",
                column=column.name,
            )
    rows = dense(inputs.encode(table), inputs, dtype=np.float64)
    width = size * inputs.width
    whole = np.zeros((0, width))
    if len(rows) >= size:
        windows = np.lib.stride_tricks.sliding_window_view(rows, size, axis=0)
        whole = windows.transpose(0, 2, 1).reshape(-1, width)
    flat = pa.array(np.ascontiguousarray(whole).ravel())
    return pa.table({"shingle": pa.FixedSizeListArray.from_arrays(flat, width)})


@final
class RandomCutForestStream:
    """Scores rows in their order with a forest that they join afterwards.

    However the rows are cut into batches, the answers are the same.

    Args:
        model: what to start from; with `size` > 1 trained on `shingle(rows, size)`.
        size: rows of a shingle.
        decay: as for `RandomCutForestModel.update`.
        every: after how many rows those join the forest.
        sigmas: how many standard deviations over their mean a score is an anomaly.
        memory: about how many scores that mean and deviation look back on.
    """

    def __init__(
        self,
        model: RandomCutForestModel,
        *,
        size: int = 1,
        decay: float = 0.0,
        every: int = 256,
        sigmas: float = SIGMAS,
        memory: int = 1000,
    ) -> None:
        for name, value in (("size", size), ("every", every), ("memory", memory)):
            if value < 1:
                raise ValueError(f"{name}: expected an integer >= 1, got {value!r}")
        self.model = model
        self.mean = model.mean
        self.deviation = model.deviation
        self._size = size
        self._decay = decay
        self._every = every
        self._sigmas = sigmas
        self._memory = memory
        self._last: pa.Table | None = None
        self._waiting: list[pa.Table] = []

    def process(self, batch: object) -> pa.Table:
        """Score n rows, then let them join the forest.

        Returns:
            n rows of `score`, the `threshold` at that moment, and whether the row is an `anomaly`;
            all null for the first `size` - 1 rows of the stream.

        Raises:
            InvalidData: a column is missing, or a value.
        """
        table = as_table(batch)
        rows = self._shingled(table)
        scores = [np.zeros(0)]
        start = 0
        while start < len(rows):
            held = sum(len(part) for part in self._waiting)
            part = rows.slice(start, self._every - held)
            scores.append(self.model.scores(part))
            self._waiting.append(part)
            start += len(part)
            if held + len(part) == self._every:
                self.model = self.model.update(pa.concat_tables(self._waiting), decay=self._decay)
                self._waiting = []
        return self._judged(np.concatenate(scores), len(table))

    def _shingled(self, table: pa.Table) -> pa.Table:
        if self._size == 1:
            return table
        whole = table
        if self._last is not None:
            whole = pa.concat_tables([self._last, table], promote_options="permissive")
        rows = shingle(whole, self._size)
        self._last = whole.slice(max(0, len(whole) - self._size + 1))
        return rows

    def _judged(self, scores: npt.NDArray[np.float64], count: int) -> pa.Table:
        """Set each score against those before it.

        A score over the threshold counts as the threshold, or one anomaly would hide the next.
        The recursion is of single numbers, so it is a loop.
        """
        weight = 1 / self._memory
        thresholds = np.empty(len(scores))
        for place, score in enumerate(scores.tolist()):
            threshold = self.mean + self._sigmas * self.deviation
            thresholds[place] = threshold
            step = min(score, threshold) - self.mean
            self.mean += weight * step
            variance = (1 - weight) * (self.deviation**2 + weight * step**2)
            self.deviation = math.sqrt(variance)
        blank = count - len(scores)
        columns = (scores, thresholds, scores > thresholds)
        return pa.table(
            [
                pa.concat_arrays([pa.nulls(blank, field.type), pa.array(column)])
                for field, column in zip(_REPLY, columns, strict=True)
            ],
            schema=_REPLY,
        )
