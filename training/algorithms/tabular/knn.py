"""k nearest neighbours: SageMaker's, on a sample, by faiss or by products of matrices."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
import numpy.typing as npt

from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.distance import is_csr
from training.algorithms.gathering import gathered, offset_of
from training.algorithms.tabular.knn_index import (
    INNER,
    L2,
    FlatIndex,
    Index,
    has_faiss,
    threads,
)
from training.algorithms.tabular.knn_lists import PROBED_ROWS, Lists, check, sampled
from training.algorithms.tabular.knn_model import (
    INDEX,
    LABELS,
    SETTINGS,
    KNNModel,
    decided,
    prepared,
)
from training.algorithms.tabular.knn_reduction import Reduction
from training.data import Dataset
from training.errors import InvalidData
from training.hyperparameter import Dependency, categorical, integer
from training.metrics import accuracy, mse, quality_line
from training.profile import profile, suited
from training.run import Run
from training.world import Contributed

__all__ = ["KNN", "KNNModel"]

_CONTENT_TYPES: Final = (
    "text/csv",
    "application/x-recordio-protobuf",
    "application/x-parquet",
    "application/vnd.apache.arrow.file",
    "application/jsonlines",
)
_LISTS: Final = ("faiss.IVFFlat", "faiss.IVFPQ")
_PQ_M: Final = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
_TRIALS: Final = 32
_TRIAL_ROWS: Final = 2048
_LISTED_ROWS: Final = 100_000
"""Rows from which on the profile auto puts them into lists."""
_EVALUATED_ROWS: Final = 4096
_MOST_CELLS: Final = 1 << 31


@final
@dataclass(frozen=True, kw_only=True)
class KNN(Algorithm):
    """The label that most of the k nearest rows of a sample have, or the mean of their labels.

    Sources: Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", 2017, for lists;
    Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011, for codes;
    see `training.algorithms.tabular.knn_reduction` for reductions.

    >>> values = {"feature_dim": "64", "k": "5", "sample_size": "1000"}
    >>> KNN.of({**values, "predictor_type": "classifier"}).index_type
    'faiss.Flat'
    """

    name: ClassVar = "knn"
    continues: ClassVar = True
    model: ClassVar = KNNModel
    files: ClassVar = (INDEX, LABELS, SETTINGS, "inputs.json")
    # faiss is optional: where it is installed its version belongs to the lineage.
    hosts: ClassVar = "rows"
    libraries: ClassVar[Mapping[str, str]] = {"numpy": "numpy"} | (
        {"faiss": "faiss-cpu"} if importlib.util.find_spec("faiss") else {}
    )
    answers: ClassVar = (
        "application/jsonlines",
        "application/json",
        "text/csv",
        "application/x-recordio-protobuf",
    )
    channels: ClassVar = (
        ChannelDeclaration(
            name="train",
            about="the rows to sample, with their labels",
            required=True,
            content_types=_CONTENT_TYPES,
            distributions=("ShardedByS3Key", "FullyReplicated"),
        ),
        ChannelDeclaration(name="test", about="rows to measure on", content_types=_CONTENT_TYPES),
    )
    metrics: ClassVar = (
        MetricDeclaration(
            name="test:accuracy",
            maximize=True,
            pattern=r"#quality_metric: host=\S+, test accuracy <score>=(\S+)",
        ),
        MetricDeclaration(
            name="test:mse",
            maximize=False,
            pattern=r"#quality_metric: host=\S+, test mse <loss>=(\S+)",
        ),
    )
    dependencies: ClassVar = (
        Dependency(
            ("k", "sample_size"),
            "k is at most sample_size",
            lambda a: a.k <= a.sample_size,
        ),
        Dependency(
            ("dimension_reduction_type", "dimension_reduction_target"),
            "dimension_reduction_type and dimension_reduction_target go only together",
            lambda a: (
                (a.dimension_reduction_type is None) == (a.dimension_reduction_target is None)
            ),
        ),
        Dependency(
            ("dimension_reduction_trials", "dimension_reduction_type"),
            "dimension_reduction_trials goes only with dimension_reduction_type",
            lambda a: (
                a.dimension_reduction_type is not None or a.dimension_reduction_trials == _TRIALS
            ),
        ),
        Dependency(
            ("dimension_reduction_target", "feature_dim"),
            "dimension_reduction_target is less than feature_dim",
            lambda a: (a.dimension_reduction_target or 0) < a.feature_dim,
        ),
        Dependency(
            ("index_metric", "index_type"),
            "index_type=faiss.IVFPQ goes only with index_metric=L2",
            lambda a: a.index_type != "faiss.IVFPQ" or a.index_metric == "L2",
        ),
        Dependency(
            ("faiss_index_ivf_nlists", "nprobe", "index_type"),
            "faiss_index_ivf_nlists and nprobe go only with index_type faiss.IVFFlat, faiss.IVFPQ",
            lambda a: (
                a.index_type in _LISTS
                or (a.faiss_index_ivf_nlists == "auto" and a.nprobe == "auto")
            ),
        ),
        Dependency(
            ("faiss_index_pq_m", "index_type"),
            "faiss_index_pq_m goes with index_type=faiss.IVFPQ, and only with it",
            lambda a: (a.faiss_index_pq_m is not None) == (a.index_type == "faiss.IVFPQ"),
        ),
    )

    feature_dim: int = integer(required=True, low=1, about="dimensions of the rows")
    k: int = integer(required=True, low=1, tunable=(1, 1024), about="neighbours that decide")
    predictor_type: str = categorical(
        "classifier", "regressor", required=True, about="a vote of labels, or their mean"
    )
    sample_size: int = integer(
        required=True, low=1, tunable=(256, 20_000_000), about="rows that are kept, at most"
    )
    dimension_reduction_type: str | None = categorical(
        "sign", "fjlt", about="a random projection to fewer dimensions; not set: none"
    )
    dimension_reduction_target: int | None = integer(
        low=1, about="dimensions that are left, fewer than feature_dim"
    )
    dimension_reduction_trials: int = integer(
        _TRIALS,
        low=1,
        about="projections that are tried on some rows; the one whose neighbours answer best is "
        "kept; not in SageMaker",
    )
    index_type: str = categorical(
        "faiss.Flat", *_LISTS, default="faiss.Flat", about="exact, by lists, or by codes in lists"
    )
    index_metric: str = categorical(
        "L2", "INNER_PRODUCT", "COSINE", default="L2", about="what makes rows near"
    )
    faiss_index_ivf_nlists: int | str = integer(
        "auto", low=1, words=("auto",), about="lists; auto: the root of the rows that are kept"
    )
    faiss_index_pq_m: int | None = integer(
        low=1, about=f"numbers of a code: one of {', '.join(str(m) for m in _PQ_M)}"
    )
    mini_batch_size: int = integer(5000, low=1, about="rows that are added to the index at once")
    nprobe: int | str = integer(
        "auto",
        low=1,
        words=("auto",),
        about="lists a query looks into; auto: as many as hold 98 % of the neighbours of some "
        "rows; not in SageMaker",
    )
    profile: str = profile(
        "index_type, faiss.IVFFlat from 100,000 rows on, on the CPU and where faiss is installed"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.faiss_index_pq_m is not None and self.faiss_index_pq_m not in _PQ_M:
            allowed = ", ".join(str(m) for m in _PQ_M)
            raise self._refuse(
                f"faiss_index_pq_m: expected one of {allowed}, got {self.faiss_index_pq_m}",
                "faiss_index_pq_m",
            )

    @property
    def keeps_checkpoints(self) -> bool:
        """None: a fit reads the rows once, and is soon done."""
        return False

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> KNNModel:
        """Sample the rows and build the index.

        Raises:
            InvalidData: there are too few rows, a value is missing, or a class is no float32.
            InvalidHyperparameter: feature_dim is not the data's, or the model to start from has
                another reduction.
            LibraryMissing: the index has lists, and faiss is not installed.
            TrainingStopped: the run asked to stop.
            Contributed: this is not the first of several processes, and its part is done.
        """
        self._check_width(train, self.feature_dim)
        train, kept = self._sample(train, run)
        labels = self._labels(train, kept)
        rows = (train.csr() if train.inputs.is_sparse else train.matrix())[kept]
        self._check_rows(train, rows)
        normalize = self.index_metric == "COSINE"
        start = self._start(run, train, normalize)
        with threads(run.threads):
            reduction = self._reduction(rows, labels, start, run)
            vectors = self._vectors(rows, reduction, self._width(reduction), normalize, run)
            if start is not None:
                vectors, labels = self._joined(start, vectors, labels, run)
            if len(vectors) < self.k:
                raise InvalidData(
                    f"{train.channel}: knn: k={self.k} needs as many rows, and there are "
                    f"{len(vectors)}",
                    channel=train.channel,
                )
            index = suited(self, self._by_rows(len(vectors), run), run)._index(vectors, run)
            model = KNNModel(
                train.inputs, index, labels, self.k, self.predictor_type, reduction, normalize
            )
            self._measure(model, vectors, run)
        run.sink.property("rows", len(vectors))
        run.sink.progress(len(kept), len(kept))
        return model

    def evaluate(self, model: KNNModel, data: Dataset) -> Mapping[str, float]:  # type: ignore[override]
        """Measure the accuracy of a classifier, the mean squared error of a regressor."""
        rows = data.csr() if data.inputs.is_sparse else data.matrix()
        parts = [
            model.answered(*model.neighbours(rows[start : start + _EVALUATED_ROWS], model.k))
            for start in range(0, rows.shape[0], _EVALUATED_ROWS)
        ]
        return self._measured(model, data.labels(), np.concatenate(parts))

    def _measured(
        self, model: KNNModel, target: npt.NDArray[Any], found: npt.NDArray[Any]
    ) -> dict[str, float]:
        if model.predictor_type == "regressor":
            return {"mse": mse(target, found)}
        return {"accuracy": accuracy(target, found)}

    def _sample(self, train: Dataset, run: Run) -> tuple[Dataset, npt.NDArray[np.intp]]:
        """Return rows, and the numbers of those that are in the sample of all processes' rows."""
        first, total = offset_of(len(train), run.world)
        kept = sampled(total, self.sample_size, np.random.default_rng([run.seed, 1]))
        if run.world.size == 1:
            return train, kept
        sample = gathered(train, kept, first, run.world)
        if sample is None:
            raise Contributed
        return sample, np.arange(len(sample))

    def _labels(self, train: Dataset, kept: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        target = train.labels()[kept]
        labels = target.astype(np.float32)
        changed = labels != target
        if self.predictor_type == "classifier" and changed.any():
            raise InvalidData(
                f"{train.channel}: label column {train.label!r}: class {target[changed][0]} is no "
                "float32, as which labels are kept; number the classes from 0",
                channel=train.channel,
                column=train.label,
            )
        return labels

    def _check_rows(self, train: Dataset, rows: Any) -> None:
        cells = rows.shape[0] * rows.shape[1]
        if is_csr(rows) and self.dimension_reduction_type is None and cells > _MOST_CELLS:
            raise InvalidData(
                f"{train.channel}: knn: an index is dense, and {rows.shape[0]:,} sparse rows of "
                f"{rows.shape[1]:,} dimensions would take {cells * 4 / 1e9:.0f} GB; set "
                "dimension_reduction_type, or a smaller sample_size",
                channel=train.channel,
            )

    def _reduction(
        self, rows: Any, labels: npt.NDArray[np.float32], start: KNNModel | None, run: Run
    ) -> Reduction | None:
        """Choose a projection: that of the model to go on from, else the best of some."""
        if self.dimension_reduction_type is None or self.dimension_reduction_target is None:
            return None
        target = self.dimension_reduction_target
        if self.faiss_index_pq_m is not None:
            target = -(-target // self.faiss_index_pq_m) * self.faiss_index_pq_m
            if target != self.dimension_reduction_target:
                run.sink.log(
                    f"dimension_reduction_target raised from {self.dimension_reduction_target} to "
                    f"{target}, so that faiss_index_pq_m={self.faiss_index_pq_m} divides it"
                )
        seeds = range(run.seed, run.seed + self.dimension_reduction_trials)
        if start is not None and start.reduction is not None:
            seeds = range(start.reduction.seed, start.reduction.seed + 1)
        tried = [
            Reduction(self.dimension_reduction_type, seed, target, self.feature_dim)
            for seed in seeds
        ]
        few = sampled(rows.shape[0], _TRIAL_ROWS, np.random.default_rng([run.seed, 5]))
        if len(tried) == 1 or len(few) <= self.k:
            return tried[0]
        return max(tried, key=lambda one: self._worth(one, rows[few], labels[few], run))

    def _worth(
        self, reduction: Reduction, rows: Any, labels: npt.NDArray[np.float32], run: Run
    ) -> float:
        """Measure a projection: how well rows are answered by their neighbours among them."""
        check(run, "projections were tried")
        normalize = self.index_metric == "COSINE"
        vectors = prepared(rows, reduction, reduction.target_dim, normalize=normalize)
        index = FlatIndex(vectors, L2 if self.index_metric == "L2" else INNER)
        every = np.arange(len(vectors))
        found = self._others(index, vectors, every, labels)
        if self.predictor_type == "regressor":
            return -mse(labels, found)
        return accuracy(labels, found)

    def _others(
        self,
        index: Index,
        vectors: npt.NDArray[np.float32],
        asked: npt.NDArray[np.intp],
        labels: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float32]:
        """Answer some rows of an index by their neighbours, themselves left out."""
        distances, numbers = index.search(vectors[asked], self.k + 1)
        own = numbers == asked[:, None]
        # A row that found k + 1 nearer or equal ones leaves out the last of them.
        own[~own.any(axis=1), -1] = True
        shape = (len(asked), self.k)
        near = labels[numbers[~own].reshape(shape)]
        return decided(self.predictor_type, near, distances[~own].reshape(shape))

    def _width(self, reduction: Reduction | None) -> int:
        width = self.feature_dim if reduction is None else reduction.target_dim
        m = self.faiss_index_pq_m or 1
        return -(-width // m) * m

    def _vectors(
        self, rows: Any, reduction: Reduction | None, width: int, normalize: bool, run: Run
    ) -> npt.NDArray[np.float32]:
        n = rows.shape[0]
        vectors = np.empty((n, width), np.float32)
        for start in range(0, n, self.mini_batch_size):
            check(run, f"row {start} of {n} was read")
            at = slice(start, start + self.mini_batch_size)
            vectors[at] = prepared(rows[at], reduction, width, normalize=normalize)
            run.sink.progress(min(start + self.mini_batch_size, n), n + 1)
        return vectors

    def _index(self, vectors: npt.NDArray[np.float32], run: Run) -> Index:
        metric = L2 if self.index_metric == "L2" else INNER
        if self.index_type == "faiss.Flat":
            return FlatIndex(vectors, metric, device=run.device)
        lists, probes = self.faiss_index_ivf_nlists, self.nprobe
        how = Lists(
            lists=lists if isinstance(lists, int) else None,
            code=self.faiss_index_pq_m,
            probes=probes if isinstance(probes, int) else None,
            neighbours=self.k,
            batch=self.mini_batch_size,
        )
        return how.built(vectors, metric, run)

    def _by_rows(self, rows: int, run: Run) -> dict[str, str]:
        """Return what the profile auto has for so many rows."""
        is_long = rows >= _LISTED_ROWS and run.device.kind == "cpu" and has_faiss()
        return {"index_type": "faiss.IVFFlat" if is_long else "faiss.Flat"}

    def _measure(self, model: KNNModel, vectors: npt.NDArray[np.float32], run: Run) -> None:
        """Measure some of the rows by their neighbours, themselves left out."""
        if model.index.count <= self.k:
            run.sink.log(f"not measured on the rows themselves: none has k={self.k} others")
            return
        asked = sampled(len(vectors), PROBED_ROWS, np.random.default_rng([run.seed, 3]))
        found = self._others(model.index, vectors, asked, model.labels)
        for name, value in self._measured(model, model.labels[asked], found).items():
            run.sink.metric(f"train:{name}", value)
            run.sink.log(quality_line(f"train:{name}", value))

    def _start(self, run: Run, train: Dataset, normalize: bool) -> KNNModel | None:
        start = self._gone_on_from(run, train)
        if not isinstance(start, KNNModel):
            return None
        kept = start.reduction
        theirs = (None, None) if kept is None else (kept.type, kept.target_dim)
        ours = (self.dimension_reduction_type, self.dimension_reduction_target)
        if (*theirs, start.normalize) != (*ours, normalize):
            raise self._refuse(
                "dimension_reduction_type, dimension_reduction_target, index_metric: the model to "
                f"go on from has {theirs[0]}, {theirs[1]}, "
                f"{'' if start.normalize else 'not '}COSINE; got {ours[0]}, {ours[1]}, "
                f"{self.index_metric}",
                "dimension_reduction_type",
                "dimension_reduction_target",
                "index_metric",
            )
        return start

    def _joined(
        self,
        start: KNNModel,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.float32],
        run: Run,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Sample anew of the model's vectors and those of this fit."""
        known = start.index.vectors()
        if known is None:
            raise InvalidData(
                "model: knn cannot go on from a model with index_type=faiss.IVFPQ, which keeps "
                "codes and not the rows",
                channel="model",
            )
        narrow = known[:, : vectors.shape[1]]
        if narrow.shape[1] < vectors.shape[1]:
            narrow = prepared(narrow, None, vectors.shape[1], normalize=False)
        both = np.concatenate([narrow, vectors])
        of = np.concatenate([start.labels, labels])
        random = np.random.default_rng([run.seed, 4])
        kept = sampled(len(both), self.sample_size, random)
        return both[kept], of[kept]
