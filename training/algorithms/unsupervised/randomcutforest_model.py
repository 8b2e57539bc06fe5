"""A fitted random cut forest: trees over samples, scores, attributions, and their change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.unsupervised.randomcutforest_samples import Samples
from training.algorithms.unsupervised.randomcutforest_trees import Score, Trees, grow, joined
from training.data import as_table
from training.errors import InvalidData
from training.inputs import Inputs
from training.matrix import check_complete, dense, dimensions

__all__ = ["FILES", "SIGMAS", "RandomCutForestModel"]

FILES: Final = (
    *("forest.json", "center.npy", "points.npy", "samples.npy", "keys.npy", "nodes.npy"),
    "roots.npy",
)
SIGMAS: Final = 3.0
"""How many standard deviations over the mean a score is called an anomaly."""

_BLOCK_NUMBERS: Final = 1 << 22
# Squares and sums over 10,000 dimensions of larger ones would not be finite in float32.
_LARGEST: Final = 1e30


@final
@dataclass(frozen=True, eq=False)
class RandomCutForestModel(Model):
    """Random cut trees, the samples they stand on, and the columns they take.

    Attributes:
        columns: the inputs.
        center: (d,) what is taken from every row first, so that float32 keeps the differences.
        samples: the rows of `trees.points` under each tree.
        trees: over those.
        seen: how many rows were offered to the samples so far.
        mean: of the scores of training rows.
        deviation: the standard deviation of those.
        seed: of the random numbers of later changes.
    """

    columns: Inputs
    center: npt.NDArray[np.float64]
    samples: Samples
    trees: Trees
    seen: int
    mean: float = 0.0
    deviation: float = 0.0
    seed: int = 0

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    @property
    def threshold(self) -> float:
        """The score over which a row is an anomaly by the three-sigma rule on training rows."""
        return self.mean + SIGMAS * self.deviation

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with a column `score`; about 1 or below is ordinary."""
        return pa.table({"score": self.scores(batch)})

    def scores(self, batch: object, score: Score = "expected") -> npt.NDArray[np.float64]:
        """Return a score of n rows; see `Trees.scores` for which there are."""
        parts = [self.trees.scores(points, score) for points in self._points(batch)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def attribution(self, batch: object) -> pa.Table:
        """Tell what of each row's score comes from which dimension.

        Returns:
            n rows of two structs `low` and `high` with a value per dimension of the matrix
            (`wind`, `sky=wet`, `features[3]`): its share of the score since the row lies below, or
            above, the others there. They sum to the score.
        """
        names = dimensions(self.columns)
        sides = [self.trees.attribution(points) for points in self._points(batch)]
        empty = np.zeros((0, len(names)))
        table: dict[str, pa.Array] = {}
        for place, name in enumerate(("low", "high")):
            whole = np.concatenate([empty, *(side[place] for side in sides)])
            table[name] = pa.StructArray.from_arrays([pa.array(v) for v in whole.T], names)
        return pa.table(table)

    def update(
        self,
        batch: object,
        *,
        decay: float = 0.0,
        between: Callable[[int], None] = lambda done: None,
    ) -> Self:
        """Return the forest that has seen n more rows, in their order.

        Rows enter the samples with their chance; a tree whose sample changed is grown anew, which
        has the same distribution as inserting and deleting points in it (Guha et al. 2016,
        theorems 2 and 3).

        Args:
            batch: n rows.
            decay: by what share a row's weight falls with each later one; 0: all rows count alike,
                1 ÷ w: about the last w rows count.
            between: called between steps; it may raise.
        """
        table = self.columns.encode(as_table(batch))
        check_complete(table, self.columns)
        return self.offered(
            len(table),
            lambda rows: table.take(pa.array(rows)),
            decay=decay,
            between=between,
        )

    def offered(
        self,
        count: int,
        take: Callable[[npt.NDArray[np.intp]], pa.Table],
        *,
        decay: float = 0.0,
        between: Callable[[int], None] = lambda done: None,
    ) -> Self:
        """Return the forest that has seen `count` more rows, of which it takes those it samples.

        Args:
            count: how many rows.
            take: gives encoded rows without missing values by their ascending numbers.
            decay: as for `update`.
            between: as for `update`.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number in [0, 1), got {decay!r}")
        random = np.random.default_rng([self.seed, self.seen])
        known = len(self.trees.points)
        samples = self.samples.offer(count, known, -np.log1p(-decay), random)
        is_new = samples.rows >= known
        kept = np.unique(samples.rows[is_new]) - known
        places = known + np.searchsorted(kept, samples.rows - known)
        samples = replace(samples, rows=np.where(is_new, places, samples.rows).astype(np.int32))
        more: Iterator[npt.NDArray[Any]] = iter(())
        if len(kept):
            more = self.points_of(take(kept.astype(np.intp)), self.columns, self.center)
        points = np.concatenate([self.trees.points, *more])
        changed = np.asarray(is_new.any(axis=1))
        grown = self._regrown(points, samples, changed, random, between)
        return replace(grown, seen=self.seen + count)

    def forget(self, batch: object) -> Self:
        """Return the forest without the rows that equal one of n; rows it has not are no error.

        Raises:
            InvalidData: a tree would be left without any row.
        """
        points = self.trees.points
        # Adding 0 makes -0 equal to it in bytes too.
        known = {row.tobytes() for part in self._points(batch) for row in part + np.float32(0)}
        gone = np.array([row.tobytes() in known for row in points + np.float32(0)])
        samples = self.samples.without(gone)
        if (samples.rows < 0).all(axis=1).any():
            raise InvalidData("input: without these rows a tree of the forest would be empty")
        changed = np.asarray((samples.rows != self.samples.rows).any(axis=1))
        random = np.random.default_rng([self.seed, self.seen, 1])
        return self._regrown(points, samples, changed, random)

    def save(self, folder: Path) -> None:
        """Write `forest.json`, the arrays as NumPy's files, and the inputs."""
        numbers = {"seen": self.seen, "seed": self.seed, "clock": self.samples.clock}
        numbers |= {"mean": self.mean, "deviation": self.deviation}
        (folder / "forest.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        arrays: tuple[npt.NDArray[Any], ...] = (
            *(self.center, self.trees.points, self.samples.rows, self.samples.keys),
            *(self.trees.nodes, self.trees.roots),
        )
        for name, array in zip(FILES[1:], arrays, strict=True):
            np.save(folder / name, array)
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        numbers = json.loads((folder / "forest.json").read_text(encoding="utf-8"))
        center, points, rows, keys, nodes, roots = (np.load(folder / name) for name in FILES[1:])
        return cls(
            columns=Inputs.load(folder),
            center=center,
            samples=Samples(rows, keys, numbers["clock"]),
            trees=Trees(points, nodes, roots),
            seen=numbers["seen"],
            mean=numbers["mean"],
            deviation=numbers["deviation"],
            seed=numbers["seed"],
        )

    @classmethod
    def points_of(
        cls,
        table: pa.Table,
        inputs: Inputs,
        center: npt.NDArray[np.float64],
        *,
        channel: str = "input",
    ) -> Iterator[npt.NDArray[Any]]:
        """Give encoded rows as centred float32 points, a block at a time."""
        step = max(1, _BLOCK_NUMBERS // inputs.width)
        for start in range(0, len(table), step):
            part = dense(table.slice(start, step), inputs, dtype=np.float64, channel=channel)
            with np.errstate(over="ignore"):
                yield np.clip(part - center, -_LARGEST, _LARGEST).astype(np.float32)

    def _points(self, batch: object) -> Iterator[npt.NDArray[Any]]:
        return self.points_of(self.columns.encode(as_table(batch)), self.columns, self.center)

    def _regrown(
        self,
        points: npt.NDArray[Any],
        samples: Samples,
        changed: npt.NDArray[np.bool_],
        random: np.random.Generator,
        between: Callable[[int], None] = lambda done: None,
    ) -> Self:
        """Grow the trees anew whose sample changed, and drop the points that no tree has."""
        used, samples = samples.used()
        place_of = np.full(len(points), -1, np.int32)
        place_of[used] = np.arange(len(used))
        parts: list[npt.NDArray[Any]] = []
        grown: Iterator[npt.NDArray[Any]] = iter(())
        if changed.any():
            grown = iter(grow(points[used], samples.rows[changed], random, between=between))
        for number, is_new in enumerate(changed):
            part = next(grown) if is_new else self.trees.tree(number)
            if not is_new:
                leaf = part["point"] >= 0
                part["point"][leaf] = place_of[part["point"][leaf]]
            parts.append(part)
        return replace(self, samples=samples, trees=joined(points[used], parts))
