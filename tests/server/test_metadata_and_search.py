"""What is said about features, and finding groups and features by it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from featurestore import (
    Description,
    Expression,
    FeatureDefinition,
    FeatureGroupNotFound,
    FeatureMetadata,
    FeatureNotFound,
    FeatureType,
    Filter,
    InvalidRequest,
    MetadataChange,
    NestedFilters,
    Operator,
    StorageType,
    Throughput,
    Ttl,
    TtlUnit,
)


@pytest.fixture
def filled(store, weather):
    """Three groups with descriptions, tags and parameters."""
    store.create_feature_group(weather)
    store.create_feature_group(
        replace(weather, name="tides", description="Height of the sea", tags={"team": "coast"})
    )
    store.create_feature_group(
        replace(
            weather,
            name="planes",
            description="",
            tags={},
            offline=False,
            ttl=Ttl(TtlUnit.DAYS, 3),
            storage_type=StorageType.STANDARD_V2,
        )
    )
    store.update_feature_metadata(
        "weather", "temp", MetadataChange("Air temperature", {"unit": "celsius", "owner": "ops"})
    )
    store.update_feature_metadata("tides", "temp", MetadataChange(additions={"unit": "kelvin"}))
    return store


class TestMetadata:
    def test_a_feature_has_nothing_said_about_it_at_first(self, store, weather):
        made = store.create_feature_group(weather)

        found = store.feature_metadata("weather", "temp")

        assert found == FeatureMetadata(
            "weather",
            FeatureDefinition("temp", FeatureType.FRACTIONAL),
            "",
            {},
            made.created,
            made.created,
        )

    def test_parameters_are_added_replaced_and_removed(self, filled):
        changed = filled.update_feature_metadata(
            "weather", "temp", MetadataChange(None, {"unit": "kelvin"}, ("owner", "absent"))
        )

        assert changed.description == "Air temperature"
        assert changed.parameters == {"unit": "kelvin"}
        assert changed.modified > changed.created
        assert filled.feature_metadata("weather", "temp") == changed
        assert filled.describe("weather").version == 1

    def test_a_description_can_be_emptied(self, filled):
        assert (
            filled.update_feature_metadata("weather", "temp", MetadataChange("")).description == ""
        )

    def test_a_later_feature_has_its_own_time(self, filled):
        filled.add_features("weather", [FeatureDefinition("gust", FeatureType.FRACTIONAL)])

        gust, temp = (filled.feature_metadata("weather", name) for name in ("gust", "temp"))
        assert gust.created > temp.created

    def test_unknown_names_are_refused_with_the_nearest(self, filled):
        with pytest.raises(FeatureGroupNotFound, match="did you mean 'weather'"):
            filled.feature_metadata("wether", "temp")
        with pytest.raises(FeatureNotFound, match="did you mean 'temp'"):
            filled.update_feature_metadata("weather", "tmp", MetadataChange("x"))

    def test_limits_have_their_own_messages(self, filled):
        for change, message in (
            ({}, "expected a description, parameter additions or removals"),
            ({"description": "x" * 256}, "at most 255 characters, got 256"),
            ({"additions": {f"k{n}": "v" for n in range(26)}}, "ParameterAdditions: expected at"),
            ({"removals": [f"k{n}" for n in range(26)]}, "ParameterRemovals: expected at most 25"),
            ({"additions": {"": "v"}}, "parameter Key: expected 1 to 255"),
            ({"additions": {"k": "a\nb"}}, "parameter Value: expected 1 to 255"),
            ({"additions": {"k": "v"}, "removals": ["k"]}, "both added and removed"),
        ):
            with pytest.raises(InvalidRequest, match=message):
                MetadataChange(**change)
        more = {f"k{number}": "v" for number in range(24)}
        with pytest.raises(InvalidRequest, match="at most 25 parameters, the change makes 26"):
            filled.update_feature_metadata("weather", "temp", MetadataChange(additions=more))
        assert set(filled.feature_metadata("weather", "temp").parameters) == {"unit", "owner"}

    def test_a_group_made_anew_starts_with_nothing_said(self, filled, weather):
        filled.delete_feature_group("weather")
        filled.create_feature_group(weather)

        assert filled.feature_metadata("weather", "temp").parameters == {}


def names(found: list[object]) -> list[str]:
    return [
        entry.group.name
        if isinstance(entry, Description)
        else f"{entry.group}.{entry.feature.name}"  # type: ignore[attr-defined]
        for entry in found
    ]


class TestSearch:
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (None, "planes tides weather"),
            (Filter("FeatureGroupName", value="weather"), "weather"),
            (Filter("FeatureGroupName", Operator.NOT_EQUALS, "weather"), "planes tides"),
            (Filter("FeatureGroupName", Operator.CONTAINS, "E"), "planes tides weather"),
            (Filter("Description", Operator.CONTAINS, "SEA"), "tides"),
            (Filter("Description", Operator.EXISTS), "tides weather"),
            (Filter("Description", Operator.NOT_EXISTS), "planes"),
            (Filter("Tags.team", value="coast"), "tides"),
            (Filter("Tags.team", Operator.IN, "coast, operations"), "tides weather"),
            (Filter("Tags.absent", Operator.EXISTS), ""),
            (Filter("FeatureDefinitions.FeatureName", value="wind"), "planes tides weather"),
            (Filter("FeatureDefinitions.FeatureName", value="gust"), ""),
            (Filter("OnlineStoreConfig.EnableOnlineStore", value="TRUE"), "planes tides weather"),
            (Filter("OnlineStoreConfig.StorageType", value="Standard_V2"), "planes"),
            (
                Filter("OnlineStoreConfig.TtlDuration.Value", Operator.GREATER_THAN, "2.5"),
                "planes",
            ),
            (
                Filter("OnlineStoreConfig.TtlDuration.Value", Operator.LESS_THAN_OR_EQUAL_TO, "2"),
                "",
            ),
            (Filter("Version", value="1"), "planes tides weather"),
            (
                Filter("CreationTime", Operator.GREATER_THAN, "2020-01-01T00:00:00Z"),
                "planes tides weather",
            ),
            (Filter("CreationTime", Operator.LESS_THAN, "1500000000"), ""),
        ],
    )
    def test_one_filter_on_groups(self, filled, wanted, expected):
        found = filled.search("FeatureGroup", wanted, sort_by="FeatureGroupName", descending=False)

        assert names(found) == expected.split()

    def test_the_newest_change_comes_first(self, filled):
        filled.set_throughput("tides", Throughput(100, 100))

        assert names(filled.search("FeatureGroup"))[0] == "tides"

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (Filter("Parameters.unit", value="kelvin"), "tides.temp"),
            (Filter("Parameters.unit", Operator.EXISTS), "tides.temp weather.temp"),
            (Filter("AllParameters", value="ops"), "weather.temp"),
            (Filter("Description", Operator.CONTAINS, "temperature"), "weather.temp"),
            (
                Expression(
                    (
                        Filter("FeatureName", value="temp"),
                        Filter("FeatureGroupName", Operator.IN, "weather,planes"),
                    )
                ),
                "planes.temp weather.temp",
            ),
            (
                Expression(
                    (Filter("Parameters.unit", value="kelvin"),),
                    expressions=(Expression((Filter("Parameters.owner", value="ops"),)),),
                    any_of=True,
                ),
                "tides.temp weather.temp",
            ),
        ],
    )
    def test_features_are_found_by_what_is_said(self, filled, wanted, expected):
        found = filled.search(
            "FeatureMetadata", wanted, sort_by="FeatureGroupName", descending=False
        )

        assert names(found) == expected.split()

    def test_nested_filters_hold_for_one_element_together(self, filled):
        def of(name: str, kind: str) -> Expression:
            return Expression(
                nested=(
                    NestedFilters(
                        "FeatureDefinitions",
                        (
                            Filter("FeatureDefinitions.FeatureName", value=name),
                            Filter("FeatureType", value=kind),
                        ),
                    ),
                )
            )

        assert len(filled.search("FeatureGroup", of("temp", "Fractional"))) == 3
        assert filled.search("FeatureGroup", of("temp", "String")) == []

    def test_more_hits_than_a_page_all_arrive(self, store, weather):
        for number in range(130):
            store.create_feature_group(replace(weather, name=f"g{number:03d}"))

        found = store.search("FeatureMetadata", Filter("FeatureName", value="temp"))
        everything = store.search("FeatureMetadata", sort_by="FeatureGroupName", descending=False)

        assert len(found) == 130
        assert [entry.group for entry in everything] == sorted(
            f"g{number:03d}" for number in range(130) for _ in weather.features
        )

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            (Filter("Nme", value="x"), "Unknown property name: Nme"),
            (Filter("FeatureGroupName", value=""), "a value of 1 to 1024 characters"),
            (Filter("FeatureGroupName", value="x" * 1025), "got 1025"),
            (Filter("Version", Operator.CONTAINS, "1"), "Version is no text"),
            (Filter("Version", Operator.GREATER_THAN, "one"), "expected a number, got 'one'"),
            (Filter("CreationTime", Operator.LESS_THAN, "noon"), "expected an ISO-8601 time"),
            (Filter("OnlineStoreConfig.EnableOnlineStore", value="1"), "expected true or false"),
            (Expression((Filter("Version", value="1"),) * 21), "Filters: expected at most 20"),
        ],
    )
    def test_what_cannot_be_asked_is_refused(self, filled, wanted, message):
        with pytest.raises(InvalidRequest, match=message):
            filled.search("FeatureGroup", wanted)

    def test_what_cannot_be_searched_for_is_refused(self, filled):
        with pytest.raises(InvalidRequest, match="expected FeatureGroup or FeatureMetadata"):
            filled.search("Model")
        with pytest.raises(InvalidRequest, match="Unknown property name: Size"):
            filled.search("FeatureGroup", sort_by="Size")


class TestChanges:
    def test_throughput_is_kept_and_reported(self, store, weather):
        store.create_feature_group(replace(weather, throughput=Throughput(10, 20)))

        assert store.describe_feature_group("weather").throughput == Throughput(10, 20)
        assert not store.set_throughput("weather", Throughput()).group.throughput.is_provisioned

    def test_standard_becomes_standard_v2_and_never_back(self, store, weather):
        store.create_feature_group(weather)

        changed = store.set_storage_type("weather", StorageType.STANDARD_V2)

        assert changed.group.storage_type is StorageType.STANDARD_V2
        for other in (StorageType.STANDARD, StorageType.IN_MEMORY):
            with pytest.raises(InvalidRequest, match="only Standard can be changed"):
                store.set_storage_type("weather", other)

    def test_a_description_says_when_it_changed(self, store, weather):
        made = store.create_feature_group(weather)

        changed = store.set_throughput("weather", Throughput(1, 1))

        assert changed.modified > made.modified > made.created - dt.timedelta(seconds=1)
        assert changed.version == 2
