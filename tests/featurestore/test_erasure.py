"""An erased identifier is nowhere in the home, whatever was killed on the way."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

import lineage
from featurestore import (
    FeatureGroupNotFound,
    InvalidRecord,
    InvalidRequest,
    StoreCorrupt,
    eventtime,
    verify_report,
)
from featurestore.embedded import EmbeddedStore
from featurestore.erasure import SigningKey, identifier_hash
from featurestore.erasure.journal import Journal
from featurestore.erasure.signing import public_key_of

WHO = "zoe-7f3d"  # no other text in a home has it
GONE = "gone-51c9"
DAY_US = 86_400_000_000
START_US = 1_704_067_200_000_000
STEPS = [
    "look",
    "online",
    "flush",
    "scrub",
    "offline",
    "offline rows",
    "offline files",
    "offline log",
    "holders",
    "holder notes",
    "exposure",
    "dataset",
    "report",
    "lineage",
    "end",
]


class Notes:
    """A holder that keeps a text file."""

    name = "notes"

    def __init__(self, home):
        self.path = home / "notes.txt"

    def erase(self, entry, identifiers, through_us):
        lines = self.path.read_text().splitlines()
        self.path.write_text("".join(f"{line}\n" for line in lines if line not in identifiers))
        return {"found": [lines.count(one) for one in identifiers], "removed": len(lines)}


class Killed(BaseException):
    """The end of a process, as a test has it."""


def texts_of(path: Path) -> bytes:
    """Everything a file says, out of its compression."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path, partitioning=None)
        data += repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
        data += repr(pq.read_metadata(path).to_dict()).encode()
    if path.suffix == ".arrow":
        data += repr(pa.ipc.open_file(pa.BufferReader(data)).read_all().to_pylist()).encode()
    return data


def saying(home: Path, text: str) -> list[str]:
    """The files of a home that say a text."""
    return sorted(
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and text.encode() in texts_of(path)
    )


def live(store: EmbeddedStore, text: str, group: str = "readings") -> bool:
    """Whether the online store has a text among its keys, values or outbox entries."""
    number = store.registry.get(group).number
    values = store.online.scan(number, after=None, limit=100_000)
    entries = store.online.outbox.read(number, after=0, limit=100_000)
    return text.encode() in repr((values, list(entries))).encode()


def fill(store: EmbeddedStore, reading) -> None:
    """Records of one who is to go, before and after every kind of commit, and of others."""
    for second in range(4):
        store.put("readings", reading(WHO, second, temp=1.0, note=f"note of {WHO}"))
        store.put("readings", reading("JFK", second, temp=2.0))
        store.put("readings", reading(f"ST{second}", second, temp=3.0))
        store.flush()
    store.offline_table(store.registry.get("readings")).open().create_checkpoint()
    spine = pa.table(
        {"station": [WHO, "JFK"], "event_time": [eventtime.to_datetime(eventtime.MAX_US)] * 2}
    )
    store.dataset(spine, ["readings"]).save()
    store.dataset(spine.slice(1), ["readings[temp]"]).save()
    store.delete("readings", "ST0", event_time="2024-01-01T00:10:00Z")
    store.put("readings", reading(WHO, 9, temp=4.0))
    store.put("readings", reading("EWR", 9, temp=4.0))


@pytest.fixture
def filled(store, reading):
    fill(store, reading)
    return store


@pytest.fixture(scope="module")
def kept(tmp_path_factory, readings, reading, clock_class) -> tuple[Path, Path]:
    """A filled home and a copy of it: lineage and reports know the home by its path."""
    home = tmp_path_factory.mktemp("kept") / "home"
    home.mkdir()
    made = EmbeddedStore(home, now=clock_class(START_US + DAY_US))
    made.create_feature_group(readings)
    fill(made, reading)
    (home / "notes.txt").write_text(f"{WHO}\nJFK\n")
    made.close()
    return home, Path(shutil.copytree(home, home.with_name("copy")))


@pytest.fixture
def template(kept) -> Path:
    """The filled home as it was at first."""
    home, copy = kept
    shutil.rmtree(home)
    return Path(shutil.copytree(copy, home))


def others(store, rows_of):
    return [
        (row["station"], row["_event_time"], row["temp"], row["is_deleted"])
        for row in rows_of(store)
        if row["station"] != WHO
    ]


# -- what is gone, and what stays -----------------------------------------------------------------


def test_nothing_in_the_home_names_the_identifier(filled, rows_of, clock):
    filled.flush()
    before = others(filled, rows_of)
    assert len(saying(filled.home, WHO)) > 8
    report = filled.erase("readings", WHO, reason="a request", datasets="delete")
    assert saying(filled.home, WHO) == []
    assert not live(filled, WHO)
    assert filled.get("readings", WHO) is None
    assert others(filled, rows_of) == before
    assert filled.verify("readings").equal
    assert report.is_found
    assert report.rows == 5
    (one,) = report.document["identifiers"]
    assert (one["online"], one["offline_rows"], one["elsewhere"]) == (True, 5, 0)
    assert one["erased_through"] == eventtime.format_iso(clock.us)
    assert report.document["reason"] == "a request"


def test_a_record_waiting_in_the_outbox_is_erased_and_those_of_others_are_flushed(filled, rows_of):
    assert filled.online.outbox.pending() == 3
    filled.erase("readings", WHO)
    assert filled.online.outbox.pending() == 0
    assert [row["station"] for row in rows_of(filled)].count("EWR") == 1
    assert next(row for row in rows_of(filled) if row["is_deleted"])["station"] == "ST0"


def test_versions_that_held_it_are_lost_and_no_others(store, reading, readings):
    store.put("readings", reading("JFK", 1))
    store.flush()
    store.put("readings", reading(WHO, 2))
    store.flush()
    store.put("readings", reading("LGA", 86_500))
    store.flush()
    with_it = [entry.version for entry in store.versions("readings") if entry.version != 0]
    report = store.erase("readings", WHO)
    assert report.document["offline"]["versions_lost"] == [[1, 2]]
    readable = {entry.version for entry in store.versions("readings") if entry.is_readable}
    assert 0 in readable
    assert not readable & set(with_it)
    assert store.history("readings", version=0).read_all()["station"].to_pylist() == ["JFK"]
    with pytest.raises(InvalidRequest, match="an erasure did"):
        store.history("readings", version=1)
    with pytest.raises(InvalidRequest):
        store.restore("readings", 1)


def test_files_that_compaction_and_vacuum_took_leave_no_trace_in_the_log(store, reading):
    """Their statistics would name the identifier as a smallest or largest value."""
    import datetime as dt

    store.put("readings", reading("AAA", 10))
    store.flush()
    # As tables were made before their log held to the statistics that readers need.
    opened = store.offline_table(store.registry.get("readings")).open()
    opened.alter.set_table_properties({"delta.dataSkippingStatsColumns": "station,_event_time"})
    for second in range(6):
        store.put("readings", reading(WHO if second % 2 else "AAA", second))
        store.flush()
    store.maintain("readings", retention=dt.timedelta(0))
    assert any("_delta_log" in path for path in saying(store.home, WHO))
    store.erase("readings", WHO)
    assert saying(store.home, WHO) == []
    assert set(store.history("readings").read_all()["station"].to_pylist()) == {"AAA"}
    store.put("readings", reading("BBB", 9))
    store.maintain("readings", retention=dt.timedelta(0))
    assert store.verify("readings").equal


def test_late_records_are_erased_on_arrival_and_a_later_one_lives(filled, reading, clock, rows_of):
    filled.erase("readings", WHO)
    filled.put("readings", reading(WHO, 5, temp=9.0))
    filled.put_table("readings", pa.Table.from_pylist([reading(WHO, 6), reading("OWD", 6)]))
    filled.delete("readings", WHO, event_time="2024-01-01T00:00:30Z")
    filled.delete("readings", WHO, event_time="2024-01-01T00:00:30Z", hard=True)
    assert filled.get("readings", WHO) is None
    filled.flush()
    assert saying(filled.home / "offline", WHO) == []
    assert filled.get("readings", "OWD") is not None
    clock.advance(60)
    filled.put("readings", reading(WHO, 86_430, temp=5.0))
    assert filled.get("readings", WHO)["temp"] == 5.0
    assert list(filled.records("readings")).count(WHO) == 1
    assert filled.verify("readings").equal
    filled.put("readings", reading(WHO, 7))
    assert [row["temp"] for row in rows_of(filled) if row["station"] == WHO] == [5.0]
    # And it can be erased again, with the new row and no other.
    assert filled.erase("readings", WHO).rows == 1
    assert filled.get("readings", WHO) is None
    assert filled.verify("readings").equal


def test_several_identifiers_each_with_its_own_line(filled):
    report = filled.erase("readings", [WHO, "JFK", "never", WHO])
    assert [one["found"] for one in report.document["identifiers"]] == [True, True, False]
    assert [one["offline_rows"] for one in report.document["identifiers"]] == [5, 4, 0]
    assert sorted(filled.records("readings")) == ["EWR", "ST1", "ST2", "ST3"]


def test_an_identifier_nobody_knows_is_reported_as_not_found(filled):
    version = filled.flush()["readings"].version
    report = filled.erase("readings", GONE)
    assert not report.is_found
    assert report.document["offline"]["files_deleted"] == []
    assert report.document["offline"]["version"] == version
    assert verify_report(report.to_json()) == report
    assert saying(filled.home, GONE) == []


@pytest.mark.parametrize(
    ("kind", "who", "other"),
    [
        ("Integral", 17, 170),
        ("Fractional", 1.5, 15.0),
        ("String", "o'né \"%x", "o'n"),
        ("String", "x" * 1500, "x" * 1499),
    ],
)
def test_identifiers_of_every_type(make_store, make_group, kind, who, other):
    store = make_store()
    store.create_feature_group(make_group("g", [("My-Id", kind), ("at", "Fractional")]))
    for identifier in (who, other):
        store.put("g", {"My-Id": identifier, "at": 5.0})
    store.flush()
    report = store.erase("g", [who])
    assert report.rows == 1
    assert store.history("g").read_all()["My-Id"].to_pylist() == [other]
    assert store.get("g", who) is None
    assert store.get("g", other) is not None
    assert store.verify("g").equal


def test_groups_with_one_store(make_store, readings, reading):
    from dataclasses import replace

    store = make_store()
    store.create_feature_group(replace(readings, name="now", offline=False))
    store.create_feature_group(replace(readings, name="then", online=False))
    for group in ("now", "then"):
        store.put(group, reading(WHO, 1))
        report = store.erase(group, WHO)
        assert report.is_found
        store.put(group, reading(WHO, 2))
    store.flush()
    assert store.get("now", WHO) is None
    assert saying(store.home, WHO) == []


def test_an_encrypted_group(make_store, readings, reading, monkeypatch):
    from dataclasses import replace

    monkeypatch.setenv("FEATURELINE_MASTER_KEY", base64.b64encode(bytes(32)).decode())
    store = make_store()
    store.create_feature_group(replace(readings, kms_key="k"))
    fill(store, reading)
    assert store.erase("readings", WHO, datasets="delete").rows == 5
    assert saying(store.home, WHO) == []
    assert not live(store, WHO)
    assert store.verify("readings").equal


# -- kills ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_an_erasure_that_is_cut_is_finished(step, template, make_store, rows_of):
    home = template
    taken = []

    def kill(name):
        taken.append(name)
        if name == step:
            raise Killed

    cut = make_store(home)
    cut.eraser.holders.append(Notes(home))
    cut.eraser.on_step = kill
    with pytest.raises(Killed):
        cut.erase("readings", [WHO], datasets="delete", reason="cut")
    assert taken[-1] == step
    cut.close()

    store = make_store(home)
    store.eraser.holders.append(Notes(home))
    (report,) = store.eraser.resume()
    assert store.eraser.resume() == []
    assert saying(home, WHO) == []
    assert not live(store, WHO)
    document = report.document
    (one,) = document["identifiers"]
    assert (one["online"], one["offline_rows"], one["elsewhere"]) == (True, 5, 1)
    assert len(document["offline"]["files_deleted"]) == 5
    assert document["offline"]["versions_lost"] == [[0, 4]]
    assert sorted(one.get("deleted", False) for one in report.datasets) == [False, True]
    assert document["reason"] == "cut"
    stations = sorted(row["station"] for row in rows_of(store))
    assert stations == ["EWR", *["JFK"] * 4, "ST0", "ST0", "ST1", "ST2", "ST3"]
    assert store.verify("readings").equal
    assert len(store.graph.find(type="Erasure")) == 1
    assert [path.name for path in (home / "erasures").iterdir()] == [
        f"{report.erasure}.report.json"
    ]
    assert (home / "notes.txt").read_text() == "JFK\n"


def test_before_the_journal_nothing_is_begun(filled):
    def kill(name):
        raise Killed

    filled.eraser.on_step = kill
    with pytest.raises(Killed):
        filled.erase("readings", WHO)
    assert filled.eraser.resume() == []
    assert filled.get("readings", WHO) is not None


def test_the_next_erasure_finishes_the_one_that_was_cut(filled):
    def kill(name):
        if name == "offline":
            raise Killed

    filled.eraser.on_step = kill
    with pytest.raises(Killed):
        filled.erase("readings", WHO)
    filled.eraser.on_step = lambda name: None
    filled.erase("readings", GONE)
    assert saying(filled.home / "offline", WHO) == []
    assert len(list((filled.home / "erasures").iterdir())) == 2


def test_a_record_that_came_after_the_kill_stays(filled, reading, clock):
    def kill(name):
        if name == "flush":
            raise Killed

    filled.eraser.on_step = kill
    with pytest.raises(Killed):
        filled.erase("readings", WHO)
    clock.advance(60)
    filled.put("readings", reading(WHO, 86_430, temp=5.0))
    filled.eraser.on_step = lambda name: None
    filled.eraser.resume()
    assert filled.get("readings", WHO)["temp"] == 5.0
    assert filled.verify("readings").equal


def test_a_group_that_was_deleted_meanwhile_is_erased_from_its_table(filled):
    def kill(name):
        if name == "online":
            raise Killed

    filled.eraser.on_step = kill
    with pytest.raises(Killed):
        filled.erase("readings", WHO, datasets="delete")
    filled.delete_feature_group("readings")
    filled.eraser.on_step = lambda name: None
    (report,) = filled.eraser.resume()
    assert report.rows == 5
    assert saying(filled.home, WHO) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from featurestore.embedded import open_store
store = open_store(sys.argv[1])
def kill(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
store.eraser.on_step = kill
store.erase("readings", sys.argv[3])
"""


@pytest.mark.parametrize("step", ["flush", "offline files", "report"])
def test_a_killed_process(step, template, run_python, make_store):
    with run_python(["-c", KILLED, str(template), step, WHO]) as process:
        assert process.wait(60) == -signal.SIGKILL
    store = make_store(template)
    (report,) = store.eraser.resume()
    assert report.rows == 5
    # Not asked to, it leaves the saved dataset with the row, and says so.
    left = saying(template, WHO)
    assert [path.split("/")[:2] for path in left if path != "notes.txt"] == [
        ["artifacts", "datasets"],
        ["artifacts", "datasets"],
        ["artifacts", "spines"],
    ]
    assert any("saved datasets: 1" in text for text in report.not_reached)


def test_a_damaged_journal_is_named(filled):
    folder = filled.home / "erasures"
    folder.mkdir()
    (folder / "x.journal.json").write_text("{}")
    with pytest.raises(StoreCorrupt, match=r"x\.journal\.json"):
        filled.erase("readings", WHO)


# -- who has seen it ------------------------------------------------------------------------------


def test_the_report_names_datasets_and_models(filled):
    datasets = filled.saved.list()
    entity = {
        d.fingerprint: filled.graph.find(source_uri=f"dataset:{d.fingerprint}")[0] for d in datasets
    }
    holding = next(d for d in datasets if d.manifest["rows"] == 2)
    model = lineage.artifact("Model", "model:1", content_hash="1", name="the model")
    with lineage.Recorder(filled.graph, "TrainingJob", "job") as job:
        job.input(entity[holding.fingerprint])
        job.output(model)
    report = filled.erase("readings", WHO)
    found = {one["fingerprint"]: one for one in report.datasets}
    assert found.keys() == entity.keys()
    for fingerprint, one in found.items():
        assert one["uid"] == entity[fingerprint].uid
        assert one["holds"] == ("yes" if fingerprint == holding.fingerprint else "maybe")
    assert found[holding.fingerprint]["rows"] == 1
    assert [one["name"] for one in report.models] == ["the model"]
    assert report.models[0]["uid"] == filled.graph.find(type="Model")[0].uid
    (action,) = filled.graph.find(type="Erasure")
    assert action.properties["report_digest"] == report.document["digest"]
    assert action.properties["identifiers"] == [report.document["identifiers"][0]["hash"]]
    exposed = {one["uid"] for one in (*report.datasets, *report.models)}
    (trained,) = filled.graph.find(type="Model")
    assert trained.uid in exposed
    near = filled.graph.query(action, "ascendants", depth=1, through=["AssociatedWith"])
    assert {one.uid for one in near} == exposed | {action.uid}
    assert list(filled.graph.query(trained, "descendants", types=["Erasure"])) == [action]


def test_deleting_datasets_takes_those_with_rows_only(filled):
    report = filled.erase("readings", WHO, datasets="delete")
    assert sorted(one.get("deleted", False) for one in report.datasets) == [False, True]
    (left,) = filled.saved.list()
    assert left.manifest["rows"] == 1
    assert filled.load_dataset(left.fingerprint).table["station"].to_pylist() == ["JFK"]


# -- the report -----------------------------------------------------------------------------------


def test_a_report_is_signed_and_any_change_shows(filled):
    report = filled.erase("readings", WHO)
    document = json.loads(json.dumps(report.to_json()))
    public = public_key_of(filled.home / "erasure.pub")
    assert verify_report(document, public_key=public).erasure == report.erasure
    for name, value in (("by", "nobody"), ("found", False), ("extra", 1)):
        with pytest.raises(InvalidRequest, match="altered"):
            verify_report({**document, name: value})
    with pytest.raises(InvalidRequest, match="altered"):
        verify_report({**document, "signature": document["signature"][:-4] + "AAA="})
    with pytest.raises(InvalidRequest, match="another key"):
        verify_report(document, public_key=bytes(32))
    for no_report in ({}, {"form": "x"}, [], None):
        with pytest.raises(InvalidRequest, match="expected a report"):
            verify_report(no_report)


def test_a_forged_report_is_signed_with_another_key(filled, tmp_path):
    from featurestore.erasure.report import signed

    report = filled.erase("readings", WHO)
    body = {k: v for k, v in report.document.items() if k not in ("digest", "signature")}
    del body["public_key"]
    forged = signed({**body, "found": False}, SigningKey(tmp_path)).to_json()
    assert verify_report(forged)  # whole, by the key that it names
    with pytest.raises(InvalidRequest, match="another key"):
        verify_report(forged, public_key=public_key_of(filled.home / "erasure.pub"))


def test_the_key_is_made_once_and_for_its_owner_only(filled):
    first = SigningKey(filled.home)
    assert SigningKey(filled.home).public == first.public
    assert stat.S_IMODE((filled.home / "erasure.key").stat().st_mode) == 0o600
    assert public_key_of(filled.home / "erasure.pub") == first.public
    (filled.home / "erasure.key").write_text("no key")
    with pytest.raises(StoreCorrupt, match=r"erasure\.key"):
        filled.erase("readings", WHO)
    with pytest.raises(InvalidRequest, match="expected a public Ed25519 key"):
        public_key_of(filled.home / "erasure.key")


def test_the_hash_tells_who_has_the_key_and_nobody_else(filled, tmp_path):
    report = filled.erase("readings", WHO)
    (one,) = report.document["identifiers"]
    assert one["hash"] == identifier_hash(SigningKey(filled.home), "readings", WHO)
    assert one["hash"] != identifier_hash(SigningKey(tmp_path), "readings", WHO)
    assert one["hash"] != identifier_hash(SigningKey(filled.home), "other", WHO)


# -- refusals -------------------------------------------------------------------------------------


def test_refusals_begin_nothing(filled):
    with pytest.raises(FeatureGroupNotFound):
        filled.erase("reading", WHO)
    with pytest.raises(InvalidRequest, match="1 to 1,000 identifiers"):
        filled.erase("readings", [])
    with pytest.raises(InvalidRecord):
        filled.erase("readings", [None])
    with pytest.raises(InvalidRequest, match="keep or delete"):
        filled.erase("readings", WHO, datasets="all")
    with pytest.raises(InvalidRequest, match="it names an identifier"):
        filled.erase("readings", WHO, reason=f"{WHO} asked")
    assert Journal(filled.home).unfinished() == []
    assert filled.get("readings", WHO) is not None


def test_two_stores_erase_one_after_the_other(filled, make_store):
    import threading

    other = make_store()
    reports = []
    threads = [
        threading.Thread(target=lambda s=s: reports.append(s.erase("readings", WHO)))
        for s in (filled, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.rows for report in reports) == [0, 5]


def test_dead_letters_of_a_program_that_cannot_read_them_are_named(filled):
    (filled.home / "deadletters" / "readings").mkdir(parents=True)
    report = filled.erase("readings", WHO)
    assert any(text.startswith("dead letters:") for text in report.not_reached)
