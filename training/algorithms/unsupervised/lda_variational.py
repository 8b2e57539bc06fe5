"""Mixtures of documents given topics, and topics given mixtures, in turns.

The updates are those of collapsed variational inference at order zero, without leaving the word
itself out (Asuncion, Welling, Smyth and Teh, *On smoothing and inference for topic models*, 2009,
section 3): an occurrence of a word belongs to a topic in proportion to the document's weight of the
topic times the topic's probability of the word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "SMOOTHING",
    "Polished",
    "complete",
    "halves",
    "mixtures",
    "polish",
    "smoothed",
]

Array = npt.NDArray[np.float64]

SMOOTHING: Final = 0.1
"""How many occurrences every word is taken to have in every topic beside those it has."""

_PIECE_NUMBERS: Final = 1 << 18
_PIECE_OCCURRENCES: Final = 1 << 22
_STEPS_OF_A_MIXTURE: Final = 200
# A mixture is settled when its shares move by less, all together; answers hold to a millionth.
_SETTLED: Final = 1e-8
# Between two looks at the topics a mixture need not settle.
_STEPS_BETWEEN: Final = 2
_TINY: Final = 1e-300


@final
@dataclass(frozen=True, kw_only=True)
class Polished:
    """Topics after some steps: all that the next one depends on.

    Attributes:
        step: how many steps.
        topics: (k, vocabulary) distributions.
        weights: (n, k) of the mixtures of the documents; the next step changes them in place.
        value: the log likelihood of a word in the last step.
        change: by how much that moved.
    """

    step: int
    topics: Array
    weights: Array
    value: float = -np.inf
    change: float = np.inf

    @classmethod
    def begun(cls, counts: Any, topics: Array, alpha: Array) -> Self:
        """Return the state before the first step: every mixture is even."""
        length = np.asarray(counts.sum(axis=1)).reshape(-1, 1)
        return cls(step=0, topics=topics, weights=alpha + length / len(alpha))


def mixtures(counts: Any, topics: Array, alpha: Array) -> Array:
    """Return the topic mixture (n, k) of each document, each summing to 1.

    A document's mixture does not depend on the others. One without known words has the mixture
    that alpha gives.

    Args:
        counts: (n, vocabulary) a CSR matrix of counts.
        topics: (k, vocabulary) distributions.
        alpha: (k,) the Dirichlet parameters.
    """
    turned = np.ascontiguousarray(topics.T)
    shares = np.empty((counts.shape[0], len(alpha)))
    for rows in _pieces(counts, len(alpha)):
        shares[rows] = _settled(counts[rows], turned, alpha)
    return shares


def polish(
    counts: Any,
    state: Polished,
    alpha: Array,
    *,
    steps: int,
    tolerance: float,
    piece: int,
    told: Callable[[Polished], None] = lambda state: None,
) -> Polished:
    """Improve topics on their documents.

    Args:
        counts: (n, vocabulary) a CSR matrix of counts, at least one of them not 0.
        state: to go on from; none of the words of its topics are impossible.
        alpha: (k,) the Dirichlet parameters, which stay.
        steps: how many at most, those of the state among them.
        tolerance: ends it, when the log likelihood of a word moves by less.
        piece: how many documents at most lie in one piece of work.
        told: called after each step; may raise.
    """
    shares = counts.astype(np.float64)
    occurrences = float(counts.sum())
    while state.step < steps and state.change >= tolerance:
        topics, weights = state.topics, state.weights
        turned = np.ascontiguousarray(topics.T)
        total = 0.0
        for rows in _pieces(counts, len(alpha), piece):
            part = _Piece(counts[rows], turned)
            for _ in range(_STEPS_BETWEEN):
                weights[rows] = part.moved(weights[rows], alpha)
            likelihood = part.likelihood(weights[rows])
            shares.data[counts.indptr[rows.start] : counts.indptr[rows.stop]] = (
                part.counts.data / likelihood
            )
            total += part.total(likelihood, weights[rows])
        topics = topics * (shares.T @ weights).T + SMOOTHING
        topics /= topics.sum(axis=1, keepdims=True)
        value = total / occurrences
        state = Polished(
            step=state.step + 1,
            topics=topics,
            weights=weights,
            value=value,
            change=abs(value - state.value),
        )
        told(state)
    return state


def smoothed(topics: Array, alpha: Array, counts: Any) -> Array:
    """Make no word impossible: mix topics with the words of all documents.

    A topic of few occurrences takes more of them: as many as there are words.
    """
    own = np.asarray(counts.sum(axis=0)).ravel()
    common = (own + SMOOTHING) / (own + SMOOTHING).sum()
    occurrences = (own.sum() * alpha / alpha.sum())[:, None]
    mixed: Array = (occurrences * topics + len(own) * common) / (occurrences + len(own))
    return mixed


def complete(counts: Any, topics: Array, alpha: Array, random: np.random.Generator) -> float:
    """Return the log likelihood of a word when the other half of its document is known.

    Wallach, Murray, Salakhutdinov and Mimno, *Evaluation methods for topic models*, 2009,
    section 5 (document completion). Not a number where no document has two words.
    """
    known, asked = halves(counts, random)
    shares = mixtures(known, topics, alpha)
    turned = np.ascontiguousarray(topics.T)
    total = 0.0
    for rows in _pieces(asked, len(alpha)):
        part = _Piece(asked[rows], turned)
        total += part.total(part.likelihood(shares[rows]), shares[rows])
    words = float(asked.sum())
    return total / words if words else float("nan")


def halves(counts: Any, random: np.random.Generator) -> tuple[Any, Any]:
    """Cut the occurrences of each document at random in two; an odd one goes to the first."""
    whole = counts.data.astype(np.int64)
    taken = np.empty_like(whole)
    occurrences = np.concatenate([[0], np.cumsum(whole)])[counts.indptr]
    start = 0
    while start < counts.shape[0]:
        most = occurrences[start] + _PIECE_OCCURRENCES
        end = max(int(np.searchsorted(occurrences, most, side="right")) - 1, start + 1)
        held = slice(counts.indptr[start], counts.indptr[end])
        taken[held] = _taken(whole[held], np.diff(counts.indptr[start : end + 1]), random)
        start = end
    first, second = counts.astype(np.float64), counts.astype(np.float64)
    first.data[:] = taken
    second.data[:] = whole - taken
    for half in (first, second):
        half.eliminate_zeros()
    return first, second


def _taken(
    whole: npt.NDArray[np.int64], sizes: npt.NDArray[Any], random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return how many occurrences of each entry the first halves have.

    Args:
        whole: the occurrences of all entries, document by document.
        sizes: the entries of each document.
        random: chooses; documents at a time or all at once, it is asked for the same numbers.
    """
    rows = np.repeat(np.arange(len(sizes)), sizes)
    entries = np.repeat(np.arange(len(whole)), whole)
    owners = rows[entries]
    order = np.lexsort((random.random(len(entries)), owners))
    length = np.bincount(owners, minlength=len(sizes))
    place = np.arange(len(entries)) - np.repeat(np.cumsum(length) - length, length)
    is_first = place < np.repeat((length + 1) // 2, length)
    return np.bincount(entries[order][is_first], minlength=len(whole))


def _settled(counts: Any, topics: Array, alpha: Array) -> Array:
    """Repeat the update of each document until its mixture is settled."""
    length = np.asarray(counts.sum(axis=1)).reshape(-1, 1)
    shares: Array = alpha + length / len(alpha)
    shares /= shares.sum(axis=1, keepdims=True)
    going = np.arange(counts.shape[0])
    piece, open_ = _Piece(counts, topics), np.ones(len(going), np.bool_)
    for _ in range(_STEPS_OF_A_MIXTURE):
        moved = piece.moved(shares[going], alpha)
        moved /= moved.sum(axis=1, keepdims=True)
        far = np.abs(moved - shares[going]).sum(axis=1)
        shares[going[open_]] = moved[open_]
        open_ &= far > _SETTLED
        left = np.count_nonzero(open_)
        if not left:
            break
        if left < 0.7 * len(going):
            going = going[open_]
            piece, open_ = _Piece(counts[going], topics), np.ones(left, np.bool_)
    return shares


@final
class _Piece:
    """Some documents, with the topics' probabilities of each of their words beside them."""

    def __init__(self, counts: Any, topics: Array) -> None:
        self.counts = counts
        self._topics = topics
        self._words = topics.take(counts.indices, axis=0)
        self._rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        self._shares = counts.astype(np.float64)

    def likelihood(self, weights: Array) -> Array:
        """Return the likelihood of each word under weights of the topics, not 0."""
        found = np.einsum("ij,ij->i", weights.take(self._rows, axis=0), self._words)
        likelihood: Array = np.maximum(found, _TINY)
        return likelihood

    def moved(self, weights: Array, alpha: Array) -> Array:
        """Return the weights after one update."""
        self._shares.data = self.counts.data / self.likelihood(weights)
        new: Array = alpha + weights * (self._shares @ self._topics)
        return new

    def total(self, likelihood: Array, weights: Array) -> float:
        """Return the log likelihood of all words, where weights need not sum to 1."""
        sizes = weights.sum(axis=1)[self._rows]
        return float(self.counts.data @ np.log(np.maximum(likelihood / sizes, _TINY)))


def _pieces(counts: Any, topics: int, most: int | None = None) -> Iterator[slice]:
    """Cut documents into pieces that fit the cache, of at most so many documents."""
    most = most or counts.shape[0]
    start = 0
    while start < counts.shape[0]:
        numbers = counts.indptr[start] + max(1, _PIECE_NUMBERS // topics)
        end = int(np.searchsorted(counts.indptr, numbers, side="right")) - 1
        end = min(max(end, start + 1), start + most, counts.shape[0])
        yield slice(start, end)
        start = end
