"""`--token-file` and `--tls-ca`: what commands show to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from featureline.cli.store import common_options, login
from featurestore import ClientTls, InvalidRequest


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEATURELINE_TOKEN", raising=False)


def ask(*arguments: str) -> tuple[str | None, ClientTls | None]:
    seen: list[Any] = []

    @click.command()
    @common_options
    def command(home: Path | None, connect: str | None, as_json: bool) -> None:
        seen.append(login())

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return seen[0]  # type: ignore[no-any-return]


def test_without_options_the_environment_decides_later() -> None:
    assert ask("--connect", "127.0.0.1:1") == (None, None)


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("flk_1_secret\n")

    assert ask("--token-file", str(file)) == ("flk_1_secret", None)


def test_the_files_of_tls_are_named(tmp_path: Path) -> None:
    token, tls = ask("--tls-ca", "ca.pem", "--tls-cert", "own.pem", "--tls-key", "own.key")

    assert token is None
    assert tls == ClientTls(Path("ca.pem"), Path("own.pem"), Path("own.key"))


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="belong together"):
        ask("--tls-key", "own.key")


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"--token-file .*nowhere"):
        ask("--token-file", str(tmp_path / "nowhere"))
