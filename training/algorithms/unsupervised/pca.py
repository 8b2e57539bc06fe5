"""Principal component analysis of data of any size: exact, or by a random sketch; SageMaker's."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, final

import numpy as np

from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.unsupervised import pca_axes
from training.algorithms.unsupervised.pca_axes import Axes
from training.algorithms.unsupervised.pca_model import MEAN, ORDER, VALUES, VECTORS, PCAModel
from training.algorithms.unsupervised.pca_sums import Image, Level, Sketch
from training.algorithms.unsupervised.pca_work import Work
from training.data import Dataset, Labels
from training.hyperparameter import Dependency, boolean, categorical, integer
from training.metrics import quality_line
from training.profile import profile, suited
from training.run import Run
from training.streaming import Stream

__all__ = ["PCA", "PCAModel"]

_CONTENT_TYPES: Final = (
    "text/csv",
    "application/x-recordio-protobuf",
    "application/x-parquet",
    "application/vnd.apache.arrow.file",
    "application/jsonlines",
)
_MOST_SIDE: Final = 32_768
# Of the profile auto: up to so many rows or dimensions the exact way is fast.
_MOST_EXACT: Final = 4096


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
    continues: ClassVar = True
    streams: ClassVar = True
    model: ClassVar = PCAModel
    files: ClassVar = (MEAN, VECTORS, VALUES, ORDER, "inputs.json")
    hosts: ClassVar = "rows"
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
    profile: str = profile(
        "algorithm_mode, randomized where rows and dimensions are more than 4,096 and the sketch "
        "is at most a quarter of the dimensions, else regular"
    )

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> PCAModel:
        """Find the axes.

        Raises:
            InvalidData: a value is missing.
            InvalidHyperparameter: feature_dim is not the data's, or the data is too wide for
                algorithm_mode=regular; or the model to start from does not fit.
            TrainingStopped: the run asked to stop; a checkpoint was written where they are kept.
            Contributed: this is not the first of several processes, and its part is done.
        """
        return self._fit(train, run)

    def fit_stream(self, train: Stream, run: Run, *, validation: Stream | None = None) -> PCAModel:
        """Find the axes of rows that stay on disk: those of `fit`, but for rounding.

        Each pass reads the rows once.
        """
        return self._fit(train, run)

    def _fit(self, train: Dataset | Stream, run: Run) -> PCAModel:
        self._check_width(train, self.feature_dim)
        side = min(sum(run.world.gather(len(train))), self.feature_dim)
        is_wide = side > _MOST_EXACT and 4 * self.sketch_size <= self.feature_dim
        mode = "randomized" if is_wide else "regular"
        if self.extra_components != -1 or self.passes != "auto":
            # What goes with one mode alone was asked for, and so was the mode.
            mode = self.algorithm_mode
        return suited(self, {"algorithm_mode": mode}, run)._fitted(train, run)

    def _fitted(self, train: Dataset | Stream, run: Run) -> PCAModel:
        start = self._start(run, train)
        work = Work(
            train,
            run,
            start=start,
            size=self.mini_batch_size,
            passes=self._passes,
            centred=self.subtract_mean,
            identity=self.values(),
        )
        if self.algorithm_mode == "randomized":
            axes, level = self._randomized(work)
            how = f"randomized, {self._passes} {'pass' if self._passes == 1 else 'passes'}"
        else:
            self._check_size(work)
            if work.in_memory and work.height < self.feature_dim:
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
        run.sink.property("method", how)
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

    def _regular(self, work: Work) -> tuple[Axes, Level]:
        sums = work.restored() or Image(work.shift, device=work.run.device)
        work.add(0, sums)
        assert isinstance(sums, Image)
        sums = work.merged(sums)
        work.done()
        scatter = sums.scatter(centred=self.subtract_mean)
        return pca_axes.of_scatter(scatter, self.num_components), sums.level

    def _by_rows(self, work: Work) -> tuple[Axes, Level]:
        """Find the axes of fewer rows than dimensions."""
        own = []
        for part, weight, _ in work.blocks(0):
            work.check()
            own.append((part, weight))
        level = Level(work.shift)
        parts, weights = [], []
        for part, weight in itertools.chain.from_iterable(work.run.world.gather(own)):
            parts.append(level.moved(part, weight))
            weights.append(weight)
        work.done()
        rows = work.stacked(parts)
        weight = np.concatenate(weights)
        mean = level.total / level.count * self.subtract_mean
        return pca_axes.of_rows(rows, weight, mean, self.num_components), level

    def _randomized(self, work: Work) -> tuple[Axes, Level]:
        centred, count, device = self.subtract_mean, self.num_components, work.run.device
        sums = work.restored()
        if sums is None:
            sums = Sketch(work.shift, self.sketch_size, work.run.seed, device=device)
        work.add(work.first_pass, sums)
        sums = work.merged(sums)
        for number in range(work.first_pass + 1, self._passes):
            if isinstance(sums, Sketch):
                found = sums.rows(centred=centred)
            else:
                found = sums.scatter(centred=centred).T
            sums = Image(work.shift, pca_axes.basis_of(found), device=device)
            work.add(number, sums)
            sums = work.merged(sums)
        work.done()
        if isinstance(sums, Sketch):
            return pca_axes.of_sketch(sums.rows(centred=centred), count), sums.level
        assert sums.basis is not None
        scatter = sums.scatter(centred=centred)
        return pca_axes.of_image(scatter, sums.basis, count), sums.level

    def _check_size(self, work: Work) -> None:
        side = min(work.height, self.feature_dim) if work.in_memory else self.feature_dim
        if side > _MOST_SIDE:
            where = "" if work.in_memory else " that do not fit into memory"
            raise self._refuse(
                f"algorithm_mode: regular keeps {side:,}² numbers ({side**2 * 8 / 1e9:.0f} GB) for "
                f"{work.height:,} rows of {self.feature_dim:,} dimensions{where}, and more than "
                f"{_MOST_SIDE:,}² are refused; use randomized",
                "algorithm_mode",
                "feature_dim",
            )

    def _start(self, run: Run, train: Dataset | Stream) -> PCAModel | None:
        start = self._gone_on_from(run, train)
        if not isinstance(start, PCAModel):
            return None
        if start.centred != self.subtract_mean:
            raise self._refuse(
                f"subtract_mean: the model to go on from has {str(start.centred).lower()}, got "
                f"{str(self.subtract_mean).lower()}",
                "subtract_mean",
            )
        return start
