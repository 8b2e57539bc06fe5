"""Exact sums of many stretches of one column: prefix sums in integers."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["Bounds", "Integers", "Prefix"]

# So many bits of an int64 may hold a sum that then never overflows.
_BITS: Final = 62
Integers = npt.NDArray[np.int64]
Bounds = tuple[Integers, Integers]


@final
class Prefix:
    """Exact sums of all first values, as integers times one power of two.

    Args:
        values: int64 or doubles; infinities are counted beside the sum.
        power: 1, or 2 for the sums of squares.
    """

    def __init__(self, values: npt.NDArray[Any], *, power: int = 1) -> None:
        self.above = self.below = None
        self.exponent = 0
        if values.dtype.kind == "f":
            infinite = np.isinf(values)
            if infinite.any():
                self.above = np.concatenate([[0], np.cumsum(infinite & (values > 0))])
                self.below = np.concatenate([[0], np.cumsum(infinite & (values < 0))])
                values = np.where(infinite, 0.0, values)
            integers, self.exponent = _integers(values)
        else:
            integers = values
        self.exponent *= power
        highest = (
            max((abs(int(integers.max())), abs(int(integers.min()))), default=0)
            if len(integers)
            else 0
        )
        is_small = (highest**power * max(len(integers), 1)).bit_length() <= _BITS
        self.sums: Any
        if integers.dtype != object and is_small:
            self.sums = np.concatenate([[0], np.cumsum(integers.astype(np.int64) ** power)])
        else:
            self.sums = np.array(
                [0, *accumulate(value**power for value in integers.tolist())], object
            )

    def between(self, first: Integers, end: Integers) -> npt.NDArray[Any]:
        """Return the sums of the values from first to before end, of int64 or of Python's int."""
        return np.asarray(self.sums[end] - self.sums[first])

    def infinities(self, first: Integers, end: Integers) -> Bounds:
        """Count +infinities and -infinities."""
        if self.above is None or self.below is None:
            none = np.zeros(len(first), np.int64)
            return none, none
        return self.above[end] - self.above[first], self.below[end] - self.below[first]


def _integers(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], int]:
    """Return doubles as integers times one power of two: int64 where they fit."""
    fraction, exponents = np.frexp(values)
    mantissas = np.ldexp(fraction, 53).astype(np.int64)
    exponents = exponents.astype(np.int64) - 53
    some = mantissas != 0
    if not some.any():
        return mantissas, 0
    # Without the zeros behind the last bit that is set.
    _, behind = np.frexp((mantissas & -mantissas).astype(np.float64))
    zeros = np.where(some, behind - 1, 0)
    mantissas >>= zeros
    exponents += zeros
    lowest = int(exponents[some].min())
    shifts = np.where(some, exponents - lowest, 0)
    bits = int((np.frexp(np.abs(mantissas).astype(np.float64))[1] + shifts).max())
    if bits <= _BITS:
        return mantissas << shifts, lowest
    pairs = zip(mantissas.tolist(), shifts.tolist(), strict=True)
    return np.array([mantissa << shift for mantissa, shift in pairs], object), lowest
