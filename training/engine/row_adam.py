"""Adam for tables of embeddings: only rows that a step looked up are changed. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import numpy as np
import torch

__all__ = ["RowAdam"]


@final
class RowAdam(torch.optim.Optimizer):
    """Adam that touches only the rows of a table that have a gradient.

    Gradients are sparse, as `torch.nn.functional.embedding(…, sparse=True)` gives them, or dense
    for small parameters. A row's moments decay only when it is looked up (lazy Adam), and so does
    the row itself, by decoupled weight decay. On the CPU the moments of rows that were never looked
    up take no memory.

    Args:
        parameters: tables of (rows, size), or parameters with dense gradients.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second.
        weight_decay: decoupled, of the rows looked up.
        clip: the largest size of a gradient's number; None: any.
        rescale: what gradients are multiplied by first; None: nothing.

    Sources: Kingma and Ba, "Adam", 2015; Loshchilov and Hutter, 2019.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip: float | None = None,
        rescale: float | None = None,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)
        self._betas, self._eps = betas, eps
        self._clip, self._rescale = clip, rescale
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = {
                    "step": 0,
                    "mean": _zeros(parameter),
                    "square": _zeros(parameter),
                }

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Change the rows that have gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, group["lr"], group["weight_decay"])

    def _change(self, parameter: torch.Tensor, lr: float, decay: float) -> None:
        state = self.state[parameter]
        state["step"] += 1
        first, second = self._betas
        given: Any = parameter.grad
        rows: torch.Tensor | None = None
        gradient = given
        if given.is_sparse:
            given = given.coalesce()
            rows, gradient = given.indices()[0], given.values()
        if self._rescale is not None:
            gradient = gradient * self._rescale
        if self._clip is not None:
            gradient = gradient.clamp(-self._clip, self._clip)
        mean = _taken(state["mean"], rows).lerp_(gradient, 1 - first)
        square = _taken(state["square"], rows).mul_(second)
        square.addcmul_(gradient, gradient, value=1 - second)
        _put(state["mean"], rows, mean)
        _put(state["square"], rows, square)
        size = square.div_(1 - second ** state["step"]).sqrt_().add_(self._eps)
        change = mean.div_(1 - first ** state["step"]).div_(size).mul_(lr)
        kept = _taken(parameter, rows)
        if decay:
            change.add_(kept, alpha=lr * decay)
        _put(parameter, rows, kept.sub_(change))


def _taken(table: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    """Return a copy of these rows, or of all."""
    return table.clone() if rows is None else table.index_select(0, rows)


def _put(table: torch.Tensor, rows: torch.Tensor | None, values: torch.Tensor) -> None:
    if rows is None:
        table.copy_(values)
    else:
        table.index_copy_(0, rows, values)


def _zeros(parameter: torch.Tensor) -> torch.Tensor:
    if parameter.device.type == "cpu" and parameter.dtype == torch.float32:
        # NumPy asks the system for zeroed pages, which take no memory until they are written to.
        return torch.from_numpy(np.zeros(tuple(parameter.shape), np.float32))
    return torch.zeros_like(parameter)
