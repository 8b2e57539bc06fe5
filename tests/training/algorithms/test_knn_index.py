from __future__ import annotations

import sys

import numpy as np
import pytest

from training.algorithms.tabular import knn_index
from training.algorithms.tabular.knn_index import (
    FlatIndex,
    ListIndex,
    faiss_library,
    read_index,
    searched,
    searched_by_torch,
    threads,
)
from training.errors import LibraryMissing, ModelAltered

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(0, 2, (900, 6)).astype(np.float32)
QUERIES = RANDOM.normal(0, 2, (70, 6)).astype(np.float32)


def brute(metric: str, points: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    wide, asked = points.astype(np.float64), queries.astype(np.float64)
    distance = -(asked @ wide.T)
    if metric == "L2":
        distance = ((asked[:, None] - wide) ** 2).sum(axis=2)
    at = distance.argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distance, at, axis=1), at


@pytest.mark.parametrize("metric", ["L2", "INNER_PRODUCT"])
@pytest.mark.parametrize("way", ["faiss", "numpy", "torch"])
def test_the_nearest_are_those_of_the_double_loop(
    way: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "torch":
        pytest.importorskip("torch")
        found = searched_by_torch(POINTS, QUERIES, 9, metric, "cpu")
    else:
        if way == "faiss":
            pytest.importorskip("faiss")
        # Several blocks of points, so that their best are merged.
        monkeypatch.setattr(knn_index, "_POINTS", 128)
        found = FlatIndex(POINTS, metric, with_faiss=way == "faiss").search(QUERIES, 9)
    distances, numbers = brute(metric, POINTS, QUERIES, 9)
    assert (found[1] == numbers).all()
    np.testing.assert_allclose(found[0], distances, rtol=1e-4, atol=1e-4)


def test_all_points_and_no_queries() -> None:
    _, numbers = searched(POINTS[:5], QUERIES, 5, "L2")
    assert (np.sort(numbers, axis=1) == np.arange(5)).all()
    assert searched(POINTS, QUERIES[:0], 3, "L2")[1].shape == (0, 3)


@pytest.mark.parametrize("with_faiss", [True, False])
def test_vectors_far_from_zero_keep_their_neighbours(with_faiss: bool) -> None:
    away = np.float32(2**14)
    near = np.round(POINTS * 4) / 4
    index = FlatIndex(near + away, "L2", with_faiss=with_faiss)
    distances, _ = index.search(np.round(QUERIES * 4) / 4 + away, 5)
    expected, _ = brute("L2", near, np.round(QUERIES * 4) / 4, 5)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


@pytest.mark.parametrize("metric", ["L2", "INNER_PRODUCT"])
def test_the_file_is_the_one_faiss_writes(metric: str) -> None:
    faiss = pytest.importorskip("faiss")
    kind = faiss.METRIC_L2 if metric == "L2" else faiss.METRIC_INNER_PRODUCT
    theirs = faiss.IndexFlat(6, kind)
    theirs.add(POINTS)
    data = FlatIndex(POINTS, metric).to_bytes()
    assert data == faiss.serialize_index(theirs).tobytes()
    read = read_index(data, path="here")
    assert (read.metric, read.width, read.count) == (metric, 6, 900)
    assert (read.vectors() == POINTS).all()


def test_a_file_that_is_no_index_is_refused() -> None:
    pytest.importorskip("faiss")
    whole = FlatIndex(POINTS, "L2").to_bytes()
    for data, reason in [
        (whole[:-4], "900 vectors of 6 numbers in"),
        (whole[:20], "unpack_from requires"),
        (b"something else", "faiss cannot read"),
    ]:
        with pytest.raises(ModelAltered, match=f"there: .*{reason}"):
            read_index(data, path="there")


def test_lists_with_too_few_vectors_are_searched_all() -> None:
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(6), 6, 90)
    index.cp.min_points_per_centroid = 1
    index.train(POINTS)
    index.add(POINTS)
    index.nprobe = 1
    distances, numbers = ListIndex(index).search(QUERIES, 60)
    assert (numbers == brute("L2", POINTS, QUERIES, 60)[1]).mean() > 0.99
    assert (np.diff(distances, axis=1) >= 0).all()
    read = read_index(ListIndex(index).to_bytes(), path="here")
    assert (read.search(QUERIES, 3)[1] == ListIndex(index).search(QUERIES, 3)[1]).all()
    assert (read.vectors() == POINTS).all()
    assert read.to_bytes() == ListIndex(index).to_bytes()


def test_without_faiss_lists_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(LibraryMissing, match=r"faiss.IVFPQ needs faiss: pip install"):
        faiss_library()
    index = FlatIndex(POINTS, "L2")
    assert (index.search(QUERIES, 4)[1] == brute("L2", POINTS, QUERIES, 4)[1]).all()
    with threads(1):
        pass


def test_threads_are_set_and_set_back() -> None:
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    with threads(before + 1):
        assert faiss.omp_get_max_threads() == before + 1
    assert faiss.omp_get_max_threads() == before
