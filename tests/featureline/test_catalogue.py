"""`featureline feature`, `featureline search` and `featureline group update`, on a home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import featurestore
from featureline.cli.main import cli
from featurestore import FeatureGroup, InvalidRequest, feature_definitions


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with featurestore.open(tmp_path / "home") as store:
        for name, team in (("weather", "ops"), ("flights", "sales")):
            store.create_feature_group(
                FeatureGroup(
                    name,
                    record_identifier="id",
                    event_time="at",
                    features=feature_definitions(
                        [("id", "String"), ("at", "String"), ("temp", "Fractional")]
                    ),
                    tags={"team": team},
                )
            )
    return tmp_path / "home"


def run(home: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(
        cli, [*arguments, "--home", str(home), "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_a_feature_is_described_and_found_by_it(home: Path) -> None:
    run(
        home,
        *("feature", "update", "weather", "temp", "--description", "air temperature"),
        *("--set", "unit=kelvin", "--set", "owner=ops"),
    )
    run(home, "feature", "update", "weather", "temp", "--remove", "owner")

    described = run(home, "feature", "describe", "weather", "temp")
    assert described["Description"] == "air temperature"
    assert described["Parameters"] == [{"Key": "unit", "Value": "kelvin"}]
    found = run(home, "search", "features", "Description~AIR", "Parameters.unit=kelvin")
    assert [(row["FeatureGroupName"], row["FeatureName"]) for row in found] == [("weather", "temp")]


def test_groups_are_found_by_any_or_all_filters(home: Path) -> None:
    filters = ["Tags.team = ops", "FeatureGroupName=flights"]

    assert run(home, "search", "groups", *filters) == []
    found = run(
        home,
        *("search", "groups", *filters, "--any", "--sort-by", "FeatureGroupName"),
        "--ascending",
    )
    assert [row["FeatureGroupName"] for row in found] == ["flights", "weather"]
    assert run(home, "search", "groups", "Version>9") == []


def test_a_filter_without_a_sign_is_refused(home: Path) -> None:
    with pytest.raises(InvalidRequest, match="a property, a sign and a value"):
        run(home, "search", "groups", "weather")


@pytest.mark.parametrize(
    ("change", "place", "expected"),
    [
        ({"FeatureAdditions": [{"FeatureName": "wind", "FeatureType": "Fractional"}]}, None, None),
        (
            {"OnlineStoreConfig": {"TtlDuration": {"Unit": "Hours", "Value": 2}}},
            ("OnlineStoreConfig", "TtlDuration"),
            {"Unit": "Hours", "Value": 2},
        ),
        (
            {
                "ThroughputConfig": {
                    "ThroughputMode": "Provisioned",
                    "ProvisionedReadCapacityUnits": 10,
                    "ProvisionedWriteCapacityUnits": 5,
                }
            },
            ("ThroughputConfig", "ProvisionedReadCapacityUnits"),
            10,
        ),
    ],
)
def test_a_group_is_updated_by_a_file(
    home: Path, tmp_path: Path, change: Any, place: tuple[str, str] | None, expected: Any
) -> None:
    file = tmp_path / "change.json"
    file.write_text(json.dumps({"FeatureGroupName": "weather", **change}))

    changed = run(home, "group", "update", "weather", str(file))

    if place is None:
        assert changed["FeatureDefinitions"][-1]["FeatureName"] == "wind"
    else:
        assert changed[place[0]][place[1]] == expected


@pytest.mark.parametrize(
    "body", [[], {}, {"Tags": []}, {"FeatureAdditions": [], "ThroughputConfig": {}}]
)
def test_a_file_with_no_or_several_changes_is_refused(
    home: Path, tmp_path: Path, body: Any
) -> None:
    file = tmp_path / "change.json"
    file.write_text(json.dumps(body))

    with pytest.raises(InvalidRequest, match="expected"):
        run(home, "group", "update", "weather", str(file))
