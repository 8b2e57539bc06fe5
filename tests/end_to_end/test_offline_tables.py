"""`featureline group maintain|history|restore`, and a server that maintains by itself."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import featurestore
from featurestore import FeatureGroup, feature_definitions


@pytest.fixture
def home(tmp_path):
    """A home whose group `readings` has six small files."""
    folder = tmp_path / "home"
    with featurestore.open(folder) as store:
        store.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="id",
                event_time="at",
                features=feature_definitions([("id", "String"), ("at", "String")]),
            )
        )
        for second in range(6):
            store.put("readings", {"id": "a", "at": f"2024-01-01T00:00:{second:02d}Z"})
            store.flush()
    return folder


def test_maintain_history_and_restore(command, home):
    report = json.loads(
        command("group", "maintain", "readings", "--home", home, "--retention", "0s", "--json").out
    )
    assert (report["files_before"], report["files_after"], report["files_removed"]) == (6, 1, 6)
    again = command("group", "maintain", "readings", "--home", home, "--no-zorder")
    assert again.code == 0
    assert "1 files of" in again.out

    listed = json.loads(command("group", "history", "readings", "--home", home, "--json").out)
    assert listed[-1] == listed[-1] | {"version": 0, "operation": "WRITE", "readable": False}
    assert listed[0]["readable"]
    assert "OPTIMIZE" in command("group", "history", "readings", "--home", home).out

    version = next(entry["version"] for entry in listed if entry["operation"] == "OPTIMIZE")
    made = command("group", "restore", "readings", "--home", home, "--version", version, "--json")
    assert json.loads(made.out)["restored"] == version
    refused = command("group", "restore", "readings", "--home", home, "--version", 1)
    assert refused.code == 1
    assert "a vacuum took its files away" in refused.err


@pytest.mark.parametrize("text", ["7", "d", "-1d", "9999999999999w"])
def test_a_retention_that_is_none(command, home, text):
    ended = command("group", "maintain", "readings", "--home", home, f"--retention={text}")
    assert ended.code == 2
    assert "--retention" in ended.err


def test_a_server_maintains_by_itself(serve, home):
    server = serve(home, "--flush-seconds", "0.2", "--maintain-minutes", "0.01").start()
    with featurestore.connect(server.address) as store:
        folder = Path(store.offline_uri("readings"))
        store.put("readings", {"id": "a", "at": "2024-01-01T00:01:00Z"})
        deadline = time.monotonic() + 30
        while not list(folder.glob("_event_date=*/part-sorted-*.parquet")):
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.05)
        assert store.verify("readings").equal


def test_a_server_refuses_what_outgrows_its_outbox(serve, home):
    server = serve(home, "--outbox-records", "3", "--flush-seconds", "3600").start()
    with featurestore.connect(server.address) as store:
        for second in range(3):
            store.put("readings", {"id": "b", "at": f"2024-01-01T01:00:{second:02d}Z"})
        with pytest.raises(featurestore.Overloaded, match="wait for the offline store") as refused:
            store.put("readings", {"id": "b", "at": "2024-01-01T01:00:03Z"})
        assert refused.value.facts["retry_after_s"] > 0
        store.flush()
        deadline = time.monotonic() + 30
        while True:
            try:
                store.put("readings", {"id": "b", "at": "2024-01-01T02:00:00Z"})
                break
            except featurestore.Overloaded:
                assert time.monotonic() < deadline, "the outbox is empty, and puts are refused"
                time.sleep(0.05)
