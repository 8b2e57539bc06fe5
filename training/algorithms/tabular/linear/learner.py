"""Linear Learner: what it takes, and how a fit goes from data to the best of many models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.tabular.linear.grid import Candidate, candidates
from training.algorithms.tabular.linear.model import FILES, LinearModel, PredictorType
from training.algorithms.tabular.linear.rules import (
    BINARY,
    LOSSES,
    REGRESSION,
    RULES,
    SMOOTH,
    STEPS,
)
from training.algorithms.tabular.linear.scaling import Scaling
from training.algorithms.tabular.linear.selection import CRITERIA, Choice, choose
from training.data import Dataset
from training.errors import InvalidData, InvalidJob
from training.hyperparameter import boolean, categorical, continuous, integer
from training.profile import profile, suited
from training.run import Run

__all__ = ["LinearLearner"]

Array = npt.NDArray[Any]

_MODELS = 32
_MOST_WEIGHTS = 200_000_000
_CALIBRATION_ROWS = 100_000
_SOLVED_COLUMNS, _SOLVED_VALUES = 2000, 20_000_000
_AUTO_ROWS, _AUTO_SMALL = 2_000_000, 20_000
_MOST_SHIFTED = 10_000
"""Columns of sparse data above which their mean is not taken from them unless asked for."""

_TYPES = (
    *("text/csv", "application/x-recordio-protobuf", "application/x-parquet"),
    *("application/vnd.apache.arrow.file", "application/jsonlines", "text/libsvm"),
)
_CLASS = ("binary_classification_accuracy", "binary_f_beta", "precision", "recall", "roc_auc_score")
_CLASSES = (
    *("multiclass_accuracy", "multiclass_top_k_accuracy", "dcg"),
    *("macro_f_beta", "macro_precision", "macro_recall"),
)
_VALUES = ("absolute_loss", "mse", "rmse")
_METRICS = ("objective_loss", *_CLASS, *_CLASSES, *_VALUES)
_AUTO = ("auto",)


@final
@dataclass(frozen=True, kw_only=True)
class LinearLearner(Algorithm):
    """Linear and logistic regression, many models in one pass over the data.

    `num_models` models learn side by side, the first with the hyperparameters given, the others
    with neighbouring learning rates and regularisation; the best by validation is kept. Inputs are
    scaled in training; the model's weights are for inputs as they come.

    Sources: Kingma and Ba, "Adam", 2015; Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", 2019.

    >>> LinearLearner.of({"predictor_type": "regressor", "wd": "auto"}).mini_batch_size
    1000
    """

    name: ClassVar = "linear-learner"
    continues: ClassVar = True
    model: ClassVar = LinearModel
    files: ClassVar = FILES
    libraries: ClassVar[Mapping[str, str]] = {"torch": "torch"}
    hosts: ClassVar = "steps"
    float32_only: ClassVar = ""
    answers: ClassVar = (
        *("application/json", "application/jsonlines", "text/csv"),
        "application/x-recordio-protobuf",
    )
    channels: ClassVar = (
        ChannelDeclaration(
            name="train", about="what to learn from", required=True, content_types=_TYPES
        ),
        ChannelDeclaration(
            name="validation", about="what to choose the model by", content_types=_TYPES
        ),
        ChannelDeclaration(
            name="test", about="what the model is measured on", content_types=_TYPES
        ),
    )
    metrics: ClassVar = tuple(
        MetricDeclaration(
            name=f"{channel}:{name}",
            maximize=metrics.larger_is_better(name),
            pattern=rf"#quality_metric: host=\S+, {channel} {name} <\w+>=(\S+)",
        )
        for channel in ("validation", "test")
        for name in _METRICS
    )
    dependencies: ClassVar = RULES

    predictor_type: PredictorType = categorical(  # noqa: RUF009 - a field, as its neighbours
        *LOSSES, required=True, about="what is predicted: one of two classes, of several, a value"
    )
    num_classes: int | None = integer(
        low=3, high=1_000_000, about="classes, numbered from 0, of multiclass_classifier"
    )
    feature_dim: int | str = integer("auto", above=0, words=_AUTO, about="columns of the data")
    epochs: int = integer(
        15, above=0, about="passes over the data, at most; of lbfgs its steps, if more than 100"
    )
    mini_batch_size: int = integer(1000, above=0, tunable=(100, 5000), about="rows of a step")
    loss: str = categorical(
        "auto",
        *BINARY,
        "softmax_loss",
        *REGRESSION,
        default="auto",
        about="what is minimised; auto: logistic, softmax_loss, squared_loss",
    )
    margin: float | None = continuous(low=0, library=1.0, about="of hinge_loss")
    loss_insensitivity: float | None = continuous(
        above=0, library=0.01, about="errors up to this count nothing in the eps_insensitive losses"
    )
    huber_delta: float | None = continuous(
        low=0, library=1.0, about="error from which huber_loss grows linearly"
    )
    quantile: float | None = continuous(
        above=0, below=1, library=0.5, about="share of labels to be below the score"
    )
    optimizer: str = categorical(
        *("auto", "sgd", "adam", "rmsprop", "lbfgs"),
        default="auto",
        about="auto: adam; lbfgs sees all rows at once, for up to some thousand columns",
    )
    learning_rate: float | str = continuous(
        "auto",
        above=0,
        words=_AUTO,
        tunable=(1e-5, 1.0, (), "Logarithmic"),
        about="size of the first steps; auto: by their number",
    )
    wd: float | str = continuous(
        "auto",
        low=0,
        words=_AUTO,
        tunable=(1e-7, 1.0, (), "Logarithmic"),
        about="weight decay; auto: by the number of rows",
    )
    l1: float | str = continuous(
        "auto",
        low=0,
        words=_AUTO,
        tunable=(1e-7, 1.0, (), "Logarithmic"),
        about="L1 threshold, which makes weights zero; auto: none and little",
    )
    momentum: float | str = continuous(
        "auto", low=0, below=1, words=_AUTO, about="of sgd; auto: 0.9"
    )
    beta_1: float | str = continuous(
        "auto", low=0, below=1, words=_AUTO, about="of adam; auto: 0.9"
    )
    beta_2: float | str = continuous(
        "auto", low=0, below=1, words=_AUTO, about="of adam; auto: 0.999"
    )
    bias_lr_mult: float | str = continuous(
        "auto", above=0, words=_AUTO, about="how many times faster the bias learns; auto: once"
    )
    bias_wd_mult: float | str = continuous(
        "auto", low=0, words=_AUTO, about="how much of the decay the bias has; auto: none"
    )
    use_lr_scheduler: bool = boolean(default=True, about="whether learning rates fall")
    lr_scheduler_step: int | str = integer(
        "auto", above=0, words=_AUTO, about="steps between two falls; auto: one epoch's"
    )
    lr_scheduler_factor: float | str = continuous(
        "auto",
        above=0,
        below=1,
        words=_AUTO,
        about="what a fall leaves; auto: 0.85, or what ends at 2 %",
    )
    lr_scheduler_minimum_lr: float | str = continuous(
        "auto", above=0, words=_AUTO, about="the least learning rate; auto: 1e-5"
    )
    use_bias: bool = boolean(default=True, tunable=(None, None, ("true", "false")), about="bias")
    init_method: str = categorical(
        "uniform", "normal", default="uniform", about="how weights begin"
    )
    init_scale: float | None = continuous(above=0, library=0.07, about="reach of uniform weights")
    init_sigma: float | None = continuous(
        above=0, library=0.01, about="deviation of normal weights"
    )
    init_bias: float = continuous(0.0, about="the bias at the start")
    normalize_data: bool | str = boolean(
        default=True, words=_AUTO, about="divide inputs by their deviation"
    )
    normalize_label: bool | str = boolean(
        default="auto", words=_AUTO, about="divide labels by their deviation; auto: for regression"
    )
    unbias_data: bool | str = boolean(
        default="auto",
        words=_AUTO,
        about="take their mean from inputs; auto: with a bias, and up to 10,000 sparse columns",
    )
    unbias_label: bool | str = boolean(
        default="auto", words=_AUTO, about="take their mean from labels; auto: for regression"
    )
    num_point_for_scaler: int = integer(
        10_000, above=0, about="rows that mean and deviation are measured on"
    )
    num_calibration_samples: int | str = integer(
        "auto", above=0, words=_AUTO, about="rows to choose model and threshold on; auto: 100,000"
    )
    num_models: int | str = integer(
        "auto",
        above=0,
        words=_AUTO,
        about="models trained side by side; auto: 32, fewer if wide, 1 where a tuner asks",
    )
    binary_classifier_model_selection_criteria: str | None = categorical(
        *CRITERIA, library="accuracy", about="what the best of two-class models is best in"
    )
    target_precision: float | None = continuous(
        above=0, below=1, library=0.8, about="of recall_at_target_precision"
    )
    target_recall: float | None = continuous(
        above=0, below=1, library=0.8, about="of precision_at_target_recall"
    )
    positive_example_weight_mult: float | str = continuous(
        1.0,
        above=0,
        words=("balanced", "auto"),
        tunable=(1e-5, 1e5, (), "Logarithmic"),
        about="what a row of class 1 counts; balanced: as all of class 0 together; auto: several",
    )
    balance_multiclass_weights: bool = boolean(
        default=False, about="whether each class counts the same, however many rows it has"
    )
    accuracy_top_k: int = integer(3, above=0, about="places of multiclass_top_k_accuracy")
    f_beta: float = continuous(1.0, above=0, about="weight of recall in the F-beta metrics")
    early_stopping_patience: int = integer(
        3, above=0, about="epochs without improvement after which a model ends"
    )
    early_stopping_tolerance: float = continuous(
        0.001, above=0, about="what counts as improvement, relatively"
    )
    profile: str = profile(
        "optimizer, lbfgs where loss and l1 allow it and data has at most 2,000 columns and "
        "20,000,000 values; else mini_batch_size, 100 below 20,000 rows, and epochs, 2,000,000 by "
        "the rows, from 15 to 100"
    )

    @property
    def chosen_loss(self) -> str:
        """What is minimised, `auto` decided."""
        return LOSSES[self.predictor_type][0] if self.loss == "auto" else self.loss

    @property
    def chosen_optimizer(self) -> str:
        """What changes the weights, `auto` decided."""
        return "adam" if self.optimizer == "auto" else self.optimizer

    @property
    def keeps_checkpoints(self) -> bool:
        """All but lbfgs, which solves for the weights of a model at once."""
        return self.chosen_optimizer != "lbfgs"

    @property
    def criterion(self) -> str:
        """What the best of two-class models is best in."""
        return self.binary_classifier_model_selection_criteria or "accuracy"

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return self.predictor_type == "binary_classifier"

    @property
    def loss_number(self) -> float:
        """The number that the loss has, if any."""
        by_loss: Mapping[str, tuple[float | None, float]] = {
            "hinge_loss": (self.margin, 1.0),
            "eps_insensitive_squared_loss": (self.loss_insensitivity, 0.01),
            "eps_insensitive_absolute_loss": (self.loss_insensitivity, 0.01),
            "huber_loss": (self.huber_delta, 1.0),
            "quantile_loss": (self.quantile, 0.5),
        }
        given, default = by_loss.get(self.chosen_loss, (None, 0.0))
        return default if given is None else given

    def check_precision(self, precision: str) -> None:
        """Refuse a mixed precision with lbfgs, which needs more digits, not fewer."""
        super().check_precision(precision)
        if precision != "float32" and self.chosen_optimizer == "lbfgs":
            raise InvalidJob(
                f"linear-learner: Precision={precision} and optimizer=lbfgs do not go together: "
                "lbfgs computes in float64; leave Precision out, or use optimizer=adam",
                field="Precision",
            )

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> LinearModel:
        """Train all models, then keep the best one with its threshold."""
        return suited(self, self._by_size(train, run), run)._fit(train, validation, run)

    def _fit(self, train: Dataset, validation: Dataset | None, run: Run) -> LinearModel:
        from training.algorithms.tabular.linear import fitting

        self._check(train)
        if validation is not None:
            self._check(validation)
        rows, watched = fitting.rows_of(train), self._watched(train, validation, run)
        data, labels = self._scalings(rows, train.labels())
        tried = self.candidates(train, can_judge=validation is not None, is_tuned=run.is_tuned)
        trained = fitting.fit(self, train, rows, watched, data, labels, tried, run)
        best, choice = self._choose(trained, watched, labels)
        weights, bias = data.unscaled(trained.weights[:, best], trained.bias[best])
        weights, bias = weights * labels.scale, bias * labels.scale + labels.shift
        is_probability = self.chosen_loss in ("logistic", "softmax_loss")
        threshold = choice.threshold if self.is_binary else 0.5
        model = LinearModel(
            train.inputs, weights, bias, self.predictor_type, is_probability, threshold
        )
        self._report(model, train, validation, tried[best], run)
        return model

    def evaluate(self, model: Any, data: Dataset) -> Mapping[str, float]:
        """Measure a model; see `metrics` for the names."""
        from training.algorithms.tabular.linear import fitting

        self._check(data)
        target, score = data.labels(), model.scores(data.features)
        measured = {"objective_loss": fitting.objective(self, model, data)}
        if self.predictor_type == "regressor":
            return measured | {
                "absolute_loss": metrics.mae(target, score[:, 0]),
                "mse": metrics.mse(target, score[:, 0]),
                "rmse": metrics.rmse(target, score[:, 0]),
            }
        if self.is_binary:
            guess = (score[:, 0] >= model.threshold).astype(np.float64)
            return measured | {
                "binary_classification_accuracy": metrics.accuracy(target, guess),
                "binary_f_beta": metrics.f_beta(target, guess, self.f_beta),
                "precision": metrics.precision(target, guess),
                "recall": metrics.recall(target, guess),
                "roc_auc_score": metrics.auc(target, score[:, 0]),
            }
        guess = score.argmax(axis=1)
        one_hot = np.eye(score.shape[1])[target.astype(np.int64)]
        return measured | {
            "multiclass_accuracy": metrics.accuracy(target, guess),
            "multiclass_top_k_accuracy": metrics.top_k_accuracy(target, score, self.accuracy_top_k),
            "dcg": metrics.dcg(one_hot, score),
            "macro_f_beta": metrics.f_beta_macro(target, guess, self.f_beta),
            "macro_precision": metrics.precision_macro(target, guess),
            "macro_recall": metrics.recall_macro(target, guess),
        }

    def _by_size(self, train: Dataset, run: Run) -> dict[str, Any]:
        """Return what the profile auto has for data of this size."""
        rows, width = len(train), train.width
        small = width <= _SOLVED_COLUMNS and rows * width <= _SOLVED_VALUES
        smooth = self.chosen_loss in SMOOTH and self.l1 in ("auto", 0)
        steps = STEPS & self.given or self.optimizer != "auto" or run.precision != "float32"
        if small and smooth and not steps:
            return {"optimizer": "lbfgs"}
        values: dict[str, Any] = {"epochs": min(max(_AUTO_ROWS // rows, 15), 100)}
        return values | ({"mini_batch_size": 100} if rows < _AUTO_SMALL else {})

    def candidates(
        self, train: Dataset, *, can_judge: bool = True, is_tuned: bool = False
    ) -> list[Candidate]:
        """Return the settings of the models that a fit on this data trains side by side."""
        classes = self.num_classes or 1
        most = 1 if is_tuned else max(1, _MOST_WEIGHTS // (train.width * classes))
        count = min(_MODELS, most) if isinstance(self.num_models, str) else self.num_models
        steps = self.epochs * math.ceil(len(train) / self.mini_batch_size)
        rate = min(0.5, max(0.005, 3 / steps)) if isinstance(self.learning_rate, str) else None
        return candidates(
            count,
            learning_rate=float(self.learning_rate) if rate is None else rate,
            wd=None if isinstance(self.wd, str) else self.wd,
            l1=None if isinstance(self.l1, str) else self.l1,
            positive_weights=self._positive_weights(train.labels()),
            rows=len(train),
            rates_matter=self.chosen_optimizer != "lbfgs",
            can_judge=can_judge,
        )

    def _positive_weights(self, target: Array) -> list[float]:
        given = self.positive_example_weight_mult
        if not isinstance(given, str):
            return [given]
        positive = int((target > 0.5).sum())
        balanced = (len(target) - positive) / positive if 0 < positive < len(target) else 1.0
        return [balanced] if given == "balanced" else [1.0, math.sqrt(balanced), balanced]

    def class_weights(self, target: Array) -> npt.NDArray[np.float32] | None:
        """Return what a row of each class counts; None: all the same."""
        if not self.balance_multiclass_weights:
            return None
        counts = np.bincount(target.astype(np.int64), minlength=self.num_classes or 0)
        present = int((counts > 0).sum())
        return (len(target) / (present * np.maximum(counts, 1))).astype(np.float32)

    def _check(self, data: Dataset) -> None:
        """Refuse data that does not fit the hyperparameters."""
        if self.feature_dim != "auto" and self.feature_dim != data.width:
            raise self._refuse(
                f"feature_dim: {data.channel} has {data.width} columns, got {self.feature_dim}; "
                "leave it out or correct it",
                "feature_dim",
            )
        target = data.labels()
        if self.predictor_type == "regressor":
            return
        top = 2 if self.num_classes is None else self.num_classes
        wrong = (target != np.floor(target)) | (target < 0) | (target >= top)
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidData(
                f"{data.channel}: label column {data.label!r}: {self.predictor_type} expects "
                f"classes numbered 0 to {top - 1}, got {target[row]:g} in row {row + 1}",
                channel=data.channel,
                column=data.label,
            )

    def _watched(self, train: Dataset, validation: Dataset | None, run: Run) -> Dataset:
        """Return the rows to choose by: of validation, else of the training data."""
        data = train if validation is None else validation
        given = self.num_calibration_samples
        count = _CALIBRATION_ROWS if isinstance(given, str) else given
        if len(data) <= count:
            return data
        order = np.random.default_rng([run.seed, len(data)])
        return data.take(np.sort(order.permutation(len(data))[:count]))

    def _scalings(self, rows: Any, target: Array) -> tuple[Scaling, Scaling]:
        first = rows[: self.num_point_for_scaler]
        narrow = not hasattr(rows, "indptr") or rows.shape[1] <= _MOST_SHIFTED
        centre = self.use_bias and narrow if self.unbias_data == "auto" else self.unbias_data
        data = Scaling.of(first, centre=bool(centre), normalize=bool(self.normalize_data))
        if self.predictor_type != "regressor":
            return data, Scaling.none(1)
        centre = self.use_bias if self.unbias_label == "auto" else self.unbias_label
        labels = target[: self.num_point_for_scaler, None]
        return data, Scaling.of(labels, centre=bool(centre), normalize=bool(self.normalize_label))

    def _choose(self, trained: Any, watched: Dataset, labels: Scaling) -> tuple[int, Choice]:
        """Return the best model's number, and its threshold."""
        losses = trained.losses
        by_loss = self.criterion in ("cross_entropy_loss", "loss_function")
        by_loss = by_loss or watched.channel != "validation"
        if not self.is_binary:
            return int(np.argmin(losses)), Choice(0.5, 0.0)
        scores = trained.scores[:, :, 0].astype(np.float64)
        if self.chosen_loss == "logistic":
            with np.errstate(over="ignore"):
                scores = 1 / (1 + np.exp(-scores))
        chosen = [self.threshold(watched.labels(), scores[:, at]) for at in range(len(losses))]
        if by_loss:
            best = int(np.argmin(losses))
        else:
            # Of equally good ones that with the least loss, then the nearest to what was asked.
            order = sorted(range(len(losses)), key=lambda at: (-chosen[at].value, losses[at], at))
            best = order[0]
        return best, chosen[best]

    def threshold(self, target: Array, score: Array) -> Choice:
        """Find the threshold that the criterion asks for."""
        by_loss = self.criterion in ("cross_entropy_loss", "loss_function")
        return choose(
            target,
            score,
            "accuracy" if by_loss else self.criterion,
            beta=self.f_beta,
            precision=0.8 if self.target_precision is None else self.target_precision,
            recall=0.8 if self.target_recall is None else self.target_recall,
            prefer=0.5 if self.chosen_loss == "logistic" else 0.0,
        )

    def _report(
        self,
        model: LinearModel,
        train: Dataset,
        validation: Dataset | None,
        chosen: Candidate,
        run: Run,
    ) -> None:
        for channel, data in (("train", train), ("validation", validation)):
            if data is None:
                continue
            for name, value in self.evaluate(model, data).items():
                if math.isfinite(value):
                    run.sink.metric(f"{channel}:{name}", value)
                    run.sink.log(metrics.quality_line(f"{channel}:{name}", value))
        run.sink.property("chosen", vars(chosen))
        run.sink.property("threshold", model.threshold)
        run.sink.property("feature_importance", model.importance())
