"""Starts training jobs and waits for them."""

from __future__ import annotations

import atexit
import os
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from training.device import Device
from training.errors import InvalidJob
from training.home import Store, home_of
from training.jobs.budget import Demand
from training.jobs.job import TrainingJob
from training.jobs.program import find_program
from training.jobs.registry import TrainingJobs
from training.jobs.result import JobResult, Progress
from training.jobs.script import SCRIPT
from training.jobs.standing import Order
from training.jobs.supervisor import Supervisor

__all__ = ["RunningJob", "submit", "train"]

STOP_GRACE_S: Final = 120.0


def train(
    store_or_home: Store | str | Path,
    job: TrainingJob,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> JobResult:
    """Run a training job and wait for its end.

    An interrupt (Ctrl-C) stops the job, waits for it and goes on as `KeyboardInterrupt`; a second
    one kills it.

    Args:
        store_or_home: an embedded feature store, or its home folder.
        job: what to run.
        on_progress: called with every change of status and every step of the fit, from another
            thread.

    Returns:
        how it ended. A job that fails while it runs is a result, not an error: see
        `JobResult.check`.

    Raises:
        AlgorithmNotFound, DeviceUnavailable, InvalidHyperparameter, InvalidJob, LibraryMissing: the
            job cannot be run; nothing was started.
        TrainingJobExists: the name is taken.
    """
    return submit(store_or_home, job, on_progress=on_progress).wait()


def submit(
    store_or_home: Store | str | Path,
    job: TrainingJob,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stop_grace_s: float = STOP_GRACE_S,
    scripts: bool = True,
) -> RunningJob:
    """Start a training job and return while it runs; arguments and errors as for `train`.

    The job belongs to this process: when it exits the job is stopped, and when it dies the job's
    process ends too.

    Args:
        store_or_home: an embedded feature store, or its home folder.
        job: what to run.
        on_progress: see `train`.
        stop_grace_s: how long a job that is asked to stop may take before it is killed.
        scripts: whether jobs may run a program of their caller.
    """
    if job.algorithm_name == SCRIPT and not scripts:
        raise InvalidJob(
            "this server runs no programs of its callers; whoever runs it allows them with "
            "`featureline serve --scripts`",
            field="AlgorithmName",
        )
    job = _with_absolute_paths(job)
    program = find_program(job)
    device = program.device(job)
    jobs = TrainingJobs(home_of(store_or_home), scripts=scripts)
    try:
        demand, threads = _demand(job, jobs, len(program.hosts), device)
        claim = jobs.create(job, threads=threads, demand=demand)
    except BaseException:
        jobs.close()
        raise
    running = RunningJob(
        Order(
            job=job,
            program=program,
            jobs=jobs,
            claim=claim,
            store=None if isinstance(store_or_home, str | Path) else store_or_home,
            threads=threads,
            stop_grace_s=stop_grace_s,
            on_progress=on_progress or (lambda progress: None),
        )
    )
    _RUNNING.add(running)
    return running


@final
class RunningJob:
    """A job that was submitted from this process."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._stop = threading.Event()
        self._kill = threading.Event()
        self._done = threading.Event()
        self._result: JobResult | None = None
        self._error: Exception | None = None
        # Daemon: a program that ends does not wait for it; `_stop_all` ends it properly.
        self._thread = threading.Thread(target=self._run, name=f"training {self.name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The job's name."""
        return self._order.job.training_job_name

    @property
    def is_done(self) -> bool:
        """Whether the job has ended."""
        return self._done.is_set()

    def stop(self) -> None:
        """Ask the job to stop: it may save what it has, then its process ends or is killed."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> JobResult:
        """Wait for the end.

        Args:
            timeout: seconds to wait; None: without limit.

        Raises:
            TimeoutError: the job still runs.
            TrainingUnavailable: the end of the job could not be written to the registry.
        """
        try:
            done = self._done.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            try:
                self._done.wait()
            except KeyboardInterrupt:
                self._kill.set()
                self._done.wait()
            raise
        if done:
            # What it still holds are Arrow's objects, which must not go while Python ends.
            self._thread.join()
        if self._error is not None:
            raise self._error
        if not done or self._result is None:
            raise TimeoutError(f"training job {self.name!r} still runs after {timeout} s")
        return self._result

    def _run(self) -> None:
        order = self._order
        supervisor = Supervisor(order, self._stop, self._kill)
        try:
            self._result = supervisor.run()
        except Exception as error:  # noqa: BLE001 - the thread's outermost loop; `wait` raises it
            self._error = error
        finally:
            order.claim.release()
            order.jobs.close()
            self._done.set()


def _with_absolute_paths(job: TrainingJob) -> TrainingJob:
    """Settle relative paths now: the working folder may be another when the job reads them."""
    checkpoints, board = job.checkpoint_config, job.tensor_board_output_config
    return replace(
        job,
        input_data_config=[
            channel
            if channel.path is None
            else replace(channel, path=os.path.abspath(channel.path))
            for channel in job.input_data_config
        ],
        checkpoint_config=replace(checkpoints, path=os.path.abspath(checkpoints.path))
        if checkpoints is not None and checkpoints.path
        else checkpoints,
        tensor_board_output_config=replace(board, path=os.path.abspath(board.path))
        if board is not None and board.path
        else board,
    )


def _demand(
    job: TrainingJob, jobs: TrainingJobs, processes: int, device: Device
) -> tuple[Demand, int]:
    """Return what a job needs, and the threads of each of its hosts."""
    asked, budget = job.resource_config, jobs.budget()
    hosts = asked.instance_count
    # A share of the cores is no more than what is left when all get one.
    share = max(1, budget.cores // (1 + len(jobs.running())) // hosts)
    threads = asked.threads or share
    numbered = re.fullmatch(r"cuda:(\d+)", asked.device)
    return (
        Demand(
            cores=threads * hosts,
            memory_mb=asked.memory_mb * hosts,
            gpus=0 if device.kind == "cpu" or numbered else processes,
            gpu=int(numbered[1]) if numbered else None,
        ),
        threads,
    )


_RUNNING: weakref.WeakSet[RunningJob] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop the jobs of a program that ends, so that none is left half recorded."""
    jobs = list(_RUNNING)
    for running in jobs:
        running.stop()
    for running in jobs:
        running.wait()
