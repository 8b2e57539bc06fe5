"""Kafka exactly once: the ingesting process is killed again and again, and nothing shows it."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from featurestore import WindowedFeature, WindowedGroup
from ingest import DeadLetters, Pipeline

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

KILLS = 30
PARTITIONS = 3
BAD_EVERY = 13
# So much waits from the start that every kill meets a process that is busy storing.
BACKLOG = 15_000
DECADE = dt.timedelta(days=3650)
WINDOWS = WindowedGroup(
    "stations",
    source="readings",
    by="station",
    features=[
        WindowedFeature("count", over=DECADE, name="events"),
        WindowedFeature("sum", of="sequence", over=DECADE, name="total"),
        WindowedFeature("last", of="sequence", over=DECADE, name="newest"),
    ],
)


def test_killed_at_random_moments_each_record_is_stored_exactly_once(
    broker, store, stored, source, new_topic, produce, reading, tmp_path, position_name
):
    store.create_windowed_group(WINDOWS)
    topic = new_topic(partitions=PARTITIONS)
    home = tmp_path / "home"
    producer = _Producing(topic, produce, reading)
    lives = _Lives(home, broker, topic)
    chance = random.Random(20240501)
    killed = source(topic, consumer_group="killed")
    name = position_name(killed)
    killed.close()
    progressed = 0
    with producer, lives:
        for kill in range(KILLS):
            before = store.source_position(name)
            lives.begin()
            time.sleep(chance.uniform(0.01, 0.8))
            lives.end()
            progressed += store.source_position(name) != before
            if kill % 7 == 6:
                store.flush("readings")  # while more is to come
    letters = DeadLetters(home / "dead")
    Pipeline(source(topic, consumer_group="killed"), store, "readings", dead_letters=letters).run(
        until_caught_up=True
    )

    sent = range(producer.sent)
    good = [sequence for sequence in sent if sequence % BAD_EVERY]
    assert progressed >= KILLS // 3, "too few lives stored anything: the test shows nothing"
    assert stored() == good
    assert [store.get("readings", station)["sequence"] for station in range(7)] == [
        max(sequence for sequence in good if sequence % 7 == station) for station in range(7)
    ]
    assert store.verify("readings").equal
    for station in range(7):
        values = [sequence for sequence in good if sequence % 7 == station]
        assert store.get("stations", station) == {
            "station": station,
            "events": len(values),
            "total": sum(values),
            "newest": max(values),
        }, "each event once in its windows too"
    assert store.verify("stations").equal
    bad = sorted(int(letter.payload.decode().split()[1]) for letter in letters.read())
    assert bad == [sequence for sequence in sent if sequence % BAD_EVERY == 0]


class _Producing:
    """Sends numbered readings, now and then one that is none, while it is entered."""

    def __init__(self, topic: str, produce, reading) -> None:
        self.sent = 0
        self._topic = topic
        self._produce = produce
        self._reading = reading
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            self._send(8)

    def _send(self, count: int) -> None:
        numbers = range(self.sent, self.sent + count)
        values = [self._reading(n) if n % BAD_EVERY else b"number %d" % n for n in numbers]
        self._produce(self._topic, values, partition=self.sent // 8 % PARTITIONS)
        self.sent = numbers.stop

    def __enter__(self) -> None:
        for _ in range(PARTITIONS):
            self._send(BACKLOG // PARTITIONS + 8)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()


class _Lives:
    """The ingesting process, one life after the other."""

    def __init__(self, home: Path, address: str, topic: str) -> None:
        script = Path(__file__).with_name("ingest_on_command.py")
        self._parent = subprocess.Popen(
            [sys.executable, str(script), str(home), address, topic],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self._child = 0

    def begin(self) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        self._child = int(self._parent.stdout.readline())

    def end(self) -> None:
        os.kill(self._child, signal.SIGKILL)

    def __enter__(self) -> None:
        self._parent.__enter__()

    def __exit__(self, *error: object) -> None:
        self._parent.__exit__(*error)
        assert self._parent.returncode == 0
