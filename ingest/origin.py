"""Where a dataset's rows came from: the offsets of topics and files, as lineage recorded them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import lineage
from featurestore import DatasetNotFound, FeatureStore, group_entity
from ingest.trail import Stretch, stretches_of

__all__ = ["Origin", "dataset_origins", "group_origins"]

_RUNNING: Final = "InProgress"
_OPEN_US: Final = 2**62


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """A range of one partition that rows of a feature group came from.

    Args:
        group: the feature group.
        inputs: uris of the topic or the files, as lineage names them.
        source: the name under which the store keeps the source's positions.
        partition: of the source.
        start: the first offset.
        next: the one after the last.
        is_recorded: whether a run recorded that it stored the range; what is not recorded was
            stored by a run that was killed, or still runs, and may be of a later time.
    """

    group: str
    inputs: tuple[str, ...]
    source: str
    partition: str
    start: int
    next: int
    is_recorded: bool = True


def dataset_origins(store: FeatureStore, fingerprint: str) -> list[Origin]:
    """Name the ranges of offsets that the rows of a dataset came from.

    For each table version that the dataset read, these are all ranges that were stored before the
    version was committed: a superset, since a dataset uses only some of a version's rows, and since
    runs say at intervals how far they are. A range is too long by at most what was stored in the
    interval of the commit, which is the pipeline's `lineage_s`, or an eighth of how long ago the
    commit was when the run ended, whichever is more. Clocks of a pipeline and of its store that
    differ shift it by as much. Rows that clients put themselves have no offsets.

    Args:
        store: where the dataset was built.
        fingerprint: of the dataset.

    Returns:
        By group, source and partition, ranges in order; ranges of one partition do not overlap.

    Raises:
        DatasetNotFound: lineage knows no such dataset.
    """
    found = store.graph.find(type="DataSet", source_uri=f"dataset:{fingerprint}")
    if not found:
        raise DatasetNotFound(
            f"lineage knows no dataset {fingerprint!r}; expected the fingerprint of one that was "
            f"built on this store",
            fingerprint=fingerprint,
        )
    versions: Any = found[-1].properties.get("versions") or {}
    origins: list[Origin] = []
    for group, version in sorted(versions.items()):
        times = {one.version: one.time for one in store.versions(group)}
        origins += group_origins(store, group, until=times.get(version))
    return origins


def group_origins(
    store: FeatureStore, group: str, *, until: dt.datetime | None = None
) -> list[Origin]:
    """Name the ranges of offsets that a feature group's records came from.

    Args:
        store: where the group is.
        group: the feature group.
        until: only what may have been stored by then; None: everything.
    """
    until_us = _OPEN_US if until is None else int(until.timestamp() * 1e6)
    graph = store.graph
    found = graph.query(
        lineage.derived_uid(group_entity(group)), "ascendants", depth=1, types=["Ingest"]
    )
    runs: dict[str, list[lineage.Entity]] = defaultdict(list)
    for action in found.entities:
        source = action.properties.get("source")
        if isinstance(source, str):
            runs[source].append(action)
    origins: list[Origin] = []
    for source in sorted(runs):
        inputs = _inputs(graph, runs[source])
        for partition, ranges in _ranges(store, source, runs[source], until_us):
            origins += [
                Origin(group, inputs, source, partition, one.start, one.next, one.is_recorded)
                for one in ranges
            ]
    return origins


class _Range(NamedTuple):
    start: int
    next: int
    is_recorded: bool = True


def _ranges(
    store: FeatureStore, source: str, runs: Sequence[lineage.Entity], until_us: int
) -> Iterator[tuple[str, list[_Range]]]:
    """Give the ranges of each partition of one source."""
    told: dict[str, list[_Range]] = defaultdict(list)
    all_told: dict[str, list[_Range]] = defaultdict(list)
    for run in runs:
        for stretch in _stretches(run):
            for partition, (start, after) in stretch.offsets.items():
                all_told[partition].append(_Range(start, after))
                if stretch.from_us <= until_us:
                    told[partition].append(_Range(start, after))
    # What a killed run stored after it last recorded, and what one of very many partitions did not
    # name, lies between the ranges that are known, and the position where the store stands now.
    is_cut_short = any(
        (run.state == _RUNNING or not _names_all(run)) and _started_us(run) <= until_us
        for run in runs
    )
    stands = store.source_position(source) if is_cut_short else {}
    for partition in sorted(told.keys() | stands.keys(), key=lambda name: (len(name), name)):
        ranges = _union(told[partition])
        if is_cut_short:
            gaps = _gaps(_union(all_told[partition]), stands.get(partition, 0))
            ranges = sorted([*ranges, *gaps])
        if ranges:
            yield partition, ranges


def _stretches(run: lineage.Entity) -> Sequence[Stretch]:
    """Return a run's stretches; one of before there were any is one stretch."""
    found = stretches_of(run)
    if found:
        return found
    offsets: Any = run.properties.get("offsets") or {}
    whole = {p: (int(of["start"]), int(of["next"])) for p, of in offsets.items()}
    return [Stretch(_started_us(run), _OPEN_US, whole)]


def _names_all(run: lineage.Entity) -> bool:
    offsets: Any = run.properties.get("offsets") or {}
    return run.properties.get("partitions", len(offsets)) == len(offsets)


def _started_us(run: lineage.Entity) -> int:
    started = run.properties.get("started_us")
    return started if isinstance(started, int) else 0


def _inputs(graph: Any, runs: Iterable[lineage.Entity]) -> tuple[str, ...]:
    uris: dict[str, None] = {}
    for run in runs:
        above = graph.query(run, "ascendants", depth=1, kinds=[lineage.Kind.ARTIFACT])
        uris.update((entity.source_uri, None) for entity in above.entities)
    return tuple(uris)


def _union(ranges: Iterable[_Range]) -> list[_Range]:
    joined: list[_Range] = []
    for one in sorted(ranges):
        if joined and one.start <= joined[-1].next:
            joined[-1] = _Range(joined[-1].start, max(joined[-1].next, one.next))
        else:
            joined.append(one)
    return joined


def _gaps(ranges: Sequence[_Range], until: int) -> Iterator[_Range]:
    """Give what lies between ranges, and between the last one and an offset."""
    at = 0
    for one in ranges:
        if at < one.start:
            yield _Range(at, one.start, is_recorded=False)
        at = max(at, one.next)
    if at < until:
        yield _Range(at, until, is_recorded=False)
