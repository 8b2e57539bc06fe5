"""A fleet: many pipelines kept running, each by its workers, whatever becomes of one of them.

    settings file ─► wanted pipelines ─► workers (threads or processes)
    control folder ─► paused, resumed       │ progress, outcomes
    status.json   ◄─────────────────────────┘

One thread looks after all of it a few times a second. A worker that fails is started again after a
pause that doubles up to a minute; one that would fail the same way again stays failed until it is
resumed or its settings change. Whatever stops a pipeline lets it finish the batch in hand first.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from featurestore import FeatureStore, FeatureStoreError
from ingest.errors import IngestError, InvalidSettings
from ingest.fleet.control import Control, Order
from ingest.fleet.progress import Meter, PipelineStatus, State
from ingest.fleet.settings import FleetSettings, PipelineSettings, StoreSettings
from ingest.fleet.worker import Outcome, ProcessWorker, ThreadWorker, Worker

__all__ = ["Fleet"]

_log = logging.getLogger(__name__)

_TICK_S: Final = 0.2
_LOOK_S: Final = 1.0
_FIRST_PAUSE_S: Final = 1.0
_LAST_PAUSE_S: Final = 60.0
_HEALTHY_S: Final = 60.0
_NOT_TAKEN: Final = "the settings were not taken"
_COMMAND: Final = (sys.executable, "-m", "ingest.fleet.worker")


@final
class Fleet:
    """Runs pipelines until it is told to stop, or all have come to their end.

    Args:
        settings: what to run.
        reload: reads the settings anew; None: they never change.
        command: starts the process of a worker (`ingest.fleet.worker.serve`).
        first_pause_s: before a failed worker is started again, the first time.
    """

    def __init__(
        self,
        settings: FleetSettings,
        *,
        reload: Callable[[], FleetSettings] | None = None,
        command: Sequence[str] = _COMMAND,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._settings = settings
        self._read = reload
        self._start = _Start(settings.store, command)
        self._first_pause_s = first_pause_s
        self._control = Control(settings.state)
        self._members = {one.name: self._member(one) for one in settings.pipelines}
        self._leaving: list[_Member] = []
        self._changed = threading.Event()
        self._stamps = _stamps(settings.files)
        self._problem = ""
        self._since_us = _now_us()
        self._looked = 0.0
        self._status: Sequence[PipelineStatus] = ()

    def reload(self) -> None:
        """Let the settings be read anew at the next look; may be called by a signal handler."""
        self._changed.set()

    @property
    def status(self) -> Sequence[PipelineStatus]:
        """Where the pipelines stand, at most about a second old; may be asked in any thread."""
        return self._status

    def run(
        self, stop: threading.Event, *, on_ready: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Sequence[PipelineStatus]:
        """Run until `stop` is set, or every pipeline has come to its end.

        Args:
            stop: set it again, after it was cleared, to end the workers at once.
            on_ready: told once what runs, when all workers were started.

        Returns:
            How the pipelines ended.

        Raises:
            FleetRuns: another fleet has the same folder of state.
        """
        with self._control.held():
            try:
                self._tend()
                if on_ready is not None:
                    on_ready(self._ready())
                while not stop.wait(_TICK_S) and not self._is_over():
                    self._look_at_settings()
                    self._tend()
            finally:
                self._end(stop)
        return self._status

    def _member(self, settings: PipelineSettings) -> _Member:
        return _Member(settings, self._start, self._first_pause_s)

    def _ready(self) -> dict[str, Any]:
        return {
            "ready": True,
            "pid": os.getpid(),
            "state": str(self._settings.state),
            "pipelines": {one.name: one.workers for one in self._settings.pipelines},
        }

    def _is_over(self) -> bool:
        """Whether nothing runs, and nothing will start by itself."""
        ends = {State.FINISHED} if self._read is not None else {State.FINISHED, State.FAILED}
        return not self._leaving and all(member.state in ends for member in self._members.values())

    def _tend(self) -> None:
        orders = self._control.orders()
        for member in self._members.values():
            member.tend(orders.get(member.settings.name, Order()))
        for member in self._leaving:
            member.leave()
        gone = [member for member in self._leaving if member.is_idle]
        self._leaving = [member for member in self._leaving if not member.is_idle]
        for member in gone:
            _log.info("pipeline %s has stopped", member.settings.name)
        if time.monotonic() - self._looked >= _LOOK_S:
            self._looked = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        self._status = [member.status() for member in self._members.values()]
        body = {
            "pid": os.getpid(),
            "since": self._since_us,
            "at": _now_us(),
            "settings": [str(file) for file in self._settings.files],
            "settings_problem": self._problem,
            "pipelines": [one.to_json() for one in self._status],
        }
        try:
            self._control.tell(body)
        except OSError as error:
            _log.warning("the status cannot be written: %s", error)

    def _look_at_settings(self) -> None:
        if self._read is None:
            return
        stamps = _stamps(self._settings.files)
        if not self._changed.is_set() and stamps == self._stamps:
            return
        self._changed.clear()
        self._stamps = stamps
        try:
            fresh = self._read()
        except InvalidSettings as error:
            self._problem = str(error)
            _log.error("%s, everything goes on as it was:\n%s", _NOT_TAKEN, error)
            return
        if fresh.state != self._settings.state:
            self._problem = (
                f"[fleet] state: expected {self._settings.state} as long as the fleet runs, got "
                f"{fresh.state}; start it anew for that"
            )
            _log.error(
                "the settings were not taken, everything goes on as it was: %s", self._problem
            )
            return
        self._problem = ""
        self._stamps = _stamps(fresh.files)
        self._take(fresh)

    def _take(self, fresh: FleetSettings) -> None:
        """Stop what changed or went, start what changed or came; the rest is not touched."""
        is_moved = fresh.store != self._settings.store
        if is_moved:
            self._start = _Start(fresh.store, self._start.command)
        members: dict[str, _Member] = {}
        for settings in fresh.pipelines:
            known = self._members.pop(settings.name, None)
            if known is not None and not is_moved and known.settings == settings:
                members[settings.name] = known
                continue
            member = members[settings.name] = self._member(settings)
            if known is not None:
                member.follow(known)
                self._leaving.append(known)
            _log.info("pipeline %s: %s", settings.name, "new" if known is None else "changed")
        for member in self._members.values():
            _log.info("pipeline %s: removed", member.settings.name)
            self._leaving.append(member)
        self._members = members
        self._settings = fresh

    def _end(self, stop: threading.Event) -> None:
        """Stop all workers, at once when told to stop a second time."""
        stop.clear()
        everyone = [*self._members.values(), *self._leaving]
        while True:
            for member in everyone:
                member.leave()
            if all(member.is_idle for member in everyone):
                break
            if stop.wait(_TICK_S):
                for member in everyone:
                    member.kill()
                break
        if all(member.is_idle for member in everyone):  # a thread that still stores needs it open
            self._start.close()
        self._tell()


@final
@dataclass
class _Start:
    """Starts workers on a store; threads share one open store."""

    store: StoreSettings
    command: Sequence[str]
    _opened: FeatureStore | None = None

    def worker(self, settings: PipelineSettings) -> Worker:
        if settings.workers > 1 or settings.processes:
            return ProcessWorker(settings, self.store, self.command)
        if self._opened is None:
            self._opened = self.store.open()
        return ThreadWorker(settings, self._opened)

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()


@dataclass
class _Place:
    """One of the workers that a pipeline should have."""

    worker: Worker | None = None
    began: float = 0.0
    pause_s: float = 0.0
    due: float = 0.0
    outcome: Outcome | None = None
    is_stopped: bool = False


@final
@dataclass(eq=False)
class _Member:
    """One pipeline of the fleet."""

    settings: PipelineSettings
    start: _Start
    first_pause_s: float
    meter: Meter = field(default_factory=Meter)
    restarts: int = 0
    state: State = State.STOPPED
    since_us: int = field(default_factory=lambda: _now_us())
    reason: str = ""
    order: Order = field(default_factory=Order)
    before: _Member | None = None

    def __post_init__(self) -> None:
        self.places = [_Place() for _ in range(self.settings.workers)]

    @property
    def is_idle(self) -> bool:
        """Whether no worker of it is left, and none of what it takes the place of."""
        return not self._living()

    def follow(self, before: _Member) -> None:
        """Begin only when another has stopped, and go on counting where it reads the same."""
        self.before = before
        self.order = before.order
        if (before.settings.source, before.settings.group) == (
            self.settings.source,
            self.settings.group,
        ):
            self.meter = before.meter
            self.restarts = before.restarts

    def tend(self, order: Order) -> None:
        """Take in what the workers told, and start or stop what should be."""
        self._reap()
        if order != self.order:
            self.order = order
            if not order.paused:
                for place in self.places:
                    place.outcome, place.pause_s, place.due = None, 0.0, 0.0
        if self.before is not None:
            if not self.before.is_idle:
                self._be(State.WAITING, "for the batch in hand, before it changes")
                return
            self.before = None
        if order.paused:
            self._stop()
            state = State.PAUSED if self.is_idle else State.STOPPING
            self._be(state, f"by {order.by}" if order.by else "")
            return
        now = time.monotonic()
        for place in self.places:
            if place.worker is None and not self._stays_out(place) and now >= place.due:
                self._launch(place)
        self._look()

    def leave(self) -> None:
        """Stop for good."""
        self._reap()
        self._stop()
        if self.state not in (State.FAILED, State.FINISHED, State.PAUSED):
            self._be(State.STOPPED if self.is_idle else State.STOPPING, "")

    def kill(self) -> None:
        """End what is left at once."""
        for place in self.places:
            if place.worker is not None:
                place.worker.kill()
                place.worker.join(_LOOK_S)
        self._reap()

    def status(self) -> PipelineStatus:
        """Return where the pipeline stands."""
        own = [place.worker for place in self.places if place.worker is not None]
        shares = self.before is not None and self.before.meter is self.meter
        counts = self.meter.look([one.progress for one in (self._living() if shares else own)])
        messages, sizes = self.meter.rates()
        return PipelineStatus(
            self.settings.name,
            self.settings.group,
            self.state,
            self.reason,
            self.since_us,
            workers=len(own),
            wanted=self.settings.workers,
            pids=sorted({worker.pid for worker in own}),
            restarts=self.restarts,
            **counts,
            messages_per_s=messages,
            bytes_per_s=sizes,
            position_name=self.meter.position_name,
            partitions=self.meter.partitions(),
        )

    def _launch(self, place: _Place) -> None:
        if place.outcome is not None:
            self.restarts += 1
        place.began = time.monotonic()
        place.is_stopped = False
        try:
            place.worker = self.start.worker(self.settings)
        except (IngestError, FeatureStoreError, OSError) as error:
            self._failed(place, Outcome.of(error))

    def _stop(self) -> None:
        for place in self.places:
            if place.worker is not None:
                place.is_stopped = True
                place.worker.stop()

    def _living(self) -> list[Worker]:
        before = [] if self.before is None else self.before._living()
        return before + [place.worker for place in self.places if place.worker is not None]

    def _reap(self) -> None:
        for place in self.places:
            worker = place.worker
            if worker is None:
                continue
            outcome = worker.outcome
            if outcome is None:
                continue
            worker.join(_LOOK_S)
            self.meter.end(worker.progress)
            place.worker = None
            if outcome.reason:
                self._failed(place, outcome)
            elif not place.is_stopped:
                place.outcome = outcome  # the source has no more

    def _failed(self, place: _Place, outcome: Outcome) -> None:
        place.outcome = outcome
        if time.monotonic() - place.began >= _HEALTHY_S:
            place.pause_s = 0.0
        place.pause_s = min(_LAST_PAUSE_S, 2 * place.pause_s or self.first_pause_s)
        place.due = time.monotonic() + place.pause_s
        _log.warning("pipeline %s: a worker failed: %s", self.settings.name, outcome.reason)

    def _stays_out(self, place: _Place) -> bool:
        return place.outcome is not None and (not place.outcome.reason or place.outcome.is_lasting)

    def _look(self) -> None:
        """Say in which state the pipeline is."""
        outcomes = [place.outcome for place in self.places if place.worker is None]
        failed = [one for one in outcomes if one is not None and one.reason]
        lasting = [one for one in failed if one.is_lasting]
        if lasting:
            # The others go on with their partitions; somebody has to look at this one.
            self._be(State.FAILED, lasting[0].reason)
        elif failed and self.is_idle:
            self._be(State.WAITING, f"to start again after {failed[0].reason}")
        elif self.is_idle:
            self._be(State.FINISHED, "the source has no more")
        else:
            self._be(State.RUNNING, f"but a worker failed: {failed[0].reason}" if failed else "")

    def _be(self, state: State, reason: str) -> None:
        if state != self.state:
            self.since_us = _now_us()
        self.state, self.reason = state, reason


def _stamps(files: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    """Return what changes when files are written to or replaced."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return found


def _now_us() -> int:
    return time.time_ns() // 1000
