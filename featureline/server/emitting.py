"""Sending the jobs of a home to others as events of OpenLineage, from one of its processes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from pathlib import Path
from typing import Final, final

from lineage import Graph, LineageError
from lineage.openlineage import Emitter, open_sink
from training.jobs.claim import Claim

__all__ = ["TOKEN", "Emitting", "cursor_path"]

TOKEN: Final = "OPENLINEAGE_API_KEY"
"""The environment variable with the token that is shown to an endpoint."""

_LOOK_S: Final = 0.5
_MAX_BACKOFF_S: Final = 60.0
_log = logging.getLogger(__name__)


def cursor_path(home: Path, target: str) -> Path:
    """Where a home keeps how much of its log was sent to a target."""
    name = hashlib.sha256(target.encode()).hexdigest()[:16]
    return home / "openlineage" / f"emitted-{name}.json"


@final
class Emitting:
    """Sends each job at least once, without holding up any, while this process has the claim.

    Of several processes that serve a home one is elected: who takes the claim first. It goes with
    its holder, however that ends, and the next to look takes it.

    Args:
        graph: whose jobs are sent.
        home: keeps the place in the log.
        target: a URL or the path of a file; see `lineage.openlineage.open_sink`.

    Raises:
        InvalidLogin: the target is none.
    """

    def __init__(self, graph: Graph, home: Path, target: str) -> None:
        self._graph = graph
        self._cursor = cursor_path(home, target)
        self._sink = open_sink(target, token=os.environ.get(TOKEN, ""))
        self._lock = home / "locks" / "emitter.lock"
        self._claim: Claim | None = None
        self._emitter: Emitter | None = None
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Send until `stop` is called; where the other side is away, wait longer each time."""
        wait_s = _LOOK_S
        while not await self._stopped_within(wait_s):
            try:
                await asyncio.to_thread(self._step)
                wait_s = _LOOK_S
            except (LineageError, OSError) as error:
                wait_s = min(_MAX_BACKOFF_S, wait_s * 2)
                _log.warning("lineage is not sent: %s; trying again in %g s", error, wait_s)
        await asyncio.to_thread(self._close)

    def stop(self) -> None:
        """End after the event under way; call it on the event loop."""
        self._stopped.set()
        if self._emitter is not None:
            self._emitter.stop()

    def _step(self) -> None:
        if self._claim is None:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            self._claim = Claim.take(self._lock)
            if self._claim is None:
                return
        # Made when this process is elected: another one may have moved the place before.
        if self._emitter is None:
            self._emitter = Emitter(self._graph, self._sink, self._cursor)
        self._emitter.step()

    def _close(self) -> None:
        self._sink.close()
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True
