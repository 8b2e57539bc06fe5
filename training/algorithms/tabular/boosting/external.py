"""Matrices of rows that stay on disk, as bins of a histogram. Importing this imports XGBoost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import pyarrow as pa
import xgboost

from training.algorithms.tabular.boosting.matrix import options_of
from training.data import Dataset
from training.errors import FitFailed
from training.run import Run
from training.streaming import Stream

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost

__all__ = ["check_streams", "matrix_on_disk"]

# A page holds a value's bin twice, by row and by column; with gaps, also where each stands.
_VALUE_BYTES: Final = 8
_ROW_BYTES: Final = 32


def check_streams(algorithm: XGBoost, run: Run) -> None:
    """Refuse hyperparameters with which rows must be in memory.

    Raises:
        InvalidHyperparameter: the message says what to use instead.
    """
    more = "rows do not fit into the job's memory; give the job more memory, or "
    reasons = (
        (
            algorithm.kind == "gblinear",
            "booster=gblinear reads whole columns; use booster=gbtree",
            ("booster",),
        ),
        (
            algorithm.grower not in ("auto", "hist", "gpu_hist"),
            f"tree_method={algorithm.grower} sorts whole columns; use tree_method=hist",
            ("tree_method", "updater"),
        ),
        (
            algorithm.updater is not None,
            "updater changes trees in memory; use tree_method=hist without one",
            ("updater", "process_type"),
        ),
        (
            algorithm.kfold is not None,
            "_kfold takes rows from anywhere; fit each fold in a job of its own",
            ("_kfold",),
        ),
        (
            run.device.kind != "cpu",
            "on a GPU the bins must fit into its memory; use device=cpu",
            (),
        ),
    )
    for is_wrong, reason, names in reasons:
        if is_wrong:
            raise algorithm.refuse(more + reason, *names)


def matrix_on_disk(
    stream: Stream, *, threads: int, max_bin: int | None, like: Any, folder: Path
) -> Any:
    """Make a quantile matrix whose pages are in a folder, and which removes them with itself.

    It has the bins that a matrix in memory has, or, where a column has very many values, others
    that are as fine: see the library on merged sketches.

    Args:
        stream: the rows.
        threads: to make it with.
        max_bin: the bins of a column; None: the library's choice.
        like: the training data's matrix, whose bins serve.
        folder: for the pages.

    Raises:
        FitFailed: there is no room in the folder.
    """
    pages = _Pages(stream, folder)
    return xgboost.ExtMemQuantileDMatrix(
        pages,
        nthread=threads,
        max_bin=max_bin,
        ref=like,
        enable_categorical=pages.has_words,
    )


@final
class _Pages(xgboost.DataIter):
    """Gives the library one part of a stream after another, as often as it asks."""

    def __init__(self, stream: Stream, folder: Path) -> None:
        self._stream = stream
        self._folder = folder
        self._parts: Iterator[Dataset] = iter(())
        self.has_words = any(column.kind == "category" for column in stream.inputs.columns)
        super().__init__(cache_prefix=str(folder / stream.channel), release_data=True)

    def reset(self) -> None:
        """Begin anew."""
        self._parts = self._stream.parts()

    def next(self, input_data: Callable[..., None]) -> bool:
        """Give one part; False: there is none left."""
        part = next(self._parts, None)
        if part is None:
            pa.default_memory_pool().release_unused()
            return False
        self._check_room(len(part))
        options = options_of(part)
        options.pop("enable_categorical", None)
        input_data(**options)
        return True

    def _check_room(self, rows: int) -> None:
        """Refuse to go on before the disk is full: the library would end the process then."""
        needed = rows * (_ROW_BYTES + _VALUE_BYTES * self._stream.width)
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise FitFailed(
                f"{self._stream.channel}: the rows do not fit into memory, and the disk of "
                f"{self._folder} is full: expected room for {needed / 1e6:.1f} MB more, got "
                f"{free / 1e6:.1f} MB; make room there, or give the job more memory",
                library="xgboost",
            )
