"""Which jobs of a home may run: each has a share of a budget, in the order of submission."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from typing import Final, final

from training.jobs.budget import Budget, Demand, Share
from training.jobs.database import JobDatabase

__all__ = ["Admission"]

_SETTLE_S: Final = 1.0


@final
class Admission:
    """Gives the jobs of all kinds their shares.

    Args:
        database: with their rows.
        settle: ends the jobs that nobody runs any more, whose shares are free then.
    """

    def __init__(self, database: JobDatabase, settle: Callable[[], None]) -> None:
        self._database = database
        self._settle = settle
        self._settled = 0.0
        self._machine: Budget | None = None

    def budget(self) -> Budget:
        """Return what the jobs may use at once: as `set_budget` said, else the whole machine."""
        rows = self._database.query("SELECT * FROM training_budget")
        if not rows:
            self._machine = self._machine or Budget.of_machine()
            return self._machine
        (row,) = rows
        return Budget(cores=row["cores"], memory_mb=row["memory_mb"], gpus=row["gpus"])

    def set_budget(self, budget: Budget) -> None:
        """Say what the jobs may use at once; jobs that run keep what they have."""
        with self._database.change() as db:
            db.execute(
                "INSERT OR REPLACE INTO training_budget (only, cores, memory_mb, gpus)"
                " VALUES (1, ?, ?, ?)",
                (budget.cores, budget.memory_mb, budget.gpus),
            )

    def admit(self, key: str) -> Share | None:
        """Give a job its share of the budget, or None while it has to wait.

        Jobs are admitted in the order of their submission, so that none waits for ever. A share is
        free again when its job has ended, however it did: the claim tells.
        """
        if not self._may_be_next(key):
            return None
        self._settle()
        budget = self.budget()
        with self._database.change() as db:
            mine = self._database.row(key)
            running = []
            for row in self._database.active():
                if row["is_admitted"]:
                    running.append(_share(row))
                elif row["number"] < mine["number"]:
                    return None
            if mine["is_admitted"]:
                return _share(mine)
            share = budget.admit(Demand(**json.loads(mine["demand"])), running)
            if share is not None:
                db.execute(
                    "UPDATE training_job SET is_admitted = 1, cores = ?, memory_mb = ?, gpus = ?"
                    " WHERE name = ?",
                    (share.cores, share.memory_mb, json.dumps(share.gpus), key),
                )
            return share

    def cores_in_use(self) -> int:
        """Count the cores of the jobs that were admitted and have not ended."""
        return sum(row["cores"] for row in self._database.active() if row["is_admitted"])

    def _may_be_next(self, key: str) -> bool:
        """Whether no job waits before this one, seen without a lock: many may wait, and often ask.

        Now and then it looks whether those before it are still there.
        """
        before = self._database.query(
            "SELECT 1 FROM training_job WHERE status IN ('InProgress', 'Stopping')"
            " AND is_admitted = 0 AND number < ? LIMIT 1",
            self._database.row(key)["number"],
        )
        if not before:
            return True
        now = time.monotonic()
        if now > self._settled + _SETTLE_S:
            self._settled = now
            self._settle()
        return False


def _share(row: sqlite3.Row) -> Share:
    return Share(
        cores=row["cores"], memory_mb=row["memory_mb"], gpus=tuple(json.loads(row["gpus"]))
    )
