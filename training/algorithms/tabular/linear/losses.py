"""The losses of linear models, for all models of a fit at once. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch.nn import functional

__all__ = ["LOSSES", "Loss"]

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""From scores (rows, models, classes), targets (rows,) and the loss's own number to (rows, models).

Two classes have one score a row, and targets 0 and 1; several have targets numbered from 0.
"""


def _logistic(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    z = scores[:, :, 0]
    return functional.softplus(z) - target[:, None] * z


def _hinge(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    return torch.relu(number - (2 * target - 1)[:, None] * scores[:, :, 0])


def _softmax(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    wanted = target.long()[:, None, None].expand(-1, scores.shape[1], 1)
    return torch.logsumexp(scores, dim=2) - scores.gather(2, wanted)[:, :, 0]


def _squared(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    return (scores[:, :, 0] - target[:, None]) ** 2


def _absolute(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    return (scores[:, :, 0] - target[:, None]).abs()


def _eps_absolute(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    return torch.relu(_absolute(scores, target, number) - number)


def _eps_squared(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    return _eps_absolute(scores, target, number) ** 2


def _quantile(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    short = target[:, None] - scores[:, :, 0]
    return torch.maximum(number * short, (number - 1) * short)


def _huber(scores: torch.Tensor, target: torch.Tensor, number: float) -> torch.Tensor:
    size = _absolute(scores, target, number)
    return torch.where(size <= number, size**2 / 2, number * (size - number / 2))


LOSSES: Final[Mapping[str, Loss]] = {
    "logistic": _logistic,
    "hinge_loss": _hinge,
    "softmax_loss": _softmax,
    "squared_loss": _squared,
    "absolute_loss": _absolute,
    "eps_insensitive_absolute_loss": _eps_absolute,
    "eps_insensitive_squared_loss": _eps_squared,
    "quantile_loss": _quantile,
    "huber_loss": _huber,
}
"""By SageMaker's names."""
