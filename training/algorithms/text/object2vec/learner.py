"""Object2Vec: what it takes, and the network that its hyperparameters ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.text.object2vec.architecture import Architecture, Encoder
from training.algorithms.text.object2vec.model import FILES, Object2VecModel
from training.algorithms.text.object2vec.sequence import Sequences
from training.data import Dataset
from training.errors import InvalidData
from training.hyperparameter import (
    Dependency,
    boolean,
    categorical,
    comma_list,
    continuous,
    integer,
    text,
)
from training.inputs import Inputs
from training.profile import profile, suited
from training.run import Run

__all__ = ["Object2Vec", "inputs_of"]

_TYPES = (
    *("application/jsonlines", "application/x-parquet", "application/vnd.apache.arrow.file"),
    "application/x-recordio-protobuf",
)
_NETWORKS = ("hcnn", "bilstm", "pooled_embedding")
_NAMES = ("in0", "in1")
_LAYERS = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 0}
_SPARSE = ("sgd", "adam", "adagrad")
_SIZES = ("enc_dim", "enc0_token_embedding_dim", "enc1_token_embedding_dim")
_FILES = ("enc0_pretrained_embedding_file", "enc1_pretrained_embedding_file")
_BY_ROWS: tuple[tuple[float, int, int], ...] = (
    (10_000, 32, 32),
    (50_000, 64, 128),
    (1_000_000, 64, 512),
    (float("inf"), 128, 1024),
)
"""Fewer rows than, the sizes of vectors, and the rows of a step that `profile=auto` chooses."""
_METRICS = ("accuracy", "cross_entropy", "mean_squared_error")


def _only(name: str, other: str, values: tuple[str, ...], network: str) -> Dependency:
    """Say that a hyperparameter goes only with some networks."""
    return Dependency(
        (name, other),
        f"{name} goes only with {other} {' or '.join(values)}",
        lambda a: getattr(a, name) in (None, "auto") or getattr(a, network) in values,
    )


@final
@dataclass(frozen=True, kw_only=True)
class Object2Vec(Algorithm):
    """Vectors of two things, from examples of how the two belong together.

    Each row has two sequences of tokens, `in0` and `in1`, and a label: a class of the pair, or a
    value. Token 0 fills sequences up and counts nothing.

    >>> Object2Vec.of({"enc0_max_seq_len": 10, "enc0_vocab_size": 500}).comparator_list
    ('hadamard', 'concat', 'abs_diff')
    """

    name: ClassVar = "object2vec"
    model: ClassVar = Object2VecModel
    files: ClassVar = FILES
    libraries: ClassVar[Mapping[str, str]] = {"torch": "torch"}
    hosts: ClassVar = "steps"
    float32_only: ClassVar = ""
    answers: ClassVar = ("application/json", "application/jsonlines")
    continues: ClassVar = True
    channels: ClassVar = (
        ChannelDeclaration(
            name="train", about="pairs to learn from", required=True, content_types=_TYPES
        ),
        ChannelDeclaration(name="validation", about="pairs to stop by", content_types=_TYPES),
        ChannelDeclaration(
            name="test", about="pairs the model is measured on", content_types=_TYPES
        ),
        ChannelDeclaration(
            name="auxiliary",
            about="files of tokens' vectors and vocabularies",
            content_types=("text/plain", "application/json"),
            input_modes=("File", "FastFile"),
        ),
    )
    metrics: ClassVar = tuple(
        MetricDeclaration(
            name=f"{channel}:{name}",
            maximize=metrics.larger_is_better(name),
            pattern=rf"#quality_metric: host=\S+, .*{channel} {name} <\w+>=(\S+)",
        )
        for channel in ("validation", "test")
        for name in _METRICS
    )
    dependencies: ClassVar = (
        Dependency(
            ("enc1_network", "enc1_max_seq_len", "enc1_vocab_size"),
            "enc1_max_seq_len and enc1_vocab_size are required unless enc1_network is enc0",
            lambda a: (
                a.enc1_network == "enc0"
                or (a.enc1_max_seq_len is not None and a.enc1_vocab_size is not None)
            ),
        ),
        Dependency(
            (
                *("enc1_network", "enc1_layers", "enc1_cnn_filter_width"),
                "enc1_token_embedding_dim",
            ),
            "enc1_layers, enc1_cnn_filter_width and enc1_token_embedding_dim are those of enc0 "
            "where enc1_network is enc0",
            lambda a: (
                a.enc1_network != "enc0"
                or (
                    a.enc1_layers == "auto"
                    and a.enc1_cnn_filter_width is None
                    and a.enc1_token_embedding_dim is None
                )
            ),
        ),
        _only("enc0_layers", "enc0_network", ("hcnn", "bilstm"), "enc0_network"),
        _only("enc1_layers", "enc1_network", ("hcnn", "bilstm"), "enc1_network"),
        _only("enc0_cnn_filter_width", "enc0_network", ("hcnn",), "enc0_network"),
        _only("enc1_cnn_filter_width", "enc1_network", ("hcnn",), "enc1_network"),
        Dependency(
            ("enc0_network", "enc1_network", "enc_dim", "enc0_token_embedding_dim"),
            "both encoders must make vectors of one size: enc_dim, or of pooled_embedding the "
            "token_embedding_dim",
            lambda a: a.encoder(0).size == a.encoder(1).size,
        ),
        Dependency(
            ("tied_token_embedding_weight", "enc1_vocab_size", "enc1_pretrained_embedding_file"),
            "tied_token_embedding_weight needs two vocabularies of one size and vectors of one "
            "size, and takes pretrained vectors from enc0",
            lambda a: (
                not a.tied_token_embedding_weight
                or (
                    a.encoder(0).vocab_size == a.encoder(1).vocab_size
                    and a.encoder(0).token_dim == a.encoder(1).token_dim
                    and not a.enc1_pretrained_embedding_file
                )
            ),
        ),
        *(
            Dependency(
                (f"enc{n}_pretrained_embedding_file", f"enc{n}_vocab_file"),
                f"enc{n}_pretrained_embedding_file and enc{n}_vocab_file go together",
                lambda a, n=n: (  # type: ignore[misc]
                    (getattr(a, f"enc{n}_pretrained_embedding_file") is None)
                    == (getattr(a, f"enc{n}_vocab_file") is None)
                ),
            )
            for n in (0, 1)
        ),
        *(
            Dependency(
                (f"enc{n}_freeze_pretrained_embedding", f"enc{n}_pretrained_embedding_file"),
                f"enc{n}_freeze_pretrained_embedding=false goes only with "
                f"enc{n}_pretrained_embedding_file",
                lambda a, n=n: (  # type: ignore[misc]
                    getattr(a, f"enc{n}_freeze_pretrained_embedding")
                    or getattr(a, f"enc{n}_pretrained_embedding_file") is not None
                ),
            )
            for n in (0, 1)
        ),
        Dependency(
            ("num_classes", "output_layer"),
            "num_classes goes only with output_layer softmax",
            lambda a: a.num_classes is None or a.output_layer == "softmax",
        ),
        Dependency(
            ("negative_sampling_rate", "mini_batch_size"),
            "negative_sampling_rate takes in1 of other rows of the step, so it needs a "
            "mini_batch_size of 2 or more",
            lambda a: a.mini_batch_size > 1 or not a.negative_sampling_rate,
        ),
        Dependency(
            ("token_embedding_storage_type", "optimizer", "bucket_width"),
            f"row_sparse goes with the optimizers {', '.join(_SPARSE)} and without buckets",
            lambda a: (
                a.token_embedding_storage_type == "dense"
                or (a.optimizer in _SPARSE and not a.bucket_width)
            ),
        ),
        Dependency(
            ("token_embedding_storage_type", "optimizer", "weight_decay"),
            "row_sparse has weight_decay only with adam",
            lambda a: (
                a.token_embedding_storage_type == "dense"
                or a.optimizer == "adam"
                or not a.weight_decay
            ),
        ),
    )

    enc0_max_seq_len: int = integer(
        required=True, low=1, high=5000, about="tokens of in0 that are looked at"
    )
    enc0_vocab_size: int = integer(
        required=True, low=2, high=3_000_000, about="tokens of in0 are 0 to this less 1"
    )
    enc1_max_seq_len: int | None = integer(
        low=1, high=5000, about="tokens of in1 that are looked at; not set: as enc0"
    )
    enc1_vocab_size: int | None = integer(
        low=2, high=3_000_000, about="tokens of in1 are 0 to this less 1; not set: as enc0"
    )
    enc0_network: str = categorical(*_NETWORKS, default="hcnn", about="what encodes in0")
    enc1_network: str = categorical(
        *_NETWORKS, "enc0", default="enc0", about="what encodes in1; enc0: the same, own weights"
    )
    enc0_layers: int | str = integer(
        "auto", low=1, high=4, words=("auto",), tunable=(1, 4), about="auto: hcnn 4, bilstm 1"
    )
    enc1_layers: int | str = integer(
        "auto", low=1, high=4, words=("auto",), tunable=(1, 4), about="auto: hcnn 4, bilstm 1"
    )
    enc0_cnn_filter_width: int | None = integer(
        low=1, high=9, library=3, tunable=(1, 5), about="tokens that a convolution of hcnn sees"
    )
    enc1_cnn_filter_width: int | None = integer(
        low=1, high=9, library=3, tunable=(1, 5), about="tokens that a convolution of hcnn sees"
    )
    enc0_token_embedding_dim: int = integer(
        300, low=2, high=1000, tunable=(5, 300), about="dimensions of a token's vector"
    )
    enc1_token_embedding_dim: int | None = integer(
        low=2, high=1000, library=300, tunable=(5, 300), about="dimensions of a token's vector"
    )
    enc0_pretrained_embedding_file: str | None = text(
        about="file in auxiliary: a word and its numbers in each line"
    )
    enc1_pretrained_embedding_file: str | None = text(
        about="file in auxiliary: a word and its numbers in each line"
    )
    enc0_vocab_file: str | None = text(about="file in auxiliary: JSON, words and their tokens")
    enc1_vocab_file: str | None = text(about="file in auxiliary: JSON, words and their tokens")
    enc0_freeze_pretrained_embedding: bool = boolean(
        default=True, about="whether pretrained vectors stay as they are"
    )
    enc1_freeze_pretrained_embedding: bool = boolean(
        default=True, about="whether pretrained vectors stay as they are"
    )
    enc_dim: int = integer(
        4096,
        low=4,
        high=10_000,
        tunable=(4, 4096, (), "Logarithmic"),
        about="dimensions of the vectors of hcnn and bilstm",
    )
    comparator_list: tuple[str, ...] = comma_list(
        *("hadamard", "concat", "abs_diff"),
        default=("hadamard", "concat", "abs_diff"),
        about="what is made of the two vectors, in this order",
    )
    mlp_layers: int = integer(2, low=0, high=10, tunable=(1, 4), about="hidden layers over that")
    mlp_dim: int = integer(
        512, low=2, high=10_000, tunable=(16, 1024, (), "Logarithmic"), about="their dimensions"
    )
    mlp_activation: str = categorical(
        *("tanh", "relu", "linear"),
        default="linear",
        tunable=(None, None, ("tanh", "relu", "linear")),
        about="after each",
    )
    output_layer: str = categorical(
        *("softmax", "mean_squared_error"),
        default="softmax",
        tunable=(None, None, ("softmax", "mean_squared_error")),
        about="classes of pairs, or a value",
    )
    num_classes: int | None = integer(
        low=2, high=30, library=2, about="classes, numbered from 0, of softmax"
    )
    negative_sampling_rate: int = integer(
        0, low=0, about="pairs for each pair whose in1 is another row's, with label 0"
    )
    bucket_width: int = integer(
        0,
        low=0,
        high=100,
        tunable=(0, 100),
        about="sequences of a step differ by less in length; 0: by any",
    )
    tied_token_embedding_weight: bool = boolean(
        default=False, about="whether both encoders share the tokens' vectors"
    )
    token_embedding_storage_type: str = categorical(
        *("dense", "row_sparse"),
        default="dense",
        about="row_sparse: a step changes only the vectors it used",
    )
    optimizer: str = categorical(
        *("adadelta", "adagrad", "adam", "sgd", "rmsprop"),
        default="adam",
        tunable=(None, None, ("adadelta", "adagrad", "adam", "sgd", "rmsprop")),
        about="what changes the weights",
    )
    epochs: int = integer(
        30, low=1, high=100, tunable=(4, 20), about="passes over the data, at most"
    )
    mini_batch_size: int = integer(
        32, low=1, high=10_000, tunable=(1, 8192, (), "Logarithmic"), about="rows of a step"
    )
    learning_rate: float = continuous(
        0.0004, low=1e-6, high=1, tunable=(1e-6, 1.0, (), "Logarithmic"), about="size of the steps"
    )
    weight_decay: float = continuous(
        0.0, low=0, high=10_000, tunable=(0.0, 1.0), about="pull of weights towards 0"
    )
    dropout: float = continuous(
        0.0, low=0, high=1, tunable=(0.0, 1.0), about="share of numbers a step leaves out"
    )
    early_stopping_patience: int = integer(
        3,
        low=1,
        high=5,
        tunable=(1, 5),
        about="epochs without improvement, on validation if there is any, to stop at",
    )
    early_stopping_tolerance: float = continuous(
        0.01,
        low=1e-6,
        high=0.1,
        tunable=(0.001, 0.1),
        about="what counts as improvement, relatively",
    )
    profile: str = profile(
        "vectors and one hidden layer of 32 to 128 numbers, tanh, dropout 0.3, adam at 0.001 with "
        "decay 0.00001, steps of 32 to 1,024 rows, and 30 epochs at most with validation, else 10"
    )

    @property
    def is_classifier(self) -> bool:
        """Whether pairs have classes."""
        return self.output_layer == "softmax"

    def encoder(self, number: int) -> Encoder:
        """Return what the first (0) or second (1) encoder is, `auto` and `enc0` decided."""
        same = number == 1 and self.enc1_network == "enc0"

        def given(name: str, of: int) -> Any:
            return getattr(self, f"enc{of}_{name}")

        of = 0 if same else number
        network, layers = given("network", of), given("layers", of)
        width, dim = given("cnn_filter_width", of), given("token_embedding_dim", of)
        vocab, longest = given("vocab_size", number), given("max_seq_len", number)
        dim = 300 if dim is None else dim
        return Encoder(
            network=network,
            layers=_LAYERS[network] if layers == "auto" else layers,
            filter_width=3 if width is None else width,
            token_dim=dim,
            vocab_size=self.enc0_vocab_size if vocab is None else vocab,
            max_seq_len=self.enc0_max_seq_len if longest is None else longest,
            size=dim if network == "pooled_embedding" else self.enc_dim,
        )

    @property
    def architecture(self) -> Architecture:
        """What the network is made of."""
        comparators: Any = self.comparator_list
        return Architecture(
            encoders=(self.encoder(0), self.encoder(1)),
            is_tied=self.tied_token_embedding_weight,
            comparators=comparators,
            mlp_layers=self.mlp_layers,
            mlp_dim=self.mlp_dim,
            mlp_activation=self.mlp_activation,
            outputs=(self.num_classes or 2) if self.is_classifier else 1,
            is_classifier=self.is_classifier,
        )

    def required_channels(self) -> tuple[str, ...]:
        """Name the channels: with pretrained vectors, `auxiliary` too."""
        files = (self.enc0_pretrained_embedding_file, self.enc1_pretrained_embedding_file)
        return ("train", "auxiliary") if any(files) else ("train",)

    def fit(
        self, train: Dataset, run: Run, *, validation: Dataset | None = None
    ) -> Object2VecModel:
        """Train by steps; with validation data, the best epoch's network is kept."""
        for data in (train, validation):
            if data is not None:
                self._check(data)
        learner = suited(self, self._chosen(len(train), validation is not None), run)
        return learner._fit(train, run, validation)

    def _fit(self, train: Dataset, run: Run, validation: Dataset | None) -> Object2VecModel:
        from training.algorithms.text.object2vec import fitting

        if self.enc_dim != self.architecture.encoders[0].size:
            run.sink.log(
                f"enc_dim is not used: pooled_embedding makes vectors of "
                f"{self.architecture.encoders[0].size} numbers, its token_embedding_dim"
            )
        if not self.mlp_layers:
            run.sink.log("mlp_dim and mlp_activation are not used: mlp_layers is 0")
        return fitting.fit(self, train, run, validation=validation)

    def _chosen(self, rows: int, has_validation: bool) -> Mapping[str, Any]:
        """Return what `profile=auto` chooses: networks and steps that grow with the rows."""
        size, batch = next(value for most, *value in _BY_ROWS if rows < most)
        chosen: dict[str, Any] = {
            "mlp_layers": 1,
            "mlp_dim": size,
            "mlp_activation": "tanh",
            "dropout": 0.3,
            "optimizer": "adam",
            "learning_rate": 0.001,
            "mini_batch_size": batch,
            # Without validation nothing says when what is learned is no longer of use.
            "epochs": 30 if has_validation else 10,
            "early_stopping_tolerance": 0.001,
        }
        if self.optimizer == "adam" or not self._is_given("optimizer"):
            chosen["weight_decay"] = 1e-5
        # One size for all, so that encoders of any kind make vectors of one size.
        if not any(self._is_given(name) for name in (*_SIZES, *_FILES)):
            chosen |= {"enc_dim": size, "enc0_token_embedding_dim": size}
            if self.enc1_network != "enc0":
                chosen["enc1_token_embedding_dim"] = size
        return chosen

    def _is_given(self, name: str) -> bool:
        return name in self.given or getattr(self, name) != getattr(type(self), name)

    def evaluate(self, model: Any, data: Dataset) -> Mapping[str, float]:
        """Measure a model: accuracy and cross entropy, or the mean squared error."""
        from training.algorithms.text.object2vec import scoring

        self._check(data)
        first, second = self.sequences(data)
        return self.measured(data.labels(), scoring.scores(model.module, first, second))

    def measured(
        self, target: npt.NDArray[np.float64], scores: npt.NDArray[Any]
    ) -> Mapping[str, float]:
        """Measure scores (n, outputs) by SageMaker's names."""
        if not self.is_classifier:
            return {"mean_squared_error": metrics.mse(target, scores[:, 0].astype(np.float64))}
        return {
            "accuracy": metrics.accuracy(target, scores.argmax(axis=1).astype(np.float64)),
            "cross_entropy": metrics.cross_entropy(target, scores.astype(np.float64)),
        }

    def sequences(self, data: Dataset) -> tuple[Sequences, Sequences]:
        """Return the sequences of both columns."""
        found = [
            Sequences.of(data.features[name], self.encoder(number), name=name, channel=data.channel)
            for number, name in enumerate(inputs_of(data).names)
        ]
        return found[0], found[1]

    def _check(self, data: Dataset) -> None:
        inputs_of(data)
        target = data.labels()
        if not self.is_classifier:
            return
        classes = self.architecture.outputs
        wrong = (target != np.floor(target)) | (target < 0) | (target >= classes)
        if wrong.any():
            row = int(wrong.argmax())
            raise InvalidData(
                f"{data.channel}: label column {data.label!r}: softmax expects classes 0 to "
                f"{classes - 1} (num_classes), got {target[row]:g} in row {row + 1}",
                channel=data.channel,
                column=data.label,
            )


def inputs_of(data: Dataset) -> Inputs:
    """Return the two columns of tokens: `in0` and `in1`, or else the first and the second.

    Raises:
        InvalidData: there are others.
    """
    columns = data.inputs.columns
    for column in columns:
        if column.kind != "tokens":
            raise InvalidData(
                f"{data.channel}: column {column.name!r} is {column.kind}, expected tokens: lists "
                "of whole numbers; name the two columns of tokens with features=",
                channel=data.channel,
                column=column.name,
            )
    if len(columns) != len(_NAMES):
        raise InvalidData(
            f"{data.channel}: expected two columns of tokens, in0 and in1, got "
            f"{', '.join(data.inputs.names)}",
            channel=data.channel,
        )
    if set(data.inputs.names) == set(_NAMES):
        columns = tuple(sorted(columns, key=lambda column: column.name))
    return Inputs(columns)
