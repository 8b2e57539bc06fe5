"""The Neural Topic Model: what it takes, and how a fit goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, final

import numpy as np

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.unsupervised.counts import counts_of
from training.algorithms.unsupervised.ntm import vocabulary
from training.algorithms.unsupervised.ntm.model import FILES, Activation, NTMModel, Shape
from training.data import Dataset, Labels
from training.errors import InvalidData, InvalidJob
from training.hyperparameter import as_text, boolean, categorical, comma_list, continuous, integer
from training.profile import profile, suited
from training.run import Run

__all__ = ["NTM"]

_TYPES: Final = (
    *("application/x-recordio-protobuf", "text/csv", "application/x-parquet"),
    "application/vnd.apache.arrow.file",
    "application/jsonlines",
)
_LOSSES: Final = ("total_loss", "reconstruction", "kl")
_TOP: Final = 10
_MEASURED_ROWS: Final = 20_000
_DOCUMENTS_SEEN: Final = 200_000
_EPOCHS: Final = (20, 200)
_MANY: Final = 10_000


def _pattern(name: str) -> str:
    channel, _, metric = name.partition(":")
    return rf"#quality_metric: host=\S+, (?:epoch=\d+, )?{channel} {metric} <\w+>=(\S+)"


@final
@dataclass(frozen=True, kw_only=True)
class NTM(Algorithm):
    """Topics of documents that are counts of words, by an encoder and a decoder.

    Sources: Miao, Yu and Blunsom, "Neural Variational Inference for Text Processing", 2016;
    Srivastava and Sutton, "Autoencoding Variational Inference for Topic Models", 2017.

    >>> NTM.of({"feature_dim": 1000, "num_topics": "20"}).shape.layers
    (60, 40)
    """

    name: ClassVar[str] = "ntm"
    continues: ClassVar = True
    model: ClassVar[type[NTMModel]] = NTMModel
    files: ClassVar[tuple[str, ...]] = FILES
    libraries: ClassVar[Mapping[str, str]] = {"torch": "torch", "scipy": "scipy"}
    hosts: ClassVar = "steps"
    float32_only: ClassVar = ""
    answers: ClassVar[tuple[str, ...]] = (
        *("text/csv", "application/json", "application/jsonlines"),
        "application/x-recordio-protobuf",
    )
    channels: ClassVar[tuple[ChannelDeclaration, ...]] = (
        ChannelDeclaration(
            name="train",
            about="documents, a row each: how often each word of the vocabulary occurs",
            required=True,
            content_types=_TYPES,
            distributions=("FullyReplicated", "ShardedByS3Key"),
        ),
        ChannelDeclaration(
            name="validation", about="documents to stop by and to measure", content_types=_TYPES
        ),
        ChannelDeclaration(
            name="test", about="documents the model is measured on", content_types=_TYPES
        ),
        ChannelDeclaration(
            name="auxiliary",
            about="`vocab.txt`: the words, one a line, for the log and the artifact",
            content_types=("text/plain",),
            input_modes=("File", "FastFile"),
        ),
    )
    metrics: ClassVar[tuple[MetricDeclaration, ...]] = tuple(
        MetricDeclaration(
            name=name,
            maximize=metrics.larger_is_better(name.partition(":")[2]),
            pattern=_pattern(name),
        )
        for name in (
            *(f"{channel}:{loss}" for channel in ("validation", "test") for loss in _LOSSES),
            *("validation:pwll", "test:pwll", "train:loss", "train:npmi", "train:wetc"),
            *("train:topic_uniqueness", "train:topics_used"),
        )
    )
    labels: ClassVar[Labels] = "optional"

    feature_dim: int = integer(
        required=True, low=1, high=1_000_000, about="words of the vocabulary"
    )
    num_topics: int = integer(required=True, low=2, high=1000, about="topics to find")
    encoder_layers: tuple[str, ...] | str = comma_list(
        default="auto",
        patterns=(r"[1-9]\d{0,5}",),
        words=("auto",),
        about="sizes of the encoder's layers; auto: three and two times num_topics",
    )
    encoder_layers_activation: Activation = categorical(  # noqa: RUF009 - a field, as its neighbours
        *("sigmoid", "tanh", "relu"),
        default="sigmoid",
        tunable=(None, None, ("sigmoid", "tanh", "relu")),
        about="behind each layer of the encoder",
    )
    epochs: int = integer(50, low=1, about="passes over the data, at most")
    mini_batch_size: int = integer(
        256, low=1, high=10_000, tunable=(16, 2048), about="documents of a step"
    )
    optimizer: str = categorical(
        *("sgd", "adam", "adagrad", "adadelta", "rmsprop"),
        default="adadelta",
        tunable=(None, None, ("sgd", "adam", "adadelta")),
        about="how steps are taken",
    )
    learning_rate: float = continuous(
        0.001,
        low=1e-6,
        high=1,
        tunable=(1e-4, 0.1, (), "Logarithmic"),
        about="size of a step; the default is small for adadelta, see below",
    )
    weight_decay: float = continuous(
        0.0, low=0, high=1, tunable=(0, 1), about="pull of all parameters towards zero"
    )
    rescale_gradient: float = continuous(
        1.0, low=1e-3, high=1, tunable=(0.1, 1), about="what gradients are multiplied by"
    )
    clip_gradient: float | str | None = continuous(
        low=1e-3,
        words=("inf", "Infinity"),
        about="largest size of a gradient's number, after rescaling; not set: any",
    )
    sub_sample: float = continuous(
        1.0, low=0, high=1, about="share of the documents in an epoch, drawn anew each time"
    )
    batch_norm: bool = boolean(False, about="whether the encoder's layers are normalised too")
    num_patience_epochs: int = integer(
        3, low=1, about="epochs without improvement after which to stop"
    )
    tolerance: float = continuous(
        0.001, low=1e-6, high=0.1, about="share of the loss by which it must improve to count"
    )
    kl_warmup_epochs: int = integer(
        0,
        low=0,
        about="epochs in which the distance from the prior comes to count, from none to all; "
        "the fit does not stop in them",
    )
    profile: str = profile(
        "adam at 0.005, decay 0.0005, an encoder of 100 with tanh, steps of 64 documents, 256 from "
        "10,000 on, and as many epochs as show 200,000 documents, from 20 to 200, that do not end "
        "early without validation, else with a patience of 10"
    )

    @property
    def shape(self) -> Shape:
        """How large the model is."""
        layers = self.encoder_layers
        sizes = (3 * self.num_topics, 2 * self.num_topics)
        return Shape(
            words=self.feature_dim,
            topics=self.num_topics,
            layers=sizes if isinstance(layers, str) else tuple(int(size) for size in layers),
            activation=self.encoder_layers_activation,
            batch_norm=self.batch_norm,
        )

    def fit(self, train: Dataset, run: Run, *, validation: Dataset | None = None) -> NTMModel:
        """Train by steps; with validation data, the best epoch's model is kept.

        Raises:
            InvalidData: `feature_dim` is not the number of columns, a count is none, there is no
                word at all, or the vocabulary does not fit.
            InvalidJob: the model to go on from does not fit.
            TrainingStopped: the run asked to stop.
        """
        from training.algorithms.unsupervised.ntm import fitting

        counts = self._counts(train)
        learner = suited(self, self._chosen(counts.shape[0], validation is not None), run)
        if not counts.nnz:
            raise InvalidData(f"{train.channel}: no document has a word", channel=train.channel)
        held_out = None if validation is None else self._counts(validation)
        words = vocabulary.read(run.auxiliary, self.feature_dim)
        start = None if run.start is None else learner._to_go_on_from(run.start, train)
        model = fitting.fit(
            learner,
            counts,
            run,
            columns=train.inputs,
            vocabulary=words or (start.vocabulary if start else ()),
            start=start,
            validation=held_out,
        )
        self._report(model, counts, run)
        for name, value in {} if held_out is None else self._measured(model, held_out).items():
            run.sink.metric(f"validation:{name}", value)
            run.sink.log(metrics.quality_line(f"validation:{name}", value))
        return model

    def evaluate(self, model: Any, data: Dataset) -> Mapping[str, float]:
        """Measure the losses of a document, and of a word when half of its document is known."""
        return self._measured(model, self._counts(data))

    def _chosen(self, documents: int, has_validation: bool) -> Mapping[str, Any]:
        """Return what `profile=auto` chooses: some thousand steps, of few documents each."""
        epochs = min(max(_DOCUMENTS_SEEN // documents, _EPOCHS[0]), _EPOCHS[1])
        return {
            "optimizer": "adam",
            "learning_rate": 0.005,
            "weight_decay": 0.0005,
            "encoder_layers": ("100",),
            "encoder_layers_activation": "tanh",
            "mini_batch_size": 64 if documents < _MANY else 256,
            "epochs": epochs,
            "num_patience_epochs": 10 if has_validation else epochs,
        }

    def _measured(self, model: NTMModel, counts: Any) -> Mapping[str, float]:
        pwll = model.completed(counts, np.random.default_rng(0))
        return {**model.losses(counts), **({} if np.isnan(pwll) else {"pwll": pwll})}

    def _counts(self, data: Dataset) -> Any:
        if data.width != self.feature_dim:
            raise InvalidData(
                f"{data.channel}: feature_dim is {self.feature_dim} and the data has "
                f"{data.width} columns; set feature_dim={data.width}",
                channel=data.channel,
            )
        return counts_of(data.features, data.inputs, channel=data.channel)

    def _to_go_on_from(self, start: object, train: Dataset) -> NTMModel:
        problem = ""
        if not isinstance(start, NTMModel):
            problem = f"is {type(start).__name__}, expected one of ntm"
        elif start.columns != train.inputs:
            problem = "takes other columns than the data has"
        elif differing := self._differing(start.shape):
            problem = f"differs in {differing}; train anew without it, or with its hyperparameters"
        else:
            return start
        raise InvalidJob(f"ntm: the model to go on from {problem}", field="InputDataConfig")

    def _differing(self, shape: Shape) -> str:
        """Name the hyperparameters by which a model has another shape, with both values."""
        names = {"words": "feature_dim", "topics": "num_topics", "layers": "encoder_layers"}
        names |= {"activation": "encoder_layers_activation", "batch_norm": "batch_norm"}
        return ", ".join(
            f"{name} ({as_text(getattr(shape, part))}, and the job asks for "
            f"{as_text(getattr(self.shape, part))})"
            for part, name in names.items()
            if getattr(shape, part) != getattr(self.shape, part)
        )

    def _report(self, model: NTMModel, counts: Any, run: Run) -> None:
        """Report how good the topics are on training documents, and what they are."""
        count = min(counts.shape[0], _MEASURED_ROWS)
        some = counts[np.arange(count) * counts.shape[0] // count]
        mixtures = model.mixtures(some)
        shares = mixtures.mean(axis=0)
        heaviest, words = model.heaviest(_TOP), model.top_words(_TOP)
        vectors = vocabulary.vectors_of(some) if model.vocabulary else None
        found = {
            "topics_used": float(len(np.unique(mixtures.argmax(axis=1)))),
            **vocabulary.measured(heaviest, some, vectors),
        }
        for name, value in found.items():
            run.sink.metric(f"train:{name}", value)
            run.sink.log(metrics.quality_line(f"train:{name}", value))
        if vectors is not None:
            for line in vocabulary.described(words, heaviest, vectors, shares):
                run.sink.log(line)
        described = [
            {"share": float(share), "words": named}
            for share, named in zip(shares, words, strict=True)
        ]
        run.sink.property("topics", described)
