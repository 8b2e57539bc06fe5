"""Every metric of a server: name, type, labels, meaning, and what to alert on."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

__all__ = ["CALL_SECONDS", "FAMILIES", "Family", "Kind", "Scope", "table"]

# A subset of the bounds of the native front, so that its counts fold into these exactly.
CALL_SECONDS: Final = (
    0.00005,
    0.0001,
    0.0003,
    0.0006,
    0.001,
    0.002,
    0.003,
    0.005,
    0.008,
    0.013,
    0.02,
    0.03,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
)
_FLUSH_SECONDS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_SIZES: Final = tuple(float(1 << power) for power in range(13))


class Kind(enum.StrEnum):
    """What Prometheus calls a metric's type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Scope(enum.Enum):
    """What a value of one worker says, and so how the page puts several workers' together."""

    WORKER = enum.auto()  # of this worker: the page has the sum
    STORE = enum.auto()  # of the store all workers share: the page has the newest
    RUN = enum.auto()  # of the run: the page has the lowest, also of workers that are gone


@final
@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Args:
        name: as on the page.
        kind: its type.
        labels: in the order of its values.
        meaning: one sentence; also the page's HELP.
        alert: when a person should look, or empty.
        buckets: a histogram's upper bounds.
        scope: whose value it is.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    alert: str = ""
    buckets: tuple[float, ...] = ()
    scope: Scope = Scope.WORKER


def _counter(name: str, labels: tuple[str, ...], meaning: str, alert: str = "") -> Family:
    return Family(f"featureline_{name}_total", Kind.COUNTER, labels, meaning, alert)


def _gauge(
    name: str,
    labels: tuple[str, ...],
    meaning: str,
    alert: str = "",
    scope: Scope = Scope.WORKER,
) -> Family:
    return Family(f"featureline_{name}", Kind.GAUGE, labels, meaning, alert, (), scope)


def _of_store(name: str, labels: tuple[str, ...], meaning: str, alert: str = "") -> Family:
    return _gauge(name, labels, meaning, alert, Scope.STORE)


def _histogram(
    name: str,
    labels: tuple[str, ...],
    meaning: str,
    buckets: tuple[float, ...],
    alert: str = "",
) -> Family:
    return Family(f"featureline_{name}", Kind.HISTOGRAM, labels, meaning, alert, buckets)


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        _counter(
            "calls",
            ("method", "status"),
            "Calls that were answered, by method and gRPC status.",
            "the share of `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS` is above 0.1 % for 5 minutes",
        ),
        _histogram(
            "call_seconds",
            ("method",),
            "Time from a call's arrival to its answer.",
            CALL_SECONDS,
            "p99 of `GetRecord` or `PutRecord` is above what you promise for 5 minutes",
        ),
        _counter(
            "slow_calls",
            ("method",),
            "Calls that took longer than `--slow-ms`; the log shows a sample of them.",
        ),
        _histogram(
            "batch_calls",
            ("kind",),
            "Calls that were taken together, by kind: read or write.",
            _SIZES,
        ),
        _histogram(
            "commit_seconds",
            (),
            "Time of one durable transaction of writes.",
            CALL_SECONDS,
            "p99 is above 100 ms for 5 minutes: the disk is slow at fsync, or another process "
            "holds the store",
        ),
        _histogram("commit_writes", (), "Writes in one durable transaction.", _SIZES),
        _gauge(
            "queue_depth",
            (),
            "Writes that wait for a transaction.",
            "above 10,000 for 1 minute: writes come faster than the disk takes them",
        ),
        _counter(
            "shed",
            ("reason",),
            "Calls that were refused or dropped unanswered to keep up with the others, by reason: "
            "full, deadline, gone.",
            "`full` or `deadline` rises for 5 minutes",
        ),
        _counter(
            "throttled",
            ("group",),
            "Calls over a feature group's provisioned throughput.",
            "it rises, and the group's owner does not expect it",
        ),
        _of_store(
            "outbox_records",
            (),
            "Records that wait for the offline store, of all groups.",
            "it grows for 3 flush intervals",
        ),
        _of_store(
            "outbox_group_records",
            ("group",),
            "The same by feature group; of several groups above 20,000 each says 20,000.",
        ),
        _of_store(
            "outbox_lag_seconds",
            ("group",),
            "Age of the oldest record that waits for the offline store; 0 when none does.",
            "above 3 flush intervals: the flush fails or cannot keep up; the log says why",
        ),
        _counter("flushed_records", ("group",), "Records that flushes moved to the offline store."),
        _histogram(
            "flush_seconds", ("group",), "Time of a flush that moved records.", _FLUSH_SECONDS
        ),
        _counter(
            "flush_failures",
            ("group",),
            "Flushes that failed; their records wait on.",
            "it rises in 2 intervals running",
        ),
        _counter(
            "expired_swept", (), "Expired records whose space the sweep gave back to the store."
        ),
        _of_store("online_records", (), "Versions in the online store, tombstones too."),
        _of_store(
            "online_used_bytes",
            (),
            "Bytes of the online store in use.",
            "above 80 % of `featureline_online_limit_bytes`",
        ),
        _of_store(
            "online_file_bytes", (), "Bytes of the online store's file; space in it is used again."
        ),
        _of_store("online_limit_bytes", (), "Size the online store cannot grow beyond."),
        _of_store(
            "online_readers",
            (),
            "Places for readers taken in the online store, by all processes.",
            "above 900 of the 1,022 there are",
        ),
        _of_store(
            "disk_free_bytes",
            (),
            "Free bytes of the home's disk.",
            "below 10 % of the disk, or below twice `featureline_online_file_bytes`",
        ),
        _gauge("info", ("front", "version"), "Workers, by what speaks gRPC in them and version."),
        _gauge(
            "workers",
            (),
            "Workers that are alive and report.",
            "below what `--workers` asks for, for 1 minute",
        ),
        _gauge(
            "start_time_seconds",
            (),
            "When the server started, in seconds since the epoch.",
            scope=Scope.RUN,
        ),
        _counter(
            "worker_cpu_seconds",
            ("worker",),
            "Processor time by worker, named by its process id.",
            "its rate is above 0.9 for 10 minutes: add a worker",
        ),
        _gauge("worker_resident_bytes", ("worker",), "Memory of a living worker."),
        _gauge(
            "ready",
            ("check",),
            "What `/readyz` says of each check: 1 when it holds, 0 when it does not.",
            "0 for 1 minute",
        ),
    )
}


def table() -> Iterator[str]:
    """Write all metrics as the lines of a Markdown table, for the documentation."""
    yield "| metric | type | labels | meaning | alert when |"
    yield "| --- | --- | --- | --- | --- |"
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        yield (
            f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} | "
            f"{family.alert or '–'} |"
        )
