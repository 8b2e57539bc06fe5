"""Standing queries: what comes within reach of an entity is pushed as it is recorded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Final, Self, final

from lineage.change import Change
from lineage.entity import Entity, from_us
from lineage.errors import InvalidQuery
from lineage.filter import Filter
from lineage.log import Event
from lineage.query import Direction, located
from lineage.store import LineageStore, View

_EVENTS_AT_ONCE: Final = 64
# How long an async iterator lets a thread wait: so long may it outlive a cancelled task.
_SLICE_S: Final = 0.2


@final
@dataclass(frozen=True)
class Match:
    """What one event meant to a subscriber.

    Args:
        sequence: of the event: subscribe with `after=sequence` to go on behind it.
        time: when it was recorded.
        actor: who recorded it.
        kind: what happened.
        event_uid: names the event.
        reached: entities that came within reach with it, as they were right after it.
        changed: entities that were within reach already, and of which it says something.
        lost: uids of those that an association which ended had kept within reach.
    """

    sequence: int
    time: datetime
    actor: str
    kind: str
    event_uid: str
    reached: tuple[Entity, ...]
    changed: tuple[Entity, ...]
    lost: tuple[str, ...]


@final
class Subscription:
    """The matches of a standing query, in the order of the log, each once.

    An iterator, and an asynchronous one, that waits for what is recorded, by any process. It
    never holds more than the uids within reach and a few events, however slow its user is: what
    was not asked for yet waits in the log. One thread or task at a time may ask.

    Args:
        store: to follow.
        start: uid or alias.
        direction: as for a query.
        wanted: which entities are pushed; others are only walked.
        through: association types to walk along; empty for all.
        after: sequence of the last event that is known already; None: from now on.

    Raises:
        EntityNotFound: the start does not exist.
        InvalidQuery: `after` is no sequence, or lies behind the end of the log.
    """

    def __init__(
        self,
        store: LineageStore,
        start: str,
        direction: Direction,
        *,
        wanted: Filter,
        through: frozenset[str] = frozenset(),
        after: int | None = None,
    ) -> None:
        if after is not None and (isinstance(after, bool) or after < 0):
            raise InvalidQuery(f"after: expected the sequence of an event, got {after!r}")
        self._store = store
        self._wanted = wanted
        with store.view() as view:
            self._start, _ = located(view, start)
        end = store.head().sequence
        if after is not None and after > end:
            raise InvalidQuery(
                f"after: event {after} is not there, the log ends with event {end}; it is of "
                f"another log, or the log was cut"
            )
        self._read = self._seen = end if after is None else after
        self._reaches = [_Reach(through, *ways) for ways in _WAYS[direction]]
        with store.view(self._read) as view:
            for reach in self._reaches:
                reach.begin(view, self._start)
        self._events: deque[Event] = deque()
        self._next: Match | None = None
        self._asking = threading.Lock()
        self._closed = False

    @property
    def position(self) -> int:
        """Sequence of the last event that was looked at, matching or not: a place to go on from."""
        return self._seen

    @property
    def reach(self) -> int:
        """How many entities are within reach, the start included."""
        return len(set().union(*(reach.uids for reach in self._reaches)))

    def poll(self) -> Match | None:
        """The next match among what is recorded, without waiting; None: there is none now."""
        return self.wait(0)

    def wait(self, timeout_s: float | None = None) -> Match | None:
        """The next match; None when the time is over, or the subscription closed.

        Args:
            timeout_s: longest wait in seconds; None for ever.
        """
        self._fill(timeout_s)
        return self._take()

    def close(self) -> None:
        """End the iteration, also one that waits in another thread; idempotent."""
        self._closed = True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Match:
        match = self.wait()
        if match is None:
            raise StopIteration
        return match

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Match:
        while not self._closed:
            # A task that is cancelled here loses nothing: what the thread finds stays for the next.
            await asyncio.to_thread(self._fill, _SLICE_S)
            match = self._take()
            if match is not None:
                return match
        raise StopAsyncIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self) -> Match | None:
        match, self._next = self._next, None
        if match is not None:
            self._seen = match.sequence
        return match

    def _fill(self, timeout_s: float | None) -> None:
        """Find the next match, and keep it until it is taken."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._asking:
            while not self._closed and self._next is None:
                if self._advance():
                    return
                left = _SLICE_S if until is None else until - time.monotonic()
                if left <= 0:
                    return
                self._store.wait(self._read, min(left, _SLICE_S))

    def _advance(self) -> bool:
        """Look at what is recorded, up to the next match; whether there is one."""
        while self._next is None and not self._closed:
            if not self._events:
                with self._store.log(self._read) as (events, _):
                    self._events.extend(islice(events, _EVENTS_AT_ONCE))
                if not self._events:
                    break
            event = self._events.popleft()
            self._next = self._match(event)
            self._read = event.sequence
            if self._next is None:
                self._seen = event.sequence
        return self._next is not None

    def _match(self, event: Event) -> Match | None:
        change = Change.decode(event.body)
        before: set[str] = set().union(*(reach.uids for reach in self._touched(change)))
        if not before:
            return None
        said = _said(change) & before
        with self._store.view(event.sequence) as view:
            new: set[str] = set()
            gone: set[str] = set()
            for reach in self._reaches:
                reached, lost = reach.follow(change, view, self._start)
                new |= reached
                gone |= lost
            within = set().union(*(reach.uids for reach in self._reaches))
            reached_now = self._matching(view, new - before)
            changed = self._matching(view, (said & within) - new)
        lost_now = tuple(sorted(gone - within))
        if not (reached_now or changed or lost_now):
            return None
        return Match(
            event.sequence,
            from_us(event.time_us),
            event.actor,
            event.kind,
            event.event_uid,
            reached_now,
            changed,
            lost_now,
        )

    def _touched(self, change: Change) -> Iterable[_Reach]:
        touched = change.touched
        if any(not touched.isdisjoint(reach.uids) for reach in self._reaches):
            return self._reaches
        return ()

    def _matching(self, view: View, uids: set[str]) -> tuple[Entity, ...]:
        found = view.by_uid(sorted(uids)).values()
        return tuple(sorted(filter(self._wanted.matches, found), key=lambda entity: entity.uid))


@final
class _Reach:
    """What can be reached from the start, walking one way or both."""

    def __init__(self, through: frozenset[str], upstream: bool, downstream: bool) -> None:
        self.uids: set[str] = set()
        self._through = through
        self._upstream = upstream
        self._downstream = downstream

    def begin(self, view: View, start: str) -> None:
        """Walk from the start."""
        self.uids = {start} | self._walk(view, [start], set())

    def follow(self, change: Change, view: View, start: str) -> tuple[set[str], set[str]]:
        """Take in an event: what it brings within reach, and what it takes out of it.

        Args:
            change: what the event says.
            view: of the graph right after it.
            start: uid.
        """
        if any(
            self._counts(link) and source in self.uids and destination in self.uids
            for source, destination, link in change.retractions
        ):
            before = self.uids
            self.begin(view, start)
            return self.uids - before, before - self.uids
        seeds = []
        for source, destination, link in change.associations:
            if not self._counts(link):
                continue
            if self._downstream and source in self.uids and destination not in self.uids:
                seeds.append(destination)
            if self._upstream and destination in self.uids and source not in self.uids:
                seeds.append(source)
        if not seeds:
            return set(), set()
        new = self._walk(view, seeds, self.uids) | set(seeds)
        self.uids |= new
        return new, set()

    def _counts(self, link: str) -> bool:
        return not self._through or link in self._through

    def _walk(self, view: View, seeds: Iterable[str], known: set[str]) -> set[str]:
        """What is reached from new entities, without walking again what is known."""
        frontier = [node for uid in seeds if (node := view.node(uid)) is not None]
        visited = set(frontier)
        found: set[str] = set()
        ways = [True] * self._upstream + [False] * self._downstream
        while frontier:
            ends: dict[int, None] = {}
            for upstream in ways:
                for source, destination, link in view.neighbours(frontier, upstream=upstream):
                    end = source if upstream else destination
                    if self._counts(link) and end not in visited:
                        ends[end] = None
            nodes = list(ends)
            uids = [entity.uid for entity in view.entities(nodes)]
            visited.update(nodes)
            frontier = [node for node, uid in zip(nodes, uids, strict=True) if uid not in known]
            found.update(uid for uid in uids if uid not in known)
        return found


# Either is two walks, each of which keeps to its way.
_WAYS: Final[dict[Direction, tuple[tuple[bool, bool], ...]]] = {
    Direction.ASCENDANTS: ((True, False),),
    Direction.DESCENDANTS: ((False, True),),
    Direction.BOTH: ((True, True),),
    Direction.EITHER: ((True, False), (False, True)),
}


def _said(change: Change) -> set[str]:
    """The entities that an event says something of, beyond an association."""
    said = {entity.uid for entity in change.entities}
    said.update(str(run.entity) for run in change.runs)
    said.update(uid for uid, _, _ in change.tags)
    said.update(uid for _, uid in change.aliases)
    said.update(str(columns.destination) for columns in change.columns)
    return said
