"""A server whose online store is Redis: all verbs, shared round trips, and a Redis that goes."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import featurestore
from featurestore import Get, Put, StoreFull, StoreUnavailable
from featurestore.online import RedisStore, open_online
from featurestore.server.metrics import Metrics
from featurestore.server.monitor import Monitor
from featurestore.server.readpool import THREADS


@pytest.fixture
def serve_over(serving, front, tmp_path, weather):
    """Start a server with the group `weather` over a home whose online store is at a URL."""

    def start(url: str):
        home = tmp_path / "served-0"
        home.mkdir()
        open_online(home, url).close()
        started = serving(front)
        assert isinstance(started.store.online, RedisStore)
        started.store.create_feature_group(weather)
        return started

    return start


@pytest.fixture
def connect():
    opened = []

    def make(server, **options):
        opened.append(featurestore.connect(server.address, **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def number(server, section: str, field: str) -> int:
    """A figure of INFO."""
    found = re.search(rf"{field}[:=](?:calls=)?(\d+)", server.say("INFO", section).decode())
    return int(found[1]) if found else 0


def test_every_verb(serve_over, connect, redis_url, weather, reading):
    client = connect(serve_over(redis_url()))
    second = replace(weather, name="second")
    client.create_feature_group(second)
    client.put("weather", reading("JFK", 6, note="a"))
    client.put("weather", reading("JFK", 5, note="older"))
    entries = [Put("second", reading(name, 6)) for name in ("LGA", "EWR")]
    assert client.batch_write([*entries, Put("weather", reading("LGA", 7))]) == []
    client.update("weather", "JFK", {"hour": "2013-01-01T08:00:00Z", "wind": 9})
    assert client.get("weather", "JFK")["wind"] == 9
    assert client.get("weather", "JFK")["note"] == "a"
    found = client.batch_get(
        [Get("weather", ["JFK", "nobody"]), Get("second", ["EWR"], ("temp",)), Get("second", [])]
    )
    assert [(entry.group, entry.identifier) for entry in found] == [
        ("weather", "JFK"),
        ("second", "EWR"),
    ]
    assert found[1].record == {"temp": 39.0}
    client.delete("second", "LGA", event_time="2013-01-01T09:00:00Z")
    assert client.get("second", "LGA") is None
    assert list(client.records("second")) == ["EWR"]
    assert client.flush("weather")["weather"].records == 4
    assert client.verify("weather").equal
    client.delete_feature_group("second")
    assert client.get("weather", "LGA")["origin"] == "LGA"


def test_while_redis_does_not_answer_the_server_does_and_gets_share_round_trips(
    serve_over, connect, own_redis, reading
):
    redis = own_redis()
    server = serve_over(f"{redis.url}?timeout_s=30")
    client = connect(server)
    client.put("weather", reading())
    before = number(redis, "commandstats", "cmdstat_hmget")
    with ThreadPoolExecutor(64) as threads, grpc.insecure_channel(server.address) as channel:
        redis.pause()
        try:
            asked = [threads.submit(client.get, "weather", "JFK") for _ in range(64)]
            time.sleep(0.5)  # most have come in, and a few are with Redis
            assert not any(future.done() for future in asked)
            health = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=5
            )
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            assert client.describe("weather").group.name == "weather"
        finally:
            redis.resume()
        assert {future.result()["temp"] for future in asked} == {39.0}
    assert number(redis, "commandstats", "cmdstat_hmget") - before <= 32


def test_reads_whose_callers_went_away_are_not_done(serve_over, connect, own_redis, reading):
    redis = own_redis()
    server = serve_over(f"{redis.url}?timeout_s=30")
    client, hasty = connect(server), connect(server, timeout_s=0.3)
    client.put("weather", reading())
    before = number(redis, "commandstats", "cmdstat_hmget")
    redis.pause()
    try:
        with ThreadPoolExecutor(40) as threads:
            late = [threads.submit(hasty.batch_get, [Get("weather", ["JFK"])]) for _ in range(40)]
            for future in late:
                assert isinstance(future.exception(), featurestore.FeatureStoreError)
        time.sleep(0.2)  # the server hears of it too
    finally:
        redis.resume()
    assert client.get("weather", "JFK") is not None
    assert number(redis, "commandstats", "cmdstat_hmget") - before <= THREADS + 1


def test_redis_goes_and_comes_back(serve_over, connect, own_redis, reading):
    redis = own_redis()
    server = serve_over(redis.url)
    client = connect(server)
    client.put("weather", reading())
    monitor = Monitor(Metrics(front=server.front, version="1"), server.store)
    assert monitor.check()["online"] == ""
    redis.kill()
    for use in (
        lambda: client.get("weather", "JFK"),
        lambda: client.put("weather", reading(hour=7)),
        lambda: client.update("weather", "JFK", {"hour": "2013-01-01T08:00:00Z"}),
        lambda: client.flush("weather"),
    ):
        with pytest.raises(StoreUnavailable, match=r"Redis at 127.0.0.1:\d+ does not answer"):
            use()
    assert "does not answer" in monitor.check()["online"]
    redis.start()
    assert monitor.check()["online"] == ""
    assert client.get("weather", "JFK")["temp"] == 39.0
    client.put("weather", reading(hour=9, temp=1.0))
    assert client.get("weather", "JFK")["temp"] == 1.0
    assert client.flush("weather")["weather"].records == 2


def test_a_full_redis_refuses_puts_and_goes_on_reading(serve_over, connect, own_redis, reading):
    redis = own_redis()
    server = serve_over(redis.url)
    client = connect(server)
    client.put("weather", reading())
    monitor = Monitor(Metrics(front=server.front, version="1"), server.store)
    redis.say("CONFIG", "SET", "maxmemory", number(redis, "memory", "used_memory") // 2)
    with pytest.raises(StoreFull, match="has reached its maxmemory; nothing was written"):
        client.batch_write([Put("weather", reading(name)) for name in ("A", "B")])
    assert "below its size limit" in monitor.check()["online"]
    assert client.get("weather", "JFK")["temp"] == 39.0
    assert client.get("weather", "A") is None
    assert client.flush("weather")["weather"].records == 1
    redis.say("CONFIG", "SET", "maxmemory", "0")
    assert client.batch_write([Put("weather", reading(name)) for name in ("A", "B")]) == []
    assert client.get("weather", "B") is not None
