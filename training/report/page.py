"""A job's report as one HTML page: metrics by step, curves, confusion, importance."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training import metrics
from training.hyperparameter import as_text
from training.report import chart

__all__ = ["Report", "write_report"]

Array = npt.NDArray[Any]

_MOST_IMPORTANT: Final = 20
_MOST_CLASSES: Final = 20
_WORDS: Final = 3
_STYLE: Final = """
body { font: 14px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 1000px; margin: 2rem auto; }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 }
figcaption { font-weight: 600 } svg text { font: 11px system-ui, sans-serif; fill: currentColor }
.grid { stroke: #e5e7eb } .guess { stroke: #9ca3af;
stroke-dasharray: 4 4; fill: none } path { stroke-width: 1.6 }
@media (prefers-color-scheme: dark) { body { background: #111827; color: #e5e7eb }
.grid { stroke: #374151 } }
"""


@final
@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report shows.

    Args:
        job: its name.
        algorithm: its algorithm's.
        hyperparameters: those that were set.
        rows: (name, value, step) of each metric as it was reported.
        importance: how much each input matters, largest first.
        channel: the channel that the model was asked about; empty: none.
        target: its labels.
        answers: the model's replies to its rows.
        topics: of a topic model, each with its `words` and its `share` or `alpha`.
    """

    job: str
    algorithm: str
    hyperparameters: Mapping[str, Any]
    rows: Sequence[tuple[str, float, int | None]]
    importance: Mapping[str, float] = field(default_factory=dict)
    channel: str = ""
    target: Array | None = None
    answers: pa.Table | None = None
    topics: Sequence[Mapping[str, Any]] = ()


def write_report(report: Report, path: Path) -> None:
    """Write the page; it loads nothing from elsewhere."""
    name = html.escape(report.job)
    body = "\n".join(_sections(report))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title>'
        f"<style>{_STYLE}</style><h1>{name}: {html.escape(report.algorithm)}</h1>\n{body}</html>\n",
        encoding="utf-8",
    )


def _sections(report: Report) -> Iterator[str]:
    final = {name: value for name, value, _ in report.rows}
    if final:
        yield _table("Metrics", {name: f"{value:.6g}" for name, value in final.items()})
    charts = [*_by_step(report.rows), *_of_answers(report)]
    if report.importance:
        most = dict(list(report.importance.items())[:_MOST_IMPORTANT])
        charts.append(("Importance of inputs", chart.bars(most, x="importance")))
    if report.topics:
        charts.append(("Topics by their share", chart.bars(_shares(report.topics), x="share")))
    if charts:
        figures = "".join(
            f"<figure><figcaption>{html.escape(title)}</figcaption>{svg}</figure>"
            for title, svg in charts
        )
        yield f'<h2>Pictures</h2><div class="charts">{figures}</div>'
    if report.hyperparameters:
        yield _table("Hyperparameters", {k: as_text(v) for k, v in report.hyperparameters.items()})


def _table(title: str, values: Mapping[str, str]) -> str:
    rows = "".join(
        f'<tr><th>{html.escape(name)}</th><td class="n">{html.escape(value)}</td></tr>'
        for name, value in values.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{rows}</table>"


def _by_step(rows: Sequence[tuple[str, float, int | None]]) -> Iterator[tuple[str, str]]:
    """Give a chart of each metric that was reported over more than one step, by channel."""
    series: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for name, value, step in rows:
        if step is not None:
            channel, _, metric = name.rpartition(":")
            series.setdefault(metric, {}).setdefault(channel, []).append((step, value))
    for metric, channels in series.items():
        drawn = {
            channel: (np.array([s for s, _ in seen]), np.array([v for _, v in seen]))
            for channel, seen in channels.items()
        }
        if any(len(xy[0]) > 1 for xy in drawn.values()):
            yield f"{metric} by step", chart.lines(drawn, x="step", y=metric)


def _of_answers(report: Report) -> Iterator[tuple[str, str]]:
    """Give the charts that replies and labels allow."""
    target, answers = report.target, report.answers
    if target is None or answers is None or not len(answers):
        return
    on = f" on {report.channel}" if report.channel else ""
    answers = _of_pairs(answers)
    has_labels = "predicted_label" in answers.column_names
    score = answers["score"] if "score" in answers.column_names else None
    is_number = score is not None and pa.types.is_floating(score.type)
    two = set(np.unique(target).tolist()) == {0.0, 1.0}
    if has_labels:
        yield from _confusion(target, answers["predicted_label"].to_numpy(), on)
    elif two and is_number and score is not None:
        yield from _confusion(target, (score.to_numpy() >= 0.5).astype(np.float64), on)
    if score is None or not is_number:
        return
    given = score.to_numpy()
    if two:
        false, true, _ = metrics.roc_curve(target, given)
        area = metrics.auc(target, given)
        square = (0.0, 1.0, 0.0, 1.0)
        yield (
            f"ROC{on}, area {area:.4f}",
            chart.lines(
                {"ROC": (false, true)},
                x="false positive rate",
                y="true positive rate",
                diagonal=True,
                bounds=square,
            ),
        )
        precision, recall, _ = metrics.precision_recall_curve(target, given)
        mean = metrics.average_precision(target, given)
        yield (
            f"Precision and recall{on}, mean precision {mean:.4f}",
            chart.lines(
                {"precision": (recall, precision)}, x="recall", y="precision", bounds=square
            ),
        )
    elif not has_labels:
        yield f"Predictions{on}", chart.points(target, given, x="label", y="prediction")


def _shares(topics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the share of each of the largest topics, by its number and first words."""
    sizes = np.array([topic.get("share", topic.get("alpha", 0.0)) for topic in topics], np.float64)
    sizes /= sizes.sum() or 1
    return {
        " ".join([f"{place}:", *topics[place]["words"][:_WORDS]]): float(sizes[place])
        for place in np.argsort(-sizes, kind="stable")[:_MOST_IMPORTANT].tolist()
    }


def _of_pairs(answers: pa.Table) -> pa.Table:
    """Return lists of `scores`, a probability for each class or a value, as label and score."""
    if "scores" not in answers.column_names:
        return answers
    scores = np.array(answers["scores"].to_pylist(), np.float64)
    columns = {"score": scores[:, -1]} if scores.shape[1] <= 2 else {}
    if scores.shape[1] > 1:
        columns["predicted_label"] = scores.argmax(axis=1).astype(np.float64)
    return pa.table(columns)


def _confusion(target: Array, predicted: Array, on: str) -> Iterator[tuple[str, str]]:
    classes = np.unique(np.concatenate([target, predicted]))
    if 1 < len(classes) <= _MOST_CLASSES:
        counts = metrics.confusion_matrix(target, predicted)
        names = [f"{one:g}" for one in classes]
        yield f"Confusion{on}", chart.matrix(counts, names, x="predicted", y="label")
