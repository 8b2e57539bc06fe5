"""LDA beside scikit-learn's variational inference and Gibbs sampling by the package lda.

Reuters comes with the package lda 3.0 (MPL-2), and so does its sampler:
`pip install --no-deps --target FOLDER lda==3.0.0`, and PYTHONPATH names the folder for the run.
Without it the rows on Reuters are left out.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import LatentDirichletAllocation

from tests.benchmarks.quality.harness import Row, median_seconds
from training import metrics
from training.algorithms.unsupervised.lda import LDA, LDAModel
from training.algorithms.unsupervised.lda_variational import complete
from training.data import Dataset
from training.run import Run

try:
    import lda as gibbs
    import lda.datasets
except ImportError:
    gibbs = None

__all__ = ["measure"]

Array = npt.NDArray[Any]

_SOLVERS: Final = ("spectral+vb", "spectral", "vb")
_SEEDS: Final = 3
_SPARSE: Final = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])


def measure() -> list[Row]:
    """Measure documents of known topics, and news."""
    rows = [*_bars(), *_large()]
    if gibbs is not None:
        for topics in (10, 20):
            rows += _reuters(topics)
    return rows


def _bars() -> list[Row]:
    counts, topics = _grid(3000)
    case = "bars: 10 topics, 3,000 documents × 150 words"
    began = time.perf_counter()
    reference = LatentDirichletAllocation(
        n_components=10, max_iter=100, learning_method="batch", random_state=0
    ).fit(counts)
    took = time.perf_counter() - began
    learned = reference.components_ / reference.components_.sum(axis=1, keepdims=True)
    others = _apart(learned, topics)
    rows = []
    for solver in _SOLVERS:
        seconds, _ = median_seconds(lambda s=solver: _fit(counts, 10, s, seed=0))
        seeds = [_apart(_fit(counts, 10, solver, seed=n).beta, topics) for n in range(_SEEDS)]
        mean = statistics.mean(float(seed.mean()) for seed in seeds)
        worst = max(float(seed.max()) for seed in seeds)
        name = f"{case}, {solver}"
        options: dict[str, Any] = {"case": name, "reference": "scikit-learn variational"}
        options |= {"seconds": seconds, "reference_seconds": took, "sense": "<="}
        bar = 0.02 if solver == "spectral+vb" else None
        rows += [
            Row(
                measure=f"matched L1, mean of {_SEEDS} seeds",
                ours=mean,
                reference_value=float(others.mean()),
                bar=bar,
                **options,
            ),
            Row(
                measure="matched L1, the worst topic",
                ours=worst,
                reference_value=float(others.max()),
                **options,
            ),
        ]
        if solver == "spectral+vb":
            rows.append(
                Row(
                    measure="seconds of a fit",
                    ours=seconds,
                    reference_value=took,
                    bar=2.0,
                    **options,
                )
            )
    return rows


def _reuters(number: int) -> list[Row]:
    documents = sp.csr_matrix(lda.datasets.load_reuters().astype(np.float64))
    order = np.random.default_rng(0).permutation(documents.shape[0])
    train, test = documents[order[:316]], documents[order[316:]]
    case = f"Reuters 316/79 × 4,258, K = {number}"
    began = time.perf_counter()
    variational = LatentDirichletAllocation(
        n_components=number, max_iter=100, learning_method="batch", random_state=0
    ).fit(train)
    took = time.perf_counter() - began
    learned = variational.components_ / variational.components_.sum(axis=1, keepdims=True)
    even = np.full(number, 1 / number)
    reference = _pwll(learned, even, test)
    began = time.perf_counter()
    sampler = gibbs.LDA(n_topics=number, n_iter=500, random_state=0, alpha=1 / number, eta=0.1)
    sampler.fit(train.toarray().astype(np.int64))
    sampled_in = time.perf_counter() - began
    sampled = _pwll(sampler.topic_word_, even, test)
    own = np.asarray(train.sum(axis=0)).ravel() + 0.1
    common = _pwll((own / own.sum())[None], np.ones(1), test)
    coherence = metrics.npmi(metrics.top_words(learned, 10), documents)
    rows = []
    for solver in _SOLVERS:
        seconds, _ = median_seconds(lambda s=solver: _fit(train, number, s, seed=0))
        models = [_fit(train, number, solver, seed=seed) for seed in range(_SEEDS)]
        pwll = statistics.mean(_pwll(model.beta, model.alpha, test) for model in models)
        ours = statistics.mean(
            metrics.npmi(metrics.top_words(model.beta, 10), documents) for model in models
        )
        options: dict[str, Any] = {"case": f"{case}, {solver}", "seconds": seconds}
        rows.append(
            Row(
                measure=f"pwll, mean of {_SEEDS} seeds",
                ours=pwll,
                reference="scikit-learn variational",
                reference_value=reference,
                bar=reference - 0.02 if solver == "spectral+vb" else None,
                reference_seconds=took,
                **options,
            )
        )
        rows.append(
            Row(
                measure=f"NPMI of 10 words, mean of {_SEEDS} seeds",
                ours=ours,
                reference="scikit-learn variational",
                reference_value=coherence,
                reference_seconds=took,
                **options,
            )
        )
        if solver == "spectral+vb":
            for name, value, other in (
                ("lda 3.0 Gibbs, 500 iterations", sampled, sampled_in),
                ("words of all documents", common, None),
            ):
                rows.append(
                    Row(
                        measure=f"pwll, mean of {_SEEDS} seeds",
                        ours=pwll,
                        reference=name,
                        reference_value=value,
                        reference_seconds=other,
                        **options,
                    )
                )
    return rows


def _large() -> list[Row]:
    random = np.random.default_rng(2)
    topics = random.dirichlet(np.full(5000, 0.02), 50)
    shares = random.dirichlet(np.full(50, 0.1), 20_000)
    chosen = (random.random((20_000, 100, 1)) > np.cumsum(shares, axis=1)[:, None]).sum(axis=2)
    cumulated = np.cumsum(topics, axis=1)
    words = np.empty(chosen.shape, np.int64)
    for topic in range(50):
        here = chosen == topic
        words[here] = np.searchsorted(cumulated[topic], random.random(int(here.sum())))
    rows = np.repeat(np.arange(20_000), 100)
    ones = np.ones(words.size)
    entries = (ones, (rows, np.minimum(words.ravel(), 4999)))
    counts = sp.csr_matrix(entries, shape=(20_000, 5000))
    seconds, model = median_seconds(lambda: _fit(counts, 50, "spectral+vb", seed=0), repeats=1)
    apart = _apart(model.beta, topics)
    return [
        Row(
            case="20,000 documents × 100 words of 5,000, 50 topics, spectral+vb",
            measure="matched L1, mean",
            ours=float(apart.mean()),
            reference="none",
            seconds=seconds,
        )
    ]


def _grid(rows: int) -> tuple[Any, Array]:
    random = np.random.default_rng(0)
    grid = np.zeros((10, 5, 5))
    for line in range(5):
        grid[line, line] = grid[5 + line, :, line] = 0.2
    topics = grid.reshape(10, 25)
    shares = random.dirichlet(np.full(10, 0.1), rows)
    counts = np.array([random.multinomial(150, share) for share in shares @ topics])
    return sp.csr_matrix(counts.astype(np.float64)), topics


def _apart(found: Array, topics: Array) -> Array:
    """Return the L1 distance of each topic to the one matched with it, the best way at once."""
    apart = np.stack([np.abs(topic - topics).sum(axis=1) for topic in found])
    distances: Array = apart[linear_sum_assignment(apart)]
    return distances


def _pwll(topics: Array, alpha: Array, test: Any) -> float:
    """Score all topics alike: by our mixtures, on halves of one seed."""
    return complete(test, np.ascontiguousarray(topics), alpha, np.random.default_rng(1))


def _fit(counts: Any, number: int, solver: str, *, seed: int) -> LDAModel:
    offsets = pa.array(counts.indptr.astype(np.int32))
    lists = (
        pa.ListArray.from_arrays(offsets, pa.array(counts.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(counts.data.astype(np.float32))),
    )
    words = pa.StructArray.from_arrays(lists, fields=list(_SPARSE))
    size = {b"featureline.size": str(counts.shape[1])}
    schema = pa.schema([pa.field("words", _SPARSE, metadata=size)])
    train = Dataset.of(pa.table([words], schema=schema), labels="optional")
    algorithm = LDA(
        num_topics=number,
        feature_dim=counts.shape[1],
        mini_batch_size=counts.shape[0],
        lda_solver=solver,
    )
    return algorithm.fit(train, Run(threads=1, seed=seed))
