"""One worker's counts at one moment, and the page that sums those of all workers.

Several workers write theirs into files of the home's `run` folder, about once a second. A worker
that died leaves its last file, so that its counts stay in the sums while the server runs; what it
counted after writing it is lost. Prometheus' own mode for many processes keeps every counter in a
mapped file at twice the price of a call, and takes its folder from the environment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from featurestore.server.families import FAMILIES, Family, Kind, Scope

__all__ = ["STALE_S", "Histograms", "Numbers", "Reports", "Snapshot", "page"]

# A worker that has not written for so long is not counted as living.
STALE_S: Final = 5.0
_FORM: Final = 1

# By labels. A histogram is the counts of its buckets, of what is above the last, and the sum.
Numbers = dict[tuple[str, ...], float]
Histograms = dict[tuple[str, ...], list[float]]


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one worker counted.

    Args:
        run: names the server's run.
        pid: of the worker.
        taken: when, on the machine's monotonic clock, which all processes share.
        numbers: counters and gauges, by metric and labels.
        histograms: by metric and labels.
        checks: by name what is wrong with a store, or an empty text; empty: never checked.
    """

    run: str
    pid: int
    taken: float
    numbers: Mapping[str, Numbers]
    histograms: Mapping[str, Histograms]
    checks: Mapping[str, str] = field(default_factory=dict)

    def age_s(self) -> float:
        """Return how old it is."""
        return time.monotonic() - self.taken

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(
            {
                "form": _FORM,
                "run": self.run,
                "pid": self.pid,
                "taken": self.taken,
                "checks": dict(self.checks),
                "numbers": {name: list(cells.items()) for name, cells in self.numbers.items()},
                "histograms": {
                    name: list(cells.items()) for name, cells in self.histograms.items()
                },
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        body = json.loads(text)
        if not isinstance(body, dict) or body.get("form") != _FORM:
            raise ValueError(f"expected a snapshot of form {_FORM}, got {text[:40]!r}")
        numbers, histograms = (
            {
                name: {tuple(labels): value for labels, value in cells}
                for name, cells in body[part].items()
            }
            for part in ("numbers", "histograms")
        )
        return cls(body["run"], body["pid"], body["taken"], numbers, histograms, body["checks"])


@final
class Reports:
    """The files by which the workers of one run tell their counts.

    Args:
        folder: the home's `run` folder; made when absent.
        run: names the run; the process that starts the workers makes one with `begin`.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.run = run
        self._folder = folder
        # By file: what tells that it is the same one, and what it holds.
        self._read: dict[str, tuple[tuple[int, int, int], Snapshot]] = {}

    @classmethod
    def begin(cls, folder: Path) -> Reports:
        """Start a run: name it, and remove what runs left whose process is no more."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in folder.glob("metrics-*"):
            owner = file.name.split("-")[1]
            if owner.isdecimal() and not _lives(int(owner)):
                file.unlink(missing_ok=True)
        return cls(folder, f"{os.getpid()}-{secrets.token_hex(3)}")

    def write(self, snapshot: Snapshot) -> None:
        """Put a worker's snapshot in the place of its last one.

        Raises:
            OSError: the folder cannot be written.
        """
        file = self._folder / f"metrics-{self.run}-{snapshot.pid}.json"
        fresh = file.with_suffix(".new")
        fresh.write_text(replace(snapshot, run=self.run).to_json(), encoding="utf-8")
        fresh.replace(file)

    def read(self) -> list[Snapshot]:
        """Return the last snapshot of every worker that this run has had, oldest worker first."""
        found: dict[str, tuple[tuple[int, int, int], Snapshot]] = {}
        for file in sorted(self._folder.glob(f"metrics-{self.run}-*.json")):
            with contextlib.suppress(FileNotFoundError, ValueError):
                status = file.stat()
                same = (status.st_ino, status.st_mtime_ns, status.st_size)
                known = self._read.get(file.name)
                # The files of workers that died do not change: they are parsed once.
                found[file.name] = (
                    known
                    if known is not None and known[0] == same
                    else (same, Snapshot.from_json(file.read_text(encoding="utf-8")))
                )
        self._read = found
        return [snapshot for _, snapshot in found.values()]

    def end(self) -> None:
        """Remove the files of the run."""
        for file in self._folder.glob(f"metrics-{self.run}-*"):
            file.unlink(missing_ok=True)


def page(snapshots: Sequence[Snapshot], accept: str = "") -> tuple[bytes, str]:
    """Write the metrics page that sums snapshots.

    Args:
        snapshots: of all workers of a run; counts of all go in, gauges of the living.
        accept: the HTTP header of the request; it chooses between Prometheus' formats.

    Returns:
        The page and its content type.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(snapshots))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


@final
class _Page(Collector):
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._all = snapshots
        self._living = [snapshot for snapshot in snapshots if snapshot.age_s() <= STALE_S]

    def collect(self) -> Iterable[Metric]:
        for family in FAMILIES.values():
            metric = (
                self._histogram(family)
                if family.kind is Kind.HISTOGRAM
                else self._numbers_of(family)
            )
            if metric.samples:
                yield metric

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
        nothing = [0.0] * (len(family.buckets) + 2)
        summed: Histograms = {} if family.labels else {(): nothing}
        for snapshot in self._all:
            for labels, cell in snapshot.histograms.get(family.name, {}).items():
                before = summed.get(labels, nothing)
                summed[labels] = [a + b for a, b in zip(before, cell, strict=True)]
        bounds = [*map(str, family.buckets), "+Inf"]
        for labels, cell in sorted(summed.items()):
            # Prometheus wants each bucket to count all below it.
            below = itertools.accumulate(cell[:-1])
            metric.add_metric(labels, list(zip(bounds, below, strict=True)), cell[-1])
        return metric

    def _numbers_of(self, family: Family) -> Metric:
        kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
        metric = kind(family.name, family.meaning, labels=family.labels)
        for labels, value in sorted(self._summed(family).items()):
            metric.add_metric(labels, value)
        return metric

    def _summed(self, family: Family) -> Numbers:
        if family.name == "featureline_workers":
            return {(): len(self._living)}
        if family.name == "featureline_ready":
            return self._checks()
        if family.scope is Scope.STORE:
            newest = max(self._living, key=lambda snapshot: snapshot.taken, default=None)
            return {} if newest is None else dict(newest.numbers.get(family.name, {}))
        if family.scope is Scope.RUN:
            cells = [snapshot.numbers.get(family.name, {}) for snapshot in self._all]
            return {(): min(value for cell in cells for value in cell.values())} if cells else {}
        counts = family.kind is Kind.COUNTER
        summed: Numbers = {(): 0.0} if counts and not family.labels else {}
        for snapshot in self._all if counts else self._living:
            for labels, value in snapshot.numbers.get(family.name, {}).items():
                summed[labels] = summed.get(labels, 0.0) + value
        return summed

    def _checks(self) -> Numbers:
        """A check holds when it holds in every worker."""
        problems = [item for snapshot in self._living for item in snapshot.checks.items()]
        found: Numbers = {}
        for check, problem in problems:
            found[(check,)] = 0.0 if problem else found.get((check,), 1.0)
        return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
