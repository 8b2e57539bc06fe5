"""Which field of which source, and which feature of which group, each feature is made of."""

from __future__ import annotations

import json

import lineage
from featurestore import FeatureGroup, feature_definitions
from ingest import FeatureMapping, FileSource, JsonDecoder, Lookup, Pipeline
from ingest.columns import feature_origins
from ingest.transform import FieldOrigin, Transform


class Opaque(Transform):
    """Says nothing of what it does."""

    def apply(self, records, messages):
        return records


def test_features_are_followed_to_fields_and_looked_up_groups(tmp_path, store, reading):
    store.create_feature_group(
        FeatureGroup(
            "stations",
            record_identifier="id",
            event_time="since",
            features=feature_definitions(
                [("id", "Integral"), ("since", "String"), ("note", "String")]
            ),
        )
    )
    path = tmp_path / "r.jsonl"
    path.write_text(
        "".join(json.dumps({"count": n, "extra": 0.5, "at": reading(n)}) + "\n" for n in range(3))
    )
    mapping = {
        "inputs": {
            "raw": {"path": "at.temp", "type": "fractional"},
            "more": {"path": "extra", "type": "fractional"},
        },
        "features": {
            "station": "at.station",
            "time": "at.time",
            "sequence": "count",
            "temp": {"sql": "raw * 2 + more"},
        },
    }
    for _ in range(2):
        transforms = [FeatureMapping(mapping), Lookup("stations", {"station": "id"})]
        Pipeline(
            FileSource(path), store, "readings", transforms=transforms, batch_size=2, lineage_s=0
        ).run()
        path = tmp_path / "again.jsonl"
        path.write_text(json.dumps({"count": 9, "extra": 0.5, "at": reading(9)}) + "\n")
    graph = store.graph
    (group,) = graph.find(type="FeatureGroup", name="readings")
    links = graph.columns(group, "", "ascendants", depth=1).links
    names = {lineage.derived_uid(lineage.context("FeatureGroup", "stations")): "stations"}
    assert {
        (names.get(one.source, "file"), one.source_column, one.column, one.type, one.subtype)
        for one in links
    } == {
        ("file", "at", "station", "DIRECT", "TRANSFORMATION"),
        ("file", "at", "time", "DIRECT", "TRANSFORMATION"),
        ("file", "count", "sequence", "DIRECT", "IDENTITY"),
        ("file", "at", "temp", "DIRECT", "TRANSFORMATION"),
        ("file", "extra", "temp", "DIRECT", "TRANSFORMATION"),
        ("stations", "note", "note", "DIRECT", "IDENTITY"),
        ("file", "at", "note", "INDIRECT", "JOIN"),
    }
    assert {one.description for one in links if one.column == "temp"} == {"raw * 2 + more"}
    runs = graph.query(group, "ascendants", types=["FeatureGroup"])
    assert sorted(one.name for one in runs) == ["readings", "stations"]


def test_what_a_decoder_or_an_unknown_transform_does():
    origins = feature_origins({"temp": "t"}, [], ["temp", "note"])
    assert origins == {"temp": (FieldOrigin("t"),), "note": ()}
    assert JsonDecoder({"temp": "t"}).mapping == {"temp": "t"}
    assert feature_origins({}, [], ["temp"]) == {"temp": (FieldOrigin("temp"),)}
    whole = FieldOrigin("", subtype="TRANSFORMATION", detail="Opaque")
    assert feature_origins({"temp": "t"}, [Opaque()], ["temp"]) == {"temp": (whole,)}
    renamed = [Opaque(), FeatureMapping({"temp": "celsius"})]
    assert feature_origins({}, renamed, ["temp", "note"]) == {"temp": (whole,), "note": ()}
