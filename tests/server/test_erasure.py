"""Erasure over gRPC: the same report, the same errors."""

from __future__ import annotations

import pytest

from featurestore import FeatureGroupNotFound, InvalidRequest, verify_report

RECORD = {"origin": "JFK", "hour": "2024-01-01T00:00:00Z", "temp": 1.0}


def test_a_client_erases_and_can_check_the_report(remote, server, weather):
    remote.create_feature_group(weather)
    remote.put("weather", RECORD)
    remote.put("weather", {**RECORD, "origin": "LGA"})
    report = remote.erase("weather", "JFK", reason="asked")
    assert verify_report(report.to_json()) == report
    assert report.rows == 1
    assert report.document["reason"] == "asked"
    assert remote.get("weather", "JFK") is None
    remote.put("weather", RECORD)
    assert remote.get("weather", "JFK") is None
    assert list(remote.records("weather")) == ["LGA"]
    assert remote.verify("weather").equal
    assert not remote.erase("weather", ["JFK"], datasets="delete").is_found


def test_refusals_are_those_of_the_embedded_store(remote, weather):
    remote.create_feature_group(weather)
    with pytest.raises(FeatureGroupNotFound):
        remote.erase("wether", "JFK")
    with pytest.raises(InvalidRequest, match="1 to 1,000 identifiers"):
        remote.erase("weather", [])
    with pytest.raises(InvalidRequest, match="keep or delete"):
        remote.erase("weather", "JFK", datasets="x")
    with pytest.raises(InvalidRequest, match="it names an identifier"):
        remote.erase("weather", "JFK", reason="JFK")
