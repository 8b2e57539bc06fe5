"""What a fit needs from outside: device, seed, threads, where metrics go, the wish to stop."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, final

from training.device import CPU, Device
from training.world import ALONE, World

if TYPE_CHECKING:
    from training.algorithm import Model

__all__ = ["CHECKPOINT_EVERY_S", "MemorySink", "Precision", "Run", "Sink", "available_cores"]

Precision = Literal["float32", "bf16", "fp16"]


class Sink(ABC):
    """Where a fit reports to."""

    @abstractmethod
    def metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Take one metric such as `validation:auc`; the last value of a name is its final one."""

    @abstractmethod
    def progress(self, done: int, total: int) -> None:
        """Take how many of the fit's steps are done."""

    @abstractmethod
    def property(self, name: str, value: Any) -> None:
        """Take a JSON value that describes the model, such as the importance of its inputs."""

    @abstractmethod
    def log(self, line: str) -> None:
        """Take a line for the job's log."""


@final
class MemorySink(Sink):
    """Keeps what a fit reports, for fits outside of a job.

    Attributes:
        rows: (name, value, step) of every metric.
        metrics: the last value of each name.
        properties: what describes the model.
        lines: the log.
        done: the steps done and to do.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int | None]] = []
        self.metrics: dict[str, float] = {}
        self.properties: dict[str, Any] = {}
        self.lines: list[str] = []
        self.done: tuple[int, int] = (0, 0)

    def metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Keep a metric."""
        self.rows.append((name, value, step))
        self.metrics[name] = value

    def progress(self, done: int, total: int) -> None:
        """Keep the progress."""
        self.done = (done, total)

    def property(self, name: str, value: Any) -> None:
        """Keep a property."""
        self.properties[name] = value

    def log(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)


def available_cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


CHECKPOINT_EVERY_S: Final = 30.0
"""Seconds between checkpoints where neither the run nor the algorithm says otherwise."""


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of a fit, as the algorithm sees it.

    An algorithm touches no path, environment variable or store but through this. The defaults
    serve a fit by hand: `XGBoost(num_round=10).fit(dataset, Run())`.

    Args:
        device: where to compute.
        seed: of the random numbers, unless a hyperparameter sets one.
        threads: how many to use.
        sink: where metrics, progress and log lines go.
        checkpoints: a folder for checkpoints; None: keep none. A fit that finds one there goes on
            from it.
        should_stop: whether the fit should end early, asked between steps.
        checkpoint_every_s: seconds from one checkpoint to the next, 0 for one after each step;
            None: as the algorithm does by itself, most every 30.
        start: a model to go on from, of the same algorithm; None: start anew.
        auxiliary: the files of the auxiliary channel by name.
        scratch: a folder for what does not fit into memory; None: that of temporary files.
        output: a folder for further files of the job, beside the model; None: keep none.
        precision: of the arithmetic in torch algorithms: `float32`, or mixed `bf16` or `fp16`.
        world: the processes that make this fit together; see `Algorithm.hosts`.
        is_tuned: whether a tuner chose the hyperparameters, and will choose others.
    """

    device: Device = CPU
    seed: int = 0
    threads: int = field(default_factory=available_cores)
    sink: Sink = field(default_factory=MemorySink)
    checkpoints: Path | None = None
    checkpoint_every_s: float | None = None
    should_stop: Callable[[], bool] = lambda: False
    start: Model | None = None
    auxiliary: Mapping[str, Path] = field(default_factory=dict)
    scratch: Path | None = None
    output: Path | None = None
    precision: Precision = "float32"
    world: World = ALONE
    is_tuned: bool = False
