from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.training.cases.randomcutforest import make_machines
from training.algorithms.unsupervised import randomcutforest_trees
from training.algorithms.unsupervised.randomcutforest import RandomCutForest, RandomCutForestModel
from training.algorithms.unsupervised.randomcutforest_samples import Samples
from training.algorithms.unsupervised.randomcutforest_trees import Trees, grow, joined
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter, TrainingStopped
from training.run import MemorySink, Run

Array = npt.NDArray[Any]


def vectors(points: Array) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(points).ravel())
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, points.shape[1])})


def fitted(points: Array, *, run: Run | None = None, **values: Any) -> RandomCutForestModel:
    train = Dataset.of(vectors(points), labels="optional")
    algorithm = RandomCutForest(feature_dim=points.shape[1], **{"num_trees": 50, **values})
    return algorithm.fit(train, run or Run(threads=1))


@pytest.fixture(scope="module")
def points() -> Array:
    random = np.random.default_rng(3)
    rows = random.normal(0, 1, (400, 3)).astype(np.float32)
    # Some are there several times, so that leaves have mass.
    rows[200:260] = rows[:60]
    rows[260:300] = rows[0]
    return rows


@pytest.fixture(scope="module")
def trees(points: Array) -> Trees:
    random = np.random.default_rng(0)
    samples = np.stack([random.choice(len(points), 40, replace=False) for _ in range(7)])
    return joined(points, grow(points, samples.astype(np.int32), random))


@pytest.fixture(scope="module")
def model() -> RandomCutForestModel:
    train = Dataset.of(make_machines(500, seed=1, labelled=False), labels="optional")
    return RandomCutForest(feature_dim=5, num_samples_per_tree=64).fit(train, Run(threads=1))


class Slow:
    """The scores as they are defined, one tree and point at a time, from the nodes alone."""

    def __init__(self, trees: Trees, number: int) -> None:
        self.nodes, self.points = trees.tree(number), trees.points.astype(np.float64)
        self.whole = int(self.nodes["mass"][0])

    def box(self, node: int) -> tuple[Array, Array]:
        if self.nodes["point"][node] >= 0:
            point = self.points[self.nodes["point"][node]]
            return point, point
        child = self.nodes["child"][node]
        (a, b), (c, d) = self.box(child), self.box(child + 1)
        return np.minimum(a, c), np.maximum(b, d)

    def climb(
        self,
        x: Array,
        unseen: Callable[[int, int, float], float],
        seen: Callable[[int, int, float], float],
        node: int = 0,
        depth: int = 0,
        beside: float = 0.0,
    ) -> Array:
        """Return (2, d): the score taken apart by side and dimension."""
        nodes: Any = self.nodes
        width = len(x)
        lower, upper = self.box(node)
        over = np.stack([np.maximum(lower - x, 0), np.maximum(x - upper, 0)])
        stretched = (np.maximum(upper, x) - np.minimum(lower, x)).sum()
        mass = int(nodes["mass"][node])
        if nodes["point"][node] >= 0 and not over.any():
            return np.full((2, width), seen(depth, mass, beside) / (2 * width))
        parted: Array = over / stretched * unseen(depth, mass, beside)
        if nodes["point"][node] >= 0:
            return parted
        left = int(nodes["child"][node])
        child = left + int(x[nodes["dimension"][node]] > nodes["cut"][node])
        sibling = 2 * left + 1 - child
        ratio = nodes["mass"][sibling] / (nodes["mass"][child] + 1)
        below = self.climb(x, unseen, seen, child, depth + 1, max(beside, ratio))
        parted += (1 - over.sum() / stretched) * below
        return parted

    def expected(self, x: Array) -> Array:
        def seen(depth: int, mass: int, beside: float) -> float:
            return (1 - mass / (2 * self.whole)) / (depth + math.log2(1 + mass))

        parts = self.climb(x, lambda depth, mass, beside: 1 / (depth + 1), seen)
        return math.log2(1 + self.whole) * parts

    def displacement(self, x: Array) -> Array:
        parts = self.climb(x, lambda d, mass, b: mass, lambda d, mass, b: 1 / (1 + mass))
        share: Array = parts / (1 + self.whole)
        return share

    def codisp(self, x: Array) -> Array:
        return self.climb(x, lambda d, mass, beside: max(mass, beside), lambda d, m, beside: beside)


@pytest.fixture(scope="module")
def asked(points: Array) -> Array:
    random = np.random.default_rng(5)
    far = random.normal(0, 4, (20, 3)).astype(np.float32)
    return np.concatenate([points[:10], points[260:262], far])


@pytest.mark.parametrize("score", ["expected", "displacement", "codisp"])
def test_scores_are_as_defined(trees: Trees, asked: Array, score: Any) -> None:
    slow = [Slow(trees, number) for number in range(len(trees))]
    wanted = [np.mean([getattr(s, score)(x).sum() for s in slow]) for x in asked.astype(float)]
    np.testing.assert_allclose(trees.scores(asked, score), wanted, rtol=1e-5)


def test_attribution_is_as_defined_and_sums_to_the_score(trees: Trees, asked: Array) -> None:
    slow = [Slow(trees, number) for number in range(len(trees))]
    wanted = np.array([np.mean([s.expected(x) for s in slow], axis=0) for x in asked.astype(float)])
    below, above = trees.attribution(asked)
    np.testing.assert_allclose(below, wanted[:, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(above, wanted[:, 1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose((below + above).sum(axis=1), trees.scores(asked), rtol=1e-6)


def test_another_score_is_refused_by_name(trees: Trees, asked: Array) -> None:
    with pytest.raises(ValueError, match="one of expected, displacement, codisp, got 'depth'"):
        trees.scores(asked, "depth")  # type: ignore[arg-type]


def test_every_tree_holds_its_sample_with_copies_as_mass(trees: Trees, points: Array) -> None:
    for number in range(len(trees)):
        nodes = trees.tree(number)
        leaf = nodes["point"] >= 0
        inner = nodes[~leaf]
        assert nodes["mass"][0] == nodes["mass"][leaf].sum() == 40
        both = nodes["mass"][inner["child"]] + nodes["mass"][inner["child"] + 1]
        assert (both == inner["mass"]).all()
        leaves = points[nodes["point"][leaf]]
        assert len(np.unique(leaves, axis=0)) == len(leaves)
    assert (trees.nodes["mass"][trees.nodes["point"] >= 0] > 1).any()


def test_cuts_fall_in_proportion_to_the_sides() -> None:
    points = np.array([[0, 0], [3, 1]], np.float32)
    random = np.random.default_rng(0)
    nodes = np.concatenate(grow(points, np.tile(np.arange(2, dtype=np.int32), (4000, 1)), random))
    roots = nodes[nodes["mass"] == 2]
    first = roots["dimension"] == 0
    assert first.mean() == pytest.approx(0.75, abs=0.03)
    assert roots["cut"][first].mean() == pytest.approx(1.5, abs=0.06)
    assert roots["cut"][~first].min() >= 0
    assert roots["cut"][~first].max() < 1


def test_neighbouring_floats_and_the_largest_are_parted() -> None:
    one = np.float32(1)
    points = np.array([[one], [np.nextafter(one, np.float32(2))], [-1e30], [1e30]], np.float32)
    nodes = grow(points, np.tile(np.arange(4, dtype=np.int32), (50, 1)), np.random.default_rng(0))
    assert all((part["point"] >= 0).sum() == 4 for part in nodes)


def test_a_sample_is_uniform_and_without_replacement() -> None:
    drawn = Samples.draw(2000, 3, 10, np.random.default_rng(0))
    assert all(len(set(row)) == 3 for row in drawn.rows.tolist())
    assert np.bincount(drawn.rows.ravel()) / 2000 == pytest.approx(np.full(10, 0.3), abs=0.04)


def test_offering_in_parts_is_as_drawing_at_once() -> None:
    random = np.random.default_rng(0)
    grown = Samples.draw(2000, 3, 4, random).offer(6, 4, 0.0, random)
    assert np.bincount(grown.rows.ravel()) / 2000 == pytest.approx(np.full(10, 0.3), abs=0.04)
    whole = Samples.draw(2000, 3, 10, random)
    assert np.median(grown.keys) == pytest.approx(np.median(whole.keys), abs=0.08)


def test_with_decay_late_rows_are_kept_as_they_weigh() -> None:
    random = np.random.default_rng(0)
    decay = -math.log1p(-0.5)
    one = Samples.draw(4000, 1, 1, random).offer(3, 1, decay, random)
    expected = np.array([1, 2, 4, 8]) / 15
    assert np.bincount(one.rows.ravel()) / 4000 == pytest.approx(expected, abs=0.03)


def test_more_trees_and_samples_make_a_larger_forest(points: Array) -> None:
    small = fitted(points, num_samples_per_tree=16)
    large = fitted(points, num_samples_per_tree=32, num_trees=60)
    assert small.trees.masses.tolist() == [16] * 50
    assert large.trees.masses.tolist() == [32] * 60


def test_eval_metrics_choose_what_is_measured(model: RandomCutForestModel) -> None:
    test = Dataset.of(make_machines(300, seed=2, labelled=True), inputs=model.inputs)

    def names(*chosen: str) -> set[str]:
        algorithm = RandomCutForest(feature_dim=5, eval_metrics=chosen)
        return set(algorithm.evaluate(model, test)) - {"auc", "ap", "f1_quantile"}

    assert names("accuracy") == {"accuracy"}
    assert names("precision_recall_fscore") == {"precision", "recall", "f1"}
    with pytest.raises(InvalidHyperparameter, match="eval_metrics: expected"):
        RandomCutForest(feature_dim=5, eval_metrics=("rmse",))


def test_metrics_follow_the_three_sigma_rule(model: RandomCutForestModel) -> None:
    test = Dataset.of(make_machines(300, seed=2, labelled=True), inputs=model.inputs)
    score = model.scores(test.features)
    called = score > score.mean() + 3 * score.std()
    odd = test.labels() == 1
    found = RandomCutForest(feature_dim=5).evaluate(model, test)
    hits = (called & odd).sum()
    assert found["f1"] == pytest.approx(2 * hits / (called.sum() + odd.sum()))
    assert found["accuracy"] == pytest.approx((called == odd).mean())
    top = np.argsort(-score)[: int(odd.sum())]
    assert found["f1_quantile"] == pytest.approx(odd[top].mean())
    assert found["auc"] > 0.95


def test_without_both_kinds_of_rows_there_is_no_ranking(model: RandomCutForestModel) -> None:
    table = make_machines(7, seed=2, labelled=True)
    test = Dataset.of(table, inputs=model.inputs)
    assert set(RandomCutForest(feature_dim=5).evaluate(model, test)) == {
        *("f1", "precision", "recall", "accuracy")
    }


def test_a_label_other_than_0_and_1_is_refused(model: RandomCutForestModel) -> None:
    table = make_machines(5, seed=2, labelled=True)
    table = table.set_column(4, "label", pa.array([0, 1, 2, 0, 0]))
    test = Dataset.of(table, inputs=model.inputs, channel="test")
    with pytest.raises(InvalidData, match=r"test: label column 'label': .* got 2 in row 3"):
        RandomCutForest(feature_dim=5).evaluate(model, test)


def test_a_wrong_feature_dim_is_refused(points: Array) -> None:
    with pytest.raises(InvalidHyperparameter, match=r"feature_dim: .* is 3 \(x\), got 4"):
        RandomCutForest(feature_dim=4).fit(
            Dataset.of(vectors(points), labels="optional"), Run(threads=1)
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [("feature_dim", 10_001), ("num_trees", 49), ("num_samples_per_tree", 2049)],
)
def test_what_is_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(InvalidHyperparameter, match=f"{name}: expected an integer in"):
        RandomCutForest.of({"feature_dim": 3, name: value})


def test_sparse_rows_score_as_dense_ones(points: Array) -> None:
    rows = np.where(np.abs(points) < 0.5, 0, points)
    lists = [np.flatnonzero(row).tolist() for row in rows]
    values = [row[row != 0].tolist() for row in rows]
    sparse = pa.array(
        [{"indices": i, "values": v} for i, v in zip(lists, values, strict=True)],
        pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))]),
    )
    train = Dataset.of(pa.table({"x": sparse}), labels="optional")
    assert train.inputs.is_sparse
    model = RandomCutForest(feature_dim=3, num_trees=50).fit(train, Run(threads=1))
    assert np.array_equal(model.scores(pa.table({"x": sparse})), fitted(rows).scores(vectors(rows)))


def test_small_differences_of_large_numbers_count() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(0, 1, (300, 2))
    rows[7] = 12
    near, far = fitted(rows), fitted(rows + 1e9)
    assert far.scores(vectors(rows + 1e9)).argmax() == 7
    np.testing.assert_allclose(
        far.scores(vectors(rows + 1e9)), near.scores(vectors(rows)), atol=1e-3
    )


def test_numbers_beyond_float32_are_far_but_finite() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (100, 2))
    rows[3] = [1e300, -1e300]
    scores = fitted(rows).scores(vectors(rows))
    assert np.isfinite(scores).all()
    assert scores.argmax() == 3


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_and_more_dimensions_than_rows(rows: int) -> None:
    points = np.random.default_rng(0).normal(0, 1, (rows, 9))
    model = fitted(points)
    assert model.trees.masses.tolist() == [rows] * 50
    assert np.isfinite(model.scores(vectors(points))).all()


def test_rows_that_are_all_equal_make_one_leaf() -> None:
    points = np.full((80, 2), 7.0)
    model = fitted(points, num_samples_per_tree=32)
    assert len(model.trees.nodes) == 50
    # Half of log2(33) ÷ log2(33), by the formula; another point is parted at once.
    assert model.scores(vectors(points[:1])) == pytest.approx([0.5])
    assert model.scores(vectors(points[:1] + 1)) == pytest.approx([math.log2(33)])


def test_pieces_of_any_size_score_alike(
    model: RandomCutForestModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_machines(60, seed=5, labelled=False)
    whole, parts = model.scores(table), model.attribution(table)
    # Pieces of 25 rows and one tree, and of all rows and several trees.
    for pairs in (25, 250):
        monkeypatch.setattr(randomcutforest_trees, "_ASK_NUMBERS", 5 * pairs)
        np.testing.assert_allclose(model.scores(table), whole, rtol=1e-12)
        last = model.attribution(table)["high"][59]["noise"].as_py()
        assert last == pytest.approx(parts["high"][59]["noise"].as_py(), rel=1e-9)


def test_attribution_names_the_odd_sensor(model: RandomCutForestModel) -> None:
    table = make_machines(200, seed=2, labelled=True)
    odd = table.filter(pa.compute.equal(table["label"], 1))
    for row in model.attribution(odd).to_pylist():
        parts = {(side, name): v for side, names in row.items() for name, v in names.items()}
        assert max(parts, key=lambda key: parts[key]) == ("high", "noise")
    assert set(row["low"]) == {"heat", "noise", "works", "room=a", "room=b"}
    assert len(model.attribution(odd.slice(0, 0))) == 0


def test_fitting_on_goes_on_from_a_model(points: Array) -> None:
    first = fitted(points[:200], num_samples_per_tree=32)
    sink = MemorySink()
    run = Run(threads=1, start=first, sink=sink)
    second = fitted(points[200:] + 9, num_samples_per_tree=32, run=run)
    assert second.seen == 400
    late = (second.trees.points - second.trees.points.min(axis=0)).max(axis=1) > 8
    share = late[second.samples.rows].mean()
    assert share == pytest.approx(0.5, abs=0.06)
    assert sink.done == (50, 50)


def test_a_model_that_does_not_fit_is_no_start(points: Array) -> None:
    first = fitted(points, num_samples_per_tree=32)
    with pytest.raises(InvalidHyperparameter, match=r"num_samples_per_tree: .* has 32, got 33"):
        fitted(points, num_samples_per_tree=33, run=Run(threads=1, start=first))
    with pytest.raises(InvalidHyperparameter, match=r"num_trees: .* has 50, got 51"):
        fitted(points, num_trees=51, num_samples_per_tree=32, run=Run(threads=1, start=first))
    with pytest.raises(InvalidData, match=r"same inputs; it takes x and train has"):
        RandomCutForest(feature_dim=5).fit(
            Dataset.of(make_machines(50, seed=1, labelled=False), labels="optional"),
            Run(threads=1, start=first),
        )
    other: Any = object()
    with pytest.raises(InvalidData, match="goes on from a model of randomcutforest, got object"):
        fitted(points, run=Run(threads=1, start=other))


def test_a_forest_with_decay_takes_the_new_for_ordinary(points: Array) -> None:
    model = fitted(points, num_samples_per_tree=32)
    moved = vectors(points + 20)
    before = model.scores(moved).mean()
    after = model.update(moved, decay=0.02)
    assert before > 1.5 > 1 > after.scores(moved).mean()
    assert after.scores(vectors(points[:50])).mean() > after.scores(moved).mean()
    assert model.scores(moved).mean() == before
    with pytest.raises(ValueError, match=r"decay: expected a number in \[0, 1\), got 1"):
        model.update(moved, decay=1)


def test_only_the_trees_that_changed_are_grown_anew(points: Array) -> None:
    model = fitted(np.repeat(points, 20, axis=0), num_samples_per_tree=32)
    after = model.update(vectors(points[:5] + 3))
    changed = (after.samples.keys != model.samples.keys).any(axis=1)
    assert 0 < changed.sum() < 25
    for number in np.flatnonzero(~changed).tolist():
        before, now = model.trees.tree(number), after.trees.tree(number)
        assert np.array_equal(before["cut"], now["cut"])
        leaf = before["point"] >= 0
        assert np.array_equal(
            model.trees.points[before["point"][leaf]], after.trees.points[now["point"][leaf]]
        )


def test_what_is_forgotten_is_in_no_tree(points: Array, tmp_path: Path) -> None:
    model = fitted(points, num_samples_per_tree=64)
    after = model.forget(vectors(points[260:261]))
    held = {row.tobytes() for row in after.trees.points}
    assert (points[260] - model.center).astype(np.float32).tobytes() not in held
    assert after.trees.masses.min() < 64
    assert after.scores(vectors(points[260:261])) > model.scores(vectors(points[260:261]))
    assert model.forget(vectors(points[:1] + 99)).trees.points.shape == model.trees.points.shape
    after.save(tmp_path)
    loaded = RandomCutForestModel.load(tmp_path)
    # A reservoir with room takes the next rows, and a loaded forest changes as the saved one does.
    more = loaded.update(vectors(points[:30] + 1))
    assert more.trees.masses.min() > after.trees.masses.min()
    same = after.update(vectors(points[:30] + 1))
    assert more.predict(vectors(points)).equals(same.predict(vectors(points)))
    with pytest.raises(InvalidData, match="a tree of the forest would be empty"):
        model.forget(vectors(points))


def test_a_fit_stops_between_levels(points: Array) -> None:
    asked = iter(range(100))
    run = Run(threads=1, should_stop=lambda: next(asked) >= 4)
    with pytest.raises(TrainingStopped, match="stopped after 0 of 50 trees"):
        fitted(points, run=run)


def test_the_threshold_is_three_deviations_over_the_mean(model: RandomCutForestModel) -> None:
    scores = model.scores(make_machines(500, seed=1, labelled=False))
    assert model.threshold == pytest.approx(scores.mean() + 3 * scores.std())
    assert replace(model, deviation=0.0).threshold == model.mean
