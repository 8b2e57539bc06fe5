from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans as Reference

from training.algorithms.lloyd import lloyd, refined, seeds

RANDOM = np.random.default_rng(3)
ROWS = np.concatenate([RANDOM.normal(at, 1.5, (120, 5)) for at in (0, 3, 6, 9)])
EVEN = np.ones(len(ROWS))


@pytest.mark.parametrize("how", ["random", "kmeans++"])
def test_seeds_are_different_points_by_seed(how: str) -> None:
    chosen = seeds(ROWS, EVEN, 30, how, np.random.default_rng(1))
    assert len(set(chosen.tolist())) == 30
    assert chosen.tolist() == seeds(ROWS, EVEN, 30, how, np.random.default_rng(1)).tolist()
    assert chosen.tolist() != seeds(ROWS, EVEN, 30, how, np.random.default_rng(2)).tolist()


def test_kmeans_plus_plus_spreads_where_random_does_not() -> None:
    # 400 points at one place and three far ones: drawn by distance all four places are found.
    points = np.concatenate([np.zeros((400, 2)), [[9.0, 0.0], [0.0, 9.0], [9.0, 9.0]]])
    weights = np.ones(len(points))
    found = [
        len(np.unique(points[seeds(points, weights, 4, how, np.random.default_rng(5))], axis=0))
        for how in ("kmeans++", "random")
    ]
    assert found == [4, 1]


def test_kmeans_plus_plus_takes_points_that_coincide_when_there_are_no_others() -> None:
    chosen = seeds(np.full((6, 2), 0.1), np.ones(6), 4, "kmeans++", np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 4


def test_weights_count_as_that_many_points() -> None:
    weights = np.array([3.0, 1, 1, 2])
    points = np.array([[0.0], [1.0], [10.0], [12.0]])
    start = np.array([[0.0], [12.0]])
    heavy = lloyd(points, weights, start, max_iterations=50, tolerance=0)
    repeated = np.repeat(points, weights.astype(int), axis=0)
    many = lloyd(repeated, np.ones(7), start, max_iterations=50, tolerance=0)
    np.testing.assert_allclose(heavy.centres, many.centres)
    np.testing.assert_allclose(heavy.centres.ravel(), [0.25, 34 / 3])
    assert heavy.loss == pytest.approx(many.loss)
    assert heavy.counts.tolist() == [4, 3]


def test_lloyd_on_all_rows_is_the_references() -> None:
    start = ROWS[[0, 1, 200, 300]]
    reference = Reference(n_clusters=4, init=start, n_init=1, tol=0, max_iter=300).fit(ROWS)
    ours = lloyd(ROWS, EVEN, start, max_iterations=300, tolerance=0)
    bounded = refined(ROWS, start, max_iterations=300, tolerance=0)
    for found in (ours, bounded):
        np.testing.assert_allclose(found.centres, reference.cluster_centers_, atol=1e-9)
        assert found.loss == pytest.approx(reference.inertia_)
        assert found.counts.sum() == len(ROWS)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_bounds_change_no_iteration(iterations: int) -> None:
    start = ROWS[:6]
    plain = lloyd(ROWS, EVEN, start, max_iterations=iterations, tolerance=0)
    bounded = refined(ROWS, start, max_iterations=iterations, tolerance=0)
    np.testing.assert_allclose(bounded.centres, plain.centres, atol=1e-9)


def test_the_tolerance_ends_early() -> None:
    start = ROWS[:4]
    loose = lloyd(ROWS, EVEN, start, max_iterations=300, tolerance=0.5)
    tight = lloyd(ROWS, EVEN, start, max_iterations=300, tolerance=0)
    assert loose.loss > tight.loss


def test_a_centre_without_points_is_put_on_a_far_one() -> None:
    points = np.array([[0.0], [1.0], [2.0], [50.0]])
    start = np.array([[1.0], [900.0], [901.0]])
    assert lloyd(points, np.ones(4), start, max_iterations=20, tolerance=0).loss <= 0.5
    assert refined(points, start, max_iterations=20, tolerance=0).loss <= 0.5
