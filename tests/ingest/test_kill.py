"""Kafka exactly once: ingesting processes are killed or stopped, and nothing shows it."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from ingest import DeadLetters, Pipeline
from tests.ingest.lives import Lives, Producing, differences, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

KILLS = 20
PARTITIONS = 3
# So much waits from the start that every kill meets a process that is busy storing.
BACKLOG = 9_000


@pytest.fixture
def producing(new_topic, produce):
    """Start to send numbered messages to a new topic."""

    def make(partitions: int, backlog: int) -> tuple[str, Producing]:
        topic = new_topic(partitions=partitions)
        sending = Producing(
            lambda values, partition: produce(topic, values, partition=partition),
            partitions=partitions,
            backlog=backlog,
        )
        return topic, sending

    return make


@pytest.fixture
def catch_up(source, store, stored, tmp_path):
    """Ingest what is left, and compare what is stored with what was sent."""

    def run(topic: str, sent: int) -> dict[str, int]:
        letters = DeadLetters(tmp_path / "home" / "dead")
        rest = source(topic, consumer_group="killed")
        Pipeline(rest, store, "readings", dead_letters=letters).run(until_caught_up=True)
        found = differences(store, letters, sent, stored())
        return {what: count for what, count in found.items() if count}

    return run


def test_killed_at_random_moments_each_record_is_stored_exactly_once(
    broker, store, source, producing, catch_up, tmp_path, position_name
):
    topic, producer = producing(PARTITIONS, BACKLOG)
    options = {"consumer_group": "killed", "assignment": "all"}
    lives = Lives(tmp_path / "home", broker, topic, batch_size=6, options=options)
    chance = random.Random(20240501)
    killed = source(topic, consumer_group="killed")
    name = position_name(killed)
    killed.close()
    progressed = 0
    with producer, lives:
        for kill in range(KILLS):
            before = store.source_position(name)
            pid = lives.begin()
            # Half of them die in their first moments, half while they store.
            if kill % 2:
                wait_until(lambda before=before: store.source_position(name) != before)
                time.sleep(chance.uniform(0.0, 0.2))
            else:
                time.sleep(chance.uniform(0.01, 0.5))
            lives.end(pid)
            progressed += store.source_position(name) != before
            if kill % 7 == 6:
                store.flush("readings")  # while more is to come
    assert progressed >= KILLS // 3, "too few lives stored anything: the test shows nothing"
    assert catch_up(topic, producer.sent) == {}


def test_member_that_is_stopped_beyond_its_session_is_fenced(
    broker, store, source, producing, catch_up, tmp_path, position_name
):
    topic, producer = producing(PARTITIONS, 600)
    options = {
        "consumer_group": "killed",
        "max_poll_interval_s": 3.0,
        "session_timeout_s": 3.0,
        "heartbeat_interval_s": 0.5,
    }
    lives = Lives(tmp_path / "home", broker, topic, batch_size=6, options=options)
    reader = source(topic, consumer_group="killed")
    name = position_name(reader)
    reader.close()
    with producer, lives:
        zombie = lives.begin()
        assert _moves(store, name, 90)
        lives.begin()
        os.kill(zombie, signal.SIGSTOP)
        while not _moves(store, name, 10):  # stopped with the store's lock in its hands
            os.kill(zombie, signal.SIGCONT)
            time.sleep(0.1)
            os.kill(zombie, signal.SIGSTOP)
        # The second one has the partitions.
        os.kill(zombie, signal.SIGCONT)
        time.sleep(1.0)
        lives.end(zombie)
    assert catch_up(topic, producer.sent) == {}


def _moves(store, name: str, timeout_s: float) -> bool:
    """Whether somebody stores something within this time."""
    before = store.source_position(name)
    return wait_until(lambda: store.source_position(name) != before, timeout_s)
