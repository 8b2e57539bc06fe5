"""A job's own process: `python -m training.jobs.main FOLDER EVENTS`.

The runner writes two lines to standard input: the job, and `go` once its data is in place. While
the data is being brought, this process imports the algorithm's library. Then standard input stays
open: when it ends, the runner is gone, and so is this process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from training.algorithm import Algorithm, Model
from training.algorithms import find_algorithm
from training.artifact import open_model, seal
from training.data import Dataset
from training.device import CPU, resolve_device
from training.errors import InvalidData, TrainingError, TrainingStopped
from training.formats import files_of
from training.hyperparameter import as_text
from training.jobs.environment import algorithm_hyperparameters
from training.jobs.events import EventSink
from training.jobs.folder import JobFolder
from training.jobs.job import TrainingJob
from training.jobs.link import Linked
from training.jobs.loading import load
from training.metrics import quality_line
from training.report import Report, write_report
from training.run import MemorySink, Precision, Run
from training.world import ALONE, Contributed, HostLost, World

__all__ = ["main"]

_ORPHANED = 70
_GO = "go"
_REPORT_ROWS = 100_000
_HEARD_S = 0.5


def main(arguments: Sequence[str]) -> int:
    """Fit one job's model and save it; return the exit status."""
    folder = JobFolder(Path(arguments[0]))
    stopping = threading.Event()
    _heed(stopping)
    with os.fdopen(int(arguments[1]), "w", encoding="utf-8") as stream:
        sink = EventSink(stream)
        try:
            order = json.loads(sys.stdin.readline())
            _fit(order, folder, sink, stopping)
        except TrainingStopped as stop:
            sink.log(str(stop))
            sink.send("stopped", str(stop))
        except Contributed:
            # The first host makes the model.
            pass
        except HostLost as lost:
            # A stop reaches all hosts, and the others may end sooner.
            if stopping.wait(_HEARD_S):
                sink.send("stopped", str(lost))
                return 0
            # Its own end says why; this host has nothing to add.
            sink.log(str(lost))
            return 1
        except TrainingError as error:
            # It would be refused again, so there is no use in another attempt.
            sink.send("refused")
            _fail(folder, error)
            return 1
        except Exception as error:  # noqa: BLE001 - the process's outermost loop
            traceback.print_exc()
            _fail(folder, error)
            return 1
    return 0


def _heed(stopping: threading.Event) -> None:
    """Set an event when the runner asks for a stop.

    A thread waits for the signal and no other one sees it: it would break into what libraries
    send to other hosts and receive from them.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while True:
            signal.sigwait({signal.SIGTERM})
            stopping.set()

    threading.Thread(target=wait, daemon=True).start()


def _fit(
    order: dict[str, Any], folder: JobFolder, sink: EventSink, stopping: threading.Event
) -> None:
    job = TrainingJob.from_json(order["job"])
    threads = int(order["threads"])
    pa.set_cpu_count(threads)
    algorithm = find_algorithm(job.algorithm_name).of(
        algorithm_hyperparameters(job.hyper_parameters)
    )
    device = CPU if algorithm.cpu_only else resolve_device(job.resource_config.device)
    algorithm.prepare()
    sink.send("ready", str(device))
    if sys.stdin.readline().strip() != _GO:
        return
    threading.Thread(target=_watch_runner, daemon=True).start()
    world = _world(order, stopping)
    root = JobFolder(Path(order.get("root", folder.root)))
    channels = {channel.channel_name for channel in job.input_data_config}
    with folder.scratch() as scratch:
        loaded = load(folder, job, algorithm, sink, scratch, world=world, root=root)
        run = Run(
            device=device,
            threads=threads,
            # The first host speaks for all.
            sink=sink if world.is_first else MemorySink(),
            checkpoints=folder.checkpoints,
            checkpoint_every_s=job.checkpoint_config.interval_in_seconds
            if job.checkpoint_config is not None
            else None,
            should_stop=stopping.is_set,
            start=open_model(root.channel("model")) if "model" in channels else None,
            scratch=scratch,
            output=folder.output / "data",
            auxiliary=_auxiliary(folder) if "auxiliary" in channels else {},
            precision=cast(Precision, job.resource_config.precision),
            world=world,
            is_tuned="_tuning_objective_metric" in job.hyper_parameters,
        )
        try:
            model = loaded.fit(algorithm, run)
            if not world.is_first:
                return
            measured = {} if loaded.test is None else algorithm.evaluate(model, loaded.test)
        except InvalidData as error:
            # A fit counts the rows of a channel; who is to mend one wants its file.
            raise loaded.located(error) from None
        for name, value in measured.items():
            sink.metric(f"test:{name}", value)
            sink.log(quality_line(f"test:{name}", value))
        shown = loaded.shown(_REPORT_ROWS)
    _report(folder, job, algorithm, sink, model, shown)
    model.save(folder.model)
    sink.send("sealed", seal(folder.model, algorithm, model, metrics=sink.metrics).digest)


def _world(order: dict[str, Any], stopping: threading.Event) -> World:
    """Meet the processes of the other hosts, where there are some."""
    return Linked.join(order["world"], stopping.is_set) if "world" in order else ALONE


def _report(
    folder: JobFolder,
    job: TrainingJob,
    algorithm: Algorithm,
    sink: EventSink,
    model: Model,
    shown: Dataset | None,
) -> None:
    """Write what was measured as a page into the job's output data."""
    chosen = sink.properties.get("profile", {})
    report = Report(
        job=job.training_job_name,
        algorithm=algorithm.name,
        hyperparameters=algorithm.values()
        | {name: f"{as_text(value)} (chosen by profile)" for name, value in chosen.items()},
        rows=sink.rows,
        importance=sink.properties.get("feature_importance", {}),
        channel="" if shown is None else shown.channel,
        target=None if shown is None else shown.target,
        answers=None if shown is None else model.predict(shown.features),
        topics=sink.properties.get("topics", ()),
    )
    write_report(report, folder.report)


def _auxiliary(folder: JobFolder) -> dict[str, Path]:
    files = files_of(folder.channel("auxiliary"), channel="auxiliary")
    return {file.name: file for file in files}


def _watch_runner() -> None:
    # Not sys.stdin.read(): a thread inside it would keep the interpreter from ending in peace.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # Nobody would collect a model or hear of an error: leave at once, from any library's depth.
    os._exit(_ORPHANED)


def _fail(folder: JobFolder, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}"
    print(text, file=sys.stderr, flush=True)
    failure = folder.output / "failure"
    if not failure.exists():
        failure.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written; taking the libraries down would cost a small job a third of a second.
    os._exit(status)
