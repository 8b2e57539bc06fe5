"""`featureline erase` as a user runs it."""

from __future__ import annotations

import json

import pytest

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


@pytest.fixture
def home(tmp_path, command):
    home = tmp_path / "home"
    definition = tmp_path / "group.json"
    definition.write_text(json.dumps(GROUP))
    assert command("group", "create", definition, "--home", home).code == 0
    records = tmp_path / "records.json"
    records.write_text(
        json.dumps([{"id": n, "at": "2024-01-01T00:00:00Z", "age": 7} for n in ("ann", "bob")])
    )
    assert command("put", "people", records, "--home", home).code == 0
    messages = tmp_path / "messages.jsonl"
    messages.write_text('{"id": "ann", "at": "no time"}\n{"id": "bob", "at": "no time"}\n')
    command("ingest", "files", messages, "--group", "people", "--home", home)
    assert (home / "deadletters" / "people").is_dir()
    return home


def test_erase_reports_and_the_report_verifies(home, command, tmp_path):
    out = tmp_path / "report.json"
    done = command(
        "erase", "people", "ann", "--home", home, "--reason", "request 12", "--out", out, "--json"
    )
    assert (done.code, done.err) == (0, "")
    report = done.json
    assert json.loads(out.read_text()) == report
    assert report["found"]
    assert report["offline"]["rows"] == 1
    assert report["elsewhere"]["dead letters"]["removed"] == 1
    assert "ann" not in json.dumps({**report, "by": ""})
    assert command("get", "people", "ann", "--home", home).code == 1
    assert command("get", "people", "bob", "--home", home).code == 0
    assert command("verify", "people", "--home", home).code == 0

    checked = command("erase", "--verify", out, "--home", home, "--json")
    assert checked.json == {
        "valid": True,
        "erasure": report["erasure"],
        "signer": str(home / "erasure.pub"),
    }
    by_key = command("erase", "--verify", out, "--public-key", home / "erasure.pub")
    assert by_key.code == 0
    assert "valid" in by_key.out
    elsewhere = command("erase", "--verify", out, "--home", tmp_path / "none")
    assert "only a --public-key can tell" in elsewhere.out
    out.write_text(json.dumps({**report, "found": False}))
    altered = command("erase", "--verify", out, "--home", home)
    assert (altered.code, altered.out) == (1, "")
    assert "altered" in altered.err


def test_nothing_held_is_no_error(home, command):
    done = command("erase", "people", "carl", "--home", home)
    assert done.code == 0
    assert "nothing was held" in done.out
    assert "carl" not in done.out


def test_a_reader_sees_what_was_and_was_not_reached(home, command):
    done = command("erase", "people", "ann", "bob", "--home", home)
    assert done.code == 0
    assert "erased 2 identifiers" in done.out
    assert "offline: 2 rows" in done.out
    assert "dead letters: 2 removed" in done.out
    assert "not reached: backups" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "give GROUP and one identifier or more"),
        (("people",), 2, "give GROUP and one identifier or more"),
        (("people", "ann", "--datasets", "all"), 2, "--datasets"),
        (("people", "ann", "--public-key", "x.pub"), 2, "--public-key is for --verify"),
        (("people", "ann", "--verify", "x.json"), 2, "takes neither GROUP"),
        (("--verify", "/absent.json"), 1, "no such file"),
        (("poeple", "ann"), 1, "did you mean 'people'"),
        (("people", "ann", "--out", "/absent/report.json"), 1, "nothing was erased"),
        (("people", "ann", "--reason", "ann asked"), 1, "it names an identifier"),
    ],
)
def test_wrong_use_says_what_to_do(home, command, arguments, code, says):
    done = command("erase", *arguments, "--home", home)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert command("get", "people", "ann", "--home", home).code == 0


def test_over_a_server_and_after_a_kill(home, command, serve, tmp_path):
    from featurestore.embedded import open_store

    class Cut(BaseException):
        pass

    def cut(step):
        if step == "offline":
            raise Cut

    with open_store(home) as store:
        store.eraser.on_step = cut
        with pytest.raises(Cut):
            store.erase("people", "bob")
    server = serve(home)
    server.start()
    try:
        out = tmp_path / "report.json"
        done = command(
            "erase", "people", "ann", "--connect", server.address, "--out", out, "--json"
        )
        assert done.code == 0
        assert done.json["elsewhere"]["dead letters"]["removed"] == 1
        assert command("get", "people", "ann", "--connect", server.address).code == 1
    finally:
        server.close()
    # The one that was cut is over, too: by the server's start, or by the next erasure.
    assert len(list((home / "erasures").glob("*.report.json"))) == 2
    assert list((home / "erasures").glob("*.journal.json")) == []
    assert list((home / "deadletters").rglob("*.jsonl")) == []
