"""The models of one fit as one torch module, with what each was at its best. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["LinearModels"]

_ROWS = 65_536


@final
class LinearModels(torch.nn.Module):
    """Linear scores of `models` models with `classes` scores each.

    The best weights of each model, the value that made them best and the epochs since are buffers,
    so that a checkpoint has them.

    Args:
        start: (columns, models * classes), the weights to begin with.
        bias: (models * classes,); None: there is none.
        models: how many.
        shift: (columns,), what is taken from sparse rows, already scaled; None: nothing.
    """

    best_weights: torch.Tensor
    best_bias: torch.Tensor
    best_value: torch.Tensor
    counted_value: torch.Tensor
    waited: torch.Tensor
    shift: torch.Tensor | None

    def __init__(
        self,
        start: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        models: int,
        shift: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.models = models
        self.weights = torch.nn.Parameter(start)
        self.bias = None if bias is None else torch.nn.Parameter(bias)
        self.register_buffer("shift", shift)
        self.register_buffer("best_weights", start.clone())
        self.register_buffer("best_bias", torch.zeros(start.shape[1], device=start.device))
        if bias is not None:
            self.best_bias.copy_(bias)
        self.register_buffer("best_value", torch.full((models,), torch.inf, dtype=torch.float64))
        self.register_buffer("counted_value", self.best_value.clone())
        self.register_buffer("waited", torch.zeros(models, dtype=torch.int64))

    def forward(self, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return scores (rows, models, classes) of dense rows, or of indices, offsets, values."""
        if len(batch) == 1:
            scores = batch[0] @ self.weights
        else:
            indices, offsets, values = batch
            scores = torch.nn.functional.embedding_bag(
                indices, self.weights, offsets, mode="sum", per_sample_weights=values
            )
        bias = self._offset()
        if bias is not None:
            scores = scores + bias
        return scores.view(len(scores), self.models, -1)

    def _offset(self) -> torch.Tensor | None:
        if self.shift is None:
            return self.bias
        moved = -(self.shift @ self.weights)
        return moved if self.bias is None else self.bias + moved

    @torch.no_grad()
    def keep(self, values: npt.NDArray[np.float64], *, tolerance: float) -> None:
        """Keep the weights of the models that are better than ever.

        Args:
            values: (models,), smaller is better.
            tolerance: by how much, relatively, a model must improve for its patience to begin anew.
        """
        now = torch.from_numpy(np.where(np.isfinite(values), values, np.inf))
        best, counted = self.best_value.cpu(), self.counted_value.cpu()
        scale = torch.where(torch.isfinite(counted), counted.abs(), torch.zeros_like(counted))
        # Small gains add up: each is measured from the last one that counted.
        improved = now < counted - tolerance * scale
        better = (now < best).to(self.weights.device)
        columns = better.repeat_interleave(self.weights.shape[1] // self.models)
        self.best_weights[:, columns] = self.weights[:, columns]
        if self.bias is not None:
            self.best_bias[columns] = self.bias[columns]
        self.best_value.copy_(torch.minimum(now, best))
        self.counted_value.copy_(torch.where(improved, now, counted))
        waited = torch.where(improved, torch.zeros_like(self.waited.cpu()), self.waited.cpu() + 1)
        self.waited.copy_(waited)

    @torch.no_grad()
    def scores(self, rows: Any, *, best: bool = False) -> npt.NDArray[np.float32]:
        """Return scores (rows, models, classes) of a dense or CSR matrix, scaled as in training."""
        weights: torch.Tensor = self.best_weights if best else self.weights
        bias = self.best_bias if best else self.bias
        if self.shift is not None:
            moved = self.shift @ weights
            bias = -moved if bias is None else bias - moved
        parts = []
        for start in range(0, rows.shape[0], _ROWS):
            part = rows[start : start + _ROWS]
            if hasattr(part, "indptr"):
                answered = torch.from_numpy(part @ weights.cpu().numpy())
                answered = answered.to(weights.device)
            else:
                answered = torch.as_tensor(part, device=weights.device) @ weights
            parts.append((answered if bias is None else answered + bias).cpu().numpy())
        scored: npt.NDArray[np.float32] = np.concatenate(parts)
        return scored.reshape(len(scored), self.models, -1)

    def state(self) -> Mapping[str, Any]:
        """Return the best weights (columns, models, classes) and bias (models, classes)."""
        classes = self.weights.shape[1] // self.models
        return {
            "weights": self.best_weights.cpu().numpy().reshape(-1, self.models, classes),
            "bias": self.best_bias.cpu().numpy().reshape(self.models, classes),
        }
