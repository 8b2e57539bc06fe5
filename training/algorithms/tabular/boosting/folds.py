"""Cross-validation in one fit: repeated folds, all boosters kept, predictions out of each fold."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithms.tabular.boosting.fitting import Boosted, boost, kept_checkpoints
from training.algorithms.tabular.boosting.matrix import in_queries, library, rows_of
from training.algorithms.tabular.boosting.measures import classes_of
from training.algorithms.tabular.boosting.model import XGBoostModel, voted
from training.algorithms.tabular.boosting.report import Reporter, report_importance, round_line
from training.data import Dataset
from training.errors import InvalidData, InvalidJob, TrainingStopped
from training.metrics import quality_line
from training.run import Run, Sink

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost

__all__ = ["FILE", "fit", "joined", "parts"]

Array = npt.NDArray[Any]

FILE = "predictions.csv"


def fit(algorithm: XGBoost, named: Sequence[Dataset], run: Run) -> XGBoostModel:
    """Fit a booster for each fold of the joined data, and keep them all.

    Mean and deviation of the metrics are over the folds, each measured on its own rows. Each row's
    predictions by the boosters that have not seen it go to `predictions.csv` of the run's output:
    truth, mean probability and label for classes, else truth (of intervals both ends) and mean
    prediction, without a header, in the order of the data.

    Raises:
        InvalidData: there are fewer rows, or queries, than folds.
        TrainingStopped: the run asked to stop.
    """
    assert algorithm.kfold is not None
    if run.start is not None:
        raise InvalidJob(
            "xgboost: _kfold starts each fold anew, so that none has seen its own rows; leave out "
            "the channel 'model'",
            field="InputDataConfig",
        )
    data = joined(named)
    repeats = algorithm.num_cv_round or 1
    count = algorithm.kfold * repeats
    total = count * algorithm.num_round
    predicted: list[Array] = []
    rows_of_fold: list[Array] = []
    boosted: list[Boosted] = []
    seed = run.seed if algorithm.seed is None else algorithm.seed
    for number, held in enumerate(
        parts(data, algorithm.kfold, repeats, stratified=algorithm.is_classifier, seed=seed)
    ):
        left = np.setdiff1d(np.arange(len(data)), held)
        train, validation = data.take(left), data.take(held, channel="validation")
        if algorithm.is_ranking:
            train, validation = in_queries(train), in_queries(validation)
        reporter = Reporter(
            run.sink,
            total,
            before=number * algorithm.num_round,
            fold=f"fold {number + 1} of {count} ",
        )
        folder = None if run.checkpoints is None else run.checkpoints / f"fold-{number}"
        checkpoints = kept_checkpoints(algorithm, [train, validation], run, folder=folder)
        one = boost(algorithm, [train, validation], run, checkpoints=checkpoints, reporter=reporter)
        if one.was_stopped:
            raise TrainingStopped(
                f"stopped in fold {number + 1} of {count}; there is no model before all have ended"
            )
        boosted.append(one)
        rows_of_fold.append(held)
        options = rows_of(data.take(held).features, data.inputs, channel="validation")
        predicted.append(one.booster.predict(library().DMatrix(**options)))
    model = XGBoostModel(boosted[0].booster, data.inputs, tuple(one.booster for one in boosted[1:]))
    _report(run.sink, model, boosted)
    if run.output is not None:
        _write(run.output / FILE, data, rows_of_fold, predicted, algorithm.task)
    return model


def joined(named: Sequence[Dataset]) -> Dataset:
    """Join datasets of the same inputs into one, in their order.

    Raises:
        InvalidData: one has weights or queries, and another has none.
    """
    first = named[0]
    if len(named) == 1:
        return first
    for what in ("weights", "groups"):
        if len({getattr(dataset, what) is None for dataset in named}) > 1:
            raise InvalidData(
                f"_kfold joins {' and '.join(d.channel for d in named)}, and only one of them has "
                f"{'weights' if what == 'weights' else 'queries'}"
            )
    return replace(
        first,
        features=pa.concat_tables([d.features for d in named], promote_options="permissive"),
        target=np.concatenate([d.labels() for d in named]),
        weights=_chained([d.weights for d in named]),
        groups=_chained([d.groups for d in named]),
        upper=_chained([d.upper for d in named]),
    )


def parts(
    data: Dataset, folds: int, repeats: int, *, stratified: bool, seed: int
) -> Iterator[Array]:
    """Give the rows of each fold, ascending; over the folds of a repetition each row comes once.

    Stratified folds have as many rows of each class, to one. The rows of a query stay together.

    Raises:
        InvalidData: there are fewer rows, or queries, than folds.
    """
    units = np.arange(len(data))
    if data.groups is not None:
        units = np.unique(data.groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    if count < folds:
        what = "rows" if data.groups is None else "queries"
        raise InvalidData(f"_kfold={folds} needs as many {what}, and there are {count}")
    for repeat in range(repeats):
        order = np.random.default_rng([seed % 2**32, repeat]).permutation(count)
        if stratified and data.groups is None:
            order = order[np.argsort(data.labels()[order], kind="stable")]
        fold = np.empty(count, np.int64)
        fold[order] = np.arange(count) % folds
        for number in range(folds):
            yield np.flatnonzero(fold[units] == number)


def _chained(found: Sequence[Array | None]) -> Array | None:
    known = [one for one in found if one is not None]
    return np.concatenate(known) if known else None


def _report(sink: Sink, model: XGBoostModel, boosted: Sequence[Boosted]) -> None:
    means: dict[str, dict[str, float]] = {}
    for channel, values in boosted[0].log.items():
        for metric in values:
            found = [one.log[channel][metric][one.kept - 1] for one in boosted]
            mean, deviation = float(np.mean(found)), float(np.std(found))
            means.setdefault(channel, {})[metric] = mean
            sink.metric(f"{channel}:{metric}", mean)
            sink.metric(f"{channel}:{metric}-std", deviation)
            sink.log(quality_line(f"{channel}:{metric}", mean))
    # The last line of the log, which scrapers take as final.
    sink.log(round_line(max(one.kept for one in boosted) - 1, means))
    sink.property("rounds", [one.rounds for one in boosted])
    singles = [XGBoostModel(one.booster, model.columns) for one in boosted]
    report_importance(sink, [single.importance() for single in singles])


def _write(
    path: Path, data: Dataset, rows: Sequence[Array], predicted: Sequence[Array], objective: str
) -> None:
    repeats = sum(len(held) for held in rows) // len(data)
    filled = np.zeros((repeats, len(data), *predicted[0].shape[1:]), np.float32)
    folds = len(rows) // repeats
    for number, (held, scores) in enumerate(zip(rows, predicted, strict=True)):
        filled[number // folds, held] = scores
    columns: list[Array] = [data.labels(), *([] if data.upper is None else [data.upper])]
    if objective in ("multi:softmax", "binary:hinge"):
        columns.append(voted(filled))
    else:
        mean = filled.mean(axis=0, dtype=np.float64)
        if objective.startswith(("binary:", "multi:")):
            columns += [mean if mean.ndim == 1 else mean.max(axis=1), classes_of(mean, objective)]
        else:
            columns.append(mean)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in zip(*columns, strict=True):
            writer.writerow(f"{value:.9g}" for value in row)
    part.replace(path)
