"""Erasure over gRPC: the same report, the same errors."""

from __future__ import annotations

import pytest

from featurestore import FeatureGroupNotFound, InvalidRequest, verify_report

RECORD = {"origin": "JFK", "hour": "2024-01-01T00:00:00Z", "temp": 1.0}


def test_a_record_is_erased_and_the_report_can_be_checked(record_store):
    record_store.put("weather", RECORD)
    record_store.put("weather", {**RECORD, "origin": "LGA"})
    report = record_store.erase("weather", "JFK", reason="asked")
    assert verify_report(report.to_json()) == report
    assert report.rows == 1
    assert report.document["reason"] == "asked"
    assert record_store.get("weather", "JFK") is None
    record_store.put("weather", RECORD)
    assert record_store.get("weather", "JFK") is None
    assert list(record_store.records("weather")) == ["LGA"]
    assert not record_store.erase("weather", ["JFK"], datasets="delete").is_found


def test_after_an_erasure_both_stores_are_equal(remote, weather):
    remote.create_feature_group(weather)
    remote.put("weather", RECORD)
    assert remote.erase("weather", "JFK").is_found
    remote.put("weather", RECORD)
    assert remote.verify("weather").equal


def test_refusals_are_the_same_in_every_store(refusing):
    for store in refusing.values():
        with pytest.raises(FeatureGroupNotFound):
            store.erase("wether", "JFK")
        with pytest.raises(InvalidRequest, match="1 to 1,000 identifiers"):
            store.erase("weather", [])
        with pytest.raises(InvalidRequest, match="keep or delete"):
            store.erase("weather", "JFK", datasets="x")
        with pytest.raises(InvalidRequest, match="it names an identifier"):
            store.erase("weather", "JFK", reason="JFK")
