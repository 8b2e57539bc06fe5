"""Object2Vec on MovieLens 100k: ratings of a user's token and a film's.

The activation and the number of epochs are chosen on a tenth of the training ratings, which the
fits that choose do not see; then all of them are learned from. The test ratings choose nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from tests.benchmarks.plain_torch import Pairs, train_stopped
from tests.benchmarks.quality import movielens
from tests.benchmarks.quality.harness import Row
from training import metrics
from training.algorithms.text.object2vec.learner import Object2Vec
from training.data import Dataset
from training.run import MemorySink, Run

__all__ = ["measure"]

_VALUES: Final = {
    "enc0_max_seq_len": 1,
    "enc0_network": "pooled_embedding",
    "enc0_token_embedding_dim": 64,
    "mlp_layers": 1,
    "mlp_dim": 64,
    "output_layer": "mean_squared_error",
    "dropout": 0.3,
    "learning_rate": 0.001,
    "weight_decay": 1e-5,
    "mini_batch_size": 512,
    "early_stopping_tolerance": 1e-3,
}
_SEEDS: Final = (0, 1, 2)
_CASE: Final = "MovieLens 100k, d=64 pooled, MLP 64, 3 seeds"
_ACTIVATIONS: Final = ("linear", "relu", "tanh")


def measure() -> list[Row]:
    """Choose the number of epochs on a tenth of the training data, then train on all of it."""
    found = movielens.read()
    if found is None:
        raise SystemExit(f"MOVIELENS_WHEEL is not set: {movielens.__doc__}")
    return list(_rows(*found))


def _rows(table: pa.Table, order: Any) -> Iterator[Row]:
    codes = [np.unique(table[name], return_inverse=True)[1] for name in ("user_id", "movie_id")]
    rating = table["rating"].to_numpy().astype(np.float64)
    train, test = np.split(order, [len(order) * 4 // 5])
    learned, held_out = np.split(train, [len(train) * 9 // 10])
    sizes = [int(code.max()) + 2 for code in codes]
    values = {**_VALUES, "enc0_vocab_size": sizes[0], "enc1_vocab_size": sizes[1]}
    first = _dataset(codes, rating, learned)
    later = _dataset(codes, rating, held_out, like=first)

    def tried(activation: str, seed: int) -> list[float]:
        sink = MemorySink()
        run = Run(threads=1, seed=seed, sink=sink)
        Object2Vec.of({**values, "mlp_activation": activation}).fit(first, run, validation=later)
        return [v for name, v, _ in sink.rows if name == "validation:mean_squared_error"]

    found = {activation: tried(activation, 0) for activation in _ACTIVATIONS}
    best = min(_ACTIVATIONS, key=lambda activation: min(found[activation]))
    values["mlp_activation"] = best
    for activation, seen in found.items():
        yield Row(
            case="choice, on a tenth of the training ratings: activation "
            f"{activation}, seed 0, {int(np.argmin(seen)) + 1} epochs"
            + (" (chosen)" if activation == best else ""),
            measure="MSE on that tenth",
            ours=min(seen),
            reference="",
        )
    chosen, errors, walls, processors = [], [], [], []
    others, other_rates = [], []
    reference = "the model in plain torch, stopped on that tenth"
    for seed in _SEEDS:
        seen = found[best] if seed == 0 else tried(best, seed)
        epochs = int(np.argmin(seen)) + 1
        whole = _dataset(codes, rating, train)
        learner = Object2Vec.of({**values, "epochs": epochs, "early_stopping_patience": 5})
        began, used = time.perf_counter(), time.process_time()
        model = learner.fit(whole, Run(threads=1, seed=seed))
        walls.append(epochs * len(train) / (time.perf_counter() - began))
        processors.append(epochs * len(train) / (time.process_time() - used))
        chosen.append(epochs)
        measured = learner.evaluate(model, _dataset(codes, rating, test, like=whole))
        errors.append(measured["mean_squared_error"])
        other, rate = _plain(codes, rating, (learned, held_out, test), sizes, seed)
        others.append(other)
        other_rates.append(rate)
    yield Row(
        case=f"{_CASE}, {best}; {', '.join(map(str, chosen))} epochs",
        measure="MSE on test, mean",
        ours=statistics.mean(errors),
        reference=reference,
        reference_value=statistics.mean(others),
        bar=0.883,
        sense="<=",
    )
    yield Row(
        case=_CASE,
        measure="pairs/s, one thread, the best of 3",
        ours=max(walls),
        reference=reference,
        reference_value=max(other_rates),
        bar=44_000,
    )
    yield Row(
        case=_CASE,
        measure="pairs per second of processor time, the best of 3",
        ours=max(processors),
        reference="",
    )


def _plain(
    codes: list[Any], rating: Any, parts: Any, sizes: list[int], seed: int
) -> tuple[float, float]:
    """Return the squared error on test of the same model in plain torch, and pairs per second."""
    torch.manual_seed(seed)
    tokens = torch.from_numpy(np.stack(codes, axis=1) + 1)
    wanted = torch.tensor(rating, dtype=torch.float32)
    learned, held_out, test = (torch.from_numpy(part) for part in parts)
    module = Pairs((sizes[0], sizes[1]), 64, 64, 0.3)

    def error(part: torch.Tensor) -> float:
        return metrics.mse(rating[part.numpy()], module(tokens[part]).double().numpy())

    optimizer = torch.optim.Adam(module.parameters(), 0.001, weight_decay=1e-5)
    began = time.perf_counter()
    epochs = train_stopped(
        module,
        [optimizer],
        lambda given, value: functional.mse_loss(module(given), value),
        (tokens[learned], wanted[learned]),
        held_out=lambda: error(held_out),
        epochs=12,
        batch_rows=512,
    )
    took = time.perf_counter() - began
    with torch.no_grad():
        return error(test), epochs * len(learned) / took


def _dataset(codes: list[Any], rating: Any, rows: Any, *, like: Dataset | None = None) -> Dataset:
    columns = {"label": rating[rows]}
    for number, code in enumerate(codes):
        offsets = np.arange(len(rows) + 1, dtype=np.int32)
        # Token 0 fills sequences up, so users and films begin at 1.
        tokens = pa.array(code[rows] + 1, pa.int32())
        columns[f"in{number}"] = pa.ListArray.from_arrays(offsets, tokens)
    return Dataset.of(pa.table(columns), label="label", inputs=like.inputs if like else None)
