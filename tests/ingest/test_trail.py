"""Lineage of runs that go on: updated at intervals, linked, and from a dataset to its offsets."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lineage
from featurestore import DatasetNotFound
from ingest import FileSource, Pipeline
from ingest.origin import dataset_origins, group_origins
from ingest.trail import Stretch, stretches_of, thinned

pytestmark = pytest.mark.timeout(120)


def write(path: Path, *records: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def offsets(origins):
    return [(one.start, one.next, one.is_recorded) for one in origins]


def test_a_run_says_how_far_it_is_while_it_goes_on(tmp_path, store, reading):
    path = write(tmp_path / "r.jsonl", *map(reading, range(10)))
    seen = []

    def look(report):
        (action,) = store.graph.find(type="Ingest")
        seen.append((action.state, action.properties.get("read")))

    Pipeline(FileSource(path), store, "readings", batch_size=2, lineage_s=0.0, label="r").run(
        on_progress=look
    )

    assert seen == [("InProgress", n) for n in (None, 2, 4, 6, 8)]
    (action,) = store.graph.find(type="Ingest")
    assert action.state == "Completed"
    assert (action.properties["read"], action.properties["pipeline"]) == (10, "r")
    assert str(action.properties["mapping_digest"]).startswith("sha256:")
    (ranges,) = zip(*(list(one.offsets.values()) for one in stretches_of(action)), strict=True)
    assert [first for first, _ in ranges] == [0, *(after for _, after in ranges[:-1])]
    assert ranges[-1][1] == 10


def test_a_long_interval_writes_the_beginning_and_the_end(tmp_path, store, reading):
    path = write(tmp_path / "r.jsonl", *map(reading, range(10)))
    before = store.graph.stats()["events"]
    Pipeline(FileSource(path), store, "readings", batch_size=1).run()
    assert store.graph.stats()["events"] - before == 3  # begun, first batch, ended


@given(st.lists(st.integers(1, 200), min_size=1, max_size=300))
def test_thinned_stretches_lose_nothing_and_stay_fine_at_the_end(lengths):
    stretches, at = [], 0
    for number, length in enumerate(lengths):
        stretches.append(Stretch(at, at + length, {"0": (number, number + 1)}))
        at += length
    kept = thinned(stretches, now_us=at, least_us=0)
    assert (kept[0].from_us, kept[-1].until_us) == (0, at)
    assert all(a.until_us == b.from_us for a, b in itertools.pairwise(kept))
    assert all(a.offsets["0"][1] == b.offsets["0"][0] for a, b in itertools.pairwise(kept))
    originals = {(one.from_us, one.until_us) for one in stretches}
    for one in kept:
        is_joined = (one.from_us, one.until_us) not in originals
        assert not is_joined or one.until_us - one.from_us <= (at - one.until_us) // 8


def test_a_killed_run_leaves_how_far_it_was_and_the_next_is_linked_to_it(
    tmp_path, store, reading, stored
):
    path = write(tmp_path / "r.jsonl", *map(reading, range(6000)))
    root = Path(__file__).parents[2]
    script = (
        "import sys, time, featurestore\n"
        "from ingest import FileSource, Pipeline\n"
        "with featurestore.open(sys.argv[1]) as store:\n"
        "    Pipeline(FileSource(sys.argv[2]), store, 'readings', batch_size=10,\n"
        "             lineage_s=0.05).run(on_progress=lambda report: time.sleep(0.02))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "home"), str(path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        deadline = time.monotonic() + 60
        while not any(a.properties.get("read") for a in store.graph.find(type="Ingest")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)

    (killed,) = store.graph.find(type="Ingest")
    assert killed.state == "InProgress"
    (told,) = killed.properties["offsets"].values()
    (position,) = store.source_position(str(killed.properties["source"])).values()
    assert 0 < told["next"] <= position < 6000
    recorded, *tail = group_origins(store, "readings")
    assert (recorded.start, recorded.next, recorded.is_recorded) == (0, told["next"], True)
    assert offsets(tail) in ([], [(told["next"], position, False)])

    Pipeline(FileSource(path), store, "readings").run()
    _, following = store.graph.find(type="Ingest")
    links = store.graph.query(following, "ascendants", depth=1, types=["Ingest"])
    assert [entity.uid for entity in links if entity.uid != following.uid] == [killed.uid]
    assert stored() == list(range(6000))
    assert store.graph.verify(projections=True).intact


def test_a_dataset_names_the_offsets_its_rows_came_from(tmp_path, store, reading):
    folder = tmp_path / "in"
    first = write(folder / "a.jsonl", *map(reading, range(4)))
    Pipeline(FileSource(folder), store, "readings", lineage_s=0.0).run()
    store.flush("readings")
    write(folder / "b.jsonl", *map(reading, range(4, 9)))
    spine = pa.table({"station": [1, 2], "event_time": ["2024-01-01T01:00:00Z"] * 2})
    early = store.dataset(spine, features=["readings"])
    time.sleep(0.01)  # a commit's time has milliseconds
    Pipeline(FileSource(folder), store, "readings", lineage_s=0.0).run()
    late = store.dataset(spine, features=["readings"])

    (origin,) = dataset_origins(store, early.manifest["fingerprint"])
    assert (origin.group, origin.start, origin.next, origin.is_recorded) == (
        "readings",
        0,
        4,
        True,
    )
    assert origin.inputs == (first.as_uri(), (folder / "b.jsonl").as_uri())
    assert origin.partition.startswith(first.as_uri())
    assert sorted(offsets(dataset_origins(store, late.manifest["fingerprint"]))) == [
        (0, 4, True),
        (0, 5, True),
    ]
    with pytest.raises(DatasetNotFound, match="knows no dataset 'abc'"):
        dataset_origins(store, "abc")


def test_a_run_over_very_many_files_names_some_and_the_store_the_rest(
    tmp_path, store, reading, monkeypatch
):
    monkeypatch.setattr("ingest.trail._MOST_PARTITIONS", 2)
    for number in range(4):
        write(tmp_path / "in" / f"{number}.jsonl", reading(number))
    Pipeline(FileSource(tmp_path / "in"), store, "readings", lineage_s=0.0).run()
    (action,) = store.graph.find(type="Ingest")
    assert (action.properties["partitions"], action.properties["stretches"]) == (4, [])
    found = group_origins(store, "readings")
    assert len({one.partition for one in found}) == 4
    assert sorted(one.is_recorded for one in found) == [False, False, True, True]
    assert {(one.start, one.next) for one in found} == {(0, 1)}


def test_a_run_that_was_moved_back_names_each_range_once(tmp_path, store, reading):
    path = write(tmp_path / "r.jsonl", *map(reading, range(10)))
    moved = []

    def move(report):
        (source,) = {str(a.properties["source"]) for a in _told(store)} or {""}
        if report.read == 6 and not moved and source:
            (partition,) = report.positions
            moved.append(store.move_source(source, {partition: 2}, expected=report.positions))

    report = Pipeline(FileSource(path), store, "readings", batch_size=2, lineage_s=0.0).run(
        on_progress=move
    )
    # The run learned of the move when the store refused its next batch, and went on from there.
    assert report.conflicts == 1
    assert report.read == 6 + 8
    assert offsets(group_origins(store, "readings")) == [(0, 10, True)]


def _told(store) -> list[lineage.Entity]:
    return [one for one in store.graph.find(type="Ingest") if "source" in one.properties]
