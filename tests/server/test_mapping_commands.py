"""`featureline ingest` with a mapping file, on a home and on a server: shown first, then stored."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import featurestore
from featureline.cli import cli

MAPPING = """
drop = "kind = 'ping'"

[features]
origin = { path = "station.code", required = true }
hour = { path = "ms", type = "timestamp", from = "millis" }
temp = { sql = "fahrenheit * 1.0" }

[inputs]
fahrenheit = { path = "f", type = "fractional" }

[[lookup]]
group = "other"
on = { origin = "origin" }
features = ["wind"]
"""


@pytest.fixture(params=["home", "server"])
def place(request, tmp_path, weather, reading):
    """The options of a store with the group `weather`, and `other` to look up in."""
    if request.param == "home":
        options = ["--home", str(tmp_path / "home")]
        opened = featurestore.open(tmp_path / "home")
    else:
        # Only then a server is started.
        address = request.getfixturevalue("serving")("grpc").address
        options = ["--connect", address]
        opened = featurestore.connect(address)
    with opened as store:
        store.create_feature_group(weather)
        store.create_feature_group(featurestore.FeatureGroup(**_other(weather)))
        store.put("other", reading("JFK", 5, wind=12))
    return options


def _other(weather):
    return {
        "name": "other",
        "record_identifier": weather.record_identifier,
        "event_time": weather.event_time,
        "features": weather.features,
    }


@pytest.fixture
def files(tmp_path):
    rows = [
        {"station": {"code": "JFK"}, "ms": 1_357_020_000_000, "f": "40"},
        {"kind": "ping"},
        {"station": {"code": "EWR"}, "ms": 1_357_020_000_000, "f": "warm"},
        {"station": {"code": "JFK"}, "ms": 1_357_002_000_000},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mapping.toml").write_text(MAPPING)
    return str(tmp_path / "rows.jsonl"), str(tmp_path / "mapping.toml")


def run(*arguments):
    return CliRunner().invoke(cli, ["ingest", *arguments])


def test_a_preview_shows_what_is_then_stored(place, files, tmp_path):
    rows, mapping = files
    options = [rows, "--group", "weather", "--mapping", mapping, *place]

    shown = run("preview", *options, "--json")
    assert shown.exit_code == 0, shown.output
    previews = json.loads(shown.stdout)

    assert [entry["outcome"] for entry in previews] == ["put", "skipped", "refused", "put"]
    assert previews[0]["record"] == {
        "origin": "JFK", "hour": "2013-01-01T06:00:00Z", "temp": 40.0, "wind": 12,
    }  # fmt: skip
    assert (
        previews[2]["reason"] == "input 'fahrenheit' from f: expected a finite number, got 'warm'"
    )
    assert previews[3]["record"] == {"origin": "JFK", "hour": "2013-01-01T01:00:00Z"}
    lines = run("preview", *options, "--limit", "2").stdout.splitlines()
    assert lines[0].startswith('rows.jsonl 0  put  {"origin": "JFK"')
    assert lines[1:] == ["rows.jsonl 1  skipped"]

    ended = run("files", *options, "--dead-letters", str(tmp_path / "dead"), "--json")
    assert ended.exit_code == 0, ended.output
    report = json.loads(ended.stdout)
    assert (report["written"], report["skipped"], report["refused"]) == (2, 1, 1)


def test_wrong_mappings_and_arguments_are_told(tmp_path, files):
    rows, _ = files
    place = ["--home", str(tmp_path / "home")]
    assert run("preview", "--group", "g", *place).exit_code == 2
    assert run("preview", rows, "--topic", "t", "--group", "g", *place).exit_code == 2
    for name, text, words in (
        ("broken.toml", "[features", "expected a mapping in TOML"),
        ("broken.json", "{", "expected a mapping in JSON"),
        ("list.json", "[1]", "expected feature → field"),
        ("typo.toml", "[feature]\na = 'b'", "did you mean 'features'"),
    ):
        (tmp_path / name).write_text(text)
        with featurestore.open(tmp_path / "home"):
            ended = run("files", rows, "--group", "g", "--mapping", str(tmp_path / name), *place)
        assert words in str(ended.exception)


def test_the_short_form_warns_of_names_that_look_like_paths(place, files, tmp_path):
    rows, _ = files
    (tmp_path / "short.json").write_text('{"origin": "station.code", "hour": "at"}')

    shown = run(
        "preview", rows, "--group", "weather", "--mapping", str(tmp_path / "short.json"), *place
    )

    assert "a field called 'station.code'; for a path write it" in " ".join(shown.stderr.split())
    assert "the record identifier is missing" in shown.stdout
