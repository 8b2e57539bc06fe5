"""The background maintenance: one process of a home keeps its offline tables in few files."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, final

from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureGroupNotFound, FeatureStoreError

__all__ = ["EVERY_S", "Maintaining"]

EVERY_S: Final = 3600.0
# After each step it rests so many times as long as the step took: calls hardly notice it.
_REST: Final = 3
_log = logging.getLogger(__name__)


@final
class Maintaining:
    """Maintains the offline tables at intervals, at a low duty, while this process is elected.

    Args:
        store: whose tables are maintained.
        is_elected: whether this process is the one of the home that does.
        every_s: seconds between two rounds over all groups; None: none is made.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        is_elected: Callable[[], bool],
        *,
        every_s: float | None = EVERY_S,
    ) -> None:
        self._store = store
        self._is_elected = is_elected
        self._every_s = every_s
        self._stop = threading.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Maintain until `stop` is called; a step under way is finished then."""
        while not await self._stopped_within(self._every_s):
            if self._is_elected():
                await asyncio.to_thread(self._maintain)

    def stop(self) -> None:
        """Begin no further step; call it on the event loop."""
        self._stop.set()
        self._stopped.set()

    async def _stopped_within(self, seconds: float | None) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _maintain(self) -> None:
        try:
            groups = [entry for entry in self._store.registry.list() if entry.group.offline]
        except FeatureStoreError as error:
            _log.warning("maintenance: %s; trying again later", error)
            return
        for entry in groups:
            if self._stop.is_set():
                return
            self._maintain_one(entry.group.name)

    def _maintain_one(self, name: str) -> None:
        began = time.monotonic()

        def rest(step: str) -> bool:
            nonlocal began
            stopped = self._stop.wait((time.monotonic() - began) * _REST)
            began = time.monotonic()
            return not stopped

        try:
            report = self._store.maintain(name, pause=rest)
        except FeatureGroupNotFound:
            return  # deleted meanwhile
        except FeatureStoreError as error:
            # What is wrong with one table does not keep the others waiting.
            _log.warning("maintenance of %s: %s; trying again later", name, error)
            return
        if report.dates or report.files_removed:
            _log.info(
                "maintained %s: %d files became %d, %d old ones were removed, in %.1f s",
                name,
                report.files_before,
                report.files_after,
                report.files_removed,
                report.seconds,
            )
