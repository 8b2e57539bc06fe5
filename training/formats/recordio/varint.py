"""Protobuf's numbers of variable length, many at once."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["decode_varints", "encode_varints", "gather", "ragged", "varint_sizes"]

_LONGEST: Final = 10


def varint_sizes(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return how many bytes each number takes: one for each seven bits."""
    sizes = np.ones(len(numbers), np.int64)
    top = int(numbers.max()) if len(numbers) else 0
    for bits in range(7, top.bit_length(), 7):
        sizes += numbers >= np.uint64(1 << bits)
    return sizes


def encode_varints(
    numbers: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Write numbers one behind the other.

    Returns:
        the bytes, and how many of them each number takes.

    >>> encode_varints(np.array([1, 300], np.uint64))
    (array([  1, 172,   2], dtype=uint8), array([1, 2]))
    """
    sizes = varint_sizes(numbers)
    longest = int(sizes.max()) if len(sizes) else 1
    if longest == 1:
        return numbers.astype(np.uint8), sizes
    if longest == 2:
        pairs = np.empty((len(numbers), 2), np.uint8)
        small = numbers.astype(np.uint16)
        is_long = sizes == 2
        pairs[:, 0] = (small & 0x7F) | (is_long.astype(np.uint8) << 7)
        pairs[:, 1] = small >> 7
        kept = np.ones(pairs.shape, np.bool_)
        kept[:, 1] = is_long
        return pairs[kept], sizes
    starts = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    for place in range(longest):
        chosen = slice(None) if place == 0 else np.flatnonzero(sizes > place)
        bits = (numbers[chosen] >> np.uint64(7 * place)).astype(np.uint8) & np.uint8(0x7F)
        more = (sizes[chosen] > place + 1).astype(np.uint8) << np.uint8(7)
        out[starts[chosen] + place] = bits | more
    return out, sizes


def decode_varints(
    data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]] | None:
    """Read the numbers of n stretches that lie one behind the other.

    Args:
        data: the stretches' bytes.
        lengths: how many bytes each of the n has.

    Returns:
        the numbers, and how many of them each stretch has; None if a stretch ends inside a number
        or a number is too long.
    """
    last = data < 0x80
    if last.all():
        return data.astype(np.uint64), lengths
    ends = np.cumsum(lengths)
    filled = ends[lengths > 0]
    if not last[filled - 1].all():
        return None
    behind = np.flatnonzero(last) + 1
    starts = np.concatenate([[0], behind[:-1]])
    sizes = behind - starts
    longest = int(sizes.max())
    if longest > _LONGEST:
        return None
    counted = np.searchsorted(behind, ends, side="right")
    counts = np.diff(counted, prepend=0)
    first = data[starts]
    if longest == 2:
        # Numbers below 16,384, as most positions are: half the steps of the general way.
        low, high = first.astype(np.uint16), data[behind - 1].astype(np.uint16)
        both = np.where(sizes == 2, (low & 0x7F) | (high << 7), low)
        return both.astype(np.uint64), counts
    numbers = (first & np.uint8(0x7F)).astype(np.uint64)
    for place in range(1, longest):
        chosen = np.flatnonzero(sizes > place)
        bits = (data[starts[chosen] + place] & np.uint8(0x7F)).astype(np.uint64)
        numbers[chosen] |= bits << np.uint64(7 * place)
    return numbers, counts


def ragged(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions of n stretches of differing lengths, one behind the other.

    >>> ragged(np.array([10, 40]), np.array([2, 1])).tolist()
    [10, 11, 40]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def gather(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Return the bytes of n stretches of a buffer, one behind the other."""
    if not len(lengths):
        return np.zeros(0, np.uint8)
    width = int(lengths[0])
    if width and (lengths == width).all():
        return np.lib.stride_tricks.sliding_window_view(data, width)[starts].reshape(-1)
    return data[ragged(starts, lengths)]
