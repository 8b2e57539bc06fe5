"""How a neural topic model is trained. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.algorithms.unsupervised.ntm.model import NTMModel, Shape
from training.algorithms.unsupervised.ntm.module import TopicModule
from training.engine.parallel import Group
from training.engine.source import Sampled, Source, SparseRows
from training.engine.trainer import EarlyStopping, Moment, Plan, Trainer
from training.inputs import Inputs
from training.run import Run

if TYPE_CHECKING:
    from training.algorithms.unsupervised.ntm.learner import NTM

__all__ = ["fit"]

# Moments that forget soon follow the few steps of small corpora.
_BETAS = (0.9, 0.99)
_SMOOTHING = 0.1


def fit(
    learner: NTM,
    counts: Any,
    run: Run,
    *,
    columns: Inputs,
    vocabulary: tuple[str, ...],
    start: NTMModel | None,
    validation: Any,
) -> NTMModel:
    """Train one model.

    Args:
        learner: the hyperparameters.
        counts: documents, a CSR matrix.
        run: where.
        columns: the inputs.
        vocabulary: the words; may be none.
        start: a model that fits, to go on from.
        validation: further documents to stop by; None: there are none.
    """
    shape = learner.shape
    module = TopicModule(shape, Group.of(run))
    begun = _begun(module, shape, counts, run.seed) if start is None else start.parameters
    module.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in begun.items()})
    module = module.to(torch.device(str(run.device)))
    if learner.rescale_gradient != 1:
        for parameter in module.parameters():
            parameter.register_hook(  # type: ignore[no-untyped-call]
                lambda given: given * learner.rescale_gradient
            )

    def loss(batch: tuple[torch.Tensor, ...], at: Moment) -> torch.Tensor:
        # Drawn for all documents of the step, so that processes draw what one would.
        noise = torch.randn(at.rows, shape.topics, device=module.usual.device)[at.own]
        lost, far = module.losses(*batch, noise=noise, rows=at.rows)
        whole = (lost + far).sum() / max(len(lost), 1)
        weight = _weight(learner, at)
        if weight == 1:
            return whole
        # What is reported is the whole loss; the steps go by the part of it that counts so far.
        counted = (lost + weight * far).sum() / max(len(lost), 1)
        return counted + (whole - counted).detach()

    def as_model() -> NTMModel:
        state = module.state_dict()
        parameters = {name: value.cpu().numpy().copy() for name, value in state.items()}
        return NTMModel(columns, shape, parameters, vocabulary)

    def evaluate() -> Mapping[str, float]:
        if validation is None:
            return {}
        return {f"validation:{n}": value for n, value in as_model().losses(validation).items()}

    source: Source = SparseRows(counts)
    if learner.sub_sample < 1:
        source = Sampled(source, learner.sub_sample)
    clip = learner.clip_gradient
    plan = Plan(
        epochs=learner.epochs,
        batch_rows=learner.mini_batch_size,
        optimizers=[_optimizer(learner, module)],
        clip_value=None if isinstance(clip, str) else clip,
        stopping=EarlyStopping(
            metric="train:loss" if validation is None else "validation:total_loss",
            patience=learner.num_patience_epochs,
            tolerance=learner.tolerance,
            # A sample's loss is no reason to prefer an epoch; one on held-out documents is.
            keep_best=validation is not None,
            after=learner.kl_warmup_epochs,
        ),
        identity={"hyperparameters": str(learner.values())},
        joined=True,
    )
    Trainer(module, source, loss, plan, run, evaluate=evaluate).fit()
    return as_model()


def _begun(
    module: TopicModule, shape: Shape, counts: Any, seed: int
) -> dict[str, np.typing.NDArray[np.float32]]:
    """Return the parameters as a fit begins: small at random."""
    random = np.random.default_rng([seed, shape.words, shape.topics])
    begun = {name: value.numpy() for name, value in module.state_dict().items()}
    for name, value in begun.items():
        if value.ndim == 2:
            given = shape.topics if name == "topics" else value.shape[0]
            reach = 1 / np.sqrt(given)
            begun[name] = random.uniform(-reach, reach, value.shape).astype(np.float32)
    return begun


def _weight(learner: NTM, at: Moment) -> float:
    """Return how much the distance from the prior counts in a step: ever more in a warm-up."""
    warming = learner.kl_warmup_epochs * at.steps / learner.epochs
    return min(1.0, (at.step + 1) / warming) if warming else 1.0


def _optimizer(learner: NTM, module: TopicModule) -> torch.optim.Optimizer:
    parameters = list(module.parameters())
    options: dict[str, Any] = {"lr": learner.learning_rate, "weight_decay": learner.weight_decay}
    match learner.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, **options)
        case "adam":
            return torch.optim.Adam(parameters, betas=_BETAS, **options)
        case "adagrad":
            return torch.optim.Adagrad(parameters, **options)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, **options)
    return torch.optim.Adadelta(parameters, **options)
