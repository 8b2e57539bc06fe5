"""How a factorization machine is trained. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from training.algorithms.tabular.factorization.model import FactorizationModel, as_rows
from training.algorithms.tabular.factorization.module import FactorizationMachine
from training.data import Dataset
from training.engine.row_adam import RowAdam
from training.engine.source import Arrays, Source, SparseRows
from training.engine.trainer import EarlyStopping, Moment, Plan, Trainer
from training.run import Run

if TYPE_CHECKING:
    from training.algorithms.tabular.factorization.learner import FactorizationMachines

__all__ = ["fit"]

_MOST = 0.5


def fit(
    learner: FactorizationMachines, train: Dataset, run: Run, *, validation: Dataset | None
) -> FactorizationModel:
    """Train one machine."""
    is_regressor = learner.predictor_type == "regressor"
    module = FactorizationMachine(
        *_start(learner, train, run.seed, learner.to_go_on_from(run, train))
    )
    module = module.to(torch.device(str(run.device)))
    target = train.labels().astype(np.float32)
    compute = functional.mse_loss if is_regressor else functional.binary_cross_entropy_with_logits

    source = _source(train, target)
    score = module.dense if isinstance(source, Arrays) else module

    def loss(batch: tuple[torch.Tensor, ...], at: Moment) -> torch.Tensor:
        *rows, wanted = batch
        return compute(score(*rows), wanted)

    def as_model() -> FactorizationModel:
        return FactorizationModel(
            train.inputs,
            float(module.bias.detach().cpu()[0]),
            module.linear.weight.detach().cpu().numpy()[:, 0].copy(),
            # Not a copy: it may be as large as all that training keeps.
            module.factors.weight.detach().cpu().numpy(),
            learner.predictor_type,
        )

    held_out = None if validation is None else as_rows(validation.features, validation.inputs)

    def evaluate() -> Mapping[str, float]:
        if validation is None or held_out is None:
            return {}
        measured = learner.measured(validation.labels(), as_model().scores(held_out))
        return {f"validation:{name}": value for name, value in measured.items()}

    stopping = None
    if validation is not None:
        metric = "rmse" if is_regressor else "binary_classification_cross_entropy"
        stopping = EarlyStopping(
            metric=f"validation:{metric}", patience=learner.early_stopping_patience
        )
    plan = Plan(
        epochs=learner.epochs,
        batch_rows=learner.mini_batch_size,
        optimizers=_optimizers(learner, module),
        stopping=stopping,
        identity={"hyperparameters": str(learner.values())},
    )
    Trainer(module, source, loss, plan, run, evaluate=evaluate).fit()
    return as_model()


def _source(train: Dataset, target: npt.NDArray[np.float32]) -> Source:
    """Return the rows as an array where most of the numbers of each column are not 0.

    A step then changes all columns, as it would by the sparse rows, in a tenth of the time.
    """
    if train.inputs.are_plain and len(train):
        rows = train.matrix(np.float32)
        held = np.count_nonzero(rows, axis=0).min()
        if held >= _MOST * len(rows):
            return Arrays(rows, target)
    return SparseRows(train.csr(), target)


def _optimizers(
    learner: FactorizationMachines, module: FactorizationMachine
) -> list[torch.optim.Optimizer]:
    options: dict[str, Any] = {
        "eps": 1e-8 if learner.eps is None else learner.eps,
        "clip": learner.clip_gradient,
        "rescale": learner.rescale_grad,
    }
    return [
        RowAdam([module.bias], lr=learner.bias_lr, weight_decay=learner.bias_wd, **options),
        RowAdam(
            [module.linear.weight], lr=learner.linear_lr, weight_decay=learner.linear_wd, **options
        ),
        RowAdam(
            [module.factors.weight],
            lr=learner.factors_lr,
            weight_decay=learner.factors_wd,
            **options,
        ),
    ]


def _start(learner: FactorizationMachines, train: Dataset, seed: int, model: Any) -> Any:
    """Return bias, weights and factors as they begin."""
    if model is None:
        order = np.random.default_rng([seed, train.width])
        return (
            learner.start("bias", (1,), order),
            learner.start("linear", (train.width, 1), order),
            learner.start("factors", (train.width, learner.num_factors), order),
        )
    return np.array([model.bias], np.float32), model.linear[:, None].copy(), model.factors.copy()
