"""The Neural Topic Model on Reuters news, beside variational LDA on the same split.

What the encoder is, the decay and the warm-up are chosen on fifths of the training documents,
which the fits that choose do not see; then all of them are learned from. The test documents choose
nothing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sklearn.decomposition import LatentDirichletAllocation

from tests.benchmarks.quality import reuters
from tests.benchmarks.quality.harness import Row, median_seconds
from training import metrics
from training.algorithms.unsupervised.lda_variational import complete
from training.algorithms.unsupervised.ntm.learner import NTM
from training.algorithms.unsupervised.ntm.model import NTMModel
from training.data import Dataset
from training.run import MemorySink, Run

__all__ = ["measure"]

_VALUES: Final = {
    "num_topics": 20,
    "epochs": 200,
    "mini_batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 0.005,
    "num_patience_epochs": 200,
}
_NAMES: Final = ("encoder_layers", "encoder_layers_activation", "weight_decay", "kl_warmup_epochs")
_CANDIDATES: Final = (
    ("auto", "sigmoid", 0.0, 0),
    ("auto", "tanh", 0.0, 0),
    ("auto", "tanh", 0.0005, 0),
    ("auto", "tanh", 0.0005, 50),
    ("100", "sigmoid", 0.0005, 0),
    ("100", "relu", 0.0005, 0),
    ("100", "tanh", 0.0, 0),
    ("100", "tanh", 0.0005, 0),
    ("100", "tanh", 0.0005, 50),
    ("100", "tanh", 0.001, 0),
)
_SEEDS: Final = (0, 1, 2)
_TRAIN: Final = 316
_TOP: Final = 10
_SPARSE: Final = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])


def measure() -> list[Row]:
    """Fit 316 documents with 3 seeds, and complete the 79 others."""
    found = reuters.read()
    if found is None:
        raise SystemExit(f"REUTERS_WHEEL is not set: {reuters.__doc__}")
    documents, words = found
    order = np.random.default_rng(0).permutation(documents.shape[0])
    train, test = documents[order[:_TRAIN]], documents[order[_TRAIN:]]
    values, tried = _chosen(train, words)
    case = f"Reuters {train.shape[0]}/{test.shape[0]} × {documents.shape[1]:,}, K = 20, 3 seeds"
    figures, times = [], []
    for seed in _SEEDS:
        seconds, (model, wetc) = median_seconds(
            lambda s=seed: _fit(train, words, s, values), repeats=1
        )
        times.append(seconds)
        heaviest = model.heaviest(_TOP)
        losses = model.losses(test)
        figures.append(
            (
                model.completed(test, np.random.default_rng(1)),
                metrics.npmi(heaviest, documents),
                metrics.topic_uniqueness(heaviest),
                len(np.unique(model.mixtures(documents).argmax(axis=1))),
                wetc,
                losses["total_loss"],
                losses["kl"],
            )
        )
    ours = np.mean(figures, axis=0)
    middle = float(np.median(times))
    took, other = median_seconds(lambda: _variational(train, test, documents), repeats=1)
    names = (
        ("PWLL of the second halves", -7.48, ">="),
        (f"NPMI of {_TOP} words", 0.37, ">="),
        ("topic uniqueness", 0.9, ">="),
        ("topics that are the largest of a document", 19, ">="),
        ("WETC, words by the documents they are in", None, ">="),
        ("total loss of a test document", None, "<="),
        ("its KL", None, "<="),
    )
    return tried + [
        Row(
            case=case,
            measure=f"{name}, mean",
            ours=float(value),
            reference="scikit-learn variational LDA" if place < len(other) else "",
            reference_value=other[place] if place < len(other) else None,
            bar=bar,
            sense=sense,  # type: ignore[arg-type]
            seconds=middle if place == 0 else None,
            reference_seconds=took if place == 0 else None,
        )
        for place, ((name, bar, sense), value) in enumerate(zip(names, ours, strict=True))
    ]


def _chosen(train: Any, words: list[str]) -> tuple[dict[str, Any], list[Row]]:
    """Return the values that complete fifths of the training documents best, and all tried."""
    tried = [_completed(train, words, candidate) for candidate in _CANDIDATES]
    best = int(np.argmax(tried))
    rows = [
        Row(
            case=f"choice, on {len(_SEEDS)} fifths of the training documents: encoder {layers}, "
            f"{activation}, decay {decay:g}, warm-up {warm}"
            + (" (chosen)" if place == best else ""),
            measure="PWLL of the second halves, mean",
            ours=tried[place],
            reference="",
        )
        for place, (layers, activation, decay, warm) in enumerate(_CANDIDATES)
    ]
    return dict(zip(_NAMES, _CANDIDATES[best], strict=True)), rows


def _completed(train: Any, words: list[str], candidate: tuple[Any, ...]) -> float:
    """Return how well values complete held-out fifths, each with a seed of its own, on average."""
    place = np.arange(train.shape[0]) % 5
    values = dict(zip(_NAMES, candidate, strict=True))
    found = []
    for seed in _SEEDS:
        model, _ = _fit(train[place != seed], words, seed, values)
        found.append(model.completed(train[place == seed], np.random.default_rng(1)))
    return float(np.mean(found))


def _variational(train: Any, test: Any, documents: Any) -> tuple[float, float, float, float]:
    """Measure variational inference as ours, but its mixtures are those that LDA finds."""
    fitted = LatentDirichletAllocation(
        n_components=20, max_iter=100, learning_method="batch", random_state=0
    ).fit(train)
    topics = fitted.components_ / fitted.components_.sum(axis=1, keepdims=True)
    heaviest = metrics.top_words(topics, _TOP)
    return (
        complete(test, topics, np.full(20, 1 / 20), np.random.default_rng(1)),
        metrics.npmi(heaviest, documents),
        metrics.topic_uniqueness(heaviest),
        float(len(np.unique(fitted.transform(documents).argmax(axis=1)))),
    )


def _fit(
    counts: Any, words: list[str], seed: int, values: dict[str, Any]
) -> tuple[NTMModel, float]:
    """Return the model, and the coherence of its topics that the log shows."""
    offsets = pa.array(counts.indptr.astype(np.int32))
    lists = (
        pa.ListArray.from_arrays(offsets, pa.array(counts.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(counts.data.astype(np.float32))),
    )
    size = {b"featureline.size": str(counts.shape[1])}
    schema = pa.schema([pa.field("words", _SPARSE, metadata=size)])
    table = pa.table([pa.StructArray.from_arrays(lists, fields=list(_SPARSE))], schema=schema)
    train = Dataset.of(table, labels="optional")
    sink = MemorySink()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        run = Run(threads=1, seed=seed, sink=sink, auxiliary={"vocab.txt": vocabulary})
        model = NTM.of({**_VALUES, **values, "feature_dim": counts.shape[1]}).fit(train, run)
    return model, sink.metrics["train:wetc"]
