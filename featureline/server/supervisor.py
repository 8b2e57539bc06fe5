"""Several processes on one port over one home: started, watched, started again, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, final

from featureline.child import die_with_parent
from featureline.probe import Probe
from featureline.server.listener import (
    choose_front,
    raise_file_limit,
    reserved_port,
    server_credentials,
)
from featureline.server.settings import Settings
from featureline.server.worker import END_S, Stop
from featurestore.errors import StoreUnavailable
from featurestore.server.snapshot import Reports

__all__ = ["Supervisor"]

FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 10.0
# A worker that lived so long is not taken for one that cannot live.
STABLE_S: Final = 30.0
_MARGIN_S: Final = 3.0
_log = logging.getLogger(__name__)


@final
class Supervisor:
    """Runs the workers of a server; it opens no store itself.

    Args:
        settings: of the server, with the number of workers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: set[Process] = set()

    async def run(self, on_ready: Callable[[Mapping[str, Any]], None]) -> None:
        """Serve until SIGTERM or SIGINT, then drain all workers.

        A worker that ends is started again, the sooner the longer it lived. When this process
        ends, however, its workers end with it.

        Args:
            on_ready: called with the facts of the server when all workers accept calls.

        Raises:
            StoreUnavailable: a worker could not start.
        """
        settings = self._settings
        raise_file_limit()
        # What would fail in every worker fails here once, before any is started.
        choose_front(settings.front, settings.tls)
        if settings.tls is not None:
            server_credentials(settings.tls)
        reports = Reports.begin(settings.home / "run") if settings.metrics is not None else None
        probe = None
        if reports is not None and settings.metrics is not None:
            probe = Probe(
                settings.metrics, reports.read, workers=settings.workers, home=settings.home
            )
        with contextlib.ExitStack() as held:
            address = held.enter_context(reserved_port(settings.grpc))
            http = settings.http
            if http is not None:
                http = held.enter_context(reserved_port(http, option="--http"))
            self._settings = replace(
                settings, grpc=address, http=http, run="" if reports is None else reports.run
            )
            try:
                if probe is not None:
                    probe.start()
                # The first one alone: it makes what is not there yet.
                first, facts = await self._start()
                others = await asyncio.gather(*(self._start() for _ in range(1, settings.workers)))
                stop = Stop()
                keepers = [
                    asyncio.create_task(self._keep(process, stop))
                    for process in (first, *(process for process, _ in others))
                ]
                on_ready({**facts, "metrics": None if probe is None else probe.address})
                await stop.wait()
                if probe is not None:
                    probe.drain()
                for keeper in keepers:
                    keeper.cancel()
                await self._end()
            finally:
                for process in self._running:
                    _send(process, signal.SIGKILL)
                if probe is not None:
                    await asyncio.to_thread(probe.stop)
                if reports is not None:
                    reports.end()

    async def _keep(self, process: Process | None, stop: Stop) -> None:
        """Keep one place filled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            began = time.monotonic()
            if process is not None:
                code = await process.wait()
                self._running.discard(process)
                if stop():
                    return
                if time.monotonic() - began > STABLE_S:
                    backoff_s = FIRST_BACKOFF_S
                _log.warning(
                    "worker %d ended (%s); starting another in %g s",
                    process.pid,
                    _end_of(code),
                    backoff_s,
                )
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
            try:
                process, _ = await self._start()
                _log.info("worker %d accepts calls", process.pid)
            except (StoreUnavailable, OSError, ValueError) as error:
                # Also no memory or process left for it: the place must not stay empty for good.
                process = None
                _log.warning("a worker cannot start: %s; trying again in %g s", error, backoff_s)

    async def _start(self) -> tuple[Process, Mapping[str, Any]]:
        """Start a worker and wait until it accepts calls.

        Raises:
            StoreUnavailable: it cannot, with its own reason.
        """
        command = [sys.executable, "-m", "featureline.server", self._settings.to_json()]
        process = await asyncio.create_subprocess_exec(
            *die_with_parent(command),
            stdin=PIPE,
            stdout=PIPE,
            env=self._settings.environment(),
            # Ctrl-C at a terminal is for us alone: we tell the workers.
            process_group=0,
        )
        self._running.add(process)
        assert process.stdout is not None
        try:
            line = await process.stdout.readline()
            facts = json.loads(line) if line.endswith(b"\n") else {}
        except (asyncio.CancelledError, ValueError):
            _send(process, signal.SIGKILL)
            raise
        if "grpc" in facts:
            return process, facts
        code = await process.wait()
        self._running.discard(process)
        raise StoreUnavailable(
            facts.get("error") or f"a worker ended while it started ({_end_of(code)}); see the log"
        )

    async def _end(self) -> None:
        """Drain the workers; who takes longer than it should is killed."""
        for process in self._running:
            _send(process, signal.SIGTERM)
        limit_s = self._settings.drain_s + END_S + _MARGIN_S
        ending = [asyncio.create_task(process.wait()) for process in self._running]
        if not ending:
            return
        _, late = await asyncio.wait(ending, timeout=limit_s)
        if late:
            _log.warning("%d workers did not end within %g s; killing them", len(late), limit_s)
            for process in self._running:
                _send(process, signal.SIGKILL)
            await asyncio.wait(late)
        self._running.clear()


def _send(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended: by itself, or by whoever told us to end."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _end_of(code: int) -> str:
    if code < 0:
        return f"signal {-code}, {signal.strsignal(-code)}"
    return f"exit code {code}"
