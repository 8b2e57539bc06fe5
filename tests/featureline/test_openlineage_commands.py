"""`featureline lineage import openlineage` and `featureline lineage emit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

import lineage
from featureline.cli.main import cli
from featureline.server.emitting import TOKEN
from tests.lineage.openlineage.events import RUN_A, run_event


def _run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), env=environment)


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_files_are_imported_once_and_refused_lines_are_named(tmp_path: Path) -> None:
    file, home = tmp_path / "events.jsonl", tmp_path / "home"
    file.write_text(f"{json.dumps(run_event('COMPLETE'))}\noops\n")
    command = ("lineage", "import", "openlineage", file, "--home", home)
    first = _run(*command)
    assert first.exit_code == 1
    assert "1 events, 1 refused" in first.stdout
    assert f"{file}:2: expected a JSON object" in first.stderr
    again = _run(*command, "--json")
    assert again.exit_code == 0
    assert _json(again)["files"][0]["skipped"] == 2
    strict = _run(*command, "--strict", "--from-start", "--json")
    assert strict.exit_code == 1
    assert _json(strict)["files"][0]["events"] == 1
    with lineage.open(home / "lineage.db") as graph:
        assert graph.entity(RUN_A).state == "Completed"
        assert graph.stats()["events"] == 1


def test_jobs_are_emitted_from_where_the_last_time_ended(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out.jsonl"
    home.mkdir()
    command = ("lineage", "emit", "--home", home, "--to", out, "--namespace", "prod", "--json")
    for name in ("first", "second"):
        with lineage.open(home / "lineage.db") as graph, lineage.Recorder(graph, "Job", name):
            pass
        result = _run(*command)
        assert result.exit_code == 0, result.output
        assert _json(result)["sent"] == 2
    told = [json.loads(line)["job"] for line in out.read_text().splitlines()]
    assert [(job["namespace"], job["name"]) for job in told[1:3]] == [
        ("prod", "Job/first"),
        ("prod", "Job/second"),
    ]
    refused = _run("lineage", "emit", "--home", home, "--to", "ftp://host", **{TOKEN: "secret"})
    assert refused.exit_code == 1
    assert isinstance(refused.exception, lineage.InvalidLogin)
