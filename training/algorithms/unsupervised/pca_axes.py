"""Principal axes from what was summed: exact, from a sketch, or from a scatter times a basis.

Every function returns the axes as columns, orthonormal, with their singular values from the largest
down. Where rows span fewer dimensions than axes are asked for, the rest are any that complete
them, with singular value 0. The largest entry of each axis is positive.

Sources: Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011,
sections 4.5 and 5.5. Tropp, Yurtsever, Udell and Cevher, "Fixed-rank approximation of a
positive-semidefinite matrix from streaming data", NIPS 2017, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithms.distance import as_array, is_csr
from training.errors import LibraryMissing

__all__ = ["Axes", "basis_of", "of_image", "of_rows", "of_scatter", "of_sketch"]

Floats = npt.NDArray[np.float64]

_EPS: Final = float(np.finfo(np.float64).eps)


@final
@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes.

    Attributes:
        vectors: (d, k), orthonormal columns.
        values: (k), singular values of the centred rows, from the largest down.
    """

    vectors: Floats
    values: Floats


def of_scatter(scatter: Floats, count: int) -> Axes:
    """Return the first `count` axes of a scatter matrix (d, d)."""
    return _axes(*_top(scatter, count), count)


def of_rows(rows: Any, weights: Floats, mean: Floats, count: int) -> Axes:
    """Return the first `count` axes of few rows in many dimensions, by their inner products.

    Args:
        rows: n rows in double precision, as an array or CSR matrix.
        weights: n numbers: how much of the mean each row has.
        mean: (d), what to take from each row times its weight.
        count: how many axes.
    """
    if is_csr(rows):
        toward = np.asarray(rows @ mean)
        inner = as_array(rows @ rows.T) - np.outer(toward, weights) - np.outer(weights, toward)
        inner += np.outer(weights, weights) * float(mean @ mean)
    else:
        rows = rows - weights[:, None] * mean
        inner = rows @ rows.T
    squares, left = _top(inner, min(count, len(inner)))
    kept = squares > 0
    squares, left = squares[kept], left[:, kept]
    vectors = np.asarray(rows.T @ left)
    if is_csr(rows):
        vectors = vectors - np.outer(mean, weights @ left)
    return _axes(squares, vectors / np.sqrt(squares), count)


def of_sketch(rows: Floats, count: int) -> Axes:
    """Return the first `count` axes of a sketch by l random signs per row.

    The singular values are estimates: those of the sketch, by √l.
    """
    _, values, turned = np.linalg.svd(rows, full_matrices=False)
    vectors = turned[:count].T
    return _axes(values[:count] ** 2 / len(rows), vectors, count)


def basis_of(rows: Floats) -> Floats:
    """Return an orthonormal basis (d, l) of what the rows (l, d) span."""
    basis: Floats = np.linalg.qr(rows.T)[0]
    return basis


def of_image(image: Floats, basis: Floats, count: int) -> Axes:
    """Return the first `count` axes of a scatter S by Nyström's approximation.

    S ≈ Y (QᵀY)⁻¹ Yᵀ with the image Y = SQ: as good as one more power iteration, without one.

    Args:
        image: Y (d, l).
        basis: Q (d, l), orthonormal.
        count: how many axes.
    """
    size = float(np.linalg.norm(image))
    if size == 0:
        return _axes(np.zeros(0), np.zeros((len(image), 0)), count)
    # A small shift keeps the inverse sane (Tropp et al. 2017, section 3.3); taken off again below.
    shift = _EPS * size
    core = basis.T @ image
    squares, turned = np.linalg.eigh((core + core.T) / 2 + shift * np.eye(len(core)))
    kept = squares > _EPS * squares[-1] * len(core)
    root = (image + shift * basis) @ (turned[:, kept] / np.sqrt(squares[kept]))
    vectors, values, _ = np.linalg.svd(root, full_matrices=False)
    return _axes(np.maximum(values[:count] ** 2 - shift, 0), vectors[:, :count], count)


def _top(matrix: Floats, count: int) -> tuple[Floats, Floats]:
    """Return the largest eigenvalues from the largest down, 0 where they are rounding, and axes."""
    size = len(matrix)
    try:
        import scipy.linalg
    except ModuleNotFoundError as error:
        raise LibraryMissing(
            "principal axes need scipy: pip install 'featureline[training]'",
            library="scipy",
            extra="training",
        ) from error
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[size - count, size - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    floor = _EPS * size * max(float(values[0]), 0.0)
    return np.where(values > floor, values, 0.0), vectors


def _axes(squares: Floats, vectors: Floats, count: int) -> Axes:
    """Complete axes to `count`, orthonormal, with the largest entry of each positive."""
    have = len(squares)
    more = np.random.default_rng(0).normal(size=(len(vectors), count - have))
    full, _ = np.linalg.qr(np.concatenate([vectors, more], axis=1))
    # The decomposition may turn an axis round; so does what comes next.
    size = np.abs(full)
    # The first of those that differ from the largest by rounding alone.
    place = (size >= size.max(axis=0) * (1 - 1e-9)).argmax(axis=0)
    full *= np.where(full[place, np.arange(count)] < 0, -1.0, 1.0)
    values = np.concatenate([np.sqrt(squares), np.zeros(count - have)])
    return Axes(full, values)
