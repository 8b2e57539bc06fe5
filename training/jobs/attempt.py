"""One attempt at a job: a process on each host, from its start to its end."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from training.jobs.budget import Share
from training.jobs.checkpointing import PART, CheckpointCopy
from training.jobs.environment import (
    SECRETS,
    gpu_variables,
    loopback_variables,
    sagemaker_variables,
    thread_variables,
    world_variables,
)
from training.jobs.failure import explain, oom_kills
from training.jobs.folder import HOST
from training.jobs.host import HostProcess
from training.jobs.leftover import note
from training.jobs.link import Meeting
from training.jobs.logscan import LogScanner
from training.jobs.piping import Pipe
from training.jobs.port import free_port
from training.jobs.standing import Order, Standing

__all__ = ["Attempt", "Ended"]

_LOOK_S: Final = 0.1
_GO: Final = "go"
# From the request to stop; a step's end is waited for longer where its checkpoint is of use.
_LEAVE_S: Final = 0.3
_LEAVE_KEPT_S: Final = 0.6
_LAST_LINES: Final = 3


@final
@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended.

    Attributes:
        completed: every process ended well.
        sealed: a process said that its model is whole.
        interrupted: a process was killed, or asked to stop, from outside.
        refused: it would fail again in the same way: its data or hyperparameters were refused.
        reason: why it did not complete; "" when it did.
    """

    completed: bool
    sealed: bool = False
    interrupted: bool = False
    refused: bool = False
    reason: str = ""


@final
class Attempt:
    """Runs the processes of a job once.

    Args:
        order: the job.
        standing: told what they report.
        share: what they may use.
        crowded: whether more threads run than the machine has cores.
        copies: of folders of the job, brought up to date while they run.
    """

    def __init__(
        self,
        order: Order,
        standing: Standing,
        share: Share,
        *,
        crowded: bool,
        copies: Sequence[CheckpointCopy],
    ) -> None:
        self._order = order
        self._standing = standing
        self._share = share
        self._crowded = crowded
        self._copies = copies
        self._folder = order.folder
        self._processes: list[HostProcess] = []
        self._scanners: list[LogScanner] = []
        self._pipes: list[Pipe] = []
        self._sealed = self._left = False
        self._refused: set[str] = set()
        # Those that failed by themselves, in the order they were seen, with their status.
        self._fallen: dict[str, int] = {}
        self._is_ended_by_us = False
        self._killed = oom_kills()

    def run(self, bring: Callable[[], None], open_pipes: Callable[[], list[Pipe]]) -> Ended:
        """Start the processes, bring the data while they load their libraries, wait for the end.

        Args:
            bring: puts the data into the folder, when it is not there yet.
            open_pipes: begins to feed the channels in Pipe mode.

        Raises:
            TrainingError: the data cannot be brought; no process is left behind.
        """
        statuses: dict[str, int] = {}
        self._drop_unfinished()  # of a runner that was killed
        try:
            self._start()
            bring()
            if not self._standing.should_stop():
                self._pipes = open_pipes()
                self._standing.begin()
                for process in self._processes:
                    process.tell(_GO)
                self._pump()
        finally:
            for process in self._processes:
                statuses[process.name] = process.end()
                self._folder.host(process.name).clear_scratch()
            for pipe in self._pipes:
                pipe.close()
            self._drop_unfinished()
            self._scan(final=True)
            self._standing.flush()
        for copy in self._copies:
            copy.sync(final=True)
        return self._ended(statuses)

    def _start(self) -> None:
        order, program = self._order, self._order.program
        hosts, threads = program.hosts, order.threads
        gpus = len(self._share.gpus) // len(hosts)
        world = {}
        if len(hosts) > 1:
            # Processes of an algorithm find each other by themselves.
            world = (
                dict.fromkeys(hosts, loopback_variables())
                if program.reports
                else world_variables(hosts, free_port)
            )
        with contextlib.ExitStack() as begun:
            meeting: Meeting | None = None
            if len(hosts) > 1 and program.reports:
                meeting = begun.enter_context(contextlib.closing(Meeting(len(hosts))))
            for place, host in enumerate(hosts):
                folder = self._folder.host(host)
                own = self._share.gpus[place * gpus : (place + 1) * gpus]
                variables = (
                    {name: value for name, value in os.environ.items() if name not in SECRETS}
                    | dict(order.job.environment)
                    | sagemaker_variables(
                        order.job, folder, cores=threads, gpus=gpus, hosts=hosts, current=host
                    )
                    | thread_variables(threads, crowded=self._crowded)
                    | gpu_variables(order.job.resource_config.device, own, os.environ)
                    | world.get(host, {})
                    # The process imports what this one would, third parties' algorithms included.
                    | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
                )
                inherited = [meeting.descriptor] if meeting is not None and place == 0 else []
                process = HostProcess(host, folder, program.module, variables, inherited=inherited)
                self._processes.append(process)
                note(self._folder.root, [one.number for one in self._processes])
                told = program.order(order.job, threads=threads, gpus=gpus)
                if meeting is not None:
                    told |= {"world": meeting.order(place), "root": str(self._folder.root)}
                process.tell(told)
                self._scanners.append(LogScanner(folder.log, order.job.metric_definitions))

    def _pump(self) -> None:
        """Read what the processes report until all have ended; stop them when that is wanted."""
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                selector.register(process, selectors.EVENT_READ, process)
            running = list(self._processes)
            while running:
                if selector.get_map():
                    ready = [key.data for key, _ in selector.select(_LOOK_S)]
                else:
                    ready = []
                    # An algorithm's process is about to end; a script's has never more to say.
                    time.sleep(_LOOK_S / (10 if self._order.program.reports else 2))
                for process in ready:
                    self._take(process)
                    if not process.is_open:
                        selector.unregister(process)
                for process in list(running):
                    # A child of its own may hold the pipe open; the process itself is over.
                    if process.status is not None:
                        self._take(process)
                        running.remove(process)
                        if process.status != 0 and not self._is_ended_by_us:
                            self._fallen[process.name] = process.status
                self._steer(running)

    def _take(self, process: HostProcess) -> None:
        for kind, values in process.events():
            match kind:
                case "sealed":
                    self._sealed = True
                case "refused":
                    self._refused.add(process.name)
                case "stopped":
                    self._left = True
                case _:
                    self._standing.report(kind, values, host=process.name)

    def _steer(self, running: Sequence[HostProcess]) -> None:
        """Look after everything that is due while they run."""
        self._scan()
        self._standing.flush()
        for copy in self._copies:
            copy.sync()
        if self._standing.is_overdue or any(pipe.error for pipe in self._pipes):
            self._end(running, HostProcess.kill)
        elif not self._standing.is_ending and self._standing.should_stop():
            self._end(running, HostProcess.terminate)
        elif self._may_leave():
            self._end(running, HostProcess.kill)
        elif self._fallen and not self._standing.is_ending:
            # One host has failed, so the others would wait for it for ever.
            self._end(running, HostProcess.kill)

    def _may_leave(self) -> bool:
        """Whether a fit that was asked to stop, and has not yet, is ended where it is.

        It goes on from its last checkpoint all the same. Only one that is kept beyond the job is
        waited for while it is written.
        """
        asked, config = self._standing.asked_at, self._order.job.checkpoint_config
        if asked is None or not self._order.program.may_be_left:
            return False
        keeps = config is not None and bool(config.path)
        if time.monotonic() < asked + (_LEAVE_KEPT_S if keeps else _LEAVE_S):
            return False
        return not keeps or not self._unfinished()

    def _unfinished(self) -> list[Path]:
        """Return the checkpoints that are being written."""
        return list(self._folder.checkpoints.rglob(f"*{PART}"))

    def _drop_unfinished(self) -> None:
        """Remove what an algorithm has not finished writing; a program's files are its own."""
        if self._order.program.reports:
            for part in self._unfinished():
                part.unlink(missing_ok=True)

    def _end(self, running: Sequence[HostProcess], how: Callable[[HostProcess], None]) -> None:
        self._is_ended_by_us = True
        for process in running:
            how(process)

    def _scan(self, *, final: bool = False) -> None:
        for process, scanner in zip(self._processes, self._scanners, strict=True):
            for metric in scanner.scan(final=final):
                self._standing.found(metric, host=process.name)

    def _ended(self, statuses: Mapping[str, int]) -> Ended:
        reports = self._order.program.reports
        broken = [pipe.error for pipe in self._pipes if pipe.error]
        is_over = all(status == 0 for status in statuses.values())
        # What reads a pipe that broke may have taken that for its end.
        if is_over and (self._sealed or not reports) and not broken:
            return Ended(completed=True, sealed=self._sealed)
        host = self._failed(statuses)
        folder, status = self._folder.host(host), statuses[host]
        reason = (
            broken[0]
            if broken
            else explain(
                status,
                folder.last_lines(),
                folder=self._folder.root,
                out_of_memory=oom_kills() > self._killed,
                said=folder.failure(),
                last=1 if len(statuses) == 1 else _LAST_LINES,
            )
        )
        first = self._folder.last_line()
        if host != HOST and first and not folder.last_line():
            # Of an algorithm's hosts the first one speaks for all.
            reason = f"{reason}; the last line of {HOST}: {first}"
        return Ended(
            completed=False,
            sealed=self._sealed and status == 0,
            interrupted=status < 0 or self._left,
            refused=host in self._refused or bool(broken),
            reason=reason if len(statuses) == 1 else f"{host}: {reason}",
        )

    def _failed(self, statuses: Mapping[str, int]) -> str:
        """The host whose end explains the others'.

        One that a signal from outside has ended; else the first to say why it failed, since the
        others fail for want of it; else the first that was seen to fail.
        """
        killed = [name for name, status in self._fallen.items() if status < 0]
        # A library may abort when it misses the others.
        killed.sort(key=lambda name: self._fallen[name] == -signal.SIGABRT)
        failures = {name: self._folder.host(name).output / "failure" for name in statuses}
        told = [name for name, file in failures.items() if file.is_file()]
        told.sort(key=lambda name: failures[name].stat().st_mtime_ns)
        return next(iter([*killed, *told, *self._fallen, *statuses]))
