from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.linalg import hadamard as reference_hadamard
from scipy.spatial.distance import pdist
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from tests.training.blobs import sparse_vectors, vectors
from training.algorithms.tabular.knn import KNN
from training.algorithms.tabular.knn_index import FlatIndex, ListIndex
from training.algorithms.tabular.knn_lists import sampled
from training.algorithms.tabular.knn_model import KNNModel, vote
from training.algorithms.tabular.knn_reduction import Reduction, hadamard
from training.data import Dataset
from training.errors import (
    InvalidData,
    InvalidHyperparameter,
    LibraryMissing,
    ModelAltered,
    TrainingStopped,
)
from training.run import MemorySink, Run

DIGITS = load_digits()
TRAIN, LATER, CLASSES, LATER_CLASSES = train_test_split(
    DIGITS.data, DIGITS.target, test_size=0.3, stratify=DIGITS.target, random_state=0
)
LISTS = {"index_type": "faiss.IVFFlat"}
CODES = {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 16}


def dataset(points: np.ndarray, labels: np.ndarray, *, sparse: bool = False) -> Dataset:
    make = sparse_vectors if sparse else vectors
    return Dataset.of(make(points, label=pa.array(labels)), label="label")


def algorithm(**values: Any) -> KNN:
    common = {"feature_dim": 64, "k": 5, "sample_size": 2000, "predictor_type": "classifier"}
    return KNN(**{**common, **values})


def fit(
    points: np.ndarray = TRAIN,
    labels: np.ndarray = CLASSES,
    *,
    run: Run | None = None,
    sparse: bool = False,
    **values: Any,
) -> KNNModel:
    data = dataset(points, labels, sparse=sparse)
    chosen = algorithm(**{"feature_dim": points.shape[1], **values})
    return chosen.fit(data, run or Run(threads=1))


def accuracy(model: KNNModel) -> float:
    found = np.array(model.predict(vectors(LATER))["predicted_label"])
    return float((found == LATER_CLASSES).mean())


def recall(model: KNNModel) -> float:
    exact = KNeighborsClassifier(5, algorithm="brute").fit(TRAIN, CLASSES)
    expected = exact.kneighbors(LATER, return_distance=False)
    _, numbers = model.neighbours(LATER.astype(np.float32), 5)
    return float(
        np.mean([len(set(a) & set(b)) / 5 for a, b in zip(numbers, expected, strict=True)])
    )


@pytest.fixture(scope="module")
def flat() -> KNNModel:
    return fit()


@pytest.fixture(scope="module")
def lists() -> KNNModel:
    pytest.importorskip("faiss")
    return fit(**LISTS)


def test_flat_is_the_reference_on_digits(flat: KNNModel) -> None:
    reference = KNeighborsClassifier(5, algorithm="brute").fit(TRAIN, CLASSES)
    distances, numbers = flat.neighbours(LATER.astype(np.float32), 5)
    theirs, expected = reference.kneighbors(LATER)
    np.testing.assert_allclose(distances, theirs**2, rtol=1e-6)
    # Equal distances may come in another order, and of those at the last one any may be missing.
    for ours, other, apart in zip(numbers, expected, theirs, strict=True):
        nearer = apart < apart[-1] * (1 - 1e-9)
        assert set(ours[nearer]) == set(other[nearer])
    # The reference breaks a tied vote by class, not by distance.
    assert reference.score(LATER, LATER_CLASSES) == pytest.approx(0.9796, abs=5e-5)
    assert accuracy(flat) >= 0.9796
    measured = algorithm().evaluate(flat, dataset(LATER, LATER_CLASSES))
    assert measured == {"accuracy": accuracy(flat)}


def test_a_regressor_answers_the_mean() -> None:
    points, target = load_diabetes(return_X_y=True)
    points = points / points.std(axis=0)
    model = fit(points[:300], target[:300], k=15, predictor_type="regressor")
    reference = KNeighborsRegressor(15, algorithm="brute").fit(points[:300], target[:300])
    expected = reference.predict(points[300:])
    found = model.predict(vectors(points[300:]))["predicted_label"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    measured = algorithm(feature_dim=10, predictor_type="regressor").evaluate(
        model, dataset(points[300:], target[300:])
    )
    assert measured == {"mse": pytest.approx(((expected - target[300:]) ** 2).mean(), rel=1e-4)}


def test_verbose_answers_have_distances_and_labels(flat: KNNModel) -> None:
    reply = flat.predict_verbose(vectors(LATER[:20]))
    assert reply.column_names == ["predicted_label", "distances", "labels"]
    reference = KNeighborsClassifier(5, algorithm="brute").fit(TRAIN, CLASSES)
    distances, numbers = reference.kneighbors(LATER[:20])
    np.testing.assert_allclose(reply["distances"].to_pylist(), distances**2, rtol=1e-4)
    assert reply["labels"].to_pylist() == CLASSES[numbers].astype(float).tolist()
    assert reply["predicted_label"].equals(flat.predict(vectors(LATER[:20]))["predicted_label"])
    assert len(flat.predict_verbose(vectors(LATER[:0]))) == 0


def test_a_tied_vote_goes_to_the_nearer_label_then_to_the_smaller() -> None:
    labels = np.array([[3.0, 9, 9, 3], [7, 2, 2, 7], [1, 5, 5, 5]], np.float32)
    distances = np.array([[1.0, 2, 3, 5], [1, 2, 3, 4], [0, 9, 9, 9]], np.float32)
    assert vote(labels, distances).tolist() == [9, 2, 5]


@pytest.mark.parametrize(("metric", "power"), [("INNER_PRODUCT", 0.0), ("COSINE", 1.0)])
def test_other_metrics(metric: str, power: float) -> None:
    model = fit(index_metric=metric)
    length = np.linalg.norm(TRAIN, axis=1) ** power
    asked = LATER[:30] / np.linalg.norm(LATER[:30], axis=1)[:, None] ** power
    similar = asked @ (TRAIN / length[:, None]).T
    expected = -np.sort(-similar, axis=1)[:, :5]
    found = np.array(model.predict_verbose(vectors(LATER[:30]))["distances"].to_pylist())
    np.testing.assert_allclose(found, power - expected, rtol=1e-4, atol=1e-5)
    assert (np.diff(found, axis=1) >= 0).all()


def test_a_row_of_zeros_has_no_direction() -> None:
    model = fit(index_metric="COSINE")
    found = model.predict_verbose(vectors(np.zeros((1, 64))))
    assert found["distances"].to_pylist() == [[1.0] * 5]


def test_lists_find_nearly_all_neighbours(lists: KNNModel) -> None:
    assert lists.index.index.nlist == round(len(TRAIN) ** 0.5)
    assert recall(lists) >= 0.95
    assert 1 < lists.index.index.nprobe < lists.index.index.nlist
    assert recall(fit(**LISTS, nprobe=1)) < recall(lists)
    assert recall(fit(**LISTS, faiss_index_ivf_nlists=10, nprobe=10)) == pytest.approx(1, abs=0.002)


def test_codes_lose_little_and_say_how_wide_they_are() -> None:
    pytest.importorskip("faiss")
    sink = MemorySink()
    model = fit(**CODES, run=Run(threads=1, sink=sink))
    assert accuracy(model) >= 0.9796 - 0.03
    assert sink.properties["pq_bits"] == 4
    assert any("codes of 4 bits a number instead of 8" in line for line in sink.lines)


def test_a_code_that_does_not_divide_the_dimensions_is_filled_up_or_raises_the_target() -> None:
    pytest.importorskip("faiss")
    filled = fit(**{**CODES, "faiss_index_pq_m": 12})
    assert filled.index.width == 72
    assert accuracy(filled) > 0.9
    raised = fit(
        **{**CODES, "faiss_index_pq_m": 12},
        dimension_reduction_type="sign",
        dimension_reduction_target=30,
    )
    assert raised.reduction is not None
    assert raised.reduction.target_dim == 36


@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_projections_nearly_keep_distances(kind: str) -> None:
    wide = np.random.default_rng(0).normal(size=(60, 256)).astype(np.float32)
    before = pdist(wide)
    change = []
    for seed in range(5):
        after = pdist(Reduction(kind, seed, 64, 256).apply(wide))
        change.append(np.median(np.abs(after / before - 1)))
    assert np.median(change) <= 0.15


@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_the_best_of_some_projections_is_kept(kind: str, flat: KNNModel) -> None:
    options = {"dimension_reduction_type": kind, "dimension_reduction_target": 16}
    best = fit(**options)
    first = [fit(**options, dimension_reduction_trials=1, run=Run(seed=s)) for s in range(8)]
    assert first[3].reduction == Reduction(kind, 3, 16, 64)
    assert best.index.width == 16
    assert accuracy(best) >= np.median([accuracy(model) for model in first]) + 0.005
    assert accuracy(best) >= accuracy(flat) - 0.045


@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_projections_of_sparse_rows_are_those_of_dense_ones(kind: str) -> None:
    thin = np.where(TRAIN > 9, TRAIN, 0)
    options: dict[str, Any] = {"dimension_reduction_type": kind, "dimension_reduction_target": 20}
    options["dimension_reduction_trials"] = 1
    dense, sparse = fit(thin, **options), fit(thin, sparse=True, **options)
    np.testing.assert_allclose(sparse.index.vectors(), dense.index.vectors(), atol=1e-4)
    plain = fit(thin, sparse=True)
    assert (plain.index.vectors() == thin).all()
    asked = np.where(LATER > 9, LATER, 0)[:50]
    assert plain.predict(sparse_vectors(asked)).equals(fit(thin).predict(vectors(asked)))


def test_the_transform_is_hadamards() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    expected = rows @ reference_hadamard(32)
    hadamard(rows)
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_the_sample_is_even_and_limited() -> None:
    hits = np.zeros(10)
    for seed in range(400):
        chosen = sampled(10, 4, np.random.default_rng(seed))
        assert len(set(chosen.tolist())) == 4
        hits[chosen] += 1
    assert abs(hits / 400 - 0.4).max() < 0.08
    assert fit(sample_size=100).index.count == 100


def test_the_files_are_sagemakers_and_settings_may_be_edited(tmp_path: Path) -> None:
    options = {"dimension_reduction_type": "sign", "dimension_reduction_target": 16}
    model = fit(**options, dimension_reduction_trials=1, run=Run(seed=3, threads=1))
    model.save(tmp_path)
    settings = json.loads((tmp_path / "model_algo-1.json").read_text())
    assert settings == {
        "k": 5,
        "predictor_type": "classifier",
        "dimension_reduction": {"type": "sign", "seed": 3, "target_dim": 16, "input_dim": 64},
        "normalize": False,
        "version": "1.0",
    }
    labels = np.frombuffer((tmp_path / "model_algo-1.labels").read_bytes(), "<f4")
    assert (labels == CLASSES).all()
    settings |= {"k": 1, "predictor_type": "regressor"}
    (tmp_path / "model_algo-1.json").write_text(json.dumps(settings))
    edited = KNNModel.load(tmp_path)
    _, numbers = model.neighbours(LATER.astype(np.float32), 1)
    expected = CLASSES[numbers[:, 0]]
    assert edited.predict(vectors(LATER))["predicted_label"].to_pylist() == expected.tolist()
    for wrong, reason in [
        ({"k": 0}, r"k: expected an integer in \[1, 1257\], got 0"),
        ({"k": 9999}, "k: expected"),
        ({"predictor_type": "mean"}, "predictor_type: expected classifier or regressor"),
        ({"dimension_reduction": 7}, "settings of a k-NN model"),
    ]:
        (tmp_path / "model_algo-1.json").write_text(json.dumps(settings | wrong))
        with pytest.raises(ModelAltered, match=reason):
            KNNModel.load(tmp_path)
    (tmp_path / "model_algo-1.json").write_text(json.dumps(settings))
    (tmp_path / "model_algo-1.labels").write_bytes(b"\0\0\0\0")
    with pytest.raises(ModelAltered, match="expected 1257 labels, got 1"):
        KNNModel.load(tmp_path)


@pytest.mark.parametrize("options", [LISTS, CODES], ids=["lists", "codes"])
def test_lists_and_codes_are_loaded_as_they_were(options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    model = fit(**options)
    model.save(tmp_path)
    asked = vectors(LATER)
    assert KNNModel.load(tmp_path).predict_verbose(asked).equals(model.predict_verbose(asked))
    again = fit(**options)
    assert again.index.to_bytes() == model.index.to_bytes()


def test_a_model_is_gone_on_from(flat: KNNModel, lists: KNNModel) -> None:
    half = len(TRAIN) // 2
    for options in ({}, {"index_metric": "COSINE"}, LISTS):
        first = fit(TRAIN[:half], CLASSES[:half], **options)
        both = fit(TRAIN[half:], CLASSES[half:], run=Run(threads=1, start=first), **options)
        together = fit(**options)
        np.testing.assert_allclose(both.index.vectors(), together.index.vectors(), atol=1e-6)
        assert (both.labels == together.labels).all()
    assert fit(run=Run(threads=1, start=flat), sample_size=50).index.count == 50


def test_a_model_that_does_not_fit_is_not_gone_on_from(flat: KNNModel) -> None:
    with pytest.raises(
        InvalidHyperparameter, match="index_metric: the model to go on from has None, None, not"
    ):
        fit(index_metric="COSINE", run=Run(start=flat))
    with pytest.raises(InvalidData, match="the same inputs"):
        fit(TRAIN[:, :9], run=Run(start=flat))
    pytest.importorskip("faiss")
    with pytest.raises(InvalidData, match="IVFPQ, which keeps codes"):
        fit(**CODES, run=Run(start=fit(**CODES)))


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"k": "9", "sample_size": "5"}, "k is at most sample_size"),
        ({"dimension_reduction_type": "sign"}, "go only together"),
        ({"dimension_reduction_trials": "2"}, "goes only with dimension_reduction_type"),
        (
            {"dimension_reduction_type": "sign", "dimension_reduction_target": "64"},
            "dimension_reduction_target is less than feature_dim",
        ),
        (
            {"index_type": "faiss.IVFPQ", "index_metric": "COSINE", "faiss_index_pq_m": "4"},
            "only with index_metric=L2",
        ),
        ({"faiss_index_ivf_nlists": "9"}, "go only with index_type faiss.IVFFlat"),
        ({"nprobe": "2"}, "go only with index_type faiss.IVFFlat"),
        ({"index_type": "faiss.IVFPQ"}, "faiss_index_pq_m goes with index_type=faiss.IVFPQ"),
        ({"faiss_index_pq_m": "4"}, "faiss_index_pq_m goes with index_type=faiss.IVFPQ"),
        (
            {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "5"},
            "faiss_index_pq_m: expected one of 1, 2, 3, 4, 8",
        ),
        ({"predictor_type": "ranker"}, "expected one of classifier, regressor"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, str], refused: str) -> None:
    common = {"feature_dim": "64", "k": "5", "sample_size": "99", "predictor_type": "regressor"}
    with pytest.raises(InvalidHyperparameter, match=refused):
        KNN.of({**common, **values})


def test_data_that_does_not_suit_is_refused() -> None:
    with pytest.raises(InvalidHyperparameter, match=r"feature_dim: .* is 64 \(features\), got 9"):
        fit(feature_dim=9)
    with pytest.raises(InvalidData, match="k=5 needs as many rows, and there are 4"):
        fit(TRAIN[:4], CLASSES[:4])
    with pytest.raises(InvalidData, match=r"class 1677722[0-9.]+ is no float32"):
        fit(TRAIN, CLASSES + 2**24 + 1)
    pytest.importorskip("faiss")
    with pytest.raises(InvalidHyperparameter, match="2000 lists need as many rows"):
        fit(**LISTS, faiss_index_ivf_nlists=2000)
    with pytest.raises(InvalidHyperparameter, match="nprobe: expected at most the 4 lists"):
        fit(**LISTS, faiss_index_ivf_nlists=4, nprobe=5)
    with pytest.raises(InvalidData, match="IVFPQ needs 16 rows to train its codes"):
        fit(TRAIN[:9], CLASSES[:9], **CODES)


def test_one_row_and_as_many_neighbours_as_rows() -> None:
    one = fit(TRAIN[:1], CLASSES[:1], k=1)
    assert one.predict(vectors(LATER[:3]))["predicted_label"].to_pylist() == [CLASSES[0]] * 3
    every = fit(TRAIN[:7], np.arange(7), k=7, predictor_type="regressor")
    assert every.predict(vectors(LATER[:1]))["predicted_label"].to_pylist() == [3.0]


def test_rows_that_are_all_equal_vote_for_most() -> None:
    labels = np.array([2, 2, 2, 1, 1])
    model = fit(np.ones((5, 4)), labels, k=5)
    assert model.predict(vectors(np.ones((1, 4))))["predicted_label"].to_pylist() == [2.0]


def test_without_faiss_flat_works_and_lists_are_refused(
    monkeypatch: pytest.MonkeyPatch, flat: KNNModel
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    bare = fit()
    assert bare.index.to_bytes() == flat.index.to_bytes()
    assert bare.predict(vectors(LATER)).equals(flat.predict(vectors(LATER)))
    with pytest.raises(LibraryMissing, match="needs faiss: pip install"):
        fit(**LISTS)


def test_a_stopped_fit_says_where() -> None:
    asked = iter(range(100))
    with pytest.raises(TrainingStopped, match="stopped when row 1000 of 1257 was read"):
        fit(run=Run(should_stop=lambda: next(asked) >= 2), mini_batch_size=500)


def test_the_profile_takes_lists_for_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    sink = MemorySink()
    assert isinstance(fit(profile="auto", run=Run(threads=1, sink=sink)).index, FlatIndex)
    assert sink.properties["profile"] == {"index_type": "faiss.Flat"}
    monkeypatch.setattr("training.algorithms.tabular.knn._LISTED_ROWS", 500)
    assert isinstance(fit(profile="auto").index, ListIndex)
    given = {"feature_dim": 64, "k": 5, "sample_size": 2000, "predictor_type": "classifier"}
    asked = KNN.of({**given, "index_type": "faiss.Flat", "profile": "auto"})
    kept = asked.fit(dataset(TRAIN, CLASSES), Run(threads=1))
    assert isinstance(kept.index, FlatIndex)
