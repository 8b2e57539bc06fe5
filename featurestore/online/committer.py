"""Group commit: all puts that arrived during the last commit go into the next transaction."""

from __future__ import annotations

import threading
from typing import final

from featurestore.errors import FeatureStoreError
from featurestore.online.base import Batch, OnlineStore, Outcome
from featurestore.online.bound import OutboxBound

__all__ = ["Committer"]


@final
class Committer:
    """Merge the batches of many threads into few transactions.

    Whoever gets the commit lock first commits everything that waits; the others find their
    outcome ready. One caller alone pays one fsync and no hand-over to another thread.
    """

    def __init__(self, store: OnlineStore | OutboxBound) -> None:
        self._store = store
        self._waiting: list[_Slot] = []
        self._queue = threading.Lock()
        self._commit = threading.Lock()

    def put(self, batch: Batch) -> list[Outcome]:
        """Store one batch; durable when it returns.

        Raises:
            PositionConflict: the batch does not start at its source's stored position.
            Overloaded: too much waits for the offline store; nothing was written.
            StoreFull: nothing was written.
        """
        slot = _Slot(batch)
        with self._queue:
            self._waiting.append(slot)
        with self._commit:
            if slot.answer is None:
                self._commit_waiting()
        if isinstance(slot.answer, BaseException):
            # A fresh traceback for each caller: several may share the error of one transaction.
            raise slot.answer.with_traceback(None)
        assert slot.answer is not None
        return slot.answer

    def _commit_waiting(self) -> None:
        with self._queue:
            slots, self._waiting = self._waiting, []
        try:
            answers = self._store.put([slot.batch for slot in slots])
        except BaseException as error:  # also KeyboardInterrupt: the others must not hang
            for slot in slots:
                slot.answer = error
            raise
        for slot, answer in zip(slots, answers, strict=True):
            slot.answer = answer


@final
class _Slot:
    __slots__ = ("answer", "batch")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.answer: list[Outcome] | FeatureStoreError | BaseException | None = None
