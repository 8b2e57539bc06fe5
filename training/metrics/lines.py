"""The lines a job prints, in the form that SageMaker's log scrapers expect."""

from __future__ import annotations

__all__ = ["larger_is_better", "progress_line", "quality_line"]

_LARGER_IS_BETTER = frozenset(
    {
        *("accuracy", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "f1_quantile", "f_beta"),
        *(
            "precision",
            "precision_macro",
            "precision_micro",
            "recall",
            "recall_macro",
            "recall_micro",
        ),
        *("auc", "aucpr", "ap", "map", "ndcg", "dcg", "pre", "r2"),
        *("binary_classification_accuracy", "binary_f_beta", "roc_auc_score"),
        *("multiclass_accuracy", "multiclass_top_k_accuracy"),
        *("macro_f_beta", "macro_precision", "macro_recall", "discriminator_auc"),
        *("explained_variance", "ari", "nmi", "pwll", "npmi", "wetc", "topic_uniqueness"),
        *("log_likelihood", "topics_used"),
    }
)


def larger_is_better(metric: str) -> bool:
    """Whether a metric is maximised, by its name without channel; `ndcg@5` counts as `ndcg`.

    >>> larger_is_better("auc"), larger_is_better("ndcg@5"), larger_is_better("rmse")
    (True, True, False)
    """
    return metric.split("@")[0] in _LARGER_IS_BETTER


def quality_line(name: str, value: float, *, epoch: int | None = None, host: str = "algo-1") -> str:
    """Write a metric the way SageMaker's log scrapers expect it.

    >>> quality_line("validation:auc", 0.91)
    '#quality_metric: host=algo-1, validation auc <score>=0.91'
    >>> quality_line("train:rmse", 0.5, epoch=3)
    '#quality_metric: host=algo-1, epoch=3, train rmse <loss>=0.5'
    """
    channel, _, metric = name.rpartition(":")
    at = "" if epoch is None else f" epoch={epoch},"
    kind = "score" if larger_is_better(metric) else "loss"
    return f"#quality_metric: host={host},{at} {channel} {metric} <{kind}>={value:.10g}"


def progress_line(percent: int, *, host: str = "algo-1") -> str:
    """Write how far a job is the way SageMaker's algorithms do.

    >>> progress_line(40)
    '#progress_metric: host=algo-1, completed 40 %'
    """
    return f"#progress_metric: host={host}, completed {percent} %"
