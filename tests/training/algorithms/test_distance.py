from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from training.algorithms.distance import blocks, nearest, nearest_by_torch, squared, sums

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(0, 3, (700, 7)).astype(np.float32)
CENTRES = RANDOM.normal(0, 3, (11, 7))
BRUTE = ((POINTS[:, None].astype(np.float64) - CENTRES) ** 2).sum(axis=2)


@pytest.mark.parametrize("exact", [False, True])
def test_the_nearest_is_that_of_the_double_loop(exact: bool) -> None:
    assert (nearest(POINTS, CENTRES, exact=exact) == BRUTE.argmin(axis=1)).all()


def test_torch_finds_the_same() -> None:
    pytest.importorskip("torch")
    assert (nearest_by_torch(POINTS, CENTRES, "cpu") == BRUTE.argmin(axis=1)).all()


def test_sparse_rows_give_what_dense_ones_do() -> None:
    thin = np.where(np.abs(POINTS) > 3, POINTS, 0)
    rows = scipy.sparse.csr_matrix(thin)
    labels = nearest(thin, CENTRES, exact=True)
    assert (nearest(rows, CENTRES) == labels).all()
    np.testing.assert_allclose(squared(rows, CENTRES, labels), squared(thin, CENTRES, labels))
    np.testing.assert_allclose(sums(rows, labels, 11), sums(thin, labels, 11), rtol=1e-12)


def test_distances_far_from_zero_keep_their_digits() -> None:
    away = POINTS.astype(np.float64) + 1e6
    labels = nearest(away, CENTRES + 1e6, exact=True)
    assert (labels == BRUTE.argmin(axis=1)).all()
    np.testing.assert_allclose(squared(away, CENTRES + 1e6, labels), BRUTE.min(axis=1), rtol=1e-6)


def test_a_tie_goes_to_the_lowest_number() -> None:
    centres = np.array([[5.0, 0.1], [1.0, 0.7], [-1.0, 0.7], [1.0, 0.7]])
    assert nearest(np.array([[0.0, 0.3], [1.0, 0.3]]), centres, exact=True).tolist() == [1, 1]


def test_sums_of_labels_are_those_of_their_rows() -> None:
    labels = np.array([2, 0, 2, 2])
    rows = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)
    assert sums(rows, labels, 4).tolist() == [[3, 4], [0, 0], [13, 16], [0, 0]]


def test_blocks_cover_all_rows_once() -> None:
    parts = list(blocks(1000, 4096))
    assert np.concatenate([np.arange(1000)[part] for part in parts]).tolist() == list(range(1000))
    assert max(part.stop - part.start for part in parts) == 256
