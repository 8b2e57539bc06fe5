"""`featureline deadletter` and `featureline ingest audit` as a user runs them."""

from __future__ import annotations

import json

import pytest

import featurestore
from ingest import DeadLetters, DeadLetterTopic

GROUP = {
    "FeatureGroupName": "people",
    "RecordIdentifierFeatureName": "id",
    "EventTimeFeatureName": "at",
    "FeatureDefinitions": [
        {"FeatureName": "id", "FeatureType": "String"},
        {"FeatureName": "at", "FeatureType": "String"},
        {"FeatureName": "age", "FeatureType": "Integral"},
    ],
    "OnlineStoreConfig": {"EnableOnlineStore": True},
    "OfflineStoreConfig": {},
}
AT = "2024-01-01T00:00:00Z"


@pytest.fixture
def home(tmp_path, command):
    home = tmp_path / "home"
    (tmp_path / "group.json").write_text(json.dumps(GROUP))
    assert command("group", "create", tmp_path / "group.json", "--home", home).code == 0
    return home


@pytest.fixture
def messages(tmp_path):
    path = tmp_path / "messages.jsonl"
    rows = [{"id": "ann", "at": AT, "years": 7}, {"id": "bob", "at": "now"}, {"id": "c", "at": AT}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_from_refusal_to_audit(home, messages, command, tmp_path):
    def run(*arguments):
        return command(*arguments, "--home", home)

    ingested = run("ingest", "files", messages, "--group", "people", "--json")
    assert (ingested.json["written"], ingested.json["refused"]) == (1, 2)

    (row,) = run("deadletter", "list", "--json").json
    assert (row["group"], row["error"], row["letters"], row["waiting"]) == (
        "people",
        "InvalidRecord",
        2,
        2,
    )
    assert run("deadletter", "list", "--json", "--until", "1h").json == []
    assert "no dead letters (other)" in run("deadletter", "list", "--group", "other").out
    each = run("deadletter", "list", "--each", "--json").json
    shown = run("deadletter", "show", each[1]["id"])
    assert 'payload: {"id": "bob", "at": "now"}' in shown.out
    assert "attempt 1" in shown.out
    as_hex = run("deadletter", "show", "/0", "--payload", "hex").out
    assert "payload: 7b 22 69 64" in as_hex
    absent = run("deadletter", "show", "zzz")
    assert (absent.code, "no dead letter 'zzz'" in absent.err) == (1, True)
    assert run("deadletter", "replay").code == 2

    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"id": "id", "at": "at", "age": "years"}')
    options = ("--group", "people", "--mapping", mapping, "--json")
    assert run("deadletter", "replay", *options, "--dry-run").json["stored"] == 1
    replayed = run("deadletter", "replay", *options).json
    assert (replayed["stored"], replayed["refused"], replayed["is_dry_run"]) == (1, 1, False)
    assert run("get", "people", "ann", "--json").code == 0

    audit = ("ingest", "audit", "files", messages, *options)
    audited = run(*audit, "--exclusive")
    assert (audited.code, audited.json["equal"]) == (0, True)

    asked = run("deadletter", "purge", "--replayed")
    assert asked.code != 0
    assert "remove 1 dead letters (replayed)" in asked.err
    assert run("deadletter", "purge", "--replayed", "--yes", "--json").json["removed"] == 1
    assert run("deadletter", "purge", "--older-than", "1h", "--yes", "--json").json["removed"] == 0
    assert run("deadletter", "purge", "--yes", "--json").json["waiting"] == 1
    audited = run(*audit)
    assert (audited.code, audited.json["counts"]) == (1, {"not_in_dead_letters": 1})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("deadletter", "list", "--since", "yesterday"), "--since: expected ISO-8601"),
        (("deadletter", "list", "--topic", "t"), "--topic and --bootstrap go together"),
        (("deadletter", "purge", "--older-than", "3y"), "--older-than: expected a number"),
        (("deadletter", "list", "--dead-letters", "/absent"), "no such folder"),
        (
            ("ingest", "files", "/absent", "--group", "people", "--dead-letter-topic", "t"),
            "--dead-letter-topic needs --dead-letter-bootstrap",
        ),
        (("ingest", "audit", "files", "/absent", "--group", "people"), "no such file or folder"),
    ],
)
def test_wrong_arguments_say_so(home, command, arguments, error):
    ended = command(*arguments, "--home", home)
    assert ended.code in (1, 2)
    assert error in ended.err


def test_erasure_reaches_other_folders_and_names_topics(home, messages, command, tmp_path):
    folder = tmp_path / "letters"
    command(
        "ingest", "files", messages, "--group", "people", "--dead-letters", folder, "--home", home
    )
    topic = DeadLetterTopic("broker:9092", "letters")
    with featurestore.open(home) as store:
        store.graph.record(topic.artifacts("people"), kind="DeadLettersOpened")
    report = command("erase", "people", "ann", "--home", home, "--json").json
    assert report["elsewhere"]["dead letters"]["removed"] == 1
    assert [letter.offset for letter in DeadLetters(folder).read()] == [1]
    assert any("in the topic letters at broker:9092" in text for text in report["not_reached"])


def test_stop_rule_ends_the_command(home, command, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{bad\n" * 5)
    ended = command(
        "ingest", "files", path, "--group", "people", "--stop-after-refusals", "3", "--home", home
    )
    assert ended.code == 1
    assert "stopped: 3 messages of this run were refused" in ended.err
    assert "partition file:" in ended.err
