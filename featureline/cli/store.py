"""Which store a command works on, and the options every command takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

import featurestore
from featurestore.embedded import EmbeddedStore, open_store

__all__ = ["common_options", "home_of", "open_any", "open_embedded"]

P = ParamSpec("P")
R = TypeVar("R")


def common_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --home, --connect and --json."""
    for option in reversed(
        (
            click.option(
                "--home",
                type=click.Path(path_type=Path, file_okay=False),
                help="Folder of the stores.  [default: $FEATURELINE_HOME or ./.featureline]",
            ),
            click.option("--connect", metavar="HOST:PORT", help="Use a running server instead."),
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
        return featurestore.connect(connect)
    return open_store(home)


def open_embedded(home: Path | None, connect: str | None, what: str) -> EmbeddedStore:
    """Open the home for a command that works on files only."""
    if connect is not None:
        raise click.UsageError(f"{what} works on the files of a home; use --home")
    return open_store(home)


def home_of(store: Any) -> Path:
    """Return the folder of an embedded store."""
    return Path(store.home)
