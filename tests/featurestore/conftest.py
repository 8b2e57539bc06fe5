"""Feature groups, records, a clock and stores for the tests of the feature store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import FeatureGroup, eventtime, feature_definitions
from featurestore.embedded import EmbeddedStore

DAY_US = 86_400_000_000
# 2024-01-01T00:00:00Z: second 0 of the records that `reading` makes.
START_US = 1_704_067_200_000_000


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, us: int) -> None:
        self.us = us

    def __call__(self) -> int:
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)


@pytest.fixture(scope="session")
def make_group() -> Callable[..., FeatureGroup]:
    """Make a group of (name, type) pairs; the first is the identifier, the second the time."""

    def make(name: str, features: Sequence[tuple[str, str]], **options: Any) -> FeatureGroup:
        return FeatureGroup(
            name,
            record_identifier=features[0][0],
            event_time=features[1][0],
            features=feature_definitions(features),
            **options,
        )

    return make


@pytest.fixture(scope="session")
def readings(make_group) -> FeatureGroup:
    """The group of most tests: one feature of each type beside identifier and time."""
    return make_group(
        "readings",
        [
            ("station", "String"),
            ("time", "String"),
            ("temp", "Fractional"),
            ("count", "Integral"),
            ("note", "String"),
        ],
    )


@pytest.fixture(scope="session")
def at() -> Callable[[float], str]:
    """Write a second of the test's day as ISO-8601 text."""
    return lambda second: eventtime.format_iso(START_US + round(second * 1_000_000))


@pytest.fixture(scope="session")
def reading(at) -> Callable[..., dict[str, object]]:
    """Make a record of `readings` for a station and a second."""

    def make(station: str, second: float, **features: object) -> dict[str, object]:
        return {"station": station, "time": at(second), **features}

    return make


@pytest.fixture(scope="session")
def clock_class() -> type[Clock]:
    """The clock's class, for tests that set one per example."""
    return Clock


@pytest.fixture
def clock() -> Clock:
    """A clock that stands a day behind second 0 of `reading`."""
    return Clock(START_US + DAY_US)


@pytest.fixture
def make_store(tmp_path, clock) -> Iterator[Callable[..., EmbeddedStore]]:
    """Open a store, by default of the test's one home and by the test's clock."""
    opened: list[EmbeddedStore] = []

    def make(home: Path | None = None, **options: Any) -> EmbeddedStore:
        chosen = home or tmp_path / "home"
        chosen.mkdir(parents=True, exist_ok=True)
        store = EmbeddedStore(chosen, **({"now": clock} | options))
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(make_store, readings) -> EmbeddedStore:
    """A store with the group `readings`."""
    made = make_store()
    made.create_feature_group(readings)
    return made


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., list[dict[str, Any]]]:
    """Read all rows of a group's Delta table, in the order of their sequence."""

    def read(store: EmbeddedStore, group: str = "readings") -> list[dict[str, Any]]:
        table = DeltaTable(store.offline_uri(group)).to_pyarrow_table()
        return pa.table(table).sort_by("_sequence").to_pylist()

    return read


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python process that can import what this one imports."""

    def start(arguments: Iterable[str], **options: Any) -> subprocess.Popen[str]:
        root = str(Path(featurestore.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            **options,
        )

    return start


@pytest.fixture
def run_both(run_python) -> Callable[..., list[list[str]]]:
    """Run a program twice at once; each waits for the other before its last step.

    The program prints `ready`, reads a line, and goes on; what it prints then is returned.
    """

    def run(code: str, *arguments: str) -> list[list[str]]:
        processes = [run_python(["-c", code, str(which), *arguments]) for which in range(2)]
        try:
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            answers = [process.communicate(timeout=60)[0].splitlines() for process in processes]
            assert [process.returncode for process in processes] == [0, 0]
            return answers
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    return run
