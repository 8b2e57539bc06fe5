"""Reads of a store that waits for others: in threads of their own, and in shared round trips."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Generic, TypeVar, final

from featurestore.errors import FeatureStoreError, Overloaded
from featurestore.server.gate import shutting_down
from featurestore.server.limits import DEFAULT_LIMITS, Limits
from featurestore.server.runtime import Call

__all__ = ["ReadPool"]

C = TypeVar("C", bound=Hashable)

# So many round trips may be under way: the next need not wait for one, and still they share.
THREADS: Final = 4
# Their replies are in memory together.
_MAX_GETS: Final = 512
_RETRY_S: Final = 0.1


@final
class ReadPool(Generic[C]):
    """Natural batching of reads: the next thread that is free takes all gets that wait.

    For a store whose `reads_block`. Used by a front from any thread. What waits is bounded, in
    number and in bytes. Reads that ask for many records go alone, since their replies may be large.

    Args:
        answer: answers a batch, in a thread of the pool; it raises nothing.
        limits: how much may wait.
        metrics: counts what is shed; None: nobody counts.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[tuple[C, Call]]], None],
        *,
        limits: Limits = DEFAULT_LIMITS,
        metrics: Any = None,
    ) -> None:
        self._answer = answer
        self._limits = limits
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: dict[C, tuple[Call, int]] = {}
        self._bytes = 0
        self._running = 0
        self._ending = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reads")

    def submit(self, caller: C, call: Call, *, size: int) -> FeatureStoreError | None:
        """Take a read, or return why not.

        Args:
            caller: whom to answer; no other waiting read has the same.
            call: the read.
            size: of its request, in bytes.
        """
        with self._lock:
            if self._ending:
                return shutting_down()
            full = self._bytes + size > self._limits.waiting_bytes
            if self._waiting and (full or len(self._waiting) >= self._limits.waiting):
                return self._refusal()
            self._waiting[caller] = (call, size)
            self._bytes += size
            if self._running < THREADS:
                self._running += 1
                self._threads.submit(self._run)
        return None

    def forget(self, caller: C) -> None:
        """Drop the read of a caller that went away; one that is being answered is not here."""
        with self._lock:
            gone = self._waiting.pop(caller, None)
            if gone is not None:
                self._bytes -= gone[1]

    def close(self) -> None:
        """Answer what waits, and take no more."""
        with self._lock:
            self._ending = True
        self._threads.shutdown(wait=True)

    def _run(self) -> None:
        while batch := self._take():
            self._answer(batch)

    def _take(self) -> list[tuple[C, Call]]:
        with self._lock:
            batch: list[tuple[C, Call]] = []
            for caller, (call, _) in self._waiting.items():
                is_get = call.method == "GetRecord"
                if batch and not is_get:
                    break
                batch.append((caller, call))
                if not is_get or len(batch) == _MAX_GETS:
                    break
            for caller, _ in batch:
                self._bytes -= self._waiting.pop(caller)[1]
            if not batch:
                self._running -= 1
            return batch

    def _refusal(self) -> Overloaded:
        if self._metrics is not None:
            self._metrics.shed("full")
        return Overloaded(
            f"the server has {len(self._waiting)} reads waiting for its store, as many as it "
            f"takes; try again in {_RETRY_S:g} s",
            retry_after_s=_RETRY_S,
        )
