"""Features that hold several values: List, Set and Vector, in every kind of store."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from featurestore import (
    CollectionType,
    FeatureDefinition,
    FeatureGroup,
    FeatureType,
    Get,
    InvalidFeatureGroup,
    InvalidRecord,
)

S, F, N = FeatureType.STRING, FeatureType.FRACTIONAL, FeatureType.INTEGRAL
GROUP = FeatureGroup(
    "items",
    record_identifier="item",
    event_time="at",
    features=(
        FeatureDefinition("item", S),
        FeatureDefinition("at", S),
        FeatureDefinition("words", S, CollectionType.LIST),
        FeatureDefinition("counts", N, CollectionType.LIST),
        FeatureDefinition("tags", S, CollectionType.SET),
        FeatureDefinition("embedding", F, CollectionType.VECTOR, 3),
        FeatureDefinition("price", F),
    ),
)
AT = "2013-01-01T06:00:00Z"
FULL = {
    "item": "a",
    "at": AT,
    "words": ["to", "be", "to"],
    "counts": [1, 2],
    "tags": ["new", "red"],
    "embedding": [0.5, 1.0, -2.0],
    "price": 3.0,
}


@pytest.fixture(params=["embedded", "remote-grpc", "remote-native"])
def items(request, opened):
    store = opened(request.param)
    store.create_feature_group(GROUP)
    return store


def test_the_definition_comes_back_as_it_was(items):
    assert items.describe_feature_group("items") == GROUP
    assert FeatureGroup.from_json(GROUP.to_json()) == GROUP


def test_collections_are_read_back(items):
    items.put("items", FULL)

    assert items.get("items", "a") == FULL
    assert items.batch_get([Get("items", ["a"], ("tags",))])[0].record == {"tags": ["new", "red"]}


def test_elements_take_their_declared_type(items):
    items.put(
        "items",
        {
            "item": "a",
            "at": AT,
            "words": ("x",),
            "counts": ["3", "4.0"],
            "tags": ["b", "a", "b"],
            "embedding": np.array([1, 2, 3]),
        },
    )

    assert items.get("items", "a") == {
        "item": "a",
        "at": AT,
        "words": ["x"],
        "counts": [3, 4],
        "tags": ["b", "a"],
        "embedding": [1.0, 2.0, 3.0],
    }


def test_an_empty_collection_is_no_null(items):
    items.put("items", {"item": "a", "at": AT, "words": [], "counts": [], "tags": None})

    assert items.get("items", "a") == {"item": "a", "at": AT, "words": [], "counts": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"words": "to be"}, "items.words: expected List of String, got 'to be'"),
        ({"words": ["a", 1]}, "items.words: expected"),
        ({"words": ["a", None]}, "items.words: expected"),
        ({"counts": [1.5]}, "items.counts: expected Integral, got 1.5"),
        ({"embedding": [1.0, 2.0]}, "a Vector of dimension 3, got 2 elements"),
        ({"embedding": 1.0}, "items.embedding: expected Vector of Fractional, got 1.0"),
        ({"price": [1.0]}, r"items.price: expected Fractional, got \[1.0\]"),
        ({"item": ["a"]}, r"items.item: expected String, got \['a'\]"),
    ],
)
def test_what_is_no_such_collection_is_refused(items, value, message):
    with pytest.raises(InvalidRecord, match=message):
        items.put("items", FULL | value)

    assert items.get("items", "a") is None


def test_an_update_changes_a_whole_collection(items):
    items.put("items", FULL)

    items.update("items", "a", {"tags": ["old"], "embedding": None})

    found = items.get("items", "a")
    assert found["tags"] == ["old"]
    assert found["words"] == FULL["words"]
    assert "embedding" not in found


def test_collections_go_through_flush_verify_and_dataset(items):
    items.put("items", FULL)
    items.put("items", {"item": "b", "at": AT, "words": [], "price": 1.0})
    items.delete("items", "b", event_time="2013-01-01T07:00:00Z")
    items.flush("items")

    assert items.verify("items").equal
    moments = [dt.datetime(2013, 1, 1, hour, 30, tzinfo=dt.UTC) for hour in (5, 6, 6, 7)]
    spine = pa.table(
        {
            "item": ["a", "a", "b", "b"],
            "event_time": pa.array(moments, pa.timestamp("us", "UTC")),
        }
    )
    dataset = items.dataset(spine, ["items[words,counts,embedding]"])
    assert dataset.table.to_pydict() | {"event_time": 0} == {
        "item": ["a", "a", "b", "b"],
        "event_time": 0,
        "words": [None, ["to", "be", "to"], [], None],
        "counts": [None, [1, 2], None, None],
        "embedding": [None, [0.5, 1.0, -2.0], None, None],
    }
    assert items.dataset(spine, ["items[words,counts,embedding]"]).fingerprint == (
        dataset.fingerprint
    )


def test_a_table_brings_collections(items):
    table = pa.table(
        {
            "item": ["a", "b"],
            "at": [AT, AT],
            "counts": pa.array([[1, 2], None], pa.list_(pa.int32())),
            "embedding": pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]], pa.list_(pa.float64())),
        }
    )

    result = items.put_table("items", table)

    assert result.rows == 1
    assert [error.index for error in result.errors] == [1]
    assert "dimension 3, got 2 elements (row 1)" in result.errors[0].message
    assert items.get("items", "a") == {
        "item": "a",
        "at": AT,
        "counts": [1, 2],
        "embedding": [1.0, 2.0, 3.0],
    }


def test_a_group_gains_a_collection(items):
    items.put("items", {"item": "a", "at": AT})

    items.add_features("items", [FeatureDefinition("more", N, CollectionType.SET)])

    assert items.get("items", "a") == {"item": "a", "at": AT}
    items.update("items", "a", {"more": [2, 1, 2]})
    assert items.get("items", "a")["more"] == [2, 1]


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (FeatureDefinition("v", N, CollectionType.VECTOR, 3), "a Vector has Fractional elements"),
        (FeatureDefinition("v", F, CollectionType.VECTOR), "from 1 to 8,192, got None"),
        (FeatureDefinition("v", F, CollectionType.VECTOR, 8193), "from 1 to 8,192, got 8193"),
        (FeatureDefinition("v", F, CollectionType.LIST, 3), "only a Vector has a dimension"),
    ],
)
def test_a_definition_that_breaks_a_rule_is_refused(items, feature, message):
    with pytest.raises(InvalidFeatureGroup, match=message):
        items.add_features("items", [feature])


@pytest.mark.parametrize("place", [0, 1])
def test_identifier_and_event_time_hold_one_value(place):
    features = list(GROUP.features)
    name = features[place].name
    features[place] = FeatureDefinition(name, S, CollectionType.LIST)

    with pytest.raises(InvalidFeatureGroup, match=f"{name!r} must hold one value, not a List"):
        FeatureGroup("items", "item", "at", tuple(features))
