"""The background flush: one process of a home moves its outbox into the Delta tables."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any, Final, final

from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureGroupNotFound, FeatureStoreError
from training.jobs.claim import Claim

__all__ = ["Flushing"]

# How often it looks at what waits: one look costs microseconds, or a round trip.
_LOOK_S: Final = 1.0
_log = logging.getLogger(__name__)


@final
class Flushing:
    """Flushes what waits, at intervals, while this process holds the claim of the home.

    Of several processes that serve a home one is elected: who takes the claim first. It goes with
    its holder, however that ends, and the next to look takes it.

    Args:
        store: what is flushed.
        every_s: seconds between two flushes.
        records: it flushes as soon as so many wait, of all groups; None: by time only.
        size_bytes: or so many bytes.
        metrics: counts what was flushed; None: nobody does.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        every_s: float,
        *,
        records: int | None = None,
        size_bytes: int | None = None,
        metrics: Any = None,
    ) -> None:
        self._store = store
        self._every_s = every_s
        self._records = records
        self._size_bytes = size_bytes
        self._failed = False
        self._metrics = metrics
        self._claim: Claim | None = None
        self._stop = asyncio.Event()

    @property
    def is_elected(self) -> bool:
        """Whether this process is the one that flushes."""
        return self._claim is not None

    async def run(self) -> None:
        """Flush until `stop` is called; a table's commit under way is finished then."""
        try:
            while not await self._stopped_before_due():
                try:
                    if self._elect():
                        await asyncio.to_thread(self._flush)
                except Exception:  # noqa: BLE001  # the outermost loop: the outbox must not grow
                    _log.exception("a flush failed; trying again in %g s", self._every_s)
        finally:
            if self._claim is not None:
                self._claim.release()
                self._claim = None

    def stop(self) -> None:
        """Begin no further flush."""
        self._stop.set()

    def _elect(self) -> bool:
        if self._claim is None:
            self._claim = Claim.take(_claim_path(self._store.home))
            if self._claim is not None:
                _log.info("this process flushes the outbox of %s", self._store.home)
        return self._claim is not None

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _stopped_before_due(self) -> bool:
        """Wait until a flush is due, by time or by what waits; whether to stop came first."""
        due = time.monotonic() + self._every_s
        while (left := due - time.monotonic()) > 0:
            if await self._stopped_within(min(left, _LOOK_S)):
                return True
            # Where flushes fail, more of them do not help.
            if not self._failed and await asyncio.to_thread(self._is_much_waiting):
                break
        return self._stop.is_set()

    def _is_much_waiting(self) -> bool:
        outbox = self._store.online.outbox
        try:
            if self._records is not None and outbox.pending() >= self._records:
                return True
            size_bytes = None if self._size_bytes is None else outbox.size_bytes()
        except FeatureStoreError:
            return False  # the flush by time will say what is wrong
        return size_bytes is not None and size_bytes >= (self._size_bytes or 0)

    def _flush(self) -> None:
        self._failed = False
        try:
            groups = (
                self._store.list_feature_groups() if self._store.online.outbox.pending() else []
            )
        except FeatureStoreError as error:
            self._failed = True
            _log.warning("flush: %s; trying again in %g s", error, self._every_s)
            return
        for description in groups:
            if self._stop.is_set():
                return
            self._flush_one(description.group.name)

    def _flush_one(self, name: str) -> None:
        began = time.monotonic()
        try:
            flushed = self._store.flush(name).get(name)
        except FeatureGroupNotFound:
            return  # deleted meanwhile
        except FeatureStoreError as error:
            # What is wrong with one table does not keep the others waiting.
            self._failed = True
            _log.warning("flush of %s: %s; trying again in %g s", name, error, self._every_s)
            if self._metrics is not None:
                self._metrics.flush_failed(name)
            return
        if self._metrics is not None and flushed is not None and flushed.records:
            self._metrics.flushed(name, flushed.records, time.monotonic() - began)


def _claim_path(home: Path) -> Path:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "flusher.lock"
