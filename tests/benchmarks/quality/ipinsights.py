"""IP Insights on generated logins: how well it tells usual addresses, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tests.benchmarks.plain_torch import Logins, prefix_buckets
from tests.benchmarks.plain_torch import train as train_plain
from tests.benchmarks.quality.harness import Row
from tests.training.logins import make_logins
from training import Dataset, Run, find_algorithm, metrics

__all__ = ["measure"]

_CASE = "2,000 users, 100 networks, 48,000 events, 10 epochs, d = 64"
_VALUES: dict[str, Any] = {
    "num_entity_vectors": 4000,
    "vector_dim": 64,
    "epochs": 10,
    "mini_batch_size": 1000,
}
_REFERENCE = "the model in plain torch, vectors of prefixes in 20,011 buckets"
_KINDS = {
    "random": (0.9978, {"shuffled_negative_sampling_rate": 0}),
    "shuffled": (0.9654, {"random_negative_sampling_rate": 0}),
}


def measure() -> list[Row]:
    """Measure with three seeds; the learning rate and all else is the default."""
    return list(_measure())


def _measure() -> Iterator[Row]:
    events = make_logins(60_000, seed=7, users=2000, networks=100, most_homes=3)
    train = Dataset.of(events.slice(0, 48_000), labels="none", text="text")
    test = Dataset.of(events.slice(48_000), inputs=train.inputs, labels="none", text="text")
    IPInsights = find_algorithm("ipinsights")
    learner = IPInsights.of(_VALUES)
    found: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    wall, processor = [], []
    others: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    plain = _Plain(events, 48_000)
    for seed in range(3):
        began, used = time.perf_counter(), time.process_time()
        model = learner.fit(train, Run(threads=1, seed=seed))
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
        for kind, (_, rates) in _KINDS.items():
            one = IPInsights.of({**_VALUES, **rates})
            found[kind].append(one.evaluate(model, test)["discriminator_auc"])
        for kind, value in plain.fit(seed).items():
            others[kind].append(value)
    for kind, (least, _) in _KINDS.items():
        yield Row(
            case=f"{_CASE}, 3 seeds",
            measure=f"AUC against {kind} addresses, mean",
            ours=statistics.mean(found[kind]),
            reference=_REFERENCE,
            reference_value=statistics.mean(others[kind]),
            bar=least - 0.002,
            seconds=statistics.median(wall),
            reference_seconds=statistics.median(plain.seconds),
        )
    yield Row(
        case=_CASE,
        measure="events/s, one thread, the best of 3",
        ours=480_000 / min(wall),
        reference=_REFERENCE,
        reference_value=480_000 / min(plain.seconds),
        bar=18_000,
    )
    yield Row(
        case=_CASE,
        measure="events per second of processor time, the best of 3",
        ours=480_000 / min(processor),
        reference="",
    )


class _Plain:
    """The same model in plain torch.

    Args:
        events: `user` and `address`.
        count: how many of them train; the others measure.
    """

    def __init__(self, events: pa.Table, count: int) -> None:
        users = events["user"].to_pylist()
        self.seconds: list[float] = []
        self._count = count
        self._entity = torch.tensor([int(user.removeprefix("user-")) for user in users])
        self._buckets = torch.from_numpy(prefix_buckets(events["address"].to_pylist()))
        random = np.random.default_rng(1)
        held_out = len(users) - count
        drawn = random.integers(0, 256, (len(users), 4)).tolist()
        buckets = torch.from_numpy(prefix_buckets([".".join(map(str, a)) for a in drawn]))
        # Those that measure are none of those that it learned from.
        self._random = buckets[:count]
        self._negatives = {
            "random": buckets[count:],
            "shuffled": self._buckets[count:][torch.from_numpy(random.permutation(held_out))],
        }

    def fit(self, seed: int) -> dict[str, float]:
        """Train; return the AUC against each kind of addresses."""
        torch.manual_seed(seed)
        module = Logins(2000, 64)
        optimizers: list[torch.optim.Optimizer] = [
            torch.optim.SparseAdam([module.entities.weight, module.prefixes.weight], 0.001),
            torch.optim.Adam(module.layer.parameters(), 0.001),
        ]
        began = time.perf_counter()
        train_plain(
            module,
            optimizers,
            lambda entity, buckets: module.loss(entity, buckets, self._random),
            (self._entity[: self._count], self._buckets[: self._count]),
            epochs=10,
            batch_rows=1000,
        )
        self.seconds.append(time.perf_counter() - began)
        entity, usual = self._entity[self._count :], self._buckets[self._count :]
        target = np.repeat([1.0, 0.0], len(entity))
        with torch.no_grad():
            return {
                kind: metrics.auc(
                    target,
                    torch.cat([module(entity, usual), module(entity, other)]).double().numpy(),
                )
                for kind, other in self._negatives.items()
            }
