"""Checks that the parts of a job's definition share, and their messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.errors import InvalidJob, nearest

__all__ = ["check_keys", "check_sizes", "check_word", "given", "invalid"]


def check_word(word: str, allowed: Sequence[str], what: str, field: str) -> None:
    """Refuse a word that is none of those allowed."""
    if word not in allowed:
        raise invalid(
            f"{what} {word!r} is not available{nearest(str(word), allowed)}; use one of "
            f"{', '.join(allowed)}",
            field,
        )


def check_sizes(
    field: str, values: Mapping[str, str], count: int, name_limit: int, value_limit: int
) -> None:
    """Refuse a mapping of text with too many entries, or too long ones."""
    if len(values) > count:
        raise invalid(f"expected at most {count} entries, got {len(values)}", field)
    for name, value in values.items():
        if not isinstance(value, str):
            raise invalid(f"{name!r}: expected text, got {value!r}", field)
        if not 1 <= len(name) <= name_limit or len(value) > value_limit:
            raise invalid(
                f"{name[:80]!r}: expected a name of 1 to {name_limit} and a value of at most "
                f"{value_limit} characters, got {len(name)} and {len(value)}",
                field,
            )


def check_keys(where: str, body: Mapping[str, Any], allowed: Sequence[str]) -> None:
    """Refuse keys of a JSON object that are not among those allowed."""
    for key in body:
        if key not in allowed:
            raise invalid(
                f"{where}: unknown field {key!r}{nearest(key, allowed)}; allowed are "
                f"{', '.join(allowed)}",
                key,
            )


def given(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def invalid(message: str, field: str) -> InvalidJob:
    """Return the error for a field that breaks a rule."""
    return InvalidJob(f"{field}: {message}", field=field)
