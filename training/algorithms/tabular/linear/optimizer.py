"""SGD, Adam and RMSprop over many models at once, each at its own rate. Importing imports torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, final

import torch

__all__ = ["PerModel"]

Kind = Literal["sgd", "adam", "rmsprop"]

_EPS = 1e-8
_RMSPROP_DECAY = 0.9


@final
class PerModel(torch.optim.Optimizer):
    """Changes parameters whose last dimension runs over the models of a fit.

    Weight decay is decoupled: it enters no moment, and acts after the step, as the proximal map of
    wd / 2 times the squared weights in the metric of the step. So models end where their loss and
    that cost are least, as those of a solver that sees all rows do; a decay that is not divided as
    the gradients are would count for less than it says, by the size of the gradients. L1 is a soft
    threshold after the step, so that weights become zero. Both act on the first parameter alone
    unless `bias_wd_mult` says otherwise.

    Args:
        weights: (columns, models * classes).
        bias: (models * classes,); None: there is none.
        kind: sgd, adam or rmsprop.
        rates: (models * classes,) learning rates.
        wd: (models * classes,).
        l1: (models * classes,).
        momentum: of sgd.
        betas: of adam.
        bias_lr_mult: how many times faster the bias learns.
        bias_wd_mult: how much of the decay the bias has.

    Its only group has `factor`, what the schedule makes of all rates, and `active`, of the shape of
    the rates: 0 for models that have ended. Both are kept in checkpoints.

    Sources: Kingma and Ba, 2015; Loshchilov and Hutter, 2019; Zhuang, Liu, Cutkosky and Orabona,
    "Understanding AdamW through Proximal Methods and Scale-Freeness", 2022; Tieleman and Hinton,
    2012; Parikh and Boyd, "Proximal Algorithms", 2014, §6.5.2.
    """

    def __init__(
        self,
        weights: torch.nn.Parameter,
        bias: torch.nn.Parameter | None,
        *,
        kind: Kind,
        rates: torch.Tensor,
        wd: torch.Tensor,
        l1: torch.Tensor,
        momentum: float,
        betas: tuple[float, float],
        bias_lr_mult: float,
        bias_wd_mult: float,
    ) -> None:
        parameters = [weights] if bias is None else [weights, bias]
        super().__init__(parameters, {"factor": 1.0, "active": torch.ones_like(rates)})
        self._kind = kind
        self._rates, self._wd, self._l1 = rates, wd, l1
        self._momentum, self._betas = momentum, betas
        self._bias_lr_mult, self._bias_wd_mult = bias_lr_mult, bias_wd_mult
        self._has_decay = bool((wd > 0).any())
        self._has_l1 = bool((l1 > 0).any())
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Change the parameters by their gradients."""
        group = self.param_groups[0]
        rates = self._rates * group["active"] * group["factor"]
        weights, *rest = group["params"]
        self._move(weights, rates, self._wd if self._has_decay else None)
        if self._has_l1:
            weights.copy_(weights.sign() * torch.relu(weights.abs() - rates * self._l1))
        for bias in rest:
            decay = self._wd * self._bias_wd_mult if self._bias_wd_mult else None
            self._move(bias, rates * self._bias_lr_mult, decay)

    def _move(
        self, parameter: torch.Tensor, rates: torch.Tensor, decay: torch.Tensor | None
    ) -> None:
        """Go a step down, then towards zero."""
        direction, size = self._direction(parameter)
        if size is None:
            parameter.sub_(direction.mul_(rates))
        else:
            rates = rates / size
            parameter.addcmul_(direction, rates, value=-1)
        if decay is not None:
            parameter.div_((rates * decay).add_(1))

    def _direction(self, parameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return where to go, and what each number's step is divided by; None: nothing."""
        gradient = parameter.grad
        assert gradient is not None
        state: dict[str, Any] = self.state[parameter]
        mean: torch.Tensor = state["mean"]
        square: torch.Tensor = state["square"]
        state["step"] += 1
        match self._kind:
            case "sgd":
                mean.mul_(self._momentum).add_(gradient)
                return mean.clone(), None
            case "rmsprop":
                square.lerp_(gradient**2, 1 - _RMSPROP_DECAY)
                return gradient, square.sqrt().add_(_EPS)
            case "adam":
                first, second = self._betas
                mean.lerp_(gradient, 1 - first)
                square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
                size = (square / (1 - second ** state["step"])).sqrt_().add_(_EPS)
                direction: torch.Tensor = mean / (1 - first ** state["step"])
                return direction, size
