"""Datasets that are saved, found by their fingerprint, and built again."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from featurestore import (
    Dataset,
    DatasetChanged,
    DatasetNotFound,
    InvalidRequest,
    StoreCorrupt,
    feature_definitions,
    pointintime,
)


@pytest.fixture
def spine(at):
    return pa.table(
        {
            "station": ["JFK", "LGA", "JFK", "EWR", "JFK"],
            "event_time": [at(15), at(20), at(20), at(20), at(9)],
            "label": [1, 0, 1, 0, 1],
        }
    )


@pytest.fixture
def filled(store, reading):
    store.put("readings", reading("JFK", 10, temp=1.0, count=1, note="first"))
    store.put("readings", reading("LGA", 15, temp=9.0))
    store.flush()
    store.put("readings", reading("JFK", 20, temp=2.0, count=2))
    return store


@pytest.fixture
def saved(filled, spine):
    dataset = filled.dataset(spine, [filled.group("readings")["temp", "note"]])
    dataset.save()
    return dataset


def test_a_saved_dataset_is_read_again_by_its_fingerprint_or_its_beginning(filled, saved):
    for text in (saved.fingerprint, saved.fingerprint[:6]):
        loaded = filled.load_dataset(text)
        assert loaded.table.equals(saved.table)
        assert loaded.manifest == saved.manifest
    with pytest.raises(DatasetNotFound, match=r"is not saved in .*see `featureline dataset list`"):
        filled.load_dataset("0000")
    for text in ("abc", "", "../secret", "g" * 10, saved.fingerprint + "0"):
        with pytest.raises(InvalidRequest, match="expected a dataset's fingerprint"):
            filled.load_dataset(text)


def test_a_beginning_that_two_datasets_share_is_refused(filled, saved):
    twin = saved.fingerprint[:4] + "0" * 60
    path = filled.save_dataset(saved)
    path.with_name(f"{twin}.parquet").write_bytes(path.read_bytes())
    with pytest.raises(DatasetNotFound, match="more than one begins so"):
        filled.load_dataset(saved.fingerprint[:4])


def test_saving_twice_keeps_the_first_file(filled, saved):
    path = saved.save()
    before = path.stat()
    assert filled.save_dataset(saved) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [one.fingerprint for one in filled.saved.list()] == [saved.fingerprint]


def test_a_part_or_an_altered_dataset_is_not_saved_as_the_whole(filled, spine):
    dataset = filled.dataset(spine, ["readings[temp]"])
    with pytest.raises(InvalidRequest, match="expected the 5 rows it was built with, got 1"):
        dataset.filter(pa.array([True, False, False, False, False])).save()
    altered = Dataset(dataset.table.set_column(2, "label", pa.array([0] * 5)), dataset.manifest)
    with pytest.raises(InvalidRequest, match="no store built this value"):
        altered.save()
    with pytest.raises(InvalidRequest, match="other ones"):
        filled.save_dataset(altered)
    assert filled.saved.list() == []


def test_a_home_without_datasets_lists_none(store):
    assert store.saved.list() == []


def test_the_list_is_in_the_order_of_saving(filled, spine, clock):
    first = filled.dataset(spine, ["readings[temp]"])
    second = filled.dataset(spine, ["readings[note]"])
    second.save()
    clock.advance(1)
    first.save()
    listed = filled.saved.list()
    assert [one.fingerprint for one in listed] == [second.fingerprint, first.fingerprint]
    assert listed[1].saved - listed[0].saved == dt.timedelta(seconds=1)
    assert listed[0].features == {"note": "readings.note"}
    assert listed[0].statistics["note"]["nulls"] == 4
    assert json.loads(json.dumps(listed[0].to_json()))["rows"] == 5


# -- building again ---------------------------------------------------------------------------


def test_a_rebuild_gives_the_same_bytes_whatever_was_written_since(
    filled, saved, reading, tmp_path
):
    filled.put("readings", reading("JFK", 12, temp=-5.0, note="late"))
    filled.add_features("readings", feature_definitions([("wind", "Fractional")]))
    filled.put("readings", reading("EWR", 1, temp=3.0, wind=4.0))
    assert filled.dataset(saved.spine, ["readings[temp,note]"]).fingerprint != saved.fingerprint

    again = filled.rebuild_dataset(saved.fingerprint[:8], threads=1)

    assert again.fingerprint == saved.fingerprint
    assert again.versions == saved.versions
    assert again.table.equals(saved.table)
    assert again.write(tmp_path / "again.parquet").read_bytes() == saved.save().read_bytes()


def test_all_options_come_back_in_a_rebuild(filled, make_group, at, clock):
    filled.create_feature_group(
        make_group("planes", [("tail", "Integral"), ("time", "String"), ("seats", "Integral")])
    )
    filled.put("planes", {"tail": 7, "time": at(1), "seats": 150})
    filled.flush()
    known = dt.datetime.fromtimestamp(clock.us / 1e6, dt.UTC)
    clock.advance(10)
    filled.put("planes", {"tail": 7, "time": at(2), "seats": 90})
    spine = pa.table({"plane": [7, 8], "port": ["JFK", "LGA"], "when": [at(21), at(16)]})
    dataset = filled.dataset(
        spine,
        [
            filled.group("planes")["seats"].with_key("plane"),
            filled.group("readings")["temp"]
            .with_key("port")
            .with_prefix("r_")
            .with_lookback(dt.timedelta(seconds=3)),
            filled.group("readings").with_key("port"),
        ],
        time="when",
        as_of=known,
    )
    assert dataset.table["seats"].to_pylist() == [150, None]
    dataset.save()
    filled.put("planes", {"tail": 8, "time": at(2), "seats": 1})
    again = filled.rebuild_dataset(dataset.fingerprint)
    assert again.manifest == dataset.manifest
    assert again.table.equals(dataset.table)


def test_a_group_without_features_stays_so_when_some_are_added(store, spine, make_group, at):
    store.create_feature_group(make_group("bare", [("station", "String"), ("time", "String")]))
    store.put("bare", {"station": "JFK", "time": at(1)})
    dataset = store.dataset(spine, ["bare"])
    dataset.save()
    store.add_features("bare", feature_definitions([("wind", "Fractional")]))
    assert store.rebuild_dataset(dataset.fingerprint).table.equals(spine)


def test_a_group_that_had_nothing_stays_so(store, spine, reading):
    dataset = store.dataset(spine, ["readings[temp]"])
    dataset.save()
    store.put("readings", reading("JFK", 1, temp=3.0))
    store.flush()
    again = store.rebuild_dataset(dataset.fingerprint)
    assert again.table["temp"].to_pylist() == [None] * 5


def test_a_spine_of_any_type_comes_back(store, at):
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    spine = pa.table(
        {
            "station": pa.array(["JFK", None, "JFK"]).dictionary_encode(),
            "event_time": pa.array([moment] * 3, pa.timestamp("ns", "Europe/Paris")),
            "large": pa.array(["a", None, "b"], pa.large_string()),
            "list": [[1], None, []],
            "decimal": pa.array([Decimal("1.5"), None, Decimal("2.5")]),
            "struct": [{"a": 1}, None, {"a": None}],
            "none": pa.nulls(3),
            "float": pa.array([np.nan, None, -0.0], pa.float32()),
        }
    )
    chunked = pa.concat_tables([spine.slice(0, 1), spine.slice(1)])
    dataset = store.dataset(chunked, ["readings[temp]"])
    dataset.save()
    assert store.load_dataset(dataset.fingerprint).table.num_columns == 9
    again = store.rebuild_dataset(dataset.fingerprint)
    assert again.fingerprint == dataset.fingerprint
    assert again.table.schema == dataset.table.schema


def test_lineage_records_a_rebuild(filled, saved):
    before = filled.graph.find(type="DatasetBuild")
    events = filled.graph.verify().events
    again = filled.rebuild_dataset(saved.fingerprint)
    (action,) = filled.graph.find(type="DatasetBuild")
    assert again.manifest["lineage"] == saved.manifest["lineage"]
    assert filled.graph.verify().events > events
    assert action.uid == before[0].uid
    assert action.properties["rebuilt"] is True


# -- what keeps a dataset from being built again -----------------------------------------------


def refused(store, dataset, match, what):
    with pytest.raises(DatasetChanged, match=match) as caught:
        store.rebuild_dataset(dataset.fingerprint)
    assert caught.value.fingerprint == dataset.fingerprint
    assert caught.value.input == what


def test_a_vacuumed_version_is_named(filled, saved):
    table = DeltaTable(filled.offline_uri("readings"))
    table.optimize.compact()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    refused(
        filled,
        saved,
        "readings: version 1 cannot be read any more: a vacuum took its files away",
        "table version",
    )
    assert filled.load_dataset(saved.fingerprint).table.equals(saved.table)


def test_a_version_whose_log_is_gone_is_named(filled, saved, reading):
    filled.put("readings", reading("JFK", 30))
    filled.flush()
    log = Path(filled.offline_uri("readings"), "_delta_log")
    DeltaTable(filled.offline_uri("readings")).create_checkpoint()
    for version in (0, 1):
        (log / f"{version:020}.json").unlink()
    refused(filled, saved, "readings: version 1 cannot be read any more", "table version")


def test_a_group_that_is_gone_or_made_anew_is_named(filled, saved, readings, reading):
    filled.delete_feature_group("readings")
    refused(filled, saved, "feature group 'readings' does not exist", "readings")
    filled.create_feature_group(readings)
    filled.put("readings", reading("JFK", 10, temp=1.0))
    filled.flush()
    filled.put("readings", reading("JFK", 11, temp=1.0))
    filled.flush()
    refused(filled, saved, "was the group created anew", "table version")


def test_a_lost_or_altered_spine_is_named(filled, saved):
    digest = saved.manifest["spine_digest"]
    path = filled.home / "artifacts" / "spines" / f"{digest}.arrow"
    kept = path.read_bytes()
    path.write_bytes(kept[:100])
    refused(filled, saved, "its spine .*arrow: ", "spine")
    other = saved.spine.set_column(2, "label", pa.array([0] * 5))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, other.schema) as writer:
        writer.write_table(other)
    refused(filled, saved, "its spine .* was altered", "spine")
    path.unlink()
    refused(filled, saved, "its spine .* is gone", "spine")
    saved.save()
    assert path.read_bytes() == kept
    assert filled.rebuild_dataset(saved.fingerprint).fingerprint == saved.fingerprint


def test_another_rule_is_named(filled, saved, monkeypatch):
    monkeypatch.setattr(pointintime, "RULE_VERSION", 2)
    refused(filled, saved, "built by version 1 of the rule, this is version 2", "rule")


def test_rows_that_come_out_differently_are_named(filled, saved):
    for path in sorted(Path(filled.offline_uri("readings")).rglob("part-00000-*")):
        rows = pq.read_table(path, partitioning=None)
        index = rows.schema.get_field_index("temp")
        pq.write_table(rows.set_column(index, "temp", pa.array([7.5] * len(rows))), path)
    refused(filled, saved, "with other rows_digest; was a file", "rows_digest")


def test_an_altered_dataset_file_is_not_loaded(filled, saved):
    path = saved.save()
    table = saved.table.set_column(2, "label", pa.array([0] * 5))
    Dataset(table, saved.manifest).write(path)
    with pytest.raises(StoreCorrupt, match="was altered: its rows do not have the digest"):
        filled.load_dataset(saved.fingerprint)
