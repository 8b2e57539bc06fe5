"""`profile=auto`: what it chooses by rows, what it leaves, and that it is better on small data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.training.logins import make_logins
from tests.training.pairs import make_pairs
from training.algorithms import find_algorithm
from training.data import Dataset
from training.errors import InvalidHyperparameter
from training.hyperparameter import as_text
from training.run import MemorySink, Run

pytest.importorskip("torch")

REQUIRED: dict[str, dict[str, Any]] = {
    "ntm": {"num_topics": 4, "feature_dim": 20},
    "ipinsights": {"num_entity_vectors": 100, "vector_dim": 16},
    "object2vec": {"enc0_max_seq_len": 6, "enc0_vocab_size": 20},
}


def documents(rows: int, *, seed: int) -> pa.Table:
    """Documents of 30 words, each of one of four topics of five words."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, 4, rows)
    words = 5 * topic[:, None] + random.integers(0, 5, (rows, 30))
    counts = np.array([np.bincount(row, minlength=20) for row in words])
    return pa.table({f"w{number}": counts[:, number] for number in range(20)})


def data_of(name: str) -> tuple[Dataset, Dataset]:
    match name:
        case "ntm":
            tables, options = [documents(200, seed=s) for s in (1, 2)], {"labels": "optional"}
        case "ipinsights":
            tables = [make_logins(400, seed=s) for s in (1, 2)]
            options = {"labels": "none", "text": "text"}
        case _:
            tables, options = [make_pairs(400, seed=s) for s in (1, 2)], {"label": "label"}
    train = Dataset.of(tables[0], **options)  # type: ignore[arg-type]
    later = Dataset.of(tables[1], inputs=train.inputs, **options)  # type: ignore[arg-type]
    return train, later


def fit(name: str, **values: Any) -> tuple[float, MemorySink]:
    """Fit, and return how bad the model is on other rows."""
    train, later = data_of(name)
    learner: Any = find_algorithm(name).of({**REQUIRED[name], **values})
    sink = MemorySink()
    measured = learner.evaluate(learner.fit(train, Run(threads=1, sink=sink)), later)
    worst = {"ntm": "total_loss", "ipinsights": "discriminator_auc"}.get(name, "cross_entropy")
    return (-1 if name == "ipinsights" else 1) * measured[worst], sink


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_what_is_chosen_is_said_and_better_than_the_defaults_on_little_data(name: str) -> None:
    # The vectors of 4,096 numbers that are Object2Vec's default take long.
    small: dict[str, Any] = {"enc_dim": 32, "mlp_dim": 32} if name == "object2vec" else {}
    plain, without = fit(name, **small)
    loss, sink = fit(name, profile="auto", **({"epochs": 20} if name == "ntm" else {}))
    assert loss < plain
    chosen = sink.properties["profile"]
    said = ", ".join(f"{field}={as_text(value)}" for field, value in chosen.items())
    assert f"profile: auto: {said}" in sink.lines
    assert "profile" not in without.properties


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_what_was_given_stays_also_where_it_is_the_default(name: str) -> None:
    algorithm = find_algorithm(name)
    default: Any = next(f.default for f in dataclasses.fields(algorithm) if f.name == "epochs")  # type: ignore[arg-type]
    few = {"mini_batch_size": 400} if name == "ntm" else {}
    if name == "object2vec":
        few = {"enc_dim": 8, "mlp_dim": 8, "mini_batch_size": 400}
    _, sink = fit(name, profile="auto", epochs=default, **few)
    assert "epochs" not in sink.properties["profile"]
    assert not set(few) & set(sink.properties["profile"])
    assert sum(metric == "train:loss" for metric, _, _ in sink.rows) <= default


def test_values_follow_the_rows() -> None:
    ntm: Any = find_algorithm("ntm").of({**REQUIRED["ntm"], "profile": "auto"})
    assert [ntm._chosen(n, False)["epochs"] for n in (300, 2000, 10**6)] == [200, 100, 20]
    assert [ntm._chosen(n, False)["mini_batch_size"] for n in (300, 10**6)] == [64, 256]
    assert ntm._chosen(300, True)["num_patience_epochs"] == 10
    logins: Any = find_algorithm("ipinsights").of({**REQUIRED["ipinsights"], "profile": "auto"})
    assert [logins._chosen(n)["mini_batch_size"] for n in (400, 48_000, 10**7)] == [
        *(100, 960, 10_000)
    ]
    assert [logins._chosen(n)["epochs"] for n in (400, 1500, 48_000)] == [100, 34, 10]
    pairs: Any = find_algorithm("object2vec").of({**REQUIRED["object2vec"], "profile": "auto"})
    sizes = [pairs._chosen(n, True)["enc_dim"] for n in (400, 80_000, 10**7)]
    assert sizes == [32, 64, 128]
    assert [pairs._chosen(400, held)["epochs"] for held in (True, False)] == [30, 10]


def test_sizes_of_object2vec_are_chosen_together_or_not_at_all() -> None:
    of = find_algorithm("object2vec").of
    values = {**REQUIRED["object2vec"], "profile": "auto"}
    given: Any = of({**values, "enc0_token_embedding_dim": 50})
    assert "enc_dim" not in given._chosen(400, True)
    other = {"enc1_network": "pooled_embedding", "enc1_max_seq_len": 6, "enc1_vocab_size": 20}
    mixed: Any = of(
        {
            **values,
            **other,
            "enc0_token_embedding_dim": 16,
            "enc1_token_embedding_dim": 16,
            "enc_dim": 16,
        }
    )
    assert "enc1_token_embedding_dim" not in mixed._chosen(400, True)
    sparse: Any = of({**values, "token_embedding_storage_type": "row_sparse", "optimizer": "sgd"})
    assert "weight_decay" not in sparse._chosen(400, True)


def test_other_profiles_are_refused_by_name() -> None:
    with pytest.raises(InvalidHyperparameter, match="profile: expected one of default, auto"):
        find_algorithm("ntm").of({**REQUIRED["ntm"], "profile": "best"})
