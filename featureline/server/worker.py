"""A process that serves: alone, or as one of several under a supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final, final

from featureline.erasing import finish_erasures, reach_everything
from featureline.probe import Probe
from featureline.server.emitting import Emitting
from featureline.server.flushing import Flushing
from featureline.server.http import HttpServer
from featureline.server.listener import choose_front, raise_file_limit
from featureline.server.maintaining import Maintaining
from featureline.server.rounds import Rounds
from featureline.server.server import Server
from featureline.server.settings import Settings
from featureline.server.sweeping import Sweeping
from featurestore.auth import Guard
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.server.metrics import Metrics
from featurestore.server.monitor import Monitor
from featurestore.server.snapshot import Reports

__all__ = ["END_S", "Stop", "run_worker"]

# Beyond the drain, for what cannot be cut short: a commit on a slow disk, the end of threads.
END_S: Final = 2.0
# After the start, where a table was away then.
ERASING_S: Final = 60.0
_log = logging.getLogger(__name__)


def run_worker(
    settings: Settings,
    on_ready: Callable[[Mapping[str, Any]], None],
    *,
    shares_port: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then let calls in flight finish.

    Args:
        settings: how.
        on_ready: called with the facts of the server when it accepts calls.
        shares_port: whether other processes listen on the same port.

    Raises:
        FeatureStoreError: the home or the address cannot be opened.
    """
    raise_file_limit()
    with open_store(settings.home, online=settings.online) as store:
        reach_everything(store)
        asyncio.run(_run(settings, store, on_ready, shares_port))


@final
class Stop:
    """The wish to end, as a signal brings it; make it on the event loop.

    A second signal ends the process at once, by the system's own way.
    """

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask)

    def __call__(self) -> bool:
        """Whether it was asked for."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return when it is asked for."""
        await self._asked.wait()

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        self._asked.set()


async def _run(
    settings: Settings,
    store: EmbeddedStore,
    on_ready: Callable[[Mapping[str, Any]], None],
    shares_port: bool,
) -> None:
    guard = Guard.open(settings.home)
    metrics = Metrics(
        front=choose_front(settings.front, settings.tls),
        version=version("featureline"),
        slow_s=None if settings.slow_ms is None else settings.slow_ms / 1000,
    )
    monitor, probe = _observed(settings, store, metrics)
    emitting = None
    if settings.emit is not None:
        emitting = Emitting(store.graph, settings.home, settings.emit)
    http = None
    if settings.http is not None:
        http = HttpServer(
            store,
            settings.http,
            tls=settings.tls,
            reuse_port=shares_port,
            guard=guard,
            metrics=metrics,
        )
    server = Server(
        store,
        settings.grpc,
        front=settings.front,
        tls=settings.tls,
        reuse_port=shares_port,
        guard=guard,
        metrics=metrics,
        workers=settings.workers,
        dataset_memory_bytes=settings.dataset_memory_bytes,
        scripts=settings.scripts,
    )
    await server.start()
    if http is not None:
        await http.start()
    monitor.start()
    if probe is not None:
        probe.start()
    stop = Stop()
    store.limit_outbox(records=settings.outbox_records, size_bytes=settings.outbox_bytes)
    flushing = Flushing(
        store,
        settings.flush_s,
        records=settings.flush_records,
        size_bytes=settings.flush_bytes,
        metrics=metrics,
    )
    sweeping = Sweeping(store, lambda: flushing.is_elected, metrics=metrics)
    maintaining = Maintaining(store, lambda: flushing.is_elected, every_s=settings.maintain_s)
    erasing = Rounds(
        "the end of erasures that were cut",
        lambda: finish_erasures(store),
        lambda: flushing.is_elected,
        every_s=ERASING_S,
        rest=0,
    )
    background = asyncio.gather(
        *([] if emitting is None else [emitting.run()]),
        flushing.run(),
        sweeping.run(),
        maintaining.run(),
        erasing.run(),
        asyncio.to_thread(finish_erasures, store),
    )
    on_ready(
        {
            "grpc": server.address,
            "http": None if http is None else http.address,
            "front": server.front,
            "metrics": None if probe is None else probe.address,
        }
    )
    await stop.wait()
    _end_within(settings.drain_s + END_S)
    if probe is not None:
        probe.drain()
    if emitting is not None:
        emitting.stop()
    maintaining.stop()
    erasing.stop()
    sweeping.stop()
    flushing.stop()
    await asyncio.gather(
        server.stop(settings.drain_s), *([] if http is None else [http.stop(settings.drain_s)])
    )
    await background
    await asyncio.to_thread(monitor.stop)
    if probe is not None:
        await asyncio.to_thread(probe.stop)
    guard.close()


def _observed(
    settings: Settings, store: EmbeddedStore, metrics: Metrics
) -> tuple[Monitor, Probe | None]:
    """Make what tells operators how this process does.

    One of several workers writes its counts for the supervisor, which has the pages.
    """
    reports = Reports(settings.home / "run", settings.run) if settings.run else None
    monitor = Monitor(metrics, store, reports=reports)
    if settings.metrics is None or settings.run:
        return monitor, None
    return monitor, Probe(settings.metrics, lambda: [monitor.snapshot()], home=settings.home)


def _end_within(seconds: float) -> None:
    """End this process after so long, whatever its threads still do.

    What was acknowledged is on disk, and a flush can be cut at any instruction.
    """

    def end() -> None:
        _log.warning("the drain took %g s; ending now", seconds)
        os._exit(0)

    watchdog = threading.Timer(seconds, end)
    watchdog.daemon = True
    watchdog.start()
