"""Topics from moments of word counts: whitened documents, their third moment, its components.

After Anandkumar, Ge, Hsu, Kakade and Telgarsky, *Tensor decompositions for learning latent variable
models*, 2014, sections 3.2 and 4.3. The third moment is only ever made of documents that are
whitened already, so nothing is larger than vocabulary × topics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["Spectral", "decompose", "on_simplex", "third_moment", "topics_of", "whitening"]

Array = npt.NDArray[np.float64]
Ask = Callable[[], None]

# Eigenvalues of so small a vocabulary are found all at once.
_DENSE_WORDS: Final = 1000
_BLOCK_NUMBERS: Final = 1 << 22
# By how much an eigenvalue must pass the noise: the size of the most negative one, where without
# noise none would be negative.
_OVER_NOISE: Final = 2.0
_FIRST_ROUND: Final = 20
_MORE_STEPS: Final = 50
_SAME: Final = 1e-2


@final
@dataclass(frozen=True, eq=False)
class Spectral:
    """What the moments say.

    Attributes:
        topics: (found, vocabulary) distributions of words, the heaviest topic first.
        alpha: (found,) their Dirichlet parameters, which sum to alpha0.
        rank: in how many directions the documents differ by more than noise.
        error: what the components leave of the third moment, as a share of its squared size.
    """

    topics: Array
    alpha: Array
    rank: int
    error: float


def topics_of(
    counts: Any,
    number: int,
    alpha0: float,
    *,
    restarts: int,
    iterations: int,
    tolerance: float,
    random: np.random.Generator,
    piece: int,
    ask: Ask = lambda: None,
) -> Spectral:
    """Find topics; fewer than asked for, or none, where the documents do not differ that much.

    A quarter more components than topics are sought where the documents carry them, and those
    with the largest alpha are kept.

    Args:
        counts: (n, vocabulary) a CSR matrix of whole numbers >= 0.
        number: of topics.
        alpha0: the sum of the Dirichlet parameters.
        restarts: of the decomposition.
        iterations: of each.
        tolerance: at which change of the error a decomposition ends.
        random: where it starts.
        piece: how many documents are whitened at a time.
        ask: called often; it may raise.

    Cost: O(nnz·k + (n + vocabulary)·k³) time.
    """
    length = np.asarray(counts.sum(axis=1)).ravel()
    documents = counts[length >= 3].astype(np.float64)
    wanted = math.ceil(1.25 * number)
    directions = whitening(documents, min(wanted, counts.shape[1]), alpha0, random, ask)
    rank = directions.shape[1]
    if not rank:
        return Spectral(np.zeros((0, counts.shape[1])), np.zeros(0), 0, 0.0)
    ask()
    tensor = third_moment(documents, directions, alpha0, piece, ask)
    count = max(number, min(wanted, rank))
    weights, vectors, error = decompose(
        tensor,
        count,
        restarts=restarts,
        iterations=iterations,
        tolerance=tolerance,
        random=random,
        ask=ask,
    )
    # Back to words: the directions are columns of U·λ^(-1/2), so their pseudo-inverse is λ·W.
    words = (directions / np.square(directions).sum(axis=0)) @ vectors
    total = words.sum(axis=0)
    usable = np.abs(total) > 1e-12 * np.abs(words).sum(axis=0)
    scale = 1 / total[usable]
    # A topic is a component stretched until its words sum to 1; the cube of that stretch is in the
    # component's weight, beside the alpha of the third moment (theorem 3.5).
    alpha = weights[usable] * alpha0 * (alpha0 + 1) * (alpha0 + 2) / (2 * scale**3)
    order = np.argsort(-alpha, kind="stable")
    order = order[alpha[order] > 0]
    topics = on_simplex((words[:, usable] * scale).T[order])
    # With more components than directions some may be the same.
    kept = _apart(topics)[:number]
    alpha = alpha[order][kept]
    return Spectral(topics[kept], alpha * (alpha0 / alpha.sum()), rank, error)


def whitening(
    counts: Any, most: int, alpha0: float, random: np.random.Generator, ask: Ask
) -> Array:
    """Return directions (vocabulary, r) in which the second moment is the identity.

    Only such are returned along which the documents differ by more than noise, at most `most`.
    """
    n, width = counts.shape
    if not n:
        return np.zeros((width, 0))
    length = np.asarray(counts.sum(axis=1)).ravel()
    share = counts.copy()
    share.data /= np.repeat(length * (length - 1) * n, np.diff(counts.indptr))
    own = np.asarray(share.sum(axis=0)).ravel()
    mean = _mean(counts, length)
    shift = alpha0 / (alpha0 + 1)

    def times(vector: Array) -> Array:
        ask()
        moved: Array = counts.T @ (share @ vector) - own * vector
        return moved - shift * (mean @ vector) * mean

    if width <= _DENSE_WORDS or 3 * most + _MORE_STEPS >= width:
        moment = (counts.T @ share).toarray() - np.diag(own) - shift * np.outer(mean, mean)
        values, vectors = np.linalg.eigh((moment + moment.T) / 2)
    else:
        values, vectors = _ends(times, width, most, random)
    order = np.argsort(-values)[:most]
    noise = max(-_OVER_NOISE * min(0.0, float(values[0])), 1e-12 * float(np.abs(values).max()))
    order = order[values[order] > noise]
    directions: Array = vectors[:, order] / np.sqrt(values[order])
    return directions


def third_moment(counts: Any, directions: Array, alpha0: float, piece: int, ask: Ask) -> Array:
    """Return the third moment (r, r, r) of documents in whitened directions.

    Words of a document are distinct occurrences, so what a word has with itself is taken away.
    """
    n = counts.shape[0]
    length = np.asarray(counts.sum(axis=1)).ravel()
    share = 1 / (length * (length - 1) * (length - 2) * n)
    rank = directions.shape[1]
    tensor = np.zeros((rank, rank, rank))
    beside = np.zeros((counts.shape[1], rank))
    for start in range(0, n, piece):
        rows = slice(start, start + piece)
        whitened: Array = counts[rows] @ directions
        weighted = whitened * share[rows, None]
        tensor += _sum_of_cubes(weighted, whitened, whitened, ask)
        beside += counts[rows].T @ weighted
    pairs = _sum_of_cubes(beside, directions, directions, ask)
    tensor -= _everywhere(pairs)
    own = counts.T @ share
    tensor += 2 * _sum_of_cubes(directions * own[:, None], directions, directions, ask)
    mean = directions.T @ _mean(counts, length)
    second = np.eye(rank) + alpha0 / (alpha0 + 1) * np.outer(mean, mean)
    tensor -= alpha0 / (alpha0 + 2) * _everywhere(np.multiply.outer(mean, second))
    cube = np.multiply.outer(np.multiply.outer(mean, mean), mean)
    whole: Array = tensor + 2 * alpha0**2 / ((alpha0 + 1) * (alpha0 + 2)) * cube
    return whole


def decompose(
    tensor: Array,
    count: int,
    *,
    restarts: int,
    iterations: int,
    tolerance: float,
    random: np.random.Generator,
    ask: Ask = lambda: None,
) -> tuple[Array, Array, float]:
    """Write a symmetric tensor (r, r, r) as a sum of cubes of vectors, nearly.

    Alternating least squares from random starts, which race: of those that go on, the half with
    the larger error is given up after every round, and the last one runs to its end. Components
    need not be orthogonal, and there may be more than r.

    Returns:
        `count` weights, vectors of length 1 (r, count), and the squared error as a share.
    """
    rank = len(tensor)
    flat = tensor.reshape(rank, -1)
    runs = [_Alternation(flat, random.normal(size=(rank, count))) for _ in range(restarts)]
    done, steps = 0, _FIRST_ROUND
    while done < iterations and not all(run.is_done for run in runs):
        for run in runs:
            run.go_on(min(steps, iterations - done), tolerance, ask)
        done += steps
        steps *= 2
        runs = sorted(runs, key=lambda run: run.error)[: math.ceil(len(runs) / 2)]
    best = min(runs, key=lambda run: run.error)
    # The three sides differ a little, and in sign: weigh the cubes of one of them anew.
    vectors = best.sides[2]
    cubes = (_contracted(flat, vectors, vectors) * vectors).sum(axis=0)
    weights = np.linalg.lstsq((vectors.T @ vectors) ** 3, cubes, rcond=1e-10)[0]
    return weights, vectors, best.error


class _Alternation:
    """Alternating least squares from one start; the tensor is symmetric, so one unfolding does."""

    def __init__(self, flat: Array, start: Array) -> None:
        self.flat = flat
        self.size = float(np.square(flat).sum())
        self.sides = [start / np.linalg.norm(start, axis=0)] * 3
        self.error = math.inf
        self.is_done = False

    def go_on(self, steps: int, tolerance: float, ask: Ask) -> None:
        for _ in range(steps):
            if self.is_done:
                return
            ask()
            before = self.error
            for side in range(3):
                self._fit(side)
            self.is_done = abs(before - self.error) < tolerance

    def _fit(self, side: int) -> None:
        """Fit one side to the other two, and take the error after it."""
        first, second = (self.sides[other] for other in range(3) if other != side)
        raw = _contracted(self.flat, first, second)
        normal = (first.T @ first) * (second.T @ second)
        # Components that meet make the system singular; a trace of ridge keeps it solvable.
        ridge = normal + 1e-10 * np.eye(len(normal))
        fitted = np.linalg.solve(ridge, raw.T).T
        self.sides[side] = fitted / np.maximum(np.linalg.norm(fitted, axis=0), 1e-300)
        left = self.size - 2 * (fitted * raw).sum() + ((fitted.T @ fitted) * normal).sum()
        self.error = float(left / self.size) if self.size else 0.0


def on_simplex(rows: Array) -> Array:
    """Return the nearest distributions to rows of numbers (Duchi et al. 2008, figure 1).

    >>> on_simplex(np.array([[0.5, 0.75, -1.0]])).tolist()
    [[0.375, 0.625, 0.0]]
    """
    ordered = -np.sort(-rows, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    places = np.arange(1, rows.shape[1] + 1)
    last = (ordered * places > excess).sum(axis=1)
    shift = excess[np.arange(len(rows)), last - 1] / last
    nearest: Array = np.maximum(rows - shift[:, None], 0.0)
    return nearest


def _ends(
    times: Callable[[Array], Array], width: int, most: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Return eigenvalues from both ends of a symmetric matrix, rising, and their vectors.

    Lanczos' method with every vector made orthogonal to all before it, since ARPACK's restarts are
    not the same from run to run. What lies far from the others is exact.
    """
    steps = min(width, 3 * most + _MORE_STEPS)
    basis = np.zeros((width, steps))
    inside = np.zeros((steps, steps))
    vector = random.normal(size=width)
    for step in range(steps):
        known = basis[:, :step]
        size = float(np.linalg.norm(vector))
        # Twice, so that rounding leaves no trace of the others.
        for _ in range(2):
            vector = vector - known @ (known.T @ vector)
        if float(np.linalg.norm(vector)) <= 1e-10 * size:
            # The matrix keeps those so far among themselves: go on from elsewhere.
            vector = random.normal(size=width)
            for _ in range(2):
                vector = vector - known @ (known.T @ vector)
        basis[:, step] = vector / np.linalg.norm(vector)
        vector = times(basis[:, step])
        column = basis[:, : step + 1].T @ vector
        inside[: step + 1, step] = inside[step, : step + 1] = column
    values, vectors = np.linalg.eigh(inside)
    return values, basis @ vectors


def _mean(counts: Any, length: Array) -> Array:
    """Return the mean over the documents of their shares of words."""
    mean: Array = counts.T @ (1 / (length * len(length)))
    return mean


def _sum_of_cubes(first: Array, second: Array, third: Array, ask: Ask) -> Array:
    """Sum the outer products of three vectors over their rows."""
    rank = first.shape[1]
    total = np.zeros((rank, rank * rank))
    for rows in _blocks(len(first), rank * rank):
        ask()
        products = second[rows, :, None] * third[rows, None, :]
        total += first[rows].T @ products.reshape(len(products), -1)
    return total.reshape(rank, rank, rank)


def _everywhere(tensor: Array) -> Array:
    """Sum a tensor, symmetric in its last two places, over the places its first can take."""
    return tensor + tensor.transpose(1, 0, 2) + tensor.transpose(1, 2, 0)


def _apart(topics: Array) -> npt.NDArray[np.intp]:
    """Return the places of topics that differ from every one before them."""
    kept: list[int] = []
    for place, topic in enumerate(topics):
        if not kept or np.abs(topics[kept] - topic).sum(axis=1).min() > _SAME:
            kept.append(place)
    return np.array(kept, np.intp)


def _contracted(flat: Array, first: Array, second: Array) -> Array:
    """Multiply a tensor with the pairs of columns of two matrices: (r, columns)."""
    products = first[:, None, :] * second[None, :, :]
    found: Array = flat @ products.reshape(flat.shape[1], -1)
    return found


def _blocks(rows: int, numbers: int) -> Iterator[slice]:
    step = max(1, _BLOCK_NUMBERS // numbers)
    for start in range(0, rows, step):
        yield slice(start, start + step)
