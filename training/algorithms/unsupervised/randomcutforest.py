"""Random Cut Forest: a score of how unusual a row is, without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final, final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.gathering import gathered, offset_of
from training.algorithms.unsupervised.randomcutforest_model import (
    FILES,
    SIGMAS,
    RandomCutForestModel,
)
from training.algorithms.unsupervised.randomcutforest_samples import Samples
from training.algorithms.unsupervised.randomcutforest_trees import grow, joined
from training.data import Dataset, Labels
from training.errors import InvalidData, TrainingStopped
from training.hyperparameter import comma_list, integer
from training.matrix import check_complete
from training.profile import profile, suited
from training.run import Run
from training.streaming import Stream
from training.world import Contributed

__all__ = ["RandomCutForest", "RandomCutForestModel"]

_CONTENT_TYPES: Final = (
    *("application/x-recordio-protobuf", "text/csv", "application/x-parquet"),
    "application/vnd.apache.arrow.file",
    "application/jsonlines",
)
_METRICS: Final = ("f1", "precision", "recall", "accuracy", "auc", "ap", "f1_quantile")
# Scores of more training rows would hardly move their mean and deviation.
_SCORED_ROWS: Final = 2000


@final
@dataclass(frozen=True, kw_only=True)
class RandomCutForest(Algorithm):
    """Score rows by how early random cuts part them from the others (Guha et al. 2016).

    Each tree cuts a sample of the rows at random until each is alone; a row that lies apart is
    alone after few cuts. Training takes no labels and does not look at one; a `test` channel with
    labels, 1 for an anomaly, is measured.
    """

    name: ClassVar[str] = "randomcutforest"
    continues: ClassVar = True
    streams: ClassVar = True
    hosts: ClassVar = "rows"
    cpu_only: ClassVar = True
    model: ClassVar[type[RandomCutForestModel]] = RandomCutForestModel
    channels: ClassVar[tuple[ChannelDeclaration, ...]] = (
        ChannelDeclaration(
            name="train",
            about="rows to sample from, without labels",
            required=True,
            content_types=_CONTENT_TYPES,
            distributions=("ShardedByS3Key",),
        ),
        ChannelDeclaration(
            name="test",
            about="rows with a label, 1 for an anomaly, to measure on",
            content_types=_CONTENT_TYPES,
        ),
    )
    metrics: ClassVar[tuple[MetricDeclaration, ...]] = tuple(
        MetricDeclaration(
            name=f"test:{name}",
            maximize=True,
            pattern=rf"#quality_metric: host=\S+, test {name} <score>=(\S+)",
        )
        for name in _METRICS
    )
    answers: ClassVar[tuple[str, ...]] = (
        *("text/csv", "application/json", "application/jsonlines"),
        "application/x-recordio-protobuf",
    )
    files: ClassVar[tuple[str, ...]] = (*FILES, "inputs.json")
    labels: ClassVar[Labels] = "optional"
    reply: ClassVar[str] = "scores"

    feature_dim: int = integer(
        low=1, high=10_000, required=True, about="dimensions of a row, as its matrix has columns"
    )
    num_trees: int = integer(100, low=50, high=1000, tunable=(50, 1000), about="trees")
    num_samples_per_tree: int = integer(
        256,
        low=1,
        high=2048,
        tunable=(1, 2048),
        about="rows under each tree; about 1 ÷ the share of anomalies",
    )
    eval_metrics: tuple[str, ...] = comma_list(
        "accuracy",
        "precision_recall_fscore",
        default=("accuracy", "precision_recall_fscore"),
        about="what is measured of the test channel by the three-sigma rule",
    )
    profile: str = profile(
        "num_samples_per_tree, an eighth of the rows as a power of two, from 256 to 1,024"
    )

    @property
    def keeps_checkpoints(self) -> bool:
        """None: a fit reads the rows once, and is soon done."""
        return False

    def fit(
        self, train: Dataset, run: Run, *, validation: Dataset | None = None
    ) -> RandomCutForestModel:
        """Sample the rows and grow a tree over each sample.

        A model to start from goes on: the rows join those it has seen.

        Raises:
            InvalidData: a value is missing, or the model to start from takes other columns.
            InvalidHyperparameter: `feature_dim` is not the number of columns, or the model to
                start from has other trees.
            InvalidJob: there is a validation channel.
            TrainingStopped: the run asked to stop.
            Contributed: this is not the first of several processes, and its part is done.
        """
        self.check_channels(["train"] if validation is None else ["train", "validation"])
        return self._fit(train, run)

    def fit_stream(
        self, train: Stream, run: Run, *, validation: Stream | None = None
    ) -> RandomCutForestModel:
        """Sample rows that stay on disk, and grow the trees that `fit` would; they are read thrice.

        In memory are the rows that some tree has.
        """
        return self._fit(train, run)

    def _fit(self, train: Dataset | Stream, run: Run) -> RandomCutForestModel:
        self._check_width(train, self.feature_dim)
        eighth = sum(run.world.gather(len(train))) // 8
        samples = min(max(1 << eighth.bit_length() - 1, 256), 1024) if eighth else 256
        return suited(self, {"num_samples_per_tree": samples}, run)._fitted(train, run)

    def _fitted(self, train: Dataset | Stream, run: Run) -> RandomCutForestModel:
        start = self._to_go_on_from(run, train)
        for part in train.parts() if isinstance(train, Stream) else (train,):
            check_complete(part.features, part.inputs, channel=part.channel)
        first, total = offset_of(len(train), run.world)
        count = min(total, _SCORED_ROWS)
        scored = gathered(train, np.arange(count) * total // count, first, run.world)
        between = self._asking(run)
        if start is None:
            model = self._grown(train, first, total, run, between)
        else:
            model = start.offered(
                total,
                lambda rows: _own(gathered(train, rows, first, run.world)).features,
                between=between,
            )
        model = self._measured(model, _own(scored), run)
        run.sink.progress(self.num_trees, self.num_trees)
        return model

    def evaluate(self, model: RandomCutForestModel, data: Dataset) -> Mapping[str, float]:  # type: ignore[override]
        """Measure scores against labels, 1 for an anomaly and 0 for an ordinary row.

        A row is called an anomaly where its score is over the mean of this channel's scores by
        more than three standard deviations. That rule breaks down above some two percent of
        anomalies, however good the ranking; so `auc` and `ap` measure the ranking alone, and
        `f1_quantile` calls as many rows anomalies as have the label.
        """
        target = data.labels()
        wrong = ~np.isin(target, (0, 1))
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidData(
                f"{data.channel}: label column {data.label!r}: expected 1 for an anomaly and 0, "
                f"got {target[row]:g} in row {row + 1}",
                channel=data.channel,
                column=data.label,
            )
        score = model.scores(data.features)
        called = (score > score.mean() + SIGMAS * score.std()).astype(np.float64)
        found: dict[str, float] = {}
        if "precision_recall_fscore" in self.eval_metrics:
            found["f1"] = metrics.f1_binary(target, called)
            found["precision"] = metrics.precision(target, called)
            found["recall"] = metrics.recall(target, called)
        if "accuracy" in self.eval_metrics:
            found["accuracy"] = metrics.accuracy(target, called)
        if 0 < target.sum() < len(target):
            # Without rows of both kinds there is no ranking to measure.
            found["auc"] = metrics.auc(target, score)
            found["ap"] = metrics.average_precision(target, score)
            found["f1_quantile"] = metrics.f1_binary(target, _highest(score, int(target.sum())))
        return found

    def _asking(self, run: Run) -> Callable[[int], None]:
        def between(done: int) -> None:
            run.sink.progress(done, self.num_trees)
            if run.should_stop():
                raise TrainingStopped(f"stopped after {done} of {self.num_trees} trees")

        return between

    def _grown(
        self,
        train: Dataset | Stream,
        first: int,
        total: int,
        run: Run,
        between: Callable[[int], None],
    ) -> RandomCutForestModel:
        random = np.random.default_rng([run.seed, total])
        drawn = Samples.draw(self.num_trees, self.num_samples_per_tree, total, random)
        rows, samples = drawn.used()
        # Of all rows only those are made a matrix that some tree has.
        sampled = _own(gathered(train, rows, first, run.world))
        matrix = sampled.matrix(np.float64)
        middle = len(matrix) // 2
        center = np.partition(matrix, middle, axis=0)[middle].copy()
        blocks = RandomCutForestModel.points_of(sampled.features, train.inputs, center)
        points = np.concatenate(list(blocks))
        nodes = grow(points, samples.rows, random, between=between)
        return RandomCutForestModel(
            columns=train.inputs,
            center=center,
            samples=samples,
            trees=joined(points, nodes),
            seen=total,
            seed=run.seed,
        )

    def _to_go_on_from(self, run: Run, train: Dataset | Stream) -> RandomCutForestModel | None:
        start = self._gone_on_from(run, train)
        if not isinstance(start, RandomCutForestModel):
            return None
        for name, has in zip(
            ("num_trees", "num_samples_per_tree"), start.samples.rows.shape, strict=True
        ):
            asked = getattr(self, name)
            if has != asked:
                raise self._refuse(f"{name}: the model to go on from has {has}, got {asked}", name)
        return start

    def _measured(
        self, model: RandomCutForestModel, scored: Dataset, run: Run
    ) -> RandomCutForestModel:
        """Score training rows, spread over all, for the threshold that the model keeps."""
        scores = model.scores(scored.features)
        model = replace(model, mean=float(scores.mean()), deviation=float(scores.std()))
        for name, value in (("mean_score", model.mean), ("deviation", model.deviation)):
            run.sink.metric(f"train:{name}", value)
            run.sink.log(metrics.quality_line(f"train:{name}", value))
        run.sink.property("threshold", model.threshold)
        return model


def _own(rows: Dataset | None) -> Dataset:
    """Return rows that have come to the first process; the others have nothing more to do."""
    if rows is None:
        raise Contributed
    return rows


def _highest(score: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Mark the rows with the `count` highest scores, and those that tie with the last of them."""
    marked: npt.NDArray[np.bool_] = score >= np.sort(score)[len(score) - count]
    return marked.astype(np.float64)
