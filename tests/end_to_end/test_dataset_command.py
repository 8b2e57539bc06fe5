"""`featureline dataset list`, `show`, `rebuild` and `explain`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featurestore
from featureline.cli import output
from featurestore import FeatureGroup, feature_definitions


@pytest.fixture
def home(tmp_path):
    """A home with a group `readings` of two days."""
    folder = tmp_path / "home"
    with featurestore.open(folder) as store:
        features = feature_definitions(
            [("id", "String"), ("at", "String"), ("temp", "Fractional"), ("sky", "String")]
        )
        store.create_feature_group(
            FeatureGroup("readings", record_identifier="id", event_time="at", features=features)
        )
        for day, temp in ((1, 1.5), (2, 3.0)):
            record = {"id": "a", "at": f"2024-01-0{day}T06:00:00Z", "temp": temp, "sky": "grey"}
            store.put("readings", record)
            store.flush()
    return folder


@pytest.fixture
def built(command, home, tmp_path):
    """Build a dataset of the first day; give what the command said of it."""
    spine = tmp_path / "spine.parquet"
    times = pa.array(["2024-01-01T08:00:00Z", "2024-01-01T05:00:00Z"])
    pq.write_table(pa.table({"id": ["a", "a"], "event_time": times}), spine)
    place = ("--home", home)
    ended = command(
        *("dataset", "build", "--spine", spine, "--features", "readings"),
        *("--out", tmp_path / "out.parquet", "--json", *place),
    )
    return ended.json | {"spine": spine, "place": place}


def test_list_and_show(command, built, tmp_path):
    listed = command("dataset", "list", *built["place"], "--json").json
    text = command("dataset", "list", *built["place"]).out
    shown = command("dataset", "show", built["fingerprint"][:8], *built["place"], "--json").json
    page = command("dataset", "show", built["fingerprint"], *built["place"]).out

    assert [(one["fingerprint"], one["rows"], one["versions"]) for one in listed] == [
        (built["fingerprint"], 2, {"readings": 1})
    ]
    assert built["fingerprint"][:12] in text
    assert shown["features"] == {"temp": "readings.temp", "sky": "readings.sky"}
    assert shown["statistics"]["temp"]["mean"] == 1.5
    assert "temp: double, 1 values, 1 nulls, mean 1.5, std 0, from 1.5 to 1.5" in page
    assert "sky: string, 1 values, 1 nulls, 1 distinct: grey (1)" in page
    empty = command("dataset", "list", "--home", tmp_path / "other").out
    assert empty == "no dataset is kept\n"


def test_rebuild(command, built, tmp_path):
    again = tmp_path / "again.parquet"
    rebuild = ("dataset", "rebuild", built["fingerprint"][:10], *built["place"])

    ended = command(*rebuild, "--out", again, "--json")

    assert ended.json == {
        "fingerprint": built["fingerprint"],
        "rows": 2,
        "versions": {"readings": 1},
        "out": str(again),
    }
    assert again.read_bytes() == (tmp_path / "out.parquet").read_bytes()
    assert command(*rebuild).out.startswith("2 rows, the same as the first time\n")
    for file in (built["place"][1] / "offline" / "readings").rglob("part-*"):
        file.unlink()
    gone = command(*rebuild)
    assert (gone.code, gone.out) == (1, "")
    assert "version 1 cannot be read any more" in " ".join(gone.err.split())


def test_a_build_with_a_memory_limit(command, built, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "_LINE_S", 0.0)
    out = tmp_path / "limited.parquet"
    build = ("dataset", "build", "--spine", built["spine"], "--features", "readings", "--out", out)
    before = command("dataset", "list", *built["place"], "--json").json

    ended = command(*build, *built["place"], "--memory-limit", "64MB", "--threads", 1, "--json")

    told = {name: built[name] for name in ("fingerprint", "rows", "versions")}
    assert ended.json == told | {"out": str(out)}
    assert ended.err == "dataset limited.parquet: 2 rows so far\n"
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "out.parquet"))
    assert command("dataset", "list", *built["place"], "--json").json == before  # it is not kept
    rebuild = ("dataset", "rebuild", built["fingerprint"], "--threads", 1, *built["place"])
    assert command(*rebuild, "--json").json["fingerprint"] == built["fingerprint"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--memory-limit", "much"), "--memory-limit: expected bytes or a text like 512MB, got"),
        (("--memory-limit", "63MB"), "--memory-limit: expected 64MB or more, got '63MB'"),
        (("--memory-limit", "1GB", "--keep"), "--keep: what is kept is read whole"),
        (("--threads", "2", "--connect", "127.0.0.1:1"), "--threads works on the files of a home"),
        (("--threads", "0"), "0 is not in the range"),
    ],
)
def test_limits_that_cannot_be(command, tmp_path, words, message):
    build = ("dataset", "build", "--spine", "none.parquet", "--features", "readings")
    ended = command(*build, "--out", tmp_path / "out.parquet", *words)
    assert (ended.code, ended.out) == (2, "")
    assert message in " ".join(ended.err.split())


def test_explain(command, built):
    options = ("--spine", built["spine"], "--features", "readings[temp]", *built["place"])

    plan = command("dataset", "explain", *options, "--json").json
    text = command("dataset", "explain", *options, "--lookback", "readings=3600").out

    (group,) = plan["groups"]
    assert (group["files"], group["files_read"], group["pruned_by_partition"]) == (2, 1, 1)
    assert (group["rows"], group["rows_read"]) == (2, 1)
    assert "readings@1 by id, at most 3,600 s old" in text
    assert "(1 left out by event date, 0 by first and last event time)" in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rebuild", "ffff"], 1, "dataset 'ffff' is not saved in"),
        (["show", "nothing"], 1, "expected a dataset's fingerprint"),
        (["list", "--connect", "127.0.0.1:1"], 1, "no feature store answers at 127.0.0.1:1"),
    ],
)
def test_what_is_not_there(command, tmp_path, words, code, message):
    place = () if "--connect" in words else ("--home", tmp_path)
    ended = command("dataset", *words, *place)
    assert (ended.code, ended.out) == (code, "")
    assert message in " ".join(ended.err.split())
