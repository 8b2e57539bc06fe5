"""One of several processes that make the fits of all algorithms, or do what a test asks of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.training.case import Case, case_of
from training.algorithms import ALGORITHMS, find_algorithm
from training.errors import TrainingStopped
from training.jobs.environment import loopback_variables
from training.jobs.link import Linked, Meeting
from training.jobs.sharing import part_of
from training.run import MemorySink, Run
from training.world import ALONE, Contributed, World

__all__ = ["FITS", "RESUMED", "fit", "in_processes"]

# Steps of several processes take their time, and a few show as much as many.
_FEWER: Mapping[str, Mapping[str, Any]] = {
    "factorization-machines": {"epochs": 2},
    "ipinsights": {"epochs": 2},
    "ntm": {"epochs": 5},
    "object2vec": {"epochs": 2},
    "xgboost": {"num_round": 8},
}
# What the small cases do not reach, by name of the algorithm.
_MORE: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "linear-learner": (
        {"optimizer": "lbfgs", "num_models": 2, "mini_batch_size": 1000},
        {
            "optimizer": "lbfgs",
            "num_models": 1,
            "mini_batch_size": 1000,
            "predictor_type": "regressor",
        },
    ),
    # The last batch has one row: the second process has none.
    "ipinsights": ({"mini_batch_size": 599},),
    # Negative pairs and what is dropped are drawn for all rows of a step.
    "object2vec": (
        {"negative_sampling_rate": 2, "dropout": 0.3, "token_embedding_storage_type": "row_sparse"},
        {"enc0_network": "hcnn", "enc_dim": 8, "bucket_width": 2, "dropout": 0.3},
    ),
    "ntm": ({"batch_norm": True, "mini_batch_size": 133},),
    "pca": ({"algorithm_mode": "randomized"},),
    "kmeans": ({"epochs": 4}, {"mini_batch_size": 50}),
    "knn": ({"sample_size": 10_000},),
}
FITS: tuple[tuple[str, Mapping[str, Any]], ...] = tuple(
    (name, more)
    for name in sorted(ALGORITHMS)
    if find_algorithm(name).hosts != "one"
    for more in ({}, *_MORE.get(name, ()))
)
"""Name and further hyperparameters of every fit that can be spread over hosts."""


RESUMED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("factorization-machines", {}),
    ("kmeans", {"mini_batch_size": 50}),
    ("ntm", {}),
    ("object2vec", {}),
    ("pca", {"algorithm_mode": "randomized"}),
    ("xgboost", {}),
)
"""Those of them that are also stopped and go on from their checkpoints."""


def fit(name: str, more: Mapping[str, Any], world: World = ALONE, **options: Any) -> Any:
    """Fit a case in a world; return the answers to other rows and what was reported."""
    case: Case = case_of(name)
    algorithm = find_algorithm(name).of({**case.values, **_FEWER.get(name, {}), **more})
    data = case.dataset(case.train())
    if world.size > 1 and algorithm.hosts == "rows":
        data = part_of(data, world.rank, world.size)
    sink = MemorySink()
    model = algorithm.fit(data, Run(threads=1, sink=sink, world=world, **options))
    return case.answers(model, case.later()), sink.metrics


def in_processes(folder: Path, *, size: int = 2) -> list[Any]:
    """Make all fits in several processes, and return what each of them gave in the first one.

    After them come those that were stopped once.
    """
    meeting = Meeting(size)
    environment = os.environ | loopback_variables() | {"OMP_NUM_THREADS": "1"}
    with contextlib.closing(meeting):
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, json.dumps(meeting.order(rank)), str(folder)],
                env=environment,
                pass_fds=[meeting.descriptor] if rank == 0 else [],
            )
            for rank in range(size)
        ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0] * size
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found: list[Any] = pickle.loads((folder / "found").read_bytes())
    return found


def main(arguments: list[str]) -> None:
    """Make all fits as one of several processes."""
    order = json.loads(arguments[0])
    world = Linked.join(order, lambda: False)
    found = []
    for name, more in FITS:
        with contextlib.suppress(Contributed):
            found.append(fit(name, more, world))
        # One that ends a fit sooner must not meet the others in the next one.
        world.gather(None)
    for number, (name, more) in enumerate(RESUMED):
        with contextlib.suppress(Contributed):
            found.append(_stopped_once(name, more, world, Path(arguments[1]) / str(number)))
        world.gather(None)
    if world.is_first:
        assert len(found) == len(FITS) + len(RESUMED)
        (Path(arguments[1]) / "found").write_bytes(pickle.dumps(found))
    else:
        assert not found
    world.close()


def _stopped_once(name: str, more: Mapping[str, Any], world: World, folder: Path) -> Any:
    """Stop a fit early, not everywhere at the same time, and go on from its checkpoints."""
    asked = itertools.count()
    try:
        fit(
            name,
            more,
            world,
            checkpoints=folder,
            should_stop=lambda: next(asked) >= 2 - world.rank,
        )
        raise AssertionError(f"{name} was not stopped")
    except TrainingStopped:
        world.gather(None)
    assert list(folder.iterdir())
    return fit(name, more, world, checkpoints=folder)


if __name__ == "__main__":
    main(sys.argv[1:])
    # Libraries that are connected take their time to part.
    sys.stdout.flush()
    os._exit(0)
