"""Sequences of tokens of any length, cut and padded a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.algorithms.text.object2vec.architecture import Encoder
from training.errors import InvalidData

__all__ = ["PAD", "Sequences"]

PAD: Final = 0
"""The token that fills short sequences up; it counts nothing wherever it stands."""


@final
@dataclass(frozen=True, eq=False)
class Sequences:
    """n sequences.

    Attributes:
        tokens: all of them, one sequence after another.
        starts: (n,), where each begins.
        lengths: (n,), how many tokens of each are looked at.
    """

    tokens: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, column: pa.ChunkedArray, encoder: Encoder, *, name: str, channel: str) -> Sequences:
        """Take the lists of a column.

        Raises:
            InvalidData: a list or a token is missing, or a token is not in the vocabulary.
        """
        lengths = pc.list_value_length(column)
        if column.null_count:
            row = pc.index(pc.is_null(column), True).as_py()
            raise _refused(name, channel, "no value", row)
        counts = lengths.to_numpy().astype(np.int64)
        ends = np.cumsum(counts)
        starts = ends - counts
        flat = [chunk.flatten() for chunk in column.chunks]
        tokens = pa.chunked_array(flat, column.type.value_type)
        if tokens.null_count:
            place = pc.index(pc.is_null(tokens), True).as_py()
            row = int(np.searchsorted(ends, place, side="right"))
            raise _refused(name, channel, "a token that is missing", row)
        found = tokens.to_numpy().astype(np.int64)
        wrong = (found < 0) | (found >= encoder.vocab_size)
        if wrong.any():
            place = int(wrong.argmax())
            row = int(np.searchsorted(ends, place, side="right"))
            what = f"token {found[place]}, expected 0 to {encoder.vocab_size - 1} (vocab_size)"
            raise _refused(name, channel, what, row)
        return cls(found, starts, np.minimum(counts, encoder.max_seq_len))

    def padded(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Return the sequences of these rows, (rows, the longest of them), filled with `PAD`."""
        starts, lengths = self.starts[rows], self.lengths[rows]
        longest = max(int(lengths.max(initial=0)), 1)
        out = np.full((len(rows), longest), PAD, np.int64)
        held = np.arange(longest) < lengths[:, None]
        places = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        out[held] = self.tokens[places + np.arange(int(lengths.sum()))]
        return out


def _refused(name: str, channel: str, what: str, row: int) -> InvalidData:
    return InvalidData(
        f"{channel}: column {name!r} has {what} in row {row + 1}", channel=channel, column=name
    )
