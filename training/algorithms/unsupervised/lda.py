"""Latent Dirichlet Allocation: topics of documents that are counts of words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.snapshot import Snapshots
from training.algorithms.unsupervised.counts import counts_of
from training.algorithms.unsupervised.lda_model import FILES, LDAModel
from training.algorithms.unsupervised.lda_spectral import topics_of
from training.algorithms.unsupervised.lda_variational import Polished, complete, polish, smoothed
from training.data import Dataset, Labels
from training.errors import InvalidData, InvalidJob, TrainingStopped
from training.hyperparameter import categorical, continuous, integer
from training.run import Run

__all__ = ["LDA", "LDAModel"]

Array = npt.NDArray[np.float64]

_CONTENT_TYPES: Final = (
    *("application/x-recordio-protobuf", "text/csv", "application/x-parquet"),
    "application/vnd.apache.arrow.file",
    "application/jsonlines",
)
# As with SageMaker.
_FILE_ONLY: Final = ("text/csv",)
# Topics from moments lie close already; random ones need more steps, and slow ones.
_STEPS: Final = {"spectral": 0, "spectral+vb": 20, "vb": 100}
_TOLERANCE: Final = {"spectral": 0.0, "spectral+vb": 1e-3, "vb": 1e-4}
_SMALLEST_SHARE: Final = 1e-3
_MEASURED_ROWS: Final = 2000


@final
@dataclass(frozen=True, kw_only=True)
class LDA(Algorithm):
    """Find topics: documents are mixtures of them, and topics are distributions of words.

    By default topics come from the moments of the counts (Anandkumar et al. 2014) and are improved
    by a few variational steps on the documents; `lda_solver` leaves out one or the other.
    """

    name: ClassVar[str] = "lda"
    continues: ClassVar = True
    model: ClassVar[type[LDAModel]] = LDAModel
    channels: ClassVar[tuple[ChannelDeclaration, ...]] = (
        ChannelDeclaration(
            name="train",
            about="documents, a row each: how often each word of the vocabulary occurs",
            required=True,
            content_types=_CONTENT_TYPES,
            file_only=_FILE_ONLY,
        ),
        ChannelDeclaration(
            name="test",
            about="documents to measure on",
            content_types=_CONTENT_TYPES,
            file_only=_FILE_ONLY,
        ),
    )
    metrics: ClassVar[tuple[MetricDeclaration, ...]] = (
        MetricDeclaration(
            name="test:pwll",
            maximize=True,
            pattern=r"#quality_metric: host=\S+, test pwll <score>=(\S+)",
        ),
        MetricDeclaration(
            name="train:pwll",
            maximize=True,
            pattern=r"#quality_metric: host=\S+, train pwll <score>=(\S+)",
        ),
    )
    answers: ClassVar[tuple[str, ...]] = (
        *("text/csv", "application/json", "application/jsonlines"),
        "application/x-recordio-protobuf",
    )
    files: ClassVar[tuple[str, ...]] = (*FILES, "inputs.json")
    libraries: ClassVar[Mapping[str, str]] = {"scipy": "scipy"}
    cpu_only: ClassVar = True
    one_host: ClassVar = "SageMaker trains lda on one CPU machine, and so does this"
    labels: ClassVar[Labels] = "optional"

    num_topics: int = integer(low=1, required=True, tunable=(1, 150), about="topics to find")
    feature_dim: int = integer(low=1, required=True, about="words of the vocabulary")
    mini_batch_size: int = integer(
        low=1,
        required=True,
        about="documents in one piece of work, at most: bounds memory, changes no topic; "
        "SageMaker's meaning is all documents",
    )
    alpha0: float = continuous(
        1.0,
        above=0,
        tunable=(0.1, 10),
        about="sum of the Dirichlet parameters; small: few topics in a document",
    )
    max_restarts: int = integer(10, low=1, about="starts of the tensor decomposition")
    max_iterations: int = integer(1000, low=1, about="iterations of each start")
    tol: float = continuous(
        1e-8, above=0, about="change of the squared error, as a share, that ends a start"
    )
    lda_solver: str = categorical(
        *_STEPS,
        default="spectral+vb",
        about="topics from moments, those improved on the documents, or from a random start",
    )

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> LDAModel:
        """Find the topics, the most usual first.

        A model to start from takes the place of the moments.

        Raises:
            InvalidData: `feature_dim` is not the number of columns, a count is none, or there is
                no word at all.
            InvalidJob: there is a validation channel, or the model to start from does not fit.
            TrainingStopped: the run asked to stop; once there are topics a checkpoint was written.
        """
        self.check_channels(["train"] if validation is None else ["train", "validation"])
        if train.width != self.feature_dim:
            raise InvalidData(
                f"{train.channel}: feature_dim is {self.feature_dim} and the data has "
                f"{train.width} columns; set feature_dim={train.width}",
                channel=train.channel,
            )
        counts = counts_of(train.features, train.inputs, channel=train.channel)
        if not counts.nnz:
            raise InvalidData(f"{train.channel}: no document has a word", channel=train.channel)
        steps = _STEPS[self.lda_solver]
        run.sink.progress(0, steps + 1)
        snapshots = Snapshots(run, self._identity(counts, train, run))
        state, alpha = self._begun(counts, train, run, snapshots)
        topics = state.topics
        run.sink.progress(1 + state.step, steps + 1)
        if steps:
            state = polish(
                counts,
                state,
                alpha,
                steps=steps,
                tolerance=_TOLERANCE[self.lda_solver],
                piece=self.mini_batch_size,
                told=self._told(run, steps, alpha, snapshots),
            )
            topics, weights = state.topics, state.weights
            shares = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
            alpha = self.alpha0 * shares / shares.sum()
        order = np.argsort(-alpha, kind="stable")
        model = LDAModel(train.inputs, alpha[order], topics[order])
        self._report(model, counts, run)
        run.sink.progress(steps + 1, steps + 1)
        return model

    def evaluate(self, model: LDAModel, data: Dataset) -> Mapping[str, float]:  # type: ignore[override]
        """Measure the log likelihood of a word when half of its document is known."""
        pwll = model.pwll(data.features)
        return {} if np.isnan(pwll) else {"pwll": pwll}

    def _begun(
        self, counts: Any, train: Dataset, run: Run, snapshots: Snapshots
    ) -> tuple[Polished, Array]:
        """Return where the steps begin, and alpha: at a checkpoint, or at the first topics."""
        kept = snapshots.load()
        if kept is not None:
            state = Polished(
                step=int(kept["step"]),
                topics=kept["topics"],
                weights=kept["weights"],
                value=float(kept["value"]),
                change=float(kept["change"]),
            )
            run.sink.log(f"going on from a checkpoint, after step {state.step}")
            return state, kept["alpha"]
        topics, alpha = self._first_topics(counts, train, run)
        state = Polished.begun(counts, topics, alpha)
        if snapshots.is_due:
            _save(snapshots, state, alpha)
        return state, alpha

    def _identity(self, counts: Any, train: Dataset, run: Run) -> dict[str, Any]:
        start = run.start
        return {
            **self.values(),
            "rows": counts.shape[0],
            "entries": int(counts.nnz),
            "occurrences": float(counts.sum()),
            "columns": hashlib.sha256("\0".join(train.inputs.names).encode()).hexdigest(),
            "start": hashlib.sha256(start.beta.tobytes()).hexdigest()
            if isinstance(start, LDAModel)
            else None,
        }

    def _first_topics(self, counts: Any, train: Dataset, run: Run) -> tuple[Array, Array]:
        """Return topics and alpha as the solver starts from them."""
        if run.start is not None:
            start = self._to_go_on_from(run.start, train)
            return start.beta, start.alpha * (self.alpha0 / start.alpha.sum())
        random = np.random.default_rng([run.seed, self.num_topics])
        # Topics at random are nearly alike; the steps drive them apart.
        chance = random.gamma(100.0, 0.01, (self.num_topics, self.feature_dim))
        chance /= chance.sum(axis=1, keepdims=True)
        even = np.full(self.num_topics, self.alpha0 / self.num_topics)
        if self.lda_solver == "vb":
            return chance, even
        found = topics_of(
            counts,
            self.num_topics,
            self.alpha0,
            restarts=self.max_restarts,
            iterations=self.max_iterations,
            tolerance=self.tol,
            random=random,
            piece=self.mini_batch_size,
            ask=self._asking(run),
        )
        count = len(found.alpha)
        run.sink.log(
            f"the documents differ in {found.rank} directions by more than noise; {count} of "
            f"{self.num_topics} topics are from their moments, the error is {found.error:.3g}"
        )
        alpha = np.concatenate([found.alpha, even[count:]])
        alpha = np.maximum(alpha, _SMALLEST_SHARE * even)
        alpha *= self.alpha0 / alpha.sum()
        topics = np.concatenate([found.topics, chance[count:]])
        return smoothed(topics, alpha, counts), alpha

    def _to_go_on_from(self, start: object, train: Dataset) -> LDAModel:
        problem = ""
        if not isinstance(start, LDAModel):
            problem = f"is {type(start).__name__}, expected one of lda"
        elif self.lda_solver == "spectral":
            problem = "has no part in lda_solver=spectral, which takes topics from moments alone"
        elif start.columns != train.inputs:
            problem = "takes other columns than the data has"
        elif len(start.alpha) != self.num_topics:
            problem = f"has {len(start.alpha)} topics and the job asks for {self.num_topics}"
        else:
            return start
        raise InvalidJob(f"lda: the model to start from {problem}", field="InputDataConfig")

    def _asking(self, run: Run) -> Callable[[], None]:
        def ask() -> None:
            if run.should_stop():
                raise TrainingStopped("stopped before there were topics")

        return ask

    def _told(
        self, run: Run, steps: int, alpha: Array, snapshots: Snapshots
    ) -> Callable[[Polished], None]:
        def told(state: Polished) -> None:
            step, value = state.step, state.value
            run.sink.metric("train:log_likelihood", value, step=step)
            run.sink.log(metrics.quality_line("train:log_likelihood", value, epoch=step))
            run.sink.progress(step, steps + 1)
            stops = run.should_stop()
            if stops or snapshots.is_due:
                _save(snapshots, state, alpha)
            if stops:
                raise TrainingStopped(f"stopped after step {step} of at most {steps}")

        return told

    def _report(self, model: LDAModel, counts: Any, run: Run) -> None:
        """Report how well the topics complete training documents, and what they are."""
        count = min(counts.shape[0], _MEASURED_ROWS)
        some = counts[np.arange(count) * counts.shape[0] // count]
        pwll = complete(some, model.beta, model.alpha, np.random.default_rng(0))
        if not np.isnan(pwll):
            run.sink.metric("train:pwll", pwll)
            run.sink.log(metrics.quality_line("train:pwll", pwll))
        described = [
            {"alpha": float(alpha), "words": words}
            for alpha, words in zip(model.alpha, model.top_words(), strict=True)
        ]
        run.sink.property("topics", described)


def _save(snapshots: Snapshots, state: Polished, alpha: Array) -> None:
    snapshots.save(
        {
            "step": np.array(state.step),
            "topics": state.topics,
            "weights": state.weights,
            "value": np.array(state.value),
            "change": np.array(state.change),
            "alpha": alpha,
        }
    )
