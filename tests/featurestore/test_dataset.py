from __future__ import annotations

import datetime as dt
import hashlib
import json
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from featurestore import (
    Dataset,
    FeatureGroupNotFound,
    FeatureNotFound,
    FeatureSelection,
    InvalidRequest,
    InvalidSpine,
    StoreCorrupt,
    StoreUnavailable,
    feature_definitions,
)
from featurestore.dataset import METADATA_KEY, read_spine
from featurestore.datasetbuild import build
from featurestore.eventtime import parse_iso, to_datetime

SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def filled(store, reading):
    """`readings` with two stations; JFK changes at second 10 and 20."""
    store.put("readings", reading("JFK", 10, temp=1.0, count=1, note="first"))
    store.put("readings", reading("LGA", 15, temp=9.0))
    store.put("readings", reading("JFK", 20, temp=2.0, count=2))
    return store


@pytest.fixture
def spine(at):
    return pa.table(
        {
            "station": ["JFK", "LGA", "JFK", "EWR", "JFK"],
            "event_time": [at(15), at(20), at(20), at(20), at(9)],
            "label": [1, 0, 1, 0, 1],
        }
    )


# -- values -----------------------------------------------------------------------------------


def test_the_spines_columns_then_the_features(filled, spine):
    dataset = filled.dataset(spine, [FeatureSelection("readings")["temp", "count"]])
    assert dataset.table.schema.names == ["station", "event_time", "label", "temp", "count"]
    assert dataset.table.select(spine.schema.names).equals(spine)
    assert dataset.table["temp"].to_pylist() == [1.0, 9.0, 2.0, None, None]
    assert dataset.table["count"].to_pylist() == [1, None, 2, None, None]
    assert len(dataset) == 5
    assert dataset.features == ("temp", "count")


def test_without_names_all_features_but_identifier_and_event_time(filled, spine):
    dataset = filled.dataset(spine, ["readings"])
    assert dataset.features == ("temp", "count", "note")
    assert dataset.table["note"].to_pylist() == ["first", None, None, None, None]


def test_acknowledged_records_count_without_a_flush(filled, spine, reading):
    before = filled.dataset(spine, ["readings[temp]"])
    filled.put("readings", reading("EWR", 20, temp=7.0))
    after = filled.dataset(spine, ["readings[temp]"])
    assert before.table["temp"].to_pylist()[3] is None
    assert after.table["temp"].to_pylist()[3] == 7.0
    assert after.versions == {"readings": before.versions["readings"] + 1}


def test_several_groups(filled, spine, make_group, at):
    filled.create_feature_group(
        make_group("planes", [("tail", "Integral"), ("time", "String"), ("seats", "Integral")])
    )
    filled.put("planes", {"tail": 7, "time": at(1), "seats": 150})
    wide = spine.append_column("plane", pa.array([7, 7, None, 8, 7]))
    dataset = filled.dataset(
        wide,
        [
            filled.group("readings")["temp"],
            filled.group("planes")["seats"].with_key("plane"),
        ],
    )
    assert dataset.features == ("temp", "seats")
    assert dataset.table["seats"].to_pylist() == [150, 150, None, None, 150]
    assert dataset.manifest["keys"] == ["plane", "station"]
    assert dataset.versions == {"readings": 0, "planes": 0}


@pytest.fixture
def five_groups(filled, make_group, at):
    """Groups `g0` to `g4` about the same stations; each knows one value."""
    for n in range(5):
        name = f"g{n}"
        kinds = [("station", "String"), ("time", "String"), (f"value{n}", "Integral")]
        filled.create_feature_group(make_group(name, kinds))
        filled.put(name, {"station": "JFK", "time": at(12 + n), f"value{n}": n})
    return filled


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_groups_that_are_joined_together_come_in_the_order_asked_for(five_groups, spine, threads):
    asked = [FeatureSelection(f"g{n}") for n in (3, 0, 4, 1, 2)]
    dataset = five_groups.dataset(spine, asked, threads=threads)
    assert dataset.features == ("value3", "value0", "value4", "value1", "value2")
    assert dataset.table["value3"].to_pylist() == [3, None, 3, None, None]
    assert dataset.table["value4"].to_pylist() == [None, None, 4, None, None]
    one = five_groups.dataset(spine, asked, threads=1)
    assert (dataset.fingerprint, dataset.manifest["proof"]) == (
        one.fingerprint,
        one.manifest["proof"],
    )


@pytest.mark.parametrize("threads", [1, 4])
def test_a_file_that_cannot_be_read_is_named_with_its_group(five_groups, spine, threads):
    asked = [f"g{n}" for n in range(5)]
    five_groups.dataset(spine, asked)  # flushed now
    (file,) = Path(five_groups.offline_uri("g3")).rglob("*.parquet")
    file.write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(StoreCorrupt, match=f"g3: the file {file} of the offline table cannot be"):
        five_groups.dataset(spine, asked, threads=threads)
    file.unlink()
    with pytest.raises(StoreUnavailable, match=f"g3: the file {file} of the offline table is gone"):
        five_groups.dataset(spine, asked, threads=threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("join")]


def test_less_than_one_thread_is_refused(filled, spine):
    with pytest.raises(InvalidRequest, match="threads: expected 1 or more, got 0"):
        filled.dataset(spine, ["readings"], threads=0)


def test_a_group_that_was_never_written(store, spine):
    dataset = store.dataset(spine, ["readings[temp]"])
    assert dataset.table["temp"].to_pylist() == [None] * 5
    assert dataset.table["temp"].type == pa.float64()
    assert dataset.versions == {"readings": None}


def test_a_group_without_further_features_adds_none(store, spine, make_group, at):
    store.create_feature_group(make_group("bare", [("station", "String"), ("time", "String")]))
    store.put("bare", {"station": "JFK", "time": at(1)})
    assert store.dataset(spine, ["bare"]).table.equals(spine)


@pytest.mark.parametrize("rows", [0, 1])
def test_spines_of_no_and_of_one_row(filled, spine, rows):
    dataset = filled.dataset(spine.slice(0, rows), ["readings"])
    assert len(dataset) == rows
    assert dataset.table["temp"].to_pylist() == [1.0][:rows]


def test_maximum_age(filled, spine):
    ages = {
        5 * SECOND: [1.0, 9.0, 2.0, None, None],
        5 * SECOND - dt.timedelta(microseconds=1): [None, None, 2.0, None, None],
    }
    for age, seen in ages.items():
        selection = filled.group("readings")["temp"].with_lookback(age)
        assert filled.dataset(spine, [selection]).table["temp"].to_pylist() == seen
    with pytest.raises(InvalidRequest, match="expected a lookback >= 0"):
        filled.group("readings").with_lookback(-SECOND)


def test_after_a_delete_nothing_is_known(filled, spine, at):
    filled.delete("readings", "JFK", event_time=at(18), hard=False)
    filled.delete("readings", "LGA", event_time=at(20), hard=True)
    assert filled.dataset(spine, ["readings[temp]"]).table["temp"].to_pylist() == [
        1.0,
        None,
        2.0,
        None,
        None,
    ]


def test_as_known_at_a_write_time(filled, spine, reading, clock):
    filled.flush()
    known = to_datetime(clock())
    clock.advance(60)
    filled.put("readings", reading("JFK", 15, temp=1.5))  # a correction, a minute later
    now = filled.dataset(spine, ["readings[temp]"])
    then = filled.dataset(spine, ["readings[temp]"], as_of=known)
    assert now.table["temp"].to_pylist() == [1.5, 9.0, 2.0, None, None]
    assert then.table["temp"].to_pylist() == [1.0, 9.0, 2.0, None, None]
    assert parse_iso(then.manifest["as_of"]) == clock() - 60_000_000
    with pytest.raises(InvalidRequest, match="as_of: expected a datetime with a zone"):
        filled.dataset(spine, ["readings"], as_of=dt.datetime(2024, 1, 1))  # noqa: DTZ001


def test_a_pinned_version_is_read(filled, spine, reading):
    filled.flush()
    filled.put("readings", reading("JFK", 15, temp=1.5))
    filled.flush()
    pinned = filled.dataset(spine, [FeatureSelection("readings", ("temp",), version=0)])
    assert pinned.table["temp"].to_pylist()[0] == 1.0
    assert pinned.versions == {"readings": 0}
    with pytest.raises(InvalidRequest, match="expected a version from 0 to 1, got 9"):
        filled.dataset(spine, [FeatureSelection("readings", ("temp",), version=9)])


def test_values_of_the_first_years_are_seen_to_the_microsecond(store):
    # Beyond 2^53 µs a double would round them, and a row without a value makes doubles of times.
    early = "0000-01-01T00:00:00.000001Z"
    store.put("readings", {"station": "JFK", "time": early, "temp": 1.0})
    spine = pa.table({"station": ["JFK", "JFK"], "at": [early, "0000-01-01T00:00:00Z"]})
    dataset = store.dataset(spine, ["readings[temp]"], time="at")
    assert dataset.table["temp"].to_pylist() == [1.0, None]
    assert dataset.manifest["proof"] == {"readings": [{"matched": 1, "youngest_us": 0}]}


def test_the_proof_counts_what_matched(filled, spine):
    proof = filled.dataset(spine, ["readings[temp]"]).manifest["proof"]
    assert proof == {"readings": [{"matched": 3, "youngest_us": 0}]}


# -- names ------------------------------------------------------------------------------------


@pytest.fixture
def two_groups(filled, make_group, at):
    filled.create_feature_group(
        make_group(
            "soil",
            [("station", "String"), ("time", "String"), ("temp", "Integral"), ("ph", "String")],
        )
    )
    filled.put("soil", {"station": "JFK", "time": at(1), "temp": 5, "ph": "7"})
    return filled


def test_names_that_collide_get_their_groups_name(two_groups, spine):
    dataset = two_groups.dataset(spine, ["readings[temp,note]", "soil[temp,ph]"])
    assert dataset.features == ("readings__temp", "note", "soil__temp", "ph")
    assert dataset.table["soil__temp"].to_pylist()[0] == 5
    assert dataset.manifest["columns"] == {
        "station": "spine",
        "event_time": "spine",
        "label": "spine",
        "readings__temp": "readings.temp",
        "note": "readings.note",
        "soil__temp": "soil.temp",
        "ph": "soil.ph",
    }


def test_a_name_of_the_spine_is_kept_for_the_spine(filled, spine):
    wide = spine.append_column("temp", pa.array(["mine"] * 5))
    dataset = filled.dataset(wide, ["readings[temp]"])
    assert dataset.features == ("readings__temp",)
    assert dataset.table["temp"].to_pylist() == ["mine"] * 5


def test_a_prefix_of_ones_own(two_groups, spine):
    dataset = two_groups.dataset(
        spine,
        [
            two_groups.group("readings")["temp"].with_prefix("air_"),
            two_groups.group("soil")["temp"].with_prefix(""),
        ],
    )
    assert dataset.features == ("air_temp", "temp")


def test_one_group_by_two_keys(filled, spine):
    wide = spine.append_column("to", pa.array(["LGA", "JFK", "EWR", "JFK", None]))
    selection = filled.group("readings")["temp"]
    with pytest.raises(
        InvalidRequest, match=r"two columns .* called 'readings__temp'; give .* a prefix"
    ):
        filled.dataset(wide, [selection, selection.with_key("to")])
    dataset = filled.dataset(
        wide, [selection.with_prefix("from_"), selection.with_key("to").with_prefix("to_")]
    )
    assert dataset.table["from_temp"].to_pylist() == [1.0, 9.0, 2.0, None, None]
    assert dataset.table["to_temp"].to_pylist() == [9.0, 2.0, None, 2.0, None]


@pytest.mark.parametrize(
    ("text", "group", "features"),
    [
        ("weather", "weather", ()),
        ("weather[temp]", "weather", ("temp",)),
        (" weather [ temp , wind ] ", "weather", ("temp", "wind")),
    ],
)
def test_a_selection_as_text(text, group, features):
    assert FeatureSelection.parse(text) == FeatureSelection(group, features)


@pytest.mark.parametrize(
    "text", ["", "[]", "weather[]", "weather[temp", "weather]", "weather[a][b]", "weather[a,,b]"]
)
def test_a_selection_of_another_form_is_refused(text):
    with pytest.raises(InvalidRequest, match=r"expected GROUP or GROUP\[FEATURE,…\], got"):
        FeatureSelection.parse(text)


def test_what_does_not_exist_is_named_with_the_nearest(filled, spine):
    with pytest.raises(FeatureGroupNotFound, match="did you mean 'readings'"):
        filled.dataset(spine, ["reading"])
    with pytest.raises(FeatureGroupNotFound, match="did you mean 'readings'"):
        filled.group("reading")
    with pytest.raises(FeatureNotFound, match="no feature 'tmp'; did you mean 'temp'"):
        filled.dataset(spine, ["readings[tmp]"])
    with pytest.raises(InvalidRequest, match="readings: a feature is selected twice"):
        filled.dataset(spine, ["readings[temp,temp]"])
    with pytest.raises(InvalidRequest, match="at least one selection of features, got none"):
        filled.dataset(spine, [])


def test_a_group_without_offline_store_cannot_be_joined(store, spine, make_group):
    features = [("station", "String"), ("time", "String"), ("x", "String")]
    store.create_feature_group(make_group("live", features, offline=False))
    with pytest.raises(InvalidRequest, match="live: the group has no offline store"):
        store.dataset(spine, ["live"])


def test_two_versions_of_one_group_are_refused(filled, spine):
    filled.flush()
    with pytest.raises(
        InvalidRequest, match=r"readings: expected one table version .* got 0 and None"
    ):
        filled.dataset(
            spine,
            [
                FeatureSelection("readings", ("temp",), version=0),
                FeatureSelection("readings", ("note",)),
            ],
        )


# -- spines -----------------------------------------------------------------------------------


def test_spines_of_any_form_give_one_dataset(filled, spine, tmp_path):
    pq.write_table(spine, tmp_path / "spine.parquet")
    pyarrow.csv.write_csv(spine, tmp_path / "spine.csv")
    with pyarrow.ipc.new_file(tmp_path / "spine.arrow", spine.schema) as writer:
        writer.write_table(spine)
    (batch,) = spine.to_batches()
    forms = [
        spine,
        batch,
        spine.to_pydict(),
        spine.to_pandas(),
        tmp_path / "spine.parquet",
        str(tmp_path / "spine.arrow"),
    ]
    made = [filled.dataset(form, ["readings"]) for form in forms]
    assert {dataset.fingerprint for dataset in made} == {made[0].fingerprint}
    # CSV guesses that the times are timestamps; the features are the same.
    from_csv = filled.dataset(tmp_path / "spine.csv", ["readings"], time="event_time")
    assert from_csv.table.select(list(from_csv.features)).equals(
        made[0].table.select(list(made[0].features))
    )


def test_pandas_with_nanoseconds(filled, at):
    frame = pd.DataFrame(
        {
            "station": ["JFK", "JFK"],
            "event_time": pd.to_datetime([at(10), at(20)]).astype("datetime64[ns, UTC]")
            - pd.Timedelta(1, "ns"),
        }
    )
    assert filled.dataset(frame, ["readings[temp]"]).table["temp"].to_pylist() == [None, 1.0]


@pytest.mark.parametrize(
    ("spine", "message"),
    [
        (7, "expected a spine as Arrow, pandas, Polars or a file's path, got int"),
        ([{"station": "JFK"}], "got list"),
        ({}, "expected a spine with columns"),
        ({"station": ["JFK"], "event_time": []}, "expected columns of one length"),
        ({"station": ["JFK", 7]}, "expected columns of one length and type each"),
        ("absent.parquet", r"spine file absent\.parquet does not exist"),
    ],
)
def test_other_spines_are_refused(spine, message):
    with pytest.raises(InvalidSpine, match=message):
        read_spine(spine)


def test_spine_files_that_cannot_be_read_are_named(tmp_path):
    for name, content, message in [
        ("bad.parquet", b"no parquet", "cannot be read"),
        ("bad.arrow", b"no arrow", "cannot be read"),
        ("bad.csv", b"a,b\n1\n", "cannot be read"),
        ("spine.txt", b"a", r"expected \.parquet, \.csv or \.arrow, got '\.txt'"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InvalidSpine, match=f"spine file .*{name}.*{message}"):
            read_spine(path)


def test_columns_of_one_name_are_refused():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(InvalidSpine, match="expected distinct column names"):
        read_spine(table)


def test_columns_that_are_missing_or_of_another_type_are_refused(filled, spine):
    with pytest.raises(InvalidSpine, match="no column 'at' for the time"):
        filled.dataset(spine, ["readings"], time="at")
    with pytest.raises(InvalidSpine, match="no column 'x' for the record identifier of 'readings'"):
        filled.dataset(spine, [filled.group("readings").with_key("x")])
    with pytest.raises(InvalidSpine, match="spine column 'label': expected String like the record"):
        filled.dataset(spine, [filled.group("readings").with_key("label")])


# -- fingerprints -----------------------------------------------------------------------------


def fill(store, reading, *, flush_every: int, temp: float = 2.0):
    for step in range(6):
        store.put("readings", reading("JFK", 5 * step, temp=temp + step))
        if step % flush_every == 0:
            store.flush()


def test_equal_content_by_other_commits_is_an_equal_fingerprint(
    make_store, readings, reading, spine, tmp_path
):
    datasets = []
    for flush_every in (1, 2, 5):
        store = make_store(tmp_path / f"home{flush_every}")
        store.create_feature_group(readings)
        fill(store, reading, flush_every=flush_every)
        datasets.append(store.dataset(spine, ["readings"]))
    assert len({dataset.fingerprint for dataset in datasets}) == 1
    assert len({dataset.versions["readings"] for dataset in datasets}) == 3
    assert datasets[0].table.equals(datasets[2].table)


def test_features_added_later_and_later_records_do_not_show(filled, spine, reading):
    before = filled.dataset(spine, ["readings[temp]"])
    filled.add_features("readings", feature_definitions([("wind", "Fractional")]))
    filled.put("readings", reading("JFK", 21, temp=3.0, wind=1.0))
    after = filled.dataset(spine, ["readings[temp]"])
    assert after.versions != before.versions
    assert after.fingerprint == before.fingerprint


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_show(filled, spine, threads):
    assert (
        filled.dataset(spine, ["readings"], threads=threads).fingerprint
        == filled.dataset(spine, ["readings"]).fingerprint
    )


def test_whatever_is_asked_differently_is_another_fingerprint(filled, spine, clock, at):
    readings = filled.group("readings")
    renamed = spine.rename_columns(["station", "at", "label"])
    asked = {
        "plain": (spine, [readings["temp", "count"]], {}),
        "other order of features": (spine, [readings["count", "temp"]], {}),
        "fewer features": (spine, [readings["temp"]], {}),
        "prefix": (spine, [readings["temp", "count"].with_prefix("r_")], {}),
        "age": (spine, [readings["temp", "count"].with_lookback(10**6 * SECOND)], {}),
        "as of": (spine, [readings["temp", "count"]], {"as_of": to_datetime(clock() + 1)}),
        "one row less": (spine.slice(1), [readings["temp", "count"]], {}),
        "other order of rows": (spine.take([1, 0, 2, 3, 4]), [readings["temp", "count"]], {}),
        "other label": (
            spine.set_column(2, "label", pa.array([1, 0, 1, 0, 0])),
            [readings["temp", "count"]],
            {},
        ),
        "other type of label": (
            spine.set_column(2, "label", spine["label"].cast(pa.int8())),
            [readings["temp", "count"]],
            {},
        ),
        "other name": (renamed, [readings["temp", "count"]], {"time": "at"}),
        "other time of a row that sees nothing": (
            spine.set_column(1, "event_time", pa.array([at(15), at(20), at(20), at(21), at(9)])),
            [readings["temp", "count"]],
            {},
        ),
    }
    fingerprints = {
        name: filled.dataset(rows, selection, **options).fingerprint
        for name, (rows, selection, options) in asked.items()
    }
    assert len(set(fingerprints.values())) == len(fingerprints)
    assert fingerprints["plain"] == filled.dataset(spine, [readings["temp", "count"]]).fingerprint


def test_another_value_is_another_fingerprint(make_store, readings, reading, spine, tmp_path):
    fingerprints = set()
    for step, temp in enumerate([2.0, 2.0000000000000004, -2.0]):
        store = make_store(tmp_path / f"home{step}")
        store.create_feature_group(readings)
        fill(store, reading, flush_every=2, temp=temp)
        fingerprints.add(store.dataset(spine, ["readings[temp]"]).fingerprint)
    assert len(fingerprints) == 3


def test_the_fingerprint_is_the_hash_of_what_the_manifest_says(filled, spine):
    manifest = filled.dataset(spine, ["readings"]).manifest
    body = {
        name: manifest[name]
        for name in ("rule_version", "spine_digest", "rows_digest", "time", "as_of", "selections")
    }
    expected = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    assert manifest["fingerprint"] == expected


# -- building again ---------------------------------------------------------------------------


def rebuild(store, dataset: Dataset, spine: pa.Table) -> Dataset:
    manifest = dataset.manifest
    return build(
        spine,
        store.resolve_manifest(manifest),
        time=manifest["time"],
        as_of_us=None if manifest["as_of"] is None else parse_iso(manifest["as_of"]),
    )


def test_a_dataset_is_built_again_equal_from_its_manifest(two_groups, spine, reading, clock, at):
    clock.advance(60)
    readings = two_groups.group("readings")
    wide = spine.append_column("to", pa.array(["LGA", "JFK", "EWR", "JFK", None]))
    made = two_groups.dataset(
        wide,
        [
            readings["temp", "note"].with_prefix("from_").with_lookback(5 * SECOND),
            readings["temp"].with_key("to").with_prefix("to_"),
            "soil",
        ],
        as_of=to_datetime(clock()),
    )
    # The world goes on: late records, deletes, new features.
    two_groups.put("readings", reading("JFK", 14, temp=77.0))
    two_groups.delete("soil", "JFK", event_time=at(2))
    two_groups.add_features("readings", feature_definitions([("wind", "Fractional")]))
    two_groups.put("readings", reading("EWR", 1, temp=8.0, wind=1.0))
    clock.advance(60)
    assert two_groups.dataset(wide, ["readings[temp]"]).table["temp"].to_pylist()[0] == 77.0

    again = rebuild(two_groups, made, wide)
    assert again.table.equals(made.table)
    assert again.fingerprint == made.fingerprint
    assert again.versions == made.versions


def test_a_dataset_is_not_built_again_from_another_table(filled, readings, reading, spine):
    made = filled.dataset(spine, ["readings[temp]"])
    filled.delete_feature_group("readings")
    with pytest.raises(FeatureGroupNotFound):
        filled.resolve_manifest(made.manifest)
    filled.create_feature_group(readings)
    filled.put("readings", reading("JFK", 1, temp=5.0))
    filled.flush()
    with pytest.raises(InvalidRequest, match="is not the table the dataset was built from"):
        filled.resolve_manifest(made.manifest)


# -- files ------------------------------------------------------------------------------------


def test_a_written_dataset_reads_back(filled, spine, tmp_path):
    made = filled.dataset(spine, ["readings"])
    path = made.write(tmp_path / "new" / "data.parquet")
    assert path == tmp_path / "new" / "data.parquet"
    again = Dataset.read(path)
    assert again.table.equals(made.table, check_metadata=True)
    assert again.manifest == made.manifest
    assert again.fingerprint == made.fingerprint
    assert [entry.name for entry in path.parent.iterdir()] == ["data.parquet"]


def test_the_parquet_file_carries_the_manifest(filled, spine, tmp_path):
    made = filled.dataset(spine, ["readings"])
    path = made.write(tmp_path / "data.parquet")
    assert METADATA_KEY == b"featureline.dataset"
    manifest = json.loads(pq.read_schema(path).metadata[b"featureline.dataset"])
    assert manifest == made.manifest
    assert manifest["fingerprint"] == made.fingerprint
    assert manifest["rows"] == 5
    assert set(manifest) == {
        "fingerprint",
        "rule_version",
        "spine_digest",
        "rows_digest",
        "time",
        "as_of",
        "selections",
        "rows",
        "versions",
        "tables",
        "keys",
        "columns",
        "proof",
        "lineage",
    }
    assert list(pd.read_parquet(path).columns) == made.table.schema.names


def test_a_plain_file_is_no_dataset(spine, tmp_path):
    pq.write_table(spine, tmp_path / "plain.parquet")
    with pytest.raises(InvalidRequest, match=r"plain\.parquet: expected a dataset written by"):
        Dataset.read(tmp_path / "plain.parquet")


def test_a_write_that_fails_leaves_what_was_there(filled, spine, tmp_path):
    path = tmp_path / "data.parquet"
    path.mkdir()  # a folder in its place: the file cannot be moved there
    with pytest.raises(OSError, match=r"data\.parquet"):
        filled.dataset(spine, ["readings"]).write(path)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["data.parquet"]


# -- lineage ----------------------------------------------------------------------------------


def test_lineage_leads_from_the_dataset_to_what_it_read(filled, spine, tmp_path):
    path = tmp_path / "labels.parquet"
    pq.write_table(spine, path)
    made = filled.dataset(path, ["readings"])
    uid = made.manifest["lineage"]["uid"]
    entity = filled.graph.entity(uid)
    assert (entity.type, entity.content_hash) == ("DataSet", made.fingerprint)

    found = {entity.type: entity for entity in filled.graph.query(uid, "ascendants").entities}
    assert found["DatasetBuild"].state == "Completed"
    version = found["FeatureGroupVersion"]
    assert version.source_uri == filled.offline_uri("readings")
    assert version.content_hash == made.manifest["tables"]["readings"]["content_hash"]
    assert found["FeatureGroup"].name == "readings"
    assert found["Spine"].source_uri == path.as_uri()
    assert found["Spine"].content_hash == made.manifest["spine_digest"]


def test_a_dataset_built_twice_is_one_artifact(filled, spine):
    uids = {filled.dataset(spine, ["readings"]).manifest["lineage"]["uid"] for _ in range(2)}
    assert len(uids) == 1
