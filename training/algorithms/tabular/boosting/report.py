"""What a fit tells its run: each round, and the model as it is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, final

import numpy as np

from training import metrics
from training.run import Sink

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.fitting import Boosted
    from training.algorithms.tabular.boosting.model import XGBoostModel

__all__ = ["Reporter", "report_importance", "report_model", "round_line"]


@final
class Reporter:
    """Reports the rounds of a fit, of which a fold is a part.

    Args:
        sink: where to.
        total: the rounds of the whole fit.
        before: the rounds of the folds before this one.
        fold: what lines of a fold begin with; None: the fit is one, and its metrics are kept.
    """

    def __init__(self, sink: Sink, total: int, *, before: int = 0, fold: str | None = None) -> None:
        self._sink, self._total, self._before, self._fold = sink, total, before, fold
        self.has_reported = False
        """Whether a round was reported; a fit that goes on from its end makes none."""

    def round(self, number: int, done: int, values: Mapping[str, Mapping[str, float]]) -> None:
        """Report a round.

        Args:
            number: of the round, from 0.
            done: rounds that this fit has made.
            values: channel → metric → value.
        """
        self.has_reported = True
        if self._fold is None:
            for channel, measured in values.items():
                for metric, value in measured.items():
                    self._sink.metric(f"{channel}:{metric}", value, step=number)
        self._sink.log((self._fold or "") + round_line(number, values))
        self._sink.progress(self._before + done, self._total)

    def end(self, rounds: int) -> None:
        """Report that all is done, also where fewer rounds were needed."""
        self._sink.progress(self._before + rounds, self._total)


def round_line(number: int, values: Mapping[str, Mapping[str, float]]) -> str:
    """Write a round as SageMaker's log scrapers expect it.

    >>> round_line(3, {"validation": {"auc": 0.9}})
    '[3]#011validation-auc:0.90000'
    """
    return f"[{number}]" + "".join(
        f"#011{channel}-{metric}:{value:.5f}"
        for channel, measured in values.items()
        for metric, value in measured.items()
    )


def report_model(sink: Sink, model: XGBoostModel, boosted: Boosted, *, has_reported: bool) -> None:
    """Report the metrics of the model as it is kept, which early stopping may have cut.

    Args:
        sink: where to.
        model: as it is kept.
        boosted: what was made.
        has_reported: whether this process reported a round.
    """
    for channel, values in boosted.log.items():
        for metric, history in values.items():
            value = history[boosted.kept - 1]
            if boosted.kept < len(history) or not has_reported:
                sink.metric(f"{channel}:{metric}", value, step=boosted.start + boosted.kept - 1)
            sink.log(metrics.quality_line(f"{channel}:{metric}", value))
    sink.property("rounds", model.rounds)
    report_importance(sink, [model.importance()])


def report_importance(sink: Sink, found: list[dict[str, float]]) -> None:
    """Report how much inputs matter: over several boosters the mean, an unused input being 0."""
    names = dict.fromkeys(name for one in found for name in one)
    means = {name: float(np.mean([one.get(name, 0.0) for one in found])) for name in names}
    ordered = sorted(means.items(), key=lambda item: (-item[1], item[0]))
    sink.property("feature_importance", {n: v for n, v in ordered if math.isfinite(v)})
