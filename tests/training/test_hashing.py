"""Hashes are those of FNV-1a and MurmurHash3's mixer, whatever the word is among."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from training.hashing import hash_words, mixed

_MASK = 2**64 - 1


def reference(word: str) -> int:
    made = 0xCBF29CE484222325
    for byte in word.encode():
        made = (made ^ byte) * 0x100000001B3 & _MASK
    return mix(made)


def mix(number: int) -> int:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        number = (number ^ number >> 33) * factor & _MASK
    return number ^ number >> 33


def test_words_of_any_length_are_hashed_byte_by_byte() -> None:
    words = ["", "a", "ann", "größe", "x" * 1000, "ann", "naïve", "b"]
    assert hash_words(pa.array(words)).tolist() == [reference(word) for word in words]


def test_slices_chunks_dictionaries_and_nulls_change_nothing() -> None:
    words = pa.array(["a", "bc", None, "", "d"])
    expected = [0 if word is None else reference(word) for word in words.to_pylist()]
    assert hash_words(words).tolist() == expected
    assert hash_words(words.slice(1, 3)).tolist() == expected[1:4]
    assert hash_words(words.dictionary_encode()).tolist() == expected
    assert hash_words(pa.chunked_array([words.slice(0, 2), words.slice(2)])).tolist() == expected
    assert hash_words(pa.array([], pa.string())).tolist() == []
    assert hash_words(pa.array([None], pa.string())).tolist() == [0]


def test_numbers_are_mixed_without_loss() -> None:
    numbers = np.arange(10_000, dtype=np.uint64)
    found = mixed(numbers)
    assert found.tolist()[:50] == [mix(number) for number in range(50)]
    assert len(np.unique(found)) == len(numbers)
    assert np.bincount((found % np.uint64(10)).astype(np.int64)).min() > 900
