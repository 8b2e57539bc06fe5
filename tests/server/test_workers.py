"""Several processes on one port over one home: one order for all, and one may fall."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import FeatureGroup, eventtime, feature_definitions
from featurestore.embedded import open_store
from tests.soak.server import ServerProcess

START_US = eventtime.parse_iso("2024-01-01T00:00:00Z")
CLIENTS = 6
GROUP = FeatureGroup(
    "race",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [
            ("id", "String"),
            ("at", "String"),
            ("by", "String"),
            *((f"n{i}", "Integral") for i in range(CLIENTS)),
        ]
    ),
)


@pytest.fixture(scope="module")
def workers(tmp_path_factory, front) -> Iterator[ServerProcess]:
    """Two workers over one home."""
    work = tmp_path_factory.mktemp("workers")
    with open_store(work / "home") as store:
        store.create_feature_group(GROUP)
    options = ("--front", front, "--workers", 2, "--flush-seconds", 0.1, "--grpc", "0.0.0.0:0")
    server = ServerProcess(work / "home", work / "server.log", *options)
    yield server
    if server.is_up:
        assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def clients(workers) -> Iterator[list[featurestore.FeatureStore]]:
    """Clients of which each worker has some."""
    opened: list[featurestore.FeatureStore] = []
    pids = workers.pids()[1:]
    assert len(pids) == 2
    before = [connections(pid) for pid in pids]
    while len(opened) < CLIENTS or any(
        connections(pid) == had for pid, had in zip(pids, before, strict=True)
    ):
        assert len(opened) < 60, "one worker gets no connection"
        opened.append(featurestore.connect(workers.address_for(len(opened))))
        opened[-1].get("race", "nobody")
    # The last one came to the worker that had none before.
    yield opened[-CLIENTS:]
    for client in opened:
        client.close()


def connections(pid: int) -> int:
    """Count the TCP connections that a process has."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return sum(row[3] == "01" and row[9] in sockets for row in rows)


def at_once(works: list[Callable[[], None]]) -> None:
    """Run all at the same time; raise what one of them raised."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def guarded(work: Callable[[], None]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:  # noqa: BLE001  # the thread's outermost frame
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_a_dataset_that_one_worker_keeps_every_worker_has(workers, clients, tmp_path):
    group = FeatureGroup("kept", "id", "at", GROUP.features)
    clients[0].create_feature_group(group)
    for number in range(20):
        at = eventtime.format_iso(START_US + number * 1_000_000)
        clients[number % CLIENTS].put("kept", {"id": "a", "at": at, "n0": number})
    spine = pa.table({"id": ["a"] * 40, "event_time": [at] * 40})

    made = clients[0].dataset(spine, ["kept[n0]"])
    path = made.save()

    for number, client in enumerate(clients):
        assert client.load_dataset(made.fingerprint) == made
        assert client.rebuild_dataset(made.fingerprint).fingerprint == made.fingerprint
        assert client.check_dataset(made).passed
        assert client.save_dataset(made) == path
        out = tmp_path / f"{number}.parquet"
        written = client.write_dataset(spine, ["kept[n0]"], out, memory_limit="64MB")
        assert written.fingerprint == made.fingerprint
        assert client.history("kept").read_all()["n0"].to_pylist() == list(range(20))
    assert {one.fingerprint for one in clients[-1].list_datasets()} == {made.fingerprint}
    clients[-1].maintain("kept", retention=dt.timedelta(0))
    assert clients[0].versions("kept")[0] == clients[1].versions("kept")[0]


def test_the_newest_event_time_wins_and_all_see_one_order(workers, clients):
    puts = 60
    done = threading.Event()
    finished = Counter()

    def writer(number: int) -> Callable[[], None]:
        chance = random.Random(number)
        # Equal event times, too: of these the later write counts.
        times = [chance.randrange(40) for _ in range(puts)]

        def work() -> None:
            for step, moment in enumerate(times):
                at = eventtime.format_iso(START_US + moment)
                clients[number].put("race", {"id": "one", "at": at, "by": f"{number}-{step}"})
            finished["writers"] += 1
            if finished["writers"] == CLIENTS:
                done.set()

        return work

    def reader(client: featurestore.FeatureStore) -> Callable[[], None]:
        def work() -> None:
            newest = ""
            while not done.wait(0.001):
                record = client.get("race", "one")
                if record is not None:
                    assert str(record["at"]) >= newest, "an older record came back"
                    newest = str(record["at"])

        return work

    at_once([*(writer(n) for n in range(CLIENTS)), *(reader(client) for client in clients)])

    final = [client.get("race", "one") for client in clients]
    assert final == [final[0]] * len(clients), "the workers do not agree"
    with open_store(workers.home) as store:
        store.flush()
        assert store.verify("race").equal
        table = DeltaTable(store.offline_uri("race")).to_pyarrow_table().to_pylist()
    rows = [row for row in table if row["id"] == "one"]
    assert len(rows) == CLIENTS * puts, "each put is in the history once"
    newest = max(rows, key=lambda row: (row["_event_time"], row["_sequence"]))
    assert newest["by"] == final[0]["by"], "online and history disagree on who was last"


def test_partial_updates_lose_no_field(clients):
    updates = 30
    clients[0].put("race", {"id": "shared", "at": "2024-01-01T00:00:00Z"})

    def updater(number: int) -> Callable[[], None]:
        def work() -> None:
            for step in range(1, updates + 1):
                clients[number].update("race", "shared", {f"n{number}": step})

        return work

    at_once([updater(n) for n in range(CLIENTS)])

    for client in clients:
        record = client.get("race", "shared")
        assert [record[f"n{n}"] for n in range(CLIENTS)] == [updates] * CLIENTS


def test_the_port_goes_on_serving_when_one_worker_is_killed(workers):
    before = workers.pids()[1:]
    with featurestore.connect(workers.address_for(0)) as client:
        client.put("race", {"id": "kept", "at": "2024-01-01T00:00:00Z", "by": "before"})
    acknowledged = []

    workers.kill_one(0)
    began = time.monotonic()
    cut = 0
    while len(acknowledged) < 30:
        assert time.monotonic() - began < 15, "the port serves no more"
        address = workers.address_for(len(acknowledged) + cut)
        with featurestore.connect(address, timeout_s=5) as client:
            at = eventtime.format_iso(START_US + len(acknowledged))
            try:
                assert client.get("race", "kept") is not None
                client.put("race", {"id": "kept", "at": at, "by": f"{len(acknowledged)}"})
            except featurestore.StoreUnavailable:
                cut += 1  # this connection was to the one that fell
                continue
            acknowledged.append(f"{len(acknowledged)}")
            assert client.get("race", "kept")["by"] == acknowledged[-1]
    assert cut < 5

    until = time.monotonic() + 15
    while len(workers.pids()) < 3:
        assert time.monotonic() < until, "no new worker takes its place"
        time.sleep(0.05)
    assert set(workers.pids()[1:]) & set(before), "the others were to stay"
