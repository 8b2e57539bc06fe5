"""Windowed features of many windows at once: what the events between two places make."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.window.aggregate import (
    SKETCH_HASHES,
    hash_of,
    mean_of,
    std_of,
    sum_of,
    top_of,
    unique_of,
)
from featurestore.window.definition import Aggregation, WindowedFeature
from featurestore.window.exactsum import Bounds, Integers, Prefix

__all__ = ["Valued", "compute", "taken"]

_EXACT_INTEGER: Final = 2**53
_EXPONENTS: Final = 900  # within them no scaling meets the ends of the doubles


@final
class Valued:
    """The values that are not null, and where they are among all events."""

    def __init__(self, column: pa.Array) -> None:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        self._before = np.concatenate([[0], np.cumsum(valid)])
        self.values = column.drop_null()

    def bounds(self, bounds: Bounds) -> Bounds:
        """Turn bounds among all events into bounds among these."""
        return self._before[bounds[0]], self._before[bounds[1]]

    @cached_property
    def numbers(self) -> npt.NDArray[Any]:
        """The values as numbers."""
        return np.asarray(self.values.to_numpy(zero_copy_only=False))

    @cached_property
    def sums(self) -> Prefix:
        """Their sums."""
        return Prefix(self.numbers)

    @cached_property
    def squares(self) -> Prefix:
        """The sums of their squares."""
        return Prefix(self.numbers, power=2)

    @cached_property
    def ranked(self) -> tuple[Integers, pa.Array]:
        """Each value's rank among the distinct values, and these in their order."""
        values = self.values
        if pa.types.is_floating(values.type):
            values = pc.add(values, 0.0)  # one zero
        encoded = values.dictionary_encode()
        distinct = encoded.dictionary
        order = pc.sort_indices(distinct).to_numpy()
        rank = np.empty(len(distinct), np.int64)
        rank[order] = np.arange(len(distinct))
        return rank[encoded.indices.to_numpy()], distinct.take(pa.array(order))


def compute(valued: Valued, bounds: Bounds, feature: WindowedFeature) -> pa.Array:
    """Return what one feature's windows hold.

    Args:
        valued: the events with a value of what the feature is `of`.
        bounds: of each window, among all events.
        feature: of something.
    """
    first, end = valued.bounds(bounds)
    if feature.kind is Aggregation.COUNT:
        return pa.array(end - first)
    return _COMPUTED[feature.kind](valued, first, end, feature)


def _sum(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    prefix = valued.sums
    totals = prefix.between(first, end)
    is_integral = pa.types.is_integer(valued.values.type)
    if totals.dtype != object and prefix.above is None and abs(prefix.exponent) < _EXPONENTS:
        made = totals if is_integral else totals.astype(np.float64) * 2.0**prefix.exponent
        return pa.array(made, mask=end == first)
    above, below = prefix.infinities(first, end)
    return pa.array(
        [
            None if not n else sum_of(total, prefix.exponent, up, down, is_integral=is_integral)
            for n, total, up, down in zip(
                (end - first).tolist(),
                totals.tolist(),
                above.tolist(),
                below.tolist(),
                strict=True,
            )
        ],
        pa.int64() if is_integral else pa.float64(),
    )


def _mean(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    prefix = valued.sums
    totals = prefix.between(first, end)
    counts = end - first
    if (
        totals.dtype != object
        and prefix.above is None
        and abs(prefix.exponent) < _EXPONENTS
        and (not len(totals) or np.abs(totals).max() <= _EXACT_INTEGER)
    ):
        # Both are exact as doubles, so their quotient is rounded once, and scaling is exact.
        means = totals / np.maximum(counts, 1) * 2.0**prefix.exponent
        return pa.array(means, mask=counts == 0)
    above, below = prefix.infinities(first, end)
    columns = (counts.tolist(), totals.tolist(), above.tolist(), below.tolist())
    return pa.array(
        [
            mean_of(n, total, prefix.exponent, up, down) if n else None
            for n, total, up, down in zip(*columns, strict=True)
        ],
        pa.float64(),
    )


def _std(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    sums, squares = valued.sums, valued.squares
    above, below = sums.infinities(first, end)
    columns = (
        (end - first).tolist(),
        sums.between(first, end).tolist(),
        squares.between(first, end).tolist(),
        (above + below).tolist(),
    )
    return pa.array(
        [
            std_of(n, total, sums.exponent, square, squares.exponent, infinite)
            for n, total, square, infinite in zip(*columns, strict=True)
        ],
        pa.float64(),
    )


# -- values -------------------------------------------------------------------------------------


def _extreme(highest: bool) -> Callable[..., pa.Array]:
    pick = np.maximum if highest else np.minimum

    def compute(
        valued: Valued, first: Integers, end: Integers, feature: WindowedFeature
    ) -> pa.Array:
        ranks, distinct = valued.ranked
        counts = end - first
        found = np.full(len(first), -1, np.int64)
        # Any window is two runs of one length that is a power of two; all runs of one length are
        # made from those of half of it (Bender and Farach-Colton, 2000, section 3).
        length, best = 1, ranks
        level = np.zeros(len(first), np.int64)
        some = counts > 0
        level[some] = np.frexp(counts[some].astype(np.float64))[1] - 1
        for step in range(int(level[some].max()) + 1 if some.any() else 0):
            here = some & (level == step)
            found[here] = pick(best[first[here]], best[end[here] - length])
            if len(best) > length:
                best = pick(best[:-length], best[length:])
            length *= 2
        return taken(distinct, found, some)

    return compute


def _first(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    return taken(valued.values, first, end > first)


def _last(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    return taken(valued.values, end - 1, end > first)


def taken(values: pa.Array, places: Integers, some: npt.NDArray[np.bool_]) -> pa.Array:
    """Return the values at some places; null where `some` is false."""
    return values.take(pa.array(np.where(some, places, 0), mask=~some))


def _unique(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    ranks, distinct = valued.ranked
    hashes = [hash_of(value) for value in distinct.to_pylist()]
    few = len(hashes) <= SKETCH_HASHES
    held: list[int] = []  # hashes of the values in the window, in their order

    def came(rank: int) -> None:
        if not few:
            bisect.insort(held, hashes[rank])

    def went(rank: int) -> None:
        if not few:
            del held[bisect.bisect_left(held, hashes[rank])]

    def result(counts: dict[int, int]) -> int:
        return len(counts) if len(counts) <= SKETCH_HASHES else unique_of(held)

    return pa.array(_slide(ranks, first, end, came, went, result), pa.int64())


def _top(valued: Valued, first: Integers, end: Integers, feature: WindowedFeature) -> pa.Array:
    ranks, distinct = valued.ranked
    values = distinct.to_pylist()
    k = feature.k
    assert k is not None

    def nothing(rank: int) -> None:
        pass

    def result(counts: dict[int, int]) -> list[Any] | None:
        return [values[rank] for rank in top_of(counts, k)] if counts else None

    return pa.array(
        _slide(ranks, first, end, nothing, nothing, result), pa.list_(valued.values.type)
    )


def _slide(
    ranks: Integers,
    first: Integers,
    end: Integers,
    came: Callable[[int], None],
    went: Callable[[int], None],
    result: Callable[[dict[int, int]], Any],
) -> list[Any]:
    """Move one window over all values, from each row's to the next, and ask for its result.

    In the order of rows by key and time both ends only move on.
    """
    values = ranks.tolist()
    counts: dict[int, int] = {}
    results: list[Any] = [None] * len(first)
    begin = stop = 0
    made: Any = result(counts)
    for row in np.lexsort((first, end)).tolist():
        low, high = int(first[row]), int(end[row])
        changed = False
        while stop < high:
            rank = values[stop]
            stop += 1
            changed = True
            counts[rank] = counts.get(rank, 0) + 1
            if counts[rank] == 1:
                came(rank)
        while begin < low:
            rank = values[begin]
            begin += 1
            changed = True
            counts[rank] -= 1
            if not counts[rank]:
                del counts[rank]
                went(rank)
        if changed:
            made = result(counts)
        results[row] = made
    return results


_COMPUTED: Final[dict[Aggregation, Callable[..., pa.Array]]] = {
    Aggregation.SUM: _sum,
    Aggregation.MEAN: _mean,
    Aggregation.STD: _std,
    Aggregation.MIN: _extreme(False),
    Aggregation.MAX: _extreme(True),
    Aggregation.FIRST: _first,
    Aggregation.LAST: _last,
    Aggregation.APPROX_UNIQUE: _unique,
    Aggregation.TOP_K: _top,
}
