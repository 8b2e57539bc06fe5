"""Datasets and offline tables: the same results and the same errors embedded and over gRPC."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featurestore
from featurestore import (
    Dataset,
    DatasetChanged,
    DatasetNotFound,
    FeatureGroupNotFound,
    FeatureNotFound,
    FeatureSelection,
    InvalidRequest,
    InvalidSpine,
    JoinTypeEnum,
    StoreUnavailable,
    aio,
)
from featurestore.dataset import fingerprint_of
from featurestore.embedded import EmbeddedStore
from featurestore.v1 import control_pb2, dataset_pb2, offline_pb2
from featurestore.wire.dataset import build_requests, chunks_of, dataset_spec

MOMENT = pa.timestamp("us", "UTC")
BLOCKING = ("embedded", "remote")
KINDS = (*BLOCKING, "awaited")
NEW_YEAR_S = 1_356_998_400  # 2013-01-01


def spine_of(*rows):
    """Make a spine of (origin, hour) rows."""
    times = [(NEW_YEAR_S + round(hour * 3600)) * 1_000_000 for _, hour in rows]
    return pa.table({"origin": [o for o, _ in rows], "event_time": pa.array(times).cast(MOMENT)})


SPINE = spine_of(("JFK", 5.9), ("JFK", 6), ("LGA", 9), ("EWR", 6.9), ("EWR", 8))
TEMPS = [None, 39.0, None, 39.0, 41.5]


@pytest.fixture
def filled(store, weather, reading):
    """Each kind of store with four readings of two airports, at 06:00 and 07:00."""
    store.create_feature_group(weather)
    return with_readings(store, reading)


@pytest.fixture
def every_filled(record_store, reading):
    """As `filled`, the asynchronous client too."""
    return with_readings(record_store, reading)


def with_readings(store, reading):
    for origin in ("JFK", "EWR"):
        store.put("weather", reading(origin, 6, temp=39.0))
        store.put("weather", reading(origin, 7, temp=41.5))
    return store


class TestPlace:
    def test_a_group_keeps_the_place_of_its_table(self, store, weather):
        placed = weather.with_offline_place("s3://features/offline")

        made = store.create_feature_group(placed)

        assert made.group == placed
        assert made.offline_uri.startswith("s3://features/offline/weather-")
        assert store.describe("weather") == made
        config = store.describe("weather").to_json()["OfflineStoreConfig"]
        assert config["S3StorageConfig"] == {"S3Uri": "s3://features/offline"}
        assert store.list_feature_groups()[0].group.offline_place == "s3://features/offline"


class TestPlans:
    def test_a_plan_says_what_a_build_would_read(self, filled):
        recent = FeatureSelection("weather", ("temp",)).with_lookback(dt.timedelta(hours=1))

        plan = filled.explain_dataset(SPINE, [recent, "weather[wind]"])

        assert (plan.rows, plan.columns) == (5, 4)
        assert plan.earliest == "2013-01-01T05:54:00Z"
        first, second = plan.groups
        assert (first.group, first.version, first.key) == ("weather", 0, "origin")
        assert (first.lookback_us, second.lookback_us) == (3_600_000_000, None)
        assert (first.files, first.files_read, first.rows) == (1, 1, 4)
        assert "temp" in first.columns_read
        assert "weather@0 by origin, at most 3,600 s old" in str(plan)

    def test_a_plan_of_nothing(self, store, weather):
        store.create_feature_group(weather)

        plan = store.explain_dataset(SPINE.slice(0, 0), ["weather"])

        assert (plan.rows, plan.earliest, plan.latest) == (0, None, None)
        assert (plan.groups[0].version, plan.groups[0].rows) == (None, 0)


class TestFiles:
    def test_a_file_has_the_fingerprint_of_the_dataset(self, every_filled, tmp_path):
        seen = []
        path = tmp_path / "new" / "out.parquet"

        written = every_filled.write_dataset(
            SPINE, ["weather[temp]"], path, memory_limit="64MB", on_progress=seen.append
        )

        assert written.path == path
        assert len(written) == 5
        assert written.fingerprint == every_filled.dataset(SPINE, ["weather[temp]"]).fingerprint
        assert Dataset.read(path).table["temp"].to_pylist() == TEMPS
        assert Dataset.read_manifest(path) == written.manifest
        assert every_filled.graph.entity(written.manifest["lineage"]["uid"]).type == "DataSet"
        assert seen[-1] == 5
        assert [entry.name for entry in path.parent.iterdir()] == ["out.parquet"]

    def test_as_of_and_key_are_kept(self, every_filled, tmp_path, reading):
        every_filled.flush()
        before = dt.datetime.now(dt.UTC)
        every_filled.put("weather", reading("JFK", 6, temp=0.0))
        spine = spine_of(("JFK", 6)).rename_columns(["airport", "at"])

        every_filled.write_dataset(
            spine,
            [FeatureSelection("weather", ("temp",)).with_key("airport")],
            tmp_path / "out.parquet",
            memory_limit=1 << 27,
            time="at",
            as_of=before,
        )

        assert Dataset.read(tmp_path / "out.parquet").table["temp"].to_pylist() == [39.0]

    def test_a_spine_of_100_000_rows_in_pieces(self, every_filled, tmp_path):
        rows = 100_000
        moments = (NEW_YEAR_S + np.arange(rows) % 36_000) * 1_000_000
        table = pa.table(
            {
                "origin": pa.array(["JFK", "LGA"] * (rows // 2)),
                "event_time": pa.array(moments).cast(MOMENT),
                "label": np.arange(rows),
            }
        )
        pq.write_table(table, tmp_path / "spine.parquet", row_group_size=10_000)
        path = tmp_path / "out.parquet"

        written = every_filled.write_dataset(
            tmp_path / "spine.parquet", ["weather[temp]"], path, memory_limit="64MB"
        )

        assert written.fingerprint == every_filled.dataset(table, ["weather[temp]"]).fingerprint
        batches = list(written.reader())
        assert sum(map(len, batches)) == rows
        assert sum(batch["temp"].null_count for batch in batches) == 50_000 + sum(
            1 for n in range(0, rows, 2) if n % 36_000 < 21_600
        )

    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"memory_limit": "1MB"}, InvalidRequest, "memory_limit: expected 64MB or more"),
            ({"memory_limit": "much"}, InvalidRequest, "memory_limit: expected bytes or a text"),
            ({"features": ["wether"]}, FeatureGroupNotFound, "did you mean 'weather'"),
            ({"features": ["weather[tmp]"]}, FeatureNotFound, "did you mean 'temp'"),
            ({"time": "at"}, InvalidSpine, "the spine has no column 'at' for the time"),
            ({"spine": "none.parquet"}, InvalidSpine, "none.parquet"),
        ],
        ids=str,
    )
    def test_what_cannot_be_built_leaves_no_file(self, refusing, tmp_path, change, error, words):
        path = tmp_path / "out" / "out.parquet"
        arguments = {"spine": SPINE, "features": ["weather"], "memory_limit": "64MB"} | change

        for kind in KINDS:
            with pytest.raises(error, match=words):
                refusing[kind].write_dataset(path=path, **arguments)

        assert not path.parent.exists() or not list(path.parent.iterdir())

    def test_a_spine_that_fails_on_its_way_leaves_no_file(self, every_filled, tmp_path):
        def batches():
            yield from SPINE.to_batches()
            raise InvalidSpine("the disk is gone")

        reader = pa.RecordBatchReader.from_batches(SPINE.schema, batches())

        with pytest.raises(InvalidSpine, match="the disk is gone"):
            every_filled.write_dataset(
                reader, ["weather"], tmp_path / "o.parquet", memory_limit="64MB"
            )

        assert list(tmp_path.glob("*o.parquet*")) == []


class TestKept:
    def test_a_dataset_is_kept_found_and_read(self, filled):
        made = filled.dataset(SPINE, ["weather[temp]"], spine_name="flights")

        path = made.save()

        assert path.name == f"{made.fingerprint}.parquet"
        assert filled.save_dataset(made) == path, "twice is once"
        found = filled.load_dataset(made.fingerprint[:8])
        assert found == made
        assert found.table["temp"].to_pylist() == TEMPS
        assert found.save() == path
        [listed] = filled.list_datasets()
        assert listed == filled.describe_dataset(made.fingerprint[:4])
        assert (listed.fingerprint, listed.path, listed.size_bytes > 0) == (
            made.fingerprint,
            path,
            True,
        )
        assert listed.manifest == made.manifest
        assert listed.statistics["temp"]["mean"] == pytest.approx(119.5 / 3)
        assert abs(listed.saved - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)

    def test_it_is_built_again_whatever_was_written_since(self, filled, reading):
        made = filled.dataset(SPINE, ["weather[temp]"])
        made.save()
        filled.put("weather", reading("JFK", 6, temp=-1.0))

        again = filled.rebuild_dataset(made.fingerprint)

        assert again.fingerprint == made.fingerprint
        assert again.table.equals(made.table)
        assert again.keeper is filled
        assert filled.dataset(SPINE, ["weather[temp]"]).fingerprint != made.fingerprint

    def test_a_part_is_not_kept(self, filled):
        part = filled.dataset(SPINE, ["weather[temp]"]).split_by_time({"a": 0.5, "b": 0.5})["a"]

        with pytest.raises(InvalidRequest, match="write a part with"):
            filled.save_dataset(part)

        assert filled.list_datasets() == []

    def test_what_is_not_there_is_not_found(self, filled, weather):
        for verb in (filled.load_dataset, filled.rebuild_dataset, filled.describe_dataset):
            with pytest.raises(DatasetNotFound) as caught:
                verb("abcd")
            assert caught.value.fingerprint == "abcd"
            with pytest.raises(InvalidRequest, match="expected a dataset's fingerprint"):
                verb("../weather")

    def test_a_group_that_is_gone_changes_the_dataset(self, filled):
        made = filled.dataset(SPINE, ["weather"])
        made.save()
        filled.delete_feature_group("weather")

        with pytest.raises(DatasetChanged) as caught:
            filled.rebuild_dataset(made.fingerprint)

        assert (caught.value.fingerprint, caught.value.input) == (made.fingerprint, "weather")
        assert filled.load_dataset(made.fingerprint).table.equals(made.table)


class TestChecks:
    def test_a_dataset_is_right(self, filled):
        made = filled.dataset(SPINE, ["weather[temp,wind]"])

        report = filled.check_dataset(made)

        assert (report.passed, report.rows, report.checked, report.values) == (True, 5, 5, 10)
        assert filled.check_dataset(made, rows=2, seed=3).checked == 2
        assert filled.check_dataset(made.filter([True, False, False, False, True])).values == 4

    def test_a_wrong_value_is_named(self, filled):
        made = filled.dataset(SPINE, ["weather[temp]"])
        wrong = made.table.set_column(2, "temp", pa.array([None, 41.5, None, 39.0, 0.0]))

        report = filled.check_dataset(replace(made, table=wrong))

        assert (report.passed, report.wrong, report.future) == (False, 2, 1)
        assert report.examples == (
            "row 1, temp: expected 39.0, got 41.5 from the future",
            "row 4, temp: expected 41.5, got 0.0",
        )

    def test_a_group_that_is_gone_cannot_be_checked(self, filled):
        made = filled.dataset(SPINE, ["weather"])
        filled.delete_feature_group("weather")

        with pytest.raises(FeatureGroupNotFound):
            filled.check_dataset(made)


class TestBuilder:
    def test_a_group_as_base(self, every_filled):
        built = every_filled.create_dataset(
            "weather", included_feature_names=["origin", "temp"]
        ).build()

        assert built.table.to_pydict() == {
            "origin": ["EWR", "EWR", "JFK", "JFK"],
            "temp": [39.0, 41.5, 39.0, 41.5],
        }
        assert built.manifest["versions"] == {"weather": 0}
        assert built.manifest["columns"]["temp"] == "weather.temp"
        assert built.query.startswith("WITH ")

    def test_rows_as_base_with_joins(self, every_filled, tmp_path):
        builder = (
            every_filled.create_dataset(
                SPINE,
                tmp_path / "out",
                record_identifier_feature_name="origin",
                event_time_identifier_feature_name="event_time",
            )
            .with_feature_group(
                "weather",
                included_feature_names=["temp"],
                feature_name_in_target="origin",
                join_type=JoinTypeEnum.LEFT_JOIN,
            )
            .point_in_time_accurate_join()
            .with_number_of_recent_records_by_record_identifier(1)
        )

        frame, query = builder.to_dataframe()
        path, same = builder.to_csv_file()

        assert list(frame.columns) == ["origin", "event_time", "temp.1"]
        assert frame.set_index("origin")["temp.1"].dropna().to_dict() == {"JFK": 39.0, "EWR": 41.5}
        assert same == query
        assert path.startswith(str(tmp_path / "out"))

    def test_every_option_arrives(self, every_filled, reading):
        every_filled.delete("weather", "JFK", event_time="2013-01-01T06:30:00Z")
        every_filled.put("weather", reading("EWR", 7, temp=1.0))

        def temps(builder):
            return builder.to_arrow()["temp"].to_pylist()

        def base():
            return every_filled.create_dataset("weather")

        assert temps(base()) == [39.0, 1.0, 41.5]
        assert temps(base().include_duplicated_records()) == [39.0, 41.5, 1.0, 41.5]
        assert temps(base().include_deleted_records()) == [39.0, 1.0, 39.0, 41.5]
        assert temps(base().with_number_of_records_from_query_results(1)) == [39.0]
        assert temps(base().as_of(dt.datetime(2013, 1, 1, tzinfo=dt.UTC))) == []
        seven = dt.datetime(2013, 1, 1, 7, tzinfo=dt.UTC)
        assert temps(base().with_event_time_range(seven)) == [1.0, 41.5]
        assert temps(base().with_event_time_range(None, seven - dt.timedelta(1))) == []

    def test_lineage_records_the_build(self, every_filled):
        builder = every_filled.create_dataset(
            SPINE,
            record_identifier_feature_name="origin",
            event_time_identifier_feature_name="event_time",
        ).with_feature_group("weather")

        built = builder.build()

        assert builder.build().fingerprint == built.fingerprint
        found = every_filled.graph.query(built.manifest["lineage"]["uid"], "ascendants")
        types = {entity.type for entity in found.entities}
        assert {"FeatureGroup", "FeatureGroupVersion", "Spine", "DatasetBuild"} <= types

    @pytest.mark.parametrize(
        ("begin", "error", "words"),
        [
            (lambda s: s.create_dataset("wether"), FeatureGroupNotFound, "'weather'"),
            (lambda s: s.create_dataset(SPINE), InvalidRequest, "needs record_identifier"),
            (
                lambda s: s.create_dataset("weather", included_feature_names=["tmp"]),
                InvalidRequest,
                "the base has no 'tmp'; did you mean 'temp'",
            ),
            (
                lambda s: s.create_dataset("weather").with_feature_group("wether"),
                FeatureGroupNotFound,
                "'weather'",
            ),
            (
                lambda s: s.create_dataset("weather").point_in_time_accurate_join().to_arrow(),
                InvalidRequest,
                "expected a group to join, got none",
            ),
            (
                lambda s: s.create_dataset("weather").with_feature_group("weather", "tmp"),
                InvalidRequest,
                "the base has no 'tmp'; did you mean 'temp'",
            ),
            (
                lambda s: s.create_dataset("weather").with_feature_group("online-only"),
                InvalidRequest,
                "online-only: the group has no offline store to join with",
            ),
        ],
    )
    def test_errors(self, refusing, begin, error, words):
        for kind in KINDS:
            with pytest.raises(error, match=words):
                begin(refusing[kind])


class TestTables:
    @pytest.fixture
    def many(self, store, weather, reading):
        """Six commits of one record each."""
        store.create_feature_group(weather)
        for hour in range(6):
            store.put("weather", reading("JFK", hour, temp=float(hour)))
            store.flush("weather")
        return store

    def test_maintenance(self, many):
        report = many.maintain("weather", retention=dt.timedelta(0))

        assert (report.group, report.dates) == ("weather", 1)
        assert (report.files_before, report.files_after, report.files_removed) == (6, 1, 6)
        assert many.maintain("weather", zorder=False).dates == 0
        assert many.dataset(spine_of(("JFK", 4)), ["weather[temp]"]).table["temp"][0].as_py() == 4.0

    def test_maintenance_of_nothing(self, store, weather):
        store.create_feature_group(weather)

        report = store.maintain("weather")

        assert (report.version, report.files_before) == (None, 0)
        assert store.versions("weather") == []
        assert store.history("weather").read_all().num_rows == 0

    def test_history(self, many, reading):
        many.put("weather", reading("JFK", 2, temp=None))
        many.delete("weather", "JFK", event_time="2013-01-01T09:00:00Z")

        reader = many.history("weather")

        assert reader.schema.names[:5] == ["origin", "hour", "temp", "wind", "note"]
        assert reader.schema.names[5:7] == ["_event_time", "write_time"]
        rows = reader.read_all()
        assert rows["temp"].to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None, None]
        assert rows["is_deleted"].to_pylist() == [False] * 7 + [True]
        assert many.history("weather", version=2).read_all().num_rows == 3
        third = rows["write_time"][2].as_py()
        assert many.history("weather", as_of=third).read_all().num_rows == 3
        chosen = many.history("weather", features=["temp"]).schema.names
        assert chosen[:2] == ["temp", "_event_time"]

    def test_versions_and_restore(self, many):
        newest, *older = many.versions("weather")

        assert (newest.version, len(older)) == (5, 5)
        assert newest.is_readable
        assert many.versions("weather", limit=2) == [newest, older[0]]
        assert many.restore("weather", 1) == 6
        assert many.history("weather").read_all().num_rows == 2
        assert many.versions("weather")[0].operation == "RESTORE"
        many.maintain("weather", retention=dt.timedelta(0))
        assert not all(one.is_readable for one in many.versions("weather"))

    @pytest.mark.parametrize(
        ("ask", "error", "words"),
        [
            (lambda s: s.maintain("wether"), FeatureGroupNotFound, "weather"),
            (lambda s: s.history("wether"), FeatureGroupNotFound, "weather"),
            (lambda s: s.versions("wether"), FeatureGroupNotFound, "weather"),
            (lambda s: s.restore("wether", 0), FeatureGroupNotFound, "weather"),
            (lambda s: s.maintain("online-only"), InvalidRequest, "has no offline store"),
            (lambda s: s.history("online-only"), InvalidRequest, "has no offline store"),
            (lambda s: s.versions("online-only"), InvalidRequest, "has no offline store"),
            (lambda s: s.restore("online-only", 0), InvalidRequest, "has no offline store"),
            (lambda s: s.history("weather", features=["tmp"]), FeatureNotFound, "'temp'"),
            (lambda s: s.history("weather", version=7), InvalidRequest, "7"),
            (lambda s: s.restore("weather", 7), InvalidRequest, "nothing was ever written"),
            (
                lambda s: s.history("weather", as_of=dt.datetime(2013, 1, 1)),  # noqa: DTZ001
                InvalidRequest,
                "as_of: expected a datetime with a zone",
            ),
            (
                lambda s: s.maintain("weather", retention=dt.timedelta(-1)),
                InvalidRequest,
                "retention: expected 0 or more",
            ),
        ],
    )
    def test_errors(self, refusing, ask, error, words):
        said = set()
        for kind in BLOCKING:
            with pytest.raises(error, match=words) as caught:
                ask(refusing[kind])
            said.add(caught.value.message.replace(str(getattr(refusing[kind], "home", "")), ""))
        assert "retention" in words or len({text.split("/")[0] for text in said}) == 1, said


# -- over gRPC only ---------------------------------------------------------------------------


@pytest.fixture
def served(server, remote, weather, reading):
    """A server with the readings, and its client."""
    remote.create_feature_group(weather)
    remote.put("weather", reading("JFK", 6))
    return server, remote


def test_bytes_over_grpc_are_those_of_the_embedded_store(served, tmp_path):
    server, remote = served
    there, here = tmp_path / "there.parquet", tmp_path / "here.parquet"
    arguments = {"memory_limit": "64MB", "spine_name": "flights"}

    far = remote.write_dataset(SPINE, ["weather"], there, **arguments)
    near = server.store.write_dataset(SPINE, ["weather"], here, **arguments)

    assert far.manifest == near.manifest
    assert there.read_bytes() == here.read_bytes()
    made = remote.dataset(SPINE, ["weather"])
    assert made.save().read_bytes() == server.store.dataset(SPINE, ["weather"]).save().read_bytes()


def test_the_server_keeps_to_its_own_limit(serving, weather, tmp_path, monkeypatch):
    asked = []
    real = EmbeddedStore.write_dataset

    def noted(self, *args, **kwargs):
        asked.append(kwargs["memory_limit"])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(EmbeddedStore, "write_dataset", noted)
    server = serving("grpc", dataset_memory_bytes=96 << 20)
    server.store.create_feature_group(weather)

    with featurestore.connect(server.address) as remote:
        for limit in ("64MB", "8GB"):
            remote.write_dataset(SPINE, ["weather"], tmp_path / "o.parquet", memory_limit=limit)

    assert asked == [64 << 20, 96 << 20]


def test_the_asynchronous_client_has_the_verbs_too(served, loop, tmp_path):
    server, remote = served

    async def use():
        async with aio.connect(server.address) as store:
            made = await store.dataset(SPINE, ["weather[temp]"], spine_name="flights")
            assert (await store.save_dataset(made)).exists()
            assert await store.load_dataset(made.fingerprint) == made
            assert (await store.rebuild_dataset(made.fingerprint)).table.equals(made.table)
            [kept] = await store.list_datasets()
            assert await store.describe_dataset(made.fingerprint[:6]) == kept
            assert (await store.check_dataset(made, rows=3)).checked == 3
            assert (await store.explain_dataset(SPINE, ["weather"])).rows == 5
            batches = [batch async for batch in store.history("weather", features=["temp"])]
            assert pa.Table.from_batches(batches)["temp"].to_pylist() == [39.0]
            async for batch in store.history("weather"):
                assert len(batch) == 1
                break
            with pytest.raises(FeatureGroupNotFound):
                [batch async for batch in store.history("wether")]
            with pytest.raises(DatasetNotFound):
                await store.load_dataset("abcd")
            assert [one.version for one in await store.versions("weather")] == [0]
            assert await store.restore("weather", 0) == 0
            assert (await store.maintain("weather")).files_after == 1
            return made

    made = loop.run(use())
    assert made.fingerprint == remote.dataset(SPINE, ["weather[temp]"]).fingerprint
    with pytest.raises(InvalidRequest, match="no store built this value"):
        made.save()


def left_over(server):
    folder = server.home / "tmp"
    return sorted(folder.iterdir()) if folder.exists() else []


def until(holds):
    """Wait for what another thread will do."""
    while not holds():
        time.sleep(0.01)


def test_calls_leave_no_temporary_file(served, tmp_path):
    server, remote = served
    remote.write_dataset(SPINE, ["weather"], tmp_path / "o.parquet", memory_limit="64MB")
    with pytest.raises(FeatureGroupNotFound):
        remote.write_dataset(SPINE, ["w"], tmp_path / "o.parquet", memory_limit="64MB")
    made = remote.dataset(SPINE, ["weather"])
    remote.explain_dataset(SPINE, ["weather"])
    remote.check_dataset(made)
    made.save()

    until(lambda: not left_over(server))


def test_a_client_that_goes_while_it_sends_leaves_nothing(served):
    server, remote = served
    gone = threading.Event()

    def endless():
        spec = dataset_spec([FeatureSelection("weather")], "event_time")
        yield from build_requests(spec, chunks_of(SPINE))
        gone.wait()

    call = remote._calls.control.WriteDataset(endless(), timeout=60)
    until(lambda: left_over(server))
    call.cancel()
    gone.set()
    with pytest.raises(Exception, match="CANCELLED"):
        list(call)

    until(lambda: not left_over(server))


def test_a_client_that_goes_while_it_waits_ends_the_work(served, monkeypatch):
    server, remote = served
    began, ended = [], []
    real = EmbeddedStore.write_dataset

    def slow(self, *args, on_progress, **kwargs):
        began.append(True)
        try:
            while True:  # as a long join does between its pieces
                time.sleep(0.01)
                on_progress(1)
        except StoreUnavailable as error:
            ended.append(error)
            return real(self, *args, on_progress=on_progress, **kwargs)

    monkeypatch.setattr(EmbeddedStore, "write_dataset", slow)
    spec = dataset_spec([FeatureSelection("weather")], "event_time")
    call = remote._calls.control.WriteDataset(build_requests(spec, chunks_of(SPINE)), timeout=60)
    until(lambda: began)
    assert left_over(server)

    call.cancel()

    until(lambda: ended)
    until(lambda: not left_over(server))


def test_a_client_that_stops_reading_leaves_nothing(served, tmp_path, reading):
    server, remote = served
    replies = remote._calls.stream(
        "WriteDataset",
        build_requests(dataset_spec([FeatureSelection("weather")], "event_time"), chunks_of(SPINE)),
    )
    next(replies)
    replies.close()
    reader = remote.history("weather")
    del reader

    until(lambda: not left_over(server))
    assert remote.history("weather").read_all().num_rows == 1


def test_files_of_a_killed_server_go_with_the_next_call(served, tmp_path):
    server, remote = served
    dead = server.home / "tmp" / "dead"
    dead.mkdir(parents=True)
    (dead / ".lock").touch()
    (dead / "spine").write_bytes(b"x")

    remote.write_dataset(SPINE, ["weather"], tmp_path / "o.parquet", memory_limit="64MB")

    until(lambda: not left_over(server))


def test_a_forged_dataset_is_not_kept(served):
    _, remote = served
    made = remote.dataset(SPINE, ["weather[temp]"])
    body = json.loads(json.dumps(made.manifest))
    wrong = {
        "another fingerprint": body | {"fingerprint": "0" * 64},
        "a path as spine": _renamed(body | {"spine_digest": "../../evil"}),
        "no selections": {k: v for k, v in body.items() if k != "selections"},
        "a column as spine": body | {"columns": dict.fromkeys(body["columns"], "spine")},
        "no times": _renamed(body | {"as_of": "yesterday"}),
    }
    for manifest in wrong.values():
        with pytest.raises(InvalidRequest):
            remote.save_dataset(replace(made, manifest=manifest))
    other = made.table.set_column(2, "temp", pa.array([1.0] * 5))
    with pytest.raises(InvalidRequest, match="expected the 5 rows it was built with"):
        remote.save_dataset(replace(made, table=other))
    assert remote.list_datasets() == []


def _renamed(manifest):
    return manifest | {"fingerprint": fingerprint_of(manifest)}


@pytest.mark.parametrize(
    ("method", "requests", "words"),
    [
        ("WriteDataset", [], "got no message"),
        ("WriteDataset", [control_pb2.BuildDatasetRequest(spine=b"x")], "in the first message"),
        (
            "WriteDataset",
            [control_pb2.BuildDatasetRequest(spec=dataset_spec([FeatureSelection("weather")], "t"))]
            * 2,
            "got spec",
        ),
        (
            "ReadHistory",
            offline_pb2.ReadHistoryRequest(
                feature_group_name="weather", as_of={"seconds": -62135596801}
            ),
            "as_of: expected a time of the years 0001 to 9999",
        ),
        (
            "ReadHistory",
            offline_pb2.ReadHistoryRequest(feature_group_name="weather", version=-1),
            "version",
        ),
        (
            "Restore",
            offline_pb2.RestoreRequest(feature_group_name="weather", version=(1 << 63) - 1),
            "version",
        ),
        (
            "ListTableVersions",
            offline_pb2.ListTableVersionsRequest(feature_group_name="weather", limit=0),
            "limit: expected 1 or more",
        ),
        (
            "ExplainDataset",
            [
                control_pb2.BuildDatasetRequest(
                    spec=dataset_spec([FeatureSelection("weather")], "event_time")
                ),
                control_pb2.BuildDatasetRequest(spine=b"no arrow"),
            ],
            "spine: expected one Arrow IPC stream",
        ),
        ("SaveDataset", [dataset_pb2.SaveDatasetRequest(manifest_json="{")], "expected JSON"),
        (
            "CreateDataset",
            [dataset_pb2.CreateDatasetRequest(spec=dataset_pb2.DatasetBuilderSpec())],
            "a feature group or rows as the base",
        ),
    ],
    ids=str,
)
def test_what_is_no_call_is_refused(refusing, method, requests, words):
    remote = refusing["remote"]
    streams = method in ("WriteDataset", "CreateDataset", "ReadHistory")
    sent = iter(requests) if isinstance(requests, list) else requests
    with pytest.raises(InvalidRequest, match=words):
        list(remote._calls.stream(method, sent)) if streams else remote._calls.unary(method, sent)


def test_a_store_that_is_away_or_closed_says_so(server, remote, tmp_path):
    verbs = [
        partial(remote.explain_dataset, SPINE, ["weather"]),
        partial(remote.write_dataset, SPINE, ["w"], tmp_path / "o", memory_limit="64MB"),
        partial(remote.load_dataset, "abcd"),
        remote.list_datasets,
        partial(remote.history, "weather"),
        partial(remote.maintain, "weather"),
    ]
    server.stop()
    for verb in verbs:
        with pytest.raises(StoreUnavailable):
            verb()
    remote.close()
    for verb in verbs:
        with pytest.raises(StoreUnavailable, match="is closed"):
            verb()
    assert list(tmp_path.glob("*o*")) == []


def test_an_awaited_file_whose_task_is_cancelled_leaves_nothing(served, loop, tmp_path):
    server, _ = served
    sends, gone = threading.Event(), threading.Event()
    path = tmp_path / "o.parquet"

    def endless():
        yield from SPINE.to_batches()
        sends.set()
        gone.wait()

    async def use():
        async with aio.connect(server.address) as store:
            reader = pa.RecordBatchReader.from_batches(SPINE.schema, endless())
            writing = asyncio.create_task(
                store.write_dataset(reader, ["weather"], path, memory_limit="64MB")
            )
            await asyncio.to_thread(sends.wait)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        gone.set()

    loop.run(use())

    assert list(tmp_path.glob("*o.parquet*")) == []
    until(lambda: not left_over(server))
