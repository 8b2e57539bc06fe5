"""Kafka exactly once: kills, members that come and go, a broker away, a store that stalls."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from confluent_kafka import Producer
from deltalake import DeltaTable

import featurestore
from featureline.broker import Broker
from featurestore import FeatureGroup, FeatureStore, feature_definitions
from featurestore.embedded import EmbeddedStore
from ingest import DeadLetters, KafkaSource, Pipeline, Report
from tests.ingest.kafka_proxy import Proxy
from tests.ingest.lives import Lives, Producing, differences, wait_until
from tests.soak.figure import Figure

__all__ = ["run"]

_PARTITIONS: Final = 4
_KILLS: Final = 100
_AWAY_S: Final = 30.0
_STALL_S: Final = 60.0
_BACKLOG: Final = 20_000
# A group comes together in seconds with these.
_TIMINGS: Final = {
    "max_poll_interval_s": 4.0,
    "session_timeout_s": 3.0,
    "heartbeat_interval_s": 0.5,
}
_CLIENTS: Final = ("kafka-python", "confluent")
_BUFFER_BYTES: Final = 8 << 20
_GROUP: Final = FeatureGroup(
    "readings",
    record_identifier="station",
    event_time="time",
    features=feature_definitions(
        [
            ("station", "Integral"),
            ("time", "String"),
            ("sequence", "Integral"),
            ("temp", "Fractional"),
            ("note", "String"),
        ]
    ),
)


def run(seconds: float, work: Path, seed: int, *, kills: int | None = None) -> list[Figure]:
    """Kill, and use the time that is left for members that come and go.

    Args:
        seconds: for all; a broker away and a stalled store take a fixed part of it.
        work: a folder for the stores.
        seed: of what is random.
        kills: how many processes are killed one after the other; default: 100.
    """
    work.mkdir(parents=True)
    chance = random.Random(seed)
    until = time.monotonic() + seconds - _AWAY_S - 2 * _STALL_S
    figures: list[Figure] = []
    with Broker() as broker:
        figures += _killed(work / "kills", broker, chance, kills or _KILLS)
        left_s = max(60.0, until - time.monotonic())
        for client in _CLIENTS:
            figures += _members(work / client, broker, chance, client, left_s / len(_CLIENTS))
        figures += _away(work / "away", broker)
        for client in _CLIENTS:
            figures += _stalled(work / f"stalled-{client}", broker, client)
    return figures


def _killed(work: Path, broker: Broker, chance: random.Random, kills: int) -> list[Figure]:
    options = {"consumer_group": "killed", "assignment": "all"}
    progressed = 0
    with _sending(work, broker, "kills", _BACKLOG) as (store, producer):
        lives = Lives(work / "home", broker.address, "kills", batch_size=20, options=options)
        name = _position_name(store, broker, "kills")
        with producer, lives:
            for kill in range(kills):
                before = store.source_position(name)
                pid = lives.begin()
                # Half of them die in their first moments, half while they store.
                if kill % 2:
                    wait_until(lambda before=before: store.source_position(name) != before)
                    time.sleep(chance.uniform(0.0, 0.2))
                else:
                    time.sleep(chance.uniform(0.01, 0.8))
                lives.end(pid)
                progressed += store.source_position(name) != before
                if kill % 10 == 9:
                    store.flush("readings")
        return [
            Figure("kill -9 of the ingesting process", kills),
            Figure("lives that stored something", progressed, least=kills // 3),
            *_compared("kills", store, work, broker, "kills", producer.sent),
        ]


def _members(
    work: Path, broker: Broker, chance: random.Random, client: str, seconds: float
) -> list[Figure]:
    """Two to four members join, leave, die and stall, at random, for so long."""
    group = f"members-{client}"
    options = {"consumer_group": group, "client": client, **_TIMINGS}
    counts = dict.fromkeys(("joined", "left", "died", "stalled"), 0)
    topic = group
    with _sending(work, broker, topic, _BACKLOG) as (store, producer):
        lives = Lives(work / "home", broker.address, topic, batch_size=20, options=options)
        name = _position_name(store, broker, topic, group)
        moved, before = 0, store.source_position(name)
        stalled: dict[int, float] = {}  # process → when it goes on
        until = time.monotonic() + seconds
        with producer, lives:
            while time.monotonic() < until:
                for pid, when in list(stalled.items()):
                    if time.monotonic() > when:
                        os.kill(pid, signal.SIGCONT)
                        del stalled[pid]
                awake = [pid for pid in lives.alive if pid not in stalled]
                if len(lives.alive) < 2 or (len(lives.alive) < 4 and chance.random() < 0.5):
                    lives.begin()
                    counts["joined"] += 1
                elif awake:
                    pid = chance.choice(awake)
                    what = chance.choice(("left", "died", "stalled"))
                    counts[what] += 1
                    if what == "stalled":
                        os.kill(pid, signal.SIGSTOP)
                        stalled[pid] = time.monotonic() + chance.uniform(1.0, 8.0)
                    else:
                        lives.end(pid, signal.SIGTERM if what == "left" else signal.SIGKILL)
                # A group that is disturbed before it has come together stores nothing at all.
                time.sleep(chance.uniform(1.0, 6.0))
                position = store.source_position(name)
                moved += position != before
                before = position
        return [
            *(Figure(f"{client}: members {what}", count) for what, count in counts.items()),
            Figure(f"{client}: looks that found progress", moved, least=3),
            *_compared(f"{client} members", store, work, broker, topic, producer.sent, group),
        ]


def _away(work: Path, broker: Broker) -> list[Figure]:
    """Pull the cable for 30 s while two pipelines read, one with each client."""
    found: list[Figure] = []
    for client in _CLIENTS:
        topic = f"away-{client}"
        with (
            _sending(work / client, broker, topic, 1000) as (store, producer),
            Proxy(broker.address, max_versions={1: 12}) as proxy,
        ):
            stop, reports = threading.Event(), [Report()]
            source = KafkaSource(
                proxy.address, topic, consumer_group="killed", client=client, assignment="all"
            )
            letters = DeadLetters(work / client / "home" / "dead")
            pipeline = Pipeline(source, store, "readings", dead_letters=letters)
            thread = threading.Thread(
                target=lambda pipeline=pipeline, stop=stop, reports=reports: pipeline.run(
                    stop=stop, on_progress=reports.append
                )
            )
            thread.start()
            with producer:
                time.sleep(2.0)
                proxy.go_down()
                time.sleep(_AWAY_S / len(_CLIENTS))
                sent = producer.sent
                proxy.come_back()
                back = time.monotonic()
                while reports[-1].read < sent and time.monotonic() < back + 60:
                    time.sleep(0.05)
                took_s = time.monotonic() - back
            stop.set()
            thread.join()
            found += [
                Figure(f"{client}: seconds until all is read after the broker is back", took_s),
                *_compared(f"{client} away", store, work / client, broker, topic, producer.sent),
            ]
    return found


def _stalled(work: Path, broker: Broker, client: str) -> list[Figure]:
    """Watch the memory while the store takes nothing and the topic has much."""
    topic = f"stalled-{client}"
    broker.create_topic(topic, partitions=_PARTITIONS)
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 50})
    note = "x" * 900
    for number in range(60_000):  # 60 MB
        body = json.dumps({"station": number, "time": "2024-01-01T00:00:00Z", "note": note})
        producer.produce(topic, body, partition=number % _PARTITIONS)
        if number % 5000 == 0:
            producer.flush()
    producer.flush()
    with _store(work) as store:
        store.limit_outbox(records=4000)
        stop = threading.Event()
        source = KafkaSource(
            broker.address,
            topic,
            consumer_group="stalled",
            client=client,
            max_buffer_bytes=_BUFFER_BYTES,
            **_TIMINGS,
        )
        thread = threading.Thread(target=lambda: Pipeline(source, store, "readings").run(stop=stop))
        thread.start()
        time.sleep(_STALL_S / 6)
        first = last = most = _resident_bytes()
        until = time.monotonic() + _STALL_S * 5 / 6
        while time.monotonic() < until:
            last = _resident_bytes()
            most = max(most, last)
            time.sleep(0.5)
        stop.set()
        thread.join()
    return [
        Figure(f"{client}: memory after 10 s of a stalled store", first / 2**20, "MiB"),
        Figure(f"{client}: growth until its end", (last - first) / 2**20, "MiB", most=16),
        Figure(f"{client}: highest above the first", (most - first) / 2**20, "MiB", most=32),
    ]


@contextmanager
def _store(work: Path) -> Iterator[EmbeddedStore]:
    work.mkdir(parents=True)
    with featurestore.open(work / "home") as store:
        store.create_feature_group(_GROUP)
        yield store


@contextmanager
def _sending(
    work: Path, broker: Broker, topic: str, backlog: int
) -> Iterator[tuple[EmbeddedStore, Producing]]:
    broker.create_topic(topic, partitions=_PARTITIONS)
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 5})

    def send(values: list[bytes], partition: int) -> None:
        for value in values:
            producer.produce(topic, value, partition=partition)
        assert producer.flush(30) == 0

    with _store(work) as store:
        yield store, Producing(send, partitions=_PARTITIONS, backlog=backlog, pause_s=0.01)


def _position_name(store: FeatureStore, broker: Broker, topic: str, group: str = "killed") -> str:
    source = KafkaSource(broker.address, topic, consumer_group=group, assignment="all")
    source.seek(dict)
    try:
        created = store.describe("readings").created
        return f"ingest/readings@{created:%Y%m%dT%H%M%S.%f}/{source.name}"
    finally:
        source.close()


def _compared(
    name: str,
    store: EmbeddedStore,
    work: Path,
    broker: Broker,
    topic: str,
    sent: int,
    group: str = "killed",
) -> list[Figure]:
    """Ingest what is left, and compare both stores with what was produced."""
    letters = DeadLetters(work / "home" / "dead")
    rest = KafkaSource(broker.address, topic, consumer_group=group, assignment="all")
    Pipeline(rest, store, "readings", dead_letters=letters).run(until_caught_up=True)
    store.flush("readings")
    table: Any = pa.table(DeltaTable(store.offline_uri("readings")).to_pyarrow_table())
    found = differences(store, letters, sent, table["sequence"].to_pylist())
    return [
        Figure(f"{name}: messages produced", sent, least=1),
        *(Figure(f"{name}: {what}", count, most=0) for what, count in found.items()),
    ]


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
