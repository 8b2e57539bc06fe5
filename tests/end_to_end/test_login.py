"""The command against a server that asks for TLS, a client's certificate and a token."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from featurestore.auth import AccessDatabase
from tests.server.certificates import Authority, Pair

GROUP = {
    "FeatureGroupName": "weather",
    "RecordIdentifierFeatureName": "origin",
    "EventTimeFeatureName": "hour",
    "FeatureDefinitions": [
        {"FeatureName": "origin", "FeatureType": "String"},
        {"FeatureName": "hour", "FeatureType": "String"},
    ],
}
POLICY = {
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["sagemaker:*FeatureGroup*", "sagemaker:PutRecord", "featureline:VerifyLog"],
            "Resource": "*",
        },
        {"Effect": "Allow", "Action": ["sagemaker:Batch*"], "Resource": "*"},
        {
            "Effect": "Allow",  # a put of a file records itself
            "Action": ["featureline:RecordLineage", "featureline:DescribeEntity"],
            "Resource": "*",
        },
        {"Sid": "NoJobs", "Effect": "Deny", "Action": "sagemaker:*Jobs", "Resource": "*"},
    ]
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("login")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.issue("client")


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], folder: Path, authority: Authority) -> Any:
    home = folder / "home"
    home.mkdir()
    with closing(AccessDatabase(home)) as access:
        access.put_policy("clients", json.dumps(POLICY))
        token = access.create_token("ada", ["clients"]).text
    (folder / "token").write_text(f"{token}\n")
    pair = authority.issue("server")
    options = {"cert": pair.certificate, "key": pair.key, "client-ca": authority.file}
    arguments = [text for name, file in options.items() for text in (f"--tls-{name}", str(file))]
    return serve(home, *arguments).start()


@pytest.fixture
def there(
    command: Callable[..., Any], server: Any, folder: Path, authority: Authority, own: Pair
) -> Callable[..., Any]:
    """Run a command on the server, with all that it asks for."""

    def run(*arguments: object, **changes: object) -> Any:
        options = {
            "token-file": folder / "token",
            "tls-ca": authority.file,
            "tls-cert": own.certificate,
            "tls-key": own.key,
        } | {name.replace("_", "-"): value for name, value in changes.items()}
        given = [(f"--{name}", value) for name, value in options.items() if value is not None]
        return command(*arguments, "--connect", server.address, *sum(given, ()))

    return run


def test_commands_log_in_and_say_what_is_missing(
    there: Callable[..., Any], folder: Path, server: Any
) -> None:
    (folder / "group.json").write_text(json.dumps(GROUP))
    (folder / "rows.json").write_text(
        json.dumps([{"origin": "JFK", "hour": "2013-01-01T06:00:00Z"}])
    )

    assert there("group", "create", folder / "group.json").code == 0
    put = there("put", "weather", folder / "rows.json", "--json")
    assert (put.code, put.json["stored"]) == (0, 1)
    assert there("lineage", "verify").code == 0  # by the client of the lineage

    denied = there("jobs", "list")  # by the client of the training
    assert (denied.code, denied.out) == (1, "")
    assert "ada may not sagemaker:ListTrainingJobs" in denied.err
    assert "denied by NoJobs of policy clients" in denied.err

    nobody = there("group", "list", token_file=None)
    assert nobody.code == 1
    assert "--token-file" in nobody.err

    for changes, said in (
        ({"tls_cert": None, "tls_key": None}, "the server asks for a client's certificate"),
        ({"tls_ca": None, "tls_cert": None, "tls_key": None, "token_file": None}, "speaks TLS"),
        ({"tls_key": None}, "a client's certificate and its key belong together"),
    ):
        refused = there("group", "list", **changes)
        assert (refused.code, refused.out) == (1, "")
        assert said in refused.err

    (folder / "empty").write_text("\n")
    assert "expected a token, got none" in there("group", "list", token_file=folder / "empty").err
    assert server.log().count("Traceback") == 0


def test_the_environment_logs_in_as_the_options_do(
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    authority: Authority,
    own: Pair,
    server: Any,
) -> None:
    monkeypatch.setenv("FEATURELINE_TOKEN", (folder / "token").read_text())
    monkeypatch.setenv("FEATURELINE_TLS_CA", str(authority.file))
    monkeypatch.setenv("FEATURELINE_TLS_CERT", str(own.certificate))
    monkeypatch.setenv("FEATURELINE_TLS_KEY", str(own.key))

    assert command("group", "list", "--connect", server.address).code == 0
