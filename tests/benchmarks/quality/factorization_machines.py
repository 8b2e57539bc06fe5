"""Factorization Machines on MovieLens 100k, user and item as one column each word."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch

from tests.benchmarks.plain_torch import Factors, train_stopped
from tests.benchmarks.quality import movielens
from tests.benchmarks.quality.harness import Row, median_seconds
from training import metrics
from training.algorithms.tabular.factorization.learner import FactorizationMachines
from training.data import Dataset
from training.run import MemorySink, Run

__all__ = ["measure"]

_VALUES: Final[dict[str, Any]] = {
    "num_factors": 16,
    "predictor_type": "regressor",
    "epochs": 40,
    "factors_init_sigma": 0.05,
    "factors_lr": 0.005,
    "factors_wd": 1.0,
    "linear_lr": 0.01,
    "linear_wd": 0.2,
    "bias_wd": 0.0,
}
_SEEDS: Final = (0, 1, 2)


def measure() -> list[Row]:
    """Run the development case, stopped by a tenth of the training data."""
    found = movielens.read()
    if found is None:
        raise SystemExit(f"MOVIELENS_WHEEL is not set: {movielens.__doc__}")
    return list(_rows(*found))


def _rows(table: pa.Table, order: Any) -> Iterator[Row]:
    rating = table["rating"].to_numpy().astype(np.float64)
    codes = [np.unique(table[name], return_inverse=True)[1] for name in ("user_id", "movie_id")]
    train, test = np.split(order, [len(order) * 4 // 5])
    learned, held_out = np.split(train, [len(train) * 9 // 10])
    first = _dataset(codes, rating, learned, "train")
    parts = [
        _dataset(codes, rating, rows, channel, like=first)
        for rows, channel in ((held_out, "validation"), (test, "test"))
    ]
    machines = FactorizationMachines.of({**_VALUES, "feature_dim": first.width})
    rmse, rates = [], []
    for seed in _SEEDS:
        sink = MemorySink()
        run = Run(threads=1, seed=seed, sink=sink)
        seconds, model = median_seconds(
            lambda run=run: machines.fit(first, run, validation=parts[0]), repeats=1
        )
        epochs = len({step for name, _, step in sink.rows if name == "train:loss"})
        rmse.append(machines.evaluate(model, parts[1])["rmse"])
        rates.append(epochs * len(first) / seconds)
    case = "MovieLens 100k, user and item, 16 factors, stopped on a tenth of the training data"
    others, other_rates = zip(
        *(_plain(codes, rating, (learned, held_out, test), seed) for seed in _SEEDS), strict=True
    )
    reference = "the machine in plain torch, AdamW, stopped alike"
    yield Row(
        case=f"{case}, {len(_SEEDS)} seeds",
        measure="RMSE, mean",
        ours=float(np.mean(rmse)),
        reference=reference,
        reference_value=float(np.mean(others)),
        bar=0.929,
        sense="<=",
    )
    yield Row(
        case=case,
        measure="rows/s, measuring included, median",
        ours=float(np.median(rates)),
        reference=reference,
        reference_value=float(np.median(other_rates)),
        bar=136_000,
    )


def _plain(codes: list[Any], rating: Any, parts: Any, seed: int) -> tuple[float, float]:
    """Return the RMSE on test of the same machine in plain torch, and rows per second."""
    torch.manual_seed(seed)
    sizes = [int(code.max()) + 1 for code in codes]
    columns = torch.from_numpy(np.stack([codes[0], sizes[0] + codes[1]], axis=1))
    wanted = torch.tensor(rating, dtype=torch.float32)
    learned, held_out, test = (torch.from_numpy(part) for part in parts)
    module = Factors(sum(sizes), _VALUES["num_factors"])

    def error(part: torch.Tensor) -> float:
        return metrics.rmse(rating[part.numpy()], module(columns[part]).double().numpy())

    optimizers = [torch.optim.AdamW(module.parameters(), 0.002, weight_decay=0.0)]
    began = time.perf_counter()
    epochs = train_stopped(
        module,
        optimizers,
        module.loss,
        (columns[learned], wanted[learned]),
        held_out=lambda: error(held_out),
        epochs=30,
        batch_rows=1_000,
    )
    took = time.perf_counter() - began
    with torch.no_grad():
        return error(test), epochs * len(learned) / took


def _dataset(
    codes: list[Any], rating: Any, rows: Any, channel: str, *, like: Dataset | None = None
) -> Dataset:
    sizes = [int(code.max()) + 1 for code in codes]
    places = np.stack([codes[0][rows], sizes[0] + codes[1][rows]], axis=1).astype(np.int32)
    ends = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * 2)
    ones = pa.array(np.ones(places.size, np.float32))
    features = pa.StructArray.from_arrays(
        [
            pa.ListArray.from_arrays(ends, pa.array(places.ravel())),
            pa.ListArray.from_arrays(ends, ones),
        ],
        ["indices", "values"],
    )
    size = {b"featureline.size": str(sum(sizes)).encode()}
    fields = [pa.field("label", pa.float64()), pa.field("features", features.type, metadata=size)]
    table = pa.table([pa.array(rating[rows]), features], schema=pa.schema(fields))
    return Dataset.of(table, inputs=like.inputs if like else None, channel=channel)
