"""The words of a vocabulary file, and what topics of them look like in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.errors import InvalidData

__all__ = ["FILE", "described", "measured", "read", "vectors_of"]

FILE: Final = "vocab.txt"

_SIZE: Final = 50
_MORE: Final = 10
_PASSES: Final = 4

Array = npt.NDArray[Any]


def read(auxiliary: Mapping[str, Path], size: int) -> tuple[str, ...]:
    """Return the words of the auxiliary channel's `vocab.txt`, one a line; none without it.

    Raises:
        InvalidData: it is not UTF-8, a line is empty, there are other files, or there are not
            `size` words.
    """
    others = sorted(name for name in auxiliary if name != FILE)
    if others:
        raise _refused(f"expected one file, {FILE}; got also {', '.join(others)}")
    if FILE not in auxiliary:
        return ()
    try:
        text = auxiliary[FILE].read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"{FILE} is not UTF-8: {error}") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(lines) != size:
        raise _refused(
            f"{FILE} has {len(lines)} lines and feature_dim is {size}: expected a word for each"
        )
    if not all(line.strip() for line in lines):
        empty = next(number for number, line in enumerate(lines, start=1) if not line.strip())
        raise _refused(f"{FILE} has no word in line {empty}; write one word a line")
    return tuple(lines)


def measured(heaviest: Array, counts: Any, vectors: Array | None) -> dict[str, float]:
    """Measure topics by the documents they are from.

    Args:
        heaviest: (topics, words of each), by number.
        counts: a CSR matrix of documents.
        vectors: of all words, as `vectors_of` gives them; None: leave out `wetc`.

    Returns:
        `topic_uniqueness`, and, where topics have more than one word, `npmi` and `wetc`.
    """
    found = {"topic_uniqueness": metrics.topic_uniqueness(heaviest)}
    if heaviest.shape[1] > 1:
        found["npmi"] = metrics.npmi(heaviest, counts)
        if vectors is not None:
            found["wetc"] = metrics.wetc(vectors[heaviest])
    return found


def described(
    words: Sequence[Sequence[str]], heaviest: Array, vectors: Array, shares: Array
) -> Iterator[str]:
    """Write a line for each topic: how usual it is, how good, and its heaviest words."""
    often = np.bincount(heaviest.ravel())
    for number, (named, topic) in enumerate(zip(words, heaviest, strict=True)):
        alike = f"wetc {metrics.wetc(vectors[topic][None]):.2f}, " if len(topic) > 1 else ""
        alone = float(np.mean(1 / often[topic]))
        yield (
            f"topic {number} [share {shares[number]:.3f}, {alike}uniqueness {alone:.2f}]: "
            f"{' '.join(named)}"
        )


def vectors_of(counts: Any) -> Array:
    """Return a vector for each word (vocabulary, size): words of the same documents are near.

    Singular vectors of the counts, damped and weighed by how rare a word is (Deerwester et al.,
    1990), by random projections (Halko, Martinsson and Tropp, 2011, algorithm 4.4).
    """
    documents = counts.shape[0]
    weighed = counts.astype(np.float64)
    holding = np.bincount(weighed.indices, minlength=weighed.shape[1])
    rare = np.log((1 + documents) / (1 + holding))
    weighed.data = np.log1p(weighed.data) * rare[weighed.indices]
    size = min(_SIZE + _MORE, *weighed.shape)
    random = np.random.default_rng(0)
    basis, _ = np.linalg.qr(weighed @ random.standard_normal((weighed.shape[1], size)))
    for _ in range(_PASSES):
        turned, _ = np.linalg.qr(weighed.T @ basis)
        basis, _ = np.linalg.qr(weighed @ turned)
    _, values, axes = np.linalg.svd((weighed.T @ basis).T, full_matrices=False)
    vectors: Array = (axes[:_SIZE] * values[:_SIZE, None]).T
    return vectors


def _refused(problem: str) -> InvalidData:
    return InvalidData(f"auxiliary: {problem}", channel="auxiliary")
