"""IP Insights: what it takes, and how well it tells usual addresses from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import pyarrow as pa

from training import metrics
from training.algorithm import Algorithm, ChannelDeclaration, MetricDeclaration
from training.algorithms.unsupervised.ipinsights.address import Addresses
from training.algorithms.unsupervised.ipinsights.model import FILES, IPInsightsModel
from training.data import Dataset
from training.errors import InvalidData
from training.hyperparameter import Dependency, continuous, integer
from training.inputs import Input, Inputs
from training.negatives import shuffled
from training.profile import profile, suited
from training.run import Run

__all__ = ["Events", "IPInsights"]

_TYPES = (
    *("text/csv", "application/x-parquet", "application/vnd.apache.arrow.file"),
    "application/jsonlines",
)
_RATE = (0, 10)
_BATCHES = (100, 10_000)
_STEPS_OF_EPOCH = 50
_STEPS = 500
_SEED = 20_180_716
"""Of the pairs that a model is measured on: always the same, so that epochs and fits compare."""


@final
@dataclass(frozen=True, eq=False)
class Events:
    """The rows of a dataset that have an entity and an address.

    Attributes:
        entities: n names.
        addresses: n addresses.
        dropped: how many rows had none.
        example: the first of them.
    """

    entities: pa.ChunkedArray
    addresses: Addresses
    dropped: int
    example: tuple[Any, Any] | None


@final
@dataclass(frozen=True, kw_only=True)
class IPInsights(Algorithm):
    """Which addresses are usual for an entity, such as a user who logs in.

    The data has two columns: the entity, then the address, IPv4 or IPv6. Each pair in it is usual;
    training tells such pairs from random addresses and from addresses of other entities.

    Sources: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009; Mikolov
    et al., "Distributed Representations of Words and Phrases", 2013, on negative samples.

    >>> IPInsights.of({"num_entity_vectors": 2000, "vector_dim": "128"}).epochs
    10
    """

    name: ClassVar = "ipinsights"
    model: ClassVar = IPInsightsModel
    files: ClassVar = FILES
    libraries: ClassVar[Mapping[str, str]] = {"torch": "torch"}
    hosts: ClassVar = "steps"
    float32_only: ClassVar = ""
    answers: ClassVar = ("application/json", "application/jsonlines", "text/csv")
    labels: ClassVar = "none"
    continues: ClassVar = True
    text: ClassVar = "text"
    channels: ClassVar = (
        ChannelDeclaration(
            name="train",
            about="pairs of entity and address, all usual",
            required=True,
            content_types=_TYPES,
            input_modes=("File", "FastFile"),
        ),
        ChannelDeclaration(
            name="validation",
            about="further such pairs to measure by",
            content_types=_TYPES,
            input_modes=("File", "FastFile"),
        ),
    )
    metrics: ClassVar = (
        MetricDeclaration(
            name="validation:discriminator_auc",
            maximize=True,
            pattern=r"#quality_metric: host=\S+, .*validation discriminator_auc <score>=(\S+)",
        ),
    )
    dependencies: ClassVar = (
        Dependency(
            ("random_negative_sampling_rate", "shuffled_negative_sampling_rate"),
            "their sum must be from 1 to 500",
            lambda a: 1 <= a.rates <= 500,
        ),
        Dependency(
            ("shuffled_negative_sampling_rate", "mini_batch_size"),
            "shuffled_negative_sampling_rate takes addresses of other rows of the step, so it "
            "needs a mini_batch_size of 2 or more",
            lambda a: a.mini_batch_size > 1 or not a.shuffled_negative_sampling_rate,
        ),
    )

    num_entity_vectors: int = integer(
        required=True,
        low=1,
        high=250_000_000,
        tunable=(10_000, 1_000_000, (), "Logarithmic"),
        about="rows that entities are hashed to; twice as many as there are entities",
    )
    vector_dim: int = integer(
        required=True,
        low=4,
        high=4096,
        tunable=(8, 256, (), "Logarithmic"),
        about="dimensions of the vectors; 128 is recommended",
    )
    epochs: int = integer(10, low=1, tunable=(1, 100), about="passes over the data")
    mini_batch_size: int = integer(
        10_000,
        low=1,
        high=500_000,
        tunable=(100, 50_000, (), "Logarithmic"),
        about="rows of a step",
    )
    learning_rate: float = continuous(
        0.001, low=1e-6, high=10, tunable=(1e-4, 0.1, (), "Logarithmic"), about="size of the steps"
    )
    weight_decay: float = continuous(
        0.00001,
        low=0,
        high=10,
        tunable=(0.0, 1.0),
        about="what vectors and weights lose in a step, times the learning rate",
    )
    num_ip_encoder_layers: int = integer(
        1,
        low=0,
        high=100,
        tunable=(1, 10),
        about="dense layers over the sum of an address's networks",
    )
    batch_metrics_publish_interval: int = integer(
        1000, low=1, about="steps between two reports of a step's loss"
    )
    random_negative_sampling_rate: int = integer(
        1, low=0, high=500, tunable=_RATE, about="random addresses for each pair"
    )
    shuffled_negative_sampling_rate: int = integer(
        1, low=0, high=500, tunable=_RATE, about="addresses of other rows of the step for each pair"
    )
    profile: str = profile(
        "mini_batch_size, a fiftieth of the rows from 100 to 10,000, and epochs, from 10 to 100 so "
        "that there are 500 steps"
    )

    @property
    def rates(self) -> int:
        """How many negative pairs there are for each pair."""
        return self.random_negative_sampling_rate + self.shuffled_negative_sampling_rate

    def fit(
        self, train: Dataset, run: Run, *, validation: Dataset | None = None
    ) -> IPInsightsModel:
        """Train by steps; with validation data, each epoch is measured on it."""
        from training.algorithms.unsupervised.ipinsights import fitting

        events = self.events(train)
        if events.dropped:
            run.sink.log(
                f"train: {events.dropped} of {len(train)} rows have no entity or no address and "
                f"are left out; the first is {events.example}"
            )
        run.sink.property("rows_left_out", events.dropped)
        if len(events.addresses) == 1 and not self.random_negative_sampling_rate:
            raise InvalidData(
                "train: one row has no other to take shuffled addresses from; give more rows, or "
                "random_negative_sampling_rate",
                channel="train",
            )
        held_out = None if validation is None else self.events(validation)
        learner = suited(self, self._chosen(len(events.addresses)), run)
        return fitting.fit(learner, inputs_of(train), events, run, validation=held_out)

    def _chosen(self, rows: int) -> Mapping[str, Any]:
        """Return what `profile=auto` chooses: at least so many steps, of a fiftieth of the rows."""
        low, high = _BATCHES
        batch = self.mini_batch_size
        if "mini_batch_size" not in self.given and batch == type(self).mini_batch_size:
            batch = min(max(rows // _STEPS_OF_EPOCH, low), high)
        epochs = -(-_STEPS // -(-rows // batch))
        return {"mini_batch_size": batch, "epochs": min(max(epochs, 10), 100)}

    def evaluate(self, model: Any, data: Dataset) -> Mapping[str, float]:
        """Measure how well a model tells pairs from random and shuffled ones, always the same."""
        return self.measured(model, self.events(data))

    def measured(self, model: IPInsightsModel, events: Events) -> Mapping[str, float]:
        """Measure a model on events, with as many negatives of each kind as in training."""
        order = np.random.default_rng(_SEED)
        entities = model.entity_vectors(events.entities)
        addresses = model.address_vectors(events.addresses)
        positive = (entities * addresses).sum(axis=1)
        negative = [np.zeros(0)]
        for _ in range(self.random_negative_sampling_rate):
            others = Addresses.random(events.addresses.version, order)
            negative.append((entities * model.address_vectors(others)).sum(axis=1))
        negative += [
            (entities * addresses[rows]).sum(axis=1)
            for rows in shuffled(len(positive), self.shuffled_negative_sampling_rate, order)
        ]
        against = np.concatenate(negative)
        if not len(against):
            return {}
        target = np.repeat([1.0, 0.0], [len(positive), len(against)])
        return {"discriminator_auc": metrics.auc(target, np.concatenate([positive, against]))}

    def events(self, data: Dataset) -> Events:
        """Take the rows that have an entity and an address.

        Raises:
            InvalidData: the data has not two columns of words, or no row has both.
        """
        columns = data.inputs.columns
        if len(columns) != 2:
            names = ", ".join(data.inputs.names)
            raise InvalidData(
                f"{data.channel}: expected two columns, the entity and the address, got "
                f"{len(columns)} ({names}); name them with features=",
                channel=data.channel,
            )
        names, words = data.features.column(0), data.features.column(1)
        for column, values in zip(columns, (names, words), strict=True):
            is_name = column is columns[0] and pa.types.is_integer(values.type)
            if column.kind != "text" and not is_name:
                raise InvalidData(
                    f"{data.channel}: column {column.name!r} is {column.kind}, expected words; "
                    "the entity comes first, then the address, and Dataset.of takes "
                    'labels="none", text="text"',
                    channel=data.channel,
                    column=column.name,
                )
        names = names.cast(pa.string())
        addresses = Addresses.parse(words)
        held = names.is_valid().to_numpy() & (addresses.version > 0)
        if not held.any():
            raise InvalidData(
                f"{data.channel}: no row has an entity in column {columns[0].name!r} and an "
                f"address in column {columns[1].name!r}; row 1 has {names[0].as_py()!r} and "
                f"{words[0].as_py()!r}. The entity comes first, then the address",
                channel=data.channel,
                column=columns[1].name,
            )
        missing = np.flatnonzero(~held)
        first = int(missing[0]) if len(missing) else 0
        example = (names[first].as_py(), words[first].as_py()) if len(missing) else None
        kept = names.filter(pa.array(held))
        return Events(kept, addresses.take(held), len(missing), example)


def inputs_of(data: Dataset) -> Inputs:
    """Return the two columns as words: the names of entities may be whole numbers."""
    return Inputs(tuple(Input(name, "text") for name in data.inputs.names))
