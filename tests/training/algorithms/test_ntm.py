"""The Neural Topic Model on bars, beside its torch module, and what each hyperparameter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.training.cases.lda import WORDS, make_notes
from training.algorithms import find_algorithm
from training.algorithms.unsupervised.lda_variational import halves
from training.algorithms.unsupervised.ntm.model import NTMModel
from training.algorithms.unsupervised.ntm.vocabulary import vectors_of
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter, InvalidJob
from training.run import MemorySink, Run

torch = pytest.importorskip("torch")

NTM: Any = find_algorithm("ntm")
Array = npt.NDArray[Any]

SMALL: dict[str, Any] = {
    "num_topics": 3,
    "epochs": 2,
    "mini_batch_size": 20,
    "encoder_layers": "8",
    "optimizer": "adam",
    "learning_rate": 0.01,
}


def bars(rows: int, *, seed: int = 0) -> tuple[Array, Array]:
    """Documents of 60 words, mixtures of ten topics: the rows and columns of a grid."""
    random = np.random.default_rng(seed)
    grid = np.zeros((10, 5, 5))
    for line in range(5):
        grid[line, line] = grid[5 + line, :, line] = 0.2
    topics = grid.reshape(10, 25)
    shares = random.dirichlet(np.full(10, 0.1), rows) @ topics
    return np.array([random.multinomial(60, share) for share in shares]), topics


def dataset(counts: Any, *, like: Dataset | None = None) -> Dataset:
    flat = pa.array(np.ascontiguousarray(counts, np.float32).ravel())
    table = pa.table({"words": pa.FixedSizeListArray.from_arrays(flat, np.shape(counts)[1])})
    inputs, channel = (like.inputs, "validation") if like else (None, "train")
    return Dataset.of(table, inputs=inputs, channel=channel, labels="optional")


def fit(
    data: Dataset, run: Run | None = None, validation: Dataset | None = None, **values: Any
) -> NTMModel:
    given = {**SMALL, "feature_dim": data.width, **values}
    model: NTMModel = NTM.of(given).fit(data, run or Run(threads=1), validation=validation)
    return model


def differ(one: NTMModel, other: NTMModel) -> bool:
    return any(not np.array_equal(one.parameters[n], other.parameters[n]) for n in one.parameters)


@pytest.fixture(scope="module")
def small() -> Dataset:
    return dataset(bars(60, seed=3)[0])


@pytest.fixture(scope="module")
def plain(small: Dataset) -> NTMModel:
    return fit(small)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[NTMModel, MemorySink]:
    """Topics of bars, whose words have names."""
    vocabulary = tmp_path_factory.mktemp("auxiliary") / "vocab.txt"
    names = [f"row{place // 5}column{place % 5}\n" for place in range(25)]
    vocabulary.write_text("".join(names), encoding="utf-8")
    sink = MemorySink()
    run = Run(threads=1, sink=sink, auxiliary={"vocab.txt": vocabulary})
    model = fit(
        dataset(bars(1000)[0]),
        run,
        num_topics=10,
        epochs=40,
        mini_batch_size=100,
        encoder_layers="auto",
        encoder_layers_activation="tanh",
        learning_rate=0.03,
        num_patience_epochs=40,
    )
    return model, sink


def test_the_bars_are_found(found: tuple[NTMModel, MemorySink]) -> None:
    model, sink = found
    _, topics = bars(1)
    wanted = {tuple(np.flatnonzero(topic)) for topic in topics}
    assert len(wanted & {tuple(sorted(words)) for words in model.heaviest(5)}) >= 9
    assert sink.metrics["train:topics_used"] == 10
    later, _ = bars(300, seed=9)
    share = later.sum(axis=0) / later.sum()
    assert model.pwll(dataset(later).features) > share @ np.log(share) + 0.4


def test_a_document_of_one_bar_is_of_one_topic(found: tuple[NTMModel, MemorySink]) -> None:
    model, _ = found
    _, topics = bars(1)
    weights = np.array(model.predict(dataset(topics * 50).features)["topic_weights"].to_pylist())
    assert weights.sum(axis=1) == pytest.approx(np.ones(10))
    assert len(set(weights.argmax(axis=1))) >= 9
    assert np.median(weights.max(axis=1)) > 0.5


def test_the_log_shows_topics_by_their_words(found: tuple[NTMModel, MemorySink]) -> None:
    model, sink = found
    lines = [line for line in sink.lines if line.startswith("topic ")]
    assert len(lines) == 10
    assert "wetc" in lines[0]
    assert "uniqueness" in lines[0]
    assert lines[0].endswith(": " + " ".join(model.top_words(10)[0]))
    assert model.top_words(1)[0][0].startswith("row")
    assert -1 <= sink.metrics["train:wetc"] <= 1
    assert 0 < sink.metrics["train:topic_uniqueness"] <= 1
    topics = sink.properties["topics"]
    assert sum(topic["share"] for topic in topics) == pytest.approx(1)
    assert topics[0]["words"] == model.top_words(10)[0]


def test_the_vocabulary_is_kept_with_the_model(
    found: tuple[NTMModel, MemorySink], tmp_path: Path
) -> None:
    model, _ = found
    model.save(tmp_path)
    assert NTMModel.load(tmp_path).top_words(3) == model.top_words(3)
    assert np.load(tmp_path / "topics.npy").shape == (10, 25)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo\n", r"vocab.txt has 2 lines and feature_dim is 10"),
        (b"\xff\n" * 10, "vocab.txt is not UTF-8"),
        (b"a\n\n" + b"b\n" * 8, "no word in line 2"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    run = Run(threads=1, auxiliary={"vocab.txt": path})
    with pytest.raises(InvalidData, match=message):
        fit(Dataset.of(make_notes(20, seed=1), labels="optional"), run)


def test_other_auxiliary_files_are_refused(small: Dataset, tmp_path: Path) -> None:
    run = Run(threads=1, auxiliary={"words.txt": tmp_path / "words.txt"})
    with pytest.raises(InvalidData, match=r"expected one file, vocab.txt; got also words.txt"):
        fit(small, run)


def test_without_a_vocabulary_words_have_the_names_of_the_columns() -> None:
    sink = MemorySink()
    model = fit(Dataset.of(make_notes(20, seed=1), labels="optional"), Run(threads=1, sink=sink))
    assert set(model.top_words(10)[0]) == set(WORDS)
    assert "train:wetc" not in sink.metrics
    assert not any(line.startswith("topic ") for line in sink.lines)


def test_words_of_the_same_documents_are_near() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    together = np.kron(np.eye(2), np.ones((4, 3))) + np.eye(8, 6)
    vectors = vectors_of(scipy_sparse.csr_matrix(together))
    along = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = along @ along.T
    assert near[0, 1] > near[0, 4] + 0.5


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_model_answers_as_its_torch_module(
    small: Dataset, activation: str, batch_norm: bool
) -> None:
    from training.algorithms.unsupervised.ntm.module import TopicModule
    from training.engine.source import SparseRows

    model = fit(
        small,
        encoder_layers="8,6",
        encoder_layers_activation=activation,
        batch_norm=batch_norm,
    )
    parameters = {name: array.copy() for name, array in model.parameters.items()}
    # So little spread that what is drawn is the mean.
    parameters["spread.scale"][:], parameters["spread.bias"][:] = 0, -40
    model = NTMModel(model.columns, model.shape, parameters)
    module = TopicModule(model.shape)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in parameters.items()})
    module.eval()
    with torch.no_grad():
        rows = len(small)
        noise = torch.zeros(rows, model.shape.topics)
        batch = SparseRows(small.csr()).take(np.arange(rows))
        lost, far = module.losses(*batch, noise=noise, rows=rows)
    losses = model.losses(small.csr(np.float64))
    assert losses["reconstruction"] == pytest.approx(float(lost.mean()), rel=1e-5)
    assert losses["kl"] == pytest.approx(float(far.mean()), rel=1e-5)
    assert losses["total_loss"] == losses["reconstruction"] + losses["kl"]


def test_pwll_is_of_the_second_halves_given_the_first(plain: NTMModel, small: Dataset) -> None:
    known, asked = halves(small.csr(np.float64), np.random.default_rng(0))
    total = 0.0
    for row in range(known.shape[0]):
        weights = np.array(
            plain.predict(dataset(known[row].toarray()).features)["topic_weights"][0].as_py()
        )
        scores = plain.parameters["topics"].astype(float) @ weights + plain.parameters["usual"]
        total += float(asked[row].toarray()[0] @ (scores - np.log(np.exp(scores).sum())))
    measured = NTM.of({**SMALL, "feature_dim": 25}).evaluate(plain, small)
    assert measured["pwll"] == pytest.approx(total / asked.sum())
    assert set(measured) == {"total_loss", "reconstruction", "kl", "pwll"}


def test_sparse_documents_give_the_same_model(small: Dataset, plain: NTMModel) -> None:
    rows = small.matrix()
    lists = [{"indices": np.flatnonzero(row), "values": row[np.flatnonzero(row)]} for row in rows]
    table = pa.table({"words": lists})
    size = {b"featureline.size": b"25"}
    schema = pa.schema([pa.field("words", table.schema.field(0).type, metadata=size)])
    thin = fit(Dataset.of(table.cast(schema), labels="optional"))
    assert not differ(thin, plain)


@pytest.mark.parametrize(
    "values",
    [
        *({"optimizer": name} for name in ("sgd", "adagrad", "adadelta", "rmsprop")),
        {"learning_rate": 0.02},
        {"weight_decay": 0.1},
        {"sub_sample": 0.5},
        {"sub_sample": 0},
        {"batch_norm": True, "epochs": 3},
        {"encoder_layers_activation": "relu"},
        {"mini_batch_size": 7},
        {"epochs": 3},
        {"rescale_gradient": 0.001, "optimizer": "sgd"},
        {"clip_gradient": 0.001, "optimizer": "sgd"},
        {"kl_warmup_epochs": 1},
    ],
    ids=str,
)
def test_hyperparameters_change_the_model(
    small: Dataset, plain: NTMModel, values: dict[str, Any]
) -> None:
    other = fit(small, **values)
    shared = [n for n in plain.parameters if n in other.parameters]
    assert any(not np.array_equal(plain.parameters[n], other.parameters[n]) for n in shared)


def test_rescaled_gradients_of_sgd_are_a_smaller_rate(small: Dataset) -> None:
    rescaled = fit(small, optimizer="sgd", rescale_gradient=0.5, learning_rate=0.002)
    slower = fit(small, optimizer="sgd", learning_rate=0.001)
    for name, array in slower.parameters.items():
        np.testing.assert_allclose(rescaled.parameters[name], array, rtol=1e-4, atol=1e-6)


def test_clipped_gradients_of_sgd_move_by_no_more_than_the_rate_allows(small: Dataset) -> None:
    values = {"optimizer": "sgd", "clip_gradient": 0.01, "learning_rate": 1, "epochs": 1}
    moved = fit(small, **values).parameters["usual"]
    assert 0 < np.abs(moved).max() <= 0.01 * 3 + 1e-7


def test_no_bound_of_gradients_can_be_said_by_its_name(small: Dataset, plain: NTMModel) -> None:
    for name in ("inf", "Infinity"):
        assert not differ(fit(small, clip_gradient=name), plain)


def test_in_a_warm_up_the_distance_from_the_prior_counts_little_at_first(small: Dataset) -> None:
    values = {"epochs": 8, "learning_rate": 0.05, "num_patience_epochs": 8}
    counts = small.csr(np.float64)
    warmed = fit(small, kl_warmup_epochs=8, **values)
    assert warmed.losses(counts)["kl"] > fit(small, **values).losses(counts)["kl"] * 1.1


def test_a_fit_does_not_end_in_its_warm_up(small: Dataset) -> None:
    sink = MemorySink()
    values = {"epochs": 9, "learning_rate": 1e-6, "num_patience_epochs": 1, "kl_warmup_epochs": 5}
    fit(small, Run(threads=1, sink=sink), **values)
    losses = [value for name, value, _ in sink.rows if name == "train:loss"]
    assert 7 <= len(losses) < 9
    # What is reported is the whole loss, from the first step on.
    whole = MemorySink()
    fit(small, Run(threads=1, sink=whole), **{**values, "kl_warmup_epochs": 0})
    assert losses[0] == pytest.approx(whole.rows[0][1], rel=1e-4)


def test_layers_are_three_and_two_times_the_topics_or_as_given() -> None:
    values = {"num_topics": 5, "feature_dim": 9}
    assert NTM.of(values).shape.layers == (15, 10)
    assert NTM.of({**values, "encoder_layers": "auto"}).shape.layers == (15, 10)
    assert NTM.of({**values, "encoder_layers": "100, 50,20"}).shape.layers == (100, 50, 20)
    with pytest.raises(InvalidHyperparameter, match="encoder_layers: expected a comma-separated"):
        NTM.of({**values, "encoder_layers": "100,0"})


def test_a_fit_ends_when_the_loss_improves_no_more(small: Dataset) -> None:
    sink = MemorySink()
    values = {"epochs": 30, "tolerance": 0.1, "num_patience_epochs": 2}
    fit(small, Run(threads=1, sink=sink), **values)
    losses = [value for name, value, _ in sink.rows if name == "train:loss"]
    assert 3 <= len(losses) < 30
    assert sink.done[0] == sink.done[1] > 0


def test_the_best_epoch_on_validation_is_kept(small: Dataset) -> None:
    sink = MemorySink()
    later = dataset(bars(40, seed=5)[0], like=small)
    values = {"epochs": 12, "learning_rate": 0.3, "num_patience_epochs": 12}
    model = fit(small, Run(threads=1, sink=sink), later, **values)
    losses = [value for name, value, _ in sink.rows if name == "validation:total_loss"]
    kept = model.losses(later.csr(np.float64))["total_loss"]
    assert kept == pytest.approx(losses[-1])
    # An improvement by less than the tolerance does not count.
    assert kept <= min(losses) * 1.001
    assert max(losses[:-1]) > kept


def test_a_model_is_gone_on_from(small: Dataset, plain: NTMModel) -> None:
    longer = fit(small, Run(threads=1, start=plain), epochs=10)
    counts = small.csr(np.float64)
    assert longer.losses(counts)["total_loss"] < plain.losses(counts)["total_loss"] - 1


def test_a_model_that_does_not_fit_is_not_gone_on_from(small: Dataset, plain: NTMModel) -> None:
    for values in ({"num_topics": 4}, {"encoder_layers": "9"}, {"batch_norm": True}):
        name = next(iter(values))
        with pytest.raises(InvalidJob, match=rf"the model to go on from differs in {name} \("):
            fit(small, Run(threads=1, start=plain), **values)
    notes = Dataset.of(make_notes(20, seed=1), labels="optional")
    with pytest.raises(InvalidJob, match="takes other columns"):
        fit(notes, Run(threads=1, start=plain))


def test_one_document_and_one_left_over_can_be_fitted() -> None:
    counts, _ = bars(21)
    for rows in (counts[:1], counts):
        model = fit(dataset(rows))
        assert np.isfinite(model.mixtures(dataset(rows).csr(np.float64))).all()


def test_a_document_without_words_is_answered(plain: NTMModel) -> None:
    weights = plain.predict(dataset(np.zeros((2, 25))).features)["topic_weights"].to_pylist()
    assert weights[0] == weights[1]
    assert sum(weights[0]) == pytest.approx(1)


def test_data_that_is_no_counts_is_refused(small: Dataset) -> None:
    counts = bars(5)[0].astype(float)
    with pytest.raises(InvalidData, match="feature_dim is 7 and the data has 25 columns"):
        fit(small, feature_dim=7)
    for wrong in (-1, 2**24 + 2):
        counts[3, 2] = wrong
        with pytest.raises(InvalidData, match=rf"train: words\[2\] is {wrong:g}".replace("+", ".")):
            fit(dataset(counts))
    with pytest.raises(InvalidData, match="train: no document has a word"):
        fit(dataset(np.zeros((3, 25))))
