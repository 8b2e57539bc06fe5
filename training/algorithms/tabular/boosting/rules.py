"""The words of XGBoost's hyperparameters, and the rules between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from training import metrics
from training.hyperparameter import Dependency

__all__ = [
    "COMPUTED_ON_CLASSES",
    "MAXIMISE",
    "METHODS",
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
METHODS: Final = {
    "grow_colmaker": "exact",
    "grow_histmaker": "approx",
    "grow_quantile_histmaker": "hist",
}
"""Updaters that grow trees, and the tree_method that each is."""
_GONE: Final = ("distcol", "grow_local_histmaker", "grow_skmaker")
_CHANGERS: Final = ("refresh", "prune")
UPDATERS: Final = (*METHODS, *_GONE, "sync", *_CHANGERS, *_LINEAR_UPDATERS)
_SAMPLED: Final = (
    *("subsample", "sampling_method", "colsample_bytree", "colsample_bylevel", "colsample_bynode"),
)
_SHAPES: Final = ("grow_policy", "max_leaves", "max_bin")
_CONSTRAINTS: Final = ("monotone_constraints", "interaction_constraints")
# What gblinear, which has no trees, does not look at.
_OF_TREES: Final = (
    *("gamma", "max_depth", "max_delta_step", "min_child_weight", *_SAMPLED, *_SHAPES),
    *("num_parallel_tree", *_CONSTRAINTS),
)
# What growing a tree looks at, and changing one does not.
_OF_GROWTH: Final = (*_SAMPLED, *_SHAPES, *_CONSTRAINTS, "tree_method")
_WEIGHS_CLASSES: Final = (
    *("binary:logistic", "binary:logitraw", "reg:logistic", "reg:squarederror", "reg:linear"),
    "reg:gamma",
)

OBJECTIVES: Final = (
    *("reg:squarederror", "reg:linear", "reg:logistic", "reg:gamma", "reg:tweedie"),
    *("reg:absoluteerror", "reg:squaredlogerror", "reg:pseudohubererror"),
    *("binary:logistic", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob"),
    *("count:poisson", "rank:pairwise", "rank:ndcg", "rank:map", "survival:cox", "survival:aft"),
)


def is_native(metric: str) -> bool:
    """Whether the library computes a metric itself."""
    return metric not in COMPUTED_ON_CLASSES | _COMPUTED_ON_VALUES


def _are_unset(algorithm: Any, names: Iterable[str]) -> bool:
    return all(getattr(algorithm, name) is None for name in names)


_OBJECTIVE_RULES: Final = (
    Dependency(
        ("objective", "num_class"),
        "num_class >= 2 goes with multi:softmax and multi:softprob, and only with them",
        lambda a: (a.num_class is not None) == a.task.startswith("multi:"),
    ),
    Dependency(
        ("aft_loss_distribution", "aft_loss_distribution_scale", "objective"),
        "aft_* goes only with survival:aft",
        lambda a: (
            a.task == "survival:aft"
            or (a.aft_loss_distribution is None and a.aft_loss_distribution_scale is None)
        ),
    ),
    Dependency(
        ("aft_loss_distribution_scale",),
        "aft_loss_distribution_scale is above 0: noise of scale 0 has no density to fit",
        lambda a: a.aft_loss_distribution_scale != 0,
    ),
    Dependency(
        ("scale_pos_weight", "objective"),
        f"scale_pos_weight goes only with {', '.join(_WEIGHS_CLASSES)}; others do not look at it: "
        "give the rows weights",
        lambda a: a.scale_pos_weight is None or a.task in _WEIGHS_CLASSES,
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
        "aft-nloglik goes only with survival:aft, and is its only one: others measure a label that "
        "is one number",
        lambda a: all((name == "aft-nloglik") == a.is_censored for name in a.metric_names),
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
                sum(item in METHODS for item in a.updater) <= 1
                and not set(a.updater) & set(_LINEAR_UPDATERS)
            )
        ),
    ),
    Dependency(
        ("updater",),
        f"{', '.join(_GONE)} are gone from the library: use grow_colmaker, grow_histmaker or "
        "grow_quantile_histmaker",
        lambda a: not set(a.updater or ()) & set(_GONE),
    ),
    Dependency(
        ("updater", "process_type"),
        "updater begins with one that grows trees, unless process_type=update changes given ones",
        lambda a: (
            a.kind == "gblinear" or a.is_update or a.updater is None or a.updater[0] in METHODS
        ),
    ),
    Dependency(
        ("updater", "tree_method"),
        "the updater that grows trees is the tree_method: "
        + ", ".join(f"{updater} is {method}" for updater, method in METHODS.items()),
        lambda a: (
            a.updater is None
            or a.tree_method in (None, "auto")
            or METHODS.get(a.updater[0], a.tree_method) == a.tree_method
        ),
    ),
    Dependency(
        ("booster", "tree_method", *_OF_TREES),
        f"{', '.join(_OF_TREES)} and a tree_method are for trees, and booster=gblinear has none",
        lambda a: (
            a.kind != "gblinear" or (a.tree_method in (None, "auto") and _are_unset(a, _OF_TREES))
        ),
    ),
    Dependency(
        ("tree_method", "updater", *_SHAPES, "colsample_bynode", "sampling_method", "max_depth"),
        f"tree_method=exact takes no {', '.join(_SHAPES)}, colsample_bynode, max_depth=0 or "
        "sampling_method=gradient_based; use hist",
        lambda a: (
            a.grower != "exact"
            or (
                _are_unset(a, _SHAPES)
                and a.colsample_bynode in (None, 1)
                and a.max_depth != 0
                and a.sampling_method != "gradient_based"
            )
        ),
    ),
    Dependency(
        ("sampling_method", "subsample"),
        "sampling_method=gradient_based takes the share of rows from subsample, below 1",
        lambda a: a.sampling_method != "gradient_based" or (a.subsample or 1) < 1,
    ),
    Dependency(
        ("refresh_leaf", "updater"),
        "refresh_leaf is for the updater refresh",
        lambda a: a.refresh_leaf is None or "refresh" in (a.updater or ()),
    ),
    Dependency(
        ("process_type", *_OF_GROWTH),
        f"process_type=update grows no trees, and so takes no {', '.join(_OF_GROWTH)}",
        lambda a: not a.is_update or _are_unset(a, _OF_GROWTH),
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
