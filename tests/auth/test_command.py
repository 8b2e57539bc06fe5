"""`featureline token` and `featureline policy`, as a user runs them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from featureline.cli import main
from featurestore import FeatureGroup, feature_definitions
from featurestore.auth import Guard, group_arn
from featurestore.auth.token import read_credential
from featurestore.registry import Registry
from tests.inprocess import run_command

ROOT = Path(__file__).parents[2]
READERS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": "sagemaker:Get*",
            "Resource": "arn:aws:sagemaker:*:*:feature-group/*",
            "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        },
        {
            "Sid": "NoSsn",
            "Effect": "Deny",
            "Action": "sagemaker:GetRecord",
            "Resource": "arn:aws:sagemaker:*:*:feature-group/people/feature/ssn",
        },
    ],
}


@pytest.fixture
def command(home):
    """Run the command on the home; returns exit code, stdout and stderr."""

    def run(*arguments, text=""):
        return tuple(run_command(*arguments, "--home", home, text=text))

    return run


@pytest.fixture
def inside(home, monkeypatch, capsys):
    """Run the command inside the test's process: the same, a second sooner."""

    def run(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["featureline", *arguments, "--home", str(home)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
            with pytest.raises(SystemExit) as ended:
                main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def readers(tmp_path):
    file = tmp_path / "readers.json"
    file.write_text(json.dumps(READERS, indent=2))
    return file


def test_from_the_first_policy_to_a_call_and_its_end(command, home, readers):
    code, out, err = command("policy", "put", "readers", readers)
    assert (code, out) == (0, "put policy readers (2 statements)\n")
    assert "ask every caller for a token" in err

    code, out, err = command(
        "token", "create", "--principal", "ada", "--policy", "readers", "--expires", "90d", "--json"
    )
    made = json.loads(out)
    assert (code, made["principal"], made["policies"]) == (0, "ada", ["readers"])
    assert read_credential(made["token"]).id == made["id"]
    with Guard.open(home) as guard:
        caller = guard.authenticate(made["token"], "10.0.0.7")
        guard.authorize(caller, "sagemaker:GetRecord", group_arn("weather"))

    code, out, _ = command("token", "list")
    assert code == 0
    assert made["id"] in out
    assert "active" in out
    assert read_credential(made["token"]).secret not in out

    asked = ("policy", "explain", "--token", made["id"], "--action", "sagemaker:GetRecord")
    code, out, _ = command(*asked, "--resource", "feature-group/weather", "--source-ip", "10.0.0.7")
    assert code == 0
    assert "Allow: allowed by Read of policy readers" in out
    code, out, _ = command(*asked, "--resource", "feature-group/weather", "--source-ip", "1.1.1.1")
    assert code == 1
    assert "Deny: no statement allows it" in out
    assert "which is '1.1.1.1' here" in out

    code, _, err = command("policy", "delete", "readers")
    assert code == 1
    assert "revoke them first (featureline token revoke ID)" in " ".join(err.split())
    assert command("token", "revoke", made["id"])[0] == 0
    assert json.loads(command("token", "list", "--json")[1])[0]["state"] == "revoked"
    assert command("policy", "delete", "readers")[0] == 0


def test_explain_names_hidden_features_and_every_statement(command, home, readers):
    home.mkdir()
    registry = Registry(home / "meta.db")
    definitions = feature_definitions([("id", "String"), ("at", "String"), ("ssn", "String")])
    registry.create(
        FeatureGroup("people", record_identifier="id", event_time="at", features=definitions),
        now=1,
        also=lambda entry: None,
    )
    registry.close()
    command("policy", "put", "readers", readers)
    made = json.loads(
        command("token", "create", "--principal", "ada", "--policy", "readers", "--json")[1]
    )
    asked = ("policy", "explain", "--action", "sagemaker:GetRecord", "--source-ip", "10.0.0.7")
    code, out, _ = command(
        *asked, "--principal", "ada", "--resource", "feature-group/people", "--json"
    )
    [explained] = json.loads(out)
    assert code == 0
    assert explained["token"] == made["id"]
    assert explained["statement"] == {"policy": "readers", "index": 0, "sid": "Read"}
    assert explained["hidden_features"] == {"ssn": "NoSsn of policy readers"}
    assert [entry["matches"] for entry in explained["statements"]] == [True, False]
    code, out, _ = command(
        *asked, "--policy", "readers", "--resource", "feature-group/people/feature/ssn", "--json"
    )
    [explained] = json.loads(out)
    assert code == 1
    assert explained["statement"]["sid"] == "NoSsn"


def test_a_policy_comes_back_as_it_was_put_and_a_doubtful_action_is_named(command, tmp_path):
    document = json.dumps(
        {"Statement": {"Effect": "Deny", "Action": "sagemaker:GetRecords", "Resource": "*"}}
    )
    code, _, err = command("policy", "put", "doubtful", "-", text=document)
    assert code == 0
    assert "no call here asks for 'sagemaker:getrecords'" in " ".join(err.split())
    assert command("policy", "show", "doubtful")[1] == document + "\n"
    [row] = json.loads(command("policy", "list", "--json")[1])
    assert (row["name"], row["statements"], row["tokens"]) == ("doubtful", 1, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("policy", "put", "p", "-"), 1, "expected JSON"),
        (("policy", "show", "none"), 1, "policy 'none' does not exist"),
        (("token", "revoke", "none"), 1, "expected the id of a token, got 'none'"),
        (("token", "create", "--principal", "a", "--policy", "none"), 1, "does not exist"),
        (("token", "create", "--principal", "a", "--policy", "p", "--expires", "9"), 2, "like 90d"),
        (("token", "create", "--principal", "a", "--policy", "p", "--tag", "x"), 2, "KEY=VALUE"),
        (("policy", "explain", "--action", "a:B", "--resource", "*"), 2, "one of --token"),
        (
            ("policy", "explain", "--principal", "x", "--action", "a:B", "--resource", "*"),
            1,
            "a principal with a token in use",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(inside, arguments, code, said):
    found, out, err = inside(*arguments)
    assert (found, out) == (code, "")
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_lists_are_empty_at_first(inside):
    assert inside("token", "list", "--json")[:2] == (0, "[]\n")
    assert "no policies" in inside("policy", "list")[1]
