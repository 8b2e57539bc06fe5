from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import (
    FeatureDefinition,
    FeatureGroup,
    FeatureNotFound,
    FeatureType,
    Ttl,
    TtlUnit,
    feature_definitions,
)
from featurestore.errors import InvalidFeatureGroup
from featurestore.schema import MAX_ADDITIONS, MAX_FEATURES, check_name, ttl_from_json

ALNUM = string.ascii_letters + string.digits
names = st.text(ALNUM, min_size=1, max_size=64) | st.from_regex(
    r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}[a-zA-Z0-9]\Z", fullmatch=True
)

WEATHER = {
    "FeatureGroupName": "weather",
    "RecordIdentifierFeatureName": "origin",
    "EventTimeFeatureName": "hour",
    "FeatureDefinitions": [
        {"FeatureName": "origin", "FeatureType": "String"},
        {"FeatureName": "hour", "FeatureType": "String"},
        {"FeatureName": "temp", "FeatureType": "Fractional"},
    ],
}


def weather(**changes: object) -> FeatureGroup:
    return FeatureGroup.from_json(WEATHER | changes)


# -- names ------------------------------------------------------------------------------------


@given(names)
def test_a_good_name_is_taken(name):
    assert check_name(name, "FeatureName") == name


@pytest.mark.parametrize(
    "name",
    ["a", "7", "A-b_c", "a--b", "a_-_b", "x" * 64, "a" + "-" * 62 + "b"],
)
def test_names_at_the_edge(name):
    assert check_name(name, "FeatureName") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "_a",
        "a-",
        "a_",
        "a b",
        "a.b",
        "a/b",
        "ä",
        "a\n",
        "x" * 65,
        "a" + "_" * 63 + "b",  # 65 characters, of which two are letters
        "a" + "-" * 100_000 + "b",
        None,
        7,
        b"a",
    ],
)
def test_a_bad_name_is_refused(name):
    with pytest.raises(InvalidFeatureGroup) as caught:
        check_name(name, "FeatureName")
    message = str(caught.value)
    assert message.startswith("FeatureName: expected 1 to 64 letters")
    assert f"got {name!r}" in message


@pytest.mark.parametrize(
    "name", ["is_deleted", "write_time", "api_invocation_time", "Is_Deleted", "WRITE_TIME"]
)
def test_reserved_feature_names(name):
    with pytest.raises(InvalidFeatureGroup, match=f"weather: feature name '{name}' is reserved"):
        weather(
            FeatureDefinitions=[
                *WEATHER["FeatureDefinitions"],
                {"FeatureName": name, "FeatureType": "String"},
            ]
        )


def test_features_that_differ_only_in_case_are_refused():
    # Parquet readers, DuckDB and Delta do not tell them apart.
    with pytest.raises(InvalidFeatureGroup, match="'temp' and 'Temp' differ only in case"):
        weather().with_features(feature_definitions([("Temp", "Integral")]))


# -- what a group must have -------------------------------------------------------------------


def refusals() -> list[tuple[str, dict[str, object], str]]:
    definitions = WEATHER["FeatureDefinitions"]
    assert isinstance(definitions, list)
    return [
        (
            "no features",
            {"FeatureDefinitions": []},
            "weather: expected 1 to 2500 features, got 0",
        ),
        (
            "too many features",
            {
                "FeatureDefinitions": [
                    {"FeatureName": f"f{i}", "FeatureType": "String"} for i in range(2501)
                ]
            },
            "weather: expected 1 to 2500 features, got 2501",
        ),
        (
            "twice",
            {"FeatureDefinitions": [*definitions, definitions[2]]},
            "weather: feature 'temp' is defined twice",
        ),
        (
            "identifier missing",
            {"RecordIdentifierFeatureName": "orgin"},
            "weather: RecordIdentifierFeatureName 'orgin' is not among the feature definitions; "
            "did you mean 'origin'?",
        ),
        (
            "identifier in another case",
            {"RecordIdentifierFeatureName": "Origin"},
            "weather: RecordIdentifierFeatureName 'Origin' is not among the feature definitions; "
            "did you mean 'origin'?",
        ),
        (
            "event time missing",
            {"EventTimeFeatureName": "time"},
            "weather: EventTimeFeatureName 'time' is not among the feature definitions",
        ),
        (
            "one feature for both",
            {"RecordIdentifierFeatureName": "hour"},
            "weather: the record identifier and the event time must be two features, "
            "got 'hour' for both",
        ),
        (
            "integral event time",
            {
                "FeatureDefinitions": [
                    definitions[0],
                    {"FeatureName": "hour", "FeatureType": "Integral"},
                ]
            },
            "weather: event time 'hour' must be String or Fractional, got Integral",
        ),
        (
            "no store",
            {"OnlineStoreConfig": {"EnableOnlineStore": False}},
            "weather: enable the online store, the offline store, or both",
        ),
        (
            "description",
            {"Description": "x" * 129},
            "weather: description: expected at most 128 characters, got 129",
        ),
        (
            "tags",
            {"Tags": [{"Key": f"k{i}", "Value": "v"} for i in range(51)]},
            "weather: expected at most 50 tags, got 51",
        ),
        (
            "group name",
            {"FeatureGroupName": "-weather"},
            "FeatureGroupName: expected 1 to 64 letters, digits, '_' and '-', beginning and "
            "ending with a letter or digit, got '-weather'",
        ),
        (
            "feature name",
            {"FeatureDefinitions": [*definitions, {"FeatureName": "a b", "FeatureType": "String"}]},
            "weather: FeatureName: expected 1 to 64 letters, digits, '_' and '-', beginning and "
            "ending with a letter or digit, got 'a b'",
        ),
        (
            "feature type",
            {"FeatureDefinitions": [*definitions, {"FeatureName": "w", "FeatureType": "Float"}]},
            "weather.w: FeatureType: expected Integral, Fractional or String, got 'Float'",
        ),
        (
            "collection",
            {
                "FeatureDefinitions": [
                    *definitions,
                    {"FeatureName": "w", "FeatureType": "String", "CollectionType": "Bag"},
                ]
            },
            "weather.w: CollectionType: expected List, Set or Vector, got 'Bag'",
        ),
        (
            "unknown member",
            {"FeatureDefinition": []},
            "unknown member 'FeatureDefinition' in a feature group; "
            "did you mean 'FeatureDefinitions'?",
        ),
        (
            "no name",
            {"FeatureGroupName": None},
            "FeatureGroupName: expected text, got None",
        ),
        (
            "definitions of another form",
            {"FeatureDefinitions": "temp"},
            "weather: feature definitions: expected a list, got 'temp'",
        ),
        (
            "a definition of another form",
            {"FeatureDefinitions": ["temp"]},
            "weather: FeatureDefinitions: expected objects, got 'temp'",
        ),
        (
            "online configuration of another form",
            {"OnlineStoreConfig": True},
            "OnlineStoreConfig: expected an object, got True",
        ),
        (
            "offline configuration of another form",
            {"OfflineStoreConfig": "s3://bucket"},
            "OfflineStoreConfig: expected an object, got 's3://bucket'",
        ),
        (
            "switch of another form",
            {"OnlineStoreConfig": {"EnableOnlineStore": "false"}},
            "OnlineStoreConfig.EnableOnlineStore: expected true or false, got 'false'",
        ),
        (
            "tags of another form",
            {"Tags": {"team": "a"}},
            "Tags: expected a list, got {'team': 'a'}",
        ),
        (
            "a tag of another form",
            {"Tags": [{"Key": "team"}]},
            "Tags: expected objects with Key and Value, got {'Key': 'team'}",
        ),
        (
            "ttl unit",
            {
                "OnlineStoreConfig": {
                    "EnableOnlineStore": True,
                    "TtlDuration": {"Unit": "Years", "Value": 1},
                }
            },
            "TtlDuration.Unit: expected one of ['Seconds', 'Minutes', 'Hours', 'Days', 'Weeks'], "
            "got 'Years'",
        ),
        (
            "ttl value",
            {
                "OnlineStoreConfig": {
                    "EnableOnlineStore": True,
                    "TtlDuration": {"Unit": "Days", "Value": 0},
                }
            },
            "TtlDuration.Value: expected a whole number >= 1, got 0",
        ),
        (
            "ttl of another form",
            {"OnlineStoreConfig": {"EnableOnlineStore": True, "TtlDuration": 5}},
            "TtlDuration: expected an object, got 5",
        ),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [pytest.param(changes, message, id=name) for name, changes, message in refusals()],
)
def test_a_refusal_says_where_what_was_expected_and_what_came(changes, message):
    with pytest.raises(InvalidFeatureGroup) as caught:
        weather(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("body", [None, [], "weather", 7])
def test_a_definition_that_is_no_object_is_refused(body):
    with pytest.raises(InvalidFeatureGroup, match="expected a JSON object"):
        FeatureGroup.from_json(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3000) | st.text(max_size=5) | st.just("weather"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Unit", "Value", "Key", "FeatureName", "FeatureType", "TtlDuration"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*WEATHER, "OnlineStoreConfig", "OfflineStoreConfig", "Tags", "Other"]),
        json_values,
    )
)
def test_any_json_is_a_group_or_is_refused(changes):
    with contextlib.suppress(InvalidFeatureGroup):
        assert FeatureGroup.from_json(weather(**changes).to_json())


def test_limits_are_inclusive():
    features = [("id", "String"), ("t", "String")] + [
        (f"f{i}", "Integral") for i in range(MAX_FEATURES - 2)
    ]
    group = FeatureGroup(
        "g",
        record_identifier="id",
        event_time="t",
        features=feature_definitions(features),
        description="x" * 128,
        tags={str(i): "v" for i in range(50)},
    )
    assert len(group.features) == MAX_FEATURES


# -- JSON -------------------------------------------------------------------------------------

ttls = st.none() | st.builds(Ttl, st.sampled_from(TtlUnit), st.integers(1, 10**6))


@st.composite
def groups(draw):
    features = draw(st.lists(names, min_size=2, max_size=8, unique_by=str.lower))
    types = draw(
        st.lists(
            st.sampled_from(FeatureType), min_size=len(features), max_size=len(features)
        ).filter(lambda kinds: kinds[1] is not FeatureType.INTEGRAL)
    )
    online = draw(st.booleans())
    return FeatureGroup(
        draw(names),
        record_identifier=features[0],
        event_time=features[1],
        features=tuple(map(FeatureDefinition, features, types)),
        online=online,
        offline=draw(st.booleans()) or not online,
        ttl=draw(ttls),
        description=draw(st.text(max_size=128)),
        tags=draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)),
    )


@given(groups())
def test_json_round_trip(group):
    written = json.loads(json.dumps(group.to_json()))
    assert FeatureGroup.from_json(written) == group


@given(groups())
def test_a_group_survives_pickling(group):
    _ = group.types
    assert pickle.loads(pickle.dumps(group)) == group


def test_with_neither_store_named_both_are_on():
    group = weather()
    assert (group.online, group.offline) == (True, True)
    only_online = weather(OnlineStoreConfig={"EnableOnlineStore": True})
    assert (only_online.online, only_online.offline) == (True, False)
    only_offline = weather(OfflineStoreConfig={"S3StorageConfig": {"S3Uri": "s3://b"}})
    assert (only_offline.online, only_offline.offline) == (False, True)


def test_a_ttl_of_nulls_is_none():
    assert ttl_from_json({"Unit": None, "Value": None}) is None
    assert ttl_from_json(None) is None
    assert ttl_from_json({"Unit": "Hours", "Value": 2}) == Ttl(TtlUnit.HOURS, 2)


# -- use --------------------------------------------------------------------------------------


def test_feature_types_by_name():
    group = weather()
    assert group.feature_names == ("origin", "hour", "temp")
    assert group.feature_type("temp") is FeatureType.FRACTIONAL
    with pytest.raises(FeatureNotFound, match="did you mean 'temp'") as caught:
        group.feature_type("tmp")
    assert (caught.value.group, caught.value.feature) == ("weather", "tmp")


def test_features_are_added_at_the_end():
    group = weather().with_features(feature_definitions([("wind", "Fractional")]))
    assert group.feature_names == ("origin", "hour", "temp", "wind")
    assert weather().feature_names == ("origin", "hour", "temp")


@pytest.mark.parametrize("count", [0, MAX_ADDITIONS + 1])
def test_too_few_or_too_many_additions_are_refused(count):
    additions = feature_definitions((f"f{i}", "String") for i in range(count))
    with pytest.raises(
        InvalidFeatureGroup, match=f"expected 1 to 100 feature additions in a call, got {count}"
    ):
        weather().with_features(additions)


def test_a_feature_that_exists_is_not_added_again():
    with pytest.raises(InvalidFeatureGroup, match="feature 'temp' is defined twice"):
        weather().with_features(feature_definitions([("temp", "Integral")]))


def test_a_type_that_does_not_exist_is_refused_by_name():
    with pytest.raises(
        InvalidFeatureGroup,
        match="temp: FeatureType: expected Integral, Fractional or String, got 'Float'",
    ):
        feature_definitions([("temp", "Float")])


def test_a_group_is_a_value():
    group = weather()
    assert group == weather()
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.name = "other"  # type: ignore[misc]
    assert group.with_ttl(Ttl(TtlUnit.DAYS, 1)) != group
    assert group.with_ttl(Ttl(TtlUnit.DAYS, 1)).with_ttl(None) == group


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None])
def test_a_ttl_is_a_whole_number_of_units(value):
    with pytest.raises(InvalidFeatureGroup, match="expected a whole number >= 1"):
        Ttl(TtlUnit.SECONDS, value)


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("Seconds", 1), ("Minutes", 60), ("Hours", 3600), ("Days", 86_400), ("Weeks", 604_800)],
)
def test_ttl_units(unit, seconds):
    assert Ttl(TtlUnit(unit), 3).us == 3 * seconds * 1_000_000
