"""The options of a walk, and how times, sequences and properties are written."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from lineage import JSON, AssociationType, Direction, Kind

__all__ = [
    "as_of_option",
    "filter_options",
    "json_value",
    "limit_option",
    "moment",
    "moment_or_sequence",
    "pairs",
    "through_option",
    "walk_options",
]

R = TypeVar("R")

_TIMES: Final = ("created_after", "created_before", "modified_after", "modified_before")


def walk_options(command: Callable[..., R], *, is_optional: bool = False) -> Callable[..., R]:
    """Add START and the options of a walk; the command gets `start` and `options` for `query`.

    Args:
        command: to add them to.
        is_optional: whether START may be left out.
    """

    @functools.wraps(command)
    def walked(start: str | None, **given: Any) -> R:
        names = ("direction", "depth", "through", "limit", "max_walked", "as_of")
        options = {name: given.pop(name) for name in names}
        return command(start=start, options={**options, **given.pop("wanted")}, **given)

    decorated: Any = filter_options(walked)
    for option in (
        as_of_option,
        click.option(
            "--max-walked",
            type=click.IntRange(min=1),
            help="Visit at most so many entities, nearest first.",
        ),
        limit_option("Return at most so many entities, nearest first."),
        through_option,
        click.option("--depth", type=click.IntRange(min=0), help="Associations from START."),
        click.option(
            "--direction",
            type=click.Choice([each.value for each in Direction]),
            default="both",
            show_default=True,
            help="What it comes from, what it reaches, both ways from everything on the way, "
            "or either of the two.",
        ),
        click.argument("start", required=not is_optional),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def filter_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the filters; the command gets those that were given as `wanted`."""

    @functools.wraps(command)
    def filtered(
        types: tuple[str, ...],
        kinds: tuple[str, ...],
        states: tuple[str, ...],
        uris: tuple[str, ...],
        properties: tuple[str, ...],
        **given: Any,
    ) -> R:
        wanted: dict[str, Any] = {
            "types": list(types) or None,
            "kinds": list(kinds) or None,
            "states": list(states) or None,
            "uris": list(uris) or None,
            "properties": pairs("--property", properties) or None,
        }
        for name in _TIMES:
            text = given.pop(name)
            wanted[name] = None if text is None else moment(f"--{name.replace('_', '-')}", text)
        return command(wanted=wanted, **given)

    decorated: Any = filtered
    for option in (
        *(
            click.option(
                f"--{name.replace('_', '-')}",
                metavar="TIME",
                help=f"Return only what was {name.replace('_', ' ')} or at this time.",
            )
            for name in reversed(_TIMES)
        ),
        click.option(
            "--property",
            "properties",
            multiple=True,
            metavar="NAME=VALUE",
            help="Return only what has any of these; dots in NAME look into nested values.",
        ),
        click.option(
            "--uri", "uris", multiple=True, help="Return only source uris that begin like these."
        ),
        click.option("--state", "states", multiple=True, help="Return only these states."),
        click.option(
            "--kind",
            "kinds",
            multiple=True,
            metavar=f"[{'|'.join(Kind)}]",
            type=click.Choice([each.value for each in Kind], case_sensitive=False),
            help="Return only these kinds.",
        ),
        click.option("--type", "types", multiple=True, help="Return only these types."),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


as_of_option = click.option(
    "--as-of",
    metavar="TIME|SEQUENCE",
    callback=lambda context, parameter, text: (
        None if text is None else moment_or_sequence("--as-of", text)
    ),
    help="The graph as it was then: after the event of this number, or at this time.",
)

through_option = click.option(
    "--through",
    multiple=True,
    metavar=f"[{'|'.join(AssociationType)}]",
    type=click.Choice([each.value for each in AssociationType], case_sensitive=False),
    callback=lambda context, parameter, values: list(values) or None,
    help="Walk along these associations only.",
)


def limit_option(
    text: str, default: int | None = None, most: int | None = None
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make the option --limit.

    Args:
        text: its help.
        default: how many when it is not given; None: all.
        most: that may be asked for.
    """
    return click.option(
        "--limit",
        type=click.IntRange(min=1, max=most),
        default=default,
        show_default=default is not None,
        help=text,
    )


def moment_or_sequence(option: str, text: str) -> dt.datetime | int:
    """Read a sequence, or a time in ISO 8601.

    Raises:
        UsageError: it is neither.
    """
    return int(text) if text.isdecimal() else moment(option, text)


def pairs(option: str, texts: tuple[str, ...]) -> dict[str, JSON]:
    """Read NAME=VALUE several times.

    Raises:
        UsageError: one has no name or no value.
    """
    found: dict[str, JSON] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option}: expected NAME=VALUE, got {text!r}")
        found[name] = json_value(value)
    return found


def json_value(text: str) -> JSON:
    """Read a value as JSON, and as plain text where it is none.

    >>> json_value("6"), json_value("true"), json_value("xgboost")
    (6, True, 'xgboost')
    """
    try:
        value: JSON = json.loads(text)
    except ValueError:
        return text
    return value


def moment(option: str, text: str) -> dt.datetime:
    """Read a time in ISO 8601; without a zone it is UTC.

    Raises:
        UsageError: it is none.
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(
            f"{option}: expected a time such as 2013-01-31T12:00:00Z, got {text!r} ({error})"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
