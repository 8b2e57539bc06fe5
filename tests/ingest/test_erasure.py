"""Dead letters that name an identifier are erased; what cannot be decoded is counted."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from featurestore import PartitionPosition, SourcePosition
from ingest import DeadLetterTopic, IngestError, SeveralSinks
from ingest.erasure import DeadLetterHolder
from ingest.letters.folder import DeadLetter, DeadLetters

TIME = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def letter(offset, payload, key=None):
    return DeadLetter("readings", "s", "0", offset, payload, key, "InvalidRecord", "why", TIME)


@pytest.fixture
def letters(tmp_path):
    return DeadLetters(tmp_path / "deadletters")


@pytest.fixture
def fill(letters):
    def write(*payloads, start=0, keys=None):
        made = [
            letter(start + at, payload, (keys or {}).get(at)) for at, payload in enumerate(payloads)
        ]
        part = PartitionPosition("0", start, start + len(made))
        letters.write(made, SourcePosition("s", (part,)), group="readings")

    return write


@pytest.fixture
def erase(letters, store):
    def run(*identifiers):
        entry = store.registry.get("readings")
        return DeadLetterHolder(letters).erase(entry, identifiers, [0] * len(identifiers))

    return run


@pytest.mark.parametrize(
    "payload",
    [
        b'{"station": "ann", "temp": "hot"}',
        b'{"some": {"place": [1, {"name": "ann"}]}}',
        b'["ann"]',
        {"station": "ann", "temp": "x"},
        b"station=ann;temp",
        b'{"station": "ann", ',
        b"\xff\xfe ann \xff",
    ],
)
def test_a_letter_that_names_the_identifier_is_removed(payload, fill, erase, letters):
    fill(b'{"station": "anna"}', payload, b'{"station": "bob"}')
    assert erase("ann")["removed"] == 1
    assert [one.offset for one in letters.read()] == [0, 2]
    assert erase("ann")["removed"] == 0


def test_the_key_of_a_message_counts_too(fill, erase, letters):
    fill(b"{}", None, b"{}", b"{}", keys={0: b"ann", 1: b'"ann"', 2: b"bob"})
    assert erase("ann")["found"] == [2]
    assert [one.offset for one in letters.read()] == [2, 3]


def test_numbers_are_compared_as_identifiers_are(fill, erase, letters):
    fill(b'{"id": 17}', b'{"id": 17.0}', b'{"id": "17"}', b'{"id": 170}', b'{"id": true}')
    assert erase("17", "1")["found"] == [3, 0]
    assert [one.offset for one in letters.read()] == [3, 4]


def test_what_cannot_be_decoded_is_said(fill, erase):
    fill(b"\x00\x01\x02", b"{broken", b'{"station": "bob"}')
    report = erase("ann")
    assert (report["removed"], report["undecodable"]) == (0, 2)
    assert "2 of readings are neither JSON nor rows" in report["not_reached"][0]
    assert "ann" not in json.dumps(report)


def test_a_file_with_nothing_left_goes_and_other_groups_stay(fill, erase, letters, tmp_path):
    fill(b'{"station": "ann"}')
    fill(b'{"station": "ann"}', b"{}", start=1)
    other = DeadLetter("other", "s", "0", 0, b'{"id": "ann"}', None, "E", "why", TIME)
    letters.write([other], SourcePosition("s", (PartitionPosition("0", 0, 1),)), group="other")
    report = erase("ann")
    assert (report["found"], report["removed"], report["files"]) == ([2], 2, 2)
    assert len(list((tmp_path / "deadletters" / "readings").rglob("*.jsonl"))) == 1
    assert len(list(letters.read("other"))) == 1


def test_parts_of_killed_writers_go_and_those_of_living_ones_stay(fill, erase, tmp_path):
    fill(b"{}")
    (folder,) = (tmp_path / "deadletters" / "readings").iterdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (folder / f".a.jsonl.{ended.pid}").write_text("ann")
    (folder / f".a.jsonl.{os.getpid()}").write_text("ann")
    erase("ann")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [
        f".a.jsonl.{os.getpid()}"
    ]


def test_no_letters_at_all(erase):
    assert erase("ann")["removed"] == 0


def test_a_damaged_file_is_named(fill, erase, tmp_path):
    fill(b"{}")
    (path,) = (tmp_path / "deadletters").rglob("*.jsonl")
    path.write_text("no letter\n")
    with pytest.raises(IngestError, match="line 1: expected a dead letter"):
        erase("ann")


def test_headers_and_parquet_files_are_reached(erase, tmp_path):
    letters = DeadLetters(tmp_path / "deadletters", format="parquet")
    made = [
        replace(letter(0, b"{}"), headers=(("user", b"ann"),)),
        replace(letter(1, b"\x00\x01 ann"), headers=(("user", b"bob"),)),
        letter(2, {"id": "ann"}),
        replace(letter(3, b"\x00\x01"), headers=(("user", b"ann"),)),
        letter(4, b'{"id": "bob"}'),
    ]
    part = PartitionPosition("0", 0, 5)
    letters.write(made, SourcePosition("s", (part,)), group="readings")
    report = erase("ann")
    assert (report["found"], report["removed"], report["undecodable"]) == ([4], 4, 0)
    assert list(letters.read()) == made[4:]


def test_other_folders_are_looked_into_and_topics_are_named(store, tmp_path):
    other = DeadLetters(tmp_path / "other place")
    part = PartitionPosition("0", 0, 1)
    other.write([letter(0, b'["ann"]')], SourcePosition("s", (part,)), group="readings")
    gone = DeadLetters(tmp_path / "gone")
    topic = DeadLetterTopic("broker:9092", "letters")
    places = SeveralSinks(other, gone, topic).artifacts("readings")
    holder = DeadLetterHolder(DeadLetters(tmp_path / "deadletters"), elsewhere=lambda group: places)
    report = holder.erase(store.registry.get("readings"), ["ann"], [0])
    assert report["removed"] == 1
    assert list(other.read()) == []
    folder_gone, in_topic = report["not_reached"]
    assert f"in {tmp_path / 'gone'}, which is gone" in folder_gone
    assert "in the topic letters at broker:9092" in in_topic
