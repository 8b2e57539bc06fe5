"""Object2Vec on pairs of sequences that are of one topic or of two."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.case import Case
from tests.training.pairs import make_pairs
from training import metrics
from training.algorithm import Model

__all__ = ["CASE"]


def _auc(model: Model, table: pa.Table) -> float:
    scores = np.array(model.predict(table)["scores"].to_pylist())
    return metrics.auc(table["label"].to_numpy(), scores[:, 1])


CASE = Case(
    name="object2vec",
    values={
        "enc0_max_seq_len": 6,
        "enc0_vocab_size": 20,
        "enc0_network": "pooled_embedding",
        "enc0_token_embedding_dim": 8,
        "mlp_dim": 8,
        "epochs": 8,
        "mini_batch_size": 50,
        "learning_rate": 0.02,
    },
    train=partial(make_pairs, 600, seed=1),
    later=partial(make_pairs, 300, seed=2),
    label="label",
    reply="scores",
    column="in0",
    quality=_auc,
    baseline=0.9,
    validates=True,
    metric="validation:cross_entropy",
    exact=False,
    resumes=True,
    partial=True,
    tolerance=1e-5,
)
