"""The one loop that trains every torch algorithm: batches, steps, checkpoints, early stopping.

An algorithm brings a module, its loss on a batch, optimizers, and rows as a `Source`. The loop
brings the device, the precision, the order of rows by seed, exact checkpoints, several processes,
metrics by step and the wish to stop. Importing this module imports torch.

The order of rows and every random number follow from seed, epoch and step alone, so a fit that is
killed at any step and goes on from its checkpoint ends, on the CPU, with the same bits as an
undisturbed one with as many threads.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import torch

from training.device import cpu_computes_bf16
from training.engine import checkpoint
from training.engine.parallel import Group
from training.engine.source import Source
from training.errors import DeviceUnavailable, FitFailed, TrainingStopped
from training.metrics import quality_line
from training.run import CHECKPOINT_EVERY_S, Run
from training.world import Contributed

__all__ = ["EarlyStopping", "History", "Moment", "Plan", "Trainer", "deterministic"]

Loss = Callable[[tuple[torch.Tensor, ...], "Moment"], torch.Tensor]

_TELL_EVERY_S: Final = 0.1
_PRECISIONS: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


@final
@dataclass(frozen=True)
class Moment:
    """Where a fit is.

    Attributes:
        epoch: from 0.
        step: of all steps, from 0.
        steps: those of the whole fit.
        rows: of the step, in all processes together.
        own: the places among them that this process computes, in the order of the loss's batch.
            Random numbers begin alike in every process: what is drawn for rows is drawn for all of
            them, and the own ones are used.
    """

    epoch: int
    step: int
    steps: int
    rows: int
    own: slice


@final
@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When a fit ends before its last epoch.

    Args:
        metric: one that `evaluate` returns, or `train:loss`.
        patience: epochs without improvement after which it ends.
        tolerance: by how much of its best value, relatively, the metric must improve to count.
        maximize: whether larger is better.
        keep_best: whether the module ends with the weights of the best epoch.
        after: epochs at the beginning that are not looked at.
    """

    metric: str
    patience: int
    tolerance: float = 0.0
    maximize: bool = False
    keep_best: bool = True
    after: int = 0

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value counts as better than the best so far.

        >>> stopping = EarlyStopping(metric="validation:rmse", patience=3, tolerance=0.01)
        >>> stopping.improves(0.98, 1.0), stopping.improves(0.995, 1.0), stopping.improves(5, None)
        (True, False, True)
        """
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        gain = value - best if self.maximize else best - value
        return gain > self.tolerance * abs(best)


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a module is trained.

    Args:
        epochs: passes over the rows, at most.
        batch_rows: rows of one step, over all processes together.
        optimizers: what changes the module; more than one where some parameters have sparse
            gradients.
        schedulers: learning rates by step.
        clip_norm: the largest norm of all gradients together; None: any.
        clip_value: the largest size of one gradient; None: any.
        accumulate: into how many parts a step's batch is cut, for less memory.
        shuffle: whether rows are mixed anew each epoch.
        stopping: when to end early; None: never.
        after_step: called after each step, such as to project the parameters.
        is_done: asked after each epoch whether the fit should end; None: never. What it decides by
            must be in the module's state, so that a checkpoint has it.
        identity: what a checkpoint must have been made with to be gone on from.
        whole_batches: whether the loss is given all rows of a step in every process, and returns
            the mean over its own.
        joined: whether the loss itself adds over the processes, so that one whose share of a
            batch is empty takes part too; what it then returns counts nothing.
    """

    epochs: int
    batch_rows: int
    optimizers: Sequence[torch.optim.Optimizer]
    schedulers: Sequence[Any] = ()
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    shuffle: bool = True
    stopping: EarlyStopping | None = None
    after_step: Callable[[Moment], None] | None = None
    is_done: Callable[[], bool] | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    whole_batches: bool = False
    joined: bool = False


@final
@dataclass
class History:
    """What a fit did, epoch by epoch.

    Attributes:
        epochs: the metrics of each epoch, the mean loss as `train:loss` among them.
        best: the best value that early stopping saw.
        best_epoch: its epoch.
        waited: epochs since then.
        steps: the steps done.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    steps: int = 0


@final
class Trainer:
    """Trains one module once.

    Args:
        module: on `run.device` already; trained in place.
        source: the rows.
        loss: the mean loss of a batch, of the tensors that `source.take` gives; or one of each of
            several models in the module, whose sum is minimised and whose mean is reported.
        plan: how.
        run: where, and what to report to.
        evaluate: measures the module after each epoch; its metrics are reported.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        source: Source,
        loss: Loss,
        plan: Plan,
        run: Run,
        *,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.module = module
        self.history = History()
        self._source = source
        self._loss = loss
        self._plan = plan
        self._run = run
        self._evaluate = evaluate
        self._group = Group.of(run)
        self._wants_stop = False
        self._device = torch.device(str(run.device))
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=run.precision == "fp16" and run.device.kind == "cuda"
        )
        self._batches = source.count(plan.batch_rows)
        self._total = plan.epochs * self._batches
        self._best: dict[str, torch.Tensor] | None = None
        self._place = (0, 0)
        # The sum stays on the device: asking for it each step would wait for the device.
        self._summed = torch.zeros((), dtype=torch.float64, device=self._device)
        self._saved_at = self._told_at = time.monotonic()

    def fit(self) -> History:
        """Train; a checkpoint in the run's folder is gone on from.

        Raises:
            TrainingStopped: the run asked to stop; a checkpoint was written where they are kept.
            FitFailed: the loss is not finite, or a checkpoint is of another fit.
            DeviceUnavailable: the CUDA device has no bf16.
            Contributed: this is not the first of several processes, and its part is done.
        """
        self._check_precision()
        with deterministic(self._run):
            self._restore()
            epoch = self._place[0]
            while epoch < self._plan.epochs and not self._has_ended:
                self._epoch(epoch)
                epoch += 1
                self._place = (epoch, 0)
                self._summed.zero_()
                self._checkpoint()
            if self._best is not None:
                self.module.load_state_dict(self._best)
        if not self._group.is_first:
            raise Contributed
        self._run.sink.progress(self._total, self._total)
        return self.history

    def _check_precision(self) -> None:
        run = self._run
        if run.precision != "bf16":
            return
        if run.device.kind == "cpu":
            if not cpu_computes_bf16():
                run.sink.log("precision: this CPU has no bf16 of its own, so float32 is faster")
        elif not torch.cuda.is_bf16_supported(including_emulation=False):
            raise DeviceUnavailable(
                f"precision: {run.device} does not compute in bf16; use fp16 or float32",
                device=str(run.device),
            )

    @property
    def _has_ended(self) -> bool:
        stopping, is_done = self._plan.stopping, self._plan.is_done
        if is_done is not None and self._run.world.gather(is_done())[0]:
            return True
        return stopping is not None and self.history.waited >= stopping.patience

    def _epoch(self, epoch: int) -> None:
        first = self._place[1]
        order = np.random.default_rng([self._run.seed, epoch])
        batches = self._source.batches(self._plan.batch_rows, order if self._plan.shuffle else None)
        self.module.train()
        rows = 0
        for number, index in enumerate(batches):
            rows += len(index)
            if number < first:
                continue
            at = Moment(epoch, self.history.steps, self._total, len(index), self._group.own)
            # Not a stream: a step's random numbers are its own, wherever the fit was begun.
            self._reseed(_mixed(self._run.seed, self.history.steps))
            self._summed += self._step(index, at) * len(index)
            self.history.steps += 1
            self._place = (epoch, number + 1)
            if self._wants_stop:
                self._stop()
            self._checkpoint()
            self._tell()
        self._report(epoch, float(self._summed) / max(rows, 1))

    def _reseed(self, seed: int) -> None:
        if self._device.type == "cpu":
            # `torch.manual_seed` would also note, with a stack trace each time, that a GPU is to be
            # seeded should one come into use: half of the time of a small step.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _step(self, index: npt.NDArray[np.int64], at: Moment) -> torch.Tensor:
        plan = self._plan
        for optimizer in plan.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        mine = self._group.share(index)
        for part in np.array_split(mine, plan.accumulate) if plan.accumulate > 1 else [mine]:
            if len(part) or plan.joined:
                taken = self._source.take(index if plan.whole_batches else part)
                batch = tuple(t.to(self._device) for t in taken)
                with self._precision():
                    mean = self._loss(batch, at)
                share = len(part) / len(index)
                self._scaler.scale(mean.sum() * share).backward()  # type: ignore[no-untyped-call]
                loss += mean.detach().double().mean() * share
        self._group.add_gradients(self.module)
        loss = self._told(loss)
        self._clip()
        for optimizer in plan.optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()
        for scheduler in plan.schedulers:
            scheduler.step()
        if plan.after_step is not None:
            with torch.no_grad():
                plan.after_step(at)
        return loss

    def _told(self, loss: torch.Tensor) -> torch.Tensor:
        """Add the loss over the processes, and with it the wish to stop: all end at one step."""
        wish = self._run.should_stop()
        if self._group.size > 1:
            loss, wishes = self._group.add(torch.stack([loss, torch.full_like(loss, wish)]))
            wish = bool(wishes > 0)
        self._wants_stop = wish
        return loss

    def _precision(self) -> Any:
        kind = _PRECISIONS.get(self._run.precision)
        return nullcontext() if kind is None else torch.autocast(self._device.type, dtype=kind)

    def _clip(self) -> None:
        plan = self._plan
        if plan.clip_norm is None and plan.clip_value is None:
            return
        for optimizer in plan.optimizers:
            self._scaler.unscale_(optimizer)
        if plan.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), plan.clip_norm)
        if plan.clip_value is not None:
            torch.nn.utils.clip_grad_value_(self.module.parameters(), plan.clip_value)

    def _report(self, epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise FitFailed(
                f"the loss is {loss} in epoch {epoch}; use a smaller learning rate, or look for "
                "huge values in the inputs",
                library="torch",
            )
        measured = {"train:loss": loss}
        if self._evaluate is not None:
            self.module.eval()
            with torch.no_grad():
                measured |= self._evaluate()
            # What ends a fit must be the same everywhere, to the last bit.
            measured = self._run.world.gather(measured)[0]
        self.history.epochs.append(measured)
        for name, value in measured.items():
            self._run.sink.metric(name, value, step=epoch)
            self._run.sink.log(quality_line(name, value, epoch=epoch))
        stopping = self._plan.stopping
        if stopping is None or epoch < stopping.after:
            return
        if stopping.improves(measured[stopping.metric], self.history.best):
            self.history.best, self.history.best_epoch = measured[stopping.metric], epoch
            self.history.waited = 0
            if stopping.keep_best:
                state = self.module.state_dict()
                self._best = {name: tensor.clone() for name, tensor in state.items()}
        else:
            self.history.waited += 1

    def _tell(self) -> None:
        """Report the progress, some times a second; the end is told when it is reached."""
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self._run.sink.progress(min(self.history.steps, self._total - 1), self._total)

    def _stop(self) -> None:
        self._save()
        done, total = self.history.steps, self._total
        kept = "" if self._run.checkpoints is None else "; the job's checkpoint is kept"
        raise TrainingStopped(f"stopped after step {done} of {total}{kept}")

    def _checkpoint(self) -> None:
        every = self._run.checkpoint_every_s
        if time.monotonic() - self._saved_at >= (CHECKPOINT_EVERY_S if every is None else every):
            self._save()

    def _save(self) -> None:
        if self._run.checkpoints is None or not self._group.is_first:
            return
        history = self.history
        checkpoint.save(
            self._run.checkpoints,
            {
                "identity": self._identity(),
                "place": list(self._place),
                "summed": float(self._summed),
                "history": vars(history),
                "module": self.module.state_dict(),
                "best": self._best,
                "optimizers": [one.state_dict() for one in self._plan.optimizers],
                "schedulers": [one.state_dict() for one in self._plan.schedulers],
                "scaler": self._scaler.state_dict(),
            },
        )
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        if self._run.checkpoints is None:
            return
        kept = checkpoint.load(self._run.checkpoints, device=self._device)
        if kept is None:
            return
        checkpoint.check(kept["identity"], self._identity(), folder=self._run.checkpoints)
        self.module.load_state_dict(kept["module"])
        self._best = kept["best"]
        for optimizer, state in zip(self._plan.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for scheduler, state in zip(self._plan.schedulers, kept["schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self._scaler.load_state_dict(kept["scaler"])
        self.history = History(**kept["history"])
        epoch, number = kept["place"]
        self._place = (int(epoch), int(number))
        self._summed.fill_(kept["summed"])
        self._run.sink.log(f"going on from a checkpoint, after step {self.history.steps}")

    def _identity(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "seed": self._run.seed,
            "rows": len(self._source),
            "batch_rows": plan.batch_rows,
            **({} if self._run.precision == "float32" else {"precision": self._run.precision}),
            **plan.identity,
        }


@contextmanager
def deterministic(run: Run) -> Iterator[None]:
    """Compute by the run's seed and threads, and leave torch's settings as they were."""
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        random.getstate(),
    )
    devices = [run.device.index] if run.device.kind == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(run.seed)
        torch.set_num_threads(run.threads)
        # Some CUDA kernels have no deterministic form: those warn there, and CI runs on the CPU.
        torch.use_deterministic_algorithms(True, warn_only=run.device.kind == "cuda")
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1], warn_only=before[2])
            random.setstate(before[3])


def _mixed(seed: int, step: int) -> int:
    """Mix a seed and a step into one seed."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
