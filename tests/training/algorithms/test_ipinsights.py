"""IP Insights: addresses, pairs, answers to what it never saw, and each hyperparameter."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.training.logins import make_logins
from training import find_algorithm, metrics
from training.algorithm import Model
from training.data import Dataset, read_dataset
from training.errors import InvalidData, InvalidHyperparameter
from training.formats.inference import decode_request
from training.hashing import mixed
from training.run import MemorySink, Run

pytest.importorskip("torch")

from training.algorithms.unsupervised.ipinsights.address import PAD, Addresses
from training.algorithms.unsupervised.ipinsights.model import IPInsightsModel, row_of
from training.negatives import shuffled

IPInsights = find_algorithm("ipinsights")
VALUES: Mapping[str, Any] = {
    "num_entity_vectors": 200,
    "vector_dim": 8,
    "epochs": 2,
    "mini_batch_size": 100,
    "learning_rate": 0.01,
}


def dataset(table: pa.Table, *, like: Dataset | None = None) -> Dataset:
    inputs = like.inputs if like else None
    return Dataset.of(table, inputs=inputs, labels="none", text="text")


def fit(table: pa.Table | None = None, *, run: Run | None = None, **values: Any) -> IPInsightsModel:
    data = dataset(make_logins(400, seed=1) if table is None else table)
    model: Any = IPInsights.of({**VALUES, **values}).fit(data, run or Run(threads=1))
    return model


@pytest.fixture(scope="module")
def model() -> IPInsightsModel:
    return fit(epochs=10)


def asked(model: Model, user: Any, address: Any) -> Any:
    return model.predict(pa.table({"user": [user], "address": [address]}))["dot_product"][0].as_py()


def test_addresses_are_read_as_the_standard_library_reads_them() -> None:
    words = [
        *(
            "0.0.0.0",
            "255.255.255.255",
            "10.2.3.4",
            " 10.0.0.1 ",
            "2001:db8::8",
            "::",
            "fe80::1%eth0",
        ),
        *(
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "01.2.3.4",
            "a.b.c.d",
            "",
            "::g",
            "1.2.3.4/8",
            "١.2.3.4",
        ),
    ]
    found = Addresses.parse(pa.array(words))
    for place, word in enumerate(words):
        try:
            address = ipaddress.ip_address(word.strip())
        except ValueError:
            assert found.version[place] == 0, word
            continue
        number = int(found.high[place]) << 64 | int(found.low[place])
        assert (found.version[place], number) == (address.version, int(address)), word


def test_ipv4_inside_ipv6_is_ipv4() -> None:
    found = Addresses.parse(pa.array(["::ffff:10.0.0.1", "10.0.0.1"]))
    assert found.version.tolist() == [4, 4]
    assert found.low[0] == found.low[1]


@pytest.mark.parametrize(
    ("first", "second", "shared", "all"),
    [
        ("10.0.0.1", "10.0.0.1", 7, 7),
        ("10.0.0.1", "10.0.0.2", 6, 7),
        ("10.0.0.1", "10.0.128.1", 3, 7),
        ("10.0.0.1", "11.0.0.1", 0, 7),
        ("2001:db8::1", "2001:db8::2", 30, 31),
        ("2001:db8::1", "2001:db8:0:1::1", 14, 31),
        ("2001:db8::1", "3001:db8::1", 0, 31),
    ],
)
def test_addresses_share_the_networks_that_both_lie_in(
    first: str, second: str, shared: int, all: int
) -> None:
    one, other = Addresses.parse(pa.array([first, second])).networks()
    assert len(one) == all
    assert (one == other).tolist() == [True] * shared + [False] * (all - shared)
    assert len(set(one.tolist())) == all


def test_ipv4_beside_ipv6_has_no_networks_in_the_places_left() -> None:
    alone = Addresses.parse(pa.array(["10.0.0.1"])).buckets(1000)
    beside = Addresses.parse(pa.array(["10.0.0.1", "::1"])).buckets(1000)
    assert beside[0, :7].tolist() == alone[0].tolist()
    assert set(beside[0, 7:].tolist()) == {PAD}
    assert beside[1].min() > PAD


def test_networks_have_the_same_hash_on_every_machine() -> None:
    """The value is the mixer's of MurmurHash3, computed by hand from version, length and bits."""
    kind = mixed(np.array([4 * 256 + 8], np.uint64))
    expected = mixed(np.array([10], np.uint64) + kind)
    assert Addresses.parse(pa.array(["10.0.0.1"])).networks()[0, 0] == expected[0]


def test_random_addresses_keep_versions_and_are_everywhere() -> None:
    version = np.array([4, 6] * 500, np.uint8)
    drawn = Addresses.random(version, np.random.default_rng(0))
    assert drawn.version.tolist() == version.tolist()
    short = drawn.low[version == 4]
    assert short.max() < 2**32
    assert np.bincount((short >> np.uint64(30)).astype(np.int64)).min() > 80
    assert not drawn.high[version == 4].any()


def test_shuffled_rows_are_never_the_row_itself() -> None:
    for rows in (2, 3, 50):
        for found in shuffled(rows, 20, np.random.default_rng(rows)):
            assert (found != np.arange(rows)).all()
            assert sorted(found.tolist()) == list(range(rows))
    assert list(shuffled(1, 3, np.random.default_rng(0))) == []


def test_usual_addresses_score_higher_than_others(model: IPInsightsModel) -> None:
    logins = make_logins(400, seed=2)
    usual = model.predict(logins)["dot_product"].to_numpy()
    moved = logins.set_column(
        1, "address", logins["address"].take(pa.array(np.roll(np.arange(400), 7)))
    )
    other = model.predict(moved)["dot_product"].to_numpy()
    assert metrics.auc(np.repeat([1.0, 0.0], 400), np.concatenate([usual, other])) > 0.8


def test_the_answer_is_the_product_of_the_vectors(model: IPInsightsModel) -> None:
    answer = model.predict_verbose(make_logins(50, seed=3))
    assert answer.column_names == ["dot_product", "entity_embedding", "ip_embedding"]
    entity, address = (np.array(answer[name].to_pylist()) for name in answer.column_names[1:])
    assert entity.shape == address.shape == (50, 8)
    dots = answer["dot_product"].to_numpy()
    np.testing.assert_allclose((entity * address).sum(axis=1), dots, rtol=1e-5, atol=1e-6)
    assert model.predict(make_logins(50, seed=3))["dot_product"].equals(answer["dot_product"])


def test_the_address_of_its_networks_is_computed_by_formula(model: IPInsightsModel) -> None:
    address = Addresses.parse(pa.array(["10.1.2.3"]))
    summed = (
        model.networks[address.buckets(len(model.networks) - 1)[0]].astype(np.float64).sum(axis=0)
    )
    expected = model.weights[0].astype(np.float64) @ summed + model.biases[0]
    np.testing.assert_allclose(model.address_vectors(address)[0], expected, rtol=1e-12)


def test_an_unknown_entity_is_answered_with_zero_and_no_address_with_null(
    model: IPInsightsModel,
) -> None:
    names = [f"nobody-{number}" for number in range(50)]
    unknown = [n for n in names if row_of(pa.array([n]), 200)[0] not in model.rows]
    assert asked(model, unknown[0], "10.0.0.1") == 0
    assert asked(model, "user-1", "10.0.0.1") != 0
    assert asked(model, "user-1", "10.0.0.999") is None
    assert asked(model, "user-1", None) is None
    assert asked(model, None, "10.0.0.1") is None


def test_rows_without_entity_or_address_are_left_out_of_a_fit() -> None:
    table = make_logins(200, seed=1)
    bad = pa.table({"user": ["user-1", None], "address": ["-", "10.0.0.1"]})
    sink = MemorySink()
    one = fit(pa.concat_tables([table, bad]), run=Run(sink=sink, threads=1))
    assert sink.properties["rows_left_out"] == 2
    assert any("2 of 202 rows" in line and "('user-1', '-')" in line for line in sink.lines)
    assert np.array_equal(one.networks, fit(table).networks)


def test_names_may_be_whole_numbers() -> None:
    table = make_logins(200, seed=1)
    numbers = pa.array([int(name[5:]) for name in table["user"].to_pylist()])
    words = fit(table.set_column(0, "user", numbers.cast(pa.string())))
    whole = fit(table.set_column(0, "user", numbers))
    assert np.array_equal(words.entities, whole.entities)
    assert asked(whole, 7, "10.0.0.1") == asked(whole, "7", "10.0.0.1")


def test_ipv6_is_learned_by_its_networks() -> None:
    random = np.random.default_rng(0)
    user = random.integers(0, 10, 600)
    address = [f"2001:db8:{u:x}::{random.integers(65_536):x}" for u in user.tolist()]
    table = pa.table({"user": [f"u{u}" for u in user.tolist()], "address": address})
    learner = IPInsights.of({**VALUES, "epochs": 15})
    data = dataset(table.slice(0, 400))
    fitted = learner.fit(data, Run(threads=1))
    assert (
        learner.evaluate(fitted, dataset(table.slice(400), like=data))["discriminator_auc"] > 0.85
    )


def test_csv_has_no_label_and_requests_are_taken_by_position(tmp_path: Path) -> None:
    table = make_logins(200, seed=1)
    path = tmp_path / "logins.csv"
    rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    path.write_text("".join(f"{user},{address}\n" for user, address in rows))
    data = read_dataset(path, channel="train", labels="none", text="text")
    assert data.inputs.names == ("f0", "f1")
    assert data.target is None
    fitted = IPInsights.of(VALUES).fit(data, Run(threads=1))
    expected = fitted.predict(table.slice(0, 2))
    body = b'{"instances":[{"features":["%s","%s"]},{"features":["%s","%s"]}]}' % tuple(
        word.encode() for row in table.slice(0, 2).to_pylist() for word in row.values()
    )
    assert fitted.predict(decode_request(body, "application/json")).equals(expected)
    csv = path.read_bytes().splitlines()[:2]
    assert fitted.predict(decode_request(b"\n".join(csv), "text/csv")).equals(expected)


def test_data_that_is_not_entity_and_address_is_refused() -> None:
    table = make_logins(10, seed=1)
    with pytest.raises(
        InvalidData,
        match="column 'address' and an address in column 'user'",
    ):
        fit(table.select(["address", "user"]))
    with pytest.raises(InvalidData, match=r"expected two columns.* got 1 \(user\)"):
        fit(table.select(["user"]))
    with pytest.raises(InvalidData, match="column 'address' is number, expected words"):
        fit(table.set_column(1, "address", pa.array(range(10))))
    with pytest.raises(InvalidData, match="column 'user' is number, expected words"):
        fit(table.set_column(0, "user", pa.array([0.5] * 10)))
    with pytest.raises(InvalidData, match=r'labels="none", text="text"'):
        IPInsights.of(VALUES).fit(Dataset.of(table, labels="none"), Run(threads=1))
    with pytest.raises(InvalidData, match="takes no label, got label='user'"):
        Dataset.of(table, label="user", labels="none")


@pytest.mark.parametrize(("random", "others"), [(0, 0), (500, 1), (300, 300)])
def test_there_must_be_some_negatives_and_not_too_many(random: int, others: int) -> None:
    rates = {"random_negative_sampling_rate": random, "shuffled_negative_sampling_rate": others}
    with pytest.raises(InvalidHyperparameter, match="sum must be from 1 to 500"):
        IPInsights.of({**VALUES, **rates})


@pytest.mark.parametrize(
    "changed",
    [
        {"num_entity_vectors": 3},
        {"vector_dim": 4},
        {"epochs": 1},
        {"mini_batch_size": 50},
        {"learning_rate": 0.02},
        {"weight_decay": 5.0},
        {"num_ip_encoder_layers": 0},
        {"num_ip_encoder_layers": 3},
        {"random_negative_sampling_rate": 0},
        {"random_negative_sampling_rate": 3},
        {"shuffled_negative_sampling_rate": 0},
        {"shuffled_negative_sampling_rate": 3},
    ],
    ids=str,
)
def test_each_hyperparameter_changes_the_model(changed: dict[str, Any]) -> None:
    table = make_logins(200, seed=1)
    answers = [
        m.predict(table)["dot_product"].to_numpy() for m in (fit(table), fit(table, **changed))
    ]
    assert not np.allclose(*answers, atol=1e-6)
    assert np.isfinite(answers).all()


def test_a_steps_loss_is_published_as_often_as_asked() -> None:
    sink = MemorySink()
    fit(run=Run(sink=sink, threads=1), batch_metrics_publish_interval=3)
    assert [step for name, _, step in sink.rows if name == "train:batch_loss"] == [2, 5]


def test_validation_has_the_same_pairs_in_every_epoch_and_fit() -> None:
    learner = IPInsights.of(VALUES)
    data = dataset(make_logins(200, seed=1))
    held_out = dataset(make_logins(100, seed=2), like=data)
    sink = MemorySink()
    fitted = learner.fit(data, Run(sink=sink, threads=1, seed=3), validation=held_out)
    measured = learner.evaluate(fitted, held_out)
    assert measured == learner.evaluate(fitted, held_out)
    assert sink.metrics["validation:discriminator_auc"] == measured["discriminator_auc"]


def test_one_row_can_be_fitted() -> None:
    single = fit(pa.table({"user": ["ann"], "address": ["10.0.0.1"]}))
    assert np.isfinite(asked(single, "ann", "10.0.0.1"))


def test_a_model_is_gone_on_from_with_new_entities(model: IPInsightsModel) -> None:
    names = [f"new-{number}" for number in range(50)]
    new = next(n for n in names if row_of(pa.array([n]), 200)[0] not in model.rows)
    more = pa.table({"user": [new] * 200, "address": ["172.16.0.9"] * 200})
    on = fit(more, run=Run(threads=1, start=model), epochs=20, shuffled_negative_sampling_rate=0)
    assert len(on.rows) == len(model.rows) + 1
    assert asked(on, new, "172.16.0.9") > 1
    with pytest.raises(InvalidData, match=r"differs in vector_dim \(8, and the job asks for 4\)"):
        fit(more, run=Run(threads=1, start=model), vector_dim=4)


def test_words_may_come_in_the_long_form(model: IPInsightsModel) -> None:
    short = b'{"instances":[{"features":["user-1","10.0.0.1"]},{"features":["user-2","10.0.0.1"]}]}'
    long = b"""{"instances":[{"data":{"features":{"values":["user-1","10.0.0.1"]}}},
        {"features":["user-2","10.0.0.1"]}]}"""
    wanted = model.predict(decode_request(short, "application/json"))
    assert model.predict(decode_request(long, "application/json")) == wanted
    lines = b'{"data":{"features":{"values":["user-1","10.0.0.1"]}}}\n'
    found = model.predict(decode_request(lines, "application/jsonlines"))
    assert found == wanted.slice(0, 1)


def test_a_model_of_another_algorithm_is_not_gone_on_from(model: IPInsightsModel) -> None:
    topics = find_algorithm("lda").of({"num_topics": 1, "feature_dim": 1, "mini_batch_size": 9})
    other = topics.fit(Dataset.of(pa.table({"a": [1]}), labels="optional"), Run(threads=1))
    with pytest.raises(InvalidData, match="a model of ipinsights, got LDAModel"):
        fit(run=Run(threads=1, start=other))


def test_shuffled_addresses_need_another_row() -> None:
    with pytest.raises(InvalidHyperparameter, match="a mini_batch_size of 2 or more"):
        fit(mini_batch_size=1)
    fit(mini_batch_size=1, shuffled_negative_sampling_rate=0, epochs=1)
    one = make_logins(1, seed=1)
    with pytest.raises(InvalidData, match="one row has no other to take shuffled addresses from"):
        fit(one, random_negative_sampling_rate=0)
    fit(one)
