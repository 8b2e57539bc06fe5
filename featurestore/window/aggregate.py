"""Aggregates as mergeable states: what tiles hold, and what a window's result is made from.

Every state is the same whatever the order of the events it was made from: sums are exact integers
times a power of two, of ties the total order of values decides, sketches keep the lowest hashes.
So tiles can be merged in any order, and a result does not depend on how a window was cut.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import math
import struct
from abc import ABC, abstractmethod
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from featurestore.feature import FeatureType, Scalar, Value
from featurestore.window.definition import Aggregation, WindowedFeature

__all__ = [
    "Aggregate",
    "Tie",
    "aggregate_of",
    "hash_of",
    "mean_of",
    "plain",
    "scaled",
    "std_of",
    "sum_of",
    "top_of",
    "unique_of",
]

SKETCH_HASHES: Final = 512
_HASHES: Final = 2.0**64
_INT64: Final = 2**63
# What orders events of one time: the record identifier's bytes.
Tie = bytes


class Aggregate(ABC):
    """One aggregation of one feature.

    A state is a JSON value, None where nothing was added; it is never changed in place.
    """

    @abstractmethod
    def one(self, value: Any, time_us: int, tie: Tie) -> Any:
        """Return the state of a single event, whose value is not null."""

    @abstractmethod
    def merge(self, one: Any, other: Any) -> Any:
        """Return the state of the events of two states, neither of them None."""

    @abstractmethod
    def result(self, state: Any) -> Value | None:
        """Return the feature's value; None: null."""


def aggregate_of(feature: WindowedFeature, kind: FeatureType | None) -> Aggregate:
    """Return how a windowed feature is computed.

    Args:
        feature: the definition.
        kind: the type of the feature it is of; None for a count of events.
    """
    if feature.kind is Aggregation.TOP_K:
        assert feature.k is not None
        return _TopK(feature.k)
    if feature.kind is Aggregation.SUM:
        return _Sum(is_integral=kind is FeatureType.INTEGRAL)
    made: Aggregate = _AGGREGATES[feature.kind]()
    return made


@final
class _Count(Aggregate):
    def one(self, value: Any, time_us: int, tie: Tie) -> int:
        return 1

    def merge(self, one: int, other: int) -> int:
        return one + other

    def result(self, state: int | None) -> int:
        return state or 0


class _Exact(Aggregate):
    """A number of values and their exact sum: [n, mantissa, exponent, +infinities, -infinities]."""

    def one(self, value: float, time_us: int, tie: Tie) -> list[int]:
        if isinstance(value, float) and math.isinf(value):
            return [1, 0, 0, int(value > 0), int(value < 0)]
        return [1, *scaled(value), 0, 0]

    def merge(self, one: list[int], other: list[int]) -> list[int]:
        mantissa, exponent = _added(one[1], one[2], other[1], other[2])
        return [one[0] + other[0], mantissa, exponent, one[3] + other[3], one[4] + other[4]]

    @abstractmethod
    def result(self, state: list[int] | None) -> Value | None: ...


@final
class _Sum(_Exact):
    def __init__(self, *, is_integral: bool = False) -> None:
        self._is_integral = is_integral

    def result(self, state: list[int] | None) -> Value | None:
        if state is None:
            return None
        return sum_of(*state[1:], is_integral=self._is_integral)


@final
class _Mean(_Exact):
    def result(self, state: list[int] | None) -> Value | None:
        return None if state is None else mean_of(*state)


@final
class _Std(Aggregate):
    """Values with their exact sum and sum of squares: [n, m, e, m of squares, e, infinities]."""

    def one(self, value: float, time_us: int, tie: Tie) -> list[int]:
        if isinstance(value, float) and math.isinf(value):
            return [1, 0, 0, 0, 0, 1]
        mantissa, exponent = scaled(value)
        return [1, mantissa, exponent, mantissa * mantissa, 2 * exponent, 0]

    def merge(self, one: list[int], other: list[int]) -> list[int]:
        return [
            one[0] + other[0],
            *_added(one[1], one[2], other[1], other[2]),
            *_added(one[3], one[4], other[3], other[4]),
            one[5] + other[5],
        ]

    def result(self, state: list[int] | None) -> Value | None:
        return None if state is None else std_of(*state)


@final
class _Extreme(Aggregate):
    """The lowest or the highest value: [value]."""

    def __init__(self, *, highest: bool) -> None:
        self._highest = highest

    def one(self, value: Scalar, time_us: int, tie: Tie) -> list[Scalar]:
        return [plain(value)]

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        return one if (one[0] >= other[0]) is self._highest else other

    def result(self, state: list[Scalar] | None) -> Value | None:
        return None if state is None else state[0]


@final
class _Edge(Aggregate):
    """The value of the earliest or the latest event: [time, tie as hex, value]."""

    def __init__(self, *, latest: bool) -> None:
        self._latest = latest

    def one(self, value: Scalar, time_us: int, tie: Tie) -> list[Any]:
        return [time_us, tie.hex(), value]

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        return one if (one[:2] >= other[:2]) is self._latest else other

    def result(self, state: list[Any] | None) -> Value | None:
        return None if state is None else state[2]


@final
class _Unique(Aggregate):
    """The lowest hashes of the values, one more than the sketch counts by: Base64 of u64.

    The k-th lowest hash of values that are spread evenly tells how many there are (Bar-Yossef et
    al., Counting Distinct Elements in a Data Stream, 2002, algorithm 1; the unbiased k - 1 in
    Beyer et al., 2007).
    """

    def one(self, value: Scalar, time_us: int, tie: Tie) -> str:
        return _packed([hash_of(value)])

    def merge(self, one: str, other: str) -> str:
        united = sorted({*_unpacked(one), *_unpacked(other)})
        return _packed(united[: SKETCH_HASHES + 1])

    def result(self, state: str | None) -> Value | None:
        return 0 if state is None else unique_of(_unpacked(state))


@final
class _TopK(Aggregate):
    """How often each value came: [[value, count], …] in the order of values."""

    def __init__(self, k: int) -> None:
        self._k = k

    def one(self, value: Scalar, time_us: int, tie: Tie) -> list[list[Any]]:
        return [[plain(value), 1]]

    def merge(self, one: list[list[Any]], other: list[list[Any]]) -> list[list[Any]]:
        if len(one) < len(other):
            one, other = other, one
        merged = [*one]
        for value, count in other:
            place = bisect.bisect_left(merged, value, key=lambda pair: pair[0])
            if place < len(merged) and merged[place][0] == value:
                merged[place] = [value, merged[place][1] + count]
            else:
                merged.insert(place, [value, count])
        return merged

    def result(self, state: list[list[Any]] | None) -> Value | None:
        return None if state is None else top_of(dict(map(tuple, state)), self._k)


_AGGREGATES: Final[Mapping[Aggregation, Any]] = {
    Aggregation.COUNT: _Count,
    Aggregation.SUM: _Sum,
    Aggregation.MEAN: _Mean,
    Aggregation.STD: _Std,
    Aggregation.MIN: lambda: _Extreme(highest=False),
    Aggregation.MAX: lambda: _Extreme(highest=True),
    Aggregation.FIRST: lambda: _Edge(latest=False),
    Aggregation.LAST: lambda: _Edge(latest=True),
    Aggregation.APPROX_UNIQUE: _Unique,
    Aggregation.TOP_K: _TopK,
}


def scaled(value: float) -> tuple[int, int]:
    """Return a finite number as mantissa and exponent of two, exactly.

    >>> scaled(6.5), scaled(7)
    ((13, -1), (7, 0))
    """
    if isinstance(value, int):
        return value, 0
    mantissa, unit = value.as_integer_ratio()
    return mantissa, 1 - unit.bit_length()


def sum_of(
    mantissa: int, exponent: int, above: int, below: int, *, is_integral: bool
) -> float | int | None:
    """Return an exact sum in its feature's type, rounded once; None where it has no value.

    Args:
        mantissa: of the sum of the finite values.
        exponent: of two.
        above: how many values are +infinity.
        below: how many are -infinity.
        is_integral: the values are int64; a sum beyond that is None.
    """
    if is_integral:
        return mantissa if -_INT64 <= mantissa < _INT64 else None
    return mean_of(1, mantissa, exponent, above, below)


def mean_of(n: int, mantissa: int, exponent: int, above: int, below: int) -> float | None:
    """Return the mean of n values with an exact sum, rounded once; see `sum_of`.

    >>> mean_of(3, 1, 0, 0, 0)
    0.3333333333333333
    """
    if above or below:
        return None if above and below else math.inf if above else -math.inf
    return _divided(mantissa << max(exponent, 0), n << max(-exponent, 0))


def std_of(
    n: int, mantissa: int, exponent: int, squares: int, square_exponent: int, infinite: int
) -> float | None:
    """Return the standard deviation of a sample from exact sums.

    The variance (n Σx² - (Σx)²) / (n (n - 1)) is exact and rounded once, then its root is.

    >>> std_of(3, 6, 0, 14, 0, 0)  # of 1, 2, 3
    1.0
    """
    if n < 2 or infinite:
        return None
    above, shared = _added(n * squares, square_exponent, -mantissa * mantissa, 2 * exponent)
    variance = _divided(above << max(shared, 0), n * (n - 1) << max(-shared, 0))
    return math.sqrt(variance)


def unique_of(hashes: Sequence[int]) -> int:
    """Estimate how many values have these lowest hashes, in their order."""
    if len(hashes) <= SKETCH_HASHES:
        return len(hashes)
    return round((SKETCH_HASHES - 1) * _HASHES / hashes[SKETCH_HASHES - 1])


def top_of(counts: Mapping[Any, int], k: int) -> list[Any]:
    """Return the k most frequent values; at equal counts the lowest first."""
    return [value for value, _ in sorted(counts.items(), key=lambda p: (-p[1], p[0]))[:k]]


def hash_of(value: Scalar) -> int:
    """Return 64 bits that stand for a value; equal values of one type have equal ones."""
    value = plain(value)
    if isinstance(value, str):
        data = value.encode()
    elif isinstance(value, float):
        data = struct.pack("<d", value)
    else:
        data = struct.pack("<q", value)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def plain(value: Any) -> Any:
    """Return a value without the sign of a zero, by which equal values would differ."""
    return value + 0.0 if isinstance(value, float) else value


def _added(one: int, exponent: int, other: int, other_exponent: int) -> tuple[int, int]:
    if exponent > other_exponent:
        one <<= exponent - other_exponent
        exponent = other_exponent
    else:
        other <<= other_exponent - exponent
    return one + other, exponent


def _divided(above: int, below: int) -> float:
    try:
        return above / below  # Python rounds the quotient of two integers once
    except OverflowError:
        return math.inf if above > 0 else -math.inf


def _packed(hashes: list[int]) -> str:
    return base64.b64encode(array("Q", hashes).tobytes()).decode()


def _unpacked(state: str) -> array[int]:
    hashes = array("Q")
    hashes.frombytes(base64.b64decode(state))
    return hashes
