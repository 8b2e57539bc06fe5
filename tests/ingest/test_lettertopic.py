"""Dead letters in a topic: all of them before the position moves, each once to a reader."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from featurestore import PartitionPosition, SourcePosition, feature_definitions
from ingest import (
    DeadLetter,
    DeadLetters,
    DeadLetterTopic,
    IngestError,
    Pipeline,
    SeveralSinks,
    SourceNotFound,
    replay,
)
from ingest.sources.files import FileSource

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

NOW = dt.datetime(2024, 5, 1, 12, 30, 0, 250, tzinfo=dt.UTC)
BROKER_GOES = """
import os, signal, sys
import featurestore
from ingest import DeadLetterTopic, FileSource, IngestError, Pipeline
address, pid, path, folder = sys.argv[1:]
topic = DeadLetterTopic(address, "letters", timeout_s=1.0)
topic.open()
os.kill(int(pid), signal.SIGKILL)
with featurestore.open(f"{folder}/home") as store:
    try:
        Pipeline(FileSource(path), store, "readings", dead_letters=topic).run()
    except IngestError as error:
        print(error)
"""
POSITION = SourcePosition("s", (PartitionPosition("0", 0, 10),))


def letter(offset=0, payload=b"{bad", key=b"key", **changes) -> DeadLetter:
    made = DeadLetter("g", "s", "0", offset, payload, key, "Undecodable", "no JSON — ü", NOW)
    return replace(made, **changes)


@pytest.fixture
def topic(broker, new_topic):
    made = DeadLetterTopic(broker, new_topic(partitions=2))
    yield made
    made.close()


def test_letters_come_back_as_they_went(topic):
    letters = [
        letter(0),
        letter(1, b"\x00\x00\x00\x00\x11\xff", None, schema="id 17"),
        letter(2, None, b"gone"),
        letter(3, None, None),
        letter(4, {"a": 1, "b": None}),
        letter(5, b"", headers=(("trace", b"\xff"), ("featurelinegroup", b"x"), ("trace", b"2"))),
        letter(6, timestamp_us=17, attempt=3, replayed=NOW),
        letter(7, group="other"),
    ]
    topic.write(letters, POSITION, group="g")
    assert sorted(topic.read(), key=lambda one: one.offset) == letters
    assert [one.offset for one in topic.read("other")] == [7]


def test_what_was_produced_again_is_read_once_in_its_latest_state(topic):
    topic.write([letter(0), letter(1)], POSITION, group="g")
    topic.write([letter(0), letter(1, reason="otherwise")], POSITION, group="g")
    topic.amend([letter(0, attempt=2), letter(0, attempt=2, replayed=NOW)])
    topic.write([letter(0)], POSITION, group="g")
    first, second = sorted(topic.read("g"), key=lambda one: one.offset)
    assert (first.attempt, first.replayed) == (2, NOW)
    assert second.reason == "otherwise"


def test_a_letter_of_a_letter_keeps_the_headers_of_both(topic):
    topic.write([letter(0)], POSITION, group="g")
    (message,) = topic._messages()
    again = DeadLetter.of(message, group="letters", source="t", error="E", reason="why", time=NOW)
    topic.write([again], POSITION, group="letters")
    assert list(topic.read("letters")) == [again]
    assert dict(again.headers)["featureline.group"] == b"g"


def test_pipeline_puts_letters_into_topic_and_folder(topic, tmp_path, store, reading):
    path = tmp_path / "r.jsonl"
    path.write_text('{"station": 1}\n{bad\n')
    folder = DeadLetters(tmp_path / "dead", format="parquet")
    sinks = SeveralSinks(topic, folder)
    report = Pipeline(FileSource(path), store, "readings", dead_letters=sinks).run()
    assert report.refused == 2
    read = sorted(topic.read("readings"), key=lambda one: one.offset)
    assert read == list(folder.read("readings"))
    assert [one.payload for one in read] == [b'{"station": 1}', b"{bad"]


def test_letters_that_cannot_be_produced_stop_the_pipeline_before_its_position(
    own_broker, tmp_path, store
):
    own_broker.create_topic("letters")
    path = tmp_path / "r.jsonl"
    path.write_text("{bad\n")
    # In a process of its own: the client leaves sockets behind when a broker goes away.
    address, pid = own_broker.address, str(own_broker.pid)
    ended = subprocess.run(
        [sys.executable, "-c", BROKER_GOES, address, pid, path, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert "cannot be produced to topic 'letters'" in ended.stdout, ended.stderr
    assert "nothing of the batch was stored" in ended.stdout
    again = Pipeline(FileSource(path), store, "readings", dead_letters=DeadLetters(tmp_path / "d"))
    assert again.run().refused == 1


def test_absent_topic_is_refused_before_anything_is_read(broker, tmp_path, store):
    sink = DeadLetterTopic(broker, "no-such-topic")
    with pytest.raises(SourceNotFound, match="for dead letters does not exist"):
        Pipeline(FileSource(tmp_path / "absent"), store, "readings", dead_letters=sink).run()


def test_another_message_in_the_topic_is_named(topic, produce):
    produce(topic.topic, [b"no letter"])
    with pytest.raises(IngestError, match="partition 0 offset 0: expected a dead letter"):
        list(topic.read())


def test_letters_of_a_topic_are_replayed_once(topic, tmp_path, store, stored, reading):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(reading(0, humidity=1.0)) + "\n{bad\n")
    Pipeline(FileSource(path), store, "readings", dead_letters=topic).run()
    store.add_features("readings", feature_definitions([("humidity", "Fractional")]))
    report = replay(topic, store, "readings")
    assert (report.stored, report.refused) == (1, 1)
    states = {one.offset: (one.attempt, one.replayed is not None) for one in topic.read()}
    assert states == {0: (1, True), 1: (2, False)}
    assert replay(topic, store, "readings").letters == 1
    assert stored() == [0]
