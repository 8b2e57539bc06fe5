"""Servers over Redis as processes: killed while they write, raced, and silent on secrets."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import FeatureGroup, StoreUnavailable, eventtime, feature_definitions
from featurestore.online import RedisStore
from featurestore.server import native_is_available

pytestmark = pytest.mark.timeout(120)

START_US = eventtime.parse_iso("2024-01-01T00:00:00Z")
KILLS = 2
SECRET = "sesame-4711"
GROUP = FeatureGroup(
    "readings",
    record_identifier="id",
    event_time="at",
    features=feature_definitions([("id", "String"), ("at", "String"), ("n", "Integral")]),
)


def record(identifier: str, number: int) -> dict[str, object]:
    return {"id": identifier, "at": eventtime.format_iso(START_US + number), "n": number}


@pytest.mark.parametrize(("front", "workers"), [("grpc", 1), ("native", 2)])
def test_acknowledged_records_outlive_kills_of_the_server(
    serve, tmp_path, redis_url, front, workers
):
    if front == "native" and not native_is_available():
        pytest.skip("the extra `fast` is not installed")
    home = tmp_path / "home"
    with featurestore.open(home, online=redis_url()) as store:
        assert isinstance(store.online, RedisStore)
        store.create_feature_group(GROUP)
    clients = 4
    told: list[set[int]] = [set() for _ in range(clients)]
    sent = [0] * clients
    failures: list[BaseException] = []
    chance = random.Random(workers)

    def put(client: int, address: str) -> None:
        # Each has a connection of its own, and so some worker: all of them race on one identifier,
        # with event times that come out of order.
        try:
            with featurestore.connect(address) as store:
                while True:
                    number = clients * sent[client] + client
                    sent[client] += 1
                    store.put("readings", record("hot", number ^ 64))
                    told[client].add(number ^ 64)
        except StoreUnavailable:
            return
        except BaseException as error:
            failures.append(error)
            raise

    server = serve(home, "--front", front, "--workers", str(workers), "--flush-seconds", "0.1")
    for _ in range(KILLS):
        server.start()
        before = sum(map(len, told))
        threads = [
            threading.Thread(target=put, args=(client, server.address)) for client in range(clients)
        ]
        for thread in threads:
            thread.start()
        while sum(map(len, told)) == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.1, 0.4))
        server.kill()
        for thread in threads:
            thread.join()
        assert not failures

    acknowledged = set().union(*told)
    possible = {(clients * n + c) ^ 64 for c in range(clients) for n in range(sent[c])}
    with featurestore.open(home) as store:
        newest = store.get("readings", "hot")["n"]
        store.flush("readings")
        assert store.verify("readings").equal
        table = DeltaTable(store.offline_uri("readings")).to_pyarrow_table()
    rows = Counter(table["n"].to_pylist())
    assert set(rows.values()) == {1}, "a record is offline more than once"
    assert acknowledged <= set(rows) <= possible
    assert newest == max(rows)


def test_a_server_tells_no_secret_and_is_not_ready_without_redis(
    serve, run, own_redis, tmp_path, monkeypatch
):
    redis = own_redis(requirepass=SECRET)
    url = f"redis://:{SECRET}@127.0.0.1:{redis.port}/0?timeout_s=2"
    home = tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setenv("FEATURELINE_ONLINE", url)
        server = serve(home, "--workers", "2", "--metrics", "127.0.0.1:0").start()
    with featurestore.connect(server.address) as client:
        client.create_feature_group(GROUP)
        client.put("readings", record("a", 1))
        assert is_ready(server, True)
        redis.kill()
        with pytest.raises(StoreUnavailable) as refusal:
            client.put("readings", record("a", 2))
        assert is_ready(server, False)
        away = run("get", "readings", "a", "--home", home, "--json")
        assert (away.code, "does not answer" in away.err) == (1, True)
        redis.start()
        assert is_ready(server, True)
        assert client.get("readings", "a")["n"] == 1
    processes = [server.pid, *children(server.pid)]
    assert len(processes) >= 3
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in processes]
    told = [*lines, json.dumps(server.ready), server.log(), str(refusal.value), away.out, away.err]
    assert not [text for text in told if SECRET in text]
    assert server.end(15)[0] == 0


def test_a_url_of_another_form_is_refused_without_its_password(command, tmp_path):
    for url in (f"redis://:{SECRET}@h:port", f"redis://:{SECRET}/x@h:1", f"ftp://:{SECRET}@h"):
        for arguments in (("serve", "--online", url), ("migrate", "--to", url)):
            ended = command(*arguments, "--home", tmp_path / "home")
            assert ended.code == 1
            assert "online store: expected" in ended.err
            assert SECRET not in ended.err + ended.out
    ended = command("migrate", "--to", "-", "--home", tmp_path, text=f"redis://:{SECRET}@h:port\n")
    assert (ended.code, "expected host:port" in ended.err, SECRET in ended.err) == (1, True, False)


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def is_ready(server, expected: bool) -> bool:
    """Whether the server's readiness comes to what is expected, within some seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{server.ready['metrics']}/readyz") as answer:
                ready = bool(json.load(answer)["ready"])
        except urllib.error.HTTPError as error:
            body = json.load(error)
            ready = bool(body["ready"])
            assert SECRET not in json.dumps(body)
        if ready == expected:
            return True
        time.sleep(0.05)
    return False
