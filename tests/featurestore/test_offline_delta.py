from __future__ import annotations

import datetime as dt
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from featurestore import feature_definitions
from featurestore.codec import NEVER, OutboxEntry
from featurestore.convert import encode_record, entries_to_table
from featurestore.errors import InvalidRequest, StoreUnavailable
from featurestore.eventtime import MAX_US, MIN_US
from featurestore.offline import DeltaOfflineTable

DAY_US = 86_400_000_000


def rows(group, *days: int, first: int = 1) -> pa.Table:
    """Make one row per day since the epoch."""
    entries = [
        OutboxEntry(first + i, 0, 1, day * DAY_US, NEVER, 0, encode_record({"station": f"s{day}"}))
        for i, day in enumerate(days)
    ]
    return entries_to_table(group, entries, write_time_us=1)


@pytest.fixture
def table(tmp_path):
    return DeltaOfflineTable(str(tmp_path / "table"))


def test_a_table_is_made_by_its_first_append(table, readings, tmp_path):
    assert table.scan() is None
    assert table.last_sequence("a") == 0
    assert not (tmp_path / "table").exists()
    assert table.append(rows(readings, 0), application="a", sequence=1) == 0
    assert table.last_sequence("a") == 1
    snapshot = table.scan()
    assert (snapshot.uri, snapshot.version) == (str(tmp_path / "table"), 0)
    assert list(snapshot.columns) == rows(readings, 0).schema.names
    assert all(os.path.exists(file) for file in snapshot.files)


def test_it_is_partitioned_by_event_date(table, readings, tmp_path):
    table.append(rows(readings, 0, 0, 1), application="a", sequence=3)
    assert DeltaTable(str(tmp_path / "table")).metadata().partition_columns == ["_event_date"]
    folders = sorted(entry.name for entry in (tmp_path / "table").iterdir())
    assert folders == ["_delta_log", "_event_date=1970-01-01", "_event_date=1970-01-02"]


def test_the_ends_of_time_are_kept(table, readings):
    days = [MIN_US // DAY_US, MAX_US // DAY_US]
    table.append(rows(readings, *days), application="a", sequence=2)
    read = [pq.ParquetFile(file).read() for file in table.scan().files]
    times = pa.concat_tables(read)["_event_time"].cast(pa.int64()).to_pylist()
    assert sorted(times) == [day * DAY_US for day in days]


def test_each_application_has_its_own_sequence(table, readings):
    table.append(rows(readings, 0), application="a", sequence=7)
    table.append(rows(readings, 0), application="b", sequence=3)
    table.append(rows(readings, 0), application="a", sequence=9)
    assert table.last_sequence("a") == 9
    assert table.last_sequence("b") == 3
    assert table.last_sequence("c") == 0


def test_versions_are_read_as_they_were(table, readings):
    files = []
    for version in range(3):
        assert table.append(rows(readings, version), application="a", sequence=version + 1) == (
            version
        )
        files.append(table.scan().files)
    for version in range(3):
        snapshot = table.scan(version=version)
        assert snapshot.version == version
        assert snapshot.files == files[version]
        assert list(snapshot.files) == sorted(snapshot.files)
    assert table.scan() == table.scan(version=2)


@pytest.mark.parametrize("version", [-1, 2, 99])
def test_a_version_that_is_not_there_is_refused(table, readings, version):
    with pytest.raises(InvalidRequest, match=f"expected a table version, got {version}"):
        table.scan(version=version)
    for sequence in (1, 2):
        table.append(rows(readings, 0), application="a", sequence=sequence)
    with pytest.raises(InvalidRequest, match=f"expected a version from 0 to 1, got {version}"):
        table.scan(version=version)


def test_new_columns_are_added(table, readings):
    wide = readings.with_features(feature_definitions([("wind", "Fractional")]))
    table.append(rows(readings, 0), application="a", sequence=1)
    table.append(rows(wide, 1, first=2), application="a", sequence=2)
    assert "wind" not in table.scan(version=0).columns
    assert "wind" in table.scan().columns
    # A process that does not know the new feature yet still appends.
    table.append(rows(readings, 2, first=3), application="a", sequence=3)
    assert "wind" in table.scan().columns


def test_the_content_hash_names_the_set_of_files(table, readings):
    hashes = set()
    for sequence in (1, 2, 3):
        table.append(rows(readings, 0), application="a", sequence=sequence)
        hashes.add(table.scan().content_hash)
    assert len(hashes) == 3
    assert table.scan(version=1).content_hash == table.scan(version=1).content_hash


def test_a_table_that_was_moved_is_still_the_same_content(table, readings, tmp_path):
    table.append(rows(readings, 0, 1), application="a", sequence=2)
    before = table.scan().content_hash
    (tmp_path / "table").rename(tmp_path / "moved")
    assert DeltaOfflineTable(str(tmp_path / "moved")).scan().content_hash == before


@pytest.mark.parametrize(
    "name", ["with space", "a#b", "q?x", "a*b", "{a,b}", "50%", "äöü", "we'ird", 'quo"te', "a&b;c"]
)
def test_files_are_named_as_they_are_on_disk(tmp_path, readings, name):
    table = DeltaOfflineTable(str(tmp_path / name / "table"))
    table.append(rows(readings, 0), application="a", sequence=1)
    (file,) = table.scan().files
    assert os.path.exists(file)
    assert file.startswith(str(tmp_path / name))
    assert table.append(rows(readings, 0), application="a", sequence=2) == 1


def test_a_damaged_log_is_unavailable_and_named(table, readings, tmp_path):
    table.append(rows(readings, 0), application="a", sequence=1)
    log = tmp_path / "table" / "_delta_log" / "00000000000000000000.json"
    log.write_text("{no json")
    for use in (
        lambda: table.scan(),
        lambda: table.last_sequence("a"),
        lambda: table.append(rows(readings, 0), application="a", sequence=2),
    ):
        with pytest.raises(StoreUnavailable, match=r"the offline table .*table"):
            use()


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path, readings):
    (tmp_path / "file").write_text("in the way")
    table = DeltaOfflineTable(str(tmp_path / "file" / "table"))
    with pytest.raises(StoreUnavailable, match="the records wait in the outbox"):
        table.append(rows(readings, 0), application="a", sequence=1)


def test_times_are_microseconds_in_utc(table, readings):
    table.append(rows(readings, 1), application="a", sequence=1)
    read = pa.table(DeltaTable(table.scan().uri).to_pyarrow_table())
    assert read.schema.field("_event_time").type == pa.timestamp("us", "UTC")
    assert read["_event_time"].to_pylist() == [dt.datetime(1970, 1, 2, tzinfo=dt.UTC)]
