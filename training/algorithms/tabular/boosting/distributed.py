"""One fit in several processes: each boosts on its own rows, and all make the same trees.

The library adds up histograms and metrics over the processes; its tracker, in the first of them,
tells them of each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from training.algorithms.tabular.boosting.matrix import library
from training.errors import InvalidJob
from training.world import World

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost

__all__ = ["check_spread", "connected"]

_ALONE: Final = (
    ("_kfold", lambda a: a.kfold is not None, "spread the folds over jobs"),
    ("booster=gblinear", lambda a: a.kind == "gblinear", "the library spreads trees alone"),
    ("tree_method=exact", lambda a: a.tree_method == "exact", "use tree_method=hist or approx"),
    (
        "an updater that looks at single rows",
        lambda a: "grow_colmaker" in (a.updater or ()),
        "leave updater out",
    ),
    (
        "objective=survival:cox",
        lambda a: a.task == "survival:cox",
        "its gradients need all rows in one process",
    ),
)
"""What the library does not spread over processes: name, test, what to do."""


def check_spread(algorithm: XGBoost) -> None:
    """Refuse what the library cannot spread over processes.

    Raises:
        InvalidJob: the message names the hyperparameter.
    """
    for name, has, hint in _ALONE:
        if has(algorithm):
            raise InvalidJob(
                f"xgboost: {name} and several hosts do not go together: {hint}; or set "
                "InstanceCount to 1",
                field="InstanceCount",
            )


@contextlib.contextmanager
def connected(world: World) -> Iterator[None]:
    """Connect the library in all processes of a fit, while the context lasts."""
    if world.size == 1:
        yield
        return
    xgboost = library()
    with contextlib.ExitStack() as ending:
        told = None
        if world.is_first:
            # The port is one that the system chooses.
            tracker = xgboost.tracker.RabitTracker(
                n_workers=world.size, host_ip=world.address, sortby="task"
            )
            tracker.start()
            ending.callback(tracker.free)
            told = tracker.worker_args()
        arguments = world.gather(told)[0]
        task = f"{world.rank:04}"
        with xgboost.collective.CommunicatorContext(**arguments, dmlc_task_id=task):
            yield
        # The tracker is there until all have parted from it.
        world.gather(None)
