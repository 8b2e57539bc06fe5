"""The newest versions of an offline table: order, memory and what is left on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featurestore
from featurestore import InvalidRequest
from featurestore.newest import latest_rows
from featurestore.spill import spill_folder
from featurestore.verify import VerifyReport

IDENTIFIERS, VERSIONS = 12_000, 4
DOUBLES = st.floats(allow_nan=False) | st.sampled_from(
    [1e15, 1e16, 1e-4, 1e-5, 1e-7, 1e22, 0.1 + 0.2, -1e16, -1e-7, 5e-324, 2.0**53 + 2, 100.0]
)


@given(numbers=st.lists(DOUBLES | st.integers(-(10**18), 10**18).map(float), max_size=50))
def test_duckdb_writes_numbers_as_python_does(numbers):
    table = pa.table({"x": pa.array(numbers, pa.float64())})
    with duckdb.connect() as connection:
        connection.register("numbers", table)
        query = "SELECT CAST(x AS VARCHAR) FROM numbers"
        found = [text for (text,) in connection.execute(query).fetchall()]
    assert found == [repr(number) for number in numbers]


@pytest.fixture
def many(store, make_group):
    """A group with more rows than 64 MB hold, several versions of each identifier."""
    store.create_feature_group(
        make_group("many", [("id", "String"), ("t", "Fractional"), ("text", "String")])
    )
    ids = np.random.default_rng(3).permutation(IDENTIFIERS)
    for version in range(VERSIONS):
        store.put_table(
            "many",
            pa.table(
                {
                    "id": [f"user-{number}" for number in ids],
                    "t": np.full(len(ids), 1.0 + version),
                    "text": [f"{version} {number} " + "x" * 1800 for number in ids],
                }
            ),
        )
        store.flush()
    return store


def test_more_rows_than_the_memory_holds(many):
    spilled = []
    spill = many.home / "spill"

    def watch(compared: int) -> None:
        spilled.append(sum(file.stat().st_size for file in spill.rglob("*") if file.is_file()))

    told = many.verify("many", memory_limit="64MB", on_progress=watch)
    assert told == VerifyReport(True, IDENTIFIERS, IDENTIFIERS, ())
    assert max(spilled) > 0
    assert not spill.exists()


@pytest.mark.parametrize("memory_mb", [64, 2048])
def test_only_the_newest_version_of_each(many, tmp_path, monkeypatch, memory_mb):
    monkeypatch.setattr("featurestore.sortedruns._FAN_IN", 3)  # more than one round of merges
    spill = tmp_path / "pieces"
    spill.mkdir()
    entry = many.registry.get("many")
    batches = latest_rows(
        entry.group,
        many.offline_table(entry).scan(),
        now=0,
        memory_bytes=memory_mb << 20,
        spill=spill,
    )
    table = pa.Table.from_batches(batches)
    assert not list(spill.iterdir())
    assert table.column_names == ["id", "t", "text", "_event_time"]
    assert table["id"].to_pylist() == sorted(f"user-{number}" for number in range(IDENTIFIERS))
    assert set(table["t"].to_pylist()) == {float(VERSIONS)}


def test_a_limit_that_is_no_size(store):
    with pytest.raises(InvalidRequest, match="memory_limit: expected 64MB or more, got '1MB'"):
        store.verify("readings", memory_limit="1MB")


class Stopped(Exception):
    pass


def test_nothing_is_left_on_the_disk_after_a_failure(store, reading):
    for number in range(3):
        store.put("readings", reading(f"s{number}", 1))

    def stop(compared: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        store.verify("readings", on_progress=stop)
    assert not (store.home / "spill").exists()
    assert store.verify("readings").equal


# -- folders ------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from featurestore.spill import spill_folder
with spill_folder(Path(sys.argv[1]), "verify") as folder:
    (folder / "rows").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_another_uses_is_not(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as alive,
    ):
        try:
            left, used = (process.stdout.readline().strip() for process in (killed, alive))
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
            assert os.path.exists(left)
            with spill_folder(tmp_path, "verify") as folder:
                assert sorted(map(str, folder.parent.iterdir())) == sorted([used, str(folder)])
            assert os.path.exists(os.path.join(used, "rows"))
        finally:
            alive.kill()
    with spill_folder(tmp_path, "other"):
        assert not os.path.exists(used)
    assert not (tmp_path / "spill").exists()


def test_a_verify_on_the_command_line_that_is_interrupted(store, reading):
    store.put("readings", reading("JFK", 1))
    script = (
        "import sys\n"
        "from featureline.cli.main import main\n"
        "verify = sys.modules['featurestore.verify']\n"
        "latest_rows = verify.latest_rows\n"
        "def slow(*a, **k):\n"
        "    import time; print('sorting', flush=True); time.sleep(60)\n"
        "    yield from latest_rows(*a, **k)\n"
        "verify.latest_rows = slow\n"
        "sys.argv[1:] = ['verify', 'readings', '--home', sys.argv[1]]\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(store.home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "sorting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not (store.home / "spill").exists()
    with featurestore.open(store.home) as again:
        assert again.verify("readings").equal
