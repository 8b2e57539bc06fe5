"""Events that wait on disk while the store is away: none lost, none doubled, in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

import lineage
from lineage import (
    ColumnEdge,
    ColumnLineage,
    Facet,
    Graph,
    MemoryStore,
    Recorder,
    RecordingFailed,
    Run,
    Spool,
    StoreUnavailable,
    action,
    artifact,
    as_draft,
)
from tests.lineage.postgres import PostgresServer

ROOT = Path(lineage.__file__).parents[1]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store that can be away, and how to say so."""
    store = MemoryStore()
    append, append_all = store.append, store.append_all

    class Switch:
        is_away = False
        store_ = store

        def append(self, draft: lineage.Draft) -> lineage.Recorded:
            if self.is_away:
                raise StoreUnavailable("the store is away")
            return append(draft)

        def append_all(
            self, drafts: Sequence[lineage.Draft]
        ) -> list[lineage.Recorded | lineage.LineageError]:
            if self.is_away:
                raise StoreUnavailable("the store is away")
            return append_all(drafts)

    switch = Switch()
    monkeypatch.setattr(store, "append", switch.append)
    monkeypatch.setattr(store, "append_all", switch.append_all)
    monkeypatch.setattr("lineage.graph.recording._LOOK_AGAIN_S", 0.0)
    return switch


def spooled(away: Any, path: Path) -> Graph:
    return Graph(away.store_, spool=Spool(path))


def uids(store: MemoryStore) -> list[str]:
    with store.log() as (events, _):
        return [event.event_uid for event in events]


def full_event() -> dict[str, Any]:
    data = artifact("DataSet", "s3://b/d", content_hash="1", properties={"n": [1, {"x": "é"}]})
    job = lineage.Entity(
        lineage.Kind.ACTION, "Step", "s", facets={"state": Facet(5, "Done")}, version=3
    )
    return {
        "entities": [data, job],
        "associations": [(data, job, "ContributedTo")],
        "columns": [ColumnLineage(job, "j", (ColumnEdge(data, "a", "b", masking=True),), 7)],
        "runs": [Run("r", job, "Done", 1, 2, {"k": 1})],
        "tags": [(job, "keep", "yes")],
        "aliases": [("arn:1", job)],
        "kind": "T",
        "event_uid": "e",
        "actor": "me",
    }


def test_events_wait_and_come_in_their_order(away: Any, tmp_path: Path) -> None:
    graph = spooled(away, tmp_path / "spool.ndjson")
    graph.record([action("Step", "first")], kind="T", event_uid="1")
    away.is_away = True
    waiting = graph.record([action("Step", "second")], kind="T", event_uid="2")
    assert (waiting.sequence, waiting.entities[0].uid) == (0, "urn:fs:action:Step:second")
    graph.record([action("Step", "third")], kind="T", event_uid="3")
    assert (tmp_path / "spool.ndjson").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreUnavailable):
        graph.replay_spool()
    away.is_away = False
    assert graph.record([action("Step", "fourth")], kind="T", event_uid="4").sequence == 4
    assert uids(away.store_) == ["1", "2", "3", "4"]
    assert not graph.spool
    assert graph.replay_spool() == lineage.Replayed(0, 0)


def test_everything_an_event_can_say_waits_whole(away: Any, tmp_path: Path) -> None:
    graph, twin = spooled(away, tmp_path / "spool.ndjson"), Graph(MemoryStore())
    away.is_away = True
    graph.record(**full_event())
    away.is_away = False
    assert graph.replay_spool() == lineage.Replayed(1, 0)
    twin.record(**full_event())
    with away.store_.log() as (ours, _), twin.store.log() as (theirs, _):
        assert [event.body for event in ours] == [event.body for event in theirs]


def test_what_the_graph_refuses_is_put_aside_with_its_reason(away: Any, tmp_path: Path) -> None:
    graph = spooled(away, tmp_path / "spool.ndjson")
    away.is_away = True
    graph.record([], [("urn:none", action("A", "a"), "Produced")], kind="T")
    graph.record([action("Step", "good")], kind="T", event_uid="good")
    away.is_away = False
    assert graph.replay_spool() == lineage.Replayed(1, 1)
    refused = json.loads((tmp_path / "spool.refused.ndjson").read_text("utf-8"))
    assert refused["reason"].startswith("EntityNotFound: entity 'urn:none' does not exist")
    assert uids(away.store_) == ["good"]


def test_a_line_cut_short_was_never_acknowledged(away: Any, tmp_path: Path) -> None:
    path = tmp_path / "spool.ndjson"
    spool = Spool(path)
    spool.put(as_draft([action("Step", "a")], kind="T", event_uid="a"))
    with path.open("ab") as file:
        file.write(b'{"kind": "T", "ent')
    spool.put(as_draft([action("Step", "b")], kind="T", event_uid="b"))
    replayed = spool.replay(away.store_)
    assert (replayed.recorded, replayed.refused) == (2, 1)
    assert uids(away.store_) == ["a", "b"]


def test_a_replay_that_is_cut_short_doubles_nothing(
    away: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool.ndjson")
    for uid in "abc":
        spool.put(as_draft([action("Step", uid)], kind="T", event_uid=uid))

    def killed(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", killed)
        patched.setattr("os.ftruncate", killed)
        saved = spool.path.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            spool.replay(away.store_)
    spool.path.write_bytes(saved)
    assert spool.replay(away.store_).recorded == 3
    assert uids(away.store_) == ["a", "b", "c"]


WRITER = """
import sys
from collections.abc import Sequence
from pathlib import Path
from lineage import Spool, action, as_draft
spool, name = Spool(Path(sys.argv[1])), sys.argv[2]
for n in range(100_000):
    uid = f"{name}-{n}"
    spool.put(as_draft([action("Step", uid)], kind="T", event_uid=uid))
    sys.stdout.write(uid + "\\n")
    sys.stdout.flush()
"""


def test_processes_that_are_killed_lose_no_acknowledged_event(tmp_path: Path) -> None:
    path = tmp_path / "spool.ndjson"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"p{n}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    said: list[str] = []
    for writer in writers:
        assert writer.stdout is not None
        said += [writer.stdout.readline() for _ in range(10)]
        writer.send_signal(signal.SIGKILL)
    for writer in writers:
        said += writer.communicate()[0].splitlines(keepends=True)
    store = MemoryStore()
    Spool(path).replay(store)
    known = uids(store)
    assert len(known) == len(set(known))
    assert {line.strip() for line in said if line.endswith("\n")} <= set(known)


def test_a_job_neither_loses_its_record_nor_hangs(away: Any, tmp_path: Path) -> None:
    graph = spooled(away, tmp_path / "spool.ndjson")
    away.is_away = True
    with Recorder(graph, "TrainingJob", "j") as job:
        job.input(artifact("DataSet", "s3://b/d", content_hash="1"))
        job.output(artifact("Model", "s3://b/m", content_hash="2"))
    away.is_away = False
    graph.replay_spool()
    model = graph.find(type="Model")[0]
    assert [one.name for one in graph.query(model)] == ["m", "j", "d"]
    assert graph.find(type="TrainingJob")[0].state == "Completed"


def test_a_job_that_can_do_neither_fails(away: Any) -> None:
    graph = spooled(away, Path("/proc/nowhere/spool.ndjson"))
    away.is_away = True
    with pytest.raises(RecordingFailed, match="cannot wait on disk"):
        Recorder(graph, "TrainingJob", "j").__enter__()


def test_a_home_whose_database_is_away_works_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage.store.postgres._PATIENCE_S", 0.1)
    server = PostgresServer()
    try:
        home = tmp_path / "home"
        lineage.open_home(home, server.url).close()
        server.stop()
        with lineage.open_home(home) as graph:
            assert graph.record([action("Step", "while")], kind="T").sequence == 0
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                graph.find()
        server.start()
        with lineage.open_home(home) as graph:
            assert [one.name for one in graph.find()] == ["while"]
            assert not graph.spool
    finally:
        server.close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool.ndjson")
    spool.put(as_draft([action("Step", "a")], kind="T", event_uid="a"))
    before = spool.path.read_bytes()

    def full(_: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            spool.put(as_draft([action("Step", "b")], kind="T", event_uid="b"))
    assert spool.path.read_bytes() == before
