"""Hyperparameters as the library's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from training.algorithms.tabular.boosting.rules import is_native
from training.errors import DeviceUnavailable
from training.hyperparameter import as_text
from training.run import Run

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost

__all__ = ["draws", "native_name", "parameters", "takes_histogram", "threads"]

_OURS: Final = frozenset(
    {
        *("num_round", "early_stopping_rounds", "_kfold", "_num_cv_round", "csv_weights"),
        *("save_model_on_termination", "eval_metric", "nthread", "seed", "tree_method"),
        *("lambda_bias", "verbosity", "profile"),
    }
)


def parameters(algorithm: XGBoost, run: Run) -> dict[str, Any]:
    """Return what is set, as the library names it.

    Raises:
        DeviceUnavailable: gpu_hist on the CPU.
    """
    params: dict[str, Any] = {k: v for k, v in algorithm.values().items() if k not in _OURS}
    if algorithm.objective == "reg:linear":
        params["objective"] = "reg:squarederror"
    for name in ("updater", "interaction_constraints"):
        if name in params:
            params[name] = as_text(params[name])
    if algorithm.monotone_constraints is not None:
        params["monotone_constraints"] = f"({as_text(algorithm.monotone_constraints)})"
    if algorithm.tree_method == "gpu_hist":
        if run.device.kind != "cuda":
            raise DeviceUnavailable(
                "xgboost: tree_method=gpu_hist needs a CUDA device and the job runs on the "
                "CPU; use tree_method=hist",
                device="cuda",
            )
        params["tree_method"] = "hist"
    elif algorithm.tree_method is not None:
        params["tree_method"] = algorithm.tree_method
    metrics = algorithm.eval_metric or ()
    native = [native_name(algorithm, name) for name in metrics if is_native(name)]
    if native:
        params["eval_metric"] = native
    elif metrics:
        params["disable_default_eval_metric"] = True
    return params | {
        "seed": run.seed if algorithm.seed is None else algorithm.seed,
        "nthread": threads(algorithm, run),
        "device": str(run.device),
    }


def threads(algorithm: XGBoost, run: Run) -> int:
    """Return how many threads a fit uses: one where more would give another model.

    gblinear's updates race, and gradient-based sampling on the CPU sums in no fixed order.
    """
    races = algorithm.kind == "gblinear" or algorithm.sampling_method == "gradient_based"
    return algorithm.nthread or (1 if races and run.device.kind == "cpu" else run.threads)


def native_name(algorithm: XGBoost, metric: str) -> str:
    """Return the library's name of a metric."""
    if metric == "tweedie-nloglik":
        return f"tweedie-nloglik@{algorithm.tweedie_variance_power or 1.5}"
    return metric


def takes_histogram(algorithm: XGBoost) -> bool:
    """Whether the method works on the quantile matrix, which is smaller than the data."""
    return (
        algorithm.kind != "gblinear"
        and algorithm.updater is None
        and algorithm.tree_method in (None, "auto", "hist", "gpu_hist")
    )


def draws(algorithm: XGBoost) -> bool:
    """Whether a fit draws random numbers each round, from the library's one stream of them."""
    shares = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")
    return algorithm.kind != "gblinear" and (
        any((getattr(algorithm, name) or 1) < 1 for name in shares)
        or algorithm.kind == "dart"
        or algorithm.sampling_method == "gradient_based"
    )
