"""The records of all benchmarks: a feature group with ten features or more, and its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import FeatureGroup, feature_definitions

__all__ = ["FEATURES", "GROUP", "START_US", "group_named", "make_messages", "make_rows", "user"]

START_US: Final = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
_WORDS: Final = {
    "device": pa.array(["phone", "tablet", "desktop", "television"]),
    "country": pa.array(["DE", "FR", "IT", "JP", "KE", "US"]),
}


def _names(features: int) -> tuple[list[str], list[str], list[str]]:
    """Name Integral, Fractional and String features: three, five and two of ten."""
    tens = features // 10
    words = [*_WORDS, *(f"{word}_{n}" for n in range(1, tens) for word in _WORDS)]
    return (
        [f"count_{n}" for n in range(3 * tens)],
        [f"mean_{n}" for n in range(5 * tens)],
        words,
    )


FEATURES: Final = tuple(name for names in _names(10) for name in names)
# Spreads consecutive rows over the users; prime, so that every user has a turn.
_STRIDE: Final = 2_654_435_761


def group_named(name: str, features: int = 10) -> FeatureGroup:
    """Return the feature group under another name, with so many features; a multiple of ten."""
    integral, fractional, words = _names(features)
    return FeatureGroup(
        name,
        record_identifier="user",
        event_time="event_time",
        features=feature_definitions(
            [
                ("user", "String"),
                ("event_time", "String"),
                *((feature, "Integral") for feature in integral),
                *((feature, "Fractional") for feature in fractional),
                *((feature, "String") for feature in words),
            ]
        ),
    )


GROUP: Final = group_named("profiles")


def make_rows(first: int, count: int, *, users: int, step_us: int, features: int = 10) -> pa.Table:
    """Make rows `first` to `first + count` of an endless stream, in order of time.

    Args:
        first: number of the first row; each row depends on its number and on `first`.
        count: rows to make.
        users: how many identifiers take turns; `users` rows in a row have each of them once.
        step_us: time between two rows.
        features: as for `group_named`.
    """
    integral, fractional, words = _names(features)
    numbers = np.arange(first, first + count, dtype=np.int64)
    random = np.random.default_rng(first)
    moments = pa.array(START_US + numbers * step_us).cast(pa.timestamp("us"))
    turns = pc.utf8_lpad(pa.array(numbers * (_STRIDE % users) % users).cast(pa.string()), 8, "0")
    columns = {
        "user": pc.binary_join_element_wise("user", turns, "-"),
        "event_time": pc.strftime(moments, "%Y-%m-%dT%H:%M:%SZ"),
    }
    columns |= {name: pa.array(random.integers(0, 1000, count)) for name in integral}
    columns |= {name: pa.array(random.normal(100.0, 15.0, count)) for name in fractional}
    for name in words:
        choice = _WORDS[name.partition("_")[0]]
        columns[name] = choice.take(pa.array(random.integers(0, len(choice), count)))
    return pa.table(columns)


def make_messages(count: int, *, users: int) -> Iterator[bytes]:
    """Make the same stream as JSON messages of about 300 bytes."""
    for first in range(0, count, 10_000):
        rows = make_rows(first, min(10_000, count - first), users=users, step_us=1_000_000)
        for row in rows.to_pylist():
            yield json.dumps(row).encode()


def user(number: int) -> str:
    """Return the identifier of a user by number."""
    return f"user-{number:08d}"
