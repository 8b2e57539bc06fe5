"""Hashes of words and numbers that are the same on every machine and in every process."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["hash_words", "mixed"]

Hashes = npt.NDArray[np.uint64]

_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)
_FIRST: Final = np.uint64(0xFF51AFD7ED558CCD)
_SECOND: Final = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT: Final = np.uint64(33)


def hash_words(words: pa.Array | pa.ChunkedArray) -> Hashes:
    """Return a 64-bit hash of each word's UTF-8 bytes; that of null is 0.

    Source: Fowler, Noll and Vo's FNV-1a, finished by the mixer of Appleby's MurmurHash3.

    Cost: one NumPy step for each byte of the longest word, over the different words only.

    >>> int(hash_words(pa.array(["ann"]))[0])
    7995230380516241683
    """
    if isinstance(words, pa.ChunkedArray):
        words = words.combine_chunks()
    coded = words.cast(pa.large_string()).dictionary_encode()
    hashes = np.concatenate([_fnv(coded.dictionary), np.zeros(1, np.uint64)])
    codes = pc.fill_null(coded.indices, -1).to_numpy()
    found: Hashes = hashes[codes]
    return found


def mixed(numbers: Hashes) -> Hashes:
    """Mix the bits of 64-bit numbers, so that numbers close to each other are far apart."""
    made = (numbers ^ (numbers >> _SHIFT)) * _FIRST
    made = (made ^ (made >> _SHIFT)) * _SECOND
    result: Hashes = made ^ (made >> _SHIFT)
    return result


def _fnv(words: Any) -> Hashes:
    """Hash words of which none is null, a byte of all of them at a time."""
    if not len(words):
        return np.zeros(0, np.uint64)
    offsets = np.frombuffer(words.buffers()[1], np.int64)[words.offset :][: len(words) + 1]
    raw = words.buffers()[2]
    data = np.frombuffer(raw, np.uint8) if raw is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    # The longest first: those that have a byte at a place are then the first so many.
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = offsets[:-1][order], lengths[order]
    hashes = np.full(len(words), _OFFSET)
    for place in range(int(lengths[0])):
        count = int(np.searchsorted(-lengths, -place, side="left"))
        hashes[:count] = (hashes[:count] ^ data[starts[:count] + place]) * _PRIME
    result = np.empty(len(words), np.uint64)
    result[order] = mixed(hashes)
    return result
