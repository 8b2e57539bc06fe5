"""The passes of a PCA fit over its rows: blocks, checkpoints, a model that counts as rows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, final

import numpy as np
import numpy.typing as npt

from training.algorithms.gathering import offset_of
from training.algorithms.passes import Passes
from training.algorithms.snapshot import Snapshots
from training.algorithms.unsupervised.pca_model import PCAModel
from training.algorithms.unsupervised.pca_sums import Image, Sketch
from training.data import Dataset
from training.errors import TrainingStopped
from training.matrix import scipy_sparse
from training.run import Run
from training.streaming import Stream
from training.world import Contributed

__all__ = ["Work"]

_SHIFT_ROWS: Final = 1024

Sums = TypeVar("Sums", bound=Image | Sketch)
Block = tuple[Any, npt.NDArray[np.float64], int]


@final
class Work:
    """The rows of a fit, read in blocks as often as asked, with checkpoints between.

    Args:
        train: the rows.
        run: the fit's run.
        start: a model whose rows count as well.
        size: rows of a block.
        passes: how often all rows are read.
        centred: whether the mean will be taken off.
        identity: what a checkpoint must have been made with.

    Attributes:
        in_memory: whether all rows are.
        height: how many rows all processes have, with those that stand for the model.
        shift: what dense rows are moved by.
        steps: the blocks of all passes.
        first_pass: the pass that a checkpoint is in, else 0.
    """

    def __init__(
        self,
        train: Dataset | Stream,
        run: Run,
        *,
        start: PCAModel | None,
        size: int,
        passes: int,
        centred: bool,
        identity: Mapping[str, Any],
    ) -> None:
        self.run = run
        self._rows = Passes(train)
        self.in_memory = self._rows.in_memory is not None
        self._size = size
        self._first, total = offset_of(len(train), run.world)
        # The rows of the model are the first process's, after those of all.
        self._known = None if start is None or not run.world.is_first else _as_rows(start)
        self._total = total
        self._batches = self._rows.batches(size)
        self.steps = passes * self._batches
        self.height = total + (0 if start is None else len(start.s) + 1)
        self.shift = np.zeros(train.width)
        if centred and not self._rows.is_sparse:
            head = next(self._rows.parts())[:_SHIFT_ROWS]
            self.shift = head.mean(axis=0, dtype=np.float64)
        kept = {**identity, **self._rows.cut, "rows": len(train), "width": train.width}
        self._snapshots = Snapshots(run, kept)
        self._kept = self._snapshots.load()
        begun = 0 if self._kept is None else int(self._kept["pass"])
        # All are in one pass; a checkpoint of a later one than others have is of no use.
        self.first_pass = min(run.world.gather(begun))
        if begun > self.first_pass:
            self._kept = None
        # What an earlier pass has found is the same everywhere.
        held = run.world.gather(None if self._kept is None else self._kept.get("basis"))
        self._basis = next((basis for basis in held if basis is not None), None)

    def blocks(self, done: int) -> Iterator[Block]:
        """Give rows, their weights and the first one's number, after `done` mini-batches."""
        number, first = 0, self._first
        for rows in self._rows.parts():
            for start in range(0, rows.shape[0], self._size):
                if number >= done:
                    part = rows[start : start + self._size]
                    yield part, np.ones(part.shape[0]), first + start
                number += 1
            first += rows.shape[0]
        if self._known is not None and done <= self._batches:
            yield (*self._known, self._total)

    def restored(self) -> Image | Sketch | None:
        """Return the sums of the checkpoint to go on from; None where there is none."""
        device = self.run.device
        if self._kept is None:
            return None if self._basis is None else Image(self.shift, self._basis, device=device)
        if "sketched" in self._kept:
            return Sketch.of(self._kept, self.shift, self.run.seed, device=device)
        return Image.of(self._kept, self.shift, device=device)

    def add(self, number: int, sums: Image | Sketch) -> None:
        """Add all rows to the sums of a pass, from where its checkpoint ends.

        Raises:
            TrainingStopped: the run asked to stop.
        """
        done = 0
        if self._kept is not None and number == self.first_pass:
            done = int(self._kept["done"])
            self.run.sink.log(f"going on from a checkpoint, after mini-batch {done}")
        for part, weights, first in self.blocks(done):
            if self.run.should_stop():
                self._save(number, done, sums)
                raise TrainingStopped(
                    f"stopped after mini-batch {number * self._batches + done} of {self.steps}"
                )
            sums.add(part, weights, first)
            done += 1
            if self._snapshots.is_due:
                self._save(number, done, sums)
            at = number * self._batches + min(done, self._batches)
            self.run.sink.progress(at, self.steps)

    def merged(self, sums: Sums) -> Sums:
        """Add the sums of all processes, once each has added its rows."""
        parts: list[Any] = self.run.world.gather(sums)
        together: Sums = functools.reduce(lambda left, right: left.plus(right), parts)
        return together

    def done(self) -> None:
        """Leave the rest to the first process.

        Raises:
            Contributed: this is another one.
        """
        if not self.run.world.is_first:
            raise Contributed

    def check(self) -> None:
        """Stop when the run asks to.

        Raises:
            TrainingStopped: it does.
        """
        if self.run.should_stop():
            raise TrainingStopped("stopped while the rows were read")

    def stacked(self, parts: list[Any]) -> Any:
        """Put blocks of rows together again: an array, or a CSR matrix where rows are sparse."""
        if not self._rows.is_sparse:
            return np.concatenate(parts)
        library = scipy_sparse()
        return library.vstack([library.csr_matrix(part) for part in parts], format="csr")

    def _save(self, number: int, done: int, sums: Image | Sketch) -> None:
        place = {"pass": np.array(number), "done": np.array(done)}
        self._snapshots.save({**sums.arrays(), **place})


def _as_rows(model: PCAModel) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return rows and weights that count as the rows a model was fitted on (Ross et al. 2008).

    What the model's axes do not capture is lost.
    """
    weights = np.zeros(len(model.s) + 1)
    weights[-1] = np.sqrt(model.count)
    rows = np.concatenate([(model.v * model.s).T, weights[-1] * model.mean[None]])
    return rows, weights
