"""Random signs by seed and row number, the same whatever is asked for at once."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["signs"]

_SIGN_ROWS: Final = 256


def signs(seed: int, first: int, count: int, width: int) -> npt.NDArray[np.float64]:
    """Return random signs 1 and -1 (count, width) for the rows from number `first`.

    >>> signs(7, 300, 5, 4).tolist() == signs(7, 0, 400, 4)[300:305].tolist()
    True
    """
    start, end = first // _SIGN_ROWS, -(-(first + count) // _SIGN_ROWS)
    size = _SIGN_ROWS * width // 8
    raw = b"".join(np.random.default_rng([seed, block]).bytes(size) for block in range(start, end))
    bits = np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(-1, width)
    at = first - start * _SIGN_ROWS
    found: npt.NDArray[np.float64] = bits[at : at + count].astype(np.float64) * 2 - 1
    return found
