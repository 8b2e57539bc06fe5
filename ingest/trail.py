"""What a running pipeline tells the lineage graph: one action, and at intervals how far it is.

    topic (Artifact) ─► ingest (Action) ─► feature group (Context)
    earlier ingest (Action) ─DerivedFrom─► ingest (Action)

The action's property `offsets` is the range of each partition; `stretches` says which part of it
was stored between which times, finely for what was last and coarsely for what is long ago, so that
a run of months stays small. Who last stored a partition is kept in a context of the position's
name; that is how a run finds those that it continues.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import lineage
from featurestore import PartitionPosition, group_entity
from ingest.columns import feature_edges
from ingest.source import Source
from ingest.transform import FieldOrigin

__all__ = ["Stretch", "Trail", "stretches_of", "thinned"]

_log = logging.getLogger(__name__)

_CONTEXT: Final = "IngestPosition"
_SLOTS: Final = 64
_SHARE: Final = 8
# A run over a folder of very many files names only so many; the store's positions have them all.
_MOST_PARTITIONS: Final = 1000
# Of very many files the last ones stand for the others: the fields are the same.
_MOST_SOURCES: Final = 16


class Stretch(NamedTuple):
    """What was stored in one stretch of time.

    Args:
        from_us: its beginning, µs UTC by the clock of the pipeline's machine.
        until_us: its end.
        offsets: partition → first offset, and the one after the last.
    """

    from_us: int
    until_us: int
    offsets: Mapping[str, tuple[int, int]]

    def to_json(self) -> list[Any]:
        """Write it as JSON values."""
        return [self.from_us, self.until_us, {p: list(o) for p, o in self.offsets.items()}]


def stretches_of(action: lineage.Entity) -> list[Stretch]:
    """Return the stretches of an ingest action, oldest first."""
    found: Any = action.properties.get("stretches") or ()
    return [
        Stretch(start, until, {p: (first, after) for p, (first, after) in offsets.items()})
        for start, until, offsets in found
    ]


def thinned(stretches: Sequence[Stretch], *, now_us: int, least_us: int) -> list[Stretch]:
    """Join neighbours, so that a stretch is at most an eighth as long as it is ago.

    Args:
        stretches: oldest first.
        now_us: what ago is measured from.
        least_us: stretches shorter than this may be joined however fresh they are.

    >>> every = [Stretch(n * 60, n * 60 + 60, {"0": (n, n + 1)}) for n in range(1440)]
    >>> len(thinned(every, now_us=1440 * 60, least_us=60))
    56
    """
    kept: list[Stretch] = []
    for one in stretches:
        room = max(least_us, (now_us - one.until_us) // _SHARE)
        if kept and one.until_us - kept[-1].from_us <= room:
            kept[-1] = Stretch(
                kept[-1].from_us, one.until_us, _joined(kept[-1].offsets, one.offsets)
            )
        else:
            kept.append(one)
    return kept


@final
class Trail:
    """Keeps the lineage action of one run up to date.

    Args:
        job: records the action; the run is inside of it.
        source: what is read.
        graph: where the recorder records.
        group: the feature group.
        position_name: under which the store keeps the source's positions.
        every_s: how often the action is updated.
        origins: what each feature of the group is made of.
    """

    def __init__(
        self,
        job: lineage.Recorder,
        source: Source,
        graph: Any,
        *,
        group: str,
        position_name: str,
        every_s: float,
        origins: Mapping[str, Sequence[FieldOrigin]] = MappingProxyType({}),
    ) -> None:
        self._job = job
        self._origins = origins
        self._source = source
        self._graph = graph
        self._group = group
        self._name = position_name
        self._every_s = every_s
        self._offsets: dict[str, tuple[int, int]] = {}
        self._recent: dict[str, tuple[int, int]] = {}
        self._stretches: list[Stretch] = []
        self._since_us = _now_us()
        self._due = 0.0  # the first batch is recorded at once
        self._inputs: set[tuple[str, str]] = set()
        self._linked: set[str] = set()

    def add(self, position: Iterable[PartitionPosition]) -> None:
        """Note what was stored."""
        for part in position:
            _join(self._recent, part.partition, (part.start, part.next))

    def tell(self, figures: Callable[[], Mapping[str, object]]) -> None:
        """Update the action when it is time to, and something was stored since.

        A graph that is away for now is told at the next interval.

        Args:
            figures: gives properties of the action.
        """
        if not self._recent or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._every_s
        try:
            self.describe(figures())
            self._job.update()
        except lineage.RecordingFailed as error:
            if not isinstance(error.__cause__, lineage.StoreUnavailable):
                raise
            _log.warning("lineage is told later how far the pipeline is: %s", error)

    def describe(self, figures: Mapping[str, object]) -> None:
        """Set all that the action has to say by now; the recorder writes it."""
        try:
            self._link()
        except lineage.StoreUnavailable as error:
            _log.warning("the run is not linked to the one it continues: %s", error)
        inputs = self._source.inputs()
        known = len(self._inputs)
        for entity in inputs:
            key = (entity.source_uri, entity.content_hash)
            if key not in self._inputs:
                self._inputs.add(key)
                self._job.input(entity)
        group = self._job.output(group_entity(self._group))
        if len(self._inputs) > known and self._origins:
            self._tell_columns(group, inputs)
        now_us = _now_us()
        if self._recent:
            for partition, stored in self._recent.items():
                _join(self._offsets, partition, stored)
            self._stretches.append(Stretch(self._since_us, now_us, self._recent))
            self._stretches = thinned(
                self._stretches, now_us=now_us, least_us=int(self._every_s * 1e6)
            )
            self._recent = {}
        self._since_us = now_us
        self._job.property("source", self._name)
        for name, value in figures.items():
            self._job.property(name, value)
        named = list(self._offsets)[-_MOST_PARTITIONS:]
        self._job.property("partitions", len(self._offsets))
        self._job.property(
            "offsets",
            {p: {"start": self._offsets[p][0], "next": self._offsets[p][1]} for p in named},
        )
        if len(self._offsets) > _MOST_PARTITIONS:
            self._stretches.clear()
        self._job.property("stretches", [one.to_json() for one in self._stretches])

    def _tell_columns(self, group: lineage.Entity, inputs: Sequence[lineage.Entity]) -> None:
        """Say which field, or feature of another group, each feature is made of.

        Under the position's name: a later run over the same source says it anew, and columns of
        a group do not become more with each run.
        """
        edges = list(feature_edges(self._origins, inputs[-_MOST_SOURCES:]))
        for name in sorted({o.group for several in self._origins.values() for o in several} - {""}):
            self._job.input(group_entity(name))
        self._job.columns(group, edges, by=self._name)

    def _link(self) -> None:
        """Link the action to those that stored the new partitions before, and take their place."""
        fresh = self._recent.keys() - self._linked
        if not fresh:
            return
        slots = {_slot(partition) for partition in fresh}
        here = lineage.context(_CONTEXT, self._name)
        try:
            before = self._graph.entity(lineage.derived_uid(here)).properties
        except lineage.EntityNotFound:
            before = {}
        own = self._job.entity.uid
        for uid in sorted({str(before[slot]) for slot in slots if slot in before} - {own}):
            earlier = self._graph.entity(uid)
            offsets: Any = earlier.properties.get("offsets") or {}
            if fresh & offsets.keys():
                self._job.input(earlier, lineage.AssociationType.DERIVED_FROM)
        self._job.input(
            lineage.context(_CONTEXT, self._name, properties=dict.fromkeys(sorted(slots), own)),
            lineage.AssociationType.ASSOCIATED_WITH,
        )
        self._linked |= fresh


def _join(known: dict[str, tuple[int, int]], partition: str, stored: tuple[int, int]) -> None:
    """Widen the range of a partition so that it has another one as well."""
    before = known.get(partition, stored)
    known[partition] = min(before[0], stored[0]), max(before[1], stored[1])


def _joined(
    one: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Return for each partition the least range that has both."""
    joined = dict(one)
    for partition, stored in other.items():
        _join(joined, partition, stored)
    return joined


def _slot(partition: str) -> str:
    """Return one of a bounded number of names for a partition."""
    if partition.isascii() and partition.isdecimal():
        number = int(partition)
    else:
        number = int.from_bytes(hashlib.sha256(partition.encode()).digest()[:4])
    return f"slot {number % _SLOTS}"


def _now_us() -> int:
    return time.time_ns() // 1000
