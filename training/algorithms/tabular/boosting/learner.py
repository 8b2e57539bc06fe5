"""XGBoost: SageMaker's hyperparameters of gradient boosted trees, and what a fit does with them."""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration, Model
from training.algorithms.tabular.boosting import folds
from training.algorithms.tabular.boosting.distributed import check_spread, connected
from training.algorithms.tabular.boosting.fitting import boost, check_inputs, kept_checkpoints
from training.algorithms.tabular.boosting.labels import check_labels
from training.algorithms.tabular.boosting.matrix import Rows, library, prepared
from training.algorithms.tabular.boosting.measures import evaluated
from training.algorithms.tabular.boosting.model import FILE, XGBoostModel
from training.algorithms.tabular.boosting.report import Reporter, report_model
from training.algorithms.tabular.boosting.rules import (
    MAXIMISE,
    METHODS,
    MINIMISE,
    OBJECTIVES,
    RULES,
    UPDATERS,
)
from training.data import Dataset
from training.errors import (
    FitFailed,
    InvalidData,
    InvalidHyperparameter,
    InvalidJob,
    TrainingStopped,
)
from training.hyperparameter import (
    boolean,
    categorical,
    comma_list,
    continuous,
    integer,
    nested_list,
    tuple_of,
)
from training.profile import profile, suited
from training.run import Run
from training.streaming import Stream
from training.world import Contributed

__all__ = ["XGBoost"]

_CONTENT_TYPES = (
    *("text/libsvm", "text/csv", "application/x-parquet", "application/x-recordio-protobuf"),
    *("application/jsonlines", "application/vnd.apache.arrow.file"),
)
# As with SageMaker.
_FILE_ONLY = ("text/libsvm",)


@final
@dataclass(frozen=True, kw_only=True)
class XGBoost(Algorithm):
    """Boosted trees for regression, classification, counts, rankings and survival.

    Names, defaults and ranges are SageMaker's. What is not set is left to the library, whose value
    is declared as `library`. Text columns are categories, nulls are missing values. On the CPU the
    model does not depend on the number of threads; gblinear and gradient-based sampling run on one
    unless nthread says otherwise. A fit that goes on from a checkpoint gives the same model as one
    that was not disturbed.

    Source: Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016.

    >>> XGBoost.of({"num_round": "50", "learning_rate": "0.1"}).eta
    0.1
    """

    name: ClassVar = "xgboost"
    model: ClassVar = XGBoostModel
    files: ClassVar = (FILE, "inputs.json")
    hosts: ClassVar = "rows"
    libraries: ClassVar[Mapping[str, str]] = {"xgboost": "xgboost"}
    continues: ClassVar = True
    streams: ClassVar = True
    answers: ClassVar = (
        *("application/jsonlines", "application/json", "text/csv"),
        "application/x-recordio-protobuf",
    )
    channels: ClassVar = (
        ChannelDeclaration(
            name="train",
            about="what to learn from",
            required=True,
            content_types=_CONTENT_TYPES,
            file_only=_FILE_ONLY,
        ),
        ChannelDeclaration(
            name="validation",
            about="what to measure on, and to stop by",
            content_types=_CONTENT_TYPES,
            file_only=_FILE_ONLY,
        ),
    )
    metrics: ClassVar = tuple(
        MetricDeclaration(
            name=f"validation:{metric}",
            maximize=metric in MAXIMISE,
            pattern=rf".*\[[0-9]+\].*#011validation-{re.escape(metric)}:(\S+)",
        )
        for metric in (*MAXIMISE, *MINIMISE)
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
    dependencies: ClassVar = RULES

    num_round: int = integer(required=True, low=1, tunable=(1, 4000), about="rounds of boosting")
    num_class: int | None = integer(low=2, about="classes of multi:*, numbered from 0")
    objective: str | None = categorical(
        *OBJECTIVES, library="reg:squarederror", about="what the trees minimise"
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
    updater: tuple[str, ...] | None = comma_list(*UPDATERS, about="steps that change trees")
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
        *MAXIMISE,
        *MINIMISE,
        patterns=(r"error@[0-9.]+", r"(ndcg|map)@[0-9]+-?", r"tweedie-nloglik@1\.[0-9]+"),
        about="what is measured each round; not set: by objective; the last one stops early",
    )
    early_stopping_rounds: int | None = integer(
        low=1, about="rounds without improvement on validation after which to stop"
    )
    kfold: int | None = integer(
        name="_kfold",
        low=2,
        about="folds of cross-validation",
    )
    num_cv_round: int | None = integer(
        name="_num_cv_round",
        low=1,
        default=1,
        about="repetitions of cross-validation",
    )
    csv_weights: int | None = integer(
        low=0,
        high=1,
        default=0,
        about="whether rows have weights: in the second column of CSV, else in a column weight",
    )
    save_model_on_termination: bool = boolean(
        default=False, about="whether a job that is stopped keeps the model so far"
    )
    seed: int | None = integer(library=0, about="of the random numbers")
    nthread: int | None = integer(low=1, about="threads; not set: the job's")
    verbosity: int | None = integer(low=0, high=3, library=1, about="how much the library logs")
    profile: str = profile(
        "eta, 0.1 from 50 rounds on and 0.05 from 200; and with trees max_depth, 3 below 1,000 "
        "rows and 4 below 5,000"
    )

    @property
    def task(self) -> str:
        """The objective, also where the library's default is meant."""
        return self.objective or "reg:squarederror"

    @property
    def kind(self) -> str:
        """The booster, also where the library's default is meant."""
        return self.booster or "gbtree"

    @property
    def is_classifier(self) -> bool:
        """Whether labels are classes."""
        return self.task.startswith(("binary:", "multi:"))

    @property
    def is_ranking(self) -> bool:
        """Whether rows are ranked within their query."""
        return self.task.startswith("rank:")

    @property
    def is_censored(self) -> bool:
        """Whether labels are intervals that the truth lies in."""
        return self.task == "survival:aft"

    @property
    def intervals(self) -> bool:
        """Whether labels may be intervals."""
        return self.is_censored

    @property
    def grower(self) -> str:
        """How trees are grown: the tree_method, or the updater that it is."""
        words = [METHODS[updater] for updater in self.updater or () if updater in METHODS]
        return words[0] if words else self.tree_method or "auto"

    @property
    def is_update(self) -> bool:
        """Whether the trees of a given model are changed and none are grown."""
        return self.process_type == "update"

    @property
    def metric_names(self) -> frozenset[str]:
        """The metrics asked for, `ndcg@5` as `ndcg`."""
        return frozenset(name.split("@")[0] for name in self.eval_metric or ())

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
        needs_validation = self.early_stopping_rounds is not None and self.kfold is None
        return ("train", "validation") if needs_validation else ("train",)

    def check_channels(self, names: Collection[str]) -> None:
        """Refuse channels that it does not read; `code` with what runs scripts."""
        if "code" in names:
            raise InvalidJob(
                "xgboost: channel 'code' holds a script, and the algorithm runs none: leave the "
                "channel out, or run the script by AlgorithmName=script with sagemaker_program and "
                "sagemaker_submit_directory",
                field="InputDataConfig",
            )
        super().check_channels(names)

    def check_hosts(self, count: int) -> None:
        """Refuse several hosts for what the library cannot spread over them."""
        if count > 1:
            check_spread(self)

    def reading(self) -> Mapping[str, Mapping[str, str]]:
        """Read the second column of CSV as weights where `csv_weights` says so."""
        return {"text/csv": {"weight_size": "1"}} if self.csv_weights else {}

    def beside(self) -> Mapping[str, str]:
        """Read a column `weight` with `csv_weights`, and a column `qid` for rankings."""
        names = {"weight": bool(self.csv_weights), "qid": self.is_ranking}
        return {name: name for name, is_read in names.items() if is_read}

    @property
    def keeps_checkpoints(self) -> bool:
        """All fits that grow trees."""
        return not self.is_update

    @property
    def saves_when_stopped(self) -> bool:
        """Whether save_model_on_termination says so."""
        return self.save_model_on_termination

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> XGBoostModel:
        """Boost `num_round` rounds, or fewer where early stopping ends it at the best round.

        With `run.start`, the rounds go on from that model's, or change its trees. Several
        processes, each with rows of its own, make the same trees.
        """
        return self._fit([train] if validation is None else [train, validation], run)

    def fit_stream(
        self, train: Stream, run: Run, *, validation: Stream | None = None
    ) -> XGBoostModel:
        """Boost on rows that stay on disk, as bins of a histogram in the run's scratch folder.

        The model is that of `fit`, bit for bit where no column has so many values that the
        library's sketch of a part is coarser than the part itself; see the documentation.

        Raises:
            InvalidHyperparameter: some need the rows in memory.
            FitFailed: there is no room in the folder.
        """
        from training.algorithms.tabular.boosting.external import check_streams

        check_streams(self, run)
        named = [train] if validation is None else [train, validation]
        with tempfile.TemporaryDirectory(prefix="xgboost-", dir=run.scratch) as folder:
            return self._fit(named, run, pages=Path(folder))

    def _by_size(self, rows: int) -> dict[str, Any]:
        """Return what the profile auto has for so many rows, and these rounds."""
        if self.is_update:
            return {}
        values: dict[str, Any] = {}
        if self.num_round >= 50:
            values["eta"] = 0.05 if self.num_round >= 200 else 0.1
        if self.kind != "gblinear" and rows < 5000:
            values["max_depth"] = 3 if rows < 1000 else 4
        return values

    def _fit(self, given: Sequence[Rows], run: Run, *, pages: Path | None = None) -> XGBoostModel:
        rows = sum(run.world.gather(len(given[0])))
        return suited(self, self._by_size(rows), run)._boosted(given, run, pages=pages)

    def _boosted(
        self, given: Sequence[Rows], run: Run, *, pages: Path | None = None
    ) -> XGBoostModel:
        self.check_channels(["train", "validation"][: len(given)])
        train = given[0]
        check_inputs(self, train)
        for dataset in given:
            check_labels(dataset, self.task, self.num_class)
            self._check_weights(dataset)
        named = [prepared(self, dataset) for dataset in given]
        xgboost = library()
        try:
            # The library's verbosity is global to the process; do not leave it changed.
            with xgboost.config_context(verbosity=1 if self.verbosity is None else self.verbosity):
                in_memory = [dataset for dataset in named if isinstance(dataset, Dataset)]
                if self.kfold is not None:
                    return folds.fit(self, in_memory, run)
                checkpoints = kept_checkpoints(self, named, run)
                reporter = Reporter(run.sink, self.num_round)
                with connected(run.world):
                    boosted = boost(
                        self, named, run, checkpoints=checkpoints, reporter=reporter, pages=pages
                    )
        except xgboost.core.XGBoostError as error:
            raise FitFailed(f"xgboost: {_reason(error)}", library="xgboost") from error
        if boosted.was_stopped and not self.save_model_on_termination:
            kept = "" if run.checkpoints is None else "; a fit with its checkpoints goes on there"
            raise TrainingStopped(
                f"stopped after round {boosted.rounds} of {boosted.total}; set "
                f"save_model_on_termination to keep the model so far{kept}"
            )
        if not run.world.is_first:
            raise Contributed
        model = XGBoostModel(boosted.booster, train.inputs)
        report_model(run.sink, model, boosted, has_reported=reporter.has_reported)
        return model

    def evaluate(self, model: Model, data: Dataset) -> Mapping[str, float]:
        """Measure a model by `eval_metric`, or by the objective's own metric."""
        assert isinstance(model, XGBoostModel)
        check_labels(data, self.task, self.num_class)
        return evaluated(self, model, prepared(self, data))

    def begun(self, run: Run, train: Rows) -> XGBoostModel | None:
        """Return the model that a run goes on from; None where it starts anew.

        Raises:
            InvalidData: it is another algorithm's, or takes other inputs.
        """
        found = self._gone_on_from(run, train)
        assert found is None or isinstance(found, XGBoostModel)
        return found

    def _check_weights(self, data: Rows) -> None:
        if self.csv_weights and data.weights is None:
            raise InvalidData(
                f"{data.channel}: csv_weights=1 and there are no weights: expected them behind the "
                "label of text/csv, in a column 'weight', or as label:weight of text/libsvm",
                channel=data.channel,
            )

    def refuse(self, message: str, *names: str) -> InvalidHyperparameter:
        """Return the error of hyperparameters that do not suit the data."""
        return self._refuse(message, *names)


def _reason(error: Exception) -> str:
    """Return the first line of a library error, without its place in the library's source."""
    first = str(error).strip().splitlines()[0]
    return re.sub(r"^\[[\d:]+\] \S+?:\d+: (Check failed: [^:]*: ?)?", "", first).strip() or first
