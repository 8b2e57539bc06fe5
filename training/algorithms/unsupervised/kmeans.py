"""K-Means in mini-batches with extra centres: SageMaker's, for data of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np

from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.distance import as_array
from training.algorithms.lloyd import Clusters, refined, seeds, swept
from training.algorithms.passes import Passes, matrix_of
from training.algorithms.snapshot import Snapshots
from training.algorithms.unsupervised.kmeans_model import (
    CENTRES,
    COUNTS,
    KMeansModel,
)
from training.algorithms.unsupervised.kmeans_state import LocalLloyd, State, merge
from training.data import Dataset, Labels
from training.errors import InvalidData, TrainingStopped
from training.hyperparameter import Tunable, categorical, comma_list, continuous, integer
from training.metrics import quality_line
from training.profile import profile, suited
from training.run import Run
from training.streaming import Stream
from training.world import Contributed

__all__ = ["KMeans", "KMeansModel"]

_CONTENT_TYPES: Final = (
    "text/csv",
    "application/x-recordio-protobuf",
    "application/x-parquet",
    "application/vnd.apache.arrow.file",
    "application/jsonlines",
)
_SEEDINGS: Final = ("random", "kmeans++")
# The fit's random numbers: of the order of rows, of a batch, and of the reduction.
_ORDER, _BATCH, _REDUCTION = 1, 2, 3
# Of the profile auto: epochs up to so many rows, and beyond.
_EPOCHS: Final = ((100_000, 10), (1_000_000, 5))
_EPOCHS_BEYOND: Final = 2


@final
@dataclass(frozen=True, kw_only=True)
class KMeans(Algorithm):
    """Clusters around k centres with the least squared distances.

    Mini-batches move k × extra_center_factor centres; Lloyd's algorithm on these, each weighing the
    rows it stands for, leaves k. The extra centres find the clusters that k alone would miss.
    Rows are read in a new order each epoch, by the seed. Of several epochs the later half, rounded
    down, is iterations of Lloyd's algorithm over all rows with the k centres; with
    half_life_time_size every epoch moves the many centres.

    Sources: Sculley, "Web-scale k-means clustering", WWW 2010; see `training.algorithms.lloyd`.

    >>> KMeans.of({"k": "10", "feature_dim": "64", "eval_metrics": '["msd", "ssd"]'}).eval_metrics
    ('msd', 'ssd')
    """

    name: ClassVar = "kmeans"
    continues: ClassVar = True
    streams: ClassVar = True
    model: ClassVar = KMeansModel
    files: ClassVar = (CENTRES, COUNTS, "inputs.json")
    hosts: ClassVar = "rows"
    libraries: ClassVar[Mapping[str, str]] = {"numpy": "numpy", "scipy": "scipy"}
    answers: ClassVar = (
        "application/jsonlines",
        "application/json",
        "text/csv",
        "application/x-recordio-protobuf",
    )
    labels: ClassVar[Labels] = "optional"
    channels: ClassVar = (
        ChannelDeclaration(
            name="train",
            about="the rows to cluster",
            required=True,
            content_types=_CONTENT_TYPES,
            distributions=("ShardedByS3Key", "FullyReplicated"),
        ),
        ChannelDeclaration(
            name="test", about="rows to measure the centres on", content_types=_CONTENT_TYPES
        ),
    )
    metrics: ClassVar = tuple(
        MetricDeclaration(
            name=f"test:{metric}",
            maximize=False,
            pattern=rf"#quality_metric: host=\S+, test {metric} <loss>=(\S+)",
        )
        for metric in ("msd", "ssd")
    )

    k: int = integer(required=True, low=2, about="clusters")
    feature_dim: int = integer(required=True, low=1, about="dimensions of the rows")
    epochs: int = integer(1, low=1, tunable=(1, 10), about="passes over the rows")
    mini_batch_size: int = integer(
        5000, low=1, tunable=(3000, 15000), about="rows after which centres move"
    )
    extra_center_factor: int | str = integer(
        "auto",
        low=1,
        words=("auto",),
        tunable=(4, 10),
        about="centres per cluster while rows are read; auto: 10 up to k = 100, then 1000 / k, at "
        "least 4",
    )
    init_method: str = categorical(
        *_SEEDINGS,
        default="random",
        tunable=Tunable(choices=_SEEDINGS),
        about="how the first centres are chosen from the first mini-batch",
    )
    half_life_time_size: int = integer(
        0, low=0, about="rows after which a row weighs half; 0: rows keep their weight"
    )
    local_lloyd_init_method: str = categorical(
        *_SEEDINGS, default="kmeans++", about="how a trial of the reduction chooses its centres"
    )
    local_lloyd_max_iter: int = integer(300, low=1, about="iterations of a trial, at most")
    local_lloyd_num_trials: int | str = integer(
        "auto",
        low=1,
        words=("auto",),
        about="trials of the reduction; auto: 10 up to 1,000 centres, else 3",
    )
    local_lloyd_tol: float = continuous(
        1e-4, low=0, high=1, about="part of its loss by which an iteration must lower it to go on"
    )
    eval_metrics: tuple[str, ...] = comma_list(
        "msd", "ssd", default=("msd",), about="what the test channel reports"
    )
    full_lloyd_max_iter: int = integer(
        0,
        low=0,
        about="more iterations of Lloyd's algorithm over all rows, at the end; not in SageMaker",
    )
    profile: str = profile("epochs, 10 up to 100,000 rows, 5 up to a million, then 2")

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> KMeansModel:
        """Find the centres.

        Raises:
            InvalidData: there are fewer rows than clusters, or a value is missing.
            InvalidHyperparameter: feature_dim is not the data's, or the model to start from has
                another k or other inputs.
            TrainingStopped: the run asked to stop; a checkpoint was written where they are kept.
            Contributed: this is not the first of several processes, and its part is done.
        """
        return self._fit(train, run)

    def fit_stream(
        self, train: Stream, run: Run, *, validation: Stream | None = None
    ) -> KMeansModel:
        """Find the centres of rows that stay on disk, as `fit` does.

        The first centres are chosen among rows drawn from all; then each part is read in the order
        of the files, and its rows in a new one. Iterations of Lloyd's algorithm over all rows read
        them once each.
        """
        return self._fit(train, run)

    def _fit(self, train: Dataset | Stream, run: Run) -> KMeansModel:
        self._check_width(train, self.feature_dim)
        total = sum(run.world.gather(len(train)))
        if total < self.k:
            raise InvalidData(
                f"{train.channel}: kmeans: k={self.k} clusters need as many rows, and there are "
                f"{total}",
                channel=train.channel,
            )
        epochs = next((epochs for most, epochs in _EPOCHS if total <= most), _EPOCHS_BEYOND)
        return suited(self, {"epochs": epochs}, run)._fitted(train, total, run)

    def _fitted(self, train: Dataset | Stream, total: int, run: Run) -> KMeansModel:
        start = self._start(run, train)
        rows = Passes(train)
        state = self._read(rows, run, start)
        clusters = self._finish(rows, state, run)
        model = KMeansModel(train.inputs, clusters.centres, clusters.counts)
        own = sum(float(model.squared_distances(part).sum()) for part in rows.parts())
        msd = sum(run.world.gather(own)) / total
        if not run.world.is_first:
            raise Contributed
        run.sink.metric("train:msd", msd)
        run.sink.log(quality_line("train:msd", msd))
        run.sink.property("cluster_sizes", [float(count) for count in clusters.counts])
        steps = self._steps(rows)
        run.sink.progress(steps, steps)
        return model

    def evaluate(self, model: KMeansModel, data: Dataset) -> Mapping[str, float]:  # type: ignore[override]
        """Measure the mean (`msd`) and the sum (`ssd`) of squared distances, as eval_metrics."""
        distances = model.squared_distances(matrix_of(data))
        measured = {"msd": float(distances.mean()), "ssd": float(distances.sum())}
        return {name: measured[name] for name in self.eval_metrics}

    @property
    def factor(self) -> int:
        """How many centres there are per cluster while rows are read."""
        if isinstance(self.extra_center_factor, int):
            return self.extra_center_factor
        return min(10, max(4, 1000 // self.k))

    def _trials(self, centres: int) -> int:
        if isinstance(self.local_lloyd_num_trials, int):
            return self.local_lloyd_num_trials
        return 10 if centres <= 1000 else 3

    @property
    def _passes(self) -> int:
        """How many epochs move the many centres."""
        return self.epochs if self.half_life_time_size else (self.epochs + 1) // 2

    def _steps(self, rows: Passes) -> int:
        return self._passes * rows.batches(self.mini_batch_size) + 1

    def _read(self, rows: Passes, run: Run, start: KMeansModel | None) -> State:
        """Pass over the rows, one mini-batch after another.

        Each of several processes passes over its own; what they have found is put together.
        """
        n, size = rows.count, self.mini_batch_size
        batches = rows.batches(size)
        identity = {**self._identity(), **rows.cut, "rows": n, "width": rows.width}
        snapshots = Snapshots(run, identity)
        kept = snapshots.load()
        summed = np.zeros(self._passes)
        if kept is None:
            state, done = self._first(rows, run, start), 0
        else:
            state = State(kept["centres"], kept["counts"])
            done = int(kept["done"])
            # A fit may go on with more epochs than it was begun with, or fewer.
            held = np.atleast_1d(kept["summed"])[: self._passes]
            summed[: len(held)] = held
            run.sink.log(f"going on from a checkpoint, after mini-batch {done}")

        def save() -> None:
            snapshots.save(
                {
                    "centres": state.centres,
                    "counts": state.counts,
                    "done": np.array(done),
                    "summed": summed,
                }
            )

        for epoch in range(done // batches, self._passes):
            for batch in _batches(rows, run, epoch, size, done - epoch * batches):
                if run.should_stop():
                    save()
                    raise TrainingStopped(f"stopped after mini-batch {done} of {self._steps(rows)}")
                state, distance = state.after(
                    batch,
                    half_life=self.half_life_time_size,
                    random=np.random.default_rng([run.seed, _BATCH, done]),
                    device=run.device,
                    # Where rows lie in the order of files, those of a centre may be yet to come.
                    reseed=rows.in_memory is not None or epoch > 0,
                )
                done += 1
                summed[epoch] += distance
                if snapshots.is_due:
                    save()
                run.sink.progress(done, self._steps(rows))
            if run.world.size == 1:
                _report(run, epoch, summed[epoch] / n)
        if run.world.size == 1:
            return state
        found = run.world.gather((n, summed, state))
        total = sum(rows for rows, _, _ in found)
        for epoch, each in enumerate(sum(one for _, one, _ in found) / total):
            _report(run, epoch, each)
        return merge([one for _, _, one in found])

    def _first(self, rows: Passes, run: Run, start: KMeansModel | None) -> State:
        """Choose the first centres among the first rows, beside those of a model to go on from."""
        n = rows.count
        count = min(n, self.k * self.factor)
        known = State(np.zeros((0, rows.width)), np.zeros(0))
        if start is not None:
            # What it stands for counts once in all processes together.
            known = State(start.centres, start.counts / run.world.size)
        new = max(count - len(known.centres), 0)
        if not new:
            return known
        drawn = _order(run, 0, n)[: max(self.mini_batch_size, new)]
        if rows.is_sparse:
            # What becomes a centre is dense; a whole batch of wide rows need not be.
            drawn = drawn[: 4 * new]
        points = as_array(rows.take(drawn)).astype(np.float64)
        random = np.random.default_rng([run.seed, _BATCH])
        chosen = seeds(points, np.ones(len(points)), new, self.init_method, random)
        return State(
            np.concatenate([known.centres, points[chosen]]),
            np.concatenate([known.counts, np.zeros(new)]),
        )

    def _finish(self, rows: Passes, state: State, run: Run) -> Clusters:
        """Leave k of the centres, and polish these on all rows where that is asked for."""

        def check() -> None:
            if run.should_stop():
                raise TrainingStopped("stopped while the centres were reduced to k")

        how = LocalLloyd(
            start=self.local_lloyd_init_method,
            max_iterations=self.local_lloyd_max_iter,
            trials=self._trials(len(state.centres)),
            tolerance=self.local_lloyd_tol,
        )
        random = np.random.default_rng([run.seed, _REDUCTION])
        # Decided in one process: the others would find the same but for rounding.
        reduced = state.reduced(self.k, how, random, check=check) if run.world.is_first else None
        clusters: Clusters = run.world.gather(reduced)[0]
        iterations = self.epochs - self._passes + self.full_lloyd_max_iter
        if not iterations:
            return clusters
        if rows.in_memory is None:
            return swept(
                rows.parts,
                clusters.centres,
                max_iterations=iterations,
                tolerance=self.local_lloyd_tol,
                check=check,
            )
        return refined(
            rows.in_memory,
            clusters.centres,
            max_iterations=iterations,
            tolerance=self.local_lloyd_tol,
            check=check,
            world=run.world,
        )

    def _start(self, run: Run, train: Dataset | Stream) -> KMeansModel | None:
        start = self._gone_on_from(run, train)
        if not isinstance(start, KMeansModel):
            return None
        if len(start.centres) != self.k:
            raise self._refuse(
                f"k: the model to go on from has {len(start.centres)} clusters, got {self.k}", "k"
            )
        return start

    def _identity(self) -> dict[str, Any]:
        """Return what a checkpoint must agree with: all but what comes after the passes."""
        later = ("epochs", "eval_metrics", "full_lloyd_max_iter")
        return {
            name: value
            for name, value in self.values().items()
            if name not in later and not name.startswith("local_lloyd_")
        }


def _report(run: Run, epoch: int, msd: float) -> None:
    run.sink.metric("train:msd", float(msd), step=epoch)
    run.sink.log(quality_line("train:msd", float(msd), epoch=epoch))


def _batches(rows: Passes, run: Run, epoch: int, size: int, done: int) -> Iterator[Any]:
    """Pass over the rows in an epoch's order, and leave out the batches that are done."""
    for place, part in enumerate(rows.parts()):
        order = _order(run, epoch, part.shape[0], place)
        for at in range(0, len(order), size):
            if done <= 0:
                yield part[order[at : at + size]]
            done -= 1


def _order(run: Run, epoch: int, n: int, part: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of the rows of a part in an epoch; the first part may be all rows."""
    of_part = [part] if part else []
    return np.random.default_rng([run.seed, _ORDER, epoch, *of_part]).permutation(n)
