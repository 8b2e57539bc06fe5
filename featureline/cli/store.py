"""Which store a command works on, and the options every command takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click

import featurestore
import lineage
from featurestore import ClientTls, InvalidRequest
from featurestore.embedded import EmbeddedStore, open_store
from lineage.wire.channel import TLS_CA, TLS_CERT, TLS_KEY, TLS_SERVER_NAME, TOKEN

__all__ = ["common_options", "home_of", "login", "open_any", "open_embedded"]

P = ParamSpec("P")
R = TypeVar("R")


def _noted(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        context.meta.setdefault(_LOGIN, {})[parameter.name] = value


_LOGIN: Final = "featureline.login"
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
# Kept in the context: only what connects looks at them. A token itself is no option, since other
# users of the machine see a command's arguments.
_LOGIN_OPTIONS: Final = tuple(
    click.option(
        f"--{name}",
        type=kind,
        envvar=variable,
        expose_value=False,
        callback=_noted,
        help=f"{text}  [default: ${variable or TOKEN}]",
    )
    for name, kind, variable, text in (
        ("token-file", _FILE, None, "The token for --connect."),
        ("tls-ca", _FILE, TLS_CA, "Connect over TLS; PEM certificates of the server's authority."),
        ("tls-cert", _FILE, TLS_CERT, "PEM certificate of this client, if the server asks for it."),
        ("tls-key", _FILE, TLS_KEY, "PEM private key of --tls-cert."),
        (
            "tls-server-name",
            str,
            TLS_SERVER_NAME,
            "Name that the server's certificate must have, if not that of --connect.",
        ),
    )
)


def common_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --home, --connect with what it takes to log in, and --json."""
    for option in reversed(
        (
            click.option(
                "--home",
                type=click.Path(path_type=Path, file_okay=False),
                help="Folder of the stores.  [default: $FEATURELINE_HOME or ./.featureline]",
            ),
            click.option("--connect", metavar="HOST:PORT", help="Use a running server instead."),
            *_LOGIN_OPTIONS,
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        )
    ):
        command = option(command)

    @functools.wraps(command)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.get("home") is not None and kwargs.get("connect") is not None:
            raise click.UsageError("give --home or --connect, not both")
        return command(*args, **kwargs)

    return checked


def open_any(home: Path | None, connect: str | None) -> featurestore.FeatureStore:
    """Open the store that --home or --connect names."""
    if connect is not None:
        token, tls = login()
        return featurestore.connect(connect, token=token, tls=tls)
    return open_store(home)


def login() -> tuple[str | None, ClientTls | None]:
    """Return the token and the TLS that the command's options name.

    Raises:
        InvalidRequest: the file of the token cannot be read, or is empty.
    """
    given: dict[str, Any] = click.get_current_context().meta.get(_LOGIN, {})
    token = None
    if "token_file" in given:
        try:
            token = given["token_file"].read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"--token-file {given['token_file']}: {error}") from error
        if not token:
            raise InvalidRequest(f"--token-file {given['token_file']}: expected a token, got none")
    ca, certificate, key = (given.get(name) for name in ("tls_ca", "tls_cert", "tls_key"))
    if not (ca or certificate or key):
        return token, None
    try:
        return token, ClientTls(ca, certificate, key, given.get("tls_server_name"))
    except lineage.InvalidLogin as error:
        raise InvalidRequest(str(error)) from error


def open_embedded(home: Path | None, connect: str | None, what: str) -> EmbeddedStore:
    """Open the home for a command that works on files only."""
    if connect is not None:
        raise click.UsageError(
            f"{what} works on the files of a home; use --home, on the machine that has them"
        )
    return open_store(home)


def home_of(store: Any) -> Path:
    """Return the folder of an embedded store."""
    return Path(store.home)
