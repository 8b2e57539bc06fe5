"""Background work in rounds: at intervals, at a low duty, by the elected process of a home."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import final

__all__ = ["Rounds"]

_log = logging.getLogger(__name__)


@final
class Rounds:
    """Does some work again and again, in a thread, while this process is the elected one.

    A round that fails does not end it: the next one tries again.

    Args:
        name: of the work, for the log.
        work: one round; it asks a `rest` of this between its steps.
        is_elected: whether this process is the one of the home that does it.
        every_s: seconds between two rounds; None: none is made.
        rest: after each step it rests so many times as long as the step took.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        is_elected: Callable[[], bool],
        *,
        every_s: float | None,
        rest: float,
    ) -> None:
        self._name = name
        self._work = work
        self._is_elected = is_elected
        self._every_s = every_s
        self._rest = rest
        self._stop = threading.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Make rounds until `stop` is called; a step under way is finished then."""
        while not await self._stopped_before_next():
            if not self._is_elected():
                continue
            try:
                await asyncio.to_thread(self._work)
            except Exception:  # noqa: BLE001  # the outermost loop: the next round must come
                _log.exception("%s failed; trying again in %g s", self._name, self._every_s)

    def stop(self) -> None:
        """Begin no further step; call it on the event loop."""
        self._stop.set()
        self._stopped.set()

    @property
    def is_stopping(self) -> bool:
        """Whether no further step shall begin."""
        return self._stop.is_set()

    def pause(self) -> Callable[[object], bool]:
        """Return what rests after each step, and says whether to go on; make one per task."""
        began = time.monotonic()

        def rest(_step: object) -> bool:
            nonlocal began
            stopped = self._stop.wait((time.monotonic() - began) * self._rest)
            began = time.monotonic()
            return not stopped

        return rest

    async def _stopped_before_next(self) -> bool:
        try:
            await asyncio.wait_for(self._stopped.wait(), self._every_s)
        except TimeoutError:
            return False
        return True
