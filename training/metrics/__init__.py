"""Metrics, vectorised, equal to scikit-learn's, and the lines a job prints.

Labels and predictions come as arrays of n rows, each function returns one float. Classes are given
as labels (`accuracy`, `f1` …) or as probabilities or scores (`auc`, `logloss` …). Where a class has
no member or no prediction its precision or recall is 0, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from training.metrics.classification import (
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    confusion_matrix,
    cross_entropy,
    f1,
    f1_binary,
    f_beta,
    f_beta_macro,
    logloss,
    precision,
    precision_macro,
    precision_micro,
    precision_recall_curve,
    recall,
    recall_macro,
    recall_micro,
    roc_curve,
    top_k_accuracy,
)
from training.metrics.clustering import (
    adjusted_rand_index,
    normalized_mutual_information,
)
from training.metrics.lines import (
    larger_is_better,
    progress_line,
    quality_line,
)
from training.metrics.ranking import (
    dcg,
    mean_average_precision,
    ndcg,
)
from training.metrics.regression import (
    mae,
    mape,
    mse,
    r2,
    rmse,
)
from training.metrics.topics import (
    npmi,
    top_words,
    topic_uniqueness,
    wetc,
)

__all__ = [
    "ON_CLASSES",
    "ON_VALUES",
    "accuracy",
    "adjusted_rand_index",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "confusion_matrix",
    "cross_entropy",
    "dcg",
    "f1",
    "f1_binary",
    "f_beta",
    "f_beta_macro",
    "larger_is_better",
    "logloss",
    "mae",
    "mape",
    "mean_average_precision",
    "mse",
    "ndcg",
    "normalized_mutual_information",
    "npmi",
    "precision",
    "precision_macro",
    "precision_micro",
    "precision_recall_curve",
    "progress_line",
    "quality_line",
    "r2",
    "recall",
    "recall_macro",
    "recall_micro",
    "rmse",
    "roc_curve",
    "top_k_accuracy",
    "top_words",
    "topic_uniqueness",
    "wetc",
]

Array = npt.NDArray[Any]

ON_CLASSES: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "f1_binary": f1_binary,
    "f1_macro": f1,
    "precision": precision,
    "precision_macro": precision_macro,
    "precision_micro": precision_micro,
    "recall": recall,
    "recall_macro": recall_macro,
    "recall_micro": recall_micro,
}
"""Metrics of predicted classes, by SageMaker's names."""

ON_VALUES: Mapping[str, Callable[[Array, Array], float]] = {
    "mae": mae,
    "mape": mape,
    "mse": mse,
    "r2": r2,
    "rmse": rmse,
}
"""Metrics of predicted values, by SageMaker's names."""
