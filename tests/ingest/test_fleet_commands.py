"""The commands of a fleet, as a stranger uses them."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from click.testing import CliRunner

from featureline.cli import cli
from featureline.cli.fleet import run_workers
from ingest import FileSource, IngestError, InvalidSettings, Pipeline
from ingest.fleet.settings import PipelineSettings

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def settings(store, tmp_path):
    """A settings file whose one pipeline reads files."""
    path = tmp_path / "fleet.toml"
    path.write_text(
        f'[store]\nhome = "{tmp_path / "home"}"\n'
        '[[pipeline]]\nname = "readings"\ngroup = "readings"\n'
        'source = { kind = "files", path = "in" }\n'
    )
    return path


@pytest.fixture
def of_topic(store, tmp_path, broker):
    """Write a settings file whose one pipeline reads a topic."""

    def make(topic: str):
        path = tmp_path / "fleet.toml"
        path.write_text(
            f'[store]\nhome = "{tmp_path / "home"}"\n'
            '[[pipeline]]\nname = "readings"\ngroup = "readings"\n'
            f'source = {{ kind = "kafka", bootstrap = "{broker}", topic = "{topic}" }}\n'
        )
        return path

    return make


def run(*arguments: object, fails: type[Exception] | None = None) -> str:
    done = CliRunner().invoke(cli, ["ingest", *map(str, arguments)])
    if fails is not None:
        assert isinstance(done.exception, fails), done.output
        return str(done.exception)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_check_says_what_would_run_or_what_is_wrong(settings, tmp_path):
    assert run("run", settings, "--check").splitlines() == [
        "readings: files → readings, workers: 1",
        f"{settings}: right; state in {tmp_path / 'home/ingest/fleet'}",
    ]
    settings.write_text(settings.read_text().replace("path =", "pth ="))
    told = run("run", settings, "--check", fails=InvalidSettings)
    assert "pipeline 'readings'.source.pth: expected one of path, watch" in told
    assert "got 'pth'; did you mean" in told


def test_a_fleet_of_files_ends_by_itself_and_says_when_it_is_ready(
    settings, tmp_path, reading, stored
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text(json.dumps(reading(0)) + "\n")
    (ready,) = run("run", settings, "--metrics", "127.0.0.1:0").splitlines()[:1]
    assert json.loads(ready)["pipelines"] == {"readings": 1}
    assert json.loads(ready)["metrics"].startswith("127.0.0.1:")
    assert stored() == [0]
    text = run("status", "--fleet", settings)
    assert text.startswith("readings → readings: stopped: no fleet runs it here\n")
    assert "workers 0 of 1, restarts 0; read 0" in text
    assert text.endswith(": position 1\n")


def test_orders_are_kept_until_a_fleet_runs(settings):
    told = run("pause", "readings", "--fleet", settings)
    assert told == "readings: paused; no fleet runs here now, the next one will hold to it\n"
    (body,) = json.loads(run("status", "readings", "--fleet", settings, "--json"))
    assert (body["state"], body["partitions"]) == ("paused", [])
    body = json.loads(run("resume", "readings", "--fleet", settings, "--json"))
    assert body == {"pipeline": "readings", "order": "resumed", "fleet": False}
    told = run("pause", "reading", "--fleet", settings, fails=IngestError)
    assert told == "pipeline 'reading': expected one of readings; did you mean 'readings'?"
    told = run("status", "--fleet", settings.with_name("absent.toml"), fails=InvalidSettings)
    assert "absent.toml: it cannot be read: No such file or directory" in told


@pytest.mark.kafka
def test_seek_and_replay_say_what_they_moved(of_topic, new_topic, produce, reading, store):
    topic = new_topic()
    path = of_topic(topic)
    produce(topic, map(reading, range(4)))
    seek = ("seek", "readings", "--fleet", path, "--partition", "0", "--offset")
    assert run(*seek, "end") == "partition 0: the beginning → 4\n"
    assert run(*seek, "beginning", "--json") == '{"0": {"from": 4, "to": 0}}\n'
    assert run(*seek, "0") == "nothing to move: it stands there\n"
    assert run(*seek, 3) == "partition 0: 0 → 3\n"
    assert run("replay", "readings", "--fleet", path, "--from", "2020-01-01T00:00:00Z") == (
        "partition 0: 3 → 0\n"
    )
    assert len(store.graph.find(type="Seek")) == 4
    done = CliRunner().invoke(cli, ["ingest", *map(str, seek), "-1"])
    assert (done.exit_code, "expected a number" in done.output) == (2, True)
    done = CliRunner().invoke(cli, ["ingest", "replay", "r", "--from", "noon"])
    assert (done.exit_code, "expected a time such as" in done.output) == (2, True)


@pytest.mark.kafka
def test_workers_of_one_topic_share_it_and_end_caught_up(
    broker, new_topic, produce, reading, stored, tmp_path
):
    topic = new_topic(partitions=2)
    for partition in (0, 1):
        produce(topic, map(reading, range(partition, 100, 2)), partition=partition)
    source = {
        "kind": "kafka",
        "bootstrap": broker,
        "topic": topic,
        "consumer_group": "shared",
        "session_timeout_s": 2.0,
        "heartbeat_interval_s": 0.3,
    }
    settings = PipelineSettings(topic, "readings", source, workers=2, until_caught_up=True)
    report = run_workers(settings, tmp_path / "home", None)
    assert (report.read, report.written, report.positions) == (100, 100, {"0": 50, "1": 50})
    assert stored() == list(range(100))
    options = ["--bootstrap", broker, "--topic", topic, "--group", "readings", "--workers", "2"]
    done = CliRunner().invoke(cli, ["ingest", "kafka", *options, "--assignment", "all"])
    assert (done.exit_code, "share partitions out as a group" in done.output) == (2, True)


def test_the_sources_of_a_dataset(store, tmp_path, reading):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(reading(n)) + "\n" for n in range(5)))
    Pipeline(FileSource(path), store, "readings").run()
    spine = pa.table({"station": [1], "event_time": ["2024-01-01T01:00:00Z"]})
    made = store.dataset(spine, features=["readings"]).manifest["fingerprint"]
    home = ["--home", str(tmp_path / "home")]
    done = CliRunner().invoke(cli, ["dataset", "sources", made, *home, "--json"])
    (row,) = json.loads(done.output)
    assert (row["inputs"], row["start"], row["next"], row["is_recorded"]) == (
        [path.as_uri()],
        0,
        5,
        True,
    )
    done = CliRunner().invoke(cli, ["dataset", "sources", made, *home])
    assert f"readings ← {path.as_uri()} partition {path.as_uri()}#sha256=" in done.output
    assert done.output.endswith(": offsets 0 to 5\n")
