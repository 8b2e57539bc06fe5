"""Provisioned throughput: how much of a group may be read and written a second.

A unit is 4 KiB read or 1 KiB written in a second; each record counts at least one. A group may use
what it saved up within the last second at once. Whoever overdraws it is answered, and the next
callers wait until the debt is paid: a record's size is known only when it has been read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, final

from featurestore.errors import Throttled
from featurestore.registry import Registered

__all__ = ["Limiter"]

READ_UNIT_BYTES: Final = 4096
WRITE_UNIT_BYTES: Final = 1024


@final
class Limiter:
    """Holds the callers of one process to the groups' throughput.

    Args:
        share: the part of each group's units that belongs to this process, where several serve.
        clock: seconds, never set back.
        on_throttled: told the group of each call that is refused.
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        on_throttled: Callable[[str], None] | None = None,
    ) -> None:
        self._share = share
        self._clock = clock
        self._on_throttled = on_throttled
        self._lock = threading.Lock()
        self._buckets: dict[tuple[int, bool], _Bucket] = {}

    def admit_read(self, entry: Registered) -> None:
        """Let one read begin.

        Raises:
            Throttled: the group's read units are used up.
        """
        if entry.group.throughput.read_units is not None:
            self._admit(entry, entry.group.throughput.read_units, is_write=False)

    def admit_write(self, entry: Registered) -> None:
        """Let one write begin.

        Raises:
            Throttled: the group's write units are used up.
        """
        if entry.group.throughput.write_units is not None:
            self._admit(entry, entry.group.throughput.write_units, is_write=True)

    def charge_read(self, entry: Registered, size: int, *, charged: int = 0) -> None:
        """Count one record of `size` bytes as read; 0: there was none.

        Args:
            entry: its group.
            size: of the record.
            charged: so many units of it were counted before, when its size was not known.
        """
        if entry.group.throughput.read_units is not None:
            units = max(1, -(-size // READ_UNIT_BYTES)) - charged
            self._charge(entry, units, is_write=False)

    def charge_write(self, entry: Registered, size: int) -> None:
        """Count one record of `size` bytes as written."""
        if entry.group.throughput.write_units is not None:
            self._charge(entry, max(1, -(-size // WRITE_UNIT_BYTES)), is_write=True)

    def _admit(self, entry: Registered, units: int, *, is_write: bool) -> None:
        with self._lock:
            bucket = self._bucket(entry, units, is_write)
            if bucket.units > 0:
                return
            wait_s = None if bucket.rate == 0 else (1 - bucket.units) / bucket.rate
        if self._on_throttled is not None:
            self._on_throttled(entry.group.name)
        raise _throttled(entry.group.name, units, "write" if is_write else "read", wait_s)

    def _charge(self, entry: Registered, units: int, *, is_write: bool) -> None:
        with self._lock:
            bucket = self._buckets.get((entry.number, is_write))
            if bucket is not None:
                bucket.units -= units

    def _bucket(self, entry: Registered, units: int, is_write: bool) -> _Bucket:
        rate = units * self._share
        now = self._clock()
        key = (entry.number, is_write)
        bucket = self._buckets.get(key)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[key] = _Bucket(rate, now)
        bucket.units = min(rate, bucket.units + (now - bucket.at) * rate)
        bucket.at = now
        return bucket


def _throttled(group: str, units: int, kind: str, wait_s: float | None) -> Throttled:
    if wait_s is None:
        return Throttled(
            f"{group}: the group has 0 {kind} units a second; nothing was done: raise its "
            f"throughput",
            group=group,
        )
    return Throttled(
        f"{group}: the group's {units} {kind} units a second are used up; nothing was done: try "
        f"again in {wait_s:.3f} s, or raise its throughput",
        group=group,
        retry_after_s=round(wait_s, 3),
    )


@final
class _Bucket:
    __slots__ = ("at", "rate", "units")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.units = rate
        self.at = now
