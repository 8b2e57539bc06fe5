"""Principal component analysis of data of any size: exact, or by a random sketch; SageMaker's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.distance import is_csr
from training.algorithms.snapshot import Snapshots
from training.algorithms.unsupervised import pca_axes
from training.algorithms.unsupervised.pca_axes import Axes
from training.algorithms.unsupervised.pca_model import MEAN, ORDER, VALUES, VECTORS, PCAModel
from training.algorithms.unsupervised.pca_sums import Image, Level, Sketch
from training.data import Dataset, Labels
from training.errors import InvalidData, TrainingStopped
from training.hyperparameter import Dependency, boolean, categorical, integer
from training.matrix import scipy_sparse
from training.metrics import quality_line
from training.run import Run

__all__ = ["PCA", "PCAModel"]

_CONTENT_TYPES: Final = (
    "text/csv",
    "application/x-recordio-protobuf",
    "application/x-parquet",
    "application/vnd.apache.arrow.file",
)
_SHIFT_ROWS: Final = 1024
_MOST_SIDE: Final = 32_768

Block = tuple[Any, npt.NDArray[np.float64], int]


@final
@dataclass(frozen=True, kw_only=True)
class PCA(Algorithm):
    """The axes along which rows vary most, and rows as coordinates on them.

    `regular` sums squares in double precision and is exact: its memory grows with feature_dim², or
    with rows² where there are fewer rows than dimensions. `randomized` sums a sketch, then the
    scatter times the sketch's basis.

    Sources: see `training.algorithms.unsupervised.pca_axes`.

    >>> PCA.of({"feature_dim": "64", "mini_batch_size": "500", "num_components": "10"}).sketch_size
    20
    """

    name: ClassVar = "pca"
    model: ClassVar = PCAModel
    files: ClassVar = (MEAN, VECTORS, VALUES, ORDER, "inputs.json")
    libraries: ClassVar[Mapping[str, str]] = {"numpy": "numpy", "scipy": "scipy"}
    answers: ClassVar = (
        "application/jsonlines",
        "application/json",
        "text/csv",
        "application/x-recordio-protobuf",
    )
    labels: ClassVar[Labels] = "optional"
    reply: ClassVar = "projections"
    channels: ClassVar = (
        ChannelDeclaration(
            name="train",
            about="the rows to find axes of",
            required=True,
            content_types=_CONTENT_TYPES,
            distributions=("ShardedByS3Key", "FullyReplicated"),
        ),
        ChannelDeclaration(
            name="test", about="rows to measure the axes on", content_types=_CONTENT_TYPES
        ),
    )
    metrics: ClassVar = (
        MetricDeclaration(
            name="test:explained_variance",
            maximize=True,
            pattern=r"#quality_metric: host=\S+, test explained_variance <score>=(\S+)",
        ),
    )
    dependencies: ClassVar = (
        Dependency(
            ("num_components", "feature_dim"),
            "num_components is at most feature_dim",
            lambda a: a.num_components <= a.feature_dim,
        ),
        Dependency(
            ("extra_components", "algorithm_mode"),
            "extra_components goes only with algorithm_mode=randomized",
            lambda a: a.extra_components == -1 or a.algorithm_mode == "randomized",
        ),
        Dependency(
            ("passes", "algorithm_mode"),
            "passes goes only with algorithm_mode=randomized; regular needs one",
            lambda a: a.passes == "auto" or a.algorithm_mode == "randomized",
        ),
    )

    feature_dim: int = integer(required=True, low=1, about="dimensions of the rows")
    mini_batch_size: int = integer(required=True, low=1, about="rows that are summed at once")
    num_components: int = integer(required=True, low=1, about="axes to find")
    algorithm_mode: str = categorical(
        "regular", "randomized", default="regular", about="exact, or by a random sketch"
    )
    extra_components: int = integer(
        -1,
        low=-1,
        about="rows of the sketch beyond num_components; -1: the larger of 10 and num_components",
    )
    subtract_mean: bool = boolean(
        default=True, about="whether the mean is taken from the rows, in answers too"
    )
    passes: int | str = integer(
        "auto",
        low=1,
        words=("auto",),
        about="how often randomized reads the rows: 1 is the sketch alone; auto: 2; not in "
        "SageMaker",
    )

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> PCAModel:
        """Find the axes.

        Raises:
            InvalidData: a value is missing.
            InvalidHyperparameter: feature_dim is not the data's, or the data is too wide for
                algorithm_mode=regular; or the model to start from does not fit.
            TrainingStopped: the run asked to stop; a checkpoint was written where they are kept.
        """
        self._check_width(train, self.feature_dim)
        start = self._start(run, train)
        work = _Work(self, train, start, run)
        if self.algorithm_mode == "randomized":
            axes, level = self._randomized(work)
            how = f"randomized, {self._passes} {'pass' if self._passes == 1 else 'passes'}"
        else:
            self._check_size(work)
            if work.height < self.feature_dim:
                axes, level = self._by_rows(work)
                how = "regular, by the inner products of the rows"
            else:
                axes, level = self._regular(work)
                how = "regular, by the sum of squares"
        energy = level.variance(centred=self.subtract_mean)
        mean = level.mean if self.subtract_mean else np.zeros(self.feature_dim)
        model = PCAModel(
            train.inputs,
            mean,
            np.ascontiguousarray(axes.vectors[:, ::-1]),
            np.ascontiguousarray(axes.values[::-1]),
            level.count,
            self.subtract_mean,
            energy,
        )
        explained = min(1.0, float(model.explained.sum())) if energy > 0 else 1.0
        run.sink.metric("train:explained_variance", explained)
        run.sink.log(quality_line("train:explained_variance", explained))
        run.sink.log(f"algorithm: {how}")
        run.sink.property("algorithm", how)
        run.sink.property("singular_values", [float(value) for value in model.s])
        run.sink.progress(work.steps, work.steps)
        return model

    def evaluate(self, model: PCAModel, data: Dataset) -> Mapping[str, float]:  # type: ignore[override]
        """Measure the share of the squared distances to the model's mean that the axes capture."""
        rows = data.csr() if data.inputs.is_sparse else data.matrix()
        return {"explained_variance": model.captured(rows)}

    @property
    def sketch_size(self) -> int:
        """How many rows the sketch of randomized has."""
        extra = self.extra_components
        if extra == -1:
            extra = max(10, self.num_components)
        return min(self.num_components + extra, self.feature_dim)

    @property
    def _passes(self) -> int:
        if self.algorithm_mode == "regular":
            return 1
        return self.passes if isinstance(self.passes, int) else 2

    def _regular(self, work: _Work) -> tuple[Axes, Level]:
        sums = work.restored() or Image(work.shift, device=work.run.device)
        work.add(0, sums)
        assert isinstance(sums, Image)
        scatter = sums.scatter(centred=self.subtract_mean)
        return pca_axes.of_scatter(scatter, self.num_components), sums.level

    def _by_rows(self, work: _Work) -> tuple[Axes, Level]:
        """Find the axes of fewer rows than dimensions."""
        level = Level(work.shift)
        parts, weights = [], []
        for part, weight, _ in work.blocks(0):
            work.check()
            parts.append(level.moved(part, weight))
            weights.append(weight)
        rows = work.stacked(parts)
        weight = np.concatenate(weights)
        mean = level.total / level.count * self.subtract_mean
        return pca_axes.of_rows(rows, weight, mean, self.num_components), level

    def _randomized(self, work: _Work) -> tuple[Axes, Level]:
        centred, count, device = self.subtract_mean, self.num_components, work.run.device
        sums = work.restored()
        if sums is None:
            sums = Sketch(work.shift, self.sketch_size, work.run.seed, device=device)
        work.add(work.first_pass, sums)
        for number in range(work.first_pass + 1, self._passes):
            if isinstance(sums, Sketch):
                found = sums.rows(centred=centred)
            else:
                found = sums.scatter(centred=centred).T
            sums = Image(work.shift, pca_axes.basis_of(found), device=device)
            work.add(number, sums)
        if isinstance(sums, Sketch):
            return pca_axes.of_sketch(sums.rows(centred=centred), count), sums.level
        assert sums.basis is not None
        scatter = sums.scatter(centred=centred)
        return pca_axes.of_image(scatter, sums.basis, count), sums.level

    def _check_size(self, work: _Work) -> None:
        side = min(work.height, self.feature_dim)
        if side > _MOST_SIDE:
            raise self._refuse(
                f"algorithm_mode: regular keeps {side:,}² numbers ({side**2 * 8 / 1e9:.0f} GB) for "
                f"{work.height:,} rows of {self.feature_dim:,} dimensions, and more than "
                f"{_MOST_SIDE:,}² are refused; use randomized",
                "algorithm_mode",
                "feature_dim",
            )

    def _start(self, run: Run, train: Dataset) -> PCAModel | None:
        start = run.start
        if start is None:
            return None
        if not isinstance(start, PCAModel):
            raise InvalidData(
                f"model: pca goes on from a model of pca, got {type(start).__name__}",
                channel="model",
            )
        if start.inputs != train.inputs:
            raise InvalidData(
                "model: pca goes on from a model with the same inputs; it takes "
                f"{', '.join(start.inputs.names)} and {train.channel} has "
                f"{', '.join(train.inputs.names)}, or their kinds differ",
                channel="model",
            )
        if start.centred != self.subtract_mean:
            raise self._refuse(
                f"subtract_mean: the model to go on from has {str(start.centred).lower()}, got "
                f"{str(self.subtract_mean).lower()}",
                "subtract_mean",
            )
        return start


@final
class _Work:
    """The rows of a fit, read in blocks as often as asked, with checkpoints between."""

    def __init__(self, algorithm: PCA, train: Dataset, start: PCAModel | None, run: Run) -> None:
        self.run = run
        self._rows = train.csr() if train.inputs.is_sparse else train.matrix()
        self._size = algorithm.mini_batch_size
        self._passes = algorithm._passes
        self._known = None if start is None else _as_rows(start)
        self._batches = -(-len(train) // self._size)
        self.steps = self._passes * self._batches
        self.height = len(train) + (0 if start is None else len(start.s) + 1)
        self.shift = np.zeros(algorithm.feature_dim)
        if algorithm.subtract_mean and not is_csr(self._rows):
            self.shift = self._rows[:_SHIFT_ROWS].mean(axis=0, dtype=np.float64)
        self._snapshots = Snapshots(
            run, {**algorithm.values(), "rows": len(train), "width": self._rows.shape[1]}
        )
        self._kept = self._snapshots.load()
        self.first_pass = 0 if self._kept is None else int(self._kept["pass"])

    def blocks(self, done: int) -> Iterator[Block]:
        """Give rows, their weights and the first one's number, after `done` mini-batches."""
        for start in range(done * self._size, self._rows.shape[0], self._size):
            part = self._rows[start : start + self._size]
            yield part, np.ones(part.shape[0]), start
        if self._known is not None and done <= self._batches:
            yield (*self._known, self._rows.shape[0])

    def restored(self) -> Image | Sketch | None:
        """Return the sums of the checkpoint to go on from; None where there is none."""
        if self._kept is None:
            return None
        device = self.run.device
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

    def check(self) -> None:
        """Stop when the run asks to.

        Raises:
            TrainingStopped: it does.
        """
        if self.run.should_stop():
            raise TrainingStopped("stopped while the rows were read")

    def stacked(self, parts: list[Any]) -> Any:
        """Put blocks of rows together again: an array, or a CSR matrix where rows are sparse."""
        if not is_csr(self._rows):
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
