"""Starts transform jobs and waits for them."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import final

from featurestore.embedded import EmbeddedStore, open_store
from training.artifact import Artifact
from training.errors import InvalidJob
from training.home import Store, home_of
from training.jobs.budget import Demand
from training.jobs.script import SCRIPT
from training.predict import model_folder
from training.transforms.description import TransformProgress, TransformResult
from training.transforms.groups import check_groups
from training.transforms.job import TransformJob
from training.transforms.registry import TransformJobs
from training.transforms.supervisor import Order, Supervisor

__all__ = ["RunningTransform", "run_transform", "submit_transform"]


def run_transform(
    store_or_home: Store | str | Path,
    job: TransformJob,
    *,
    on_progress: Callable[[TransformProgress], None] | None = None,
) -> TransformResult:
    """Run a transform job and wait for its end; an interrupt (Ctrl-C) stops it.

    Args:
        store_or_home: an embedded feature store, or its home folder.
        job: what to run.
        on_progress: called with every change of status and as records are answered, from another
            thread.

    Returns:
        how it ended. A job that fails while it runs is a result, not an error: see
        `TransformResult.check`.

    Raises:
        ModelNotFound, ModelAltered, TrainingJobNotFound: there is no such model.
        InvalidJob: what is asked for does not go together; nothing was started.
        TransformJobExists: the name is taken.
    """
    return submit_transform(store_or_home, job, on_progress=on_progress).wait()


def submit_transform(
    store_or_home: Store | str | Path,
    job: TransformJob,
    *,
    on_progress: Callable[[TransformProgress], None] | None = None,
    scripts: bool = True,
) -> RunningTransform:
    """Start a transform job and return while it runs; arguments and errors as `run_transform`.

    The job belongs to this process: when it exits the job is stopped, and when it dies the job's
    processes end too.

    Args:
        store_or_home: an embedded feature store, or its home folder.
        job: what to run.
        on_progress: see `run_transform`.
        scripts: whether models may run their own code.
    """
    job = job.with_absolute_paths()
    home = home_of(store_or_home)
    model = Artifact.read(model_folder(job.model_name, home=home, scripts=scripts))
    if model.algorithm == SCRIPT and not scripts:
        raise InvalidJob(
            f"the model of {job.model_name!r} answers by a script of its own, and this server runs "
            "no programs of its callers; whoever runs it allows them with "
            "`featureline serve --scripts`",
            field="ModelName",
        )
    source = job.transform_input
    known = "application/jsonlines" if source.feature_group is not None else source.content_type
    if known is not None:
        job.cut_of(known)
        job.accept_of(known, any_type=model.algorithm == SCRIPT)
    foreign = [name for name in job.environment if not name.startswith("SAGEMAKER_")]
    if foreign and not scripts:
        raise InvalidJob(
            f"{foreign[0]!r}: this server lets callers set variables that begin with SAGEMAKER_, "
            "since others can make its processes run programs",
            field="Environment",
        )
    _check_groups(store_or_home, job)
    jobs = TransformJobs(home, scripts=scripts)
    try:
        demand, threads = _demand(job, jobs, is_script=model.algorithm == SCRIPT)
        claim = jobs.create(job, threads=threads, demand=demand)
    except BaseException:
        jobs.close()
        raise
    running = RunningTransform(
        Order(
            job=job,
            model=model,
            jobs=jobs,
            claim=claim,
            store=None if isinstance(store_or_home, str | Path) else store_or_home,
            threads=threads,
            on_progress=on_progress or (lambda progress: None),
        )
    )
    _RUNNING.add(running)
    return running


@final
class RunningTransform:
    """A transform job that was submitted from this process."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._stop = threading.Event()
        self._done = threading.Event()
        self._result: TransformResult | None = None
        self._error: Exception | None = None
        # Daemon: a program that ends does not wait for it; `_stop_all` ends it properly.
        self._thread = threading.Thread(
            target=self._run, name=f"transform {self.name}", daemon=True
        )
        self._thread.start()

    @property
    def name(self) -> str:
        """The job's name."""
        return self._order.name

    @property
    def is_done(self) -> bool:
        """Whether the job has ended."""
        return self._done.is_set()

    def stop(self) -> None:
        """Ask the job to stop: its processes are ended, and no answer is delivered.

        An equal job under another name goes on from what it has answered.
        """
        self._stop.set()

    def wait(self, timeout: float | None = None) -> TransformResult:
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
            self._done.wait()
            raise
        if done:
            self._thread.join()
        if self._error is not None:
            raise self._error
        if not done or self._result is None:
            raise TimeoutError(f"transform job {self.name!r} still runs after {timeout} s")
        return self._result

    def _run(self) -> None:
        order = self._order
        try:
            self._result = Supervisor(order, self._stop).run()
        except Exception as error:  # noqa: BLE001 - the thread's outermost loop; `wait` raises it
            self._error = error
        finally:
            order.claim.release()
            order.jobs.close()
            self._done.set()


def _check_groups(store_or_home: Store | str | Path, job: TransformJob) -> None:
    if (job.transform_input.feature_group or job.transform_output.feature_group) is None:
        return
    if isinstance(store_or_home, EmbeddedStore):
        check_groups(store_or_home, job)
        return
    with open_store(home_of(store_or_home)) as store:
        check_groups(store, job)


def _demand(job: TransformJob, jobs: TransformJobs, *, is_script: bool) -> tuple[Demand, int]:
    """Return what a job needs, and the threads of each of its processes."""
    asked, budget = job.transform_resources, jobs.budget()
    share = max(1, budget.cores // (1 + len(jobs.running())) // job.processes)
    threads = asked.threads or share
    # Our models answer on the CPU; a script's may use a GPU, which its processes share.
    wants_gpu = is_script and asked.device != "cpu"
    return (
        Demand(
            cores=threads * job.processes,
            memory_mb=asked.memory_mb * job.processes,
            gpus=int(wants_gpu),
        ),
        threads,
    )


_RUNNING: weakref.WeakSet[RunningTransform] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop the jobs of a program that ends, so that none is left half recorded."""
    jobs = list(_RUNNING)
    for running in jobs:
        running.stop()
    for running in jobs:
        running.wait()
