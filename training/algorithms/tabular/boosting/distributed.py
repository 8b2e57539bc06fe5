"""One fit in several processes: each boosts on its own rows, and all make the same trees.

The library adds up histograms and metrics over the processes; a tracker in the process that starts
them tells them of each other. What a process is to do comes in a file, and its model goes to one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.matrix import in_queries, library
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.data import Dataset
from training.device import Device
from training.errors import FitFailed, InvalidData, InvalidJob, TrainingError
from training.jobs.environment import thread_variables
from training.jobs.events import EventSink, read_event
from training.run import MemorySink, Run, Sink, available_cores

__all__ = ["fit_in_processes", "shares"]

_HOST: Final = "127.0.0.1"
_POLL_S: Final = 0.05
_STOP: Final = "stop"


@final
@dataclass(frozen=True, kw_only=True)
class _Order:
    """What one process is to do."""

    algorithm: XGBoost
    train: Dataset
    validation: Dataset | None
    number: int
    tracker: dict[str, Any]
    device: Device
    seed: int
    threads: int
    start: XGBoostModel | None


def fit_in_processes(
    algorithm: XGBoost,
    train: Dataset,
    run: Run,
    *,
    validation: Dataset | None = None,
    processes: int = 2,
) -> XGBoostModel:
    """Fit as `XGBoost.fit` does, the rows spread over processes with `run.threads` threads each.

    Checkpoints are not kept. Metrics are of the rows of all processes.

    Args:
        algorithm: without `_kfold`.
        train: at least one row, or query, for each process.
        run: what the fit needs from outside.
        validation: to measure on, spread likewise.
        processes: how many.

    Raises:
        InvalidJob: the fit is one in folds.
        InvalidData: there are fewer rows or queries than processes.
        FitFailed: a process died, or the models of the processes differ.
        TrainingError: what a process raised.
    """
    if algorithm.kfold is not None:
        raise InvalidJob(
            "xgboost: _kfold and several processes do not go together; spread the folds over jobs",
            field="HyperParameters",
        )
    parts = [shares(data, processes) for data in (train, validation) if data is not None]
    tracker = library().tracker.RabitTracker(n_workers=processes, host_ip=_HOST, sortby="task")
    tracker.start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(processes):
            order = _Order(
                algorithm=algorithm,
                train=parts[0][number],
                validation=parts[1][number] if validation is not None else None,
                number=number,
                tracker=tracker.worker_args(),
                device=run.device,
                seed=run.seed,
                threads=run.threads,
                start=run.start if isinstance(run.start, XGBoostModel) else None,
            )
            (folder / f"order-{number}").write_bytes(pickle.dumps(order))
        try:
            _work(folder, processes, run)
        finally:
            tracker.free()
        models = [pickle.loads((folder / f"done-{n}").read_bytes()) for n in range(processes)]
    contents = {bytes(model.booster.save_raw("ubj")) for model in models}
    if len(contents) > 1:
        raise FitFailed(
            f"xgboost: the {processes} processes made {len(contents)} different models",
            library="xgboost",
        )
    made: XGBoostModel = models[0]
    return made


def shares(data: Dataset, count: int) -> list[Dataset]:
    """Cut a dataset into parts of nearly as many rows, or with queries, whole queries.

    Raises:
        InvalidData: there are fewer rows or queries than parts.
    """
    units: npt.NDArray[Any] = np.arange(len(data))
    if data.groups is not None:
        data = in_queries(data)
        units = np.unique(np.asarray(data.groups), return_inverse=True)[1]
    total = int(units[-1]) + 1
    if total < count:
        what = "rows" if data.groups is None else "queries"
        raise InvalidData(
            f"{data.channel}: {count} processes need as many {what}, and there are {total}",
            channel=data.channel,
        )
    bounds = [total * number // count for number in range(count + 1)]
    return [
        data.take(np.flatnonzero((units >= low) & (units < high)))
        for low, high in itertools.pairwise(bounds)
    ]


def _work(folder: Path, processes: int, run: Run) -> None:
    """Run the processes to their end; where one fails, end the others."""
    crowded = processes * run.threads > available_cores()
    environment = os.environ | thread_variables(run.threads, crowded=crowded)
    # What this process can import, those can.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    with contextlib.ExitStack() as ending:
        workers: list[subprocess.Popen[bytes]] = []
        for number in range(processes):
            with (folder / f"errors-{number}").open("wb") as said:
                worker = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(folder), str(number)],
                    stdout=subprocess.PIPE if number == 0 else said,
                    stderr=said,
                    env=environment,
                )
            workers.append(worker)
            if worker.stdout is not None:
                told = threading.Thread(target=_pass_on, args=(worker.stdout, run.sink))
                told.start()
                ending.callback(worker.stdout.close)
                ending.callback(told.join)
            ending.callback(worker.wait)
            ending.callback(worker.kill)
        _watch(workers, run, folder)
        failed = [number for number, worker in enumerate(workers) if worker.poll()]
        if failed:
            _raise(folder, failed)


def _watch(workers: Sequence[subprocess.Popen[bytes]], run: Run, folder: Path) -> None:
    """Wait until all have ended or one has failed, and pass on the wish to stop."""
    while any(worker.poll() is None for worker in workers):
        if any(worker.poll() for worker in workers):
            return
        # Not a signal: it would break into what the library sends and receives.
        if run.should_stop():
            (folder / _STOP).touch()
        time.sleep(_POLL_S)


def _raise(folder: Path, failed: Sequence[int]) -> None:
    """Raise what the first process to fail has left, or that one died.

    The others fail in turn, since they wait for it.
    """
    left = sorted(folder.glob("failed-*"), key=lambda path: path.stat().st_mtime_ns)
    if left:
        error: TrainingError = pickle.loads(left[0].read_bytes())
        raise error
    said = (folder / f"errors-{failed[0]}").read_text("utf-8", "replace").strip().splitlines()
    raise FitFailed(
        f"xgboost: process {failed[0]} ended without a model: {said[-1] if said else 'killed'}",
        library="xgboost",
    )


def _pass_on(stream: IO[bytes] | None, sink: Sink) -> None:
    """Tell the sink of this process what the first of the others reports."""
    for line in stream or ():
        kind, values = read_event(line)
        match kind:
            case "metric":
                sink.metric(values[0], values[1], step=values[2])
            case "progress":
                sink.progress(*values)
            case "property":
                sink.property(*values)
            case "log":
                sink.log(*values)


@final
class _LineSink(Sink):
    """Sends reports as events, log lines too.

    What the library prints goes to standard error from then on.
    """

    def __init__(self) -> None:
        self._events = EventSink(os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def metric(self, name: str, value: float, *, step: int | None = None) -> None:
        self._events.metric(name, value, step=step)

    def progress(self, done: int, total: int) -> None:
        self._events.send("progress", done, total)

    def property(self, name: str, value: Any) -> None:
        self._events.send("property", name, value)

    def log(self, line: str) -> None:
        self._events.send("log", line)


def _main(folder: Path, number: int) -> int:
    """Do what one process is to do."""
    XGBoost.prepare()
    order: _Order = pickle.loads((folder / f"order-{number}").read_bytes())
    run = Run(
        device=order.device,
        seed=order.seed,
        threads=order.threads,
        sink=_LineSink() if number == 0 else MemorySink(),
        should_stop=(folder / _STOP).exists,
        start=order.start,
    )
    with library().collective.CommunicatorContext(**order.tracker, dmlc_task_id=str(number)):
        try:
            model = order.algorithm.fit(order.train, run, validation=order.validation)
        except TrainingError as error:
            # Before the others learn that this one is gone, and fail by that.
            part = folder / f"part-{number}"
            part.write_bytes(pickle.dumps(error))
            part.replace(folder / f"failed-{number}")
            return 1
    (folder / f"done-{number}").write_bytes(pickle.dumps(model))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2])))
