"""The background sweep: one process of a home gives the space of expired records back."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, final

from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureStoreError

__all__ = ["Sweeping"]

EVERY_S: Final = 60.0
# It rests so many times as long as it works: calls hardly notice it.
_REST: Final = 9
_log = logging.getLogger(__name__)


@final
class Sweeping:
    """Sweeps the store at intervals, at a low duty, while this process is the elected one.

    Args:
        store: what is swept.
        is_elected: whether this process is the one of the home that does.
        every_s: seconds between two sweeps.
        metrics: counts what was swept; None: nobody does.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        is_elected: Callable[[], bool],
        *,
        every_s: float = EVERY_S,
        metrics: Any = None,
    ) -> None:
        self._store = store
        self._is_elected = is_elected
        self._every_s = every_s
        self._metrics = metrics
        self._stop = threading.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Sweep until `stop` is called; a slice under way is finished then."""
        while not await self._stopped_within(self._every_s):
            if self._is_elected():
                await asyncio.to_thread(self._sweep)

    def stop(self) -> None:
        """Begin no further slice; call it on the event loop."""
        self._stop.set()
        self._stopped.set()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _sweep(self) -> None:
        began = time.monotonic()

        def rest(looked: int) -> bool:
            nonlocal began
            stopped = self._stop.wait((time.monotonic() - began) * _REST)
            began = time.monotonic()
            return not stopped

        try:
            swept = self._store.sweep(pause=rest)
        except FeatureStoreError as error:
            _log.warning("sweep: %s; trying again in %g s", error, self._every_s)
            return
        if swept:
            _log.info("swept %d expired records", swept)
            if self._metrics is not None:
                self._metrics.swept(swept)
