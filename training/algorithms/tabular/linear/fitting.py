"""How Linear Learner's models are trained: by steps, or on all rows at once. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import torch

from training.algorithms.tabular.linear.grid import Candidate
from training.algorithms.tabular.linear.losses import LOSSES
from training.algorithms.tabular.linear.module import LinearModels
from training.algorithms.tabular.linear.optimizer import PerModel
from training.algorithms.tabular.linear.scaling import Scaling
from training.data import Dataset
from training.engine.parallel import Group
from training.engine.source import Arrays, Source, SparseRows, as_tensor
from training.engine.trainer import Moment, Plan, Trainer, deterministic
from training.errors import FitFailed, InvalidData, TrainingStopped
from training.metrics import quality_line
from training.run import Run
from training.world import Contributed

if TYPE_CHECKING:
    from training.algorithms.tabular.linear.learner import LinearLearner
    from training.algorithms.tabular.linear.model import LinearModel

__all__ = ["Trained", "fit", "objective", "rows_of"]

Array = npt.NDArray[Any]

_LBFGS_STEPS = 100
_FALL, _END = 0.85, 0.02
"""What an epoch leaves of the rates, at least, and what a fit of many epochs leaves at its end."""
_WORK_OF_A_THREAD = 4_000_000
"""Products of a step from which a second thread is worth its start."""


@final
@dataclass(frozen=True, eq=False)
class Trained:
    """The models of a fit at their best, for scaled inputs and labels.

    Attributes:
        weights: (columns, models, classes).
        bias: (models, classes).
        losses: (models,) of the rows they are chosen by.
        scores: (rows, models, classes) of those rows.
    """

    weights: Array
    bias: Array
    losses: Array
    scores: Array


def rows_of(data: Dataset) -> Any:
    """Return the inputs as a dense or a CSR matrix."""
    return data.csr() if data.inputs.is_sparse else data.matrix()


def fit(
    learner: LinearLearner,
    train: Dataset,
    rows: Any,
    watched: Dataset,
    data: Scaling,
    labels: Scaling,
    tried: Sequence[Candidate],
    run: Run,
) -> Trained:
    """Train all models.

    Args:
        learner: the hyperparameters.
        train: the data.
        rows: its inputs.
        watched: the rows to choose by.
        data: how inputs are scaled.
        labels: how labels are.
        tried: the settings of the models.
        run: where.
    """
    run = replace(run, threads=_threads(learner, train.width * len(tried), run))
    is_sparse = hasattr(rows, "indptr")
    scaled = data.thin(rows) if is_sparse else data.apply(rows)
    if watched is train:
        seen = scaled
    else:
        seen = data.thin(rows_of(watched)) if is_sparse else data.apply(rows_of(watched))
    with deterministic(run):
        models = _models(learner, train, data, labels, len(tried), is_sparse, run)
    judge = _Judge(learner, models, seen, watched, labels, tried)
    target = labels.apply(train.labels()[:, None])[:, 0]
    weights = _row_weights(learner, train.labels(), tried)
    if learner.chosen_optimizer == "lbfgs":
        _at_once(learner, models, scaled, target, weights, tried, run)
    else:
        _by_steps(learner, models, scaled, target, weights, tried, judge, run)
    state = models.state()
    scores = models.scores(seen, best=True)
    return Trained(state["weights"], state["bias"], judge.losses(scores, best=True), scores)


def _threads(learner: LinearLearner, weights: int, run: Run) -> int:
    """Return how many threads a step is worth: small ones would only wait for each other."""
    work = learner.mini_batch_size * weights * (learner.num_classes or 1)
    return max(1, min(run.threads, work // _WORK_OF_A_THREAD))


def objective(learner: LinearLearner, model: LinearModel, data: Dataset) -> float:
    """Return the mean loss of a model on data, without weights of classes."""
    rows = rows_of(data)
    raw = torch.from_numpy(np.asarray(rows @ model.weights + model.bias)).unsqueeze(1)
    loss = LOSSES[learner.chosen_loss](raw, as_tensor(data.labels()), learner.loss_number)
    return float(loss.mean())


def _models(
    learner: LinearLearner,
    train: Dataset,
    data: Scaling,
    labels: Scaling,
    count: int,
    is_sparse: bool,
    run: Run,
) -> LinearModels:
    classes = learner.num_classes or 1
    shape = (train.width, count, classes)
    given = _going_on(learner, train, run.start, data, labels) if run.start else None
    if given is not None and given[0].shape[1] != classes:
        run.sink.log(
            f"the model to go on from has {given[0].shape[1]} classes, and this fit {classes}: a "
            "linear model is nothing but its classes, so all weights begin anew"
        )
        given = None
    if given is not None:
        start = np.repeat(given[0][:, None], count, axis=1)
        bias = np.tile(given[1], (count, 1))
    else:
        order = np.random.default_rng([run.seed, train.width])
        if learner.init_method == "uniform":
            reach = 0.07 if learner.init_scale is None else learner.init_scale
            start = order.uniform(-reach, reach, shape[0] * classes)
        else:
            sigma = 0.01 if learner.init_sigma is None else learner.init_sigma
            start = order.normal(0, sigma, shape[0] * classes)
        # The same start for all, so that they differ by their hyperparameters alone.
        start = np.repeat(start.reshape(shape[0], 1, classes), count, axis=1)
        bias = np.full((count, classes), learner.init_bias)
    device = torch.device(str(run.device))
    shift = None
    if is_sparse and data.shift.any():
        shift = torch.from_numpy((data.shift / data.scale).astype(np.float32))
    begin = torch.from_numpy(start.reshape(shape[0], -1).astype(np.float32))
    first = torch.from_numpy(bias.reshape(-1).astype(np.float32)) if learner.use_bias else None
    return LinearModels(begin, first, models=count, shift=shift).to(device)


def _going_on(
    learner: LinearLearner, train: Dataset, start: Any, data: Scaling, labels: Scaling
) -> tuple[Array, Array]:
    """Return the weights of an earlier model for scaled inputs and labels."""
    if start.predictor_type != learner.predictor_type:
        raise _unfit(
            f"has predictor_type={start.predictor_type}, and this fit {learner.predictor_type}"
        )
    if start.inputs != train.inputs:
        raise _unfit(
            f"takes other columns than channel {train.channel!r} has ({start.weights.shape[0]} "
            f"dimensions there, {train.width} here)"
        )
    if not learner.use_bias and start.bias.any():
        raise _unfit("has a bias, and this fit use_bias=false")
    bias = (start.bias + data.shift @ start.weights - labels.shift) / labels.scale
    return start.weights * data.scale[:, None] / labels.scale, bias


def _unfit(reason: str) -> InvalidData:
    return InvalidData(
        f"model: the model to go on from {reason}; train anew without it", channel="model"
    )


def _row_weights(
    learner: LinearLearner, target: Array, tried: Sequence[Candidate]
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return what rows count by their target, (rows, models) or (rows, 1); None: all the same."""
    by_class = learner.class_weights(target)
    if by_class is not None:
        table = torch.from_numpy(by_class)
        return lambda y: table.to(y.device)[y.long()][:, None]
    if all(one.positive_weight == 1 for one in tried):
        return None
    positive = torch.tensor([one.positive_weight for one in tried])
    return lambda y: torch.where(y[:, None] > 0.5, positive.to(y.device)[None], 1.0)


@final
class _Judge:
    """Measures all models on the rows they are chosen by, after each epoch."""

    def __init__(
        self,
        learner: LinearLearner,
        models: LinearModels,
        rows: Any,
        watched: Dataset,
        labels: Scaling,
        tried: Sequence[Candidate],
    ) -> None:
        self._learner = learner
        self._models = models
        self._rows = rows
        self._raw = watched.labels()
        self._target = torch.from_numpy(labels.apply(self._raw[:, None])[:, 0])
        self._channel = watched.channel
        self._is_held_out = watched.channel == "validation"
        self._wd = np.array([one.wd for one in tried])
        self.optimizer: PerModel | None = None

    def __call__(self) -> Mapping[str, float]:
        scores = self._models.scores(self._rows)
        losses = self.losses(scores)
        values = self._values(scores, losses)
        self._models.keep(values, tolerance=self._learner.early_stopping_tolerance)
        if self.optimizer is not None:
            waiting = self._models.waited < self._learner.early_stopping_patience
            classes = scores.shape[2]
            active = waiting.to(torch.float32).repeat_interleave(classes)
            self.optimizer.param_groups[0]["active"] = active
        return {f"{self._channel}:objective_loss": float(np.nanmin(losses))}

    def losses(self, scores: Array, *, best: bool = False) -> Array:
        """Return the mean loss of each model; on training data with what its weights cost."""
        loss = LOSSES[self._learner.chosen_loss]
        given = torch.from_numpy(scores)
        mean: Array = loss(given, self._target, self._learner.loss_number).mean(dim=0).numpy()
        costs: Array = mean.astype(np.float64)
        if not self._is_held_out:
            # The training loss alone would choose whatever fits most.
            weights = self._models.best_weights if best else self._models.weights.detach()
            squares = (weights**2).sum(dim=0).view(len(self._wd), -1).sum(dim=1)
            costs += self._wd / 2 * squares.double().cpu().numpy()
        finite: Array = np.where(np.isfinite(costs), costs, np.inf)
        return finite

    def _values(self, scores: Array, losses: Array) -> Array:
        """Return what models are kept by, smaller is better: the criterion, else the loss."""
        learner = self._learner
        by_loss = learner.criterion in ("cross_entropy_loss", "loss_function")
        if not learner.is_binary or by_loss or not self._is_held_out:
            return losses
        chosen = [
            -learner.threshold(self._raw, scores[:, at, 0]).value for at in range(len(losses))
        ]
        # Where many weights do as well, those with the least loss: it adds less than one row does.
        values: Array = np.array(chosen) + losses / (1 + losses) / (2 * len(self._raw))
        return values


@final
class _StepDecay:
    """Lets all rates fall by a factor every some steps, down to the least rate."""

    def __init__(
        self, optimizer: PerModel, *, every: int, factor: float, least: float, first: float
    ) -> None:
        self.chosen_optimizer = optimizer
        self._every, self._factor, self._least = every, factor, least / first
        self._steps = 0

    def step(self) -> None:
        """Count a step."""
        self._steps += 1
        factor = max(self._factor ** (self._steps // self._every), min(self._least, 1.0))
        self.chosen_optimizer.param_groups[0]["factor"] = factor

    def state_dict(self) -> dict[str, int]:
        """Return the steps done."""
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from steps done."""
        self._steps = state["steps"]


def _auto(given: float | str, default: float) -> float:
    return default if isinstance(given, str) else given


def _by_steps(
    learner: LinearLearner,
    models: LinearModels,
    rows: Any,
    target: Array,
    row_weights: Callable[[torch.Tensor], torch.Tensor] | None,
    tried: Sequence[Candidate],
    judge: _Judge,
    run: Run,
) -> None:
    classes = learner.num_classes or 1
    device = models.weights.device

    def per_score(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).repeat_interleave(classes)

    optimizer = PerModel(
        models.weights,
        models.bias,
        kind=learner.chosen_optimizer,  # type: ignore[arg-type]  # lbfgs goes another way
        rates=per_score([one.learning_rate for one in tried]),
        wd=per_score([one.wd for one in tried]),
        l1=per_score([one.l1 for one in tried]),
        momentum=_auto(learner.momentum, 0.9),
        betas=(_auto(learner.beta_1, 0.9), _auto(learner.beta_2, 0.999)),
        bias_lr_mult=_auto(learner.bias_lr_mult, 1.0),
        bias_wd_mult=_auto(learner.bias_wd_mult, 0.0),
    )
    judge.optimizer = optimizer
    source = _source(rows, target, device)
    schedule = _StepDecay(
        optimizer,
        every=int(_auto(learner.lr_scheduler_step, source.count(learner.mini_batch_size))),
        factor=_auto(learner.lr_scheduler_factor, max(_FALL, _END ** (1 / learner.epochs))),
        least=_auto(learner.lr_scheduler_minimum_lr, 1e-5),
        first=tried[0].learning_rate,
    )
    compute = LOSSES[learner.chosen_loss]

    def loss(batch: tuple[torch.Tensor, ...], at: Moment) -> torch.Tensor:
        *inputs, wanted = batch
        each = compute(models(tuple(inputs)), wanted, learner.loss_number)
        if row_weights is not None:
            each = each * row_weights(wanted)
        return each.mean(dim=0)

    plan = Plan(
        epochs=learner.epochs,
        batch_rows=learner.mini_batch_size,
        optimizers=[optimizer],
        schedulers=[schedule] if learner.use_lr_scheduler else [],
        is_done=lambda: bool((models.waited >= learner.early_stopping_patience).all()),
        identity={"hyperparameters": str(learner.values()), "columns": models.weights.shape[0]},
    )
    Trainer(models, source, loss, plan, run, evaluate=judge).fit()


def _source(rows: Any, target: Array, device: torch.device) -> Source:
    if hasattr(rows, "indptr"):
        return SparseRows(rows, target)
    if device.type == "cpu":
        return Arrays(rows, target)
    return Arrays(torch.from_numpy(rows).to(device), torch.from_numpy(target).to(device))


def _at_once(
    learner: LinearLearner,
    models: LinearModels,
    rows: Any,
    target: Array,
    row_weights: Callable[[torch.Tensor], torch.Tensor] | None,
    tried: Sequence[Candidate],
    run: Run,
) -> None:
    """Minimise each model's loss over all rows, the squared one in closed form.

    Sources: Nocedal and Wright, "Numerical Optimization", 2006, chapter 7 and §10.2.
    """
    classes = learner.num_classes or 1
    closed = learner.chosen_loss == "squared_loss" and row_weights is None
    solve = _least_squares if closed else _lbfgs
    group = Group.of(run)
    with deterministic(run):
        for at, one in enumerate(tried):
            if any(run.world.gather(run.should_stop())):
                raise TrainingStopped(f"stopped after model {at} of {len(tried)}")
            columns = slice(at * classes, (at + 1) * classes)
            solve(learner, models, columns, rows, target, row_weights, one, group)
            run.sink.progress(at + 1, len(tried))
    if not group.is_first:
        raise Contributed
    if not torch.isfinite(models.weights).all():
        raise FitFailed("the weights are not finite; use optimizer=adam", library="torch")
    with torch.no_grad():
        models.best_weights.copy_(models.weights)
        if models.bias is not None:
            models.best_bias.copy_(models.bias)
    run.sink.log(quality_line("train:models", len(tried)))


def _least_squares(
    learner: LinearLearner,
    models: LinearModels,
    columns: slice,
    rows: Any,
    target: Array,
    row_weights: object,
    one: Candidate,
    group: Group,
) -> None:
    """Solve the normal equations in float64; `wd` is the weight of the squared weights."""
    count, width = rows.shape
    wide = rows[group.own].astype(np.float64)
    square = wide.T @ wide
    square = np.asarray(square.todense() if hasattr(square, "todense") else square)
    toward = np.asarray(wide.T @ target[group.own].astype(np.float64)).ravel()
    # What every process adds up of its own rows.
    square, toward, mean = (
        group.add(torch.from_numpy(np.array(part, np.float64))).numpy() / count
        for part in (square, toward, np.asarray(wide.sum(axis=0)).ravel())
    )
    offset = 0.0
    if models.bias is not None:
        square = square - np.outer(mean, mean)
        toward = toward - mean * target.mean(dtype=np.float64)
    penalised = square + one.wd * np.eye(width)
    solved = np.linalg.lstsq(penalised, toward, rcond=None)[0]
    if models.bias is not None:
        offset = float(target.mean(dtype=np.float64) - mean @ solved)
        if models.shift is not None:
            offset += float(models.shift.cpu().numpy() @ solved)
    with torch.no_grad():
        models.weights[:, columns] = torch.from_numpy(solved[:, None]).to(models.weights)
        if models.bias is not None:
            models.bias[columns] = offset


def _lbfgs(
    learner: LinearLearner,
    models: LinearModels,
    columns: slice,
    rows: Any,
    target: Array,
    row_weights: Callable[[torch.Tensor], torch.Tensor] | None,
    one: Candidate,
    group: Group,
) -> None:
    device = models.weights.device
    count = rows.shape[0]
    rows, target = rows[group.own], target[group.own]
    weights = models.weights.detach()[:, columns].double().clone().requires_grad_()
    parameters = [weights]
    if models.bias is not None:
        bias = models.bias.detach()[columns].double().clone().requires_grad_()
        parameters.append(bias)
    inputs = _whole(rows, device)
    wanted = torch.from_numpy(target).double().to(device)
    compute = LOSSES[learner.chosen_loss]
    each_counts = None if row_weights is None else row_weights(wanted)
    if each_counts is not None and each_counts.shape[1] > 1:
        place = columns.start // (columns.stop - columns.start)
        each_counts = each_counts[:, place : place + 1]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max(learner.epochs, _LBFGS_STEPS),
        line_search_fn="strong_wolfe",
        tolerance_change=1e-12,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        scores = inputs @ weights
        if models.shift is not None:
            scores = scores - models.shift.double() @ weights
        if models.bias is not None:
            scores = scores + bias
        each = compute(scores[:, None, :], wanted, learner.loss_number)
        if each_counts is not None:
            each = each * each_counts
        loss = each.sum() / count
        if group.is_first:
            loss = loss + one.wd / 2 * (weights**2).sum()
        loss.backward()
        for parameter in parameters:
            assert parameter.grad is not None
            group.add(parameter.grad)
        return group.add(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        models.weights[:, columns] = weights.to(models.weights)
        if models.bias is not None:
            models.bias[columns] = bias.to(models.bias)


def _whole(rows: Any, device: torch.device) -> torch.Tensor:
    if not hasattr(rows, "indptr"):
        return torch.from_numpy(rows).double().to(device)
    return torch.sparse_csr_tensor(
        torch.from_numpy(rows.indptr.astype(np.int64)),
        torch.from_numpy(rows.indices.astype(np.int64)),
        torch.from_numpy(rows.data.astype(np.float64)),
        size=rows.shape,
    ).to(device)
