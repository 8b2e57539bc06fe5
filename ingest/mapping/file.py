"""Mapping files: a mapping and its lookups, declared in TOML or JSON."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from featurestore.errors import nearest
from featurestore.record import shown
from ingest.enrich import Lookup
from ingest.errors import InvalidMapping
from ingest.mapping.featuremapping import FeatureMapping
from ingest.transform import Transform

__all__ = ["read_mapping", "transforms_of"]

_OF_LOOKUP: Final = {
    "group": str,
    "on": dict,
    "features": list,
    "prefix": str,
    "as_of": str,
    "missing": str,
    "wait_s": (int, float),
    "max_age": (str, int, float),
    "before_mapping": bool,
}


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the declaration in a file: TOML where its name ends so, else JSON.

    Raises:
        InvalidMapping: it cannot be read, or is no table.
    """
    try:
        text = path.read_text(encoding="utf-8")
        body = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        raise InvalidMapping(str(path), expected=f"a mapping in {kind}", got=str(error)) from None
    if not isinstance(body, dict) or not body:
        raise InvalidMapping(
            str(path), expected="feature → field, or a table with features", got=shown(body)
        )
    return body


def transforms_of(
    declaration: Mapping[str, object], *, topic: str | None = None
) -> list[Transform]:
    """Return what a declaration makes of messages, in order.

    Beside the members of a `FeatureMapping` it may have `lookup`: tables with the arguments of
    `Lookup`, of which `max_age` is in seconds or `ttl`. They see the record that the mapping made;
    those with `before_mapping` see the message's fields, and the mapping sees what they add.

    Args:
        declaration: as `read_mapping` returns it.
        topic: what the path `@topic` gives.

    Raises:
        InvalidMapping: the declaration breaks a rule.
    """
    rest = {name: value for name, value in declaration.items() if name != "lookup"}
    tables = declaration.get("lookup", [])
    if isinstance(tables, str):
        rest, tables = dict(declaration), []  # a feature of that name
    if not isinstance(tables, list):
        raise InvalidMapping("lookup", expected="tables ([[lookup]])", got=shown(tables))
    before: list[Transform] = []
    after: list[Transform] = []
    for number, table in enumerate(tables, start=1):
        lookup, is_before = _lookup(number, table)
        (before if is_before else after).append(lookup)
    mapping: list[Transform] = [FeatureMapping(rest, topic=topic)] if rest else []
    return [*before, *mapping, *after]


def _lookup(number: int, table: object) -> tuple[Lookup, bool]:
    where = f"lookup {number}"
    if not isinstance(table, Mapping):
        raise InvalidMapping(where, expected="a table", got=shown(table))
    for name, value in table.items():
        kind = _OF_LOOKUP.get(name)
        if kind is None:
            raise InvalidMapping(
                where,
                expected=f"the members {', '.join(_OF_LOOKUP)}",
                got=f"{name!r}{nearest(name, _OF_LOOKUP)}",
            )
        is_truth = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or is_truth:  # type: ignore[arg-type]  # types all
            raise InvalidMapping(where, expected=f"{name} of another type", got=shown(value))
    for name in ("group", "on"):
        if name not in table:
            raise InvalidMapping(where, expected=f"the member {name}", got="none")
    arguments = {name: value for name, value in table.items() if name != "before_mapping"}
    max_age = arguments.get("max_age")
    if isinstance(max_age, int | float):
        arguments["max_age"] = dt.timedelta(seconds=max_age)
    for part in (*table["on"].values(), *table.get("features", ())):
        if not isinstance(part, str):
            raise InvalidMapping(where, expected="names as text", got=shown(part))
    return Lookup(**arguments), bool(table.get("before_mapping", False))
