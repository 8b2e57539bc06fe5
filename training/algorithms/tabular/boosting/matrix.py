"""Datasets as the library's matrices: columns, labels, weights and queries."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.data import Dataset
from training.errors import InvalidData, LibraryMissing
from training.inputs import Inputs
from training.matrix import dense, dimensions, sparse
from training.streaming import Stream

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost

__all__ = [
    "Rows",
    "column_names",
    "in_queries",
    "labelled",
    "library",
    "matrix_of",
    "options_of",
    "prepared",
    "rows_of",
    "safe_names",
]

Rows = Dataset | Stream
"""Rows in memory, or read a part at a time."""


def library() -> Any:
    """Import XGBoost, late: a job's definition is checked without it.

    Raises:
        LibraryMissing: it is not installed; the message names the extra.
    """
    try:
        import xgboost
    except ImportError as error:
        raise LibraryMissing(
            "the algorithm xgboost needs the library xgboost: pip install 'featureline[training]'",
            library="xgboost",
            extra="training",
        ) from error
    return xgboost


def matrix_of(
    dataset: Dataset,
    *,
    threads: int,
    histogram: bool,
    max_bin: int | None = None,
    like: Any = None,
) -> Any:
    """Make a matrix of a dataset with its labels, weights and queries.

    Args:
        dataset: n rows; with queries, each query's rows must lie together: see `in_queries`.
        threads: to make it with.
        histogram: a quantile matrix, which holds bins instead of values.
        max_bin: the bins of a column; None: the library's choice.
        like: the training data's matrix, whose bins serve.
    """
    xgboost = library()
    options = options_of(dataset) | {"nthread": threads}
    if not histogram:
        return xgboost.DMatrix(**options)
    if max_bin is not None:
        options["max_bin"] = max_bin
    return xgboost.QuantileDMatrix(ref=like, **options)


def options_of(dataset: Dataset) -> dict[str, Any]:
    """Return inputs, labels, weights and queries as arguments of the library's matrices."""
    options = rows_of(dataset.features, dataset.inputs, channel=dataset.channel)
    options |= labelled(dataset)
    if dataset.groups is not None:
        options["qid"] = dataset.groups
    if dataset.weights is not None:
        options["weight"] = _weights(dataset)
    return options


def rows_of(table: pa.Table, inputs: Inputs, *, channel: str) -> dict[str, Any]:
    """Return encoded inputs as arguments of the library's matrices.

    Columns of numbers and words go in as they are; with a vector among them all are one matrix,
    sparse where one of them is: what a sparse vector does not name is missing then, not zero.
    """
    if all(column.kind in ("number", "category") for column in inputs.columns):
        return {"data": table.rename_columns(safe_names(inputs)), "enable_categorical": True}
    if inputs.is_sparse:
        data: Any = sparse(table, inputs, channel=channel)
    else:
        data = dense(table, inputs, channel=channel, missing="nan")
    return {"data": data, "feature_names": safe_names(inputs)}


def labelled(dataset: Dataset) -> dict[str, Any]:
    """Return labels as arguments of the library's matrices; intervals as their ends."""
    if dataset.upper is None:
        return {"label": dataset.target}
    return {"label_lower_bound": dataset.target, "label_upper_bound": dataset.upper}


@overload
def prepared(algorithm: XGBoost, dataset: Dataset) -> Dataset: ...


@overload
def prepared(algorithm: XGBoost, dataset: Rows) -> Rows: ...


def prepared(algorithm: XGBoost, dataset: Rows) -> Rows:
    """Return a dataset as the objective takes it: rows by query, labels as intervals.

    Raises:
        InvalidData: rows of a ranking have no query.
    """
    if algorithm.is_ranking:
        # A stream's rows are in the order of their queries, or it would not have been opened.
        _check_queries(dataset)
        return in_queries(dataset) if isinstance(dataset, Dataset) else dataset
    if algorithm.is_censored and dataset.upper is None:
        # A time that is known is an interval without a width.
        return replace(dataset, upper=dataset.labels())
    return dataset


def in_queries(dataset: Dataset) -> Dataset:
    """Return a dataset for rankings: the rows of a query together, queries by their number.

    Raises:
        InvalidData: rows have no query.
    """
    _check_queries(dataset)
    groups = dataset.groups
    assert groups is not None
    if (groups[1:] >= groups[:-1]).all():
        return dataset
    return dataset.take(np.argsort(groups, kind="stable"))


def _check_queries(dataset: Rows) -> None:
    if dataset.groups is None:
        raise InvalidData(
            f"{dataset.channel}: rank:* ranks the rows of a query, and the rows have none; give "
            "them in a column 'qid', or as text/libsvm with qid:NUMBER after the label",
            channel=dataset.channel,
        )


def safe_names(inputs: Inputs) -> list[str]:
    """Return the matrix' columns for the library, which takes no brackets and no `<` in names."""
    # A dict keeps the order and, with a million columns, finds a name at once.
    names: dict[str, None] = {}
    for number, name in enumerate(column_names(inputs)):
        safe = re.sub(r"[\[\]<]", "_", name)
        names[safe if safe not in names else f"{safe}_{number}"] = None
    return list(names)


def column_names(inputs: Inputs) -> list[str]:
    """Return the matrix' columns by the names users know."""
    tabular = all(column.kind in ("number", "category") for column in inputs.columns)
    return list(inputs.names) if tabular else dimensions(inputs)


def _weights(dataset: Dataset) -> npt.NDArray[np.float64]:
    """Return a weight for each row, or with queries, as the library wants, for each query."""
    weights = dataset.weights
    assert weights is not None
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise InvalidData(
            f"{dataset.channel}: weights are numbers >= 0, got {weights[row]:g} in row {row + 1}",
            channel=dataset.channel,
        )
    if dataset.groups is None:
        return weights
    _, first, query = np.unique(dataset.groups, return_index=True, return_inverse=True)
    per_query: npt.NDArray[np.float64] = weights[first]
    uneven = weights != per_query[query]
    if uneven.any():
        row = int(uneven.argmax())
        raise InvalidData(
            f"{dataset.channel}: all rows of a query need one weight, and query "
            f"{dataset.groups[row]} has {per_query[query][row]:g} and {weights[row]:g}",
            channel=dataset.channel,
        )
    return per_query
