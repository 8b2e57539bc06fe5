"""The Neural Topic Model on the short notes of LDA."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.case import Case
from tests.training.cases.lda import WORDS, make_notes
from training.algorithm import Model
from training.algorithms.unsupervised.ntm.model import NTMModel

__all__ = ["CASE"]


def _over_one_topic(model: Model, table: pa.Table) -> float:
    """Return how much more likely a word is than by its share in all notes."""
    assert isinstance(model, NTMModel)
    counts = np.array([table[word].to_numpy() for word in WORDS]).sum(axis=1)
    share = counts / counts.sum()
    return model.pwll(table) - float(share @ np.log(share))


CASE = Case(
    name="ntm",
    values={
        "num_topics": 3,
        "feature_dim": 10,
        "epochs": 15,
        "mini_batch_size": 100,
        "encoder_layers": "12",
        "encoder_layers_activation": "tanh",
        "optimizer": "adam",
        "learning_rate": 0.05,
        "num_patience_epochs": 30,
    },
    train=partial(make_notes, 400, seed=1),
    later=partial(make_notes, 300, seed=2),
    reply="topic_weights",
    column="cat",
    quality=_over_one_topic,
    baseline=0.35,
    validates=True,
    metric="validation:total_loss",
    resizes=lambda values, width: {**values, "feature_dim": width},
    exact=False,
    resumes=True,
)
