from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

import featurestore
from featureline.probe import Probe, readiness
from featureline.server import Server
from featurestore import FeatureGroup, Put, StoreUnavailable
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.errors import StoreFull
from featurestore.online import LmdbStore
from featurestore.server.families import FAMILIES, Kind, table
from featurestore.server.flood import Flood
from featurestore.server.metrics import Metrics
from featurestore.server.monitor import COUNTED, Monitor
from featurestore.server.snapshot import STALE_S, Reports, Snapshot, page

ROOT = Path(__file__).parents[2]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def on_page(*snapshots: Snapshot) -> Samples:
    return parsed(page(snapshots)[0].decode())


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"featureline_{name}", tuple(sorted(labels.items()))))


def stale(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, taken=snapshot.taken - STALE_S - 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with open_store(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def start_probe() -> Iterator[Callable[..., Probe]]:
    started: list[Probe] = []

    def start(read: Callable[[], Any], **options: Any) -> Probe:
        started.append(Probe("127.0.0.1:0", read, **options))
        started[-1].start()
        return started[-1]

    yield start
    for probe in started:
        probe.stop()


def get(probe: Probe, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", probe.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode(), reply.headers["Content-Type"]
    finally:
        connection.close()


# -- counting ---------------------------------------------------------------------------------


def test_calls_are_counted_by_method_and_status_and_timed_by_method() -> None:
    metrics = Metrics()
    metrics.answered("GetRecord", "OK", 0.0004, count=32)
    metrics.answered("GetRecord", "NOT_FOUND", 0.02)
    metrics.answered("PutRecord", "OK", 99.0)
    samples = on_page(metrics.snapshot())
    assert value(samples, "calls_total", method="GetRecord", status="OK") == 32
    assert value(samples, "calls_total", method="GetRecord", status="NOT_FOUND") == 1
    get_record = {"method": "GetRecord"}
    assert value(samples, "call_seconds_bucket", le="0.0003", **get_record) == 0
    assert value(samples, "call_seconds_bucket", le="0.0006", **get_record) == 32
    assert value(samples, "call_seconds_bucket", le="0.02", **get_record) == 33  # bounds count in
    assert value(samples, "call_seconds_count", **get_record) == 33
    assert value(samples, "call_seconds_sum", **get_record) == pytest.approx(32 * 0.0004 + 0.02)
    assert value(samples, "call_seconds_bucket", le="10.0", method="PutRecord") == 0
    assert value(samples, "call_seconds_bucket", le="+Inf", method="PutRecord") == 1


def test_everything_else_that_is_counted_is_on_the_page() -> None:
    metrics = Metrics(front="native", version="1.2")
    metrics.batch("read", 21)
    metrics.commit(0.0015, 40)
    metrics.queue(17)
    metrics.shed("full", 3)
    metrics.shed("deadline")
    metrics.throttled("weather")
    metrics.flushed("weather", 500, 0.4)
    metrics.flushed("weather", 0, 9.0)
    metrics.flush_failed("planes")
    metrics.swept(12)
    metrics.outbox("weather", 7, 1.5)
    samples = on_page(metrics.snapshot())
    assert value(samples, "batch_calls_bucket", kind="read", le="32.0") == 1
    assert value(samples, "commit_seconds_count") == 1
    assert value(samples, "commit_writes_sum") == 40
    assert value(samples, "queue_depth") == 17
    assert value(samples, "shed_total", reason="full") == 3
    assert value(samples, "shed_total", reason="deadline") == 1
    assert value(samples, "throttled_total", group="weather") == 1
    assert value(samples, "flushed_records_total", group="weather") == 500
    assert value(samples, "flush_seconds_count", group="weather") == 1
    assert value(samples, "flush_failures_total", group="planes") == 1
    assert value(samples, "expired_swept_total") == 12
    assert value(samples, "outbox_group_records", group="weather") == 7
    assert value(samples, "outbox_lag_seconds", group="weather") == 1.5
    assert value(samples, "info", front="native", version="1.2") == 1
    assert value(samples, "workers") == 1


def test_counts_without_labels_are_there_before_anything_happened() -> None:
    samples = on_page(Metrics().snapshot())
    assert value(samples, "expired_swept_total") == 0
    assert value(samples, "commit_seconds_count") == 0


def test_threads_do_not_lose_counts() -> None:
    metrics = Metrics()

    def count() -> None:
        for _ in range(5_000):
            metrics.answered("GetRecord", "OK", 0.001)
            metrics.shed("full")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = on_page(metrics.snapshot())
    assert value(samples, "calls_total", method="GetRecord", status="OK") == 20_000
    assert value(samples, "call_seconds_count", method="GetRecord") == 20_000
    assert value(samples, "shed_total", reason="full") == 20_000


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.shed("full")
    assert value(on_page(other.snapshot()), "shed_total", reason="full") is None


def test_the_page_is_also_written_as_openmetrics() -> None:
    metrics = Metrics()
    metrics.answered("GetRecord", "OK", 0.001)
    body, content_type = page([metrics.snapshot()], "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics_families(body.decode())}
    assert {"featureline_calls", "featureline_call_seconds"} <= names


def test_label_values_cannot_break_the_page() -> None:
    metrics = Metrics()
    metrics.throttled('a"b\\c\nd')
    assert value(on_page(metrics.snapshot()), "throttled_total", group='a"b\\c\nd') == 1


# -- a native front that counts by itself -----------------------------------------------------


def test_counts_of_a_native_front_are_added() -> None:
    library = pytest.importorskip("pygrpc_native")
    front = library.NativeGrpcFront("127.0.0.1:0", [("/a.B/GetRecord", False)], metrics=True)
    native = front.metrics()
    front.close()
    bounds = native["bounds"]
    # Ours must be among its own, else its counts would be moved to a coarser bucket.
    assert set(FAMILIES["featureline_call_seconds"].buckets) <= set(bounds)
    buckets = [0] * (len(bounds) + 1)
    buckets[bounds.index(0.0003)] = 5
    buckets[-1] = 1
    ended = {"count": 6, "sum": 200.0, "buckets": buckets}
    native["methods"] = {"/a.B/GetRecord": {"started": 6, "status": {5: ended}}}
    metrics = Metrics()
    metrics.answered("GetRecord", "NOT_FOUND", 0.002)
    metrics.add_native(lambda: native)
    samples = on_page(metrics.snapshot())
    assert value(samples, "calls_total", method="GetRecord", status="NOT_FOUND") == 7
    assert value(samples, "call_seconds_bucket", method="GetRecord", le="0.0003") == 5
    assert value(samples, "call_seconds_bucket", method="GetRecord", le="0.002") == 6
    assert value(samples, "call_seconds_count", method="GetRecord") == 7
    assert on_page(metrics.snapshot()) == samples  # reading does not add up


# -- slow calls -------------------------------------------------------------------------------


def test_slow_calls_are_logged_a_few_at_a_time_and_all_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics(slow_s=0.5)
    with caplog.at_level(logging.WARNING, "featurestore.server.calls"):
        metrics.answered("GetRecord", "OK", 0.49)
        for _ in range(1_000):
            metrics.answered("PutRecord", "OK", 1.25)
    assert len(caplog.records) == 5
    assert caplog.records[0].getMessage() == "slow call: PutRecord took 1250 ms (OK)"
    samples = on_page(metrics.snapshot())
    assert value(samples, "slow_calls_total", method="PutRecord") == 1_000
    assert value(samples, "slow_calls_total", method="GetRecord") is None


def test_a_flood_is_let_through_again_with_the_count_of_what_was_held() -> None:
    now = 0.0
    flood = Flood(burst=2, window_s=10, clock=lambda: now)
    assert [flood.admit("a") for _ in range(5)] == [0, 0, None, None, None]
    assert flood.admit("b") == 0
    now = 10.0
    assert [flood.admit("a"), flood.admit("a"), flood.admit("a")] == [3, 0, None]
    assert flood.held() == {"a": 1}
    assert flood.held() == {}


def test_a_flood_of_ever_new_kinds_takes_bounded_memory() -> None:
    flood = Flood(clock=lambda: 0.0)
    for number in range(5_000):
        flood.admit(number)
    assert len(flood._kinds) <= 1_000


# -- several workers --------------------------------------------------------------------------


def test_counts_of_all_workers_are_summed_and_gauges_of_the_living() -> None:
    living, dead = Metrics(front="native"), Metrics(front="native")
    for metrics, depth in ((living, 3), (dead, 100)):
        metrics.answered("PutRecord", "OK", 0.002, count=10)
        metrics.queue(depth)
        metrics.gauge("featureline_online_records", depth)
    samples = on_page(living.snapshot(), stale(dead.snapshot()))
    assert value(samples, "calls_total", method="PutRecord", status="OK") == 20
    assert value(samples, "call_seconds_count", method="PutRecord") == 20
    assert value(samples, "queue_depth") == 3
    assert value(samples, "workers") == 1
    both = on_page(living.snapshot(), dead.snapshot())
    assert value(both, "queue_depth") == 103
    # What is of the store they share is not summed: the newest look counts.
    assert value(both, "online_records") == 100
    assert value(both, "info", front="native", version="") == 2
    start = living.snapshot().numbers["featureline_start_time_seconds"][()]
    assert value(both, "start_time_seconds") == start


def test_snapshots_go_through_files(tmp_path: Path) -> None:
    reports = Reports.begin(tmp_path / "run")
    metrics = Metrics(front="grpc")
    metrics.answered("GetRecord", "OK", 0.001)
    metrics.batch("read", 4)
    for pid in (11, 12, 13):
        reports.write(replace(metrics.snapshot(checks={"disk": "full"}), pid=pid))
    read = reports.read()
    assert [snapshot.pid for snapshot in read] == [11, 12, 13]
    assert all(snapshot.checks == {"disk": "full"} for snapshot in read)
    assert {snapshot.run for snapshot in read} == {reports.run}
    samples = on_page(*read)
    assert value(samples, "calls_total", method="GetRecord", status="OK") == 3
    assert value(samples, "ready", check="disk") == 0

    metrics.answered("GetRecord", "OK", 0.001)
    reports.write(replace(metrics.snapshot(), pid=12))
    assert value(on_page(*reports.read()), "calls_total", method="GetRecord", status="OK") == 4
    reports.end()
    assert reports.read() == []


def test_runs_do_not_see_each_other_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = run / f"metrics-{ended.pid}-abc-1.json"
    one = Reports.begin(run)
    left.write_text("{}")
    other = Reports.begin(run)
    assert not left.exists()
    metrics = Metrics()
    one.write(metrics.snapshot())
    assert len(one.read()) == 1
    assert other.read() == []
    assert len(Reports.begin(run).read()) == 0
    assert len(one.read()) == 1  # its process lives: its files stay


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    reports = Reports.begin(tmp_path / "run")
    reports.write(Metrics().snapshot())
    for pid, text in ((1, "{"), (2, '{"form": 99}'), (3, "[]")):
        (tmp_path / "run" / f"metrics-{reports.run}-{pid}.json").write_text(text)
    assert len(reports.read()) == 1


WORKER = """
import sys, time
from pathlib import Path
from featurestore.embedded import open_store
from featurestore.server.metrics import Metrics
from featurestore.server.monitor import Monitor
from featurestore.server.snapshot import Reports
home, run, calls = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with open_store(home) as store:
    metrics = Metrics(front="grpc")
    metrics.answered("PutRecord", "OK", 0.003, count=calls)
    monitor = Monitor(metrics, store, reports=Reports(home / "run", run))
    monitor.start()
    print("told", flush=True)
    sys.stdin.readline()
"""


def start_worker(home: Path, run: str, calls: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(home), run, str(calls)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "told\n"
    return process


def test_a_worker_that_is_killed_stays_in_the_sums(
    tmp_path: Path, start_probe: Callable[..., Probe]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    reports = Reports.begin(home / "run")
    probe = start_probe(reports.read, workers=2)
    assert get(probe, "/readyz")[0] == 503  # nobody serves yet
    workers = [start_worker(home, reports.run, calls) for calls in (1_000, 500)]
    try:
        time.sleep(0.3)  # past the page's own memory
        samples = parsed(get(probe, "/metrics")[1])
        assert value(samples, "calls_total", method="PutRecord", status="OK") == 1_500
        assert value(samples, "workers") == 2
        for worker in workers:
            resident = value(samples, "worker_resident_bytes", worker=str(worker.pid))
            assert resident is None or resident > 10 << 20
        workers[0].kill()
        workers[0].communicate()
        workers.append(start_worker(home, reports.run, 7))
        time.sleep(STALE_S + 1)
        samples = parsed(get(probe, "/metrics")[1])
        assert value(samples, "calls_total", method="PutRecord", status="OK") == 1_507
        assert value(samples, "workers") == 2
        status, body, _ = get(probe, "/readyz")
        assert (status, json.loads(body)["checks"]["workers"]["detail"]) == (200, "2 of 2 report")
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


# -- what waits, and the stores ---------------------------------------------------------------


def test_the_outbox_is_measured_in_records_and_seconds(
    store: EmbeddedStore, weather: FeatureGroup, reading: Callable[..., dict[str, object]]
) -> None:
    for name in ("weather", "idle"):
        store.create_feature_group(replace(weather, name=name))
    for hour in (1, 2, 3):
        store.put("weather", reading(hour=hour))
    later = featurestore.record.now_us() + 90_000_000
    metrics = Metrics()
    monitor = Monitor(metrics, store, now_us=lambda: later)
    monitor.look_at_store()
    samples = on_page(metrics.snapshot())
    assert value(samples, "outbox_records") == 3
    assert value(samples, "outbox_group_records", group="weather") == 3
    assert value(samples, "outbox_group_records", group="idle") == 0
    lag = value(samples, "outbox_lag_seconds", group="weather")
    assert lag is not None
    assert 90 <= lag < 150
    assert value(samples, "outbox_lag_seconds", group="idle") == 0

    store.flush("weather")
    store.delete_feature_group("idle")
    monitor.look_at_store()
    samples = on_page(metrics.snapshot())
    assert value(samples, "outbox_records") == 0
    assert value(samples, "outbox_lag_seconds", group="weather") == 0
    assert value(samples, "outbox_group_records", group="idle") is None


def test_a_large_outbox_is_counted_without_walking_it(
    store: EmbeddedStore, weather: FeatureGroup, reading: Callable[..., dict[str, object]]
) -> None:
    for name in ("weather", "other"):
        store.create_feature_group(replace(weather, name=name))
    rows = COUNTED + 1_000
    table = pa.table(
        {
            "origin": [str(number) for number in range(rows)],
            "hour": ["2013-01-01T06:00:00Z"] * rows,
            "temp": [1.0] * rows,
        }
    )
    store.put_table("weather", table)
    store.put("other", reading())
    weather_number = store.registry.get("weather").number
    assert store.online.outbox.pending(weather_number, limit=100) == 100
    assert store.online.outbox.pending(weather_number) == rows
    metrics = Metrics()
    Monitor(metrics, store).look_at_store()
    samples = on_page(metrics.snapshot())
    assert value(samples, "outbox_records") == rows + 1
    assert value(samples, "outbox_group_records", group="weather") == rows
    assert value(samples, "outbox_group_records", group="other") == 1


def test_sizes_of_the_online_store_and_of_the_process(
    store: EmbeddedStore, weather: FeatureGroup, reading: Callable[..., dict[str, object]]
) -> None:
    store.create_feature_group(weather)
    store.put("weather", reading())
    metrics = Metrics()
    monitor = Monitor(metrics, store)
    monitor.start()
    monitor.stop()
    samples = on_page(monitor.snapshot())
    assert value(samples, "online_records") == 1
    used, file, limit = (
        value(samples, name)
        for name in ("online_used_bytes", "online_file_bytes", "online_limit_bytes")
    )
    assert used is not None
    assert file is not None
    assert limit is not None
    assert 0 < used <= file <= limit
    data = store.home / "online" / "data.mdb"
    assert file == pytest.approx(data.stat().st_size, rel=0.5)
    readers = value(samples, "online_readers")
    assert readers is not None
    assert readers >= 1
    free = value(samples, "disk_free_bytes")
    assert free is not None
    assert free > 0
    cpu = value(samples, "worker_cpu_seconds_total", worker=str(os.getpid()))
    assert cpu is not None
    assert cpu > 0


# -- readiness --------------------------------------------------------------------------------


def test_a_store_that_works_is_ready(
    store: EmbeddedStore, start_probe: Callable[..., Probe]
) -> None:
    monitor = Monitor(Metrics(), store)
    monitor.start()
    probe = start_probe(lambda: [monitor.snapshot()])
    status, body, content_type = get(probe, "/readyz")
    found = json.loads(body)
    assert (status, found["ready"], content_type) == (200, True, "application/json")
    assert set(found["checks"]) == {"draining", "workers", "online", "registry", "disk"}
    assert all(check["ok"] for check in found["checks"].values())
    assert value(parsed(get(probe, "/metrics")[1]), "ready", check="online") == 1

    probe.drain()
    status, body, _ = get(probe, "/readyz")
    assert status == 503
    assert json.loads(body)["checks"]["draining"] == {
        "ok": False,
        "detail": "the server is shutting down",
    }
    assert get(probe, "/healthz")[0] == 200
    assert get(probe, "/metrics")[0] == 200
    monitor.stop()


def test_a_disk_that_is_nearly_full_is_not_ready(store: EmbeddedStore) -> None:
    checks = Monitor(Metrics(), store, min_free_bytes=1 << 60).check()
    assert "bytes free, expected at least 1,152,921,504,606,846,976: free space" in checks["disk"]
    assert checks["registry"] == ""
    found = readiness([Metrics().snapshot(checks=checks)])
    assert found["ready"] is False
    assert found["checks"]["disk"]["detail"] == checks["disk"]


def test_an_online_store_near_its_limit_is_not_ready(
    tmp_path: Path, weather: FeatureGroup, reading: Callable[..., dict[str, object]]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    small = LmdbStore(home / "online", map_bytes=2 << 20)
    with EmbeddedStore(home, online=small) as store:
        store.create_feature_group(weather)
        monitor = Monitor(Metrics(), store)
        assert monitor.check()["online"] == ""

        def fill() -> None:
            for start in range(0, 100_000, 20):
                store.batch_write(
                    [
                        Put("weather", reading(origin=str(number), note="x" * 1_000))
                        for number in range(start, start + 20)
                    ]
                )

        with pytest.raises(StoreFull):
            fill()
        assert "are left below its size limit of 2,097,152" in monitor.check()["online"]


def test_a_home_that_is_gone_is_not_ready(store: EmbeddedStore) -> None:
    monitor = Monitor(Metrics(), store)
    online = store.home / "online"
    online.rename(store.home / "moved")
    assert monitor.check()["online"] == f"the folder {online} is gone: restore a backup"
    (store.home / "moved").rename(online)
    assert monitor.check()["online"] == ""
    store.home.rename(store.home.with_name("elsewhere"))
    assert monitor.check()["disk"] == f"the home {store.home} is gone"
    store.home.with_name("elsewhere").rename(store.home)


READ_ONLY = """
import json, os, sys
from pathlib import Path
from featurestore.embedded import open_store
from featurestore.server.metrics import Metrics
from featurestore.server.monitor import Monitor
home = Path(sys.argv[1])
with open_store(home) as store:
    home.chmod(0o555)
    if os.geteuid() == 0:  # whom rights do not stop
        os.seteuid(65534)
    print(json.dumps(Monitor(Metrics(), store).check()))
    if os.getuid() == 0:
        os.seteuid(0)
    home.chmod(0o755)
"""


def test_a_home_that_cannot_be_written_is_not_ready() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        home.mkdir()
        ended = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(home)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        checks = json.loads(ended.stdout)
        assert checks["disk"] == f"the home {home} cannot be written"


def test_stores_that_do_not_answer_are_not_ready() -> None:
    hung = stale(Metrics().snapshot(checks={"online": ""}))
    found = readiness([hung], workers=2)
    assert found["ready"] is False
    assert found["workers"] == 0
    assert "no worker has looked at its stores for" in found["checks"]["workers"]["detail"]


def test_one_worker_with_a_problem_is_enough_to_be_told() -> None:
    good = Metrics().snapshot(checks={"disk": ""})
    bad = Metrics().snapshot(checks={"disk": "full"})
    for snapshots in ([good, bad], [bad, good]):
        assert readiness(snapshots)["checks"]["disk"] == {"ok": False, "detail": "full"}
        assert value(on_page(*snapshots), "ready", check="disk") == 0


# -- the listener -----------------------------------------------------------------------------


def test_other_pages_and_heads(start_probe: Callable[..., Probe]) -> None:
    probe = start_probe(lambda: [Metrics().snapshot()])
    status, body, _ = get(probe, "/")
    assert (status, body) == (404, "no such page: expected /metrics, /healthz or /readyz\n")
    status, body, content_type = get(probe, "/metrics?x=1")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    connection = http.client.HTTPConnection("127.0.0.1", probe.port, timeout=10)
    connection.request("HEAD", "/metrics")
    reply = connection.getresponse()
    assert reply.read() == b""
    assert int(reply.headers["Content-Length"]) > 0
    connection.close()
    assert json.loads(get(probe, "/healthz")[1])["alive"] is True
    assert get(probe, "/metrics", Accept="application/openmetrics-text")[2].startswith(
        "application/openmetrics-text"
    )


def test_a_page_that_fails_says_so_and_the_next_is_answered(
    start_probe: Callable[..., Probe], caplog: pytest.LogCaptureFixture
) -> None:
    broken = [True]

    def read() -> list[Snapshot]:
        if broken:
            broken.pop()
            raise OSError("the folder is gone")
        return [Metrics().snapshot()]

    probe = start_probe(read)
    assert get(probe, "/metrics")[0] == 500
    assert "the folder is gone" in caplog.text
    assert get(probe, "/metrics")[0] == 200


def test_callers_that_say_nothing_do_not_keep_others_out(
    start_probe: Callable[..., Probe],
) -> None:
    probe = start_probe(lambda: [Metrics().snapshot()])
    silent = [socket.create_connection(("127.0.0.1", probe.port)) for _ in range(8)]
    try:
        assert get(probe, "/healthz")[0] == 200  # after their time is over
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("address", ["9464", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(StoreUnavailable, match="--metrics: expected HOST:PORT with a port from 0"):
        Probe(address, list)


def test_an_address_that_is_taken_is_refused(start_probe: Callable[..., Probe]) -> None:
    probe = start_probe(list)
    with pytest.raises(
        StoreUnavailable,
        match=f"--metrics: cannot listen on 127.0.0.1:{probe.port}: Address already in use; choose",
    ):
        Probe(f"127.0.0.1:{probe.port}", list)
    with pytest.raises(StoreUnavailable, match=r"--metrics: cannot listen on no\.such\.host\.x:1"):
        Probe("no.such.host.x:1", list)


def test_a_stopped_listener_gives_its_port_back() -> None:
    probe = Probe("127.0.0.1:0", list)
    probe.start()
    probe.stop()
    probe.stop()
    again = Probe(f"127.0.0.1:{probe.port}", list)
    again.stop()


# -- a server ---------------------------------------------------------------------------------


class Observed:
    """A server with all that looks at it."""

    def __init__(self, loop: Any, home: Path, front: str) -> None:
        self._loop = loop
        self.store = open_store(home)
        self.metrics = Metrics(front=front, version="1")

        async def start() -> Server:
            made = Server(self.store, "127.0.0.1:0", front=front, metrics=self.metrics)
            await made.start()
            return made

        self._server: Server = loop.run(start())
        self.address = self._server.address
        self.monitor = Monitor(self.metrics, self.store)
        self.monitor.start()
        self.probe = Probe("127.0.0.1:0", lambda: [self.monitor.snapshot()], home=home)
        self.probe.start()

    def page(self) -> Samples:
        time.sleep(0.25)  # past the page's own memory
        return parsed(get(self.probe, "/metrics")[1])

    def stop(self) -> None:
        self.probe.drain()
        self._loop.run(self._server.stop(1.0))
        self.monitor.stop()
        self.probe.stop()
        self.store.close()


@pytest.fixture
def observed(loop: Any, front: str, tmp_path: Path) -> Iterator[Observed]:
    server = Observed(loop, tmp_path / "served", front)
    yield server
    server.stop()


def test_a_server_counts_what_its_clients_do(
    observed: Observed, weather: FeatureGroup, reading: Callable[..., dict[str, object]], front: str
) -> None:
    with featurestore.connect(observed.address) as client:
        client.create_feature_group(weather)
        for hour in range(1, 11):
            client.put("weather", reading(hour=hour))
        for _ in range(20):
            client.get("weather", "JFK")
        with pytest.raises(featurestore.FeatureGroupNotFound):
            client.get("nowhere", "JFK")
    samples = observed.page()
    assert value(samples, "calls_total", method="PutRecord", status="OK") == 10
    assert value(samples, "calls_total", method="GetRecord", status="OK") == 20
    assert value(samples, "calls_total", method="GetRecord", status="NOT_FOUND") == 1
    assert value(samples, "calls_total", method="CreateFeatureGroup", status="OK") == 1
    assert value(samples, "call_seconds_count", method="GetRecord") == 21
    assert value(samples, "commit_writes_sum") == 10
    assert value(samples, "batch_calls_sum", kind="read") == 21
    assert value(samples, "info", front=front, version="1") == 1
    seconds = value(samples, "call_seconds_sum", method="PutRecord")
    assert seconds is not None
    assert 0 < seconds < 10


def test_waiting_on_an_event_loop_does_not_need_the_listener(observed: Observed) -> None:
    async def busy() -> None:
        time.sleep(0.4)  # what a page must not wait for
        await asyncio.sleep(0)

    work = threading.Thread(target=lambda: observed._loop.run(busy()))
    work.start()
    began = time.monotonic()
    assert get(observed.probe, "/healthz")[0] == 200
    assert time.monotonic() - began < 0.35
    work.join()


# -- documentation ----------------------------------------------------------------------------


def test_the_documentation_has_the_table_of_all_metrics() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in text, "run `make docs`"


def test_names_follow_prometheus() -> None:
    for family in FAMILIES.values():
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER), family.name
        assert bool(family.buckets) == (family.kind is Kind.HISTOGRAM), family.name
        assert list(family.buckets) == sorted(set(family.buckets))
        assert family.meaning.endswith("."), family.name
        assert "|" not in family.meaning + family.alert
