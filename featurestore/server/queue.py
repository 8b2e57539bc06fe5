"""The writes that wait for the next transaction: bounded, and aware of their callers' deadlines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, final

from featurestore.errors import Overloaded
from featurestore.server.limits import Limits
from featurestore.server.runtime import Call

__all__ = ["Pace", "Waiting", "WriteQueue"]

C = TypeVar("C", bound=Hashable)

# What a call costs beside its bytes, in bytes.
_CALL_WEIGHT: Final = 256
_MIN_RETRY_S: Final = 0.05
_ALIKE: Final = 0.05  # of the mean


@final
@dataclass(slots=True)
class Waiting(Generic[C]):
    """A write that waits.

    Args:
        caller: whom to answer.
        call: what is asked.
        weight: of the call, in bytes.
        deadline: when its caller stops waiting, on the queue's clock; None: never.
        entered: when it came.
    """

    caller: C
    call: Call
    weight: int
    deadline: float | None
    entered: float


@final
class WriteQueue(Generic[C]):
    """First in, first out, in transactions; each front has one and guards it in its own way.

    A write is refused at once when the queue is full, or when its caller will have stopped
    waiting before the reply. One whose deadline passes here, or whose caller goes away, is dropped:
    it is never stored later, unseen.

    Args:
        limits: how much may wait, and how much goes into one transaction.
        metrics: counts what is shed; None: nobody counts.
        clock: tells seconds.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        metrics: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[C, Waiting[C]] = {}
        self._weight = 0
        self._pace = Pace()
        self._under_way = 0
        self._began = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self, caller: C, call: Call, *, size: int, remaining_s: float | None = None
    ) -> Overloaded | None:
        """Take a write, or return why not.

        Args:
            caller: whom to answer; no other waiting write has the same.
            call: the write.
            size: of its request, in bytes.
            remaining_s: until its caller stops waiting; None: it waits for ever.
        """
        weight = size + _CALL_WEIGHT
        count = len(self._waiting)
        if count and (
            count >= self._limits.waiting or self._weight + weight > self._limits.waiting_bytes
        ):
            return self._refusal("full")
        # An idle server always tries: a guess that is too long would be believed for ever.
        is_idle = not count and not self._under_way
        if not is_idle and remaining_s is not None and remaining_s < self.expected_s(weight):
            return self._refusal("deadline")
        now = self._clock()
        deadline = None if remaining_s is None else now + remaining_s
        self._waiting[caller] = Waiting(caller, call, weight, deadline, now)
        self._weight += weight
        return None

    def forget(self, caller: C) -> None:
        """Drop the write of a caller that went away; one whose transaction began is not here."""
        gone = self._waiting.pop(caller, None)
        if gone is not None:
            self._weight -= gone.weight
            self._shed("gone")

    def take(self) -> tuple[list[Waiting[C]], list[Waiting[C]]]:
        """Return the writes of the next transaction, and those that are too late to be stored."""
        now = self._began = self._clock()
        batch: list[Waiting[C]] = []
        late: list[Waiting[C]] = []
        weight = 0
        for waiting in self._waiting.values():
            if waiting.deadline is not None and waiting.deadline <= now:
                late.append(waiting)
                continue
            full = weight + waiting.weight > self._limits.batch_bytes
            if batch and (full or len(batch) >= self._limits.batch):
                break
            batch.append(waiting)
            weight += waiting.weight
        for waiting in (*batch, *late):
            del self._waiting[waiting.caller]
            self._weight -= waiting.weight
        for _ in late:
            self._shed("deadline")
        self._under_way = weight
        if self._metrics is not None:
            self._metrics.queue(len(self._waiting))
        return batch, late

    def committed(self, writes: int) -> None:
        """Tell that the transaction of the last `take` has ended."""
        seconds = self._clock() - self._began
        if self._under_way:
            self._pace.add(self._under_way, seconds)
        self._under_way = 0
        if self._metrics is not None and writes:
            self._metrics.batch("write", writes)
            self._metrics.commit(seconds, writes)

    def expected_s(self, weight: int = 0) -> float:
        """Return about how long a write of this weight would wait for its reply, seconds.

        What is left of the transaction under way, and the time of those that all that waits needs.
        """
        total = self._weight + weight
        transactions = max(
            math.ceil((len(self._waiting) + 1) / self._limits.batch),
            math.ceil(total / self._limits.batch_bytes),
        )
        rest = 0.0
        if self._under_way:
            rest = max(0.0, self._pace.seconds(self._under_way) - (self._clock() - self._began))
        return rest + self._pace.seconds(total, transactions)

    def _refusal(self, reason: str) -> Overloaded:
        self._shed(reason)
        wait_s = round(max(_MIN_RETRY_S, self.expected_s()), 3)
        why = "as many as it takes" if reason == "full" else "more than the deadline allows for"
        return Overloaded(
            f"the server has {len(self._waiting)} writes waiting, {why}; nothing was written: try "
            f"again in {wait_s:g} s",
            retry_after_s=wait_s,
        )

    def _shed(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.shed(reason)


@final
class Pace:
    """How long transactions take: a fixed part and one by weight, learned from the latest.

    Least squares with exponentially fading weights. It errs towards short: what was never seen
    costs nothing, since a write that is late after all is dropped then.

    >>> pace = Pace()
    >>> for weight in (100, 300, 200, 400):
    ...     pace.add(weight, 0.010 + weight * 0.0001)
    >>> round(pace.seconds(1000), 6), round(pace.seconds(1000, 3), 6)
    (0.11, 0.13)
    """

    FADING: Final = 0.2

    def __init__(self) -> None:
        self._seen = False
        self._weight = self._seconds = 0.0
        self._variance = self._covariance = 0.0

    def add(self, weight: float, seconds: float) -> None:
        """Learn from one transaction."""
        if not self._seen:
            self._seen, self._weight, self._seconds = True, weight, seconds
            return
        keep, off, late = 1 - self.FADING, weight - self._weight, seconds - self._seconds
        self._weight += self.FADING * off
        self._seconds += self.FADING * late
        self._variance = keep * (self._variance + self.FADING * off * off)
        self._covariance = keep * (self._covariance + self.FADING * off * late)

    def seconds(self, weight: float, transactions: int = 1) -> float:
        """Return what so much weight in so many transactions should take."""
        slope = 0.0
        # Of weights that are all alike nothing is learned: after thousands of them the sums hold
        # noise alone. And no part of a transaction's time costs less than nothing.
        if self._variance > (_ALIKE * self._weight) ** 2:
            most = self._seconds / self._weight if self._weight else 0.0
            slope = min(max(0.0, self._covariance / self._variance), most)
        fixed = max(0.0, self._seconds - slope * self._weight)
        return transactions * fixed + slope * weight
