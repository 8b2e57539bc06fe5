"""Holding back what would flood a log: a few of a kind, then only their count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, final

__all__ = ["Flood"]

_MAX_KEYS: Final = 1_000


@final
class Flood:
    """Lets a few events of a kind through in each stretch of time, and counts the others.

    May be used from many threads.

    Args:
        burst: how many of a kind get through in one stretch.
        window_s: its length, seconds.
        clock: tells seconds.

    >>> flood = Flood(burst=2, window_s=10, clock=lambda: 0)
    >>> [flood.admit("disk full") for _ in range(4)]
    [0, 0, None, None]
    >>> flood.held()
    {'disk full': 2}
    """

    def __init__(
        self,
        *,
        burst: int = 5,
        window_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.window_s = window_s
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        # kind → [when its stretch began, let through in it, held back since the last one told]
        self._kinds: dict[Hashable, list[float]] = {}

    def admit(self, kind: Hashable) -> int | None:
        """Count one event.

        Returns:
            None: hold it back. Else let it through; the number is how many of its kind were held
            back before it and are not told yet.
        """
        now = self._clock()
        with self._lock:
            state = self._kinds.get(kind)
            if state is None:
                if len(self._kinds) >= _MAX_KEYS:
                    self._forget(now)
                self._kinds[kind] = [now, 1, 0]
                return 0
            if now - state[0] >= self.window_s:
                state[0], state[1] = now, 0
            if state[1] >= self._burst:
                state[2] += 1
                return None
            state[1] += 1
            held, state[2] = int(state[2]), 0
            return held

    def held(self) -> dict[Hashable, int]:
        """Return the kinds of which events were held back, with how many, and count them as told.

        Kinds of which nothing happened for a stretch of time are forgotten.
        """
        now = self._clock()
        with self._lock:
            told = {kind: int(state[2]) for kind, state in self._kinds.items() if state[2]}
            for kind in told:
                self._kinds[kind][2] = 0
            self._forget(now)
        return told

    def _forget(self, now: float) -> None:
        for kind, (began, _, held) in list(self._kinds.items()):
            if not held and now - began >= self.window_s:
                del self._kinds[kind]
        # When every kind is a new one, the oldest goes: the bound holds, its count is lost.
        while len(self._kinds) >= _MAX_KEYS:
            del self._kinds[next(iter(self._kinds))]
