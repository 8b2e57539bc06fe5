"""Vectors of words that others trained, as the auxiliary channel brings them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.algorithms.text.object2vec.architecture import Encoder
from training.errors import InvalidData

__all__ = ["read_vectors"]


def read_vectors(
    files: Mapping[str, Path], *, vectors: str, vocabulary: str, encoder: Encoder
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Read the vectors of those words that are in a vocabulary.

    Args:
        files: the auxiliary channel's, by name.
        vectors: the file with a word and its numbers in each line, apart by spaces.
        vocabulary: the JSON file that gives each word its token.
        encoder: whose tokens they are.

    Returns:
        tokens (n,) and their vectors (n, dimensions).

    Raises:
        InvalidData: a file is missing or malformed, a vector has another size, or no word of the
            vocabulary has a vector.
    """
    tokens = _vocabulary(_path(files, vocabulary), encoder)
    found: dict[int, npt.NDArray[np.float32]] = {}
    with _path(files, vectors).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            word, *numbers = line.rstrip().split(" ")
            # word2vec's text form begins with a line of how many words and dimensions there are.
            if word not in tokens or (number == 1 and len(numbers) == 1):
                continue
            if len(numbers) != encoder.token_dim:
                raise _refused(
                    f"{vectors!r}, line {number}: expected {encoder.token_dim} numbers "
                    f"(token_embedding_dim) after {word!r}, got {len(numbers)}"
                )
            try:
                found[tokens[word]] = np.array(numbers, np.float64).astype(np.float32)
            except ValueError:
                raise _refused(f"{vectors!r}, line {number}: expected numbers") from None
    if not found:
        raise _refused(f"{vectors!r} has a vector of no word in {vocabulary!r}")
    order = sorted(found)
    return np.array(order, np.int64), np.stack([found[token] for token in order])


def _vocabulary(path: Path, encoder: Encoder) -> dict[str, int]:
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _refused(f"{path.name!r} is no JSON: {error}") from None
    if not isinstance(tokens, dict):
        raise _refused(f"{path.name!r}: expected an object of words and their tokens")
    for word, token in tokens.items():
        if type(token) is not int or not 0 <= token < encoder.vocab_size:
            raise _refused(
                f"{path.name!r}: expected a token from 0 to {encoder.vocab_size - 1} (vocab_size) "
                f"for {word!r}, got {token!r}"
            )
    return tokens


def _path(files: Mapping[str, Path], name: str) -> Path:
    if name not in files:
        raise _refused(f"there is no file {name!r}; there are {', '.join(sorted(files)) or 'none'}")
    return files[name]


def _refused(problem: str) -> InvalidData:
    return InvalidData(f"auxiliary: {problem}", channel="auxiliary")
