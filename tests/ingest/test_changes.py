"""Changes of Delta tables: what was added, changed and deleted, and what cannot be told."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import FeatureGroup
from ingest import (
    Deleted,
    DeltaChanges,
    IngestError,
    Message,
    Pipeline,
    PositionLost,
    RowDecoder,
    SourceNotFound,
)

FEED = {"delta.enableChangeDataFeed": "true"}
SNAPSHOT = 1 << 31


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "table")


def append(uri: str, *ids: int, **options: object) -> None:
    table = pa.table({"id": pa.array(ids, pa.int64()), "v": [f"v{n}" for n in ids]})
    write_deltalake(uri, table, **({"mode": "append"} | options))  # type: ignore[arg-type]


def read(source: DeltaChanges, stored: dict[str, int] | None = None) -> list[Message]:
    """Read what there is now."""
    source.seek(lambda: dict(stored or {}))
    found: list[Message] = []
    while not (batch := source.poll(2, 0.0)).is_caught_up:
        found += batch.messages
    found += batch.messages
    source.close()
    return found


def told(messages: list[Message]) -> list[tuple[int, int, object, str]]:
    """Return version, row, id and what became of it."""
    return [
        (
            message.offset >> 32,
            message.offset & (1 << 32) - 1,
            message.value["id"],
            "gone" if isinstance(RowDecoder().decode(message), Deleted) else message.value["v"],
        )
        for message in messages
    ]


def test_change_feed_tells_inserts_updates_and_deletes(uri):
    append(uri, 1, 2, 3, configuration=FEED)
    DeltaTable(uri).update({"v": "'new'"}, predicate="id = 2")
    DeltaTable(uri).delete("id = 1")
    source = DeltaChanges(uri, starting_version=0)
    messages = read(source)
    assert [(version, number, what) for version, _, number, what in told(messages)] == [
        (0, 1, "v1"),
        (0, 2, "v2"),
        (0, 3, "v3"),
        (1, 2, "new"),
        (2, 1, "gone"),
    ]
    history = {entry["version"]: entry["timestamp"] for entry in DeltaTable(uri).history()}
    deleted = RowDecoder().decode(messages[-1])
    assert isinstance(deleted, Deleted)
    assert deleted.event_time == dt.datetime.fromtimestamp(history[2] / 1000, dt.UTC)
    (table,) = source.inputs()
    assert (table.type, table.source_uri) == ("Table", uri)
    assert table.properties == {"first_version": 0, "last_version": 2}


def test_without_a_start_the_table_comes_as_it_is_and_then_its_changes(uri):
    append(uri, 1, 2, 3)
    DeltaTable(uri).delete("id = 1")
    source = DeltaChanges(uri)
    first = read(source)
    assert [entry[2] for entry in told(first)] == [2, 3]
    assert [entry[:2] for entry in told(first)] == [(1, SNAPSHOT), (1, SNAPSHOT + 1)]
    append(uri, 4)
    DeltaTable(uri).optimize.compact()
    append(uri, 5)
    assert [entry[:3] for entry in told(read(source, {"table": 2 << 32}))] == [
        (2, 0, 4),
        (4, 0, 5),
    ]


def test_whole_version_needs_none_of_its_files(uri):
    append(uri, 1, 2)
    source = DeltaChanges(uri)
    source.seek(dict)
    position = source.poll(2, 0.0).position[0]
    assert position.next == 1 << 32
    append(uri, 3)
    DeltaTable(uri).optimize.compact()
    DeltaTable(uri).vacuum(0, enforce_retention_duration=False, dry_run=False)
    append(uri, 4)
    with pytest.raises(PositionLost, match=r"version 1: .* is gone, most likely by a vacuum"):
        read(DeltaChanges(uri), {"table": 1 << 32})
    assert [entry[2] for entry in told(read(DeltaChanges(uri), {"table": 2 << 32}))] == [4]


def test_new_versions_are_waited_for(uri):
    append(uri, 1)
    source = DeltaChanges(uri, look_s=0.001)
    source.seek(dict)
    assert source.poll(9, 0.0).is_caught_up
    assert not source.poll(9, 0.01).messages
    append(uri, 2)
    assert [entry[2] for entry in told(list(source.poll(9, 60.0).messages))] == [2]


def test_start_may_be_a_time(uri):
    append(uri, 1)
    append(uri, 2)
    times = {entry["version"]: entry["timestamp"] for entry in DeltaTable(uri).history()}
    moment = dt.datetime.fromtimestamp(times[1] / 1000, dt.UTC)
    assert 2 in [entry[2] for entry in told(read(DeltaChanges(uri, starting_time=moment)))]
    later = moment + dt.timedelta(days=1)
    assert read(DeltaChanges(uri, starting_time=later)) == []


def test_new_columns_come_with_the_version_that_has_them(uri):
    append(uri, 1)
    table = pa.table({"id": [2], "v": ["v2"], "extra": [1.5]})
    write_deltalake(uri, table, mode="append", schema_mode="merge")
    source = DeltaChanges(uri, starting_version=0)
    assert [message.value for message in read(source)] == [
        {"id": 1, "v": "v1"},
        {"id": 2, "v": "v2", "extra": 1.5},
    ]
    assert source.columns == ["id", "v", "extra"]


def test_partition_values_have_their_types(uri):
    day, moment = dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    row = {"id": 1, "name": "a b/ü%", "day": day, "moment": moment, "flag": True, "none": None}
    table = pa.Table.from_pylist(
        [row],
        pa.schema(
            [
                ("id", pa.int64()),
                ("name", pa.string()),
                ("day", pa.date32()),
                ("moment", pa.timestamp("us", "UTC")),
                ("flag", pa.bool_()),
                ("none", pa.int32()),
            ]
        ),
    )
    write_deltalake(uri, table, partition_by=["name", "day", "moment", "flag", "none"])
    assert [message.value for message in read(DeltaChanges(uri))] == [row]
    assert [message.value for message in read(DeltaChanges(uri, starting_version=0))] == [row]


@pytest.mark.parametrize("change", ["delete", "update", "overwrite"])
def test_rewrite_that_does_not_say_what_changed_is_refused_or_left_out(uri, change, caplog):
    append(uri, 1, 2)
    if change == "delete":
        DeltaTable(uri).delete("id = 1")
    elif change == "update":
        DeltaTable(uri).update({"v": "'new'"}, predicate="id = 1")
    else:
        append(uri, 7, mode="overwrite")
    append(uri, 3)
    source = DeltaChanges(uri, starting_version=0)
    source.seek(dict)
    assert len(source.poll(100, 0.0).messages) == 2
    with pytest.raises(IngestError, match=r"version 1 \(\w+\) removes or rewrites 1 files .*feed"):
        source.poll(100, 0.0)
    skipping = DeltaChanges(uri, starting_version=0, on_rewrite="skip")
    assert [entry[2] for entry in told(read(skipping))] == [1, 2, 3]
    assert "version 1" in caplog.text


def test_overwrite_with_a_feed_deletes_what_does_not_come_again(uri):
    append(uri, 1, 2, 3, configuration=FEED)
    append(uri, 2, 9, mode="overwrite")
    with pytest.raises(IngestError, match="give the column of the record identifier"):
        read(DeltaChanges(uri, starting_version=1))
    source = DeltaChanges(uri, starting_version=1, identifier="id")
    messages = read(source)
    assert told(messages) == [
        (1, 0, 1, "gone"),
        (1, 2, 3, "gone"),
        (1, 3, 2, "v2"),
        (1, 4, 9, "v9"),
    ]
    for number, message in enumerate(messages):
        assert read(source, {"table": message.offset + 1}) == messages[number + 1 :]
    with pytest.raises(IngestError, match="no column 'idd'; did you mean 'id'"):
        read(DeltaChanges(uri, identifier="idd"))


def test_overwrite_may_be_partitioned_by_the_identifier(uri):
    append(uri, 1, 2, configuration=FEED, partition_by=["id"])
    append(uri, 2, 3, mode="overwrite")
    messages = read(DeltaChanges(uri, starting_version=1, identifier="id"))
    assert sorted((number, what) for _, _, number, what in told(messages)) == [
        (1, "gone"),
        (2, "v2"),
        (3, "v3"),
    ]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "update", "delete", "merge", "overwrite", "compact"]),
        st.integers(0, 5),
    ),
    max_size=7,
)


@settings(max_examples=5, deadline=None)
@given(OPERATIONS, st.booleans(), st.randoms(use_true_random=False))
def test_changes_make_the_table_again(tmp_path_factory, operations, is_partitioned, chance):
    uri = str(tmp_path_factory.mktemp("table"))
    append(uri, 0, configuration=FEED, partition_by=["v"] if is_partitioned else None)
    copy: dict[int, object] = {}
    stored: dict[str, int] = {}

    def follow(limit: int) -> None:
        source = DeltaChanges(uri, starting_version=0, identifier="id")
        source.seek(stored.copy)
        for _ in range(limit):
            batch = source.poll(2, 0.0)
            stored.update({part.partition: part.next for part in batch.position})
            for message in batch.messages:
                decoded = RowDecoder().decode(message)
                if isinstance(decoded, Deleted):
                    copy.pop(decoded.fields["id"], None)
                else:
                    copy[decoded["id"]] = decoded["v"]
        source.close()

    fresh = 1
    for number, (operation, pick) in enumerate(operations):
        table = DeltaTable(uri)
        if operation == "append":
            append(uri, *range(fresh, fresh + pick + 1))
            fresh += pick + 1
        elif operation == "update":
            table.update({"v": f"'u{number}'"}, predicate=f"id % 3 = {pick % 3}")
        elif operation == "delete":
            table.delete(f"id % 6 = {pick}")
        elif operation == "merge":
            source = pa.table({"id": [pick % fresh, fresh], "v": [f"m{number}", f"m{number}"]})
            table.merge(
                source, "t.id = s.id", source_alias="s", target_alias="t"
            ).when_matched_update_all().when_not_matched_insert_all().execute()
            fresh += 1
        elif operation == "overwrite":
            append(uri, pick % fresh, fresh, mode="overwrite")
            fresh += 1
        else:
            table.optimize.compact()
        follow(chance.randint(0, 3))
    follow(1000)
    table = pa.table(DeltaTable(uri).to_pyarrow_table())
    assert copy == dict(zip(table["id"].to_pylist(), table["v"].to_pylist(), strict=True))


def test_group_is_derived_from_the_table_of_another(store, reading):
    group = store.describe_feature_group("readings")
    store.create_feature_group(
        FeatureGroup("derived", group.record_identifier, group.event_time, group.features)
    )
    for sequence in range(9):
        store.put("readings", reading(sequence))
    store.flush("readings")

    def derive() -> None:
        source = DeltaChanges(store.offline_uri("readings"))
        Pipeline(source, store, "derived").run(until_caught_up=True)

    derive()
    store.delete("readings", 1, event_time="2024-01-01T01:00:00Z")
    store.put("readings", reading(9))
    store.flush("readings")
    derive()
    assert [store.get("derived", station) for station in range(7)] == [
        store.get("readings", station) for station in range(7)
    ]
    assert store.get("derived", 1) is None
    assert store.verify("derived").equal


def _log(uri: str, version: int, *actions: dict[str, object]) -> None:
    path = Path(uri) / "_delta_log" / f"{version:020d}.json"
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def _add(path: str, **facts: object) -> dict[str, object]:
    body = {"path": path, "partitionValues": {}, "size": 1, "modificationTime": 1}
    return {"add": body | {"dataChange": True} | facts}


def test_what_needs_more_than_this_reader_is_refused(uri):
    append(uri, 1)
    source = DeltaChanges(uri)
    (Path(uri) / "damaged.parquet").write_bytes(b"PAR1 and no more")
    vector = {"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 1}
    for action, message in (
        (_add("part.parquet", deletionVector=vector), "has a deletion vector"),
        (_add("s3://elsewhere/part.parquet"), "a shallow clone cannot be followed"),
        (_add("absent.parquet"), "is gone, most likely by a vacuum"),
        (_add("damaged.parquet"), "version 1: damaged.parquet is damaged"),
        ({"metaData": {"id": "x"}}, "version 1 of the log is damaged"),
    ):
        source.seek(lambda: {"table": 1 << 32})
        _log(uri, 1, action)
        with pytest.raises(IngestError, match=message):
            source.poll(1, 0.0)
        (Path(uri) / "_delta_log" / f"{1:020d}.json").unlink()


def test_times_without_a_zone_are_refused(uri):
    write_deltalake(uri, pa.table({"id": [1], "at": pa.array([0], pa.timestamp("us"))}))
    with pytest.raises(IngestError, match="column 'at': expected timestamps with a zone"):
        read(DeltaChanges(uri))


def test_times_of_old_writers_get_the_zone_of_the_table(uri):
    at = pa.array([1_700_000_000_123_456], pa.timestamp("us", "UTC"))
    write_deltalake(uri, pa.table({"at": at}))
    (part,) = Path(uri).glob("*.parquet")
    pq.write_table(pa.table({"at": at}), part, use_deprecated_int96_timestamps=True)
    (message,) = read(DeltaChanges(uri))
    assert message.value == {"at": dt.datetime(2023, 11, 14, 22, 13, 20, 123456, dt.UTC)}


def test_log_that_was_cleaned_up_has_lost_the_position(uri):
    for number in range(4):
        append(uri, number)
    DeltaTable(uri).create_checkpoint()
    (Path(uri) / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises(PositionLost, match="begin again from the table as it is"):
        read(DeltaChanges(uri, starting_version=1))


def test_table_made_anew_is_another_source(uri, tmp_path):
    append(uri, 1)
    first = DeltaChanges(uri)
    first.seek(dict)
    Path(uri).rename(tmp_path / "old")
    append(uri, 1)
    second = DeltaChanges(uri)
    second.seek(dict)
    assert first.name != second.name


def test_start_must_exist(uri):
    with pytest.raises(SourceNotFound, match="no Delta table"):
        read(DeltaChanges(uri))
    append(uri, 1)
    assert read(DeltaChanges(uri, starting_version=1)) == []
    with pytest.raises(IngestError, match="expected a starting_version up to 1, got 2"):
        read(DeltaChanges(uri, starting_version=2))


@pytest.mark.parametrize(
    "options",
    [
        {"starting_version": -1},
        {"starting_version": 1, "starting_time": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)},
        {"starting_time": dt.datetime(2024, 1, 1)},  # noqa: DTZ001  # what is refused
        {"on_rewrite": "ignore"},
        {"look_s": 0.0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DeltaChanges("table", **options)


KILLS = 5
VERSIONS = 6
ROWS = 300


@pytest.mark.timeout(120)
def test_killed_at_random_moments_every_change_is_stored_once(store, reading, tmp_path):
    uri = str(tmp_path / "table")
    for version in range(VERSIONS):
        rows = [reading(n) for n in range(version * ROWS, version * ROWS + ROWS)]
        write_deltalake(
            uri,
            pa.Table.from_pylist(rows),
            mode="append",
            configuration=FEED if not version else None,
        )
    DeltaTable(uri).delete("station = 3")
    script = Path(__file__).with_name("changes_on_command.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "home"), uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for kill in range(KILLS):
            parent.stdin.write("\n")
            parent.stdin.flush()
            while (line := parent.stdout.readline()) == "+\n":
                pass  # of the life before
            for _ in range(kill % 4):
                assert parent.stdout.readline() == "+\n"
            time.sleep(0.002 * kill)
            os.kill(int(line), signal.SIGKILL)
        parent.stdin.close()
    assert parent.returncode == 0
    report = Pipeline(DeltaChanges(uri, starting_version=0), store, "readings").run(
        until_caught_up=True
    )
    deletions = len(range(3, VERSIONS * ROWS, 7))
    assert 0 < report.read < VERSIONS * ROWS + deletions
    store.flush("readings")
    table = pa.table(DeltaTable(store.offline_uri("readings")).to_pyarrow_table())
    sequences = [n for n in table["sequence"].to_pylist() if n is not None]
    assert sorted(sequences) == list(range(VERSIONS * ROWS))
    # A row for each deletion, none of which is stored twice either.
    assert table.num_rows - len(sequences) == deletions
    assert store.get("readings", 3) is None
    assert store.verify("readings").equal
