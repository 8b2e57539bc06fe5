"""Everything above the engine, on Redis: flush, verify, datasets, deletes, and kills."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

import featurestore
from featurestore import Get, Put
from featurestore.online import LmdbStore, RedisStore, open_online

KILLS = 10
STATIONS = 5


@pytest.fixture(params=["redis_url", "cluster_url"])
def url(request) -> str:
    return request.getfixturevalue(request.param)()


@pytest.fixture
def redis_store(make_store, readings, url, tmp_path):
    (tmp_path / "home").mkdir()
    store = make_store(online=open_online(tmp_path / "home", url))
    store.create_feature_group(readings)
    return store


def test_the_whole_path(redis_store, reading, rows_of):
    store = redis_store
    assert isinstance(store.online, RedisStore)
    store.put("readings", reading("a", 1, temp=1.5, note="n"))
    store.put("readings", reading("a", 9, temp=2.5))
    store.put("readings", reading("a", 5, temp=9.5))
    store.put("readings", reading("b", 2, count=7))
    store.put("readings", reading("c", 3, count=8))
    assert store.get("readings", "a")["temp"] == 2.5
    assert store.flush("readings")["readings"].records == 5
    assert store.flush("readings")["readings"].records == 0
    store.delete("readings", "b", event_time=reading("b", 4)["time"])
    store.delete("readings", "c", event_time=reading("c", 4)["time"], hard=True)
    assert store.get("readings", "b") is None
    assert list(store.records("readings")) == ["a"]
    assert list(store.records("readings", include_soft_deleted=True)) == ["a", "b"]
    report = store.verify("readings")
    assert (report.equal, report.online, report.offline) == (True, 1, 1)
    assert len(rows_of(store)) == 7
    spine = pa.table(
        {
            "station": ["a", "a", "b"],
            "event_time": pa.array(
                [store_time(reading("x", second)) for second in (4, 8, 3)],
                pa.timestamp("us", "UTC"),
            ),
        }
    )
    temps = store.dataset(spine, ["readings[temp,count]"]).table
    assert temps["temp"].to_pylist() == [1.5, 9.5, None]
    assert temps["count"].to_pylist() == [None, None, 7]
    store.delete_feature_group("readings")
    assert store.online.outbox.pending() == 0


def store_time(record):
    return featurestore.eventtime.to_datetime(featurestore.eventtime.parse_iso(record["time"]))


def test_loads_and_a_rebuild(redis_store, reading, rows_of):
    store = redis_store
    store.put("readings", reading("a", 5, count=1))
    store.put("readings", reading("b", 9, count=2))
    rows = pa.Table.from_pylist([reading(name, 5, count=n) for n, name in enumerate("abc", 10)])
    store.load("readings", rows, key="k")
    store.put("readings", reading("c", 5, count=3))
    assert store.load("readings", rows, key="k").already
    assert [store.get("readings", name)["count"] for name in "abc"] == [10, 2, 3]
    assert store.verify("readings").equal
    assert store.backfill("readings").written == 0
    number = store.registry.get("readings").number
    store.online.drop(number)
    assert store.rebuild_online("readings").was_empty
    assert [store.get("readings", name)["count"] for name in "abc"] == [10, 2, 3]
    assert store.verify("readings").equal
    assert len(rows_of(store)) == 6


def test_a_store_is_opened_by_its_url(tmp_path, readings, reading, redis_url, monkeypatch):
    home, url = tmp_path / "home", redis_url()
    with featurestore.open(home, online=url) as store:
        store.create_feature_group(readings)
        store.put("readings", reading("a", 1, count=7))
    with featurestore.open(home) as store:
        assert store.get("readings", "a")["count"] == 7
    monkeypatch.setenv("FEATURELINE_ONLINE", redis_url())
    with pytest.raises(featurestore.StoreUnavailable, match="has its online store at"):
        featurestore.open(home)
    with featurestore.open(home, online=url), featurestore.open(tmp_path / "new") as other:
        assert isinstance(other.online, RedisStore)
    monkeypatch.setenv("FEATURELINE_ONLINE", "")
    with featurestore.open(tmp_path / "newer") as newer:
        assert isinstance(newer.online, LmdbStore)


def test_one_call_for_many_groups(redis_store, make_group, reading):
    other = make_group("others", [("station", "String"), ("time", "String"), ("count", "Integral")])
    redis_store.create_feature_group(other)
    redis_store.put("readings", reading("a", 1, count=1, temp=2.5))
    redis_store.put("others", reading("a", 1, count=2))
    found = redis_store.batch_get(
        [Get("others", ["a", "b"]), Get("readings", ["a"], ("temp",)), Get("others", ["a"])]
    )
    assert [entry.record.get("count") for entry in found] == [2, None, 2]
    assert found[1].record == {"temp": 2.5}


def test_long_tables_and_pages(redis_store, at):
    rows = 3_000
    table = pa.table(
        {
            "station": [f"s{row:05d}" for row in range(rows)],
            "time": [at(row) for row in range(rows)],
            "count": list(range(rows)),
        }
    )
    assert redis_store.put_table("readings", table).rows == rows
    assert len(list(redis_store.records("readings"))) == rows
    assert redis_store.verify("readings").equal


def test_two_stores_on_one_redis(redis_store, make_store, reading, tmp_path, rows_of):
    one = redis_store
    other = make_store(online=open_online(tmp_path / "home"))
    failures: list[BaseException] = []

    def work(store, worker: int) -> None:
        try:
            for step in range(40):
                store.put("readings", reading("hot", step * 2 + worker, count=worker))
                store.put("readings", reading(f"{worker}-{step}", step, count=step))
                if step % 10 == 0:
                    store.flush("readings")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [
        threading.Thread(target=work, args=(store, worker))
        for worker, store in enumerate((one, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert one.get("readings", "hot") == other.get("readings", "hot") is not None
    assert one.get("readings", "hot")["count"] == 1
    assert other.verify("readings").equal
    assert one.verify("readings").equal
    assert len(rows_of(one)) == 160, "each is offline once"


def test_a_source_goes_on_where_it_stands(redis_store, reading):
    position = featurestore.SourcePosition("topic", (featurestore.PartitionPosition("0", 0, 2),))
    entries = [Put("readings", reading(name, 1)) for name in "ab"]
    assert redis_store.batch_write(entries, position=position) == []
    with pytest.raises(featurestore.PositionConflict):
        redis_store.batch_write(entries, position=position)
    assert redis_store.source_position("topic") == {"0": 2}
    assert redis_store.flush("readings")["readings"].records == 2


def test_a_process_that_puts_and_flushes_is_killed_again_and_again(
    run_python, tmp_path, readings, rows_of, redis_url
):
    home = tmp_path / "home"
    home.mkdir()
    path = tmp_path / "acknowledged"
    open_online(home, redis_url()).close()
    with featurestore.open(home) as store:
        assert isinstance(store.online, RedisStore)
        store.create_feature_group(readings)
    program = str(Path(__file__).with_name("put_until_killed.py"))
    chance = random.Random(7)
    told: list[int] = []
    first = 0
    with run_python([program, str(home), str(path)]) as process:
        for _ in range(KILLS):
            process.stdin.write(f"{first}\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(chance.uniform(0.05, 0.4))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            told = [int(line) for line in path.read_text().split()]
            first = max([first, *told[-1:]]) + 2
        process.stdin.close()
    assert process.returncode == 0
    assert len(told) > KILLS

    with featurestore.open(home) as store:
        store.flush()
        assert store.verify("readings").equal
        counts = [row["count"] for row in rows_of(store)]
        newest = {number % STATIONS: number for number in told}
        for station, number in newest.items():
            assert store.get("readings", f"s{station}")["count"] >= number
    assert sorted(counts) == sorted(set(counts)), "each is offline once"
    assert set(counts) >= set(told)
    assert len(counts) - len(told) <= KILLS


def test_an_erasure(redis_store, reading, rows_of):
    store = redis_store
    for second in range(3):
        store.put("readings", reading("zoe-7f3d", second))
        store.put("readings", reading("a", second))
        store.flush()
    store.put("readings", reading("zoe-7f3d", 9))
    report = store.erase("readings", "zoe-7f3d")
    assert report.rows == 4
    assert any("append-only file" in text for text in report.not_reached)
    store.put("readings", reading("zoe-7f3d", 10))
    store.put_table("readings", pa.Table.from_pylist([reading("zoe-7f3d", 11), reading("b", 1)]))
    assert store.get("readings", "zoe-7f3d") is None
    assert list(store.records("readings")) == ["a", "b"]
    assert [row["station"] for row in rows_of(store)].count("zoe-7f3d") == 0
    assert store.verify("readings").equal
