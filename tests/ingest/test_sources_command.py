"""`featureline ingest files|changes|query`, as typed; `flight` differs only in its options."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake

from featureline.cli.main import cli
from featureline.errors import EXPECTED_ERRORS


@pytest.fixture
def run(store, tmp_path):
    """Run a command on the store's home; return what it printed as JSON, or its error."""

    def ingest(*arguments: object, code: int = 0) -> dict[str, object] | str:
        command = ["ingest", *map(str, arguments), "--group", "readings"]
        result = CliRunner().invoke(cli, [*command, "--home", str(tmp_path / "home"), "--json"])
        if isinstance(result.exception, EXPECTED_ERRORS):
            return str(result.exception)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.output

    return ingest


@pytest.fixture
def table(reading) -> pa.Table:
    return pa.Table.from_pylist([reading(n) for n in range(20)])


def test_watched_folder_keeps_an_index_in_the_home(run, tmp_path, stored):
    folder = tmp_path / "landing"
    folder.mkdir()
    (folder / "a.csv").write_text("station,time,sequence\n1,2024-01-01T00:00:00Z,7\n")
    options = ("--watch", "--pattern", "*.csv", "--settle-s", 0, "--until-caught-up")
    assert run("files", folder, *options)["written"] == 1
    assert run("files", folder, *options)["written"] == 0
    assert stored() == [7]
    assert run("files", tmp_path / "no", "--watch") == f"{tmp_path}/no: expected a folder, got none"


def test_changes_of_a_table_and_of_a_group(run, tmp_path, table, store):
    write_deltalake(tmp_path / "table", table)
    assert run("changes", tmp_path / "table", "--until-caught-up")["written"] == 20
    assert run("changes", tmp_path / "table", "--until-caught-up")["written"] == 0
    store.flush("readings")
    assert run("changes", "group:readings", "--until-caught-up")["written"] == 20
    assert "did you mean 'readings'" in run("changes", "group:readngs")
    both = ("--starting-version", 1, "--starting-time", "2024-01-01T00:00:00Z")
    assert "not both" in run("changes", "x", *both, code=2)
    assert "with a zone" in run("changes", "x", "--starting-time", "2024-01-01", code=2)


def test_query_once_and_as_it_grows(run, tmp_path):
    text = "SELECT $n::BIGINT AS station, $t AS time, range AS sequence FROM range(5)"
    (tmp_path / "q.sql").write_text(text + " -- five\n")
    given = (
        "--sql-file",
        tmp_path / "q.sql",
        "--param",
        "n=3",
        "--param",
        "t=2024-01-01T00:00:00Z",
    )
    assert run("query", *given, "--order-by", "sequence")["written"] == 5
    assert run("query", *given, "--order-by", "sequence")["written"] == 0
    assert run("query", *given, "--increasing", "sequence", "--until-caught-up")["written"] == 5
    assert "expected NAME=VALUE" in run(
        "query", *given, "--increasing", "x", "--param", "n", code=2
    )
    assert "--sql or --sql-file" in run("query", "--order-by", "x", code=2)
    assert "--order-by or --increasing" in run("query", "--sql", text, code=2)
    assert "got DROP" in run("query", "--sql", "DROP TABLE x", "--order-by", "x")


def test_flight_into_a_group(run, flight_server, stored):
    assert run("flight", flight_server, "--path", "readings")["written"] == 40
    assert run("flight", flight_server, "--path", "readings")["written"] == 0
    assert stored() == list(range(40))
    assert "no such flight" in run("flight", flight_server, "--path", "absent")
    assert "--path or --command" in run("flight", flight_server, code=2)
