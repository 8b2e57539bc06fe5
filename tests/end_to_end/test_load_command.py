"""`featureline load`, `group backfill` and `group rebuild`, as a user types them."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import featurestore
from featurestore import FeatureGroup, feature_definitions


@pytest.fixture
def home(tmp_path):
    """A home with the group `readings`."""
    folder = tmp_path / "home"
    with featurestore.open(folder) as store:
        store.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="id",
                event_time="at",
                features=feature_definitions(
                    [("id", "String"), ("at", "String"), ("count", "Integral")]
                ),
            )
        )
    return folder


@pytest.fixture
def file(tmp_path):
    """Fifty rows of ten identifiers; the last one is refused."""
    rows = [
        {"id": f"a{n % 10}", "at": f"2024-01-01T00:00:{n:02d}Z", "count": str(n)} for n in range(50)
    ]
    rows[-1]["count"] = "many"
    path = tmp_path / "rows.csv"
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
    return path


def test_load_backfill_and_rebuild(command, home, file, tmp_path):
    loaded = command("load", "readings", file, "--key", "first", "--home", home)
    assert loaded.code == 1, "a row was refused"
    assert "readings: 49 stored, 1 refused" in loaded.out
    assert "readings.count: expected Integral, got 'many' (row 49)" in loaded.out
    assert "readings ← rows.csv: write, 49 rows" in loaded.err
    again = command("load", "readings", file, "--key", "first", "--home", home, "--json")
    assert again.code == 1
    assert again.json["already"] is True
    assert again.json["refused"][0]["index"] == 49

    pq.write_table(pa.table({"id": ["b"], "at": ["2024-01-01T00:00:00Z"]}), tmp_path / "b.parquet")
    other = command("load", "readings", tmp_path / "b.parquet", "--key", "b", "--home", home)
    assert (other.code, other.out) == (0, "readings: 1 stored, 0 refused\n")
    refused = command("load", "readings", tmp_path / "b.parquet", "--key", "first", "--home", home)
    assert refused.code == 1
    assert "done with other rows" in refused.err

    shutil.rmtree(home / "online")
    report = command("group", "rebuild", "readings", "--home", home)
    assert report.code == 0
    assert "11 identifiers of version 1 compared, 11 brought online" in report.out
    assert "not flushed before it was lost is lost" in report.out
    assert command("verify", "readings", "--home", home).code == 0
    report = command("group", "backfill", "readings", "--home", home, "--json")
    assert report.json == {
        "group": "readings",
        "version": 1,
        "identifiers": 11,
        "written": 0,
        "removed": 0,
        "resumed": False,
        "was_empty": False,
    }


def test_over_a_server(command, serve, home, file):
    server = serve(home).start()
    loaded = command("load", "readings", file, file, "--key", "k", "--connect", server.address)
    assert "98 stored, 2 refused" in loaded.out
    done = command("group", "backfill", "readings", "--connect", server.address)
    assert done.code == 0
    assert "10 identifiers" in done.out
    assert command("verify", "readings", "--connect", server.address).code == 0


def test_wrong_usage(command, home, file, tmp_path):
    assert command("load", "readings", file, "--home", home).code == 2
    assert command("load", "readings", "--key", "k", "--home", home).code == 2
    missing = command("load", "readings", tmp_path / "no.csv", "--key", "k", "--home", home)
    assert missing.code == 2
    assert "does not exist" in missing.err
    unknown = command("load", "nothing", file, "--key", "k", "--home", home)
    assert unknown.code == 1
    assert "'nothing' does not exist" in unknown.err
    assert command("group", "rebuild", "nothing", "--home", home).code == 1
    nothing = command("group", "backfill", "readings", "--home", home)
    assert (nothing.code, nothing.out) == (
        0,
        "readings: nothing was ever written to the offline table\n",
    )
