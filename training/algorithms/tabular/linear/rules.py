"""The losses of Linear Learner, and the rules between its hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from training.hyperparameter import Dependency

__all__ = ["BINARY", "LOSSES", "REGRESSION", "RULES", "SMOOTH", "STEPS"]

BINARY: Final = ("logistic", "hinge_loss")
REGRESSION: Final = (
    *("squared_loss", "absolute_loss", "eps_insensitive_squared_loss"),
    *("eps_insensitive_absolute_loss", "quantile_loss", "huber_loss"),
)
LOSSES: Final = {
    "binary_classifier": BINARY,
    "multiclass_classifier": ("softmax_loss",),
    "regressor": REGRESSION,
}

SMOOTH: Final = ("logistic", "softmax_loss", "squared_loss", "huber_loss")
"""Losses that a solver which sees all rows takes."""

_SCHEDULE: Final[Mapping[str, Any]] = dict.fromkeys(
    ("lr_scheduler_step", "lr_scheduler_factor", "lr_scheduler_minimum_lr"), "auto"
)
_OF_BIAS: Final[Mapping[str, Any]] = {
    "bias_lr_mult": "auto",
    "bias_wd_mult": "auto",
    "init_bias": 0,
}
_OF_STEPS: Final[Mapping[str, Any]] = {
    "learning_rate": "auto",
    "mini_batch_size": 1000,
    "use_lr_scheduler": True,
    **_SCHEDULE,
    "bias_lr_mult": "auto",
    "bias_wd_mult": "auto",
    "early_stopping_patience": 3,
    "early_stopping_tolerance": 0.001,
}
STEPS: Final = frozenset({*_OF_STEPS, "epochs"})
"""What says how steps are taken, and a solver that sees all rows does not look at."""


def _are_default(algorithm: Any, defaults: Mapping[str, Any]) -> bool:
    return all(getattr(algorithm, name) == value for name, value in defaults.items())


def _only(names: tuple[str, ...], with_: str, values: tuple[str, ...]) -> Dependency:
    """Say that some hyperparameters go only with some values of another."""
    go = "go" if len(names) > 1 else "goes"
    return Dependency(
        (*names, with_),
        f"{', '.join(names)} {go} only with {with_} {', '.join(values)}",
        lambda a: (
            all(getattr(a, name) in (None, "auto") for name in names)
            or getattr(a, f"chosen_{with_}", getattr(a, with_)) in values
        ),
    )


RULES: Final = (
    Dependency(
        ("predictor_type", "num_classes"),
        "num_classes goes with predictor_type multiclass_classifier, and only with it",
        lambda a: (a.num_classes is not None) == (a.predictor_type == "multiclass_classifier"),
    ),
    Dependency(
        ("predictor_type", "loss"),
        "loss is logistic or hinge_loss for two classes, softmax_loss for several, and "
        f"{', '.join(REGRESSION)} for regression",
        lambda a: a.loss == "auto" or a.loss in LOSSES[a.predictor_type],
    ),
    _only(("margin",), "loss", ("hinge_loss",)),
    _only(
        ("loss_insensitivity",),
        "loss",
        ("eps_insensitive_squared_loss", "eps_insensitive_absolute_loss"),
    ),
    _only(("huber_delta",), "loss", ("huber_loss",)),
    _only(("quantile",), "loss", ("quantile_loss",)),
    _only(("momentum",), "optimizer", ("sgd",)),
    _only(("beta_1", "beta_2"), "optimizer", ("adam",)),
    _only(("init_scale",), "init_method", ("uniform",)),
    _only(("init_sigma",), "init_method", ("normal",)),
    _only(("normalize_label", "unbias_label"), "predictor_type", ("regressor",)),
    Dependency(
        ("unbias_data", "unbias_label", "use_bias"),
        "unbias_data and unbias_label need use_bias",
        lambda a: a.use_bias or (a.unbias_data is not True and a.unbias_label is not True),
    ),
    Dependency(
        ("binary_classifier_model_selection_criteria", "predictor_type"),
        "binary_classifier_model_selection_criteria goes only with binary_classifier",
        lambda a: (
            a.predictor_type == "binary_classifier"
            or a.binary_classifier_model_selection_criteria is None
        ),
    ),
    Dependency(
        ("binary_classifier_model_selection_criteria", "loss"),
        "cross_entropy_loss needs loss=logistic, whose scores are probabilities",
        lambda a: a.criterion != "cross_entropy_loss" or a.chosen_loss == "logistic",
    ),
    Dependency(
        ("target_precision", "binary_classifier_model_selection_criteria"),
        "target_precision goes only with recall_at_target_precision",
        lambda a: a.target_precision is None or a.criterion == "recall_at_target_precision",
    ),
    Dependency(
        ("target_recall", "binary_classifier_model_selection_criteria"),
        "target_recall goes only with precision_at_target_recall",
        lambda a: a.target_recall is None or a.criterion == "precision_at_target_recall",
    ),
    Dependency(
        ("positive_example_weight_mult", "predictor_type"),
        "positive_example_weight_mult goes only with binary_classifier",
        lambda a: a.positive_example_weight_mult == 1 or a.predictor_type == "binary_classifier",
    ),
    Dependency(
        ("balance_multiclass_weights", "predictor_type"),
        "balance_multiclass_weights goes only with multiclass_classifier",
        lambda a: not a.balance_multiclass_weights or a.predictor_type == "multiclass_classifier",
    ),
    Dependency(
        ("optimizer", "loss", "l1"),
        f"lbfgs takes a smooth loss ({', '.join(SMOOTH)}) and no l1",
        lambda a: a.optimizer != "lbfgs" or (a.chosen_loss in SMOOTH and a.l1 in ("auto", 0)),
    ),
    Dependency(
        ("optimizer", *_OF_STEPS),
        "lbfgs sees all rows in each step and ends by itself, and so takes no "
        f"{', '.join(_OF_STEPS)}",
        lambda a: a.optimizer != "lbfgs" or _are_default(a, _OF_STEPS),
    ),
    Dependency(
        ("use_lr_scheduler", *_SCHEDULE),
        f"{', '.join(_SCHEDULE)} go only with use_lr_scheduler",
        lambda a: a.use_lr_scheduler or _are_default(a, _SCHEDULE),
    ),
    Dependency(
        ("use_bias", *_OF_BIAS),
        f"{', '.join(_OF_BIAS)} go only with use_bias",
        lambda a: a.use_bias or _are_default(a, _OF_BIAS),
    ),
    Dependency(
        ("accuracy_top_k", "predictor_type"),
        "accuracy_top_k goes only with multiclass_classifier",
        lambda a: a.accuracy_top_k == 3 or a.predictor_type == "multiclass_classifier",
    ),
    Dependency(
        ("f_beta", "predictor_type"),
        "f_beta goes only with classifiers",
        lambda a: a.f_beta == 1 or a.predictor_type != "regressor",
    ),
)
