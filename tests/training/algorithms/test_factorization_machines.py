"""Factorization Machines beside the sum over all pairs, and what each hyperparameter does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from training.algorithms import find_algorithm
from training.algorithms.tabular.factorization.model import FactorizationModel
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter
from training.run import MemorySink, Run

torch = pytest.importorskip("torch")
scipy_sparse = pytest.importorskip("scipy.sparse")

from training.algorithms.tabular.factorization.module import FactorizationMachine  # noqa: E402
from training.engine.row_adam import RowAdam  # noqa: E402
from training.engine.source import SparseRows  # noqa: E402

Machines: Any = find_algorithm("factorization-machines")
VALUES = {"feature_dim": 9, "num_factors": 3, "predictor_type": "regressor"}


def pairs(x: Any, bias: float, linear: Any, factors: Any) -> float:
    """The score as its definition has it, in O(columns² factors)."""
    score = bias + float(x @ linear)
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            score += float(factors[i] @ factors[j]) * x[i] * x[j]
    return score


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any, Any, Any]:
    random = np.random.default_rng(0)
    rows = scipy_sparse.random(12, 9, density=0.4, format="csr", random_state=0, dtype=np.float64)
    bias = np.array([0.3], np.float32)
    linear = random.normal(size=(9, 1)).astype(np.float32)
    return rows, bias, linear, random.normal(size=(9, 3)).astype(np.float32)


def test_module_and_model_are_the_sum_over_all_pairs(parts: Any) -> None:
    rows, bias, linear, factors = parts
    expected = [pairs(row, 0.3, linear[:, 0], factors) for row in rows.toarray()]
    module = FactorizationMachine(bias, linear, factors)
    given = module(*SparseRows(rows).take(np.arange(12))).detach().numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    model = FactorizationModel(None, 0.3, linear[:, 0], factors, "regressor")  # type: ignore[arg-type]
    np.testing.assert_allclose(model.scores(rows), expected, rtol=1e-5, atol=1e-5)


def test_dense_rows_have_the_scores_and_the_gradients_of_sparse_ones(parts: Any) -> None:
    rows, bias, linear, factors = parts
    sparse, dense = (FactorizationMachine(bias, linear, factors) for _ in range(2))
    given = sparse(*SparseRows(rows).take(np.arange(12)))
    same = dense.dense(torch.tensor(rows.toarray(), dtype=torch.float32))
    torch.testing.assert_close(same, given, rtol=1e-5, atol=1e-5)
    for score in (given, same):
        score.sum().backward()
    for one, other in zip(sparse.parameters(), dense.parameters(), strict=True):
        expected = one.grad.to_dense() if one.grad.is_sparse else one.grad
        torch.testing.assert_close(other.grad, expected, rtol=1e-4, atol=1e-4)
    model = FactorizationModel(None, 0.3, linear[:, 0], factors, "regressor")  # type: ignore[arg-type]
    np.testing.assert_allclose(model.scores(rows.toarray()), model.scores(rows), rtol=1e-12)


def test_an_empty_row_has_the_bias_as_its_score(parts: Any) -> None:
    _, bias, linear, factors = parts
    rows = scipy_sparse.csr_matrix((2, 9), dtype=np.float64)
    module = FactorizationMachine(bias, linear, factors)
    assert module(*SparseRows(rows).take(np.arange(2))).tolist() == pytest.approx([0.3, 0.3])


def test_gradients_are_those_of_the_definition(parts: Any) -> None:
    rows, bias, linear, factors = parts
    module = FactorizationMachine(bias, linear, factors)
    module(*SparseRows(rows).take(np.arange(12))).sum().backward()
    dense = torch.tensor(rows.toarray())
    weights = torch.tensor(factors, dtype=torch.float64, requires_grad=True)
    product = dense @ weights
    ((product**2 - (dense**2) @ weights**2).sum() / 2).backward()
    given = module.factors.weight.grad.to_dense().numpy()
    np.testing.assert_allclose(given, weights.grad.numpy(), rtol=1e-4, atol=1e-5)
    straight = module.linear.weight.grad.to_dense().numpy()[:, 0]
    np.testing.assert_allclose(straight, np.asarray(rows.sum(axis=0)).ravel(), rtol=1e-5)


def interactions(rows: int = 3000, *, seed: int = 0) -> pa.Table:
    """A value that depends on the pair of two words alone."""
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 6, rows), random.integers(0, 5, rows)
    taste = np.random.default_rng(9).normal(size=(6, 2)) @ np.random.default_rng(8).normal(
        size=(2, 5)
    )
    target = 3.5 + taste[users, items] + random.normal(0, 0.1, rows)
    words = {"user": [f"u{u}" for u in users], "item": [f"i{i}" for i in items]}
    return pa.table({"label": target, **words})


LEARNS = {
    "feature_dim": 11,
    "num_factors": 4,
    "predictor_type": "regressor",
    "epochs": 30,
    "mini_batch_size": 100,
    "linear_lr": 0.02,
    "factors_lr": 0.02,
    "factors_init_sigma": 0.1,
}


def test_pairs_of_words_are_learned() -> None:
    train = Dataset.of(interactions())
    later = Dataset.of(interactions(seed=1), inputs=train.inputs, channel="validation")
    sink = MemorySink()
    machines = Machines.of(LEARNS)
    model = machines.fit(train, Run(threads=1, sink=sink), validation=later)
    assert machines.evaluate(model, later)["rmse"] < 0.25
    assert sink.metrics["validation:rmse"] == machines.evaluate(model, later)["rmse"]
    straight = Machines.of({**LEARNS, "factors_lr": 0}).fit(train, Run(threads=1))
    assert machines.evaluate(straight, later)["rmse"] > 0.5


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_numbers_a_vector_and_a_sparse_vector_learn_the_same(share: float) -> None:
    random = np.random.default_rng(3)
    rows = (random.random((200, 9)) < share) * random.normal(size=(200, 9))
    target = rows @ random.normal(size=9)
    columns = {f"f{i}": rows[:, i].astype(np.float32) for i in range(9)}
    vector = pa.array(list(rows.astype(np.float32)), pa.list_(pa.float32(), 9))
    sparse = [{"indices": np.flatnonzero(row), "values": row[np.flatnonzero(row)]} for row in rows]
    tables = [
        pa.table({"label": target, **columns}),
        pa.table({"label": target, "features": vector}),
        pa.table({"label": target, "features": sparse}),
    ]
    models = [Machines.of(VALUES).fit(Dataset.of(t), Run(threads=1)) for t in tables]
    for model in models[1:]:
        np.testing.assert_allclose(model.linear, models[0].linear, atol=1e-6)
        np.testing.assert_allclose(model.factors, models[0].factors, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [
        ({"linear_init_method": "constant", "linear_init_value": 0.5}, "linear", (0.5, 0.5)),
        ({"linear_init_method": "uniform", "linear_init_scale": 0.2}, "linear", (-0.2, 0.2)),
        ({"factors_init_sigma": 0.0}, "factors", (0.0, 0.0)),
        ({"factors_init_sigma": 2.0}, "factors", (-12, 12)),
    ],
)
def test_parts_begin_as_asked_for(
    values: dict[str, Any], part: str, expected: tuple[float, float]
) -> None:
    start = Machines.of({**VALUES, **values}).start(part, (50, 3), np.random.default_rng(0))
    assert expected[0] <= start.min() <= start.max() <= expected[1]
    if expected[0] < expected[1]:
        assert start.std() > 0.3 * expected[1] / 6


@pytest.mark.parametrize("part", ["bias", "linear", "factors"])
def test_rates_and_decays_are_each_parts_own(part: str) -> None:
    train = Dataset.of(interactions(300))
    still = {f"{name}_lr": 0 for name in ("bias", "linear", "factors")}
    values = {**LEARNS, **still, f"{part}_lr": 0.1, "epochs": 1}
    start = Machines.of({**values, f"{part}_lr": 0}).fit(train, Run(threads=1))
    moved = Machines.of(values).fit(train, Run(threads=1))
    decayed = Machines.of({**values, f"{part}_wd": 5.0}).fit(train, Run(threads=1))
    for name in ("bias", "linear", "factors"):
        one, other, less = (np.asarray(getattr(m, name)) for m in (start, moved, decayed))
        assert np.array_equal(one, other) == (name != part)
        if name == part:
            assert np.abs(less).sum() < np.abs(other).sum()


def test_gradients_are_rescaled_then_clipped_and_eps_slows() -> None:
    def moved(**options: Any) -> float:
        table = torch.nn.Parameter(torch.zeros(3, 2))
        optimizer = RowAdam([table], lr=0.1, **options)
        torch.nn.functional.embedding(torch.tensor([1]), table, sparse=True).sum().backward()
        optimizer.step()
        assert not table.detach()[[0, 2]].any()
        return float(table.detach()[1, 0])

    assert moved() == pytest.approx(-0.1, rel=1e-5)
    assert moved(eps=1.0) == pytest.approx(-0.05, rel=1e-5)
    assert moved(eps=1.0, rescale=0.5) == pytest.approx(-0.1 * 0.5 / 1.5, rel=1e-5)
    assert moved(eps=1.0, rescale=0.5, clip=0.25) == pytest.approx(-0.1 * 0.25 / 1.25, rel=1e-5)


def test_rows_are_changed_as_torchs_own_lazy_adam_does() -> None:
    random = torch.Generator().manual_seed(0)
    start = torch.randn(5, 3, generator=random)
    tables = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    optimizers: list[Any] = [
        RowAdam([tables[0]], lr=0.01),
        torch.optim.SparseAdam([tables[1]], lr=0.01),
    ]
    for rows in ([0, 1], [1, 3, 3], [4]):
        for table, optimizer in zip(tables, optimizers, strict=True):
            optimizer.zero_grad()
            looked_up = torch.nn.functional.embedding(torch.tensor(rows), table, sparse=True)
            (looked_up**2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(tables[0], tables[1])


def test_a_fit_goes_on_from_a_model() -> None:
    train = Dataset.of(interactions())
    machines = Machines.of(LEARNS)
    first = machines.fit(train, Run(threads=1))
    again = Machines.of({**LEARNS, "epochs": 1})
    errors = [
        machines.evaluate(again.fit(train, Run(threads=1, start=start)), train)["rmse"]
        for start in (first, None)
    ]
    assert errors[0] < 0.5 * errors[1]
    with pytest.raises(InvalidHyperparameter, match=r"num_factors: the model .* has 4, got 2"):
        Machines.of({**LEARNS, "num_factors": 2}).fit(train, Run(threads=1, start=first))
    classifier = Machines.of({**LEARNS, "predictor_type": "binary_classifier"})
    classes = replace(train, target=np.arange(len(train)) % 2 * 1.0)
    with pytest.raises(InvalidHyperparameter, match=r"predictor_type: .* has regressor, got bin"):
        classifier.fit(classes, Run(threads=1, start=first))
    other = Dataset.of(pa.table({"label": [1.0, 2.0], "x": ["a", "b"]}))
    with pytest.raises(InvalidData, match="same inputs; it takes user, item and train has x"):
        Machines.of({**LEARNS, "feature_dim": 2}).fit(other, Run(threads=1, start=first))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"linear_init_scale": 1}, "linear_init_scale goes with linear_init_method=uniform"),
        ({"bias_init_method": "constant"}, "bias_init_value goes with bias_init_method=constant"),
        (
            {"factors_init_method": "uniform", "factors_init_scale": 1, "factors_init_sigma": 1},
            "sig",
        ),
        ({"num_factors": 0}, "num_factors: expected an integer > 0, got 0"),
        ({"predictor_type": "ranker"}, "predictor_type: expected one of binary_classifier, regr"),
    ],
)
def test_hyperparameters_that_do_not_go_together_are_refused(
    values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidHyperparameter, match=expected):
        Machines.of({**VALUES, **values})


def test_data_that_does_not_fit_is_refused() -> None:
    data = Dataset.of(interactions(50))
    with pytest.raises(InvalidHyperparameter, match=r"feature_dim: train has 11 columns, got 9"):
        Machines.of(VALUES).fit(data, Run(threads=1))
    values = {**VALUES, "feature_dim": 11, "predictor_type": "binary_classifier"}
    with pytest.raises(InvalidData, match=r"binary_classifier expects 0 and 1, got .* in row 1"):
        Machines.of(values).fit(data, Run(threads=1))
    far = replace(data, target=np.where(np.arange(50) == 6, 1e300, 1.0))
    with pytest.raises(InvalidData, match=r"a finite number that .*, got 1e\+300 in row 7"):
        Machines.of({**VALUES, "feature_dim": 11}).fit(far, Run(threads=1))
