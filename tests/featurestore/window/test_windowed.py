"""Windowed groups in a store: kills, other processes, what is refused, and what is left behind."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import sys
import time
from contextlib import closing

import pyarrow as pa
import pytest

import featurestore
from featurestore import (
    FeatureGroup,
    InvalidFeatureGroup,
    InvalidRequest,
    StoreUnavailable,
    WindowedFeature,
    WindowedGroup,
    feature_definitions,
)
from featurestore.check import check_dataset
from featurestore.migrate import migrate
from featurestore.online import open_online
from featurestore.window import tile

HOUR = dt.timedelta(hours=1)
CLICKS = FeatureGroup(
    "clicks",
    record_identifier="user",
    event_time="at",
    features=feature_definitions([("user", "String"), ("at", "Fractional"), ("n", "Integral")]),
)
BY_USER = WindowedGroup(
    "by-user",
    source="clicks",
    by="user",
    features=[
        WindowedFeature("count", over=HOUR),
        WindowedFeature("sum", of="n", over=HOUR),
        WindowedFeature("max", of="n", over=dt.timedelta(days=3)),
    ],
)


def click(user: str, n: int, age_s: float = 1.0) -> dict:
    return {"user": user, "at": round(time.time() - age_s, 6), "n": n}


@pytest.fixture
def home(tmp_path):
    with featurestore.open(tmp_path / "home") as store:
        store.create_feature_group(CLICKS)
    return tmp_path / "home"


PUT = """
import sys, time, featurestore
store = featurestore.open(sys.argv[1])
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    number += 1
    record = {"user": f"u{number % 3}", "at": time.time(), "n": number}
    if number % 7 == 0:
        store.batch_write([featurestore.Put("clicks", {**record, "at": record["at"] - k})
                           for k in range(1, 5)])
    store.put("clicks", record)
    if number % 50 == 0:
        store.flush("clicks")
"""


def test_records_and_their_windows_survive_kills_together(run_python, home):
    chance = random.Random(3)
    with featurestore.open(home) as store:
        store.create_windowed_group(BY_USER)
    for life in range(8):
        with run_python(["-c", PUT, str(home), str(life * 100_000)]) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.01, 0.4))
            os.kill(process.pid, signal.SIGKILL)
        with featurestore.open(home) as store:
            report = store.verify("by-user")
            assert report.equal, report.differences
    assert report.online == 3


def test_a_fill_that_was_killed_goes_on(home, monkeypatch):
    with featurestore.open(home) as store:
        store.put_table("clicks", pa.table(_clicks(9_000)))

        class Killed(BaseException):
            pass

        filled = []

        def stop(done: int) -> None:
            filled.append(done)
            if len(filled) == 2:
                raise Killed

        with pytest.raises(Killed):
            store.create_windowed_group(BY_USER, on_progress=stop)
        assert not store.describe_windowed_group("by-user").is_filled
        with pytest.raises(StoreUnavailable, match="is being filled"):
            store.get("by-user", "u1")
        store.put("clicks", click("u1", 1_000_000))
    with featurestore.open(home) as store:
        assert store.create_windowed_group(BY_USER).is_filled
        assert store.get("by-user", "u1")["n_max_3d"] == 1_000_000
        assert store.verify("by-user").equal


def _clicks(n: int) -> dict[str, list]:
    now = time.time()
    return {
        "user": [f"u{k % 9}" for k in range(n)],
        "at": [round(now - k / 10, 6) for k in range(n)],
        "n": list(range(n)),
    }


def test_another_process_that_writes_sees_a_new_group_at_once(run_python, home):
    with (
        featurestore.open(home) as store,
        run_python(["-c", PUT, str(home), "0"]) as process,
    ):
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        store.create_windowed_group(BY_USER)
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        report = store.verify("by-user")
        assert report.equal, report.differences
        assert report.online == 3
        other = WindowedGroup("other", source="clicks", by="n", features=BY_USER.features[:1])
        store.create_windowed_group(other)
        assert store.verify("other").equal


def test_a_dataset_is_rebuilt_from_the_definition_it_was_built_with(home):
    with featurestore.open(home) as store:
        store.put_table("clicks", pa.table(_clicks(500)))
        store.create_windowed_group(BY_USER)
        now = dt.datetime.now(dt.UTC)
        spine = pa.table({"user": ["u1", "u2", None, "x"], "event_time": [now] * 4})
        dataset = store.dataset(spine, ["by-user", "clicks[n]"])
        dataset.save()
        assert dataset.versions == {"by-user": 0, "clicks": 0}
        report = check_dataset(dataset, store.resolve_manifest(dataset.manifest))
        assert (report.passed, report.values) == (True, 16)

        plan = store.explain_dataset(spine, ["by-user"])
        assert plan.groups[0].rows_read == 500
        assert "n" in plan.groups[0].columns_read

        store.delete_windowed_group("by-user")
        store.put("clicks", click("u1", 77))
        again = store.rebuild_dataset(dataset.fingerprint)
        assert again.table == dataset.table

        store.create_windowed_group(BY_USER)
        written = store.write_dataset(spine, ["by-user"], home / "w.parquet", memory_limit="128MB")
        whole = store.dataset(spine, ["by-user"])
        assert written.fingerprint == whole.fingerprint


def test_the_lineage_of_windowed_features(home):
    with featurestore.open(home) as store:
        store.put("clicks", click("u1", 1))
        store.create_windowed_group(BY_USER)
        spine = pa.table({"user": ["u1"], "event_time": [dt.datetime.now(dt.UTC)]})
        store.dataset(spine, ["by-user"])
        source = store.graph.find(type="FeatureGroup", name="clicks")[0]
        reached = store.graph.query(source.uid, "descendants")
        assert {entity.type for entity in reached.entities} >= {"FeatureGroup", "DataSet"}
        assert "by-user" in {entity.name for entity in reached.entities}


def test_values_as_of_each_event(home):
    with featurestore.open(home) as store:
        store.put_table("clicks", pa.table(_clicks(30)))
        store.create_windowed_group(BY_USER)
        rows = store.window_history("by-user").to_pylist()
        assert len(rows) == 30
        of_one = [row for row in rows if row["user"] == "u1"]
        assert [row["count_1h"] for row in of_one] == [1, 2, 3, 4]
        assert [row["n_sum_1h"] for row in of_one] == [28, 28 + 19, 28 + 19 + 10, 28 + 19 + 10 + 1]


def test_the_sweep_leaves_what_a_window_reaches(home):
    with featurestore.open(home) as store:
        store.create_windowed_group(BY_USER)
        store.put_table("clicks", pa.table(_clicks(100)))
        assert store.sweep() == 0
        assert store.verify("by-user").equal
        assert store.online.windows.sweep(int((time.time() + 4 * 86_400) * 1e6)) > 100
        with store.online._space(False) as space:
            assert len(list(space.scan(b"", b"\xff"))) == 1, "the definition alone is left"


def test_an_erased_identifier_is_in_no_window(home):
    by_n = WindowedGroup("by-n", source="clicks", by="n", features=BY_USER.features[:1])
    with featurestore.open(home) as store:
        store.create_windowed_group(BY_USER)
        store.create_windowed_group(by_n)
        store.put("clicks", {**click("u1", 5), "at": time.time() - 50})
        store.put("clicks", click("u1", 5))
        store.put("clicks", click("u2", 5))
        number = store.registry.get("clicks").number
        assert store.online.windows.erase(number, b"u1") == 4
        assert store.get("by-user", "u1") == {"user": "u1", "count_1h": 0}
        assert store.get("by-n", 5)["count_1h"] == 1
        with store.online._space(False) as space:
            assert not [k for k, v in space.scan(b"", b"\xff") if b"u1" in k or b"u1" in v]


def test_an_erasure_reaches_windows_and_their_datasets_and_later_events_count(home):
    by_n = WindowedGroup("by-n", source="clicks", by="n", features=BY_USER.features[:1])
    with featurestore.open(home) as store:
        for windowed in (BY_USER, by_n):
            store.create_windowed_group(windowed)
        now = time.time()
        store.put_table(
            "clicks", pa.Table.from_pylist([{**click(u, 5), "at": now - 50} for u in ("u1", "u2")])
        )
        spine = pa.table({"user": ["u1"], "event_time": [dt.datetime.now(dt.UTC)]})
        saved = store.dataset(spine, ["by-user"])
        saved.save()
        report = store.erase("clicks", "u1", datasets="delete")
        assert [(one["fingerprint"], one["deleted"]) for one in report.datasets] == [
            (saved.fingerprint, True)
        ]
        assert store.get("by-user", "u1")["count_1h"] == 0
        assert store.get("by-n", 5)["count_1h"] == 1
        # Late events are erased on arrival and make no window; later ones do, with their numbers.
        rows = [{**click(u, 5), "at": at} for u, at in (("u1", now - 9), ("u2", now - 8))]
        store.put_table("clicks", pa.Table.from_pylist([*rows, {**click("u3", 5), "at": now - 7}]))
        store.put("clicks", {**click("u1", 5), "at": time.time() + 60})
        assert store.get("by-n", 5)["count_1h"] == 3
        for name in ("by-user", "by-n", "clicks"):
            assert store.verify(name).equal, name


def test_a_fill_takes_nothing_that_was_erased(home, monkeypatch):
    with featurestore.open(home) as store:
        store.put_table("clicks", pa.table(_clicks(90)))
        store.create_windowed_group(BY_USER)
        windows = store.online.windows
        fill = windows.fill
        number = store.registry.get("clicks").number
        now = int(time.time() * 1e6)

        def erased_meanwhile(group, events, *, newest):
            store.online.erase(number, b"u1", through_us=now)
            fill(group, events, newest=newest)

        monkeypatch.setattr(windows, "fill", erased_meanwhile)
        store.fill_windowed_group("by-user")
        assert store.get("by-user", "u1")["count_1h"] == 0, "erased while it was filled"
        monkeypatch.undo()
        store.fill_windowed_group("by-user")
        assert store.get("by-user", "u1")["count_1h"] == 0, "erased before it was filled"
        assert store.get("by-user", "u2")["count_1h"] == 10


def test_redis_keeps_no_windows(redis_url, tmp_path, home):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with (
        closing(open_online(folder, redis_url())) as online,
        featurestore.embedded.EmbeddedStore(folder, online=online) as store,
    ):
        store.create_feature_group(CLICKS)
        with pytest.raises(InvalidRequest, match="need the embedded online store"):
            store.create_windowed_group(BY_USER)
    with featurestore.open(home) as store:
        store.create_windowed_group(BY_USER)
    with pytest.raises(InvalidRequest, match="'by-user' is kept in LMDB"):
        migrate(home, redis_url())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"Aggregation": "median", "WindowSeconds": 60}, "expected an aggregation of count"),
        ({"Aggregation": "count", "WindowSeconds": 0}, "expected a window `over`"),
        ({"Aggregation": "count", "WindowSeconds": "60"}, "expected a number"),
        ({"Aggregation": "count", "WindowSeconds": float("nan")}, "expected at most"),
        ({"Aggregation": "count"}, "expected a field WindowMicroseconds"),
        ({"Aggregation": "sum", "WindowSeconds": 60}, "expected the feature it is `of`"),
        ({"Aggregation": "count", "WindowSeconds": 60, "K": 3}, "expected k with top_k only"),
        (
            {"Aggregation": "top_k", "SourceFeatureName": "n", "WindowSeconds": 60, "K": 101},
            "expected k from 1 to 100",
        ),
        ({"Aggregation": "count", "WindowSeconds": 60, "Wnidow": 1}, "unknown field 'Wnidow'"),
        ({"Aggregation": "count", "WindowSeconds": 60, "FeatureName": "-"}, "windowed feature"),
    ],
)
def test_a_definition_that_is_none(body, message):
    whole = {**BY_USER.to_json(), "WindowedFeatures": [body]}
    with pytest.raises(InvalidFeatureGroup, match=message):
        WindowedGroup.from_json(json.loads(json.dumps(whole)))


def test_an_encrypted_source_is_refused(home):
    sealed = FeatureGroup(
        "sealed",
        record_identifier="user",
        event_time="at",
        features=CLICKS.features,
        kms_key="key",
    )
    group = WindowedGroup("w", source="sealed", by="user", features=BY_USER.features)
    with pytest.raises(InvalidFeatureGroup, match="is encrypted"):
        group.schema(sealed)


def test_ties_sort_as_identifiers_do():
    kinds = featurestore.FeatureType
    numbers = [-1e308, -2.5, -1e-9, 0.0, 1e-9, 3.0, 1e308]
    ties = [tile.tie_of(kinds.FRACTIONAL, number) for number in numbers]
    assert ties == sorted(ties)
    integers = [-(2**63), -10, -9, 0, 9, 10, 2**63 - 1]
    ties = [tile.tie_of(kinds.INTEGRAL, number) for number in integers]
    assert ties == sorted(ties)
    assert sys.byteorder == "little", "sketches are kept in the machine's order of bytes"


def test_loaded_rows_are_events_and_a_lost_store_is_filled_again(home):
    at = round(time.time() - 60, 6)
    rows = {"user": ["a", "a", "b"], "at": [at, at + 1, at], "n": [5, 6, 7]}
    with featurestore.open(home) as store:
        store.create_windowed_group(BY_USER)
        store.put("clicks", {"user": "a", "at": at, "n": 1})  # the load's row of this time counts
        store.load("clicks", rows, key="k")
        store.put("clicks", {"user": "b", "at": at + 2, "n": 8})
        store.load("clicks", rows, key="k")
        before = store.get_windows("by-user", ["a", "b"])
        assert [sorted(set(found.values()) - {"a", "b"}) for found in before] == [
            [2, 6, 11],
            [2, 8, 15],
        ]
        assert store.verify("by-user").equal
        store.flush()
    (home / "online").rename(home / "gone")
    with featurestore.open(home) as store:
        store.rebuild_online("clicks")
        assert store.get_windows("by-user", ["a", "b"]) == before
        assert store.verify("by-user").equal
        assert store.verify("clicks").equal
