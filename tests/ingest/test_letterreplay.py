"""Replay of dead letters: each record is stored once, whatever cuts it and wherever letters lie."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

import lineage
from featurestore import PartitionPosition, SourcePosition, WriteError, feature_definitions
from ingest import (
    DeadLetters,
    Decoder,
    Deleted,
    FileSource,
    JsonDecoder,
    LetterFilter,
    Pipeline,
    replay,
)


@pytest.fixture
def refused(tmp_path, store, dead_letters, reading):
    """Twelve messages with a feature that the group lacks, and two that are no JSON."""
    path = tmp_path / "r.jsonl"
    lines = [json.dumps(reading(n, humidity=n / 2)) for n in range(12)]
    path.write_text("\n".join([*lines, "{bad", "{bad"]) + "\n")
    source = FileSource(path)
    Pipeline(source, store, "readings", dead_letters=dead_letters, batch_size=5).run()


def mend(store):
    store.add_features("readings", feature_definitions([("humidity", "Fractional")]))


def states(letters):
    return [(one.offset, one.attempt, one.replayed is not None) for one in letters.read()]


@pytest.mark.usefixtures("refused")
def test_what_is_taken_now_is_stored_and_the_rest_stays(store, stored, dead_letters):
    before = list(dead_letters.read())
    dry = replay(dead_letters, store, "readings", dry_run=True)
    assert (dry.letters, dry.stored, dry.refused, dry.is_dry_run) == (14, 0, 14, True)
    assert list(dead_letters.read()) == before

    mend(store)
    dry = replay(dead_letters, store, "readings", dry_run=True)
    report = replay(dead_letters, store, "readings")
    assert (dry.stored, dry.refused) == (report.stored, report.refused) == (12, 2)
    assert report.reasons == {
        "Undecodable: line 1, column 2: expected JSON (expecting property name enclosed in double "
        "quotes)": 2
    }
    assert stored() == list(range(12))
    assert states(dead_letters) == [(n, 1, True) for n in range(12)] + [
        (n, 2, False) for n in (12, 13)
    ]
    again = replay(dead_letters, store, "readings")
    assert (again.letters, again.stored, again.refused) == (2, 0, 2)
    assert stored() == list(range(12))
    assert store.verify("readings").equal
    (first, *_) = store.graph.find(kind=lineage.Kind.ACTION, type="Replay")
    assert (first.properties["stored"], first.state) == (12, "Completed")


@pytest.mark.usefixtures("refused")
def test_cut_behind_the_transaction_nothing_is_stored_twice(
    store, stored, dead_letters, monkeypatch
):
    mend(store)

    with monkeypatch.context() as patched:
        patched.setattr(DeadLetters, "amend", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            replay(dead_letters, store, "readings")
    report = replay(dead_letters, store, "readings")
    assert report.known + report.stored == 12
    assert report.known > 0
    assert stored() == list(range(12))


@pytest.mark.usefixtures("refused")
def test_a_copy_of_the_folder_stores_nothing_again(store, stored, dead_letters, tmp_path):
    copy = DeadLetters(tmp_path / "copy", format="parquet")
    letters = list(dead_letters.read())
    part = PartitionPosition(letters[0].partition, 0, 14)
    copy.write(letters, SourcePosition(letters[0].source, (part,)), group="readings")
    mend(store)
    replay(dead_letters, store, "readings")
    report = replay(copy, store, "readings")
    assert (report.known, report.stored, report.refused) == (12, 0, 2)
    assert stored() == list(range(12))


@pytest.mark.usefixtures("refused")
def test_two_replays_at_once_store_each_record_once(store, stored, dead_letters):
    mend(store)
    reports = []
    threads = [
        threading.Thread(
            target=lambda: reports.append(
                replay(DeadLetters(dead_letters.folder), store, "readings")
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.stored for report in reports) == 12
    assert stored() == list(range(12))


@pytest.mark.usefixtures("refused")
def test_only_what_is_asked_for(store, stored, dead_letters):
    mend(store)
    first, second, *_ = dead_letters.read()
    replay(dead_letters, store, "readings", where=LetterFilter(ids=(first.id, second.id)))
    assert stored() == [0, 1]
    assert replay(dead_letters, store, "readings", where=LetterFilter(error="Other")).letters == 0


def test_letters_of_a_batch_that_is_not_stored_wait_for_the_pipeline(
    tmp_path, store, stored, dead_letters, reading, monkeypatch
):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(reading(0, humidity=1.0)) + "\n")
    pipeline = Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters)
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put_checked", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run()
    mend(store)
    report = replay(dead_letters, store, "readings")
    assert (report.waiting, report.stored) == (1, 0)
    Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    assert list(dead_letters.read()) == []
    assert stored() == [0]


@pytest.mark.usefixtures("refused")
def test_refused_by_the_store_after_the_check_stays_and_can_be_replayed(
    store, stored, dead_letters, monkeypatch
):
    mend(store)
    real = type(store).put_checked
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put_checked", _refusing_first(real))
        report = replay(dead_letters, store, "readings", where=LetterFilter(ids=("/0", "/1")))
    assert (report.stored, report.refused) == (1, 1)
    assert states(dead_letters)[:2] == [(0, 2, False), (1, 1, True)]
    assert replay(dead_letters, store, "readings").stored == 11
    assert stored() == list(range(12))


def test_deletions_rows_and_late_records(tmp_path, store, stored, dead_letters):
    (tmp_path / "r.csv").write_text(
        "station,time,sequence,note\n1,2024-01-02T00:00:00Z,5,1\n1,2024-01-01T00:00:00Z,4,x\n"
    )
    source = FileSource(tmp_path / "r.csv")
    Pipeline(source, store, "readings", dead_letters=dead_letters, decoder=_Wrong()).run()
    assert len(list(dead_letters.read())) == 2
    mapping = {"station": "station", "time": "time", "sequence": "sequence"}
    report = replay(dead_letters, store, "readings", mapping=mapping)
    assert report.stored == 2
    assert store.get("readings", 1)["sequence"] == 5
    assert stored() == [4, 5]

    path = tmp_path / "d.jsonl"
    path.write_text('{"gone": 1, "time": "2024-01-03T00:00:00Z"}\n{"other": 1}\n')
    Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    report = replay(dead_letters, store, "readings", decoder=_Deleting())
    assert (report.stored, report.skipped) == (1, 1)
    assert store.get("readings", 1) is None
    assert replay(dead_letters, store, "readings", decoder=_Deleting()).letters == 0


def test_mapping_beside_a_decoder_is_refused(store, dead_letters):
    with pytest.raises(ValueError, match="mapping: expected it in the decoder"):
        replay(dead_letters, store, "readings", decoder=JsonDecoder(), mapping={"a": "b"})


def _interrupted(*arguments, **options):
    raise KeyboardInterrupt


def _refusing_first(real):
    """Put a batch whose first record the store refuses, and takes the others."""

    def put(self, batch, *, position=None):
        every = batch.encoded
        others = replace(
            every,
            rows=every.rows[1:],
            identifiers=every.identifiers[1:],
            event_times_us=every.event_times_us[1:],
            records=every.records[1:],
        )
        real(self, replace(batch, encoded=others), position=position)
        return [WriteError(int(every.rows[0]), "InvalidRecord", "the clock")]

    return put


class _Wrong(Decoder):
    def decode(self, message):
        return {**message.value, "colour": "red"}


class _Deleting(Decoder):
    def decode(self, message):
        fields = json.loads(message.value)
        if "gone" not in fields:
            return None
        return Deleted({"station": fields["gone"], "time": fields["time"]})
