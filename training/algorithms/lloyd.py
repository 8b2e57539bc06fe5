"""Lloyd's algorithm on weighted points, on all rows with Hamerly's bounds, and on rows read anew.

Sources: Lloyd, "Least squares quantization in PCM", 1982. Arthur and Vassilvitskii, "k-means++: the
advantages of careful seeding", SODA 2007, section 2, with its greedy variant of section 5. Hamerly,
"Making k-means even faster", SDM 2010, whose bounds save looking again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithms.distance import as_array, nearest, squared, sums
from training.world import ALONE, World

__all__ = ["Clusters", "lloyd", "refined", "seeds", "swept"]

_CHECKED_ROWS: Final = 1 << 16
Floats = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Clusters:
    """Where centres are, and what lies around them.

    Attributes:
        centres: k rows of d numbers.
        counts: the weight of the points of each.
        loss: the weighted sum of squared distances.
    """

    centres: Floats
    counts: Floats
    loss: float


def seeds(
    points: Floats, weights: Floats, count: int, how: str, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Choose `count` of the points to start from, as their numbers; each at most once.

    `random` draws by weight. `kmeans++` draws each by its weight and squared distance to those
    chosen before, the best of a few draws; where all others coincide with those, it goes on by
    weight.

    Args:
        points: n rows of d numbers, n >= count.
        weights: n numbers > 0.
        count: how many.
        how: `random` or `kmeans++`.
        random: what draws.
    """
    share = weights / weights.sum()
    if how == "random":
        return random.choice(len(points), count, replace=False, p=share)
    chosen = [int(random.choice(len(points), p=share))]
    distance = _squared_to(points, points[chosen])[0]
    tries = 2 + int(math.log(count))
    while len(chosen) < count:
        chance = weights * distance
        total = chance.sum()
        if total <= 0:
            left = np.setdiff1d(np.arange(len(points)), chosen)
            weight = weights[left] / weights[left].sum()
            more = random.choice(left, count - len(chosen), replace=False, p=weight)
            return np.array([*chosen, *more])
        drawn = np.searchsorted(np.cumsum(chance), random.random(tries) * total, side="right")
        drawn = np.minimum(drawn, len(points) - 1)
        # The last of the sum may be a point that is chosen already; the farthest never is.
        drawn[chance[drawn] <= 0] = chance.argmax()
        reduced = np.minimum(_squared_to(points, points[drawn]), distance)
        best = int((reduced @ weights).argmin())
        chosen.append(int(drawn[best]))
        distance = reduced[best]
    return np.array(chosen)


def lloyd(
    points: Floats,
    weights: Floats,
    start: Floats,
    *,
    max_iterations: int,
    tolerance: float,
    check: Callable[[], None] = lambda: None,
) -> Clusters:
    """Move centres to the means of their points until the loss stays.

    A centre that loses all its points goes to the point that weighs most on the loss.

    Args:
        points: n rows of d numbers.
        weights: n numbers > 0.
        start: k rows of d numbers, k <= n.
        max_iterations: after how many to end.
        tolerance: end when the loss falls by less than this part of itself.
        check: called before each iteration; it may raise.
    """
    centres, loss = start, math.inf
    k = len(start)
    for _ in range(max_iterations):
        check()
        labels = nearest(points, centres, exact=True)
        distance = weights * squared(points, centres, labels)
        counts = np.bincount(labels, weights, minlength=k)
        for empty in np.flatnonzero(counts == 0):
            worst = int(distance.argmax())
            if distance[worst] <= 0:
                break
            counts[labels[worst]] -= weights[worst]
            labels[worst], counts[empty], distance[worst] = empty, weights[worst], 0
        total = sums(points * weights[:, None], labels, k)
        filled = counts > 0
        centres = centres.copy()
        centres[filled] = total[filled] / counts[filled, None]
        before, loss = loss, float(distance.sum())
        if math.isfinite(before) and before - loss <= tolerance * before:
            break
    labels = nearest(points, centres, exact=True)
    loss = float((weights * squared(points, centres, labels)).sum())
    counts = np.bincount(labels, weights, minlength=k)
    return Clusters(centres, counts.astype(np.float64), loss)


def refined(
    rows: Any,
    start: Floats,
    *,
    max_iterations: int,
    tolerance: float,
    check: Callable[[], None] = lambda: None,
    world: World = ALONE,
) -> Clusters:
    """Run Lloyd's algorithm on all rows, and look again only at those that may have moved.

    A centre that loses all its rows goes to the row that is farthest from its own.

    A row stays where it is while its distance to its centre is surely below that to any other:
    bounds follow how far the centres moved (Hamerly 2010). The result is that of `lloyd` with equal
    weights, but for rounding.

    Args:
        rows: n rows as an array or CSR matrix.
        start: k rows of d numbers, k >= 2.
        max_iterations: after how many to end.
        tolerance: end when no centre moves by more than this part of the data's spread.
        check: called before each iteration; it may raise.
        world: the processes whose rows are clustered together; all find the same centres.
    """
    centres, k = start.copy(), len(start)
    labels, upper, lower = _two_nearest(rows, centres, check)
    squares, total = _added(world, float((upper**2).sum()), len(upper))
    spread = math.sqrt(squares / total) or 1.0
    for _ in range(max_iterations):
        check()
        counts, together = _added(
            world, np.bincount(labels, minlength=k).astype(np.float64), sums(rows, labels, k)
        )
        filled = counts > 0
        moved = centres.copy()
        moved[filled] = together[filled] / counts[filled, None]
        if not filled.all():
            empty = np.flatnonzero(~filled)
            far = _farthest(world, rows, upper, len(empty))
            moved[empty[: len(far)]] = far
        step = np.sqrt(((moved - centres) ** 2).sum(axis=1))
        centres = moved
        upper += step[labels]
        lower -= step.max()
        half = _half_gaps(centres)
        doubtful = np.flatnonzero(upper > np.maximum(half[labels], lower))
        if len(doubtful):
            part = rows[doubtful]
            upper[doubtful] = np.sqrt(squared(part, centres, labels[doubtful]))
            still = upper[doubtful] > np.maximum(half[labels[doubtful]], lower[doubtful])
            doubtful = doubtful[still]
            found = _two_nearest(part[still], centres, check)
            labels[doubtful], upper[doubtful], lower[doubtful] = found
        if step.max() <= tolerance * spread:
            break
    counts, loss = _added(
        world,
        np.bincount(labels, minlength=k).astype(np.float64),
        float(squared(rows, centres, labels).sum()),
    )
    return Clusters(centres, counts, loss)


def swept(
    parts: Callable[[], Iterator[Any]],
    start: Floats,
    *,
    max_iterations: int,
    tolerance: float,
    check: Callable[[], None] = lambda: None,
) -> Clusters:
    """Run Lloyd's algorithm on rows that do not fit into memory: `refined`, but for rounding.

    Args:
        parts: passes over the rows, matrices (m, d) one after another; called for each iteration
            and once more.
        start: as for `refined`, and so are those below.
        max_iterations: after how many to end.
        tolerance: end when no centre moves by more than this part of the data's spread.
        check: called before each part; it may raise.
    """
    centres = start.copy()
    spread = 0.0
    for _ in range(max_iterations):
        found = _Sweep(centres)
        for part in parts():
            check()
            found.add(part)
        spread = spread or math.sqrt(found.squares / found.counts.sum()) or 1.0
        moved = found.moved()
        step = np.sqrt(((moved - centres) ** 2).sum(axis=1))
        centres = moved
        if step.max() <= tolerance * spread:
            break
    counts, loss = np.zeros(len(centres)), 0.0
    for part in parts():
        check()
        labels = nearest(part, centres, exact=True)
        counts += np.bincount(labels, minlength=len(centres))
        loss += float(squared(part, centres, labels).sum())
    return Clusters(centres, counts, loss)


@final
class _Sweep:
    """What one pass over the rows finds around the centres."""

    def __init__(self, centres: Floats) -> None:
        self.counts = np.zeros(len(centres))
        self.squares = 0.0
        self._centres = centres
        self._total = np.zeros_like(centres)
        # The rows farthest from their centres, at most one for each centre.
        self._far: tuple[Floats, Floats] = (np.zeros(0), np.zeros((0, centres.shape[1])))

    def add(self, rows: Any) -> None:
        """Count in rows."""
        k = len(self._centres)
        labels = nearest(rows, self._centres, exact=True)
        distance = squared(rows, self._centres, labels)
        self.counts += np.bincount(labels, minlength=k)
        self.squares += float(distance.sum())
        self._total += sums(rows, labels, k)
        far = np.argpartition(-distance, min(k, len(distance)) - 1)[:k]
        far = far[distance[far] > 0]
        distances = np.concatenate([self._far[0], distance[far]])
        both = np.concatenate([self._far[1], as_array(rows[far])])
        order = np.argsort(-distances, kind="stable")[:k]
        self._far = (distances[order], both[order])

    def moved(self) -> Floats:
        """Return the means of the rows of each centre; one without rows goes to a far row."""
        filled = self.counts > 0
        centres = self._centres.copy()
        centres[filled] = self._total[filled] / self.counts[filled, None]
        empty = np.flatnonzero(~filled)[: len(self._far[1])]
        centres[empty] = self._far[1][: len(empty)]
        return centres


def _added(world: World, *values: Any) -> list[Any]:
    """Add each of some values over all processes, in the same order in each of them."""
    return [sum(parts[1:], parts[0]) for parts in zip(*world.gather(values), strict=True)]


def _farthest(world: World, rows: Any, distances: Floats, count: int) -> Floats:
    """Return the rows of all processes that are farthest from their centres, none of them on it."""
    far = np.argsort(-distances, kind="stable")[:count]
    far = far[distances[far] > 0]
    found = world.gather((distances[far], as_array(rows[far])))
    order = np.argsort(-np.concatenate([one for one, _ in found]), kind="stable")[:count]
    farthest: Floats = np.concatenate([one for _, one in found])[order]
    return farthest


def _two_nearest(
    rows: Any, centres: Floats, check: Callable[[], None]
) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Return each row's nearest centre, its distance, and the distance of the second nearest."""
    n = rows.shape[0]
    labels: npt.NDArray[np.intp] = np.empty(n, np.intp)
    first, second = np.empty(n), np.full(n, np.inf)
    for start in range(0, n, _CHECKED_ROWS):
        check()
        at = slice(start, start + _CHECKED_ROWS)
        part = rows[at]
        labels[at] = nearest(part, centres, exact=True)
        first[at] = np.sqrt(squared(part, centres, labels[at]))
        for number in np.unique(labels[at]):
            # The nearest of the others, one centre's rows at a time.
            own = np.flatnonzero(labels[at] == number)
            others = np.delete(centres, number, axis=0)
            if len(others):
                mine = part[own]
                best = squared(mine, others, nearest(mine, others, exact=True))
                second[start + own] = np.sqrt(best)
    return labels, first, second


def _half_gaps(centres: Floats) -> Floats:
    """Return half the distance from each centre to its nearest other."""
    gaps = _squared_to(centres, centres)
    np.fill_diagonal(gaps, np.inf)
    half: Floats = np.sqrt(gaps.min(axis=1)) / 2
    return half


def _squared_to(points: Floats, chosen: Floats) -> Floats:
    """Return the squared distances (len(chosen), n), 0 where they coincide."""
    middle = points.mean(axis=0)
    here, there = points - middle, chosen - middle
    norms = np.einsum("ij,ij->i", here, here)
    own = np.einsum("ij,ij->i", there, there)
    found = own[:, None] - 2 * (there @ here.T) + norms
    # What is left of equal points is rounding, and must not be drawn as if it were distance.
    size: Floats = own[:, None] + norms
    distances: Floats = np.where(found <= 1e-12 * size, 0.0, found)
    return distances
