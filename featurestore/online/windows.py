"""Windowed features in an online store: kept in the transaction of the records they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, final

from featurestore.convert import decode_record
from featurestore.errors import StoreUnavailable
from featurestore.feature import Value
from featurestore.online.base import Outcome, Write
from featurestore.online.columns import PutColumns
from featurestore.window import tile
from featurestore.window.tile import Event, Space, TiledWindows, Tiles

__all__ = ["SpaceWindows", "WindowStore", "by_source", "erase_events", "note_writes"]

_SLICE: Final = 10_000


class WindowStore(ABC):
    """Keeps the windowed groups of an online store."""

    @abstractmethod
    def define(self, windows: TiledWindows) -> None:
        """Keep a windowed group from now on: every later write to its source is an event."""

    @abstractmethod
    def drop(self, number: int) -> None:
        """Keep a windowed group no longer and delete what is kept of it."""

    @abstractmethod
    def fill(self, number: int, events: Iterable[Event], *, newest: int) -> None:
        """Take in events that were written before.

        Args:
            number: of the windowed group.
            events: to take in, some thousands at most.
            newest: stored versions whose sequence is higher stay; -1: all stay.
        """

    @abstractmethod
    def read(self, number: int, keys: Sequence[bytes], at_us: int) -> list[dict[str, Value]]:
        """Return the windowed features of each key as of a time; null ones are absent."""

    @abstractmethod
    def erase(self, source: int, identifier: bytes) -> int:
        """Delete the events of one record identifier of a source; return how many there were."""

    @abstractmethod
    def sweep(self, now: int) -> int:
        """Delete what no window reaches any more at a time, µs; return how many keys went."""

    @abstractmethod
    def definitions(self) -> list[TiledWindows]:
        """Return the windowed groups that are kept."""


@final
class SpaceWindows(WindowStore):
    """A window store in the key space of an engine.

    Args:
        space: opens a transaction; True: one that writes.
        changed: called within the transaction that changes the definitions.
    """

    def __init__(
        self,
        space: Callable[[bool], AbstractContextManager[Space]],
        changed: Callable[[Space], None] = lambda space: None,
    ) -> None:
        self._space = space
        self._changed = changed

    def define(self, windows: TiledWindows) -> None:
        """See WindowStore.define."""
        with self._space(True) as space:
            tile.define(space, windows)
            self._changed(space)

    def drop(self, number: int) -> None:
        """See WindowStore.drop."""
        with self._space(True) as space:
            tile.undefine(space, number)
            self._changed(space)
        # In slices: one transaction over millions of keys would hold writers up.
        removed = _SLICE
        while removed == _SLICE:
            with self._space(True) as space:
                removed = tile.drop(space, number, limit=_SLICE)

    def fill(self, number: int, events: Iterable[Event], *, newest: int) -> None:
        """See WindowStore.fill."""
        with self._space(True) as space:
            found = tile.definition(space, number)
            if found is not None:  # deleted meanwhile
                Tiles(space, found).add(events, newest=newest)

    def read(self, number: int, keys: Sequence[bytes], at_us: int) -> list[dict[str, Value]]:
        """See WindowStore.read."""
        with self._space(False) as space:
            found = tile.definition(space, number)
            if found is None:
                raise StoreUnavailable(
                    "the online store keeps no events of this windowed group; fill it from the "
                    "offline store (`featureline window fill NAME`)"
                )
            tiles = Tiles(space, found)
            return [tiles.read(key, at_us) for key in keys]

    def erase(self, source: int, identifier: bytes) -> int:
        """See WindowStore.erase."""
        with self._space(True) as space:
            return erase_events(space, source, identifier)

    def sweep(self, now: int) -> int:
        """See WindowStore.sweep."""
        removed = 0
        for windows in self.definitions():
            before = now - windows.windows.group.kept_us
            after: bytes | None = None
            while True:
                with self._space(True) as space:
                    swept, after = Tiles(space, windows).sweep(before, after=after, limit=_SLICE)
                removed += swept
                if after is None:
                    break
        return removed

    def definitions(self) -> list[TiledWindows]:
        """See WindowStore.definitions."""
        with self._space(False) as space:
            return tile.definitions(space)


def by_source(space: Space) -> dict[int, list[TiledWindows]]:
    """Return the windowed groups by the number of the group they are made of."""
    found: dict[int, list[TiledWindows]] = {}
    for windows in tile.definitions(space):
        found.setdefault(windows.source, []).append(windows)
    return found


def erase_events(space: Space, source: int, identifier: bytes) -> int:
    """Delete the events of one record identifier of a source; return how many there were."""
    return sum(
        Tiles(space, windows).remove_identifier(identifier)
        for windows in tile.definitions(space)
        if windows.source == source
    )


def note_writes(
    space: Space,
    known: Mapping[int, Sequence[TiledWindows]],
    batches: Sequence[Sequence[Write]],
    outcomes: Sequence[Sequence[Outcome]],
    sequence: int,
) -> None:
    """Make events of what was just put, in the transaction that put it.

    A write is an event when it goes to the offline store and is no delete: what a dataset sees.

    Args:
        space: of the transaction.
        known: the windowed groups by their source's number.
        batches: the writes.
        outcomes: of each write.
        sequence: the store's running number before them.
    """
    events: dict[int, list[Event]] = {}
    names = {
        source: tuple({name for windows in groups for name in windows.windows.columns})
        for source, groups in known.items()
    }
    for batch, settled in zip(batches, outcomes, strict=True):
        if isinstance(batch, PutColumns) and batch.group not in known:
            sequence += len(batch) - settled.count(Outcome.ERASED)
            continue
        for write, outcome in zip(batch, settled, strict=True):
            if outcome >= Outcome.REFUSED:
                continue
            sequence += 1
            groups = known.get(write.group)
            if groups is None or write.flags or not write.offline:
                continue
            record = None
            for windows in groups:
                if write.event_time_us <= write.invocation_us - windows.windows.group.kept_us:
                    continue  # no window reaches so far back
                record = record or decode_record(write.record, names[write.group])
                events.setdefault(windows.number, []).append(
                    windows.event(record, write.event_time_us, sequence)
                )
    for groups in known.values():
        for windows in groups:
            if windows.number in events:
                Tiles(space, windows).add(events[windows.number])
