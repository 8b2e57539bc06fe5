"""What a server is doing, in figures: the difference of two looks at its metrics page."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, final

from prometheus_client.parser import text_string_to_metric_families

from featurestore.errors import InvalidRequest, StoreUnavailable

__all__ = ["Figures", "Page", "address_of_home", "fetch", "figures", "quantile"]

_TIMEOUT_S: Final = 3.0
_OK: Final = "OK"


@final
@dataclass(frozen=True, slots=True)
class Page:
    """One look at a server.

    Args:
        at: when, monotonic seconds.
        samples: by name and labels (label → value).
        readiness: the body of /readyz.
    """

    at: float
    samples: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
    readiness: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, *, at: float, readiness: Mapping[str, Any] | None = None) -> Page:
        """Read a metrics page.

        Raises:
            ValueError: it is something else.
        """
        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                samples.setdefault(sample.name, {})[labels] = sample.value
        if "featureline_workers" not in samples:
            raise ValueError("expected the metrics page of a featureline server")
        return cls(at, samples, readiness or {})

    def one(self, name: str) -> float | None:
        """Return the value of a metric without labels."""
        return self.samples.get(name, {}).get(())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the values of a metric by one of its labels, summed over the others."""
        found: dict[str, float] = {}
        for labels, value in self.samples.get(name, {}).items():
            key = dict(labels)[label]
            found[key] = found.get(key, 0.0) + value
        return found


def fetch(address: str) -> Page:
    """Look at a server's pages.

    Args:
        address: `host:port` of its `--metrics`.

    Raises:
        InvalidRequest: the address has another form.
        StoreUnavailable: nobody answers there, or something else does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal():
        raise InvalidRequest(f"expected HOST:PORT of a server's --metrics, got {address!r}")
    try:
        text = _get(host.strip("[]"), int(port), "/metrics")
        at = time.monotonic()
        readiness = json.loads(_get(host.strip("[]"), int(port), "/readyz"))
        return Page.parse(text, at=at, readiness=readiness)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StoreUnavailable(f"{address} does not answer: {reason}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise StoreUnavailable(
            f"{address} answers, but not with a metrics page; give the address that `featureline "
            f"serve --metrics HOST:PORT` listens on"
        ) from error


def address_of_home(home: Path) -> str:
    """Return where the server of a home on this machine has its metrics page.

    Raises:
        StoreUnavailable: no server with `--metrics` runs there.
    """
    for note in sorted((home / "run").glob("probe-*.json"), key=_changed, reverse=True):
        pid = note.stem.removeprefix("probe-")
        if pid.isdecimal() and _lives(int(pid)):
            try:
                return str(json.loads(note.read_text(encoding="utf-8"))["metrics"])
            except (OSError, ValueError, KeyError):
                continue  # it is just ending
    raise StoreUnavailable(
        f"no server with a metrics page runs on the home {home}; start one by `featureline serve "
        f"--home {home} --metrics 127.0.0.1:9464`, or name one by --metrics HOST:PORT"
    )


@final
@dataclass(frozen=True, slots=True)
class Method:
    """Calls of one method; the times are None while there are none."""

    method: str
    calls_per_s: float
    errors_per_s: float
    p50_ms: float | None
    p99_ms: float | None


@final
@dataclass(frozen=True, slots=True)
class Group:
    """What of a feature group waits for the offline store."""

    group: str
    records: float
    lag_s: float
    flushed_per_s: float


@final
@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process; `cpu` is in cores."""

    pid: int
    cpu: float | None
    resident_bytes: float | None


@final
@dataclass(frozen=True, slots=True)
class Figures:
    """One frame. Rates are per second, over the time between two looks.

    Args:
        ready: what /readyz says.
        problems: of the checks that do not hold, by name.
        fronts: workers by what speaks gRPC in them.
        errors: calls per second that did not end with OK, by status.
        shed: calls per second that were shed, by reason.
        read_batch: calls in a batch of reads, mean.
        commit_writes: writes in a transaction, mean.
        online: records, used_bytes, file_bytes, limit_bytes, readers, disk_free_bytes.
    """

    interval_s: float
    ready: bool
    problems: Mapping[str, str]
    version: str
    fronts: Mapping[str, int]
    uptime_s: float | None
    calls_per_s: float
    errors_per_s: float
    errors: Mapping[str, float]
    shed: Mapping[str, float]
    throttled: Mapping[str, float]
    slow_per_s: float
    queue_depth: float
    methods: tuple[Method, ...]
    read_batch: float | None
    write_batch: float | None
    commits_per_s: float
    commit_writes: float | None
    commit_p50_ms: float | None
    commit_p99_ms: float | None
    outbox_records: float | None
    groups: tuple[Group, ...]
    flush_failures: float
    swept_per_s: float
    online: Mapping[str, float]
    workers: tuple[Worker, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return asdict(self)


def figures(before: Page, now: Page) -> Figures:
    """Compute a frame from two looks at one server.

    What was counted before a restart between the two looks is not subtracted from what was
    counted after it: such a frame has no rates.
    """
    change = _Change(before, now)
    calls = change.by("featureline_calls_total", "method")
    errors = change.errors_by("status")
    failed = change.errors_by("method")
    methods = tuple(
        Method(
            method,
            calls[method],
            failed.get(method, 0.0),
            _ms(change.quantile(0.5, "featureline_call_seconds", method=method)),
            _ms(change.quantile(0.99, "featureline_call_seconds", method=method)),
        )
        for method in sorted(calls, key=lambda name: (-calls[name], name))
    )
    started = now.one("featureline_start_time_seconds")
    checks: Mapping[str, Mapping[str, Any]] = now.readiness.get("checks", {})
    return Figures(
        interval_s=change.seconds,
        ready=bool(now.readiness.get("ready")),
        problems={name: found["detail"] for name, found in checks.items() if not found["ok"]},
        version=next(iter(now.by("featureline_info", "version")), ""),
        fronts={front: int(n) for front, n in now.by("featureline_info", "front").items()},
        uptime_s=None if started is None else max(0.0, time.time() - started),
        calls_per_s=sum(calls.values()),
        errors_per_s=sum(errors.values()),
        errors=errors,
        shed=change.by("featureline_shed_total", "reason"),
        throttled=change.by("featureline_throttled_total", "group"),
        slow_per_s=sum(change.by("featureline_slow_calls_total", "method").values()),
        queue_depth=now.one("featureline_queue_depth") or 0.0,
        methods=methods,
        read_batch=change.mean("featureline_batch_calls", kind="read"),
        write_batch=change.mean("featureline_batch_calls", kind="write"),
        commits_per_s=change.rate("featureline_commit_seconds_count"),
        commit_writes=change.mean("featureline_commit_writes"),
        commit_p50_ms=_ms(change.quantile(0.5, "featureline_commit_seconds")),
        commit_p99_ms=_ms(change.quantile(0.99, "featureline_commit_seconds")),
        outbox_records=now.one("featureline_outbox_records"),
        groups=_groups(now, change),
        flush_failures=sum(now.by("featureline_flush_failures_total", "group").values()),
        swept_per_s=change.rate("featureline_expired_swept_total"),
        online=_online(now),
        workers=_workers(now, change),
    )


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """Estimate a quantile from the buckets of a histogram, as Prometheus does.

    Within a bucket values are taken as evenly spread; of what is above the last bound that
    bound is returned.

    Args:
        share: from 0 to 1.
        buckets: upper bound and how many lie at or below it; the last bound is infinite.

    Returns:
        None when the histogram is empty.

    >>> quantile(0.5, [(1.0, 0), (2.0, 10), (float("inf"), 10)])
    1.5
    """
    ordered = sorted(buckets)
    count = ordered[-1][1] if ordered else 0
    if count <= 0:
        return None
    wanted = share * count
    lower, below = 0.0, 0.0
    for bound, so_far in ordered:
        if so_far >= wanted and so_far > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / (so_far - below)
        lower, below = bound, so_far
    return lower


@final
class _Change:
    """What happened between two looks, per second."""

    def __init__(self, before: Page, now: Page) -> None:
        same = before.one("featureline_start_time_seconds") == now.one(
            "featureline_start_time_seconds"
        )
        self.seconds = max(1e-9, now.at - before.at)
        # After a restart nothing can be said of the time between: it is compared with itself.
        self._before = before if same else now
        self._now = now

    def _samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        before = self._before.samples.get(name, {})
        return {
            labels: max(0.0, value - before.get(labels, 0.0))
            for labels, value in self._now.samples.get(name, {}).items()
        }

    def rate(self, name: str) -> float:
        return sum(self._samples(name).values()) / self.seconds

    def by(self, name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for labels, value in self._samples(name).items():
            key = dict(labels)[label]
            found[key] = found.get(key, 0.0) + value / self.seconds
        return found

    def errors_by(self, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for labels, value in self._samples("featureline_calls_total").items():
            named = dict(labels)
            if named["status"] != _OK and value:
                found[named[label]] = found.get(named[label], 0.0) + value / self.seconds
        return found

    def mean(self, name: str, **wanted: str) -> float | None:
        labels = tuple(sorted(wanted.items()))
        count = self._samples(f"{name}_count").get(labels, 0.0)
        return self._samples(f"{name}_sum").get(labels, 0.0) / count if count else None

    def quantile(self, share: float, name: str, **wanted: str) -> float | None:
        buckets: list[tuple[float, float]] = []
        for labels, value in self._samples(f"{name}_bucket").items():
            named = dict(labels)
            bound = float(named.pop("le"))
            if named == wanted:
                buckets.append((bound, value))
        return quantile(share, buckets)


def _groups(now: Page, change: _Change) -> tuple[Group, ...]:
    records = now.by("featureline_outbox_group_records", "group")
    lags = now.by("featureline_outbox_lag_seconds", "group")
    flushed = change.by("featureline_flushed_records_total", "group")
    names = sorted(records, key=lambda name: (-lags.get(name, 0.0), -records[name], name))
    return tuple(
        Group(name, records[name], lags.get(name, 0.0), flushed.get(name, 0.0)) for name in names
    )


def _online(now: Page) -> dict[str, float]:
    names = {
        "records": "featureline_online_records",
        "used_bytes": "featureline_online_used_bytes",
        "file_bytes": "featureline_online_file_bytes",
        "limit_bytes": "featureline_online_limit_bytes",
        "readers": "featureline_online_readers",
        "disk_free_bytes": "featureline_disk_free_bytes",
    }
    values = {name: now.one(metric) for name, metric in names.items()}
    return {name: value for name, value in values.items() if value is not None}


def _workers(now: Page, change: _Change) -> tuple[Worker, ...]:
    cpu = change.by("featureline_worker_cpu_seconds_total", "worker")
    resident = now.by("featureline_worker_resident_bytes", "worker")
    # Only the living have a size; where the system tells none, all of the run are shown.
    return tuple(
        Worker(int(pid), cpu.get(pid), resident.get(pid))
        for pid in sorted(resident or cpu, key=int)
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _get(host: str, port: int, path: str) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
