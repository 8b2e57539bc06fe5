"""How IP Insights is trained. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from training.algorithms.unsupervised.ipinsights.address import Addresses
from training.algorithms.unsupervised.ipinsights.model import IPInsightsModel, row_of
from training.algorithms.unsupervised.ipinsights.module import IPEncoder
from training.engine.row_adam import RowAdam
from training.engine.source import Arrays
from training.engine.trainer import Moment, Plan, Trainer
from training.errors import InvalidData
from training.inputs import Inputs
from training.negatives import shuffled
from training.run import Run

if TYPE_CHECKING:
    from training.algorithms.unsupervised.ipinsights.learner import Events, IPInsights

__all__ = ["fit"]

Array = npt.NDArray[np.float32]

_FEWEST_BUCKETS: Final = 2**15
_MOST_BUCKETS: Final = 2**22
_SPREAD: Final = 0.1
"""The deviation of a vector's numbers at the start, times the root of its dimensions."""


def fit(
    learner: IPInsights,
    inputs: Inputs,
    events: Events,
    run: Run,
    *,
    validation: Events | None,
) -> IPInsightsModel:
    """Train one model."""
    wanted = row_of(events.entities, learner.num_entity_vectors)
    rows = np.unique(wanted)
    start = run.start
    if start is None:
        arrays = _begin(learner, events, rows, run.seed)
    else:
        rows, arrays = _go_on(learner, start, rows, run.seed)
    module = IPEncoder(*arrays).to(torch.device(str(run.device)))
    buckets = len(arrays[1]) - 1
    source = Arrays(
        np.searchsorted(rows, wanted), events.addresses.buckets(buckets), events.addresses.version
    )

    def loss(batch: tuple[torch.Tensor, ...], at: Moment) -> torch.Tensor:
        # All rows of the step: an address to compare with may be one of another process.
        own = at.own
        entity, address = module.entity(batch[0][own]), module.address(batch[1][own])
        order = np.random.default_rng([run.seed, at.step, 1])
        logits = [(entity * address).sum(dim=1)]
        if learner.random_negative_sampling_rate:
            logits.append(_against_random(learner, module, batch[2], entity, own, buckets, order))
        for others in shuffled(at.rows, learner.shuffled_negative_sampling_rate, order):
            places = torch.from_numpy(others[own]).to(address.device)
            alone = len(entity) == at.rows
            theirs = address[places] if alone else module.address(batch[1][places])
            logits.append((entity * theirs).sum(dim=1))
        together = torch.cat(logits)
        target = torch.zeros_like(together)
        target[: len(entity)] = 1
        mean = functional.binary_cross_entropy_with_logits(together, target, reduction="sum")
        mean = mean / max(len(together), 1)
        latest[0] = mean.detach()
        return mean

    latest = [torch.zeros(())]

    def publish(at: Moment) -> None:
        if (at.step + 1) % learner.batch_metrics_publish_interval == 0:
            run.sink.metric("train:batch_loss", float(latest[0]), step=at.step)

    def as_model() -> IPInsightsModel:
        layers = [_numbers(weight) for weight in module.weights]
        size = learner.vector_dim
        return IPInsightsModel(
            inputs,
            learner.num_entity_vectors,
            rows,
            _numbers(module.entities),
            _numbers(module.networks),
            np.stack(layers) if layers else np.zeros((0, size, size), np.float32),
            np.stack([_numbers(bias) for bias in module.biases])
            if layers
            else np.zeros((0, size), np.float32),
        )

    def evaluate() -> Mapping[str, float]:
        if validation is None:
            return {}
        measured = learner.measured(as_model(), validation)
        return {f"validation:{name}": value for name, value in measured.items()}

    plan = Plan(
        epochs=learner.epochs,
        batch_rows=learner.mini_batch_size,
        optimizers=[
            RowAdam(
                module.parameters(), lr=learner.learning_rate, weight_decay=learner.weight_decay
            )
        ],
        after_step=publish,
        identity={"hyperparameters": str(learner.values())},
        whole_batches=True,
        joined=True,
    )
    Trainer(module, source, loss, plan, run, evaluate=evaluate).fit()
    return as_model()


def _against_random(
    learner: IPInsights,
    module: IPEncoder,
    version: torch.Tensor,
    entity: torch.Tensor,
    own: slice,
    buckets: int,
    order: np.random.Generator,
) -> torch.Tensor:
    times = learner.random_negative_sampling_rate
    drawn = Addresses.random(np.tile(version.cpu().numpy(), times), order).buckets(buckets)
    size = drawn.shape[1]
    mine = drawn.reshape(times, len(version), size)[:, own].reshape(times * len(entity), size)
    places = torch.from_numpy(mine).to(entity.device)
    return (entity.repeat(times, 1) * module.address(places)).sum(dim=1)


def _begin(
    learner: IPInsights, events: Events, rows: npt.NDArray[np.int64], seed: int
) -> tuple[Array, Array, Array, Array]:
    size, layers = learner.vector_dim, learner.num_ip_encoder_layers
    networks = len(np.unique(events.addresses.networks()))
    buckets = min(max(1 << (2 * networks - 1).bit_length(), _FEWEST_BUCKETS), _MOST_BUCKETS)
    order = np.random.default_rng([seed, size])
    held = _vectors((buckets + 1, size), order)
    held[0] = 0
    spread = (2 / size) ** 0.5
    weights = order.standard_normal((layers, size, size), np.float32) * np.float32(spread)
    if layers:
        weights[-1] /= np.float32(2**0.5)
    return _vectors((len(rows), size), order), held, weights, np.zeros((layers, size), np.float32)


def _go_on(
    learner: IPInsights, start: Any, rows: npt.NDArray[np.int64], seed: int
) -> tuple[npt.NDArray[np.int64], tuple[Array, Array, Array, Array]]:
    """Return all rows, known and new, and the arrays of a model to go on from."""
    if not isinstance(start, IPInsightsModel):
        raise InvalidData(
            f"model: ipinsights goes on from a model of ipinsights, got {type(start).__name__}",
            channel="model",
        )
    names = ("num_entity_vectors", "vector_dim", "num_ip_encoder_layers")
    shape = (learner.num_entity_vectors, learner.vector_dim, learner.num_ip_encoder_layers)
    found = (start.num_entity_vectors, start.entities.shape[1], len(start.weights))
    if shape != found:
        differing = ", ".join(
            f"{name} ({has}, and the job asks for {asked})"
            for name, has, asked in zip(names, found, shape, strict=True)
            if has != asked
        )
        raise InvalidData(
            f"model: the model to go on from differs in {differing}; train anew without it, or "
            "with its hyperparameters",
            channel="model",
        )
    together = np.union1d(start.rows, rows)
    entities = _vectors((len(together), shape[1]), np.random.default_rng([seed, shape[1]]))
    entities[np.searchsorted(together, start.rows)] = start.entities
    return together, (entities, start.networks.copy(), start.weights, start.biases)


def _vectors(shape: tuple[int, int], order: np.random.Generator) -> Array:
    return order.standard_normal(shape, np.float32) * np.float32(_SPREAD)


def _numbers(parameter: torch.Tensor) -> Array:
    held: Array = parameter.detach().cpu().numpy().copy()
    return held
