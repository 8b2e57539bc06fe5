from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import scipy.sparse as sp

from tests.training.cases.lda import TOPICS, WORDS, make_notes
from training.algorithms.unsupervised import lda_spectral, lda_variational
from training.algorithms.unsupervised.lda import LDA, LDAModel
from training.algorithms.unsupervised.lda_spectral import (
    decompose,
    on_simplex,
    third_moment,
    topics_of,
    whitening,
)
from training.algorithms.unsupervised.lda_variational import (
    Polished,
    complete,
    halves,
    mixtures,
    smoothed,
)
from training.data import Dataset
from training.errors import (
    FitFailed,
    InvalidData,
    InvalidHyperparameter,
    InvalidJob,
    TrainingStopped,
)
from training.formats.inference import decode_request
from training.run import MemorySink, Run, Sink

Array = npt.NDArray[Any]

NOTES: dict[str, Any] = {"num_topics": 3, "feature_dim": 10, "mini_batch_size": 500}


def bars(rows: int, *, seed: int = 0, length: int = 150) -> tuple[Array, Array]:
    """Documents of ten topics, the rows and columns of a grid; their sums are equal."""
    random = np.random.default_rng(seed)
    grid = np.zeros((10, 5, 5))
    for line in range(5):
        grid[line, line] = grid[5 + line, :, line] = 0.2
    topics = grid.reshape(10, 25)
    shares = random.dirichlet(np.full(10, 0.1), rows)
    return np.array([random.multinomial(length, p) for p in shares @ topics]), topics


def vectors(counts: Array) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(counts, np.float32).ravel())
    return pa.table({"words": pa.FixedSizeListArray.from_arrays(flat, counts.shape[1])})


def fitted(table: pa.Table, *, run: Run | None = None, **values: Any) -> LDAModel:
    train = Dataset.of(table, labels="optional")
    given = {"num_topics": 3, "feature_dim": train.width, "mini_batch_size": len(train)}
    return LDA.of({**given, **values}).fit(train, run or Run(threads=1))


def distances(found: Array, topics: Array) -> Array:
    """Return the L1 distance of each topic to the one it is matched with."""
    apart = np.abs(found[:, None] - topics[None]).sum(axis=2)
    matched = [apart[list(order), range(len(topics))] for order in _orders(apart, len(found))]
    best = int(np.argmin([distance.sum() for distance in matched]))
    return np.asarray(matched[best])


def _orders(apart: Array, count: int) -> Iterator[tuple[int, ...]]:
    """All ways to match few topics; of many only that where each takes its nearest."""
    if count <= 4:
        yield from itertools.permutations(range(count))
    else:
        yield tuple(apart.argmin(axis=0).tolist())


@cache
def notes() -> LDAModel:
    return fitted(make_notes(500, seed=1), alpha0=0.9)


@cache
def many_bars() -> tuple[Array, Array]:
    return bars(2000)


def test_bars_are_found_though_their_topics_depend_on_each_other() -> None:
    counts, topics = many_bars()
    model = fitted(vectors(counts), num_topics=10)
    near = distances(model.beta, topics)
    assert near.mean() < 0.02
    assert near.max() < 0.03
    assert len(np.unique(np.abs(model.beta[:, None] - topics).sum(axis=2).argmin(axis=1))) == 10
    assert model.alpha == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_moments_alone_find_the_bars() -> None:
    counts, topics = many_bars()
    model = fitted(vectors(counts), num_topics=10, lda_solver="spectral")
    near = distances(model.beta, topics)
    assert near.mean() < 0.04
    assert near.max() < 0.08
    assert model.alpha == pytest.approx(np.full(10, 0.1), abs=0.03)
    assert model.alpha.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("solver", ["spectral", "spectral+vb", "vb"])
def test_every_solver_finds_the_topics_of_notes(solver: str) -> None:
    table = make_notes(500, seed=1)
    model = fitted(table, lda_solver=solver, alpha0=0.9)
    assert distances(model.beta, TOPICS).max() < 0.12
    assert model.beta.min() > 0
    assert model.beta.sum(axis=1) == pytest.approx(np.ones(3))


def test_moments_and_steps_give_different_topics() -> None:
    table = make_notes(200, seed=1)
    spectral, both, vb = (
        fitted(table, lda_solver=solver).beta for solver in ("spectral", "spectral+vb", "vb")
    )
    assert np.abs(spectral - both).max() > 1e-3
    assert np.abs(np.sort(both, axis=0) - np.sort(vb, axis=0)).max() > 1e-9


def test_the_third_moment_is_as_defined() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 3, (6, 4)).astype(float)
    counts[:, 0] += 3
    alpha0 = 0.7
    second, third = np.zeros((4, 4)), np.zeros((4, 4, 4))
    for document in counts:
        words = np.repeat(np.arange(4), document.astype(int))
        pairs = list(itertools.permutations(words, 2))
        triples = list(itertools.permutations(words, 3))
        for a, b in pairs:
            second[a, b] += 1 / len(pairs) / 6
        for a, b, c in triples:
            third[a, b, c] += 1 / len(triples) / 6
    mean = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    for order in ("ij,k->ijk", "ik,j->ijk", "jk,i->ijk"):
        third -= alpha0 / (alpha0 + 2) * np.einsum(order, second, mean)
    cube = np.einsum("i,j,k->ijk", mean, mean, mean)
    third += 2 * alpha0**2 / ((alpha0 + 1) * (alpha0 + 2)) * cube
    # Whitened, the pairs are the identity beside the product of means; take directions where so.
    inside = second - alpha0 / (alpha0 + 1) * np.outer(mean, mean)
    values, axes = np.linalg.eigh(inside)
    assert values[-1] > 0
    directions = axes[:, -1:] / np.sqrt(values[-1])
    wanted = np.einsum("abc,ai,bj,ck->ijk", third, directions, directions, directions)
    for piece in (2, 6):
        found = third_moment(sp.csr_matrix(counts), directions, alpha0, piece, lambda: None)
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_whitening_takes_what_passes_the_noise_and_large_vocabularies_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = sp.csr_matrix(many_bars()[0].astype(float))

    directions = whitening(counts, 4, 1.0, np.random.default_rng(0), lambda: None)
    assert directions.shape == (25, 4)
    directions = whitening(counts, 13, 1.0, np.random.default_rng(0), lambda: None)
    # The sum of the rows is that of the columns, so ten topics span nine directions.
    assert directions.shape == (25, 9)
    monkeypatch.setattr(lda_spectral, "_DENSE_WORDS", 5)
    monkeypatch.setattr(lda_spectral, "_MORE_STEPS", -20)
    other = whitening(counts, 13, 1.0, np.random.default_rng(0), lambda: None)
    np.testing.assert_allclose(other @ other.T, directions @ directions.T, rtol=1e-3, atol=1e-2)


def test_a_large_vocabulary_gives_the_same_directions_each_time_in_few_documents() -> None:
    random = np.random.default_rng(0)
    drawn = random.poisson(random.gamma(0.05, 5, (5, 1200))).astype(float)
    counts = sp.csr_matrix(np.vstack([drawn, drawn[:1]]))
    one, other = (
        whitening(counts, 10, 1.0, np.random.default_rng(0), lambda: None) for _ in range(2)
    )
    # Six documents, and two of them are the same.
    assert one.shape == (1200, 5)
    assert np.array_equal(one, other)
    length = np.asarray(counts.sum(axis=1)).ravel()
    dense = counts.toarray()
    pairs = dense.T @ (dense / (length * (length - 1))[:, None])
    pairs -= np.diag((dense / (length * (length - 1))[:, None]).sum(axis=0))
    mean = (dense / length[:, None]).mean(axis=0)
    moment = pairs / 6 - np.outer(mean, mean) / 2
    np.testing.assert_allclose(one.T @ moment @ one, np.eye(5), atol=1e-8)


def test_a_sum_of_more_cubes_than_dimensions_is_taken_apart() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4, 5))
    vectors /= np.linalg.norm(vectors, axis=0)
    weights = np.array([1.0, 1.5, 2.0, 2.5, 3.0])
    tensor = np.einsum("p,ip,jp,kp->ijk", weights, vectors, vectors, vectors)
    options: dict[str, Any] = {"restarts": 8, "tolerance": 1e-14}
    found, sides, error = decompose(
        tensor, 5, iterations=2000, random=np.random.default_rng(0), **options
    )
    assert error < 1e-8
    assert np.sort(np.abs(found)) == pytest.approx(weights, rel=1e-2)
    rebuilt = np.einsum("p,ip,jp,kp->ijk", found, sides, sides, sides)
    np.testing.assert_allclose(rebuilt, tensor, atol=1e-2)


def test_restarts_iterations_and_tolerance_are_kept() -> None:
    drawn = np.random.default_rng(3).normal(size=(4, 4, 4))
    tensor = np.sum([drawn.transpose(order) for order in itertools.permutations(range(3))], axis=0)

    def work(**values: Any) -> tuple[int, float]:
        asked: list[None] = []
        options = {"restarts": 1, "iterations": 400, "tolerance": 1e-12, **values}
        ask = partial(asked.append, None)
        _, _, error = decompose(tensor, 3, random=np.random.default_rng(0), ask=ask, **options)
        return len(asked), error

    one = work()
    assert work(iterations=7)[0] == 7
    assert work(tolerance=1e-2)[0] < one[0]
    more = work(restarts=10)
    assert more[0] > one[0]
    assert more[1] <= one[1]


@pytest.mark.parametrize(
    ("name", "value"), [("max_restarts", 1), ("max_iterations", 1), ("tol", 0.5)]
)
def test_settings_of_the_decomposition_reach_it(name: str, value: float) -> None:
    counts = many_bars()[0][:300]
    plain = fitted(vectors(counts), num_topics=10, lda_solver="spectral")
    setting: dict[str, Any] = {name: value}
    other = fitted(vectors(counts), num_topics=10, lda_solver="spectral", **setting)
    assert not np.array_equal(plain.beta, other.beta)


def test_the_size_of_pieces_changes_no_topic() -> None:
    table = make_notes(300, seed=1)
    whole, pieces = fitted(table), fitted(table, mini_batch_size=37)
    np.testing.assert_allclose(whole.beta, pieces.beta, atol=1e-9)


def test_alpha0_sets_how_many_topics_a_document_has() -> None:
    table = make_notes(300, seed=1)
    few, many = fitted(table, alpha0=0.1), fitted(table, alpha0=50.0)
    assert few.alpha.sum() == pytest.approx(0.1)
    assert many.alpha.sum() == pytest.approx(50.0)
    asked = make_notes(50, seed=4)

    def largest(model: LDAModel) -> float:
        return float(np.max(model.predict(asked)["topic_mixture"].to_pylist(), axis=1).mean())

    assert largest(few) > largest(many) + 0.1


def test_the_mixture_is_the_fixed_point_and_independent_of_other_rows() -> None:
    model = notes()
    counts = np.array([make_notes(40, seed=3)[word].to_numpy() for word in WORDS]).T
    shares = mixtures(sp.csr_matrix(counts.astype(float)), model.beta, model.alpha)
    for document, share in zip(counts, shares, strict=True):
        belongs = share[:, None] * model.beta
        belongs /= belongs.sum(axis=0)
        expected = model.alpha + belongs @ document
        np.testing.assert_allclose(share, expected / expected.sum(), atol=1e-6)


def test_pieces_of_any_size_give_the_same_mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = make_notes(60, seed=3)
    before = notes().predict(asked)["topic_mixture"].to_pylist()
    monkeypatch.setattr(lda_variational, "_PIECE_NUMBERS", 50)
    np.testing.assert_allclose(
        notes().predict(asked)["topic_mixture"].to_pylist(), before, atol=1e-9
    )


def test_a_document_without_words_has_the_usual_mixture() -> None:
    empty = pa.table({word: [0] for word in WORDS})
    model = notes()
    shares = model.predict(empty)["topic_mixture"].to_pylist()[0]
    assert shares == pytest.approx(model.alpha / model.alpha.sum())


def test_pwll_scores_the_words_that_are_not_shown() -> None:
    random = np.random.default_rng(0)
    counts = sp.csr_matrix(random.integers(0, 4, (30, 10)).astype(float))
    model = notes()
    known, asked = halves(counts, np.random.default_rng(5))
    assert ((known + asked) - counts).nnz == 0
    length = np.asarray(counts.sum(axis=1)).ravel()
    assert (np.asarray(known.sum(axis=1)).ravel() == np.ceil(length / 2)).all()
    shares = mixtures(known, model.beta, model.alpha)
    wanted = (asked.toarray() * np.log(shares @ model.beta)).sum() / asked.sum()
    given = complete(counts, model.beta, model.alpha, np.random.default_rng(5))
    assert given == pytest.approx(wanted)


def test_halves_in_pieces_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = sp.csr_matrix(bars(40, length=20)[0].astype(np.float64))
    whole = halves(counts, np.random.default_rng(3))
    monkeypatch.setattr(lda_variational, "_PIECE_OCCURRENCES", 50)
    pieces = halves(counts, np.random.default_rng(3))
    for one, other in zip(whole, pieces, strict=True):
        assert np.array_equal(one.toarray(), other.toarray())
    assert np.array_equal((whole[0] + whole[1]).toarray(), counts.toarray())


def test_pwll_is_finite_for_words_that_training_did_not_see() -> None:
    table = make_notes(200, seed=1)
    unseen = table.set_column(0, "cat", pa.array([0] * 200))
    for solver in ("spectral", "spectral+vb", "vb"):
        model = fitted(unseen, lda_solver=solver)
        assert -4 < model.pwll(table) < -2


def test_topics_are_measured_and_described() -> None:
    sink = MemorySink()
    train = Dataset.of(make_notes(300, seed=1), labels="optional")
    algorithm = LDA(**NOTES)
    model = algorithm.fit(train, Run(threads=1, sink=sink))
    later = Dataset.of(make_notes(100, seed=2), labels="optional", inputs=train.inputs)
    found = algorithm.evaluate(model, later)
    assert found["pwll"] == model.pwll(make_notes(100, seed=2)) > -2.2
    told = [value for name, value, _ in sink.rows if name == "train:log_likelihood"]
    assert told == sorted(told)
    assert sink.properties["topics"][0]["words"][:2] == model.top_words(2)[0]
    tops = {frozenset(words[:2]) for words in model.top_words()}
    assert frozenset({"cat", "dog"}) in tops
    single = Dataset.of(pa.table({w: [int(w == "cat")] for w in WORDS}), labels="optional")
    assert algorithm.evaluate(model, single) == {}


def test_sparse_documents_give_the_topics_of_dense_ones() -> None:
    counts, _ = bars(200)
    rows = [{"indices": np.flatnonzero(r).tolist(), "values": r[r > 0].tolist()} for r in counts]
    kind = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])
    table = pa.table({"words": pa.array(rows, kind)})
    sparse, dense = fitted(table, num_topics=5), fitted(vectors(counts), num_topics=5)
    assert sparse.inputs.is_sparse
    assert np.array_equal(sparse.beta, dense.beta)
    assert sparse.predict(table).equals(dense.predict(vectors(counts)))


def test_more_topics_than_the_documents_carry_are_filled_up() -> None:
    sink = MemorySink()
    table = pa.table({"a": [2, 4, 6, 2], "b": [2, 4, 6, 2]})
    model = fitted(table, run=Run(threads=1, sink=sink))
    assert any("1 of 3 topics are from their moments" in line for line in sink.lines)
    assert model.beta.shape == (3, 2)
    assert np.isfinite(model.pwll(table))


@pytest.mark.parametrize("solver", ["spectral", "spectral+vb", "vb"])
@pytest.mark.parametrize("rows", [[[1, 0, 0]], [[1, 1, 0], [0, 0, 2]], [[9, 0, 0], [0, 0, 0]]])
def test_few_and_short_documents_give_distributions(rows: list[list[int]], solver: str) -> None:
    model = fitted(vectors(np.array(rows)), lda_solver=solver)
    assert model.beta.sum(axis=1) == pytest.approx(np.ones(3))
    assert model.alpha.sum() == pytest.approx(1.0)


def test_fitting_on_starts_from_the_topics_of_a_model() -> None:
    first = fitted(make_notes(500, seed=1), lda_solver="spectral")
    sink = MemorySink()
    second = fitted(make_notes(100, seed=8), run=Run(threads=1, start=first, sink=sink))
    assert not any("moments" in line for line in sink.lines)
    assert distances(second.beta, first.beta).max() < 0.3
    assert not np.array_equal(first.beta, second.beta)


def test_fitting_on_takes_the_jobs_alpha0(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def polish(counts: Any, state: Polished, alpha: Array, **options: Any) -> Polished:
        seen.append(alpha.sum())
        return replace(state, weights=np.ones((counts.shape[0], len(alpha))))

    monkeypatch.setattr("training.algorithms.unsupervised.lda.polish", polish)
    table = make_notes(50, seed=1)
    start = fitted(table, num_topics=3, alpha0=1.0)
    on = fitted(table, num_topics=3, alpha0=4.0, run=Run(threads=1, start=start))
    assert seen == pytest.approx([1, 4])
    assert on.alpha.sum() == pytest.approx(4)


def test_a_sparse_request_is_answered_by_a_model_of_columns() -> None:
    body = b'{"data":{"features":{"keys":[1,9],"shape":[10],"values":[2,3]}}}\n'
    dense = b"0,2,0,0,0,0,0,0,0,3\n"
    found = notes().predict(decode_request(body, "application/jsonlines"))
    assert found == notes().predict(decode_request(dense, "text/csv"))
    wider = body.replace(b"[10]", b"[11]")
    with pytest.raises(InvalidData, match="is missing"):
        notes().predict(decode_request(wider, "application/jsonlines"))


def test_a_model_that_does_not_fit_is_no_start() -> None:
    table = make_notes(50, seed=1)
    run = Run(threads=1, start=notes())
    with pytest.raises(InvalidJob, match="has 3 topics and the job asks for 4"):
        fitted(table, num_topics=4, run=run)
    with pytest.raises(InvalidJob, match="has no part in lda_solver=spectral"):
        fitted(table, lda_solver="spectral", run=run)
    with pytest.raises(InvalidJob, match="takes other columns"):
        fitted(table.drop_columns(["cat"]), run=run)
    other: Any = object()
    with pytest.raises(InvalidJob, match="is object, expected one of lda"):
        fitted(table, run=Run(threads=1, start=other))


def test_what_is_no_count_is_refused_by_word_and_row() -> None:
    table = make_notes(5, seed=1)
    with pytest.raises(InvalidData, match="train: dog is -1 in row 4, and topics are of counts"):
        fitted(table.set_column(1, "dog", pa.array([0, 1, 2, -1, 0])))
    with pytest.raises(InvalidData, match=r"input: dog is 0\.5 in row 3"):
        notes().predict(table.set_column(1, "dog", pa.array([0, 1, 0.5, 1, 0])))
    with pytest.raises(InvalidData, match="no document has a word"):
        fitted(pa.table({"a": [0, 0], "b": [0, 0]}))
    with pytest.raises(InvalidData, match="feature_dim is 9 and the data has 10 columns"):
        fitted(table, feature_dim=9)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_topics", 0), ("alpha0", 0), ("tol", 0), ("max_restarts", 0), ("lda_solver", "gibbs")],
)
def test_what_is_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidHyperparameter, match=f"{name}: expected"):
        LDA.of({**NOTES, name: value})


def test_a_fit_stops_between_steps() -> None:
    table = make_notes(100, seed=1)
    with pytest.raises(TrainingStopped, match="stopped before there were topics"):
        fitted(table, run=Run(threads=1, should_stop=lambda: True))
    with pytest.raises(TrainingStopped, match="stopped after step 1 of at most 100"):
        fitted(table, lda_solver="vb", run=Run(threads=1, should_stop=lambda: True))


class Killed(Exception):
    """The process of a fit is gone."""


class Dying(Sink):
    """A sink in whose fit the process dies after some steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def progress(self, done: int, total: int) -> None:
        if done > self._steps:
            raise Killed

    def metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Take nothing."""

    def property(self, name: str, value: Any) -> None:
        """Take nothing."""

    def log(self, line: str) -> None:
        """Take nothing."""


@pytest.mark.parametrize(
    ("solver", "asked"), [("spectral", 0), ("spectral+vb", 0), ("spectral+vb", 2), ("vb", 7)]
)
def test_a_fit_goes_on_from_its_checkpoint_to_the_same_bytes(
    solver: str, asked: int, tmp_path: Path
) -> None:
    table = make_notes(300, seed=1)
    undisturbed = fitted(table, lda_solver=solver)

    kept = tmp_path / "checkpoints"
    run = Run(threads=1, checkpoints=kept, checkpoint_every_s=0, sink=Dying(asked))
    with pytest.raises(Killed):
        fitted(table, lda_solver=solver, run=run)
    assert list(kept.iterdir())
    sink = MemorySink()
    again = fitted(table, lda_solver=solver, run=Run(threads=1, checkpoints=kept, sink=sink))
    assert "going on from a checkpoint, after step" in sink.lines[0]
    assert (again.beta == undisturbed.beta).all()
    assert (again.alpha == undisturbed.alpha).all()
    with pytest.raises(FitFailed, match="is of another fit"):
        fitted(table.slice(1), lda_solver=solver, run=Run(threads=1, checkpoints=kept))


def test_the_nearest_distribution() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4))
    nearest = on_simplex(rows)
    assert nearest.min() >= 0
    assert nearest.sum(axis=1) == pytest.approx(np.ones(50))
    # No other distribution is nearer: the residual is constant where the point is inside.
    for row, point in zip(rows, nearest, strict=True):
        assert np.ptp((row - point)[point > 0]) < 1e-12
        assert ((row - point)[point == 0] <= (row - point)[point > 0].max() + 1e-12).all()


def test_smoothing_vanishes_with_many_words_and_leaves_none_impossible() -> None:
    topics = np.array([[1.0, 0.0, 0.0]])
    few = smoothed(topics, np.ones(1), sp.csr_matrix([[1.0, 1.0, 0.0]]))
    many = smoothed(topics, np.ones(1), sp.csr_matrix([[1e6, 1.0, 0.0]]))
    assert few.min() > 0 < many.min()
    assert many[0, 0] > 0.99999 > 0.9 > few[0, 0]


def test_topics_of_returns_nothing_without_documents_of_three_words() -> None:
    found = topics_of(
        sp.csr_matrix([[1.0, 1.0], [2.0, 0.0]]),
        2,
        1.0,
        restarts=1,
        iterations=1,
        tolerance=1e-3,
        random=np.random.default_rng(0),
        piece=2,
    )
    assert found.rank == 0
    assert found.topics.shape == (0, 2)
