"""Windowed groups: the same embedded and over gRPC, by every way a client reads."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import grpc
import pyarrow as pa
import pytest

import featurestore
from featurestore import (
    FeatureGroup,
    FeatureGroupExists,
    FeatureGroupNotFound,
    FeatureNotFound,
    Get,
    InvalidFeatureGroup,
    InvalidRecord,
    InvalidRequest,
    WindowedFeature,
    WindowedGroup,
    feature_definitions,
)
from featurestore.v1 import runtime_pb2, runtime_pb2_grpc

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
PAYMENTS = FeatureGroup(
    "payments",
    record_identifier="payment",
    event_time="at",
    features=feature_definitions(
        [
            ("payment", "String"),
            ("at", "Fractional"),
            ("card", "Integral"),
            ("amount", "Fractional"),
            ("shop", "String"),
        ]
    ),
)
CARDS = WindowedGroup(
    "cards",
    source="payments",
    by="card",
    features=[
        WindowedFeature("count", over=HOUR),
        WindowedFeature("sum", of="amount", over=HOUR),
        WindowedFeature("sum", of="amount", over=DAY),
        WindowedFeature("top_k", of="shop", over=DAY, k=2, name="shops"),
    ],
    retention=DAY,
)


def payment(name: str, age_s: float, card: int, amount: float, shop: str = "a") -> dict:
    return {
        "payment": name,
        "at": time.time() - age_s,
        "card": card,
        "amount": amount,
        "shop": shop,
    }


@pytest.fixture
def paid(store):
    """Each kind of store, with payments from before and after the windowed group was made."""
    store.create_feature_group(PAYMENTS)
    store.put("payments", payment("p1", 7200, 7, 0.1))
    store.put("payments", payment("p2", 60, 7, 0.2, "b"))
    store.create_windowed_group(CARDS)
    store.put("payments", payment("p3", 30, 7, 0.3, "b"))
    store.put("payments", payment("p4", 30, 8, 4.0))
    return store


def test_it_is_read_like_a_feature_group(paid):
    expected = {
        "card": 7,
        "count_1h": 2,
        "amount_sum_1h": 0.5,
        "amount_sum_1d": 0.6,
        "shops": ["b", "a"],
    }
    assert paid.get("cards", 7) == expected
    assert paid.get("cards", "7", features=["shops"]) == {"shops": ["b", "a"]}
    assert paid.get("cards", 99) == {"card": 99, "count_1h": 0}

    found = paid.batch_get([Get("cards", [8, 7], ("count_1h",)), Get("payments", ["p4"])])
    records = {(entry.group, entry.identifier): entry.record for entry in found}
    assert records["cards", "8"] == {"count_1h": 1}
    assert records["cards", "7"] == {"count_1h": 2}
    assert records["payments", "p4"]["amount"] == 4.0

    table = paid.get_table("cards", [7, 99], features=["card", "amount_sum_1h", "count_1h"])
    assert table.to_pylist() == [
        {"card": 7, "amount_sum_1h": 0.5, "count_1h": 2},
        {"card": 99, "amount_sum_1h": None, "count_1h": 0},
    ]


def test_it_is_a_part_of_datasets_like_a_feature_group(paid):
    now = dt.datetime.now(dt.UTC)
    spine = pa.table({"card": [7, 7, 99], "event_time": [now, now - HOUR, now]})
    dataset = paid.dataset(spine, ["cards[count_1h,amount_sum_1d]"])
    assert dataset.table.select(["count_1h", "amount_sum_1d"]).to_pylist() == [
        {"count_1h": 2, "amount_sum_1d": 0.6},
        {"count_1h": 0, "amount_sum_1d": 0.1},
        {"count_1h": 0, "amount_sum_1d": None},
    ]
    assert paid.dataset(spine, [paid.group("cards")["shops"]]).table["shops"][0].as_py() == [
        "b",
        "a",
    ]
    with pytest.raises(InvalidRequest, match="no lookback for a windowed group"):
        paid.dataset(spine, [paid.group("cards").with_lookback(HOUR)])


def test_the_values_of_a_past_time(paid):
    now = dt.datetime.now(dt.UTC)
    before, later = paid.get_windows("cards", [7], at=now - dt.timedelta(minutes=10)), now + DAY
    assert before == [{"card": 7, "count_1h": 0, "amount_sum_1d": 0.1, "shops": ["a"]}]
    assert paid.get_windows("cards", [7], at=later)[0]["count_1h"] == 0
    with pytest.raises(InvalidRequest, match="earlier events are not kept online"):
        paid.get_windows("cards", [7], at=now - 2 * DAY)
    with pytest.raises(InvalidRecord):
        paid.get_windows("cards", ["seven"])


def test_it_is_described_listed_and_deleted(paid):
    description = paid.describe_windowed_group("cards")
    assert description.group == CARDS
    assert description.is_filled
    assert [feature.name for feature in description.features][:3] == ["card", "at", "count_1h"]
    assert paid.list_windowed_groups() == [description]
    body = description.to_json()
    assert body["WindowedFeatures"][3]["CollectionType"] == "List"
    assert body["WindowedGroupStatus"] == "Created"

    with pytest.raises(InvalidRequest, match="windowed group 'cards' is made of it"):
        paid.delete_feature_group("payments")
    with pytest.raises(FeatureGroupExists, match="windowed group 'cards'"):
        paid.create_feature_group(
            FeatureGroup(
                "cards", record_identifier="payment", event_time="at", features=PAYMENTS.features
            )
        )
    paid.delete_windowed_group("cards")
    assert paid.list_windowed_groups() == []
    with pytest.raises(FeatureGroupNotFound):
        paid.get("cards", 7)
    with pytest.raises(FeatureGroupNotFound):
        paid.delete_windowed_group("cards")
    paid.create_windowed_group(CARDS)
    assert paid.get("cards", 7)["amount_sum_1d"] == 0.6
    paid.delete_windowed_group("cards")
    paid.delete_feature_group("payments")


def test_verify_compares_the_features_of_each_key(paid):
    report = paid.verify("cards")
    assert (report.equal, report.online, report.differences) == (True, 2, ())


def test_filling_again_changes_nothing(paid):
    before = paid.get("cards", 7)
    assert paid.fill_windowed_group("cards") == 4
    assert paid.get("cards", 7) == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"name": "payments"}, FeatureGroupExists, "exists already"),
        ({"name": "cards"}, FeatureGroupExists, "exists already"),
        ({"source": "paiments"}, FeatureGroupNotFound, "did you mean 'payments'"),
        ({"by": "cart"}, FeatureNotFound, "cart"),
        ({"by": "at"}, InvalidFeatureGroup, "to group by"),
        ({"by": "amount"}, InvalidFeatureGroup, "String or Integral feature to group by"),
        ({"features": [WindowedFeature("sum", of="shop", over=HOUR)]}, InvalidFeatureGroup, "numb"),
        ({"features": [WindowedFeature("sum", of="x", over=HOUR)]}, FeatureNotFound, "x"),
        ({"features": [WindowedFeature("count", over=HOUR)] * 2}, InvalidFeatureGroup, "count_1h"),
    ],
)
def test_what_cannot_be_aggregated_is_refused(paid, change, error, message):
    given = {"name": "other", "source": "payments", "by": "card", "features": CARDS.features}
    with pytest.raises(error, match=message):
        paid.create_windowed_group(WindowedGroup(**{**given, **change}))
    assert [entry.group.name for entry in paid.list_windowed_groups()] == ["cards"]


def test_a_generated_client_reads_it_by_get_record(server):
    with featurestore.connect(server.address) as store:
        store.create_feature_group(PAYMENTS)
        store.create_windowed_group(CARDS)
        store.put("payments", payment("p1", 60, 7, 0.25))
    with grpc.insecure_channel(server.address) as channel:
        stub = runtime_pb2_grpc.FeatureStoreRuntimeStub(channel)
        response = stub.GetRecord(
            runtime_pb2.GetRecordRequest(
                feature_group_name="cards", record_identifier_value_as_string="7"
            )
        )
        values = {entry.feature_name: entry.value for entry in response.record.values}
        assert values["card"].integral_value == 7
        assert values["amount_sum_1h"].fractional_value == 0.25
        assert list(values["shops"].string_list.values) == ["a"]
        batch = runtime_pb2.BatchGetRecordRequest()
        batch.identifiers.add(
            feature_group_name="cards",
            record_identifiers_value_as_string=["7", "x"],
            feature_names=["count_1h"],
        )
        reply = stub.BatchGetRecord(batch)
        assert [entry.record_identifier_value_as_string for entry in reply.records] == ["7"]
        assert [entry.code for entry in reply.errors] == ["InvalidRecord"]

    async def read() -> list[dict]:
        async with featurestore.aio.connect(server.address) as store:
            return await store.get_windows("cards", [7])

    assert asyncio.run(read())[0]["count_1h"] == 1
