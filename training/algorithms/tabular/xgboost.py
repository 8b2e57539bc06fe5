"""Gradient boosted trees: SageMaker's XGBoost, on the XGBoost library."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.tabular.xgboost_model import FILE, XGBoostModel, library, matrix_of
from training.data import Dataset
from training.errors import (
    DeviceUnavailable,
    FitFailed,
    InvalidData,
    TrainingStopped,
)
from training.hyperparameter import (
    Dependency,
    as_text,
    boolean,
    categorical,
    comma_list,
    continuous,
    integer,
    nested_list,
    tuple_of,
)
from training.run import Run

__all__ = ["XGBoost", "XGBoostModel"]

_CONTENT_TYPES = ("text/csv", "application/x-parquet", "application/vnd.apache.arrow.file")

_MAXIMISE = (
    *("accuracy", "auc", "aucpr", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "map"),
    *("ndcg", "precision", "precision_macro", "precision_micro", "r2", "recall", "recall_macro"),
    "recall_micro",
)
_MINIMISE = (
    *("aft-nloglik", "cox-nloglik", "error", "gamma-deviance", "gamma-nloglik", "logloss", "mae"),
    *("mape", "merror", "mlogloss", "mphe", "mse", "poisson-nloglik", "rmse", "rmsle"),
    "tweedie-nloglik",
)
# The library does not have these; they are computed on its predictions.
_COMPUTED_ON_CLASSES = frozenset(metrics.ON_CLASSES)
_COMPUTED_ON_VALUES = frozenset({"mse", "r2"})
_BINARY_ONLY = frozenset({"f1_binary", "precision", "recall"})

_DART = ("sample_type", "normalize_type", "rate_drop", "one_drop", "skip_drop")
_LINEAR_UPDATERS = ("shotgun", "coord_descent")
_GROWERS = (
    *("grow_colmaker", "distcol", "grow_histmaker", "grow_local_histmaker", "grow_skmaker"),
    "grow_quantile_histmaker",
)
_UPDATERS = tuple(dict.fromkeys((*_GROWERS, "sync", "refresh", "prune", *_LINEAR_UPDATERS)))

_OBJECTIVES = (
    *("reg:squarederror", "reg:linear", "reg:logistic", "reg:gamma", "reg:tweedie"),
    *("reg:absoluteerror", "reg:squaredlogerror", "reg:pseudohubererror"),
    *("binary:logistic", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob"),
    *("count:poisson", "rank:pairwise", "rank:ndcg", "rank:map", "survival:cox", "survival:aft"),
)


@final
@dataclass(frozen=True, kw_only=True)
class XGBoost(Algorithm):
    """Boosted trees for regression, classification, counts and survival.

    Names, defaults and ranges are SageMaker's. What is not set is left to the library, whose value
    is declared as `library`. Text columns are categories, nulls are missing values. On the CPU the
    model does not depend on the number of threads; gblinear and gradient-based sampling run on one
    unless nthread says otherwise.

    Source: Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.

    >>> XGBoost.of({"num_round": "50", "learning_rate": "0.1"}).eta
    0.1
    """

    name: ClassVar = "xgboost"
    model: ClassVar = XGBoostModel
    files: ClassVar = (FILE, "inputs.json")
    libraries: ClassVar[Mapping[str, str]] = {"xgboost": "xgboost"}
    answers: ClassVar = ("application/jsonlines", "text/csv")
    channels: ClassVar = (
        ChannelDeclaration(
            name="train",
            about="what to learn from",
            required=True,
            content_types=_CONTENT_TYPES,
        ),
        ChannelDeclaration(
            name="validation",
            about="what to measure on, and to stop by",
            content_types=_CONTENT_TYPES,
        ),
    )
    metrics: ClassVar = tuple(
        MetricDeclaration(
            name=f"validation:{metric}",
            maximize=metric in _MAXIMISE,
            pattern=rf".*\[[0-9]+\].*#011validation-{re.escape(metric)}:(\S+)",
        )
        for metric in (*_MAXIMISE, *_MINIMISE)
    )
    legacy: ClassVar[Mapping[str, str]] = {
        "sketch_eps": "set max_bin (about 1 / sketch_eps)",
        "predictor": "the job's device decides where to predict",
        "dsplit": "rows are split over hosts",
        "deterministic_histogram": "histograms are deterministic",
        "single_precision_histogram": "histograms use double precision",
        "prob_buffer_row": "it has no effect any more",
        "use_dask_gpu_training": "set the job's device",
    }
    dependencies: ClassVar = (
        Dependency(
            ("objective", "num_class"),
            "num_class >= 2 goes with multi:softmax and multi:softprob, and only with them",
            lambda a: (a.num_class is not None) == a._task.startswith("multi:"),
        ),
        Dependency(
            ("objective",),
            "rank:* needs a query id per row, which channels do not carry yet; use another "
            "objective",
            lambda a: not a._task.startswith("rank:"),
        ),
        Dependency(
            ("objective",),
            "survival:aft needs a lower and an upper label, which channels do not carry yet; use "
            "survival:cox",
            lambda a: a._task != "survival:aft",
        ),
        Dependency(
            ("aft_loss_distribution", "aft_loss_distribution_scale", "objective"),
            "aft_* goes only with survival:aft",
            lambda a: a.aft_loss_distribution is None and a.aft_loss_distribution_scale is None,
        ),
        Dependency(
            ("eval_metric", "objective"),
            "aft-nloglik goes only with survival:aft",
            lambda a: "aft-nloglik" not in a._metric_names,
        ),
        Dependency(
            ("eval_metric", "objective"),
            f"{', '.join(sorted(_COMPUTED_ON_CLASSES))} go only with binary:* and multi:*",
            lambda a: a._is_classifier or not _COMPUTED_ON_CLASSES & a._metric_names,
        ),
        Dependency(
            ("eval_metric", "objective"),
            f"{', '.join(sorted(_BINARY_ONLY))} go only with binary:*",
            lambda a: a._task.startswith("binary:") or not _BINARY_ONLY & a._metric_names,
        ),
        Dependency(
            ("eval_metric", "objective"),
            "mse and r2 do not go with multi:*",
            lambda a: not a._task.startswith("multi:") or not _COMPUTED_ON_VALUES & a._metric_names,
        ),
        Dependency(
            ("booster", "updater"),
            "gblinear takes exactly one of shotgun, coord_descent",
            lambda a: (
                a._booster != "gblinear"
                or a.updater is None
                or (len(a.updater) == 1 and a.updater[0] in _LINEAR_UPDATERS)
            ),
        ),
        Dependency(
            ("booster", "updater"),
            "gbtree and dart take at most one updater that grows trees, and neither shotgun nor "
            "coord_descent",
            lambda a: (
                a._booster == "gblinear"
                or a.updater is None
                or (
                    sum(item in _GROWERS for item in a.updater) <= 1
                    and not set(a.updater) & set(_LINEAR_UPDATERS)
                )
            ),
        ),
        Dependency(
            ("process_type",),
            "process_type=update needs a model to start from, which jobs do not read yet",
            lambda a: a.process_type != "update",
        ),
        Dependency(
            (*_DART, "booster"),
            f"{', '.join(_DART)} go only with booster=dart",
            lambda a: a._booster == "dart" or all(getattr(a, name) is None for name in _DART),
        ),
        Dependency(
            ("early_stopping_rounds", "booster"),
            "early_stopping_rounds does not go with gblinear, which cannot return to its best "
            "round",
            lambda a: a._booster != "gblinear" or a.early_stopping_rounds is None,
        ),
        Dependency(
            ("monotone_constraints", "tree_method"),
            "monotone_constraints goes with tree_method exact, hist or auto",
            lambda a: a.monotone_constraints is None or a.tree_method != "approx",
        ),
        Dependency(
            ("tweedie_variance_power", "objective"),
            "tweedie_variance_power goes only with reg:tweedie",
            lambda a: a.tweedie_variance_power is None or a._task == "reg:tweedie",
        ),
    )

    num_round: int = integer(required=True, low=1, tunable=(1, 4000), about="rounds of boosting")
    num_class: int | None = integer(low=2, about="classes of multi:*, numbered from 0")
    objective: str | None = categorical(
        *_OBJECTIVES, library="reg:squarederror", about="what the trees minimise"
    )
    eta: float | None = continuous(
        low=0,
        high=1,
        library=0.3,
        aliases=("learning_rate",),
        tunable=(0.1, 0.5),
        about="how much each round counts",
    )
    gamma: float | None = continuous(
        low=0,
        library=0.0,
        aliases=("min_split_loss",),
        tunable=(0, 5),
        about="gain a split must bring",
    )
    lambda_: float | None = continuous(
        low=0,
        library=1.0,
        aliases=("reg_lambda",),
        tunable=(0, 1000),
        about="L2 penalty of leaf values",
    )
    alpha: float | None = continuous(
        low=0,
        library=0.0,
        aliases=("reg_alpha",),
        tunable=(0, 1000),
        about="L1 penalty of leaf values",
    )
    max_depth: int | None = integer(
        low=0, library=6, tunable=(0, 10), about="levels of a tree; 0: no limit"
    )
    max_delta_step: float | None = continuous(
        low=0, library=0.0, tunable=(0, 10), about="largest leaf value; 0: no limit"
    )
    min_child_weight: float | None = continuous(
        low=0, library=1.0, tunable=(0, 120), about="sum of second derivatives a leaf needs"
    )
    subsample: float | None = continuous(
        above=0, high=1, library=1.0, tunable=(0.5, 1), about="share of rows per round"
    )
    colsample_bytree: float | None = continuous(
        above=0, high=1, library=1.0, tunable=(0.5, 1), about="share of columns per tree"
    )
    colsample_bylevel: float | None = continuous(
        above=0, high=1, library=1.0, tunable=(0.1, 1), about="share of columns per level"
    )
    colsample_bynode: float | None = continuous(
        above=0, high=1, library=1.0, tunable=(0.1, 1), about="share of columns per split"
    )
    booster: str | None = categorical(
        "gbtree", "gblinear", "dart", library="gbtree", about="what a round adds"
    )
    tree_method: str | None = categorical(
        *("auto", "exact", "approx", "hist", "gpu_hist"),
        library="auto",
        about="how splits are found; gpu_hist means hist on a CUDA device",
    )
    grow_policy: str | None = categorical(
        "depthwise", "lossguide", library="depthwise", about="which node is split next"
    )
    max_leaves: int | None = integer(low=0, library=0, about="leaves of a tree; 0: no limit")
    max_bin: int | None = integer(low=0, library=256, about="bins of a column's histogram")
    sampling_method: str | None = categorical(
        "uniform", "gradient_based", library="uniform", about="how rows are sampled"
    )
    num_parallel_tree: int | None = integer(low=1, library=1, about="trees per round")
    scale_pos_weight: float | None = continuous(
        above=0, library=1.0, about="weight of the rows of class 1"
    )
    base_score: float | None = continuous(
        low=0, about="prediction to start from; not set: the library's own estimate"
    )
    monotone_constraints: tuple[int, ...] | None = tuple_of(
        -1, 0, 1, about="per input column: falling, free, rising"
    )
    interaction_constraints: tuple[tuple[int, ...], ...] | None = nested_list(
        about="groups of input columns that may meet in a tree"
    )
    updater: tuple[str, ...] | None = comma_list(*_UPDATERS, about="steps that change trees")
    process_type: str | None = categorical(
        "default", "update", library="default", about="grow new trees or change given ones"
    )
    refresh_leaf: int | None = integer(
        low=0, high=1, library=1, about="whether the updater refresh changes leaves"
    )
    sample_type: str | None = categorical(
        "uniform", "weighted", library="uniform", about="dart: which trees are dropped"
    )
    normalize_type: str | None = categorical(
        "tree", "forest", library="tree", about="dart: weight of new trees"
    )
    rate_drop: float | None = continuous(
        low=0, high=1, library=0.0, about="dart: share of trees dropped"
    )
    one_drop: int | None = integer(low=0, high=1, library=0, about="dart: drop at least one tree")
    skip_drop: float | None = continuous(
        low=0, high=1, library=0.0, about="dart: chance of dropping none"
    )
    lambda_bias: float | None = continuous(
        0.0,
        low=0,
        high=1,
        refused="the library does not penalise gblinear's bias any more; leave it out",
        about="L2 penalty of gblinear's bias",
    )
    tweedie_variance_power: float | None = continuous(
        above=1, below=2, library=1.5, about="power of reg:tweedie"
    )
    aft_loss_distribution: str | None = categorical(
        "normal", "logistic", "extreme", library="normal", about="noise of survival:aft"
    )
    aft_loss_distribution_scale: float | None = continuous(
        low=0, library=1.0, about="scale of that noise"
    )
    eval_metric: tuple[str, ...] | None = comma_list(
        *_MAXIMISE,
        *_MINIMISE,
        patterns=(r"error@[0-9.]+", r"(ndcg|map)@[0-9]+-?", r"tweedie-nloglik@1\.[0-9]+"),
        about="what is measured each round; not set: by objective; the last one stops early",
    )
    early_stopping_rounds: int | None = integer(
        low=1, about="rounds without improvement on validation after which to stop"
    )
    kfold: int | None = integer(
        name="_kfold",
        low=2,
        refused="cross-validation inside a job is not available yet; train one job per fold",
        about="folds of cross-validation",
    )
    num_cv_round: int | None = integer(
        name="_num_cv_round",
        low=1,
        default=1,
        refused="cross-validation inside a job is not available yet; train one job per fold",
        about="repetitions of cross-validation",
    )
    csv_weights: int | None = integer(
        low=0,
        high=1,
        default=0,
        refused="weights are not read yet; leave it out, or use scale_pos_weight",
        about="whether the second CSV column is a weight",
    )
    save_model_on_termination: bool = boolean(
        default=False, about="whether a job that is stopped keeps the model so far"
    )
    seed: int | None = integer(library=0, about="of the random numbers")
    nthread: int | None = integer(low=1, about="threads; not set: the job's")
    verbosity: int | None = integer(low=0, high=3, library=1, about="how much the library logs")

    @property
    def _task(self) -> str:
        return self.objective or "reg:squarederror"

    @property
    def _booster(self) -> str:
        return self.booster or "gbtree"

    @property
    def _is_classifier(self) -> bool:
        return self._task.startswith(("binary:", "multi:"))

    @property
    def _metric_names(self) -> frozenset[str]:
        return frozenset(name.split("@")[0] for name in self.eval_metric or ())

    @property
    def _takes_histogram(self) -> bool:
        """Whether the method works on the quantile matrix, which is smaller than the data."""
        return (
            self._booster != "gblinear"
            and self.updater is None
            and self.tree_method in (None, "auto", "hist", "gpu_hist")
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tree_method == "gpu_hist":
            warnings.warn(
                "xgboost: tree_method=gpu_hist is now tree_method=hist on the job's CUDA device",
                stacklevel=3,
            )

    @classmethod
    def prepare(cls) -> None:
        """Import XGBoost without scikit-learn and pandas, whose wrappers a job does not use.

        That takes 0.2 instead of 1.4 seconds. Only for a process that is the job's own.
        """
        hidden = {"sklearn"} - sys.modules.keys()
        modules: dict[str, Any] = sys.modules
        # None makes an import fail, which XGBoost takes as: not installed.
        modules.update(dict.fromkeys(hidden))
        try:
            library()
        finally:
            for name in hidden:
                del modules[name]

    def required_channels(self) -> tuple[str, ...]:
        """Require `train`, and `validation` where early stopping needs it."""
        return ("train", "validation") if self.early_stopping_rounds else ("train",)

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> XGBoostModel:
        """Boost `num_round` rounds, or fewer where early stopping ends it at the best round."""
        self.check_channels(["train"] if validation is None else ["train", "validation"])
        xgboost = library()
        self._check_inputs(train)
        named = [("train", train)] + ([("validation", validation)] if validation else [])
        for _, dataset in named:
            self._check_label(dataset)
        params = self._parameters(run)
        reporter = _reporter(xgboost, run, self.num_round)
        log: dict[str, dict[str, list[float]]] = {}
        try:
            evals: list[tuple[Any, str]] = []
            # The library's verbosity is global to the process; do not leave it changed.
            with xgboost.config_context(verbosity=1 if self.verbosity is None else self.verbosity):
                for channel, dataset in named:
                    evals.append((self._matrix(dataset, params, evals), channel))
                booster = xgboost.train(
                    params,
                    evals[0][0],
                    self.num_round,
                    evals=evals,
                    evals_result=log,
                    custom_metric=self._computed_metrics(),
                    verbose_eval=False,
                    callbacks=[reporter, *self._early_stopping(xgboost)],
                )
        except xgboost.core.XGBoostError as error:
            raise FitFailed(f"xgboost: {_reason(error)}", library="xgboost") from error
        if reporter.was_stopped and not self.save_model_on_termination:
            raise TrainingStopped(
                f"stopped after round {booster.num_boosted_rounds()} of {self.num_round}; set "
                "save_model_on_termination to keep the model so far"
            )
        model = XGBoostModel(booster, train.inputs)
        self._report(run, model, log)
        return model

    def _parameters(self, run: Run) -> dict[str, Any]:
        """Return what is set, as the library names it."""
        ours = {"num_round", "early_stopping_rounds", "_kfold", "_num_cv_round", "csv_weights"}
        ours |= {"save_model_on_termination", "eval_metric", "nthread", "seed", "tree_method"}
        ours |= {"lambda_bias", "verbosity"}
        params: dict[str, Any] = {k: v for k, v in self.values().items() if k not in ours}
        if self.objective == "reg:linear":
            params["objective"] = "reg:squarederror"
        for name in ("updater", "interaction_constraints"):
            if name in params:
                params[name] = as_text(params[name])
        if self.monotone_constraints is not None:
            params["monotone_constraints"] = f"({as_text(self.monotone_constraints)})"
        if self.tree_method == "gpu_hist":
            if run.device.kind != "cuda":
                raise DeviceUnavailable(
                    "xgboost: tree_method=gpu_hist needs a CUDA device and the job runs on the "
                    "CPU; use tree_method=hist",
                    device="cuda",
                )
            params["tree_method"] = "hist"
        elif self.tree_method is not None:
            params["tree_method"] = self.tree_method
        native = [self._native_name(name) for name in self.eval_metric or () if _is_native(name)]
        if native:
            params["eval_metric"] = native
        elif self.eval_metric:
            params["disable_default_eval_metric"] = True
        return params | {
            "seed": run.seed if self.seed is None else self.seed,
            "nthread": self.nthread or (run.threads if self._is_thread_safe(run) else 1),
            "device": str(run.device),
        }

    def _is_thread_safe(self, run: Run) -> bool:
        """Whether the model is the same with any number of threads.

        gblinear's updates race, and gradient-based sampling on the CPU sums in no fixed order.
        """
        races = self._booster == "gblinear" or self.sampling_method == "gradient_based"
        return run.device.kind != "cpu" or not races

    def _native_name(self, metric: str) -> str:
        if metric == "tweedie-nloglik":
            return f"tweedie-nloglik@{self.tweedie_variance_power or 1.5}"
        return metric

    def _matrix(
        self, dataset: Dataset, params: Mapping[str, Any], before: Sequence[tuple[Any, str]]
    ) -> Any:
        xgboost = library()
        options = matrix_of(dataset.features, dataset.inputs, channel=dataset.channel)
        options |= {"label": dataset.target, "nthread": params["nthread"]}
        if not self._takes_histogram:
            return xgboost.DMatrix(**options)
        if self.max_bin is not None:
            options["max_bin"] = self.max_bin
        return xgboost.QuantileDMatrix(ref=before[0][0] if before else None, **options)

    def _early_stopping(self, xgboost: Any) -> list[Any]:
        if self.early_stopping_rounds is None:
            return []
        metric = self._native_name(self.eval_metric[-1]) if self.eval_metric else None
        return [
            xgboost.callback.EarlyStopping(
                rounds=self.early_stopping_rounds,
                metric_name=metric,
                data_name="validation",
                maximize=metrics.larger_is_better(metric) if metric else None,
                # Cut the model to its best round: whoever loads the file predicts with that.
                save_best=True,
            )
        ]

    def _computed_metrics(self) -> Callable[[Any, Any], list[tuple[str, float]]] | None:
        computed = [name for name in self.eval_metric or () if not _is_native(name)]
        if not computed:
            return None

        def measure(predicted: npt.NDArray[Any], matrix: Any) -> list[tuple[str, float]]:
            target = matrix.get_label()
            classes = self._classes(predicted)
            return [
                (
                    name,
                    metrics.ON_CLASSES[name](target, classes)
                    if name in metrics.ON_CLASSES
                    else metrics.ON_VALUES[name](target, predicted),
                )
                for name in computed
            ]

        return measure

    def _classes(self, predicted: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if predicted.ndim == 2:
            best: npt.NDArray[np.intp] = predicted.argmax(axis=1)
            return best
        if self._task == "multi:softmax":
            return predicted
        return (predicted > (0.0 if self._task == "binary:logitraw" else 0.5)).astype(np.float32)

    def _check_inputs(self, train: Dataset) -> None:
        text = [column.name for column in train.inputs.columns if column.kind == "category"]
        if text and (self._booster == "gblinear" or self.tree_method == "exact"):
            chosen = "booster=gblinear" if self._booster == "gblinear" else "tree_method=exact"
            raise InvalidData(
                f"train: column {text[0]!r} is text, and {chosen} takes numbers only; use "
                "tree_method=hist, or leave the column out with features=",
                channel="train",
                column=text[0],
            )
        count = train.width if self._is_wide(train) else len(train.inputs.columns)
        if self.monotone_constraints is not None and len(self.monotone_constraints) != count:
            raise self._refuse(
                f"monotone_constraints: expected one number per input column ({count}: "
                f"{', '.join(train.inputs.names)}), got {len(self.monotone_constraints)}",
                "monotone_constraints",
            )
        for number in (n for group in self.interaction_constraints or () for n in group):
            if number >= count:
                raise self._refuse(
                    f"interaction_constraints: expected numbers of input columns from 0 to "
                    f"{count - 1}, got {number}",
                    "interaction_constraints",
                )

    @staticmethod
    def _is_wide(train: Dataset) -> bool:
        """Whether a vector among the inputs makes one matrix of them."""
        return any(column.kind not in ("number", "category") for column in train.inputs.columns)

    def _check_label(self, dataset: Dataset) -> None:
        target = dataset.target
        if target is None:
            raise InvalidData(f"{dataset.channel}: xgboost needs a label", channel=dataset.channel)
        allowed, expected = _labels(self._task, self.num_class)
        wrong = ~allowed(target)
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidData(
                f"{dataset.channel}: label column {dataset.label!r}: {self._task} expects "
                f"{expected}, got {target[row]:g} in row {row + 1}",
                channel=dataset.channel,
                column=dataset.label,
            )

    def _report(
        self, run: Run, model: XGBoostModel, log: Mapping[str, Mapping[str, list[float]]]
    ) -> None:
        """Report the metrics of the model as it is kept, which early stopping may have cut."""
        rounds = model.rounds
        for channel, values in log.items():
            for metric, history in values.items():
                value = history[rounds - 1]
                if rounds < len(history):
                    run.sink.metric(f"{channel}:{metric}", value, step=rounds - 1)
                run.sink.log(metrics.quality_line(f"{channel}:{metric}", value))
        run.sink.property("rounds", rounds)
        importance = model.importance()
        finite = {name: value for name, value in importance.items() if np.isfinite(value)}
        run.sink.property("feature_importance", finite)


def _reporter(xgboost: Any, run: Run, total: int) -> Any:
    """Return the callback that reports each round and ends the fit when the run says so."""

    class Reporter(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        was_stopped = False

        def after_iteration(
            self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, list[float]]]
        ) -> bool:
            line = f"[{epoch}]"
            for channel, values in evals_log.items():
                for metric, history in values.items():
                    run.sink.metric(f"{channel}:{metric}", history[-1], step=epoch)
                    line += f"#011{channel}-{metric}:{history[-1]:.5f}"
            run.sink.log(line)
            run.sink.progress(epoch + 1, total)
            self.was_stopped = epoch + 1 < total and run.should_stop()
            return self.was_stopped

    return Reporter()


def _is_native(metric: str) -> bool:
    return metric not in _COMPUTED_ON_CLASSES | _COMPUTED_ON_VALUES


def _labels(
    objective: str, num_class: int | None
) -> tuple[Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]], str]:
    """Return which labels an objective takes, and that in words."""
    if objective in ("binary:logistic", "binary:logitraw", "reg:logistic"):
        return lambda y: (y >= 0) & (y <= 1), "labels from 0 to 1"
    if objective == "binary:hinge":
        return lambda y: (y == 0) | (y == 1), "labels 0 and 1"
    if objective.startswith("multi:"):
        top = num_class or 2
        return (
            lambda y: (y >= 0) & (y < top) & (y == np.floor(y)),
            f"classes numbered 0 to {top - 1}",
        )
    if objective in ("count:poisson", "reg:tweedie"):
        return lambda y: y >= 0, "labels >= 0"
    if objective == "reg:gamma":
        return lambda y: y > 0, "labels > 0"
    if objective == "reg:squaredlogerror":
        return lambda y: y > -1, "labels > -1"
    return lambda y: np.isfinite(y), "finite numbers"


def _reason(error: Exception) -> str:
    """Return the first line of a library error, without its place in the library's source."""
    first = str(error).strip().splitlines()[0]
    return re.sub(r"^\[[\d:]+\] \S+?:\d+: (Check failed: [^:]*: ?)?", "", first).strip() or first
