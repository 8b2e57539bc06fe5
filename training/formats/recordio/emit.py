"""Records written many at once: a message is a list of pieces, and lengths are sums over them.

A piece holds the bytes of n records at one place of their layout. While all pieces have one width
the records are a matrix, written slice by slice; else each piece is scattered to where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.formats.recordio.framing import MAGIC
from training.formats.recordio.varint import encode_varints, ragged

__all__ = ["Piece", "constant", "matrix", "nested", "packed", "spread", "texts", "write_frames"]

_BLOCK_BYTES: Final = 2**19
_LENGTH_DELIMITED: Final = 2


@final
@dataclass(frozen=True)
class Piece:
    """Bytes of n records at one place.

    Attributes:
        data: all bytes, one record behind the other; or those of one record, which all have.
        lengths: how many bytes each record has; a number: all have as many.
    """

    data: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64] | int


def constant(data: bytes) -> Piece:
    """Return bytes that all records have."""
    return Piece(np.frombuffer(data, np.uint8), len(data))


def matrix(values: npt.NDArray[Any]) -> Piece:
    """Return the bytes of the rows of a matrix (n, d)."""
    rows = np.ascontiguousarray(values)
    return Piece(rows.view(np.uint8).reshape(-1), rows.shape[1] * rows.itemsize)


def packed(numbers: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> Piece:
    """Return numbers of n records as varints; negative ones take ten bytes, as protobuf has it."""
    unsigned = numbers.astype(np.int64, copy=False).view(np.uint64)
    data, sizes = encode_varints(unsigned)
    ends = np.cumsum(counts)
    behind = np.concatenate([[0], np.cumsum(sizes)])
    return _evened(data, behind[ends] - behind[ends - counts])


def texts(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> Piece:
    """Return bytes of differing lengths."""
    return _evened(data, lengths)


def nested(field: int, message: Sequence[Piece]) -> list[Piece]:
    """Return a message as a field of the message around it: tag, length, content."""
    length = _length(message)
    tag = bytes([field << 3 | _LENGTH_DELIMITED])
    if isinstance(length, int):
        prefix = encode_varints(np.array([length], np.uint64))[0].tobytes()
        return [constant(tag + prefix), *message]
    data, sizes = encode_varints(length.astype(np.uint64))
    return [constant(tag), _evened(data, sizes), *message]


def spread(message: Sequence[Piece], present: npt.NDArray[np.bool_]) -> list[Piece]:
    """Return the pieces of some of n records as pieces of all: the others have no bytes there."""
    if present.all():
        return list(message)
    count = int(present.sum())
    out = []
    for piece in message:
        lengths = np.zeros(len(present), np.int64)
        lengths[present] = piece.lengths
        shared = isinstance(piece.lengths, int) and len(piece.data) == piece.lengths
        out.append(Piece(np.tile(piece.data, count) if shared else piece.data, lengths))
    return out


def write_frames(message: Sequence[Piece], count: int) -> npt.NDArray[np.uint8]:
    """Return the frames of n records."""
    length = _length(message)
    if isinstance(length, int):
        return _uniform(message, count, length)
    starts = np.cumsum(8 + (length + 3) // 4 * 4)
    out = np.zeros(int(starts[-1]), np.uint8)
    starts -= 8 + (length + 3) // 4 * 4
    head = np.empty((count, 2), "<u4")
    head[:, 0] = MAGIC
    head[:, 1] = length
    at = _scatter(out, starts, matrix(head))
    for piece in message:
        at = _scatter(out, at, piece)
    return out


def _uniform(message: Sequence[Piece], count: int, length: int) -> npt.NDArray[np.uint8]:
    stride = 8 + (length + 3) // 4 * 4
    out = np.empty((count, stride), np.uint8)
    first = np.zeros(stride, np.uint8)
    first[:8] = np.array([MAGIC, length], "<u4").view(np.uint8)
    slices = []
    at = 8
    for piece in message:
        width = int(piece.lengths)
        if len(piece.data) == width:
            first[at : at + width] = piece.data
        else:
            slices.append((at, at + width, piece.data.reshape(count, width)))
        at += width
    step = max(_BLOCK_BYTES // stride, 1)
    for begin in range(0, count, step):
        block = out[begin : begin + step]
        block[:] = first
        for start, end, data in slices:
            block[:, start:end] = data[begin : begin + step]
    return out.reshape(-1)


def _scatter(
    out: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], piece: Piece
) -> npt.NDArray[np.int64]:
    """Write a piece at a place of each record; return the places behind it."""
    if isinstance(piece.lengths, int):
        width = piece.lengths
        if width:
            target = np.lib.stride_tricks.sliding_window_view(out, width, writeable=True)
            target[at] = piece.data.reshape(-1, width)
    else:
        out[ragged(at, piece.lengths)] = piece.data
    return at + piece.lengths


def _length(message: Sequence[Piece]) -> npt.NDArray[np.int64] | int:
    total: npt.NDArray[np.int64] | int = 0
    for piece in message:
        total = total + piece.lengths
    return total


def _evened(data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64]) -> Piece:
    """Make a piece, of one width if all records have as many bytes."""
    width = int(lengths[0]) if len(lengths) else 0
    return Piece(data, width if (lengths == width).all() else lengths)
