from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as Reference

from tests.training.blobs import make_blobs, sparse_vectors, vectors
from training.algorithms.distance import product_by_torch
from training.algorithms.signs import signs
from training.algorithms.unsupervised.pca import PCA
from training.algorithms.unsupervised.pca_model import PCAModel
from training.algorithms.unsupervised.pca_sums import Image, Sketch
from training.data import Dataset
from training.errors import FitFailed, InvalidData, InvalidHyperparameter, TrainingStopped
from training.run import MemorySink, Run

DIGITS = load_digits().data


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(n_components=10, svd_solver="full").fit(DIGITS)


def dataset(points: Any, *, channel: str = "train") -> Dataset:
    table = points if isinstance(points, pa.Table) else vectors(np.asarray(points))
    return Dataset.of(table, labels="optional", channel=channel)


def fit(points: Any, *, run: Run | None = None, **values: Any) -> PCAModel:
    data = dataset(points)
    values = {"mini_batch_size": 500, "num_components": 2, "feature_dim": data.width, **values}
    return PCA(**values).fit(data, run or Run(threads=1))


def assert_same(found: PCAModel, expected: PCAModel, by: float = 1e-5) -> None:
    np.testing.assert_allclose(found.s, expected.s, rtol=by, atol=by)
    np.testing.assert_allclose(found.v, expected.v, atol=by)
    np.testing.assert_allclose(found.mean, expected.mean, atol=by)


def test_regular_is_the_reference_with_the_largest_last(reference: Reference) -> None:
    model = fit(DIGITS, num_components=10)
    np.testing.assert_allclose(model.s[::-1], reference.singular_values_, rtol=1e-4)
    cosines = np.linalg.svd(reference.components_ @ model.v)[1]
    assert cosines.min() >= 0.9999
    np.testing.assert_allclose(model.explained[::-1], reference.explained_variance_ratio_)
    assert model.explained.sum() == pytest.approx(0.738227, abs=1e-6)


def test_the_largest_entry_of_each_axis_is_positive(reference: Reference) -> None:
    v = fit(DIGITS, num_components=10).v
    assert (v[np.abs(v).argmax(axis=0), np.arange(10)] > 0).all()
    turned = fit(-DIGITS, num_components=10).v
    np.testing.assert_allclose(turned, v, atol=1e-9)


def test_a_row_becomes_its_coordinates_on_the_axes(reference: Reference) -> None:
    model = fit(DIGITS, num_components=10)
    reply = model.predict(vectors(DIGITS[:7]))
    assert reply.column_names == ["projection"]
    theirs = reference.transform(DIGITS[:7])[:, ::-1]
    np.testing.assert_allclose(np.abs(reply["projection"].to_pylist()), np.abs(theirs), atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_randomized_keeps_nearly_all_of_the_exact_variance(seed: int, reference: Reference) -> None:
    exact = reference.explained_variance_ratio_.sum()
    kept = [
        fit(
            DIGITS,
            num_components=10,
            algorithm_mode="randomized",
            passes=passes,
            run=Run(seed=seed, threads=1),
        ).captured(DIGITS)
        / exact
        for passes in (1, "auto", 3)
    ]
    assert kept[1] >= 0.98
    assert 0.7 < kept[0] < kept[1] < kept[2] <= 1.0001


def test_a_wider_sketch_keeps_more() -> None:
    options = {"algorithm_mode": "randomized", "num_components": 5, "passes": 1}
    few, many = (fit(DIGITS, **options, extra_components=extra) for extra in (0, 50))
    assert many.captured(DIGITS) > few.captured(DIGITS) + 0.02
    algorithm = PCA(feature_dim=64, mini_batch_size=1, num_components=20)
    assert algorithm.sketch_size == 40
    assert PCA(feature_dim=9, mini_batch_size=1, num_components=5).sketch_size == 9


def test_which_way_ran_is_told() -> None:
    told = []
    for points, values in [
        (DIGITS, {}),
        (DIGITS[:20], {}),
        (DIGITS, {"algorithm_mode": "randomized"}),
        (DIGITS, {"algorithm_mode": "randomized", "passes": 1}),
    ]:
        sink = MemorySink()
        fit(points, run=Run(threads=1, sink=sink), **values)
        told.append(sink.properties["method"])
    assert told == [
        "regular, by the sum of squares",
        "regular, by the inner products of the rows",
        "randomized, 2 passes",
        "randomized, 1 pass",
    ]


@pytest.mark.parametrize("mode", ["regular", "randomized"])
@pytest.mark.parametrize("mean", [True, False])
def test_neither_batches_nor_sparse_storage_change_the_model(mode: str, mean: bool) -> None:
    thin = np.where(DIGITS > 9, DIGITS, 0)[:700]
    options = {"algorithm_mode": mode, "num_components": 4, "subtract_mean": mean}
    whole = fit(thin, mini_batch_size=700, **options)
    assert_same(fit(thin, mini_batch_size=33, **options), whole)
    sparse = fit(sparse_vectors(thin), mini_batch_size=100, **options)
    assert_same(sparse, whole)
    asked = sparse.predict(sparse_vectors(thin[:9]))["projection"].to_pylist()
    np.testing.assert_allclose(
        asked, whole.predict(vectors(thin[:9]))["projection"].to_pylist(), atol=1e-4
    )
    assert sparse.captured(sparse_rows(thin)) == pytest.approx(whole.captured(thin))


def sparse_rows(points: np.ndarray) -> Any:
    return dataset(sparse_vectors(points)).csr()


def test_without_the_mean_axes_are_those_about_zero() -> None:
    model = fit(DIGITS, num_components=3, subtract_mean=False)
    np.testing.assert_allclose(
        model.s[::-1], np.linalg.svd(DIGITS, compute_uv=False)[:3], rtol=1e-6
    )
    assert not model.mean.any()
    row = model.predict(vectors(DIGITS[:1]))["projection"].to_pylist()
    np.testing.assert_allclose(row, DIGITS[:1] @ model.v, rtol=1e-5)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
def test_numbers_far_from_zero_keep_their_digits(mode: str) -> None:
    near = np.random.default_rng(0).integers(0, 8, (400, 5)).astype(np.float64)
    options = {"algorithm_mode": mode, "num_components": 2, "passes": "auto"}
    away, home = fit(near + 2.0**20, **options), fit(near, **options)
    np.testing.assert_allclose(away.s, home.s, rtol=1e-6)
    np.testing.assert_allclose(away.v, home.v, atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_fewer_rows_than_dimensions(sparse: bool) -> None:
    random = np.random.default_rng(2)
    wide = np.where(random.random((30, 400)) < 0.2, random.normal(3, 1, (30, 400)), 0)
    table = sparse_vectors(wide) if sparse else vectors(wide)
    exact = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False)[:10]
    few = fit(table, num_components=10)
    np.testing.assert_allclose(few.s[::-1], exact, rtol=1e-5)
    sketched = fit(table, num_components=10, algorithm_mode="randomized", extra_components=30)
    np.testing.assert_allclose(sketched.s[::-1], exact, rtol=1e-5)


@pytest.mark.parametrize("mode", ["regular", "randomized"])
@pytest.mark.parametrize(
    "points",
    [
        np.ones((1, 4)),
        np.full((50, 4), 7.0),
        np.arange(50.0)[:, None] * [1.0, 0, 2, 0],
        np.random.default_rng(0).normal(size=(3, 4)),
    ],
    ids=["one row", "all equal", "one axis", "fewer rows than axes"],
)
def test_axes_beyond_what_the_rows_span_are_completed(points: np.ndarray, mode: str) -> None:
    model = fit(points, num_components=4, algorithm_mode=mode)
    np.testing.assert_allclose(model.v.T @ model.v, np.eye(4), atol=1e-9)
    exact = np.zeros(4)
    found = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    exact[: len(found)] = found
    np.testing.assert_allclose(model.s[::-1], exact, atol=1e-4)
    # All that there is lies on the axes.
    assert model.captured(points) == pytest.approx(1)


def test_workers_sums_merge_to_those_of_one() -> None:
    parts = [DIGITS[:500], DIGITS[500:1200], DIGITS[1200:]]
    starts = [0, 500, 1200]
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 6)))[0]

    def added(sums: Any, rows: np.ndarray, first: int) -> Any:
        sums.add(rows, np.ones(len(rows)), first)
        return sums

    makers = [Image, lambda shift: Image(shift, basis), lambda shift: Sketch(shift, 8, seed=3)]
    for make in makers:
        one = added(make(np.zeros(64)), DIGITS, 0)
        # Each has its own shift.
        several = [added(make(r[0]), r, first) for r, first in zip(parts, starts, strict=True)]
        merged = several[0].plus(several[1]).plus(several[2])
        for sums in (one, merged):
            assert sums.level.count == len(DIGITS)
        if isinstance(one, Sketch):
            np.testing.assert_allclose(merged.rows(centred=True), one.rows(centred=True), atol=1e-6)
        else:
            expected = one.scatter(centred=True)
            np.testing.assert_allclose(merged.scatter(centred=True), expected, atol=1e-6)
        np.testing.assert_allclose(merged.level.mean, DIGITS.mean(axis=0))
        expected = one.level.variance(centred=True)
        assert merged.level.variance(centred=True) == pytest.approx(expected)


def test_signs_are_even_and_different_by_row_and_seed() -> None:
    made = signs(0, 0, 4000, 16)
    assert set(np.unique(made)) == {-1.0, 1.0}
    assert abs(made.mean()) < 0.02
    assert np.abs(made.T @ made / 4000 - np.eye(16)).max() < 0.08
    assert (signs(0, 0, 4000, 16)[256:] != made[:-256]).any()
    assert (signs(1, 0, 10, 16) != made[:10]).any()


def test_torch_multiplies_the_same() -> None:
    pytest.importorskip("torch")
    left, right = DIGITS[:50].T, DIGITS[:50, :3]
    np.testing.assert_allclose(product_by_torch(left, right, "cpu"), left @ right)


def test_going_on_from_a_model_gives_what_all_rows_would() -> None:
    for mode in ("regular", "randomized"):
        options = {"num_components": 64, "algorithm_mode": mode}
        first = fit(DIGITS[:900], **options)
        further = fit(DIGITS[900:], run=Run(threads=1, start=first), **options)
        together = fit(DIGITS, **options)
        assert further.count == len(DIGITS)
        np.testing.assert_allclose(further.s[10:], together.s[10:], rtol=1e-5)
        np.testing.assert_allclose(further.mean, together.mean, atol=1e-5)
        assert further.energy == pytest.approx(together.energy, rel=1e-6)


def test_a_model_that_does_not_fit_is_not_gone_on_from() -> None:
    first = fit(DIGITS)
    with pytest.raises(InvalidHyperparameter, match=r"subtract_mean: the model .* has true, got"):
        fit(DIGITS, subtract_mean=False, run=Run(start=first))
    with pytest.raises(InvalidData, match="same inputs; it takes features and train has length"):
        fit(make_blobs(50, seed=0), run=Run(start=first))


def test_the_test_channel_is_measured_against_the_models_mean() -> None:
    algorithm = PCA(feature_dim=64, mini_batch_size=500, num_components=10)
    model = algorithm.fit(dataset(DIGITS[:1200]), Run(threads=1))
    later = DIGITS[1200:]
    away = later - DIGITS[:1200].mean(axis=0)
    lost = away - away @ model.v @ model.v.T
    expected = 1 - (lost**2).sum() / (away**2).sum()
    measured = algorithm.evaluate(model, dataset(later, channel="test"))
    assert measured["explained_variance"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"num_components": "5"}, "num_components is at most feature_dim"),
        ({"extra_components": "3"}, "extra_components goes only with algorithm_mode=randomized"),
        ({"passes": "2"}, "passes goes only with"),
        ({"extra_components": "-2"}, "extra_components: expected an integer >= -1"),
        ({"passes": "0"}, "passes: expected an integer >= 1 or auto"),
        ({"algorithm_mode": "exact"}, "algorithm_mode: expected one of regular, randomized"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, str], refused: str) -> None:
    required = {"feature_dim": "4", "mini_batch_size": "100", "num_components": "2"}
    with pytest.raises(InvalidHyperparameter, match=refused):
        PCA.of({**required, **values})


def test_a_wrong_width_and_one_too_large_are_refused() -> None:
    with pytest.raises(InvalidHyperparameter, match=r"feature_dim: .* is 64 \(features\), got 9"):
        fit(DIGITS, feature_dim=9)
    wide = sparse_vectors(np.eye(3, 40_000))
    assert fit(wide).s[-1] == pytest.approx(1)
    many = pa.table(
        {"features": pa.chunked_array([wide["features"].chunk(0)] * 14_000)}, wide.schema
    )
    with pytest.raises(InvalidHyperparameter, match=r"regular keeps 40,000² numbers .* randomized"):
        fit(many)


def test_a_fit_goes_on_from_the_middle_of_its_second_pass(tmp_path: Any) -> None:
    options = {"mini_batch_size": 100, "algorithm_mode": "randomized", "num_components": 3}
    whole = fit(DIGITS, **options)
    asked = iter(range(1000))
    run = Run(threads=1, checkpoints=tmp_path, should_stop=lambda: next(asked) >= 25)
    with pytest.raises(TrainingStopped, match="after mini-batch 25 of 36"):
        fit(DIGITS, run=run, **options)
    resumed = fit(DIGITS, run=Run(threads=1, checkpoints=tmp_path), **options)
    assert (resumed.v == whole.v).all()
    with pytest.raises(FitFailed, match=r"another fit .*num_components: 3, now 4"):
        fit(DIGITS, run=Run(checkpoints=tmp_path), **{**options, "num_components": 4})
