"""IP Insights on generated logins: how well it tells usual addresses, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.quality.harness import Row
from tests.training.logins import make_logins
from training import Dataset, Run, find_algorithm

__all__ = ["measure"]

_CASE = "2,000 users, 100 networks, 48,000 events, 10 epochs, d = 64"
_VALUES: dict[str, Any] = {
    "num_entity_vectors": 4000,
    "vector_dim": 64,
    "epochs": 10,
    "mini_batch_size": 1000,
}
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
    for seed in range(3):
        began, used = time.perf_counter(), time.process_time()
        model = learner.fit(train, Run(threads=1, seed=seed))
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
        for kind, (_, rates) in _KINDS.items():
            one = IPInsights.of({**_VALUES, **rates})
            found[kind].append(one.evaluate(model, test)["discriminator_auc"])
    for kind, (reference, _) in _KINDS.items():
        yield Row(
            case=f"{_CASE}, 3 seeds",
            measure=f"AUC against {kind} addresses, mean",
            ours=statistics.mean(found[kind]),
            reference="torch, vectors of prefixes in 20,011 buckets",
            reference_value=reference,
            bar=reference - 0.002,
            seconds=statistics.median(wall),
        )
    yield Row(
        case=_CASE,
        measure="events/s, one thread, the best of 3",
        ours=480_000 / min(wall),
        reference="torch, vectors of prefixes in 20,011 buckets",
        reference_value=18_000,
        bar=18_000,
    )
    yield Row(
        case=_CASE,
        measure="events per second of processor time, the best of 3",
        ours=480_000 / min(processor),
        reference="",
    )
