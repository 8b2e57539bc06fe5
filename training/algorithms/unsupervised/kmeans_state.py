"""What a mini-batch of K-Means does to its many centres, and how several workers' are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from training.algorithms.distance import as_array, nearest, squared, sums
from training.algorithms.lloyd import Clusters, lloyd, seeds
from training.device import CPU, Device

__all__ = ["LocalLloyd", "State", "merge"]

Floats = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class LocalLloyd:
    """How the many centres become few.

    Attributes:
        start: how each trial chooses its first centres.
        max_iterations: of a trial.
        trials: how many there are.
        tolerance: a trial ends when its loss falls by less than this part of itself.
    """

    start: str = "kmeans++"
    max_iterations: int = 300
    trials: int = 10
    tolerance: float = 1e-4


@final
@dataclass(frozen=True, eq=False)
class State:
    """Centres, and how many rows each stands for.

    A mini-batch moves each centre towards the mean of its rows by their share of all it stands for
    (Sculley, "Web-scale k-means clustering", WWW 2010, with the batch's mean at once).

    Attributes:
        centres: K rows of d numbers.
        counts: K numbers >= 0: rows, fewer where older ones weigh less.
    """

    centres: Floats
    counts: Floats

    def after(
        self,
        rows: Any,
        *,
        half_life: int = 0,
        random: np.random.Generator,
        device: Device = CPU,
        reseed: bool = True,
    ) -> tuple[State, float]:
        """Return the state after a mini-batch, and the batch's sum of squared distances.

        Centres that stand for no row at all are put on rows of the batch, drawn by their squared
        distance to their centre.

        Args:
            rows: b rows as an array or CSR matrix.
            half_life: after how many rows a row weighs half; 0: it always weighs 1.
            random: what draws.
            device: where distances are computed.
            reseed: whether to move centres that stand for no row.
        """
        k = len(self.centres)
        labels = nearest(rows, self.centres, device=device)
        distance = squared(rows, self.centres, labels)
        new = np.bincount(labels, minlength=k).astype(np.float64)
        old = self.counts * 0.5 ** (rows.shape[0] / half_life) if half_life else self.counts
        counts = old + new
        hit = new > 0
        centres = self.centres.copy()
        # (1 - p)·c + p·mean with p = new / (old + new), written with the sum of the rows.
        kept = old[hit, None] * centres[hit]
        centres[hit] = (kept + sums(rows, labels, k)[hit]) / counts[hit, None]
        idle = np.flatnonzero(counts == 0)
        total = float(distance.sum())
        if reseed and len(idle) and total > 0:
            size = min(len(idle), int((distance > 0).sum()))
            drawn = random.choice(len(distance), size, replace=False, p=distance / total)
            centres[idle[:size]] = as_array(rows[np.sort(drawn)])
        return State(centres, counts), total

    def reduced(
        self,
        count: int,
        how: LocalLloyd,
        random: np.random.Generator,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Clusters:
        """Return `count` centres of these, each weighing its count: the best of some trials.

        Where fewer than that stand for a row, the rest of the centres repeat the first ones.

        Args:
            count: how many centres to leave.
            how: how trials run.
            random: what draws.
            check: called before each iteration; it may raise.
        """
        used = self.counts > 0
        points, weights = self.centres[used], self.counts[used]
        if len(points) <= count:
            more = count - len(points)
            centres = np.concatenate([points, np.repeat(points[:1], more, axis=0)])
            return Clusters(centres, np.concatenate([weights, np.zeros(more)]), 0.0)
        best: Clusters | None = None
        for _ in range(how.trials):
            start = points[seeds(points, weights, count, how.start, random)]
            found = lloyd(
                points,
                weights,
                start,
                max_iterations=how.max_iterations,
                tolerance=how.tolerance,
                check=check,
            )
            if best is None or found.loss < best.loss:
                best = found
        assert best is not None  # trials >= 1
        return best


def merge(states: Sequence[State]) -> State:
    """Merge what several workers learned of rows of their own: all centres with their counts.

    The workers' centres need not have anything in common; `State.reduced` finds the few centres of
    the union, where each weighs as much as the rows it stands for.

    >>> one = State(np.array([[0.0], [9.0]]), np.array([3.0, 1.0]))
    >>> two = State(np.array([[1.0], [8.0]]), np.array([1.0, 3.0]))
    >>> merge([one, two]).reduced(2, LocalLloyd(), np.random.default_rng(0)).centres.ravel()
    array([8.25, 0.25])
    """
    return State(
        np.concatenate([state.centres for state in states]),
        np.concatenate([state.counts for state in states]),
    )
