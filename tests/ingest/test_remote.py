"""Ingestion into a server over gRPC: the same promises, also when the server is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import featurestore
from ingest import FileSource, Pipeline
from ingest.origin import group_origins

ROWS = 6000


class _Server:
    """`featureline serve` in a process of its own, always on the same port."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None
        self.address = "127.0.0.1:0"

    def start(self) -> None:
        root = Path(__file__).parents[2]
        command = [sys.executable, "-m", "featureline", "serve"]
        command += ["--home", str(self._home), "--grpc", self.address]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert self._process.stdout is not None
        self.address = json.loads(self._process.stdout.readline())["grpc"]

    def kill(self) -> None:
        if self._process is not None:
            with self._process:
                self._process.send_signal(signal.SIGKILL)
            self._process = None


@pytest.fixture
def server(store, tmp_path):
    started = _Server(tmp_path / "home")
    try:
        started.start()
        yield started
    finally:
        started.kill()


@pytest.fixture
def rows(tmp_path, reading):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(reading(n)) + "\n" for n in range(ROWS)))
    return path


def test_server_takes_records_position_and_lineage(server, rows, store, stored):
    with featurestore.connect(server.address) as remote:
        report = Pipeline(FileSource(rows), remote, "readings").run()
        assert report.written == ROWS
        assert Pipeline(FileSource(rows), remote, "readings").run().read == 0
    assert Pipeline(FileSource(rows), store, "readings").run().read == 0
    assert stored() == list(range(ROWS))
    actions = store.graph.find(type="Ingest")
    assert [action.state for action in actions] == ["Completed"] * 3
    (entity,) = store.graph.find(type="DataSet")
    assert entity.source_uri == rows.as_uri()


def test_server_tells_of_a_move_and_names_the_offsets(server, rows, store, stored):
    moved = []

    def move(report):
        (action,) = remote.graph.find(type="Ingest")
        if report.read == 4000 and not moved:
            (partition,) = report.positions
            source = action.properties["source"]
            moved.append(remote.move_source(source, {partition: 3000}, expected=report.positions))

    with featurestore.connect(server.address) as remote:
        pipeline = Pipeline(FileSource(rows), remote, "readings", batch_size=1000, lineage_s=0.0)
        report = pipeline.run(on_progress=move)
        (origin,) = group_origins(remote, "readings")
    assert (report.read, report.conflicts) == (ROWS + 1000, 1)
    assert (origin.start, origin.next, origin.inputs) == (0, ROWS, (rows.as_uri(),))
    assert stored() == sorted([*range(ROWS), *range(3000, 4000)])


def test_server_killed_while_storing_each_record_is_stored_once(server, rows, store, stored):
    chance = random.Random(7)
    done = threading.Event()
    reports = []

    def ingest() -> None:
        with featurestore.connect(server.address) as remote:
            reports.append(Pipeline(FileSource(rows), remote, "readings", batch_size=20).run())
        done.set()

    ingesting = threading.Thread(target=ingest)
    ingesting.start()
    kills = 0
    while not done.wait(chance.uniform(0.3, 0.6)) and kills < 4:
        server.kill()
        server.start()
        kills += 1
    ingesting.join(60)
    assert done.is_set()
    assert kills >= 2
    # A batch whose answer was lost is known by its position; it is in the store, not in `read`.
    assert reports[0].read + 20 * reports[0].conflicts >= ROWS
    assert stored() == list(range(ROWS))
