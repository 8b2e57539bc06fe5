"""Control of a fleet from other processes: what it is asked to do, and moves of positions.

A fleet's folder of state holds what outlives the fleet and its machine's next start:

    fleet.lock          held by the fleet that runs
    control.json        which pipelines are paused, since when, by whom
    status.json         what the fleet told last

To pause and to resume, that record is changed, and the fleet looks at it twice a second. A position
is moved in the store itself, whether a fleet runs or not, here or elsewhere.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import getpass
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from featurestore import FeatureStore, InvalidRequest, PositionConflict
from featurestore.journal import Journal
from ingest.errors import IngestError
from ingest.fleet.probe import Probe
from ingest.fleet.progress import PartitionStatus, PipelineStatus, State
from ingest.fleet.settings import FleetSettings, PipelineSettings
from ingest.pipeline import group_id, position_name

__all__ = ["Control", "FleetRuns", "Order", "replay", "seek", "status"]

_TRIES: Final = 200
_MOVE_PAUSE_S: Final = 0.01
_LOCK_TRIES: Final = 5
_LOCK_PAUSE_S: Final = 0.1


class FleetRuns(IngestError):
    """Another fleet has this folder of state; two would start every pipeline twice."""


@final
@dataclass(frozen=True, slots=True)
class Order:
    """What a pipeline was told to do.

    Args:
        paused: it stays paused until it is resumed.
        number: counts the orders: a resume also starts a pipeline that has failed.
        since: when, µs UTC.
        by: who.
    """

    paused: bool = False
    number: int = 0
    since: int = 0
    by: str = ""


@final
class Control:
    """The folder of a fleet's state.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = Journal(folder / "control.json")

    def orders(self) -> dict[str, Order]:
        """Return what was ordered last, by pipeline."""
        return {name: Order(**order) for name, order in self._journal.read().items()}

    def pause(self, name: str) -> Order:
        """Let a pipeline stop after its batch, and stay stopped over all restarts."""
        return self._order(name, paused=True)

    def resume(self, name: str) -> Order:
        """Let a pipeline go on that was paused, or has failed for good."""
        return self._order(name, paused=False)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one fleet of the folder.

        Raises:
            FleetRuns: there is one already.
        """
        for _ in range(_LOCK_TRIES):
            with _locked(self._folder / "fleet.lock", wait=False) as taken:
                if taken:
                    yield
                    return
            time.sleep(_LOCK_PAUSE_S)  # who asks `is_held` has it for a moment
        pid = self.told().get("pid", "unknown")
        raise FleetRuns(
            f"a fleet with the state in {self._folder} runs already (process {pid}); stop it, or "
            f"give this one another [fleet] state"
        )

    def is_held(self) -> bool:
        """Whether a fleet runs."""
        if not self._folder.is_dir():
            return False
        with _locked(self._folder / "fleet.lock", wait=False) as taken:
            return not taken

    def tell(self, body: Mapping[str, Any]) -> None:
        """Write what the fleet tells; nothing depends on it after a crash."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / "status.json.part"
        part.write_text(json.dumps(body), encoding="utf-8")
        part.replace(self._folder / "status.json")

    def told(self) -> dict[str, Any]:
        """Return what the fleet told last; empty when none ever did."""
        return Journal(self._folder / "status.json").read()

    def _order(self, name: str, *, paused: bool) -> Order:
        with _locked(self._folder / "control.lock", wait=True):
            orders = self._journal.read()
            before = Order(**orders[name]) if name in orders else Order()
            order = Order(paused, before.number + 1, time.time_ns() // 1000, _user())
            orders[name] = {
                "paused": order.paused,
                "number": order.number,
                "since": order.since,
                "by": order.by,
            }
            self._journal.write(orders)
            return order


def seek(
    settings: PipelineSettings, store: FeatureStore, positions: Mapping[str, int | str]
) -> dict[str, tuple[int | None, int]]:
    """Move a pipeline's stored position; who reads there goes on from it.

    Records of messages that are stored again are put again: online the latest stays what it is,
    offline each put is another row.

    Args:
        settings: of the pipeline.
        store: where it stores.
        positions: partition → offset, or `beginning`, or `end`.

    Returns:
        For each partition where it stood, and where it stands.

    Raises:
        InvalidRequest: there is no such partition, or it has no such offset.
        PositionConflict: others moved it all the time.
    """
    with Probe(settings.open_aside()) as probe:
        heads = probe.heads({})
        wanted: dict[str, int] = {}
        for partition, to in positions.items():
            if partition not in heads:
                known = ", ".join(sorted(heads)) or "none"
                raise InvalidRequest(
                    f"seek of {settings.name}: expected a partition of {known}, got {partition!r}"
                )
            head = heads[partition]
            first = head.message.offset if head.message is not None else (head.end or 0)
            end = head.end
            offset = {"beginning": first, "end": end}.get(to) if isinstance(to, str) else to
            if offset is None or offset < first or (end is not None and offset > end):
                last = "its end" if end is None else str(end)
                raise InvalidRequest(
                    f"seek of {settings.name} partition {partition}: expected an offset from "
                    f"{first} to {last}, beginning or end, got {to!r}"
                )
            wanted[partition] = offset
        name = _position_name(settings, store, probe)
    return _moved(store, name, lambda stored: wanted)


def replay(
    settings: PipelineSettings, store: FeatureStore, since: dt.datetime
) -> dict[str, tuple[int | None, int]]:
    """Move a pipeline back to the messages that came at a time or later.

    A partition that is not so far yet stays where it is. See `seek` for what storing again does.

    Args:
        settings: of the pipeline.
        store: where it stores.
        since: by the times of the messages.

    Returns:
        For each partition that was moved where it stood, and where it stands.

    Raises:
        InvalidRequest: the time has no zone, or the messages have no times.
        PositionConflict: others moved it all the time.
    """
    if since.tzinfo is None:
        raise InvalidRequest(
            f"replay of {settings.name}: expected a time with a zone, such as "
            f"2026-01-01T06:00:00Z, got {since.isoformat()}"
        )
    with Probe(settings.open_aside()) as probe:
        offsets = probe.offsets_at(int(since.timestamp() * 1e6))
        name = _position_name(settings, store, probe)
    if not offsets:
        raise InvalidRequest(
            f"replay of {settings.name}: expected messages with times, but this source's have "
            f"none; use seek"
        )
    return _moved(
        store,
        name,
        lambda stored: {p: o for p, o in offsets.items() if p in stored and o < stored[p]},
    )


def status(
    settings: FleetSettings, store: FeatureStore, *, name: str | None = None
) -> list[PipelineStatus]:
    """Return where pipelines stand: as the fleet tells it, and as store and source know it.

    Where no fleet runs here, the sources are looked into, beside whoever reads them.

    Args:
        settings: of the fleet.
        store: where the pipelines store.
        name: of one pipeline; None: all.

    Raises:
        IngestError: there is no such pipeline.
    """
    control = Control(settings.state)
    chosen = settings.pipelines if name is None else (settings.pipeline(name),)
    told: dict[str, PipelineStatus] = {}
    if control.is_held():
        found = control.told().get("pipelines", [])
        told = {one["name"]: PipelineStatus.from_json(one) for one in found}
    orders = control.orders()
    return [
        _told(one, told[one.name], store)
        if one.name in told
        else _looked_up(one, store, orders.get(one.name, Order()))
        for one in chosen
    ]


def _told(settings: PipelineSettings, known: PipelineStatus, store: FeatureStore) -> PipelineStatus:
    """Add the partitions that others read, and the ends where nobody reads here."""
    if not known.workers and settings.tells_ends:
        name, parts = _look(settings, store)
        return replace(known, position_name=name, partitions=parts)
    if not known.position_name:
        return known
    stored = store.source_position(known.position_name)
    here = {part.partition for part in known.partitions}
    others = tuple(PartitionStatus(p, at) for p, at in sorted(stored.items()) if p not in here)
    return replace(known, partitions=(*known.partitions, *others))


def _looked_up(settings: PipelineSettings, store: FeatureStore, order: Order) -> PipelineStatus:
    """Return the status of a pipeline of which no fleet tells."""
    name, parts = _look(settings, store)
    return PipelineStatus(
        settings.name,
        settings.group,
        State.PAUSED if order.paused else State.STOPPED,
        reason=f"by {order.by}" if order.paused else "no fleet runs it here",
        since=order.since if order.paused else None,
        wanted=settings.workers,
        position_name=name,
        partitions=parts,
    )


def _look(
    settings: PipelineSettings, store: FeatureStore
) -> tuple[str, tuple[PartitionStatus, ...]]:
    """Ask store and source where a pipeline stands."""
    probe = Probe(settings.open_aside())
    if not settings.tells_ends:  # its name is known without a connection
        name = _position_name(settings, store, probe)
        stored = store.source_position(name)
        return name, tuple(PartitionStatus(p, at) for p, at in sorted(stored.items()))
    with probe:
        name = _position_name(settings, store, probe)
        stored = store.source_position(name)
        heads = probe.heads(stored)
    now_us = time.time_ns() // 1000
    found: list[PartitionStatus] = []
    for partition, head in sorted(heads.items(), key=lambda item: (len(item[0]), item[0])):
        position, end = stored.get(partition), head.end
        lag = None if end is None else max(0, end - (position or 0))
        lag_s: float | None = 0.0
        if head.message is not None:
            came = head.message.timestamp_us
            lag_s = None if came is None else max(0.0, (now_us - came) / 1e6)
        found.append(PartitionStatus(partition, position, end, lag, lag_s))
    return name, tuple(found)


def _position_name(settings: PipelineSettings, store: FeatureStore, probe: Probe) -> str:
    return position_name(group_id(store.describe(settings.group)), probe.name)


def _moved(
    store: FeatureStore, name: str, wanted: Callable[[Mapping[str, int]], Mapping[str, int]]
) -> dict[str, tuple[int | None, int]]:
    """Move positions by compare-and-set, again while a pipeline stores in between."""
    for _ in range(_TRIES):
        stored = store.source_position(name)
        positions = {p: to for p, to in wanted(stored).items() if stored.get(p) != to}
        if not positions:
            return {}
        try:
            store.move_source(name, positions, expected=stored)
        except PositionConflict as conflict:
            latest = conflict
            time.sleep(_MOVE_PAUSE_S)
            continue
        return {p: (stored.get(p), to) for p, to in positions.items()}
    raise latest


@contextmanager
def _locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file; give False where it is not to be waited for and others have it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
