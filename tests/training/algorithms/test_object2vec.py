"""Object2Vec: encoders and comparators by formula, pairs, batches, and each hyperparameter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.training.pairs import make_pairs
from training import find_algorithm
from training.algorithm import Model
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter, InvalidJob
from training.formats.inference import Accept, decode_request
from training.predict import predict_file
from training.run import MemorySink, Run
from training.transforms.answering import ModelResponder, inference_settings

pytest.importorskip("torch")

from training.algorithms.text.object2vec.fitting import Pairs
from training.algorithms.text.object2vec.learner import Object2Vec
from training.algorithms.text.object2vec.model import Object2VecModel
from training.algorithms.text.object2vec.sequence import Sequences

REQUIRED: Mapping[str, Any] = {"enc0_max_seq_len": 6, "enc0_vocab_size": 20}
POOLED: Mapping[str, Any] = {
    **REQUIRED,
    "enc0_network": "pooled_embedding",
    "enc0_token_embedding_dim": 4,
    "mlp_dim": 4,
    "epochs": 2,
    "mini_batch_size": 50,
    "learning_rate": 0.02,
}
HCNN: Mapping[str, Any] = {**POOLED, "enc0_network": "hcnn", "enc_dim": 9, "enc0_layers": 2}
BILSTM: Mapping[str, Any] = {**POOLED, "enc0_network": "bilstm", "enc_dim": 5}
NETWORKS = {"pooled_embedding": POOLED, "hcnn": HCNN, "bilstm": BILSTM}


def dataset(table: pa.Table, *, like: Dataset | None = None) -> Dataset:
    return Dataset.of(table, label="label", inputs=like.inputs if like else None)


def fit(values: Mapping[str, Any], table: pa.Table | None = None, **run: Any) -> Object2VecModel:
    data = dataset(make_pairs(200, seed=1) if table is None else table)
    return Object2Vec.of(values).fit(data, Run(threads=1, **run))


@pytest.fixture(scope="module")
def models() -> Mapping[str, Object2VecModel]:
    return {name: fit(values) for name, values in NETWORKS.items()}


def asked(model: Model, **columns: list[Any]) -> list[Any]:
    kind = pa.list_(pa.int32())
    table = pa.table({name: pa.array(rows, kind) for name, rows in columns.items()})
    answer = model.predict(table)
    return answer.column(0).to_pylist()


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_and_the_neighbours_in_a_batch_change_nothing(
    models: Mapping[str, Object2VecModel], network: str
) -> None:
    model = models[network]
    rows = [[3], [5, 7, 2, 4, 9, 1], [2, 2, 3], []]
    together = asked(model, in0=rows)
    np.testing.assert_allclose(
        together, [asked(model, in0=[row])[0] for row in rows], rtol=1e-5, atol=1e-6
    )
    padded = asked(model, in0=[[*row, 0, 0, 0][:6] for row in rows])
    np.testing.assert_allclose(together, padded, rtol=1e-5, atol=1e-6)
    longer = asked(model, in0=[[5, 7, 2, 4, 9, 1, 8, 8]])
    np.testing.assert_allclose(longer[0], together[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("network", "size"), [("pooled_embedding", 4), ("hcnn", 9), ("bilstm", 5)])
def test_one_column_alone_is_answered_with_its_encoders_vector(
    models: Mapping[str, Object2VecModel], network: str, size: int
) -> None:
    model = models[network]
    first, second = asked(model, in0=[[3, 4]]), asked(model, in1=[[3, 4]])
    assert len(first[0]) == len(second[0]) == size
    assert first != second
    beside_nulls = model.predict(
        pa.table({"in0": pa.array([[3, 4]], pa.list_(pa.int32())), "in1": pa.nulls(1)})
    )
    assert beside_nulls.column_names == ["embeddings"]
    assert beside_nulls["embeddings"].to_pylist() == first


def test_order_matters_to_convolutions_and_lstms_only(
    models: Mapping[str, Object2VecModel],
) -> None:
    for network, model in models.items():
        one, other = asked(model, in0=[[3, 5, 8], [8, 5, 3]])
        assert np.allclose(one, other, atol=1e-6) == (network == "pooled_embedding")


def test_pooled_pairs_are_compared_in_the_given_order_by_formula() -> None:
    for comparators in ("hadamard,concat,abs_diff", "abs_diff,hadamard", "concat"):
        model = fit({**POOLED, "mlp_layers": 0, "comparator_list": comparators, "epochs": 1})
        weights = {name: held.astype(np.float64) for name, held in model.weights.items()}
        a = weights["enc0.tokens.weight"][[3, 5]].mean(axis=0)
        b = weights["enc1.tokens.weight"][[2]].mean(axis=0)
        made = {"hadamard": [a * b], "concat": [a, b], "abs_diff": [abs(a - b)]}
        compared = np.concatenate([p for name in comparators.split(",") for p in made[name]])
        last = [name for name in weights if name.startswith("mlp")]
        outputs = weights[last[0]] @ compared + weights[last[1]]
        expected = np.exp(outputs) / np.exp(outputs).sum()
        np.testing.assert_allclose(asked(model, in0=[[3, 5]], in1=[[2]])[0], expected, rtol=1e-5)


def test_convolutions_by_formula(models: Mapping[str, Object2VecModel]) -> None:
    model = models["hcnn"]
    held = {name: weight.astype(np.float64) for name, weight in model.weights.items()}
    across, largest = held["enc0.tokens.weight"][[5, 7, 2, 4]], []
    for layer in (0, 1):
        weight = held[f"enc0.network.layers.{layer}.weight"]
        bias = held[f"enc0.network.layers.{layer}.bias"]
        padded = np.pad(across, ((1, 1), (0, 0)))
        across = np.stack(
            [
                np.maximum(np.einsum("oiw,wi->o", weight, padded[place : place + 3]) + bias, 0)
                for place in range(4)
            ]
        )
        largest.append(across.max(axis=0))
    assert [len(part) for part in largest] == [5, 4]
    answer = asked(model, in0=[[5, 7, 2, 4]])[0]
    np.testing.assert_allclose(answer, np.concatenate(largest), rtol=1e-4, atol=1e-6)


def test_a_value_is_learned_by_each_network() -> None:
    train, later = (make_pairs(400, seed=seed, values=True) for seed in (1, 2))
    for values in NETWORKS.values():
        learner = Object2Vec.of({**values, "output_layer": "mean_squared_error", "epochs": 8})
        data = dataset(train)
        model = learner.fit(data, Run(threads=1))
        measured = learner.evaluate(model, dataset(later, like=data))
        assert measured["mean_squared_error"] < 0.04
        assert len(model.predict(later)["scores"][0]) == 1


def test_negatives_let_positives_alone_be_learned_from() -> None:
    table = make_pairs(800, seed=1)
    usual = table.filter(pa.array(table["label"].to_numpy() == 1))
    values = {**POOLED, "epochs": 10, "enc0_token_embedding_dim": 8, "negative_sampling_rate": 2}
    later = make_pairs(200, seed=2)
    scores = np.array(fit(values, usual).predict(later)["scores"].to_pylist())[:, 1]
    belongs = later["label"].to_numpy() == 1
    assert scores[belongs].mean() > scores[~belongs].mean() + 0.2


def test_batches_of_buckets_hold_like_lengths_and_every_row_once() -> None:
    learner = Object2Vec.of({**POOLED, "bucket_width": 2})
    first, second = learner.sequences(dataset(make_pairs(200, seed=1)))
    pairs = Pairs(first, second, np.zeros(200, np.int64), width=2)
    longer = np.maximum(first.lengths, second.lengths)
    seen = list(pairs.batches(16, np.random.default_rng(0)))
    assert len(seen) == pairs.count(16)
    assert sorted(np.concatenate(seen).tolist()) == list(range(200))
    assert all(longer[rows].max() - longer[rows].min() < 2 for rows in seen)
    again = list(pairs.batches(16, np.random.default_rng(0)))
    assert all(np.array_equal(*both) for both in zip(seen, again, strict=True))


def test_slices_and_chunks_of_lists_are_padded_alike() -> None:
    encoder = Object2Vec.of({**REQUIRED, "enc0_max_seq_len": 2}).encoder(0)
    rows = pa.array([[1, 2, 3], [], [4], [5, 6]], pa.list_(pa.int64()))
    column = pa.chunked_array([rows.slice(0, 2), rows.slice(2)])
    found = Sequences.of(column, encoder, name="in0", channel="train")
    assert found.padded(np.array([3, 0, 1])).tolist() == [[5, 6], [1, 2], [0, 0]]
    assert found.padded(np.array([1])).tolist() == [[0]]


def pretrained(folder: Path) -> Mapping[str, Path]:
    files = {"glove.txt": folder / "glove.txt", "vocab.json": folder / "vocab.json"}
    files["glove.txt"].write_text("sun 1 2 3 4\nrain -1 0 0.5 2e-1\nunknown 9 9 9 9\n")
    files["vocab.json"].write_text(json.dumps({"sun": 3, "rain": 7, "snow": 8}))
    return files


GIVEN = {"enc0_pretrained_embedding_file": "glove.txt", "enc0_vocab_file": "vocab.json"}


def test_pretrained_vectors_stay_or_are_learned_on(tmp_path: Path) -> None:
    files = pretrained(tmp_path)
    values = {**POOLED, **GIVEN}
    frozen = fit(values, auxiliary=files).weights["enc0.tokens.weight"]
    assert frozen[3].tolist() == [1, 2, 3, 4]
    assert frozen[7].tolist() == pytest.approx([-1, 0, 0.5, 0.2])
    assert not np.delete(frozen, [3, 7], axis=0).any()
    free = {**values, "enc0_freeze_pretrained_embedding": False}
    learned = fit(free, auxiliary=files).weights["enc0.tokens.weight"]
    assert 0 < np.abs(learned[3] - [1, 2, 3, 4]).max() < 0.5
    assert learned[8].any()
    assert Object2Vec.of(values).required_channels() == ("train", "auxiliary")
    with pytest.raises(InvalidJob, match="channel 'auxiliary' is required"):
        Object2Vec.of(values).check_channels(["train"])


def test_pretrained_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    files = pretrained(tmp_path)
    values = {**POOLED, **GIVEN}
    with pytest.raises(
        InvalidData, match=r"auxiliary: there is no file 'vocab\.json'; there are none"
    ):
        fit(values)
    with pytest.raises(InvalidData, match=r"line 1: expected 3 numbers .* got 4"):
        fit({**values, "enc0_token_embedding_dim": 3}, auxiliary=files)
    files["vocab.json"].write_text('{"sun": 20}')
    with pytest.raises(InvalidData, match=r"expected a token from 0 to 19 .* for 'sun', got 20"):
        fit(values, auxiliary=files)
    files["vocab.json"].write_text('{"moon": 2}')
    with pytest.raises(InvalidData, match="has a vector of no word"):
        fit(values, auxiliary=files)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad"])
def test_row_sparse_changes_only_vectors_of_tokens_it_saw(optimizer: str) -> None:
    values = {
        **POOLED,
        "enc0_vocab_size": 40,
        "token_embedding_storage_type": "row_sparse",
        "optimizer": optimizer,
    }
    one, more = fit({**values, "epochs": 1}), fit(values)
    before, after = (model.weights["enc0.tokens.weight"] for model in (one, more))
    changed = (before != after).any(axis=1)
    assert changed[1:19].all()
    assert not changed[19:].any()


def test_tied_encoders_share_their_tokens_vectors() -> None:
    weights = fit({**POOLED, "tied_token_embedding_weight": True}).weights
    assert np.array_equal(weights["enc0.tokens.weight"], weights["enc1.tokens.weight"])
    apart = fit(POOLED).weights
    assert not np.allclose(apart["enc0.tokens.weight"], apart["enc1.tokens.weight"])


@pytest.mark.parametrize(
    "changed",
    [
        *({"optimizer": name} for name in ("adadelta", "adagrad", "sgd", "rmsprop")),
        {"enc0_max_seq_len": 2},
        {"enc1_max_seq_len": 2},
        {"enc0_token_embedding_dim": 5},
        {"comparator_list": "concat"},
        {"mlp_layers": 0},
        {"mlp_dim": 5},
        {"mlp_activation": "tanh"},
        {"mlp_activation": "relu"},
        {"num_classes": 3},
        {"output_layer": "mean_squared_error"},
        {"negative_sampling_rate": 1},
        {"bucket_width": 2},
        {"epochs": 1},
        {"mini_batch_size": 20},
        {"learning_rate": 0.01},
        {"weight_decay": 0.1},
        {"dropout": 0.5},
    ],
    ids=str,
)
def test_each_hyperparameter_changes_the_model(
    models: Mapping[str, Object2VecModel], changed: dict[str, Any]
) -> None:
    pair = {"in0": [[3, 5, 6]], "in1": [[1, 3, 2]]}
    plain, other = (
        asked(models["pooled_embedding"], **pair),
        asked(fit({**POOLED, **changed}), **pair),
    )
    assert np.isfinite(other).all()
    assert len(plain[0]) != len(other[0]) or not np.allclose(plain, other, atol=1e-7)


@pytest.mark.parametrize(
    ("base", "changed", "name"),
    [
        (HCNN, {"enc0_layers": 3}, "enc0.network.layers.2.weight"),
        (BILSTM, {"enc0_layers": 2}, "enc0.network.lstm.weight_ih_l1"),
        (HCNN, {"enc0_cnn_filter_width": 4}, "enc0.network.layers.0.weight"),
    ],
)
def test_the_network_is_as_asked(base: Any, changed: dict[str, Any], name: str) -> None:
    model = fit({**base, **changed, "epochs": 1}, make_pairs(60, seed=1))
    assert name in model.weights
    if "enc0_cnn_filter_width" in changed:
        assert model.weights[name].shape[2] == 4
    assert len(asked(model, in0=[[3]], in1=[[4]])[0]) == 2


def test_encoders_may_differ_where_their_vectors_are_of_one_size() -> None:
    other = {
        "enc1_network": "bilstm",
        "enc1_max_seq_len": 4,
        "enc1_vocab_size": 30,
        "enc1_token_embedding_dim": 3,
        "enc1_layers": 2,
        "enc_dim": 4,
        "epochs": 1,
    }
    model = fit({**POOLED, **other})
    assert model.weights["enc1.tokens.weight"].shape == (30, 3)
    assert "enc1.network.lstm.weight_ih_l1_reverse" in model.weights


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"enc1_network": "hcnn"}, "enc1_max_seq_len and enc1_vocab_size are required"),
        ({"enc1_layers": 2}, "are those of enc0"),
        ({"enc0_network": "pooled_embedding", "enc0_layers": 2}, "enc0_layers goes only with"),
        ({"enc0_network": "bilstm", "enc0_cnn_filter_width": 2}, "filter_width goes only with"),
        (
            {"enc1_network": "pooled_embedding", "enc1_max_seq_len": 5, "enc1_vocab_size": 5},
            "vectors of one size",
        ),
        ({"tied_token_embedding_weight": True, "enc1_vocab_size": 9}, "vocabularies of one size"),
        ({"enc0_pretrained_embedding_file": "glove.txt"}, "go together"),
        ({"negative_sampling_rate": 1, "mini_batch_size": 1}, "mini_batch_size of 2 or more"),
        ({"enc1_freeze_pretrained_embedding": False}, "goes only with enc1_pretrained"),
        ({"output_layer": "mean_squared_error", "num_classes": 3}, "num_classes goes only with"),
        ({"token_embedding_storage_type": "row_sparse", "bucket_width": 3}, "without buckets"),
        ({"token_embedding_storage_type": "row_sparse", "optimizer": "rmsprop"}, "row_sparse goes"),
        (
            {
                "token_embedding_storage_type": "row_sparse",
                "optimizer": "sgd",
                "weight_decay": 0.1,
            },
            "weight_decay only with adam",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidHyperparameter, match=rule):
        Object2Vec.of({**REQUIRED, **changed})


def lists(*rows: Any) -> pa.Array:
    return pa.array(rows, pa.list_(pa.int32()))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"label": [0, 1], "in0": lists([1], [20]), "in1": lists([1], [1])}, "'in0' has token 20"),
        ({"label": [0, 1], "in0": lists([1], [2]), "in1": lists([1], [-1])}, "token -1.* row 2"),
        ({"label": [0, 1], "in0": lists([1], None), "in1": lists([1], [1])}, "no value in row 2"),
        (
            {"label": [0, 1], "in0": lists([1], [2]), "in1": lists([1], [1, None])},
            "missing in row 2",
        ),
        ({"label": [0, 2], "in0": lists([1], [2]), "in1": lists([1], [1])}, "got 2 in row 2"),
        ({"label": [0, 1], "in0": lists([1], [2])}, "expected two columns of tokens"),
        ({"label": [0, 1], "in0": [1.0, 2.0], "in1": lists([1], [1])}, "'in0' is number, expected"),
    ],
)
def test_bad_rows_are_refused(columns: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidData, match=problem):
        fit(POOLED, pa.table(columns))


def test_columns_of_other_names_are_taken_in_order_and_known_ones_by_name() -> None:
    table = make_pairs(100, seed=1)
    turned = fit(POOLED, table.select(["label", "in1", "in0"]))
    named = fit(POOLED, table.rename_columns(["label", "user", "item"]))
    assert turned.inputs.names == ("in0", "in1")
    assert named.inputs.names == ("user", "item")
    assert np.array_equal(turned.weights["enc0.tokens.weight"], named.weights["enc0.tokens.weight"])


def test_validation_stops_a_fit_and_keeps_its_best_epoch() -> None:
    values = {**POOLED, "epochs": 40, "early_stopping_patience": 1, "learning_rate": 0.1}
    learner = Object2Vec.of(values)
    data = dataset(make_pairs(150, seed=1))
    held_out = dataset(make_pairs(100, seed=2), like=data)
    sink = MemorySink()
    model = learner.fit(data, Run(sink=sink, threads=1), validation=held_out)
    seen = [value for name, value, _ in sink.rows if name == "validation:cross_entropy"]
    assert len(seen) < 40
    best = learner.evaluate(model, held_out)["cross_entropy"]
    assert best == pytest.approx(seen[-2], rel=1e-5)
    assert 0.5 <= sink.metrics["validation:accuracy"] <= 1


def test_a_model_is_gone_on_from_where_its_network_is_the_same(
    models: Mapping[str, Object2VecModel],
) -> None:
    start = models["pooled_embedding"]
    on = fit({**POOLED, "epochs": 1, "learning_rate": 1e-6}, start=start)
    for name, held in start.weights.items():
        np.testing.assert_allclose(on.weights[name], held, atol=1e-4)
    with pytest.raises(InvalidData, match="differs in mlp_dim"):
        fit({**POOLED, "mlp_dim": 7}, start=start)
    with pytest.raises(InvalidData, match="differs in enc0_token_embedding_dim, enc_dim, enc1_tok"):
        fit({**POOLED, "enc0_token_embedding_dim": 5}, start=start)
    other = find_algorithm("lda").of({"num_topics": 1, "feature_dim": 1, "mini_batch_size": 9})
    topics = other.fit(Dataset.of(pa.table({"a": [1]}), labels="optional"), Run(threads=1))
    with pytest.raises(InvalidData, match="a model of object2vec, got LDAModel"):
        fit(POOLED, start=topics)


def test_the_algorithm_is_found_by_its_name() -> None:
    assert find_algorithm("object2vec") is Object2Vec


def test_requests_are_answered_by_what_they_have(
    models: Mapping[str, Object2VecModel],
) -> None:
    model = models["pooled_embedding"]
    pair = b'{"instances":[{"in0":[3,5],"in1":[2]},{"in0":[4],"in1":[6,8]}]}'
    scores = model.predict(decode_request(pair, "application/json"))["scores"].to_pylist()
    assert scores == asked(model, in0=[[3, 5], [4]], in1=[[2], [6, 8]])
    alone = model.predict(decode_request(b'{"in1":[2,7]}', "application/jsonlines"))
    assert alone["embeddings"].to_pylist() == asked(model, in1=[[2, 7]])
    some = decode_request(b'{"in0":[3],"in1":[2]}\n{"in0":[3]}', "application/jsonlines")
    with pytest.raises(InvalidData, match="column 'in1' has no value in row 2"):
        model.predict(some)


def test_a_request_says_how_many_tokens_are_looked_at(
    models: Mapping[str, Object2VecModel],
) -> None:
    model = models["hcnn"]
    whole = asked(model, in0=[[3, 5, 8]], in1=[[4, 2, 9]])
    shorter = asked(model, in0=[[3, 5]], in1=[[4]])
    assert whole != shorter
    pair = {"in0": [[3, 5, 8]], "in1": [[4, 2, 9]]}
    cut = model.asked({"infer_max_seqlens": "2, 1", "charset": "utf-8"})
    assert asked(cut, **pair) == shorter
    assert asked(cut.asked({"infer_max_seqlens": "3,3"}), **pair) == whole
    assert cut.module is model.module
    long = {"in0": [[1, 2, 3, 4, 5, 6, 7]]}
    assert asked(model.asked({"infer_max_seqlens": "7,7"}), **long) != asked(model, **long)
    for wrong in ("2", "0,3", "1,2,3", "5001,1", "a,b"):
        with pytest.raises(InvalidData, match="infer_max_seqlens: expected two whole numbers"):
            model.asked({"infer_max_seqlens": wrong})


def test_content_types_carry_how_many_tokens_are_looked_at(
    models: Mapping[str, Object2VecModel], tmp_path: Path
) -> None:
    model = models["hcnn"]
    text = json.dumps({"in0": [3, 5, 8], "in1": [4, 2, 9]})
    shorter = asked(model, in0=[[3, 5]], in1=[[4]])[0]
    kind = "application/jsonlines; infer_max_seqlens=2,1"
    responder = ModelResponder(model, Object2Vec)
    accept = Accept("application/jsonlines")
    assert json.loads(responder.answer(text.encode(), kind, accept))["scores"] == shorter
    (tmp_path / "asked.jsonl").write_text(text + "\n")
    found = list(predict_file(model, tmp_path / "asked.jsonl", content_type=kind))
    assert found == [{"scores": shorter}]


def test_the_preferred_mode_of_inference_changes_no_answer(
    models: Mapping[str, Object2VecModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["pooled_embedding"]
    monkeypatch.setenv("INFERENCE_PREFERRED_MODE", "Embedding")
    preferring = model.served(inference_settings())
    assert preferring.preferred == "embedding"
    for pair in ({"in0": [[3, 5]]}, {"in0": [[3, 5]], "in1": [[4]]}):
        assert np.allclose(asked(preferring, **pair), asked(model, **pair), atol=1e-5)
    assert model.served({}) is model
    with pytest.raises(InvalidJob, match="expected one of classification, embedding, got 'gpu'"):
        model.served({"INFERENCE_PREFERRED_MODE": "gpu"})


def test_an_empty_list_alone_is_a_sequence_without_tokens(
    models: Mapping[str, Object2VecModel],
) -> None:
    alone = decode_request(b'{"in0":[]}', "application/jsonlines")
    empty = asked(models["hcnn"], in0=[[]])
    assert models["hcnn"].predict(alone)["embeddings"].to_pylist() == empty


def test_without_validation_the_loss_of_training_ends_a_fit() -> None:
    sink = MemorySink()
    values = {**POOLED, "epochs": 50, "early_stopping_patience": 1, "learning_rate": 0.1}
    fit({**values, "early_stopping_tolerance": 0.1}, sink=sink)
    losses = [value for name, value, _ in sink.rows if name == "train:loss"]
    assert 1 < len(losses) < 50
    assert losses[-1] > losses[-2] * 0.9


def test_layers_that_are_not_there_are_said_in_the_log() -> None:
    sink = MemorySink()
    fit({**POOLED, "mlp_layers": 0, "epochs": 1}, make_pairs(50, seed=1), sink=sink)
    assert any("mlp_dim and mlp_activation are not used" in line for line in sink.lines)


def test_a_size_that_pooled_vectors_do_not_have_is_said_in_the_log() -> None:
    sink = MemorySink()
    fit({**POOLED, "enc_dim": 9, "epochs": 1}, make_pairs(50, seed=1), sink=sink)
    assert any("enc_dim is not used" in line for line in sink.lines)
