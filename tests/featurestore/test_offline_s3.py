"""Offline tables on an S3 server: the same promises, through outages and beside other writers.

`FEATURELINE_TEST_S3` names a running server on this machine (`http://127.0.0.1:9000`); otherwise
`moto_server` is started. All traffic goes through a relay that a test can cut.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from featurestore import InvalidFeatureGroup, Overloaded, StoreUnavailable
from featurestore.offline import DeltaOfflineTable, Flushed
from featurestore.offline.cache import FileCache
from featurestore.offline.delta import environment_options

BUCKET = "features"


class Relay:
    """A port that leads to the S3 server, until it is cut."""

    def __init__(self, run_python: Callable[..., subprocess.Popen[str]], target: int) -> None:
        self._run_python = run_python
        self._target = target
        self.port = _free_port()
        self._process: subprocess.Popen[str] | None = None

    def mend(self, *, hold: str = "") -> None:
        """Let it lead there, except for requests that hold a text."""
        program = str(Path(__file__).with_name("relay.py"))
        self._process = self._run_python([program, str(self.port), str(self._target), hold])
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def wait_until_held(self) -> None:
        """Return when a request is held."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """An S3 server's address, with the bucket."""
    url = os.environ.get("FEATURELINE_TEST_S3")
    process = None
    if url is None:
        if importlib.util.find_spec("moto") is None:
            if os.environ.get("CI") == "true":
                pytest.fail("moto is not installed; pip install 'moto[server]'")
            pytest.skip("moto[server] is not installed")
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
        with log:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
        with contextlib.suppress(urllib.error.HTTPError):  # it is there
            urllib.request.urlopen(request, timeout=10).close()
        yield url
    finally:
        if process is not None:
            process.kill()
            process.wait()


@pytest.fixture
def relay(server, run_python, monkeypatch) -> Iterator[Relay]:
    """The way to the server; `AWS_*` lead over it."""
    made = Relay(run_python, int(urlsplit(server).port or 80))
    made.mend()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{made.port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_MAX_RETRIES": "1",
        "AWS_RETRY_TIMEOUT": "1s",
        "AWS_CONNECT_TIMEOUT": "2s",
    }.items():
        monkeypatch.setenv(name, value)
    yield made
    made.cut()


@pytest.fixture
def place(relay) -> str:
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def remote(make_store, readings, place):
    """A store whose group `readings` has its offline table on the S3 server."""
    made = make_store()
    made.create_feature_group(readings.with_offline_place(place))
    return made


def counts(store) -> list[int]:
    return store.history("readings").read_all()["count"].to_pylist()


def test_the_path_of_a_record_over_s3(remote, place, reading, at):
    for number in range(4):
        remote.put("readings", reading("JFK", number, count=number))
        remote.flush()
    assert remote.offline_uri("readings").startswith(f"{place}/readings-")
    assert counts(remote) == list(range(4))
    assert remote.verify("readings").equal
    spine = pa.table({"station": ["JFK"], "event_time": [at(3)]})
    before = remote.dataset(spine, ["readings[count]"])
    assert before.table["count"].to_pylist() == [3]

    report = remote.maintain("readings", retention=dt.timedelta(0))
    assert (report.files_before, report.files_after, report.files_removed) == (4, 1, 4)
    assert "OPTIMIZE" in {version.operation for version in remote.versions("readings")}
    assert remote.dataset(spine, ["readings[count]"]).fingerprint == before.fingerprint
    remote.put("readings", reading("JFK", 9, count=9))
    assert remote.flush()["readings"].records == 1
    newest = remote.versions("readings")
    assert newest[0].is_readable
    assert not newest[-1].is_readable
    remote.restore("readings", newest[1].version)
    assert counts(remote) == list(range(4))
    assert not (remote.home / "offline").exists()


def test_a_kept_table_over_s3(remote, reading, run_python):
    def put(*numbers: int) -> None:
        for number in numbers:
            remote.put("readings", reading("JFK", number, count=number))

    put(0)
    remote.flush()
    put(1)
    other = run_python(["-c", FLUSH_ONCE, str(remote.home)])
    other.communicate(timeout=60)
    assert other.returncode == 0
    put(2)
    assert remote.flush()["readings"] == Flushed(1, 2)
    assert counts(remote) == [0, 1, 2]
    # Another table in its place, as far as this one was.
    table = remote.offline_table(remote.registry.get("readings"))
    rows = pq.read_table(table.scan().files[0])
    table.folder().delete_dir_contents("", accept_root_dir=True)
    for _ in range(3):
        write_deltalake(table.uri, rows, mode="append", storage_options=table.storage_options)
    assert table.version() == 2
    assert table.last_sequence(f"featureline:{remote.online.store_id}") == 0
    table.folder().delete_dir_contents("", accept_root_dir=True)
    assert table.version() is None


def test_an_erasure_over_s3(remote, place, reading, at):
    for number in range(3):
        remote.put("readings", reading("zoe-7f3d", number, count=number))
        remote.put("readings", reading("JFK", number, count=number))
        remote.flush()
    spine = pa.table({"station": ["JFK"], "event_time": [at(3)]})
    before = remote.dataset(spine, ["readings[count]"])  # fills the cache
    table = remote.offline_table(remote.registry.get("readings"))
    table.open().create_checkpoint()
    report = remote.erase("readings", "zoe-7f3d")
    assert report.rows == 3
    assert len(report.document["offline"]["files_deleted"]) == 3
    assert report.document["offline"]["versions_lost"] == [[0, 2]]
    system = table.folder()
    for info in system.get_file_info(pa_fs.FileSelector("", recursive=True)):
        if info.is_file:
            with system.open_input_stream(info.path) as file:
                data = file.read()
            if info.path.endswith(".parquet"):
                data += repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
            assert b"zoe-7f3d" not in data, info.path
    cached = {path.name for path in (remote.home / "cache").rglob("*.parquet")}
    deleted = {path.rpartition("/")[2] for path in report.document["offline"]["files_deleted"]}
    assert not cached & deleted
    assert remote.verify("readings").equal
    assert remote.dataset(spine, ["readings[count]"]).fingerprint == before.fingerprint


def test_a_load_over_s3(remote, relay, at):
    rows = {
        "station": [f"s{n % 3}" for n in range(40)],
        "time": [at(n * 5_000 - 150_000) for n in range(40)],
        "count": list(range(40)),
    }
    relay.cut()
    with pytest.raises(StoreUnavailable):
        remote.load("readings", rows, key="k")
    relay.mend()
    assert remote.load("readings", rows, key="k").already is False
    assert remote.load("readings", rows, key="k").already
    assert sorted(counts(remote)) == list(range(40))
    assert remote.verify("readings").equal
    remote.load("readings", rows, key="again")
    assert remote.rebuild_online("readings").written == 3
    assert remote.maintain("readings", retention=dt.timedelta(0)).files_removed >= 0
    assert len(counts(remote)) == 80
    assert remote.verify("readings").equal


def test_a_login_is_stored_nowhere(remote, reading):
    remote.put("readings", reading("JFK", 1))
    remote.flush()
    for path in remote.home.rglob("*"):
        if path.is_file():
            assert b"very-secret" not in path.read_bytes(), path


def test_an_outage_in_the_middle(remote, relay, reading):
    remote.put("readings", reading("JFK", 0, count=0))
    remote.flush()
    relay.cut()
    for number in (1, 2):
        remote.put("readings", reading("JFK", number, count=number))
        with pytest.raises(StoreUnavailable, match="the records wait in the outbox"):
            remote.flush()
    assert remote.online.outbox.pending() == 2
    relay.mend()
    assert remote.flush()["readings"].records == 2
    assert counts(remote) == [0, 1, 2]
    assert remote.verify("readings").equal


def test_an_outage_between_the_files_and_the_commit(remote, relay, run_python, reading):
    for number in range(3):
        remote.put("readings", reading("JFK", number, count=number))
    remote.flush()
    assert remote.online.outbox.pending() == 0
    files = len(remote.offline_table(remote.registry.get("readings")).present())
    for number in range(3, 6):
        remote.put("readings", reading("JFK", number, count=number))
    relay.cut()
    uri = remote.offline_uri("readings").removeprefix("s3://")
    relay.mend(hold=f"PUT /{uri}/_delta_log/00000000000000000001.json")
    flusher = run_python(["-c", FLUSH_ONCE, str(remote.home)])
    relay.wait_until_held()
    os.kill(flusher.pid, signal.SIGKILL)
    flusher.communicate()
    relay.cut()
    relay.mend()
    table = remote.offline_table(remote.registry.get("readings"))
    assert len(table.present()) == files + 1, "the files were there, and nothing of them counts"
    assert table.version() == 0
    assert remote.online.outbox.pending() == 3
    assert remote.flush()["readings"].records == 3
    assert counts(remote) == list(range(6))
    assert remote.verify("readings").equal


def test_an_outage_while_the_outbox_fills_up(remote, relay, reading, monkeypatch):
    monkeypatch.setattr("featurestore.online.bound._LOOK_S", 0.0)
    remote.limit_outbox(records=5)
    remote.put("readings", reading("JFK", 0, count=0))
    remote.flush()
    relay.cut()
    for number in range(1, 6):
        remote.put("readings", reading("JFK", number, count=number))
        if number == 3:
            with pytest.raises(StoreUnavailable, match="the records wait in the outbox"):
                remote.flush()
    with pytest.raises(Overloaded, match="5 records wait for the offline store"):
        remote.put("readings", reading("JFK", 6, count=6))
    assert remote.get("readings", "JFK")["count"] == 5, "nothing of what was refused was stored"
    remote.put("readings", reading("LGA", 6), stores=("OnlineStore",))
    relay.mend()
    assert remote.flush()["readings"].records == 5
    remote.put("readings", reading("JFK", 6, count=6))
    remote.flush()
    assert counts(remote) == list(range(7))


FLUSH_ONCE = """
import sys
import featurestore
with featurestore.open(sys.argv[1]) as store:
    store.flush("readings")
"""


def test_several_stores_write_one_table(relay, place, readings, reading, make_store, tmp_path):
    # Each has its own sequence in the table; commits meet, and none is lost.
    group = readings.with_offline_place(place)
    stores = [make_store(tmp_path / name) for name in "abc"]
    uri = f"{place}/shared"
    for store in stores:
        store.tables.uri = lambda entry: uri
        store.create_feature_group(group)

    def write(index: int) -> None:
        for number in range(3):
            stores[index].put("readings", reading(f"s{index}", number, count=10 * index + number))
            stores[index].flush()

    threads = [threading.Thread(target=write, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts(stores[0])) == sorted(10 * i + n for i in range(3) for n in range(3))


FLUSH = """
import sys
import featurestore
with featurestore.open(sys.argv[1]) as store:
    print("ready", flush=True)
    for number in range(100_000):
        minutes, second = divmod(number, 60)
        time = f"2024-01-01T00:{minutes:02d}:{second:02d}Z"
        store.put("readings", {"station": "JFK", "time": time, "count": number})
        print(number, flush=True)
        store.flush("readings")
"""


def test_a_kill_of_the_flusher(remote, run_python):
    flusher = run_python(["-c", FLUSH, str(remote.home)])
    assert flusher.stdout is not None
    assert flusher.stdout.readline() == "ready\n"
    told = [int(flusher.stdout.readline()) for _ in range(4)]
    time.sleep(0.1)
    os.kill(flusher.pid, signal.SIGKILL)
    told += [int(line) for line in flusher.stdout.read().split()]
    flusher.communicate()
    remote.flush()
    found = counts(remote)
    assert found == list(range(len(found))), "each is offline once"
    assert len(told) <= len(found) <= len(told) + 1


def test_a_home_places_the_tables_of_new_groups(make_store, readings, place, monkeypatch):
    monkeypatch.setenv("FEATURELINE_OFFLINE", place)
    with make_store() as store:
        made = store.create_feature_group(readings).to_json()
        assert made["OfflineStoreConfig"]["S3StorageConfig"] == {"S3Uri": place}
    monkeypatch.setenv("FEATURELINE_OFFLINE", "s3://elsewhere")
    with make_store() as store:
        assert store.offline_uri("readings").startswith(place)


# -- without a server -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["s3://", "http://bucket/x", "/srv", "s3://B", "s3://bucket/a b"])
def test_a_place_that_is_none(readings, place):
    with pytest.raises(InvalidFeatureGroup, match=r"S3Uri: expected s3://BUCKET/PREFIX"):
        readings.with_offline_place(place)


def test_options_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    options = environment_options("s3://bucket/x")
    assert options is not None
    assert (options["aws_conditional_put"], options["aws_region"]) == ("disabled", "eu-central-1")
    assert environment_options("/srv/home") is None


def test_the_cache_is_bounded_and_spares_what_is_in_use(tmp_path, store, reading):
    for number in range(4):
        store.put("readings", reading("JFK", number))
        store.flush()
    table = DeltaOfflineTable(store.offline_uri("readings"))
    names = table.names(table.open())
    folder = tmp_path / "cache"
    cache = FileCache(folder, size_bytes=1)
    paths = cache.fetch(table.uri, names[:3], None)
    assert [Path(path).read_bytes()[:4] for path in paths] == [b"PAR1"] * 3
    old = time.time() - 7200
    for path in paths:
        os.utime(path, (old, old))
    cache.fetch(table.uri, names[2:], None)
    assert [os.path.exists(path) for path in paths] == [False, False, True]
    assert not list(folder.rglob("*.part"))


def test_a_file_that_is_gone_is_not_cached(tmp_path, store, reading):
    store.put("readings", reading("JFK", 1))
    store.flush()
    with pytest.raises(FileNotFoundError):
        FileCache(tmp_path / "cache").fetch(store.offline_uri("readings"), ["a.parquet"], None)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
