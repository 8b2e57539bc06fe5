"""`featureline migrate` while a server takes puts: it refuses afterwards, and nothing is lost."""

from __future__ import annotations

import threading
import time

import pytest

import featurestore
from featurestore import FeatureGroup, StoreUnavailable, eventtime, feature_definitions

pytestmark = pytest.mark.timeout(120)

START_US = eventtime.parse_iso("2024-01-01T00:00:00Z")
GROUP = FeatureGroup(
    "readings",
    record_identifier="id",
    event_time="at",
    features=feature_definitions([("id", "String"), ("at", "String"), ("n", "Integral")]),
)


def record(number: int) -> dict[str, object]:
    return {"id": f"k{number % 40}", "at": eventtime.format_iso(START_US + number), "n": number}


def test_a_server_migrates_and_is_started_again(serve, run, tmp_path, redis_url):
    home = tmp_path / "home"
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
    server = serve(home).start()
    told: list[int] = []
    refusals: list[StoreUnavailable] = []

    def put(address: str) -> None:
        with featurestore.connect(address) as client:
            for number in range(len(told), 10**6):
                try:
                    client.put("readings", record(number))
                except StoreUnavailable as error:
                    refusals.append(error)
                    return
                told.append(number)

    putting = threading.Thread(target=put, args=(server.address,))
    putting.start()
    time.sleep(0.5)
    assert told
    url = redis_url()
    ended = run("migrate", "--home", home, "--to", url, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["migrated"] is True
    assert ended.json["held_s"] < 5
    putting.join(timeout=60)
    (refusal,) = refusals
    assert "has migrated to redis://127.0.0.1" in str(refusal)
    assert "restart this process" in str(refusal)
    with featurestore.connect(server.address) as client, pytest.raises(StoreUnavailable):
        client.get("readings", "k1")
    server.end(15)

    server.start()
    with featurestore.connect(server.address) as client:
        number = told[-1] + 1
        client.put("readings", record(number))
        told.append(number)
        for newest in told[-40:]:
            assert client.get("readings", f"k{newest % 40}")["n"] == newest
        report = client.verify("readings")
    assert (report.equal, report.online) == (True, 40)
    again = run("migrate", "--home", home, "--to", url)
    assert (again.code, "migrated to redis://" in again.out) == (0, True)
    other = run("migrate", "--home", home, "--to", redis_url())
    assert (other.code, "only a store in LMDB can be migrated" in other.err) == (1, True)


def test_usage(command, tmp_path):
    for arguments in (
        (),
        ("--to", "redis://h:1", "--abort"),
        ("--to", "redis://h:1", "--connect", "h:1"),
        ("--to", "redis://h:1", "--from", "redis"),
    ):
        assert command("migrate", *arguments).code == 2
    ended = command("migrate", "--home", tmp_path, "--to", "redis://h:1")
    assert (ended.code, "expected an online store in LMDB" in ended.err) == (1, True)
