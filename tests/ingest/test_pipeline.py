"""The pipeline's own rules, whatever the source: lineage, changes of the group, refusals."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time

import pytest

import lineage
from featurestore import (
    FeatureGroupNotFound,
    PartitionPosition,
    WindowedFeature,
    WindowedGroup,
    feature_definitions,
)
from ingest import (
    Batch,
    Deleted,
    FileSource,
    JsonDecoder,
    Message,
    Pipeline,
    Report,
    Source,
    TombstoneDecoder,
    Transform,
    Undecodable,
)


def lines(path, *records: object):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_run_is_one_lineage_action_from_file_to_group(tmp_path, store, dead_letters, reading):
    path = lines(tmp_path / "r.jsonl", reading(0), reading(1), "no record")
    Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    (action,) = store.graph.find(kind=lineage.Kind.ACTION, type="Ingest")
    assert action.state == "Completed"
    assert action.properties["written"] == 2
    assert action.properties["refused"] == 1
    (offsets,) = action.properties["offsets"].values()
    assert offsets == {"start": 0, "next": 3}
    (group,) = store.graph.find(type="FeatureGroup", name="readings")
    sources = store.graph.query(group, "ascendants").entities
    assert path.as_uri() in [entity.source_uri for entity in sources if entity.type == "DataSet"]


def test_failed_run_is_a_failed_action(tmp_path, store, reading):
    path = lines(tmp_path / "r.jsonl", reading(0), "no record")
    with pytest.raises(ValueError, match="offset 1"):
        Pipeline(FileSource(path), store, "readings", batch_size=1).run()
    (action,) = store.graph.find(kind=lineage.Kind.ACTION, type="Ingest")
    assert action.state == "Failed"
    assert "offset 1" in str(action.properties["failure_reason"])
    assert action.properties["written"] == 1


def test_unknown_group_is_refused_before_the_source_is_touched(tmp_path, store):
    with pytest.raises(FeatureGroupNotFound, match="did you mean 'readings'"):
        Pipeline(FileSource(tmp_path / "absent"), store, "reading").run()


def test_batch_size_must_be_positive(tmp_path, store):
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        Pipeline(FileSource(tmp_path), store, "readings", batch_size=0)


def test_mapping_beside_a_decoder_is_refused(tmp_path, store):
    with pytest.raises(ValueError, match="mapping: expected it in the decoder"):
        Pipeline(FileSource(tmp_path), store, "readings", decoder=JsonDecoder(), mapping={"a": "b"})


def test_feature_added_while_running_is_taken(tmp_path, store, dead_letters, reading):
    path = lines(tmp_path / "r.jsonl", reading(0), reading(1, humidity=40.0))
    report = Pipeline(
        FileSource(path), store, "readings", dead_letters=dead_letters, batch_size=1
    ).run(
        on_progress=lambda report: (
            report.read == 1
            and store.add_features("readings", feature_definitions([("humidity", "Fractional")]))
        )
    )
    assert report.refused == 0
    assert store.get("readings", 1)["humidity"] == 40.0


def test_all_refused_batch_moves_the_position(tmp_path, store, dead_letters):
    path = lines(tmp_path / "r.jsonl", 1, 2, 3)
    report = Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    assert (report.written, report.refused) == (0, 3)
    assert Pipeline(FileSource(path), store, "readings").run().read == 0


def test_a_late_event_corrects_the_windows_that_it_belongs_to(tmp_path, store, reading):
    hour = dt.timedelta(hours=1)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    store.create_windowed_group(
        WindowedGroup(
            "stations",
            source="readings",
            by="station",
            features=[WindowedFeature("sum", of="sequence", over=hour, name="total")],
            retention=dt.timedelta(hours=6),
        )
    )

    def ingested(name, *events):
        records = [
            reading(number, station=1, time=(now - age).isoformat()) for number, age in events
        ]
        Pipeline(FileSource(lines(tmp_path / name, *records)), store, "readings").run()
        times = [now - 2 * hour, now - hour, now]
        return [store.get_windows("stations", [1], at=at)[0]["total"] for at in times]

    first = ingested("first.jsonl", (1, hour / 2), (10, hour * 3 / 2), (100, hour * 5 / 2))
    assert first == [100, 10, 1]
    late = ingested("late.jsonl", (20, hour * 4 / 3), (200, hour * 7 / 3), (1000, hour * 20))
    assert late == [300, 30, 1]
    assert store.verify("stations").equal


class _Picky(Transform):
    """Refuses sequence 3, leaves 4 out, takes 5 for the word that station 0 is gone."""

    def apply(self, records, messages):
        changed = []
        for record, message in zip(records, messages, strict=True):
            assert json.loads(message.value)["sequence"] == record["sequence"]
            match record["sequence"]:
                case 3:
                    changed.append(Undecodable("sequence", expected="no 3", got="3"))
                case 4:
                    changed.append(None)
                case 5:
                    changed.append(Deleted({"station": 0}, record["time"]))
                case _:
                    changed.append(record)
        return changed


class _Doubled(Transform):
    """Doubles sequences, of what the transform before it left."""

    def apply(self, records, messages):
        assert len(records) == len(messages)
        return [
            record if isinstance(record, Deleted) else record | {"sequence": record["sequence"] * 2}
            for record in records
        ]


def test_transforms_change_refuse_leave_out_and_delete(
    tmp_path, store, dead_letters, reading, stored
):
    path = lines(tmp_path / "r.jsonl", "no record", *(reading(n) for n in range(7)))
    report = Pipeline(
        FileSource(path),
        store,
        "readings",
        transforms=[_Picky(), _Doubled()],
        dead_letters=dead_letters,
    ).run()
    assert (report.read, report.written, report.refused, report.skipped) == (8, 5, 2, 1)
    assert [(letter.offset, letter.reason) for letter in dead_letters.read()] == [
        (0, "line 1, column 1: expected a JSON object, got '\"no record\"'"),
        (4, "sequence: expected no 3, got 3"),
    ]
    assert store.get("readings", 0) is None, "deleted after it was put"
    assert store.get("readings", 6)["sequence"] == 12
    assert store.verify("readings").equal


def test_tombstones_delete_leave_out_or_are_refused(store, dead_letters, reading):
    moment = 1_704_067_200_000_000 + 10_000_000  # ten seconds into 2024
    messages = [
        Message("0", 0, json.dumps(reading(1)).encode(), b"1"),
        Message("0", 1, json.dumps(reading(2)).encode(), b"2"),
        Message("0", 2, None, b"1", moment),
        Message("0", 3, None, None, moment),
        Message("0", 4, None, b"two", moment),
        Message("0", 5, None, b"3"),
    ]

    def run(**options):
        decoder = TombstoneDecoder(JsonDecoder(), field="station", **options)
        return Pipeline(
            _Listed(messages), store, "readings", decoder=decoder, dead_letters=dead_letters
        ).run()

    report = run()
    assert (report.written, report.refused, report.skipped) == (3, 3, 0)
    assert store.get("readings", 1) is None
    assert store.get("readings", 2)["sequence"] == 2
    reasons = [letter.reason for letter in dead_letters.read()]
    assert reasons[0] == "tombstone: expected a key, got none"
    assert "expected Integral, got 'two'" in reasons[1]
    assert reasons[2] == "tombstone: expected a timestamp, got none"
    assert store.verify("readings").equal

    skipping = TombstoneDecoder(JsonDecoder(), field="station", skip=True)
    assert skipping.decode(messages[2]) is None
    by_json = TombstoneDecoder(JsonDecoder({"station": "at.id"}), field="at.id", key="json")
    found = by_json.decode(messages[2]._replace(key=b'{"at.id": 7, "x": 1}'))
    assert found.fields == {"station": 7}
    assert by_json.decode(messages[2]._replace(key=b"7")).fields == {"station": 7}
    for key in (b"{", b"\xff", b'{"x": 1}'):
        with pytest.raises(Undecodable, match="key of a tombstone"):
            by_json.decode(messages[2]._replace(key=key))
    with pytest.raises(ValueError, match="expected 'text' or 'json'"):
        TombstoneDecoder(JsonDecoder(), field="station", key="avro")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"colour": 1}, "readings.colour"),
        ({"sequence": "many"}, "readings.sequence"),
        ({"sequence": 2**63}, "readings.sequence"),
        ({"station": None}, "readings.station"),
        ({"time": "2024-01-01"}, "readings.time"),
        ({"time": "2924-01-01T00:00:00Z"}, "readings.time"),
        ({"note": "\ud800"}, "readings.note"),
        ({"note": ["a"]}, "readings.note"),
        ({"note": "x" * 360_000}, "at most 358400 bytes"),
    ],
)
def test_record_that_does_not_fit_is_put_aside(
    changes, reason, tmp_path, store, dead_letters, reading
):
    path = lines(tmp_path / "r.jsonl", reading(0), reading(1, **changes), reading(2))
    report = Pipeline(FileSource(path), store, "readings", dead_letters=dead_letters).run()
    assert (report.written, report.refused) == (2, 1)
    (letter,) = dead_letters.read()
    assert letter.error == "InvalidRecord"
    assert reason in letter.reason
    assert json.loads(letter.payload) == reading(1, **changes)


def test_batch_that_another_process_stored_first_writes_nothing(tmp_path, store, stored, reading):
    path = lines(tmp_path / "r.jsonl", *(reading(n) for n in range(30)))
    late = _Overtaken(
        FileSource(path), lambda: Pipeline(FileSource(path), store, "readings", batch_size=7).run()
    )
    report = Pipeline(late, store, "readings", batch_size=10).run()
    assert (report.read, report.conflicts) == (0, 1)
    assert stored() == list(range(30))


def test_two_processes_in_turns_store_each_record_once(tmp_path, store, stored, reading):
    path = lines(tmp_path / "r.jsonl", *(reading(n) for n in range(30)))

    def ahead() -> None:
        def stop_after_one(report):
            raise Interrupted

        with pytest.raises(Interrupted):
            Pipeline(FileSource(path), store, "readings", batch_size=7).run(
                on_progress=stop_after_one
            )

    report = Pipeline(_Overtaken(FileSource(path), ahead), store, "readings", batch_size=10).run()
    assert (report.read, report.conflicts) == (23, 1)
    assert stored() == list(range(30))


def test_conflict_on_the_last_batch_is_not_the_end(store, stored, reading):
    values = [json.dumps(reading(n)).encode() for n in range(10)]
    messages = [Message("0", offset, value) for offset, value in enumerate(values)]
    ahead = _Listed(messages[:5])
    late = _Overtaken(_Listed(messages), lambda: Pipeline(ahead, store, "readings").run())
    report = Pipeline(late, store, "readings").run(until_caught_up=True)
    assert (report.read, report.conflicts) == (5, 1)
    assert stored() == list(range(10))


def test_full_outbox_is_waited_for(
    tmp_path, store, stored, dead_letters, reading, monkeypatch, caplog
):
    monkeypatch.setattr("featurestore.online.bound._LOOK_S", 0.0)
    monkeypatch.setattr("featurestore.online.bound._RETRY_S", 0.05)
    path = lines(tmp_path / "r.jsonl", *map(reading, range(50)))
    store.limit_outbox(records=1)
    runs = []
    # Where the store is unavailable it would not try again at all.
    pipeline = Pipeline(
        FileSource(path), store, "readings", batch_size=5, dead_letters=dead_letters, retry_s=0.0
    )
    thread = threading.Thread(target=lambda: runs.append(pipeline.run()))
    thread.start()
    try:
        while thread.is_alive():
            store.flush()
            time.sleep(0.01)
    finally:
        store.limit_outbox()
        thread.join()
    assert [(run.read, run.written, run.refused) for run in runs] == [(50, 50, 0)]
    assert not list(dead_letters.read("readings"))
    assert "the store takes no more for now" in caplog.text
    assert stored() == list(range(50))


def test_wait_for_a_full_outbox_ends_on_stop(tmp_path, store, stored, reading, monkeypatch):
    monkeypatch.setattr("featurestore.online.bound._LOOK_S", 0.0)
    path = lines(tmp_path / "r.jsonl", *map(reading, range(10)))
    stop = threading.Event()
    store.limit_outbox(records=1)
    pipeline = Pipeline(FileSource(path), store, "readings", batch_size=5)

    def stop_at(report: Report) -> None:
        threading.Timer(0.2, stop.set).start()

    report = pipeline.run(stop=stop, on_progress=stop_at)
    assert (report.read, report.written) == (5, 5)
    store.limit_outbox()
    again = Pipeline(FileSource(path), store, "readings", batch_size=5).run()
    assert again.read == 5
    assert stored() == list(range(10))


class Interrupted(Exception):
    """Ends a run between two batches."""


class _Listed(Source):
    """A list of values as one partition, handed out whole."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._next = 0

    @property
    def name(self):
        return "listed"

    def inputs(self):
        return ()

    def seek(self, stored):
        self._next = stored().get("0", 0)

    def poll(self, max_records, timeout_s) -> Batch:
        start, self._next = self._next, len(self._messages)
        messages = self._messages[start:]
        stretch = (PartitionPosition("0", start, self._next),)
        return Batch(messages, stretch if messages else (), is_caught_up=True, is_last=not messages)

    def commit(self, position):
        pass

    def close(self):
        pass


class _Overtaken(Source):
    """A source whose first batch is handed out, and stored by someone else before its owner."""

    def __init__(self, inner: Source, overtake) -> None:
        self._inner = inner
        self._overtake = overtake

    @property
    def name(self):
        return self._inner.name

    def inputs(self):
        return self._inner.inputs()

    def seek(self, stored):
        self._inner.seek(stored)

    def poll(self, max_records, timeout_s) -> Batch:
        batch = self._inner.poll(max_records, timeout_s)
        overtake, self._overtake = self._overtake, None
        if overtake is not None:
            overtake()
        return batch

    def commit(self, position: list[PartitionPosition]):
        self._inner.commit(position)

    def close(self):
        self._inner.close()


def test_fault_found_by_the_source_is_the_reason(tmp_path, store, dead_letters):
    (tmp_path / "r.csv").write_text("station,time\n1\n")
    Pipeline(FileSource(tmp_path / "r.csv"), store, "readings", dead_letters=dead_letters).run()
    (letter,) = dead_letters.read()
    assert letter.error == Undecodable.__name__
