"""How far the pipelines of a fleet are: figures, rates and lag, for people and for metrics."""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple, final

from ingest.fleet.worker import Progress

__all__ = ["Meter", "PartitionStatus", "PipelineStatus", "State", "metrics_page"]

_SHORT_S: Final = 60.0
_LONG_S: Final = 600.0
_COUNTS: Final = ("read", "written", "refused", "skipped", "bytes", "conflicts")
_PREFIX: Final = "featureline_ingest"


class State(enum.StrEnum):
    """The states of a pipeline."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    WAITING = "waiting"
    FAILED = "failed"
    FINISHED = "finished"


@final
@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """Where one partition stands.

    Args:
        partition: which.
        position: the next offset to be stored; None: nothing is stored yet.
        end: of the partition; None where it is not known.
        lag: messages that are not stored yet; None where the end is not known.
        lag_s: at most so long ago the oldest message came that is not stored yet; 0 without lag;
            None where it is not known.
        stored: when the source got the last stored message, µs UTC; None where it is not known.
    """

    partition: str
    position: int | None = None
    end: int | None = None
    lag: int | None = None
    lag_s: float | None = None
    stored: int | None = None


@final
@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Where one pipeline stands.

    Args:
        name: of the pipeline.
        group: the feature group.
        state: one of `State`.
        reason: of the state, where it needs one.
        since: when the state began, µs UTC; None where nobody has noted it.
        workers: how many work now.
        wanted: how many should.
        pids: the processes that they run in.
        restarts: workers that were started again after they failed.
        read, written, refused, skipped, bytes, conflicts: since the fleet began; `refused` are the
            messages in the dead letters, `conflicts` batches that somebody else had stored.
        messages_per_s, bytes_per_s: over 1 and 10 minutes; None before the fleet is so old.
        position_name: under which the store keeps the positions.
        partitions: in order.
    """

    name: str
    group: str
    state: str = State.STOPPED
    reason: str = ""
    since: int | None = None
    workers: int = 0
    wanted: int = 1
    pids: Sequence[int] = ()
    restarts: int = 0
    read: int = 0
    written: int = 0
    refused: int = 0
    skipped: int = 0
    bytes: int = 0
    conflicts: int = 0
    messages_per_s: Sequence[float | None] = (None, None)
    bytes_per_s: Sequence[float | None] = (None, None)
    position_name: str = ""
    partitions: Sequence[PartitionStatus] = field(default_factory=tuple)

    @property
    def lag(self) -> int | None:
        """Messages that are not stored yet, of all partitions whose ends are known."""
        known = [part.lag for part in self.partitions if part.lag is not None]
        return sum(known) if known else None

    @property
    def lag_s(self) -> float | None:
        """The greatest lag of a partition."""
        known = [part.lag_s for part in self.partitions if part.lag_s is not None]
        return max(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, with the lag of all partitions."""
        body = asdict(self)
        return {**body, "lag": self.lag, "lag_s": self.lag_s}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> PipelineStatus:
        """Read what `to_json` wrote."""
        known = {name: value for name, value in body.items() if name not in ("lag", "lag_s")}
        return cls(**{**known, "partitions": [PartitionStatus(**p) for p in body["partitions"]]})


class _Sample(NamedTuple):
    at: float
    read: int
    bytes: int


@final
class Meter:
    """Adds up what the workers of one pipeline tell, over all their lives.

    Args:
        clock: seconds that only go forward.
        now: seconds since the epoch.
    """

    def __init__(self, *, clock: Any = time.monotonic, now: Any = time.time) -> None:
        self._clock = clock
        self._now = now
        self._ended = dict.fromkeys(_COUNTS, 0)
        self._samples: deque[_Sample] = deque([_Sample(clock(), 0, 0)])
        self._positions: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._times: dict[str, int] = {}
        # When each partition was last seen without lag: what is not stored yet came later.
        self._even_s: dict[str, float] = {}
        self.position_name = ""

    def end(self, progress: Progress) -> None:
        """Keep what a worker has told that has ended."""
        for name in _COUNTS:
            self._ended[name] += getattr(progress, name)
        self._take(progress)

    def look(self, workers: Sequence[Progress]) -> dict[str, int]:
        """Take in what the living workers tell, and return all counts."""
        counts = dict(self._ended)
        for progress in workers:
            for name in _COUNTS:
                counts[name] += getattr(progress, name)
            self._take(progress)
            self._ends.update((p, end) for p, end in progress.ends.items() if end is not None)
        for progress in workers:
            # Who reads a partition now knows better than who read it before.
            stands, ends = progress.positions, progress.ends
            self._positions.update((p, stands[p]) for p in stands if p in ends)
        if not workers:
            self._ends.clear()  # nobody looks at them now, and an old lag would look like one
        now_s = self._now()
        for partition, end in self._ends.items():
            if self._positions.get(partition, 0) >= end:
                self._even_s[partition] = now_s
        at = self._clock()
        if at - self._samples[-1].at >= 1.0:
            self._samples.append(_Sample(at, counts["read"], counts["bytes"]))
            while self._samples[1].at < at - _LONG_S:
                self._samples.popleft()
        return counts

    def _take(self, progress: Progress) -> None:
        self.position_name = progress.position_name or self.position_name
        self._times.update(progress.times)
        self._positions.update(progress.positions)

    def rates(self) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
        """Return messages and bytes per second, each over 1 and 10 minutes."""
        last = self._samples[-1]
        messages: list[float | None] = []
        sizes: list[float | None] = []
        for span_s in (_SHORT_S, _LONG_S):
            first = next(one for one in self._samples if one.at >= last.at - span_s)
            seconds = last.at - first.at
            messages.append((last.read - first.read) / seconds if seconds else None)
            sizes.append((last.bytes - first.bytes) / seconds if seconds else None)
        return tuple(messages), tuple(sizes)

    def partitions(self) -> tuple[PartitionStatus, ...]:
        """Return where the partitions stand that the workers read."""
        return tuple(
            self._status(partition)
            for partition in sorted(self._ends.keys() | self._positions.keys(), key=_natural)
        )

    def _status(self, partition: str) -> PartitionStatus:
        position, end = self._positions.get(partition), self._ends.get(partition)
        stored = self._times.get(partition)
        lag = None if end is None else max(0, end - (position or 0))
        lag_s: float | None = 0.0
        if lag is None:
            lag_s = None
        elif lag:
            known = [self._even_s[partition]] if partition in self._even_s else []
            if stored is not None:
                known.append(stored / 1e6)
            lag_s = max(0.0, self._now() - max(known)) if known else None
        return PartitionStatus(partition, position, end, lag, lag_s, stored)


def metrics_page(fleet: Sequence[PipelineStatus]) -> str:
    """Write the figures as Prometheus reads them.

    >>> page = metrics_page([PipelineStatus("weather", "weather", read=7)])
    >>> [line for line in page.splitlines() if line.startswith("featureline_ingest_messages")]
    ['featureline_ingest_messages_total{pipeline="weather"} 7']
    """
    lines: list[str] = []
    for name, kind, text, values in (
        ("messages_total", "counter", "Messages whose fate is stored.", _of(fleet, "read")),
        ("records_total", "counter", "Records put or deleted.", _of(fleet, "written")),
        ("refused_total", "counter", "Messages in the dead letters.", _of(fleet, "refused")),
        ("skipped_total", "counter", "Messages that concern no record.", _of(fleet, "skipped")),
        ("bytes_total", "counter", "Bytes of the messages.", _of(fleet, "bytes")),
        ("conflicts_total", "counter", "Batches others had stored.", _of(fleet, "conflicts")),
        ("restarts_total", "counter", "Workers started again.", _of(fleet, "restarts")),
        ("workers", "gauge", "Workers at work.", _of(fleet, "workers")),
        ("workers_wanted", "gauge", "Workers that should be.", _of(fleet, "wanted")),
        (
            "state",
            "gauge",
            "1 for the state that a pipeline is in.",
            [({"pipeline": one.name, "state": one.state}, 1) for one in fleet],
        ),
        ("lag_records", "gauge", "Messages not stored yet.", _by_partition(fleet, "lag")),
        ("lag_seconds", "gauge", "Age of the oldest of them.", _by_partition(fleet, "lag_s")),
        ("position", "gauge", "Next offset to be stored.", _by_partition(fleet, "position")),
    ):
        lines.append(f"# HELP {_PREFIX}_{name} {text}")
        lines.append(f"# TYPE {_PREFIX}_{name} {kind}")
        for labels, value in values:
            shown = ",".join(f'{label}="{_escaped(of)}"' for label, of in labels.items())
            lines.append(f"{_PREFIX}_{name}{{{shown}}} {value}")
    return "\n".join(lines) + "\n"


_Values = list[tuple[dict[str, str], Any]]


def _of(fleet: Sequence[PipelineStatus], name: str) -> _Values:
    return [({"pipeline": one.name}, getattr(one, name)) for one in fleet]


def _by_partition(fleet: Sequence[PipelineStatus], name: str) -> _Values:
    return [
        ({"pipeline": one.name, "partition": part.partition}, getattr(part, name))
        for one in fleet
        for part in one.partitions
        if getattr(part, name) is not None
    ]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _natural(partition: str) -> tuple[int, str]:
    return (len(partition), partition) if partition.isdecimal() else (1 << 30, partition)
