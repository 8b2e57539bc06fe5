"""What the suite of all algorithms needs to know of one of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import pyarrow as pa

from training.algorithm import Algorithm, Model
from training.algorithms import find_algorithm
from training.data import Dataset
from training.run import Run

__all__ = ["Case", "case_of"]


@final
@dataclass(frozen=True, kw_only=True)
class Case:
    """One algorithm on a small problem with a known answer.

    Args:
        name: the algorithm.
        values: its hyperparameters, as text or typed; a fit should take well under a second.
        train: makes the training data, some hundred rows; number columns and a label where it
            takes one. The same each time.
        later: makes more data of the same kind, some hundred rows other than those.
        label: the label's column; None: unlabelled.
        reply: the column of the reply that is compared.
        column: a number column of the data, for errors that name one.
        quality: measures a model on `later` data; larger is better.
        baseline: what a trivial model reaches of it, which the algorithm must beat.
        validates: whether it reads a validation channel.
        metric: one it declares and reports in a fit, or by `evaluate` on a test channel.
        resizes: whether its data may have another number of columns without another `values`;
            else how the values change with it.
        exact: whether any number of threads gives the same bytes, not only nearly the same answer.
        missing: whether nulls are answered; else they are refused by column.
        partial: whether rows without one of the columns are answered, otherwise than the others.
        resumes: whether a fit goes on from its checkpoints.
        tolerance: by how much answers of equal rows may differ between batches and loads.
    """

    name: str
    values: Mapping[str, Any]
    train: Callable[[], pa.Table]
    later: Callable[[], pa.Table]
    label: str | None = None
    reply: str
    column: str
    quality: Callable[[Model, pa.Table], float]
    baseline: float
    validates: bool = False
    metric: str
    resizes: Callable[[Mapping[str, Any], int], Mapping[str, Any]] = field(
        default=lambda values, width: values
    )
    exact: bool = True
    missing: bool = False
    partial: bool = False
    resumes: bool = False
    tolerance: float = 1e-6

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm with the case's hyperparameters."""
        return find_algorithm(self.name).of(self.values)

    def dataset(self, table: pa.Table, *, like: Dataset | None = None) -> Dataset:
        """Take a table apart as a job would."""
        algorithm = self.algorithm
        return Dataset.of(
            table,
            label=self.label,
            inputs=like.inputs if like else None,
            channel="validation" if like else "train",
            labels=algorithm.labels,
            text=algorithm.text,
        )

    def fit(
        self,
        table: pa.Table | None = None,
        *,
        run: Run | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Model:
        """Fit a model, by default on the training data with one thread and seed 0."""
        data = self.dataset(self.train() if table is None else table)
        algorithm = self.algorithm if values is None else find_algorithm(self.name).of(values)
        return algorithm.fit(data, run or Run(threads=1))

    def answers(self, model: Model, table: pa.Table) -> list[Any]:
        """Return the reply column that is compared."""
        values: list[Any] = model.predict(table)[self.reply].to_pylist()
        return values


def case_of(name: str) -> Case:
    """Return the case of an algorithm, from the module of its name beside this one."""
    module = importlib.import_module(f"tests.training.cases.{name.replace('-', '_')}")
    case: Case = module.CASE
    return case
