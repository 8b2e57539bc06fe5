"""The words of XGBoost's hyperparameters, and the rules between them."""

from __future__ import annotations

from typing import Final

from training import metrics
from training.hyperparameter import Dependency

__all__ = [
    "COMPUTED_ON_CLASSES",
    "MAXIMISE",
    "MINIMISE",
    "OBJECTIVES",
    "RULES",
    "UPDATERS",
    "is_native",
]

MAXIMISE: Final = (
    *("accuracy", "auc", "aucpr", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "map"),
    *("ndcg", "precision", "precision_macro", "precision_micro", "r2", "recall", "recall_macro"),
    "recall_micro",
)
MINIMISE: Final = (
    *("aft-nloglik", "cox-nloglik", "error", "gamma-deviance", "gamma-nloglik", "logloss", "mae"),
    *("mape", "merror", "mlogloss", "mphe", "mse", "poisson-nloglik", "rmse", "rmsle"),
    "tweedie-nloglik",
)
# The library does not have these; they are computed on its predictions.
COMPUTED_ON_CLASSES: Final = frozenset(metrics.ON_CLASSES)
_COMPUTED_ON_VALUES: Final = frozenset({"mse", "r2"})
_BINARY_ONLY: Final = frozenset({"f1_binary", "precision", "recall"})

_DART: Final = ("sample_type", "normalize_type", "rate_drop", "one_drop", "skip_drop")
_LINEAR_UPDATERS: Final = ("shotgun", "coord_descent")
_GROWERS: Final = (
    *("grow_colmaker", "distcol", "grow_histmaker", "grow_local_histmaker", "grow_skmaker"),
    "grow_quantile_histmaker",
)
_CHANGERS: Final = ("refresh", "prune")
UPDATERS: Final = tuple(dict.fromkeys((*_GROWERS, "sync", *_CHANGERS, *_LINEAR_UPDATERS)))

OBJECTIVES: Final = (
    *("reg:squarederror", "reg:linear", "reg:logistic", "reg:gamma", "reg:tweedie"),
    *("reg:absoluteerror", "reg:squaredlogerror", "reg:pseudohubererror"),
    *("binary:logistic", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob"),
    *("count:poisson", "rank:pairwise", "rank:ndcg", "rank:map", "survival:cox", "survival:aft"),
)


def is_native(metric: str) -> bool:
    """Whether the library computes a metric itself."""
    return metric not in COMPUTED_ON_CLASSES | _COMPUTED_ON_VALUES


_OBJECTIVE_RULES: Final = (
    Dependency(
        ("objective", "num_class"),
        "num_class >= 2 goes with multi:softmax and multi:softprob, and only with them",
        lambda a: (a.num_class is not None) == a.task.startswith("multi:"),
    ),
    Dependency(
        ("objective",),
        "survival:aft needs a lower and an upper label, and a channel carries one; use "
        "survival:cox",
        lambda a: a.task != "survival:aft",
    ),
    Dependency(
        ("aft_loss_distribution", "aft_loss_distribution_scale", "objective"),
        "aft_* goes only with survival:aft",
        lambda a: a.aft_loss_distribution is None and a.aft_loss_distribution_scale is None,
    ),
    Dependency(
        ("tweedie_variance_power", "objective"),
        "tweedie_variance_power goes only with reg:tweedie",
        lambda a: a.tweedie_variance_power is None or a.task == "reg:tweedie",
    ),
)

_METRIC_RULES: Final = (
    Dependency(
        ("eval_metric", "objective"),
        "aft-nloglik goes only with survival:aft",
        lambda a: "aft-nloglik" not in a.metric_names,
    ),
    Dependency(
        ("eval_metric", "objective"),
        f"{', '.join(sorted(COMPUTED_ON_CLASSES))} go only with binary:* and multi:*",
        lambda a: a.is_classifier or not COMPUTED_ON_CLASSES & a.metric_names,
    ),
    Dependency(
        ("eval_metric", "objective"),
        f"{', '.join(sorted(_BINARY_ONLY))} go only with binary:*",
        lambda a: a.task.startswith("binary:") or not _BINARY_ONLY & a.metric_names,
    ),
    Dependency(
        ("eval_metric", "objective"),
        "mse and r2 do not go with multi:*",
        lambda a: not a.task.startswith("multi:") or not _COMPUTED_ON_VALUES & a.metric_names,
    ),
)

_BOOSTER_RULES: Final = (
    Dependency(
        ("booster", "updater"),
        "gblinear takes exactly one of shotgun, coord_descent",
        lambda a: (
            a.kind != "gblinear"
            or a.updater is None
            or (len(a.updater) == 1 and a.updater[0] in _LINEAR_UPDATERS)
        ),
    ),
    Dependency(
        ("booster", "updater"),
        "gbtree and dart take at most one updater that grows trees, and neither shotgun nor "
        "coord_descent",
        lambda a: (
            a.kind == "gblinear"
            or a.updater is None
            or (
                sum(item in _GROWERS for item in a.updater) <= 1
                and not set(a.updater) & set(_LINEAR_UPDATERS)
            )
        ),
    ),
    Dependency(
        ("process_type", "updater"),
        "process_type=update changes the trees of a model with updater refresh, prune or both",
        lambda a: not a.is_update or (a.updater and set(a.updater) <= set(_CHANGERS)),
    ),
    Dependency(
        ("process_type", "booster"),
        "process_type=update goes only with booster=gbtree",
        lambda a: not a.is_update or a.kind == "gbtree",
    ),
    Dependency(
        (*_DART, "booster"),
        f"{', '.join(_DART)} go only with booster=dart",
        lambda a: a.kind == "dart" or all(getattr(a, name) is None for name in _DART),
    ),
    Dependency(
        ("monotone_constraints", "tree_method"),
        "monotone_constraints goes with tree_method exact, hist or auto",
        lambda a: a.monotone_constraints is None or a.tree_method != "approx",
    ),
)

_ROUND_RULES: Final = (
    Dependency(
        ("early_stopping_rounds", "booster"),
        "early_stopping_rounds does not go with gblinear, which cannot return to its best round",
        lambda a: a.kind != "gblinear" or a.early_stopping_rounds is None,
    ),
    Dependency(
        ("early_stopping_rounds", "process_type"),
        "early_stopping_rounds does not go with process_type=update, which grows no trees",
        lambda a: not a.is_update or a.early_stopping_rounds is None,
    ),
    Dependency(
        ("_kfold", "process_type"),
        "_kfold does not go with process_type=update, which starts from one model",
        lambda a: not a.is_update or a.kfold is None,
    ),
    Dependency(
        ("_kfold", "_num_cv_round"),
        "_num_cv_round repeats the folds of _kfold, and needs it",
        lambda a: a.kfold is not None or a.num_cv_round in (None, 1),
    ),
)

RULES: Final = (*_OBJECTIVE_RULES, *_METRIC_RULES, *_BOOSTER_RULES, *_ROUND_RULES)
