"""The fleet: pipelines that run beside each other, are steered, changed, killed and restarted."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from kafka import KafkaProducer

import ingest.pipeline
from ingest.fleet.control import Control, FleetRuns, replay, seek, status
from ingest.fleet.fleet import Fleet
from ingest.fleet.progress import PipelineStatus, State
from ingest.fleet.settings import read_settings

pytestmark = pytest.mark.timeout(120)

PATIENCE_S = 60.0
_SECOND_0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Running:
    """A fleet in a thread of the test, whose settings file can be written anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = read_settings(path)
        self.control = Control(self.settings.state)
        self.stop = threading.Event()
        self.fleet = Fleet(self.settings, reload=lambda: read_settings(path), first_pause_s=0.1)
        self._thread = threading.Thread(target=self.fleet.run, args=(self.stop,))

    def of(self, name: str) -> PipelineStatus:
        return next(one for one in self.fleet.status if one.name == name)

    def until(self, is_so) -> None:
        """Wait until the fleet's own status says so."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self.fleet.status and is_so():
                return
            time.sleep(0.05)
        pytest.fail(f"it did not come to that: {self.fleet.status}")

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look more often than in earnest."""
    monkeypatch.setattr(ingest.pipeline, "_LOOK_S", 0.2)
    monkeypatch.setattr(ingest.pipeline, "_SHOW_S", 0.2)
    monkeypatch.setattr(ingest.pipeline, "_POLL_S", 0.1)
    monkeypatch.setattr("ingest.fleet.fleet._LOOK_S", 0.2)


@pytest.fixture
def settings(store, tmp_path):
    """Write the settings of a fleet on the test's home; pipelines are TOML after the header."""

    def write(*pipelines: str) -> Path:
        path = tmp_path / "ingest.toml"
        part = tmp_path / "ingest.toml.part"
        part.write_text(f'[store]\nhome = "{tmp_path / "home"}"\n' + "\n".join(pipelines))
        part.replace(path)
        return path

    return write


@pytest.fixture
def of_topic(broker):
    """Return a pipeline that reads all of a topic by itself, as TOML."""

    def make(topic: str, *, name: str = "readings", more: str = "") -> str:
        return (
            f'[[pipeline]]\nname = "{name}"\ngroup = "readings"\n{more}\n'
            f'source = {{ kind = "kafka", bootstrap = "{broker}", topic = "{topic}", '
            f'assignment = "all" }}\n'
        )

    return make


def of_folder(folder: Path, *, name: str, more: str = "") -> str:
    return (
        f'[[pipeline]]\nname = "{name}"\ngroup = "readings"\n{more}\n'
        f'source = {{ kind = "files", path = "{folder}" }}\n'
    )


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_a_failing_pipeline_is_tried_again_and_stops_nobody(settings, tmp_path, reading, stored):
    good, late = tmp_path / "good", tmp_path / "late"
    good.mkdir()
    (good / "a.jsonl").write_text(lines(reading(0), reading(1)))
    with Running(settings(of_folder(good, name="good"), of_folder(late, name="late"))) as running:
        running.until(lambda: running.of("good").state == State.FINISHED)
        running.until(lambda: running.of("late").restarts > 0)
        running.until(lambda: running.of("late").state == State.WAITING)
        assert "SourceNotFound" in running.of("late").reason
        late.mkdir()
        part = tmp_path / "b"
        part.write_text(lines(reading(2)))
        part.replace(late / "b.jsonl")
        running.until(lambda: running.of("late").state == State.FINISHED)
    assert stored() == [0, 1, 2]
    assert running.of("good").restarts == 0


def test_a_failure_that_would_come_again_waits_for_somebody(
    settings, tmp_path, reading, store, stored
):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(lines(reading(0), "no record"))
    path = settings(of_folder(folder, name="bad", more="dead_letters = false\nbatch_size = 1"))
    with Running(path) as running:
        running.until(lambda: running.of("bad").state == State.FAILED)
        assert "offset 1" in running.of("bad").reason
        assert running.of("bad").restarts == 0
        running.control.resume("bad")
        running.until(lambda: len(store.graph.find(type="Ingest")) == 2)
        running.until(lambda: running.of("bad").state == State.FAILED)
        settings(of_folder(folder, name="bad", more='dead_letters = "dead"'))
        running.until(lambda: running.of("bad").state == State.FINISHED)
        assert running.of("bad").refused == 1
    assert stored() == [0]


@pytest.mark.kafka
def test_changed_settings_touch_only_what_changed(
    settings, of_topic, new_topic, produce, reading, stored, store
):
    one, two, three = new_topic(), new_topic(), new_topic()
    both = [of_topic(one, name="one"), of_topic(two, name="two", more="batch_size = 3")]
    with Running(settings(*both)) as running:
        produce(one, map(reading, range(10)))
        produce(two, map(reading, range(10, 20)))
        running.until(lambda: all(one.read == 10 for one in running.fleet.status))
        since = running.of("one").since

        settings(of_topic(one, name="one"), "[[pipelin]]")
        running.until(lambda: running.control.told()["settings_problem"])
        assert "did you mean 'pipeline'?" in running.control.told()["settings_problem"]

        changed = of_topic(two, name="two", more="batch_size = 4")
        settings(of_topic(one, name="one"), changed, of_topic(three, name="three"))
        running.until(lambda: len(running.fleet.status) == 3)
        produce(one, map(reading, range(20, 30)))
        produce(two, map(reading, range(30, 40)))
        produce(three, map(reading, range(40, 50)))
        running.until(lambda: [one.read for one in running.fleet.status] == [20, 20, 10])
        assert not running.control.told()["settings_problem"]
        assert running.of("one").since == since

        settings(changed)
        running.until(lambda: [one.name for one in running.fleet.status] == ["two"])
    assert stored() == list(range(50))
    actions = store.graph.find(type="Ingest")
    assert sorted(str(a.properties["pipeline"]) for a in actions) == ["one", "three", "two", "two"]
    assert {action.state for action in actions} == {"Completed"}


@pytest.mark.kafka
def test_pause_outlives_the_fleet_and_status_needs_none(
    settings, of_topic, new_topic, produce, reading, store, stored
):
    topic = new_topic(partitions=2)
    path = settings(of_topic(topic))
    produce(topic, map(reading, range(5)), partition=1)
    with Running(path) as running:
        running.until(lambda: running.of("readings").read == 5)
        with pytest.raises(FleetRuns, match="runs already"), running.control.held():
            pass
        running.control.pause("readings")
        running.until(lambda: running.of("readings").state == State.PAUSED)
        produce(topic, map(reading, range(5, 8)), partition=1)
        (known,) = status(running.settings, store)
        assert (known.state, known.lag) == (State.PAUSED, 3)

    (known,) = status(running.settings, store, name="readings")
    assert known.state == State.PAUSED
    places = [(part.partition, part.position, part.end, part.lag) for part in known.partitions]
    assert places == [("0", None, 0, 0), ("1", 5, 8, 3)]
    assert known.lag_s is not None
    assert known.lag_s >= 0

    with Running(path) as running:
        running.until(lambda: running.of("readings").state == State.PAUSED)
        assert running.of("readings").workers == 0
        running.control.resume("readings")
        running.until(lambda: running.of("readings").read == 3)
        running.until(lambda: running.of("readings").lag == 0)
    assert stored() == list(range(8))


@pytest.mark.kafka
def test_seek_and_replay_put_records_again_and_the_latest_stay(
    settings, of_topic, new_topic, produce, reading, store, stored, broker
):
    topic = new_topic(partitions=2)
    _produce_at_seconds(broker, topic, reading, range(20))
    path = settings(of_topic(topic))
    (pipeline,) = read_settings(path).pipelines
    with Running(path) as running:
        running.until(lambda: running.of("readings").read == 20)
        latest = [store.get("readings", station) for station in range(7)]
        assert seek(pipeline, store, {"0": 15}) == {"0": (20, 15)}
        running.until(lambda: running.of("readings").read == 25)
        since = _SECOND_0.replace(second=12)
        assert replay(pipeline, store, since) == {"0": (20, 12)}
        running.until(lambda: running.of("readings").read == 33)
    assert stored() == sorted([*range(20), *range(15, 20), *range(12, 20)])
    assert [store.get("readings", station) for station in range(7)] == latest
    assert store.verify("readings").equal
    assert replay(pipeline, store, _SECOND_0.replace(year=2030)) == {}
    with pytest.raises(ValueError, match="expected an offset from 0 to 20"):
        seek(pipeline, store, {"0": 21})
    with pytest.raises(ValueError, match="expected a partition of 0, 1, got '2'"):
        seek(pipeline, store, {"2": 0})
    with pytest.raises(ValueError, match="expected a time with a zone"):
        replay(pipeline, store, since.replace(tzinfo=None))
    moves = [action.properties["moved"] for action in store.graph.find(type="Seek")]
    assert moves == [{"0": {"from": 20, "to": 15}}, {"0": {"from": 20, "to": 12}}]


@pytest.mark.kafka
def test_a_worker_in_a_process_is_killed_and_everything_is_stored_once(
    settings, of_topic, new_topic, produce, reading, stored
):
    topic = new_topic(partitions=2)
    path = settings(of_topic(topic, more="processes = true\nbatch_size = 1"))
    for partition in (0, 1):
        produce(topic, map(reading, range(partition, 400, 2)), partition=partition)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "featureline", "ingest", "run", str(path)]
    with subprocess.Popen(
        [*command, "--metrics", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        control = Control(Path(ready["state"]))

        def told() -> PipelineStatus:
            (one,) = control.told()["pipelines"]
            return PipelineStatus.from_json(one)

        try:
            _until(lambda: told().read > 0)
            os.kill(told().pids[0], signal.SIGKILL)
            _until(lambda: told().restarts == 1)
            _until(lambda: told().workers == 1 and told().lag == 0)
            address = ready["metrics"]
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
                metrics = page.read().decode()
            assert 'featureline_ingest_restarts_total{pipeline="readings"} 1' in metrics
            assert 'featureline_ingest_lag_records{pipeline="readings",partition="1"} 0' in metrics
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert told().state == State.STOPPED
    assert stored() == list(range(400))


def _until(is_so) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def _produce_at_seconds(broker, topic, reading, sequences) -> None:
    """Send one reading a second, by the messages' own times."""
    producer = KafkaProducer(bootstrap_servers=broker)
    for sequence in sequences:
        moment = int(_SECOND_0.timestamp() * 1000) + sequence * 1000
        value = json.dumps(reading(sequence)).encode()
        producer.send(topic, value, partition=0, timestamp_ms=moment)
    producer.close()
