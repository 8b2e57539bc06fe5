"""`featureline dataset` and `featureline group` on a server: as on a home."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import featurestore
from featureline.cli import cli
from featurestore import FeatureStoreError


@pytest.fixture(scope="module")
def place(loop, new_server, tmp_path_factory, weather, reading):
    """A server with six commits of one record, as the options of a command."""
    serving = new_server()
    with featurestore.connect(serving.address) as store:
        store.create_feature_group(weather)
        for hour in range(6):
            store.put("weather", reading("JFK", hour, temp=float(hour)))
            store.flush()
    return "--connect", serving.address


@pytest.fixture
def command(place):
    """Run a command on the server; give its JSON, or what it printed where it says `text`."""

    def run(*words, code=0, text=False):
        done = CliRunner().invoke(cli, [*map(str, words), *place, *(() if text else ("--json",))])
        assert done.exit_code == code, done.output
        if isinstance(done.exception, FeatureStoreError):
            return str(done.exception)  # which the process's outermost frame prints
        return done.output if text else json.loads(done.stdout)

    return run


@pytest.fixture
def built(command, tmp_path):
    spine = tmp_path / "spine.parquet"
    times = [f"2013-01-01T{hour:02d}:30:00Z" for hour in (1, 4)]
    pq.write_table(pa.table({"origin": ["JFK", "JFK"], "event_time": times}), spine)
    words = ("--spine", spine, "--features", "weather[temp]")
    out = tmp_path / "out.parquet"
    return command("dataset", "build", *words, "--out", out) | {"words": words, "out": out}


def test_datasets(command, built, tmp_path):
    assert pq.read_table(built["out"])["temp"].to_pylist() == [1.0, 4.0]
    assert built["fingerprint"] in {one["fingerprint"] for one in command("dataset", "list")}
    shown = command("dataset", "show", built["fingerprint"][:8])
    assert shown["statistics"]["temp"]["max"] == 4.0
    assert "statistics" not in command("dataset", "show", built["fingerprint"], text=True)
    again = tmp_path / "again.parquet"
    command("dataset", "rebuild", built["fingerprint"], "--out", again)
    assert again.read_bytes() == built["out"].read_bytes()
    assert command("dataset", "check", built["out"])["passed"]
    plan = command("dataset", "explain", *built["words"])
    assert (plan["rows"], plan["groups"][0]["files_read"]) == (2, 5)
    assert "weather@" in command("dataset", "explain", *built["words"], text=True)


def test_what_is_built_without_keeping(command, built, tmp_path):
    out = tmp_path / "other.parquet"
    words = ("--spine", built["words"][1], "--features", "weather[wind]", "--no-keep")
    made = command("dataset", "build", *words, "--out", out)
    assert made["fingerprint"] not in {one["fingerprint"] for one in command("dataset", "list")}


def test_a_build_with_a_memory_limit(command, built, tmp_path):
    out = tmp_path / "limited.parquet"
    made = command("dataset", "build", *built["words"], "--out", out, "--memory-limit", "64MB")
    assert made["fingerprint"] == built["fingerprint"]
    assert pq.read_table(out).equals(pq.read_table(built["out"]))


def test_a_wrong_dataset_ends_with_1(command, built):
    table = pq.read_table(built["out"])
    wrong = table.set_column(2, "temp", pa.array([1.0, 9.0]))
    pq.write_table(wrong.replace_schema_metadata(table.schema.metadata), built["out"])
    assert "expected 4.0, got 9.0" in command("dataset", "check", built["out"], code=1, text=True)


def test_tables(command):
    listed = command("group", "history", "weather", "--limit", 3)
    assert [one["version"] for one in listed] == [5, 4, 3]
    report = command("group", "maintain", "weather")
    assert (report["files_before"], report["files_after"]) == (6, 1)
    made = command("group", "restore", "weather", "--version", 5)
    assert (made["restored"], made["version"] > 5) == (5, True)
    assert "RESTORE" in command("group", "history", "weather", text=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset", "show", "ffff"), "dataset 'ffff' is not saved"),
        (("dataset", "rebuild", "nothing"), "expected a dataset's fingerprint"),
        (("group", "maintain", "wether"), "did you mean 'weather'"),
        (("group", "restore", "weather", "--version", "99"), "99"),
        (("group", "history", "wether"), "did you mean 'weather'"),
    ],
)
def test_what_is_not_there_ends_with_1(command, words, message):
    said = command(*words, code=1, text=True)
    assert message in " ".join(said.split())
    assert "Traceback" not in said
