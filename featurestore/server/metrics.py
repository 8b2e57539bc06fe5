"""Counting what a server does: cheap enough for every batch of calls."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, final

import grpc

from featurestore.server.families import FAMILIES, Kind
from featurestore.server.flood import Flood
from featurestore.server.snapshot import Histograms, Numbers, Snapshot

__all__ = ["Metrics"]

_log = logging.getLogger("featurestore.server.calls")
_STATUS_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_SLOW_BURST: Final = 5
# A little longer than that of the log, which then never holds back what passed here.
_SLOW_WINDOW_S: Final = 12.0


@final
class Metrics:
    """The counts of one worker process; may be used from many threads.

    Nothing is global: two servers in one process have one each. `snapshot` takes what is
    counted; pages are made from snapshots, of one worker or of several.

    Args:
        front: what speaks gRPC: `grpc` or `native`.
        version: of the server.
        slow_s: calls that take at least so long are logged, a few of a kind; None: none is.

    >>> metrics = Metrics()
    >>> metrics.answered("GetRecord", "OK", 0.0004, count=32)
    >>> metrics.snapshot().numbers["featureline_calls_total"]
    {('GetRecord', 'OK'): 32}
    """

    def __init__(
        self, *, front: str = "grpc", version: str = "", slow_s: float | None = None
    ) -> None:
        self.slow_s = math.inf if slow_s is None else slow_s
        self._lock = threading.Lock()
        self._flood = Flood(burst=_SLOW_BURST, window_s=_SLOW_WINDOW_S)
        self._natives: list[Callable[[], Mapping[str, Any] | None]] = []
        self._numbers: dict[str, Numbers] = {}
        self._histograms: dict[str, Histograms] = {}
        for name, family in FAMILIES.items():
            if family.kind is Kind.HISTOGRAM:
                self._histograms[name] = {}
            else:
                self._numbers[name] = {}
        self._set("featureline_info", (front, version), 1)
        self._set("featureline_start_time_seconds", (), time.time())
        # Looked up once, not per batch.
        self._calls = self._numbers["featureline_calls_total"]
        self._call_seconds = self._observer("featureline_call_seconds")
        self._batch_calls = self._observer("featureline_batch_calls")
        self._commit_seconds = self._observer("featureline_commit_seconds")
        self._commit_writes = self._observer("featureline_commit_writes")
        self._flush_seconds = self._observer("featureline_flush_seconds")

    def answered(self, method: str, status: str, seconds: float, count: int = 1) -> None:
        """Count calls of one method that ended alike, as one observation of their time.

        Args:
            method: its last word, as in `PutRecord`.
            status: the gRPC status by name.
            seconds: from arrival to answer, of each of them.
            count: how many.
        """
        key = (method, status)
        with self._lock:
            calls = self._calls
            calls[key] = calls.get(key, 0) + count
            self._call_seconds((method,), seconds, count)
        if seconds >= self.slow_s:
            self.slow(method, status, seconds, count)

    def slow(self, method: str, status: str, seconds: float, count: int = 1) -> None:
        """Count and log slow calls; `answered` does so by itself.

        For a front that counts elsewhere (`add_native`): ask `slow_s` first.
        """
        self._add("featureline_slow_calls_total", (method,), count)
        held = self._flood.admit(method)
        if held is None:
            return
        more = f"; … and {held:,} more since the last line" if held else ""
        _log.warning(
            "slow call: %s took %.0f ms (%s)%s",
            method,
            seconds * 1000,
            status,
            more,
            extra={
                "facts": {
                    "method": method,
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                    "calls": count,
                    "held_back": held,
                }
            },
        )

    def batch(self, kind: str, size: int) -> None:
        """Count a batch of calls that are answered together; kind: `read` or `write`."""
        with self._lock:
            self._batch_calls((kind,), size)

    def commit(self, seconds: float, writes: int) -> None:
        """Count one durable transaction."""
        with self._lock:
            self._commit_seconds((), seconds)
            self._commit_writes((), writes)

    def queue(self, depth: int) -> None:
        """Say how many writes wait now."""
        self._set("featureline_queue_depth", (), depth)

    def shed(self, reason: str, count: int = 1) -> None:
        """Count calls that were refused or dropped: `full`, `deadline`, `gone`."""
        self._add("featureline_shed_total", (reason,), count)

    def throttled(self, group: str, count: int = 1) -> None:
        """Count calls over a group's provisioned throughput."""
        self._add("featureline_throttled_total", (group,), count)

    def flushed(self, group: str, records: int, seconds: float) -> None:
        """Count a flush of one group; one that had nothing to move is not counted."""
        if records:
            with self._lock:
                self._flush_seconds((group,), seconds)
            self._add("featureline_flushed_records_total", (group,), records)

    def flush_failed(self, group: str) -> None:
        """Count a flush that raised."""
        self._add("featureline_flush_failures_total", (group,), 1)

    def swept(self, records: int) -> None:
        """Count expired records whose space was given back."""
        self._add("featureline_expired_swept_total", (), records)

    def outbox(self, group: str, records: int, oldest_s: float) -> None:
        """Say what waits for the offline store of one group; `Monitor` does so regularly."""
        with self._lock:
            self._numbers["featureline_outbox_group_records"][(group,)] = records
            self._numbers["featureline_outbox_lag_seconds"][(group,)] = oldest_s

    def gauge(self, name: str, value: float | None, *labels: str) -> None:
        """Set a gauge by its full name; None takes it off the page."""
        if value is None:
            with self._lock:
                self._numbers[name].pop(labels, None)
        else:
            self._set(name, labels, value)

    def counter(self, name: str, value: float, *labels: str) -> None:
        """Set a counter that something else counts, as the processor time."""
        self._set(name, labels, value)

    def forget_groups(self, living: Mapping[str, object]) -> None:
        """Take the outbox gauges of groups that are no more off the page."""
        with self._lock:
            for name in ("featureline_outbox_group_records", "featureline_outbox_lag_seconds"):
                numbers = self._numbers[name]
                for labels in [labels for labels in numbers if labels[0] not in living]:
                    del numbers[labels]

    def add_native(self, read: Callable[[], Mapping[str, Any] | None]) -> None:
        """Count also the calls that a native front counts by itself.

        Args:
            read: `NativeGrpcFront.metrics` of a front made with `metrics=True`; also after it was
                closed.
        """
        self._natives.append(read)

    def snapshot(self, *, run: str = "", checks: Mapping[str, str] | None = None) -> Snapshot:
        """Return all counts as they are now."""
        with self._lock:
            numbers = {name: dict(cells) for name, cells in self._numbers.items() if cells}
            histograms = {
                name: {labels: list(cell) for labels, cell in cells.items()}
                for name, cells in self._histograms.items()
                if cells
            }
        for read in self._natives:
            native = read()
            if native is not None:
                _add_native(numbers, histograms, native)
        return Snapshot(run, os.getpid(), time.monotonic(), numbers, histograms, dict(checks or {}))

    def _add(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        cells = self._numbers[name]
        with self._lock:
            cells[labels] = cells.get(labels, 0) + amount

    def _set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        with self._lock:
            self._numbers[name][labels] = value

    def _observer(self, name: str) -> _Observe:
        """Return what adds to a histogram of a family; its caller holds the lock."""
        cells = self._histograms[name]
        bounds = FAMILIES[name].buckets
        empty = [0.0] * (len(bounds) + 2)

        def observe(labels: tuple[str, ...], value: float, count: int = 1) -> None:
            cell = cells.get(labels)
            if cell is None:
                cell = cells[labels] = empty.copy()
            cell[bisect_left(bounds, value)] += count
            cell[-1] += value * count

        return observe


class _Observe(Protocol):
    def __call__(self, labels: tuple[str, ...], value: float, count: int = 1) -> None: ...


def _add_native(
    numbers: dict[str, Numbers], histograms: dict[str, Histograms], native: Mapping[str, Any]
) -> None:
    """Fold the counts of a native front into ours."""
    buckets = FAMILIES["featureline_call_seconds"].buckets
    # Each bucket goes into the first of ours that holds all of it.
    places = [bisect_left(buckets, bound) for bound in native["bounds"]] + [len(buckets)]
    calls = numbers.setdefault("featureline_calls_total", {})
    seconds = histograms.setdefault("featureline_call_seconds", {})
    for path, counted in native["methods"].items():
        method = path.rpartition("/")[2]
        for code, found in counted["status"].items():
            status = _STATUS_NAMES.get(int(code), str(code))
            calls[(method, status)] = calls.get((method, status), 0) + found["count"]
            cell = seconds.setdefault((method,), [0.0] * (len(buckets) + 2))
            for place, count in zip(places, found["buckets"], strict=True):
                cell[place] += count
            cell[-1] += found["sum"]
