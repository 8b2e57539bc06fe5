"""One fit: rounds of boosting, each measured, from the beginning, a model or a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np

from training.algorithms.tabular.boosting.checkpoint import Checkpoints, Log
from training.algorithms.tabular.boosting.matrix import Rows, library, matrix_of
from training.algorithms.tabular.boosting.measures import Watch, measured
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.algorithms.tabular.boosting.parameters import (
    draws,
    parameters,
    takes_histogram,
)
from training.algorithms.tabular.boosting.report import Reporter
from training.data import Dataset
from training.errors import FitFailed, InvalidData, InvalidJob, TrainingStopped
from training.run import Run

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost

__all__ = ["Boosted", "boost", "check_inputs", "kept_checkpoints"]

_CHANNELS: Final = ("train", "validation")
# These change neither the rounds of a fit nor what comes after them.
_FREE: Final = frozenset({"num_round", "nthread", "verbosity", "save_model_on_termination"})


@final
@dataclass(frozen=True, eq=False)
class Boosted:
    """The end of a fit.

    Attributes:
        booster: cut to its best round where early stopping chose one.
        log: what was measured after each round of this fit.
        start: the rounds of the model it went on from.
        kept: the rounds of this fit that the booster keeps.
        total: the rounds it would have had without a stop.
        was_stopped: whether the run asked for an end.
    """

    booster: Any
    log: Log
    start: int
    kept: int
    total: int
    was_stopped: bool

    @property
    def rounds(self) -> int:
        """The rounds of the booster."""
        return int(self.booster.num_boosted_rounds())


def boost(
    algorithm: XGBoost,
    named: Sequence[Rows],
    run: Run,
    *,
    checkpoints: Checkpoints | None,
    reporter: Reporter,
    pages: Path | None = None,
) -> Boosted:
    """Boost on the first dataset, and measure on all: the training and the validation data.

    Args:
        algorithm: the hyperparameters.
        named: the training data, and the validation data if there is any.
        run: where.
        checkpoints: to keep; None: none.
        reporter: told of each round.
        pages: a folder for the pages of streams.

    Raises:
        FitFailed: the checkpoints are of another fit.
        InvalidData, InvalidJob, InvalidHyperparameter: the model to start from does not fit.
    """
    xgboost = library()
    params = parameters(algorithm, run)
    evals: list[tuple[Any, str]] = []
    for channel, dataset in zip(_CHANNELS, named, strict=False):
        like = evals[0][0] if evals else None
        evals.append((_matrix(algorithm, dataset, params["nthread"], like, pages), channel))
    given = _given(algorithm, named[0], run)
    start = 0 if given is None or algorithm.is_update else given.rounds
    total = start + algorithm.num_round
    first = start
    log: Log = {}
    begin = None if given is None else given.booster
    found = checkpoints.newest() if checkpoints else None
    if found is not None:
        begin, log = found
        first = begin.num_boosted_rounds()
        if first > total:
            raise FitFailed(
                f"the checkpoints have {first} rounds, and the fit is to have {total}; remove them "
                "to begin anew, or raise num_round",
                library="xgboost",
            )
        run.sink.log(f"going on from the checkpoint after round {first} of {total}")
    matrices = [matrix for matrix, _ in evals]
    if found is not None and draws(algorithm):
        booster = _drawn_again(params, matrices, given, begin, range(start, first), run)
    else:
        raw = None if begin is None else begin.save_raw("ubj")
        booster = xgboost.Booster(params, matrices, model_file=raw)
    watch, was_stopped = Watch(algorithm), False
    for number in range(first, total):
        if log and watch.is_over(log):
            break
        booster.update(evals[0][0], number)
        values = measured(algorithm, booster, evals, number)
        for channel, found_values in values.items():
            for metric, value in found_values.items():
                log.setdefault(channel, {}).setdefault(metric, []).append(value)
        reporter.round(number, number + 1 - start, values)
        was_stopped = number + 1 < total and _agreed(run.should_stop())
        if checkpoints:
            checkpoints.keep(booster, log, now=was_stopped)
        if was_stopped:
            break
    if checkpoints and not was_stopped:
        checkpoints.keep(booster, log, now=True)
    return _kept(booster, log, watch.best(log), start, total, was_stopped, reporter, algorithm)


def _matrix(algorithm: XGBoost, rows: Rows, threads: int, like: Any, pages: Path | None) -> Any:
    if isinstance(rows, Dataset):
        return matrix_of(
            rows,
            threads=threads,
            histogram=takes_histogram(algorithm),
            max_bin=algorithm.max_bin,
            like=like,
        )
    from training.algorithms.tabular.boosting.external import matrix_on_disk

    assert pages is not None
    return matrix_on_disk(rows, threads=threads, max_bin=algorithm.max_bin, like=like, folder=pages)


def _drawn_again(
    params: dict[str, Any],
    matrices: Sequence[Any],
    given: XGBoostModel | None,
    kept: Any,
    rounds: range,
    run: Run,
) -> Any:
    """Make the rounds of a checkpoint again, unmeasured, and return their booster.

    The library has one random stream for a whole fit and no way to keep its place, so what comes
    next can only be drawn by one who has drawn all that came before.

    Raises:
        FitFailed: the rounds came out otherwise.
        TrainingStopped: the run asked to stop; the checkpoint stays as it is.
    """
    run.sink.log(f"this fit draws at random: rounds {rounds.start + 1} to {rounds.stop} anew")
    raw = None if given is None else given.booster.save_raw("ubj")
    booster = library().Booster(params, matrices, model_file=raw)
    for number in rounds:
        if _agreed(run.should_stop()):
            raise TrainingStopped(
                f"stopped while round {number + 1} of a checkpoint's {rounds.stop} was made again"
            )
        booster.update(matrices[0], number)
    if booster.save_raw("ubj") != kept.save_raw("ubj"):
        raise FitFailed(
            f"xgboost: the {len(rounds)} rounds of the checkpoint come out otherwise here: data, "
            "threads or the library have changed; remove the checkpoints to begin anew",
            library="xgboost",
        )
    return booster


def _kept(
    booster: Any,
    log: Log,
    best: int | None,
    start: int,
    total: int,
    was_stopped: bool,
    reporter: Reporter,
    algorithm: XGBoost,
) -> Boosted:
    """Cut the booster to its best round: whoever loads the file predicts with that."""
    made = len(next(iter(log["train"].values())))
    kept = made if best is None else best + 1
    if kept < made:
        booster = booster[: start + kept]
    if not was_stopped:
        reporter.end(algorithm.num_round)
    return Boosted(booster, log, start, kept, total, was_stopped)


def kept_checkpoints(
    algorithm: XGBoost, named: Sequence[Rows], run: Run, *, folder: Path | None = None
) -> Checkpoints | None:
    """Return the checkpoints of a fit; None where the run keeps none.

    Changing a model's trees keeps none: it takes no longer than reading them.
    """
    where = folder or run.checkpoints
    if where is None or algorithm.is_update:
        return None
    train = named[0]
    values = {name: value for name, value in algorithm.values().items() if name not in _FREE}
    labels = b"".join(
        np.asarray(ends).tobytes()
        for dataset in named
        for ends in (dataset.target, dataset.upper)
        if ends is not None
    )
    parts = run.world.gather(([len(dataset) for dataset in named], _digest(labels)))
    about = {
        "hyperparameters": values,
        "seed": run.seed if algorithm.seed is None else algorithm.seed,
        "rows": [sum(rows) for rows in zip(*(rows for rows, _ in parts), strict=True)],
        "labels": parts[0][1] if len(parts) == 1 else [labels for _, labels in parts],
        "inputs": _digest(json.dumps(train.inputs.to_json()).encode()),
        "start": None if run.start is None else _digest(_raw(run.start)),
    }
    # As JSON gives them back, so that they compare.
    return Checkpoints(
        where,
        json.loads(json.dumps(about)),
        is_kept_here=run.world.is_first,
        every_s=run.checkpoint_every_s,
    )


def check_inputs(algorithm: XGBoost, train: Rows) -> None:
    """Refuse hyperparameters that do not suit the columns.

    Raises:
        InvalidData, InvalidHyperparameter: the message names the column or the numbers there are.
    """
    text = [column.name for column in train.inputs.columns if column.kind == "category"]
    if text and (algorithm.kind == "gblinear" or algorithm.tree_method == "exact"):
        chosen = "booster=gblinear" if algorithm.kind == "gblinear" else "tree_method=exact"
        raise InvalidData(
            f"train: column {text[0]!r} is text, and {chosen} takes numbers only; use "
            "tree_method=hist, or leave the column out with features=",
            channel="train",
            column=text[0],
        )
    is_wide = any(column.kind not in ("number", "category") for column in train.inputs.columns)
    count = train.width if is_wide else len(train.inputs.columns)
    constraints = algorithm.monotone_constraints
    if constraints is not None and len(constraints) != count:
        raise algorithm.refuse(
            f"monotone_constraints: expected one number per input column ({count}: "
            f"{', '.join(train.inputs.names)}), got {len(constraints)}",
            "monotone_constraints",
        )
    for number in (n for group in algorithm.interaction_constraints or () for n in group):
        if number >= count:
            raise algorithm.refuse(
                f"interaction_constraints: expected numbers of input columns from 0 to "
                f"{count - 1}, got {number}",
                "interaction_constraints",
            )


def _given(algorithm: XGBoost, train: Rows, run: Run) -> XGBoostModel | None:
    """Return the model to go on from, if it is one that this fit can go on from."""
    model = algorithm.begun(run, train)
    if model is None:
        if algorithm.is_update:
            raise InvalidJob(
                "xgboost: process_type=update changes the trees of a model: give one as the "
                "channel 'model'",
                field="InputDataConfig",
            )
        return None
    if len(model.boosters) > 1:
        raise _unfit(f"it holds the {len(model.boosters)} boosters of folds, and one is needed")
    objective = "reg:squarederror" if algorithm.task == "reg:linear" else algorithm.task
    for what, has, wants in (
        ("objective", model.objective, objective),
        ("booster", model.booster_kind, algorithm.kind),
        ("num_class", model.num_class, algorithm.num_class or 0),
        ("num_parallel_tree", model.trees_per_round, algorithm.num_parallel_tree or 1),
    ):
        if has != wants:
            raise _unfit(f"its {what} is {has}, and that of this fit {wants}")
    if algorithm.is_update and algorithm.num_round > model.rounds:
        raise algorithm.refuse(
            f"num_round: process_type=update changes the {model.rounds} rounds of the model, got "
            f"{algorithm.num_round}",
            "num_round",
        )
    return model


def _unfit(reason: str) -> InvalidJob:
    return InvalidJob(
        f"xgboost: cannot go on from the model of channel 'model': {reason}",
        field="InputDataConfig",
    )


def _agreed(wish: bool) -> bool:
    """Whether any process of the fit wishes to stop: all of them end after the same round."""
    collective = library().collective
    if collective.get_world_size() == 1:
        return wish
    return bool(collective.allreduce(np.array([int(wish)]), collective.Op.MAX)[0])


def _raw(model: Any) -> bytes:
    return bytes(model.booster.save_raw("ubj")) if isinstance(model, XGBoostModel) else b""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
