"""Dense records of one layout: all bytes but the values are the first record's, so read slices."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.formats.recordio.framing import HEADER_BYTES, Frames
from training.formats.recordio.parse import Irregular, Located, Records, locate
from training.formats.tensor import DTYPES, Tensors

__all__ = ["parse_uniform"]

# So many bytes at a time stay in the cache between the check of the layout and the copy.
_BLOCK_BYTES: Final = 2**19
_Name = tuple[str, str]


def parse_uniform(frames: Frames) -> Records | None:
    """Read frames whose records have one layout.

    Returns:
        the records; None if they are sparse, of several layouts, or have texts.
    """
    count = len(frames)
    stride = int(frames.starts[1] - frames.starts[0]) if count > 1 else 0
    length = int(frames.ends[0] - frames.starts[0])
    if count < 2 or (np.diff(frames.starts) != stride).any():
        return None
    if (frames.ends - frames.starts != length).any():
        return None
    try:
        located, texts = locate(frames.part(0, 1))
    except Irregular:
        return None
    if texts or not located or any(_is_sparse(place) for place in located.values()):
        return None
    begin = int(frames.starts[0]) - HEADER_BYTES
    spans = {
        name: (
            HEADER_BYTES + int(place.fields[1].starts[0] - frames.starts[0]),
            HEADER_BYTES + int(place.fields[1].ends[0] - frames.starts[0]),
        )
        for name, place in located.items()
    }
    body = frames.buffer[begin : begin + (count - 1) * stride + HEADER_BYTES + length]
    rows = np.lib.stride_tricks.as_strided(
        body, (count, HEADER_BYTES + length), (stride, 1), writeable=False
    )
    fixed = _between(sorted(spans.values()), HEADER_BYTES + length)
    out: dict[_Name, npt.NDArray[Any]] = {
        name: np.empty((count, end - start), np.uint8) for name, (start, end) in spans.items()
    }
    step = max(_BLOCK_BYTES // stride, 1)
    for first in range(0, count, step):
        block = rows[first : first + step]
        if any((block[:, start:end] != rows[0, start:end]).any() for start, end in fixed):
            return None
        for name, (start, end) in spans.items():
            out[name][first : first + step] = block[:, start:end]
    tensors = {}
    for name, place in located.items():
        dtype = DTYPES[place.kind]
        values = out[name]
        if dtype.kind == "i":
            # Numbers of one byte each; longer ones could be cut differently in each record.
            if (values >= 0x80).any():
                return None
            tensors[name] = Tensors.dense(values.astype(dtype))
        elif values.shape[1] % dtype.itemsize:
            return None
        else:
            tensors[name] = Tensors.dense(values.view(dtype))
    return Records(tensors, {})


def _is_sparse(place: Located) -> bool:
    return 2 in place.fields or 1 not in place.fields or not len(place.rows)


def _between(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Return the stretches of a record that are not in a span."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return [(edges[i], edges[i + 1]) for i in range(0, len(edges), 2) if edges[i] < edges[i + 1]]
