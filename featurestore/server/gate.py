"""The door of a server: counts the calls inside, and lets no more in once it closes."""

from __future__ import annotations

import asyncio
from typing import final

from featurestore.errors import StoreUnavailable

__all__ = ["Gate", "shutting_down"]


def shutting_down() -> StoreUnavailable:
    """Return what to answer to a call that comes too late."""
    return StoreUnavailable(
        "the server is shutting down; nothing was done: call again, another one may answer"
    )


@final
class Gate:
    """Used on one event loop.

    A closed gate refuses new calls with UNAVAILABLE while those inside finish. Connections stay
    open, so that every caller gets an answer and health checks hear NOT_SERVING.
    """

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._empty = asyncio.Event()
        self._inside = 0
        self.refused = 0

    def enter(self) -> None:
        """Let a call in.

        Raises:
            StoreUnavailable: the gate is closed.
        """
        if self.closing.is_set():
            self.refused += 1
            raise shutting_down()
        self._inside += 1

    def leave(self) -> None:
        """Let a call out that came in."""
        self._inside -= 1
        if not self._inside and self.closing.is_set():
            self._empty.set()

    def close(self) -> None:
        """Let no more calls in."""
        self.closing.set()
        if not self._inside:
            self._empty.set()

    async def wait_empty(self, timeout_s: float) -> bool:
        """Wait for the calls inside to leave a closed gate; tell whether they did in time."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
