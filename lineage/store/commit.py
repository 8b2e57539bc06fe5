"""Group commit: what waits while one transaction commits, and comes while the next is written."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, final

from lineage.errors import LineageError, StoreUnavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Bounds how long the file stays locked for the writers of other processes.
_LARGEST_GROUP = 256
# How long a leader waits for the threads of the group before, in all and at a time.
_PATIENCE_S = 0.001
_PAUSE_S = 0.0001


@final
class GroupCommit(Generic[Item, Outcome]):
    """Lets the threads of a process share transactions, and so the wait for the disk.

    There is no thread of its own: a thread that finds no leader leads, commits
    what waits, hands each thread its outcome, and the lead to one that came meanwhile.

    Args:
        commit: writes the items in order in one durable transaction, and returns for
            each its outcome, or the error for which that one item was refused. The items
            come one by one, for one pass: the last arrive while the first are written. An
            error that it raises goes to every thread of the group.
    """

    def __init__(self, commit: Callable[[Iterator[Item]], Sequence[Outcome | LineageError]]):
        self._commit = commit
        self._changing = threading.Lock()
        self._waiting: deque[_Ticket[Item, Outcome]] = deque()
        self._has_leader = False
        self._last_size = 1
        _GROUPS.add(self)

    def submit(self, item: Item) -> Outcome:
        """Commit `item` together with what else waits; durable on return."""
        ticket: _Ticket[Item, Outcome] = _Ticket(item)
        with self._changing:
            self._waiting.append(ticket)
            ticket.leads = not self._has_leader
            self._has_leader = True
            waits = not ticket.leads
        if waits:
            self._await(ticket)
        if ticket.leads:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.outcomes[0]

    def after_fork_in_child(self) -> None:
        """Start anew: the threads that lead or wait are not in the child."""
        self._changing = threading.Lock()
        self._waiting = deque()
        self._has_leader = False

    def _await(self, ticket: _Ticket[Item, Outcome]) -> None:
        """Wait until the outcome is there, or the lead."""
        try:
            ticket.woken.acquire()
        except BaseException:  # interrupted: leave the queue, and do not take the lead along
            with self._changing:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                if ticket.leads:
                    self._pass_on()
            raise

    def _lead(self, own: _Ticket[Item, Outcome]) -> None:
        group: list[_Ticket[Item, Outcome]] = []
        try:
            outcomes = self._commit(self._arriving(group))
            self._last_size = len(group)
            for ticket, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, LineageError):
                    ticket.error = outcome
                else:
                    ticket.outcomes.append(outcome)
        except LineageError as error:
            with self._changing:
                if not group:  # it could not even begin: all that wait would meet the same
                    group.extend(self._waiting)
                    self._waiting.clear()
            for ticket in group:
                ticket.error = error
        finally:
            # What stops the leader (an interrupt, a bug) must not leave the others waiting.
            with self._changing:
                if own in self._waiting:
                    self._waiting.remove(own)
                self._pass_on()
            for ticket in group:
                if not ticket.outcomes and ticket.error is None:
                    ticket.error = StoreUnavailable(
                        "the commit was interrupted, and may or may not have happened; record "
                        "again with the same event_uid"
                    )
                if ticket is not own:
                    ticket.woken.release()

    def _arriving(self, group: list[_Ticket[Item, Outcome]]) -> Iterator[Item]:
        """What waits, and a moment later the threads of the last group: they are likely to come.

        Without the moment half of them miss each group, by less than a commit costs.
        """
        waited_s = 0.0
        while len(group) < _LARGEST_GROUP:
            with self._changing:
                ticket = self._waiting.popleft() if self._waiting else None
                if ticket is not None:
                    group.append(ticket)
            if ticket is not None:
                yield ticket.item
            elif len(group) < self._last_size and waited_s < _PATIENCE_S:
                began = time.monotonic()
                time.sleep(_PAUSE_S)
                waited_s += time.monotonic() - began
            else:
                return

    def _pass_on(self) -> None:
        """Give the lead to the thread that waits longest, if any."""
        self._has_leader = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].woken.release()


@final
class _Ticket(Generic[Item, Outcome]):
    """One thread's place in the queue."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.leads = False
        self.error: LineageError | None = None
        self.outcomes: list[Outcome] = []
        self.woken = threading.Lock()
        self.woken.acquire()


_GROUPS: weakref.WeakSet[GroupCommit[Any, Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for group in list(_GROUPS):
        group.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
