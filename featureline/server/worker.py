"""A process that serves: alone, or as one of several under a supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from featureline.server.flushing import Flushing
from featureline.server.listener import raise_file_limit
from featureline.server.server import Server
from featureline.server.settings import Settings
from featurestore.auth import Guard
from featurestore.embedded import EmbeddedStore, open_store

__all__ = ["END_S", "Stop", "run_worker"]

# Beyond the drain, for what cannot be cut short: a commit on a slow disk, the end of threads.
END_S: Final = 2.0
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
    with open_store(settings.home) as store:
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
    server = Server(
        store,
        settings.grpc,
        front=settings.front,
        tls=settings.tls,
        reuse_port=shares_port,
        guard=guard,
    )
    await server.start()
    stop = Stop()
    flushing = Flushing(store, settings.flush_s)
    flusher = asyncio.create_task(flushing.run())
    on_ready({"grpc": server.address, "http": None, "front": server.front})
    await stop.wait()
    _end_within(settings.drain_s + END_S)
    flushing.stop()
    await server.stop(settings.drain_s)
    await flusher
    guard.close()


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
