"""LDA on short notes about animals, ships and kitchens."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.case import Case
from training.algorithm import Model
from training.algorithms.unsupervised.lda_model import LDAModel

__all__ = ["CASE", "TOPICS", "WORDS", "make_notes"]

WORDS = ("cat", "dog", "fur", "sail", "mast", "rope", "salt", "oven", "soup", "small")
TOPICS = np.array(
    [
        [0.4, 0.3, 0.2, 0, 0, 0, 0, 0, 0, 0.1],
        [0, 0, 0, 0.3, 0.3, 0.2, 0.1, 0, 0, 0.1],
        [0, 0, 0, 0, 0, 0, 0.3, 0.3, 0.3, 0.1],
    ]
)


def make_notes(rows: int, *, seed: int) -> pa.Table:
    """Notes of 40 words, mixtures of three topics."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(3, 0.3), rows)
    counts = np.array([random.multinomial(40, share @ TOPICS) for share in shares])
    return pa.table(dict(zip(WORDS, counts.T, strict=True)))


def _over_one_topic(model: Model, table: pa.Table) -> float:
    """Return how much more likely a word is than by its share in all notes."""
    assert isinstance(model, LDAModel)
    counts = np.array([table[word].to_numpy() for word in WORDS]).sum(axis=1)
    share = counts / counts.sum()
    return model.pwll(table) - float(share @ np.log(share))


CASE = Case(
    name="lda",
    values={"num_topics": 3, "feature_dim": 10, "mini_batch_size": 400, "alpha0": 0.9},
    train=partial(make_notes, 400, seed=1),
    later=partial(make_notes, 300, seed=2),
    reply="topic_mixture",
    column="cat",
    quality=_over_one_topic,
    baseline=0.4,
    metric="test:pwll",
    resizes=lambda values, width: {**values, "feature_dim": width},
)
