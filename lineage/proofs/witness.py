"""The log compared with checkpoints while it is read for its chain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import final

from lineage.change import noted_checkpoint
from lineage.log import Event, Head, LogReport
from lineage.proofs.checkpoint import EVERY, Checkpoint
from lineage.proofs.merkle import Frontier

_KEPT_ELSEWHERE = "that was kept elsewhere"
_OF_STORE = "of the store"
_AUTOMATIC = "a store makes one at every so many events"


@final
class Watch:
    """Recomputes the roots of checkpoints from the events that pass by.

    Args:
        stored: the checkpoints that the store itself keeps.
        elsewhere: those that were kept elsewhere.
    """

    def __init__(self, stored: Sequence[Checkpoint], elsewhere: Sequence[Checkpoint]) -> None:
        self._stored = stored
        self._awaited: dict[int, list[tuple[Checkpoint, str]]] = {}
        for several, whose in ((elsewhere, _KEPT_ELSEWHERE), (stored, _OF_STORE)):
            for one in several:
                self._awaited.setdefault(one.sequence, []).append((one, whose))
        self._last = max(self._awaited, default=0)
        self._fits = 0
        self._met = 0
        self._at = 0
        self._found: tuple[int, str] | None = None
        # Checkpoints that later events tell of: sequence, and that of the event.
        self._noted: dict[int, int] = {}

    def over(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events, looked at one by one."""
        tree = Frontier()
        for event in events:
            yield event
            if isinstance(event.body, bytes) and (noted := noted_checkpoint(event.body)):
                self._noted.setdefault(noted[0], event.sequence)
            # Behind the last checkpoint, or once something is wrong, there is nothing to add.
            if self._found is None and event.sequence == tree.size + 1 <= self._last:
                tree.append(event.hash)
                self._compare(event, tree)

    def report(self, chain: LogReport, head: Head) -> LogReport:
        """What the chain and the checkpoints say together: what comes first in the log."""
        found = self._found or self._missing(head)
        # Where both find something in one stretch, the chain names the very event.
        if found is None or (not chain.intact and (chain.first_altered or 0) <= self._at):
            return replace(chain, checkpoints=self._met)
        return LogReport(False, chain.events, *found, checkpoints=self._met)

    def _compare(self, event: Event, tree: Frontier) -> None:
        for one, whose in self._awaited.get(event.sequence, ()):
            self._met, self._at = self._met + 1, one.sequence
            if one.root == tree.root and one.head == event.hash:
                if whose == _OF_STORE and one.frontier != tree.packed:
                    self._found = event.sequence, _altered(one, "the hashes of its subtrees")
                    return
                continue
            if whose == _OF_STORE and Frontier(one.sequence, one.frontier).root != one.root:
                self._found = event.sequence, _altered(one, "its root")
            elif one.root == tree.root:
                self._found = event.sequence, _altered(one, "the hash of its event")
            else:
                first = self._fits + 1
                is_one = first == one.sequence
                which = f"event {first}" if is_one else f"one of {first} to {one.sequence}"
                self._found = (
                    first,
                    f"the log up to event {one.sequence} is not the one of checkpoint "
                    f"{one.sequence} {whose}: {which} was altered, added or removed, or the "
                    f"checkpoint is of another log",
                )
            return
        if event.sequence in self._awaited:
            self._fits = event.sequence

    def _missing(self, head: Head) -> tuple[int, str] | None:
        """A checkpoint, or the part of the log that one tells of, which is not there."""
        self._at = head.sequence + 1
        if self._last > head.sequence:
            whose = self._awaited[self._last][0][1]
            return (
                head.sequence + 1,
                f"event {head.sequence + 1} is missing: the log ends too early for checkpoint "
                f"{self._last} {whose}",
            )
        own = {one.sequence for one in self._stored}
        expected = dict.fromkeys(range(EVERY, head.sequence + 1, EVERY), _AUTOMATIC)
        expected |= {at: f"event {by} tells of it" for at, by in self._noted.items()}
        for sequence in sorted(expected):
            if sequence not in own:
                return (
                    sequence,
                    f"checkpoint {sequence} is missing from the store: {expected[sequence]}",
                )
        return None


def _altered(one: Checkpoint, what: str) -> str:
    return f"checkpoint {one.sequence} of the store was altered: {what} does not match"
