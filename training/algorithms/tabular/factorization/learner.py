"""Factorization Machines: what they take, and how a fit goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.tabular.factorization.model import (
    FILES,
    FactorizationModel,
    PredictorType,
    as_rows,
)
from training.data import Dataset
from training.errors import InvalidData
from training.hyperparameter import Dependency, categorical, continuous, integer
from training.profile import profile, suited
from training.run import Run

__all__ = ["FactorizationMachines"]

_TYPES = (
    *("application/x-recordio-protobuf", "application/x-parquet"),
    *("application/vnd.apache.arrow.file", "application/jsonlines", "text/libsvm"),
)
_PARTS = ("bias", "linear", "factors")
_METRICS = (
    *("rmse", "binary_classification_accuracy", "binary_classification_cross_entropy"),
    "binary_f_beta",
)
# Of the profile auto: rates and decays, and how many rows all epochs have together.
_AUTO = {"linear_lr": 0.01, "linear_wd": 0.2, "factors_lr": 0.005, "factors_wd": 1.0}
_AUTO_ROWS = 800_000
_RANGE = (1e-8, 512.0, (), "Logarithmic")


def _fits(part: str) -> tuple[Dependency, ...]:
    """Say which number goes with which way to begin."""
    names = {"uniform": "scale", "normal": "sigma", "constant": "value"}

    def holds(a: Any, method: str) -> bool:
        given = getattr(a, f"{part}_init_{names[method]}") is not None
        if getattr(a, f"{part}_init_method") != method:
            return not given
        return given or method == "normal"

    return tuple(
        Dependency(
            (f"{part}_init_{names[method]}", f"{part}_init_method"),
            f"{part}_init_{names[method]} goes with {part}_init_method={method}, and only with it",
            lambda a, method=method: holds(a, method),  # type: ignore[misc]
        )
        for method in names
    )


def _method(part: str) -> Any:
    return categorical(
        *("uniform", "normal", "constant"), default="normal", about=f"how the {part} begins"
    )


def _scale(part: str) -> Any:
    return continuous(low=0, tunable=_RANGE, about=f"reach of a uniform {part} at the start")


def _sigma(part: str, default: float) -> Any:
    return continuous(
        low=0, library=default, tunable=_RANGE, about=f"deviation of a normal {part} at the start"
    )


def _value(part: str) -> Any:
    return continuous(tunable=_RANGE, about=f"a constant {part} at the start")


def _lr(part: str, default: float) -> Any:
    return continuous(default, low=0, tunable=_RANGE, about=f"learning rate of the {part}")


def _wd(part: str, default: float) -> Any:
    return continuous(default, low=0, tunable=_RANGE, about=f"weight decay of the {part}")


@final
@dataclass(frozen=True, kw_only=True)
class FactorizationMachines(Algorithm):
    """Values or two classes from sparse inputs, with every pair of inputs through factors.

    Inputs may be sparse vectors, number columns, and columns of words, each of which is a column
    for each word; none is made dense.

    Source: Rendle, "Factorization Machines", ICDM 2010.

    >>> FactorizationMachines.of(
    ...     {"feature_dim": 2, "num_factors": "8", "predictor_type": "regressor"}
    ... ).factors_lr
    0.0001
    """

    name: ClassVar = "factorization-machines"
    continues: ClassVar = True
    model: ClassVar = FactorizationModel
    files: ClassVar = FILES
    libraries: ClassVar[Mapping[str, str]] = {"torch": "torch", "scipy": "scipy"}
    hosts: ClassVar = "steps"
    float32_only: ClassVar = "its pairs are small differences of large sums"
    answers: ClassVar = (
        *("application/json", "application/jsonlines", "application/x-recordio-protobuf"),
    )
    channels: ClassVar = (
        ChannelDeclaration(
            name="train", about="what to learn from", required=True, content_types=_TYPES
        ),
        ChannelDeclaration(
            name="validation", about="what to stop by, an addition", content_types=_TYPES
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
        for channel in ("test", "validation")
        for name in _METRICS
    )
    dependencies: ClassVar = tuple(rule for part in _PARTS for rule in _fits(part))

    feature_dim: int = integer(
        required=True, above=0, about="columns of the data; words are a column each"
    )
    num_factors: int = integer(required=True, above=0, about="factors of each column, such as 64")
    predictor_type: PredictorType = categorical(  # noqa: RUF009 - a field, as its neighbours
        "binary_classifier", "regressor", required=True, about="what is predicted"
    )
    epochs: int = integer(1, above=0, tunable=(1, 1000), about="passes over the data, at most")
    mini_batch_size: int = integer(1000, above=0, tunable=(100, 10000), about="rows of a step")
    bias_init_method: str = _method("bias")
    bias_init_scale: float | None = _scale("bias")
    bias_init_sigma: float | None = _sigma("bias", 0.01)
    bias_init_value: float | None = _value("bias")
    bias_lr: float = _lr("bias", 0.1)
    bias_wd: float = _wd("bias", 0.01)
    linear_init_method: str = _method("linear")
    linear_init_scale: float | None = _scale("linear")
    linear_init_sigma: float | None = _sigma("linear", 0.01)
    linear_init_value: float | None = _value("linear")
    linear_lr: float = _lr("linear", 0.001)
    linear_wd: float = _wd("linear", 0.001)
    factors_init_method: str = _method("factors")
    factors_init_scale: float | None = _scale("factors")
    factors_init_sigma: float | None = _sigma("factors", 0.001)
    factors_init_value: float | None = _value("factors")
    factors_lr: float = _lr("factors", 0.0001)
    factors_wd: float = _wd("factors", 0.00001)
    clip_gradient: float | None = continuous(above=0, about="largest size of a gradient's number")
    eps: float | None = continuous(above=0, library=1e-8, about="keeps steps from dividing by zero")
    rescale_grad: float | None = continuous(about="what gradients are multiplied by")
    early_stopping_patience: int = integer(
        3, above=0, about="epochs without improvement on validation after which to stop; ours"
    )
    profile: str = profile(
        "epochs, 800,000 by the rows, from 2 to 100; mini_batch_size, 100 below 2,000 rows; "
        "linear_lr 0.01, linear_wd 0.2, factors_lr 0.005, factors_wd 1, and factors_init_sigma "
        "0.05 where factors begin normal"
    )

    def fit(
        self, train: Dataset, run: Run, *, validation: Dataset | None = None
    ) -> FactorizationModel:
        """Train by steps; with validation data, the best epoch's model is kept."""
        from training.algorithms.tabular.factorization import fitting

        for data in (train, validation):
            if data is not None:
                self._check(data)
        learner = suited(self, self._by_rows(len(train)), run)
        model = fitting.fit(learner, train, run, validation=validation)
        for channel, data in (("train", train), ("validation", validation)):
            for name, value in {} if data is None else self.evaluate(model, data).items():
                run.sink.metric(f"{channel}:{name}", value)
                run.sink.log(metrics.quality_line(f"{channel}:{name}", value))
        return model

    def to_go_on_from(self, run: Run, train: Dataset) -> FactorizationModel | None:
        """Return the model that a run starts from.

        Raises:
            InvalidData: it is another algorithm's, or takes other inputs.
            InvalidHyperparameter: it has other factors, or predicts something else.
        """
        start = self._gone_on_from(run, train)
        if not isinstance(start, FactorizationModel):
            return None
        has = {"num_factors": start.factors.shape[1], "predictor_type": start.predictor_type}
        for name, value in has.items():
            asked = getattr(self, name)
            if value != asked:
                raise self._refuse(
                    f"{name}: the model to go on from has {value}, got {asked}", name
                )
        return start

    def _by_rows(self, rows: int) -> dict[str, Any]:
        """Return what the profile auto has for so many rows."""
        values = {**_AUTO, "epochs": min(max(_AUTO_ROWS // rows, 2), 100)}
        if rows < 2000:
            values["mini_batch_size"] = 100
        if self.factors_init_method == "normal":
            values["factors_init_sigma"] = 0.05
        return values

    def evaluate(self, model: Any, data: Dataset) -> Mapping[str, float]:
        """Measure a model: the RMSE, or accuracy, cross entropy and F1 at the threshold 0.5."""
        self._check(data)
        return self.measured(data.labels(), model.scores(as_rows(data.features, data.inputs)))

    def measured(
        self, target: npt.NDArray[np.float64], score: npt.NDArray[np.float64]
    ) -> Mapping[str, float]:
        """Measure scores by SageMaker's names."""
        if self.predictor_type == "regressor":
            return {"rmse": metrics.rmse(target, score)}
        guess = (score >= 0.5).astype(np.float64)
        return {
            "binary_classification_accuracy": metrics.accuracy(target, guess),
            "binary_classification_cross_entropy": metrics.logloss(target, score),
            "binary_f_beta": metrics.f1_binary(target, guess),
        }

    def start(
        self, part: str, shape: tuple[int, ...], order: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Return a part as it begins."""
        match getattr(self, f"{part}_init_method"):
            case "constant":
                return np.full(shape, getattr(self, f"{part}_init_value"), np.float32)
            case "uniform":
                reach = getattr(self, f"{part}_init_scale")
                return order.uniform(-reach, reach, shape).astype(np.float32)
        given = getattr(self, f"{part}_init_sigma")
        sigma = (0.001 if part == "factors" else 0.01) if given is None else given
        drawn = order.standard_normal(shape, np.float32)
        drawn *= np.float32(sigma)
        return drawn

    def _check(self, data: Dataset) -> None:
        if data.width != self.feature_dim:
            raise self._refuse(
                f"feature_dim: {data.channel} has {data.width} columns, got {self.feature_dim}",
                "feature_dim",
            )
        target = data.labels()
        wrong = (target != 0) & (target != 1)
        if self.predictor_type == "binary_classifier" and wrong.any():
            row = int(wrong.argmax())
            raise InvalidData(
                f"{data.channel}: label column {data.label!r}: binary_classifier expects 0 and 1, "
                f"got {target[row]:g} in row {row + 1}",
                channel=data.channel,
                column=data.label,
            )
        with np.errstate(over="ignore"):
            infinite = ~np.isfinite(target.astype(np.float32))
        if infinite.any():
            row = int(infinite.argmax())
            raise InvalidData(
                f"{data.channel}: label column {data.label!r}: expected a finite number that "
                f"single precision holds, got {target[row]:g} in row {row + 1}",
                channel=data.channel,
                column=data.label,
                row=row + 1,
            )
