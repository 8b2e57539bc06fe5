"""Back-pressure: writes for the offline store are refused when too much waits for it already."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from featurestore.errors import FeatureStoreError, Overloaded
from featurestore.online.base import Batch, OnlineStore, Outcome
from featurestore.online.columns import PutColumns

__all__ = ["OutboxBound", "OutboxLimit"]

# Between two looks at the outbox; so long other processes may fill it beyond its limit unseen.
_LOOK_S: Final = 0.2
_RETRY_S: Final = 1.0


@final
@dataclass(frozen=True, slots=True)
class OutboxLimit:
    """How much may wait for the offline store; None: any amount.

    Args:
        records: of all groups together.
        size_bytes: of them; where the engine does not know, it is not looked at.
    """

    records: int | None = None
    size_bytes: int | None = None


@final
class OutboxBound:
    """Puts batches into an online store while its outbox is within a limit.

    When the offline store is away the outbox grows, until the flush succeeds again. Beyond the
    limit batches that would add to it are refused whole, and nothing of them is written; batches
    for the online store alone pass. What was acknowledged waits on, however long.

    What this process puts between two looks is counted, so that the last batch that is admitted is
    the one that reaches the limit; what other processes put is seen at the next look.

    Args:
        store: the online store.
        limit: how much may wait.
        clock: tells seconds.
    """

    def __init__(
        self,
        store: OnlineStore,
        limit: OutboxLimit = OutboxLimit(),  # frozen
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._room: float = math.inf
        self._refusal: str | None = None

    @property
    def limit(self) -> OutboxLimit:
        """How much may wait; it may be set."""
        return self._limit

    @limit.setter
    def limit(self, limit: OutboxLimit) -> None:
        with self._lock:
            self._limit = limit
            self._look_at = 0.0

    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """See OnlineStore.put; Overloaded stands in the place of a batch that was refused."""
        limit = self._limit
        if limit.records is None and limit.size_bytes is None:
            return self._store.put(batches)
        reason = self._reason(limit)
        if reason is None:
            answers = self._store.put(batches)
            with self._lock:
                self._room -= sum(len(batch.writes) for batch in batches if _goes_offline(batch))
            return answers
        admitted = [batch for batch in batches if not _goes_offline(batch)]
        passed = iter(self._store.put(admitted) if admitted else ())
        return [
            Overloaded(reason, retry_after_s=_RETRY_S) if _goes_offline(batch) else next(passed)
            for batch in batches
        ]

    def _reason(self, limit: OutboxLimit) -> str | None:
        with self._lock:
            now = self._clock()
            if now >= self._look_at or (self._refusal is None and self._room <= 0):
                self._refusal = self._look(limit)
                self._look_at = now + _LOOK_S
            return self._refusal

    def _look(self, limit: OutboxLimit) -> str | None:
        outbox = self._store.outbox
        self._room = math.inf
        if limit.records is not None:
            records = outbox.pending()
            self._room = limit.records - records
            if records >= limit.records:
                return _reason(f"{records:,} records", f"{limit.records:,}")
        if limit.size_bytes is not None:
            size_bytes = outbox.size_bytes()
            if size_bytes is not None and size_bytes >= limit.size_bytes:
                return _reason(f"{size_bytes:,} bytes", f"{limit.size_bytes:,}")
        return None


def _reason(waiting: str, limit: str) -> str:
    return (
        f"{waiting} wait for the offline store, expected fewer than {limit}; nothing was done: "
        f"try again in {_RETRY_S:g} s, and see whether the offline store can be reached"
    )


def _goes_offline(batch: Batch) -> bool:
    writes = batch.writes
    if isinstance(writes, PutColumns):
        return writes.offline and len(writes) > 0
    return any(write.offline for write in writes)
