"""The audit finds what is broken, and nothing where nothing is."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from featurestore import InvalidRequest
from ingest import DeadLetters, Decoder, Deleted, FileSource, Pipeline, audit, replay

GOOD = 30


class _Decoder(Decoder):
    """JSON, where `gone` names a deleted station and a number says nothing."""

    def decode(self, message):
        fields = json.loads(message.value)
        if isinstance(fields, int):
            return None
        if "gone" in fields:
            return Deleted({"station": fields["gone"]}, fields["time"])
        return fields


@pytest.fixture
def path(tmp_path, reading):
    lines = [reading(n) for n in range(GOOD)]
    lines[3] = reading(3, colour="red")
    lines += [reading(5), 17, {"gone": 6, "time": "2024-01-02T00:00:00Z"}, reading(2, temp="hot")]
    made = tmp_path / "r.jsonl"
    made.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return made


@pytest.fixture
def ingested(path, store, dead_letters):
    Pipeline(
        FileSource(path), store, "readings", dead_letters=dead_letters, decoder=_Decoder()
    ).run()
    store.flush("readings")


@pytest.fixture
def look(path, store, dead_letters):
    def run(**options):
        options = {"decoder": _Decoder(), "dead_letters": dead_letters} | options
        return audit(FileSource(path), store, "readings", **options)

    return run


@pytest.mark.usefixtures("ingested")
def test_nothing_is_wrong(look, path, store, tmp_path):
    report = look(exclusive=True)
    assert report.equal, report
    assert (report.messages, report.stored, report.refused, report.skipped) == (34, 31, 2, 1)
    assert report.surplus_judged
    ((first, after),) = report.positions.values()
    assert (first, after) == (0, 34)
    assert not (tmp_path / "home" / "spill").exists()


@pytest.mark.usefixtures("ingested")
def test_a_removed_row_is_missing(look, store):
    DeltaTable(store.offline_uri("readings")).delete("sequence = 11")
    report = look()
    assert not report.equal
    (one,) = report.missing
    assert (one.identifier, one.offset, one.produced, one.stored) == ("4", 11, 1, 0)
    assert one.event_time == dt.datetime(2024, 1, 1, 0, 0, 11, tzinfo=dt.UTC)
    assert report.counts == {"missing": 1}


@pytest.mark.usefixtures("ingested")
def test_a_removed_copy_and_a_removed_deletion_are_missing(look, store):
    table = DeltaTable(store.offline_uri("readings"))
    table.delete("sequence = 5 OR is_deleted")
    report = look()
    assert [(one.offset, one.produced, one.stored) for one in report.missing] == [
        (5, 2, 0),
        (32, 1, 0),
    ]
    assert "deletion" in report.missing[1].reason


@pytest.mark.usefixtures("ingested")
def test_a_doubled_row_is_extra(look, store):
    uri = store.offline_uri("readings")
    rows = DeltaTable(uri).to_pyarrow_table()
    write_deltalake(uri, rows.filter(pc.equal(rows["sequence"], 12)), mode="append")
    (one,) = look().extra
    assert (one.offset, one.produced, one.stored) == (12, 1, 2)
    # Of a part of the source it cannot be told whether the rest has it as well.
    part = look(start=10, end=20)
    assert (part.equal, part.surplus_judged, part.messages) == (True, False, 10)


@pytest.mark.usefixtures("ingested")
def test_a_changed_row_is_different(look, store):
    DeltaTable(store.offline_uri("readings")).update(
        predicate="sequence = 13", updates={"temp": "99.0"}
    )
    report = look(exclusive=True)
    assert report.counts == {"different": 1}
    assert report.different[0].offset == 13


@pytest.mark.usefixtures("ingested")
def test_rows_of_others_count_only_when_there_should_be_none(look, store, reading):
    store.put("readings", reading(100))
    assert look().equal
    (one,) = look(exclusive=True).extra
    assert (one.identifier, one.offset, one.produced, one.stored) == ("2", -1, 0, 1)


@pytest.mark.usefixtures("ingested")
def test_a_removed_dead_letter_is_named(look, dead_letters):
    dead_letters.retain("readings", lambda letter: letter.offset != 3)
    (one,) = look().not_in_dead_letters
    assert one.offset == 3
    assert "readings.colour" in one.reason
    assert look(dead_letters=None).counts == {"not_in_dead_letters": 2}


@pytest.mark.usefixtures("ingested")
def test_an_online_record_that_is_not_the_newest_is_named(look, store, reading):
    store.put("readings", reading(29, sequence=1000), stores=("OnlineStore",))
    report = look()
    assert [one.identifier for one in report.online] == ["1"]
    assert not report.equal


@pytest.mark.usefixtures("ingested")
def test_erased_identifiers_are_told_apart(look, store):
    store.erase("readings", [4])
    report = look()
    assert report.equal, report
    assert report.erased == 4
    assert report.stored == 27
    store.delete("readings", 2, event_time="2024-01-03T00:00:00Z", hard=True)
    assert look().equal


def test_letters_that_were_replayed_must_be_stored_and_others_not(
    path, store, dead_letters, reading
):
    path.write_text(json.dumps(reading(0, colour="red")) + "\n" + json.dumps(reading(1)) + "\n")
    mapping = {name: name for name in reading(0)}
    Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()

    def look():
        return audit(
            FileSource(path),
            store,
            "readings",
            mapping=mapping,
            dead_letters=dead_letters,
            exclusive=True,
        )

    assert (look().equal, look().refused, look().stored) == (True, 1, 1)
    assert replay(dead_letters, store, "readings", mapping=mapping).stored == 1
    assert (look().equal, look().refused, look().stored) == (True, 0, 2)
    store.flush("readings")
    DeltaTable(store.offline_uri("readings")).delete("sequence = 0")
    assert look().counts == {"missing": 1, "online": 1}


def test_nothing_was_ingested(look):
    with pytest.raises(InvalidRequest, match="nothing of files was ingested into it"):
        look()


@pytest.mark.kafka
def test_a_topic_of_two_partitions(source, new_topic, produce, store, dead_letters, reading):
    topic = new_topic(partitions=2)
    produce(topic, [reading(n) for n in range(10)] + [b"{bad"], partition=0)
    produce(topic, [reading(n) for n in range(10, 15)], partition=1)
    Pipeline(source(topic), store, "readings", dead_letters=dead_letters).run(until_caught_up=True)
    produce(topic, [reading(15)])  # not ingested yet
    store.flush("readings")
    DeltaTable(store.offline_uri("readings")).delete("sequence = 12")
    report = audit(source(topic), store, "readings", dead_letters=dead_letters)
    assert (report.messages, report.stored, report.refused) == (16, 15, 1)
    assert report.positions == {"0": (0, 11), "1": (0, 5)}
    assert [(one.partition, one.offset) for one in report.missing] == [("1", 2)]


def test_group_without_an_offline_store_is_refused(path, store, dead_letters, tmp_path):
    group = store.describe_feature_group("readings")
    store.create_feature_group(replace(group, name="online-only", offline=False))
    with pytest.raises(InvalidRequest, match="it has none"):
        audit(FileSource(path), store, "online-only", dead_letters=DeadLetters(tmp_path))
