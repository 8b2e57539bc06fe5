"""Replies that are not read yet: a client that asks and does not read must not fill the memory."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from featurestore.errors import Overloaded

__all__ = ["LARGE_BYTES", "Held", "HeldByLibrary"]

# Smaller replies are bounded by the number of calls on a connection.
LARGE_BYTES: Final = 64 << 10
_RETRY_S: Final = 0.1
# The end of a call that came before its answer is told soon after it, or not at all.
_REMEMBERED: Final = 4096


@final
class Held:
    """Counts the large replies under way, on one event loop.

    Args:
        limit: bytes of them, together; one larger reply goes alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0

    def admit(self, size: int, context: Any) -> None:
        """Let a reply be sent, and count it until its call ends.

        Raises:
            Overloaded: too much is unread.
        """
        if size <= LARGE_BYTES:
            return
        if self._bytes and self._bytes + size > self._limit:
            raise _unread(self._bytes)
        self._bytes += size

        def release(_: Any) -> None:
            self._bytes -= size

        context.add_done_callback(release)


@final
class HeldByLibrary:
    """The same for the native library, which sends by itself and counts the calls that ended.

    It counts by classes of size, so what is under way is known by the class: as many replies as
    were answered and have not ended, of the class's mean size. May be used from many threads.

    Args:
        limit: bytes of large replies, together; one larger reply goes alone.
        counts: the library's `metrics`.
    """

    def __init__(self, limit: int, counts: Callable[[], Mapping[str, Any]]) -> None:
        self._limit = limit
        self._counts = counts
        self._bounds: Sequence[int] = counts()["size_bounds"]
        self._first = bisect_left(self._bounds, LARGE_BYTES) + 1
        self._answered = [0] * (len(self._bounds) + 1)
        self._sizes = [0] * (len(self._bounds) + 1)
        self._into_the_void = [0] * (len(self._bounds) + 1)
        self._last: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, call_id: int, size: int) -> Overloaded | None:
        """Count a reply that is about to be sent, or return why it must not be."""
        if size <= LARGE_BYTES:
            return None
        with self._lock:
            unread = self._unread()
            if unread and unread + size > self._limit:
                return _unread(unread)
            place = bisect_left(self._bounds, size)
            self._answered[place] += 1
            self._sizes[place] += size
            self._last[call_id] = place
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        return None

    def gone(self, call_id: int) -> None:
        """Take back a reply whose caller had gone before it: the library never counts it."""
        with self._lock:
            place = self._last.pop(call_id, None)
            if place is not None:
                self._into_the_void[place] += 1

    def _unread(self) -> int:
        ended = [0] * len(self._answered)
        for method in self._counts()["methods"].values():
            for status in method["status"].values():
                for place, count in enumerate(status["sent"]["buckets"]):
                    ended[place] += count
        return sum(
            max(0, self._answered[place] - self._into_the_void[place] - ended[place])
            * (self._sizes[place] // self._answered[place])
            for place in range(self._first, len(ended))
            if self._answered[place]
        )


def _unread(size: int) -> Overloaded:
    return Overloaded(
        f"the server holds {size >> 20} MiB of replies that its clients have not read yet; read "
        f"them, or ask for fewer records at a time",
        retry_after_s=_RETRY_S,
    )
