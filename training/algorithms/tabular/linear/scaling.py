"""Mean and deviation of inputs and labels, and weights in the units of the data again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

__all__ = ["Scaling"]


@final
@dataclass(frozen=True, eq=False)
class Scaling:
    """What is taken from a column, and what it is divided by then.

    Attributes:
        shift: (columns,) of float64.
        scale: (columns,), 1 where a column is constant.
    """

    shift: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: Any, *, centre: bool, normalize: bool) -> Self:
        """Measure rows: an array, or a CSR matrix, whose absent values count as zeros."""
        if hasattr(rows, "indptr"):
            mean = np.asarray(rows.mean(axis=0), np.float64).ravel()
            square = np.asarray(rows.multiply(rows).mean(axis=0), np.float64).ravel()
            deviation = np.sqrt(np.maximum(square - mean**2, 0))
        else:
            mean = rows.mean(axis=0, dtype=np.float64)
            deviation = rows.std(axis=0, dtype=np.float64)
        constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1e-30)
        scale = np.where(constant, 1.0, deviation) if normalize else np.ones(len(mean))
        return cls(mean if centre else np.zeros(len(mean)), scale)

    @classmethod
    def none(cls, width: int) -> Self:
        """Return one that changes nothing."""
        return cls(np.zeros(width), np.ones(width))

    def apply(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return dense rows scaled, as a copy."""
        out: npt.NDArray[np.float32] = rows - self.shift.astype(np.float32)
        out = out.astype(np.float32, copy=False)
        out /= self.scale.astype(np.float32)
        return out

    def thin(self, matrix: Any) -> Any:
        """Return sparse rows divided by the scale; what is to be taken from them stays."""
        out = matrix.copy()
        out.data = (out.data / self.scale[out.indices]).astype(np.float32)
        return out

    def unscaled(
        self, weights: npt.NDArray[Any], bias: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return weights (columns, classes) and bias (classes,) for rows as they were."""
        raw = weights.astype(np.float64) / self.scale[:, None]
        return raw, bias.astype(np.float64) - self.shift @ raw
