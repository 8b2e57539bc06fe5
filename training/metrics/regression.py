"""Metrics of predicted values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["mae", "mape", "mse", "r2", "rmse"]

Array = npt.NDArray[Any]


def mse(target: Array, predicted: Array) -> float:
    """Mean squared error."""
    return float(np.mean(_error(target, predicted) ** 2))


def rmse(target: Array, predicted: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(mse(target, predicted)))


def mae(target: Array, predicted: Array) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(_error(target, predicted))))


def mape(target: Array, predicted: Array) -> float:
    """Mean absolute error relative to the label, as a fraction."""
    size = np.maximum(np.abs(np.asarray(target, np.float64)), np.finfo(np.float64).eps)
    return float(np.mean(np.abs(_error(target, predicted)) / size))


def r2(target: Array, predicted: Array) -> float:
    """Share of the label's variance that is explained; for constant labels 1 when exact, else 0."""
    target = np.asarray(target, np.float64)
    residual = float(np.sum(_error(target, predicted) ** 2))
    total = float(np.sum((target - target.mean()) ** 2))
    if total == 0:
        return float(residual == 0)
    return 1 - residual / total


def _error(target: Array, predicted: Array) -> Array:
    return np.asarray(target, np.float64) - np.asarray(predicted, np.float64)
