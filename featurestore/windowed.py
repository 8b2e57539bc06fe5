"""The verbs of windowed groups in an embedded store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, final

import pyarrow as pa

from featurestore import convert, eventtime, pointintime
from featurestore import record as record_rules
from featurestore.errors import (
    FeatureGroupExists,
    FeatureGroupNotFound,
    InvalidRequest,
    StoreUnavailable,
)
from featurestore.feature import FeatureType, Value
from featurestore.offline.base import Snapshot
from featurestore.online import OnlineStore
from featurestore.online.windows import WindowStore
from featurestore.registry import Registered, RegisteredWindows, Registry
from featurestore.store import WindowedDescription
from featurestore.verify import MAX_DIFFERENCES, Difference, VerifyReport
from featurestore.window import WindowedGroup
from featurestore.window.history import event_rows, window_join, window_keys, window_times
from featurestore.window.tile import Event

__all__ = ["WindowedGroups"]

_SLICE: Final = 2_000
_KEYS: Final = 50_000
_MEMORY: Final = "512MB"


@final
class WindowedGroups:
    """Windowed groups of one home.

    Args:
        registry: of the home.
        online: the online store.
        flushed: flushes a group and returns its newest table version.
        recorded: records a windowed group in lineage.
        spill: a folder for what does not fit into memory while a group is filled.
        now: the clock, µs since the epoch.
    """

    def __init__(
        self,
        registry: Registry,
        online: OnlineStore,
        *,
        flushed: Callable[[Registered], Snapshot | None],
        recorded: Callable[[WindowedGroup], None],
        spill: Path,
        now: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._online = online
        self._flushed = flushed
        self._recorded = recorded
        self._spill = spill
        self._now = now

    def create(
        self, group: WindowedGroup, *, on_progress: Callable[[int], None] | None = None
    ) -> WindowedDescription:
        """See FeatureStore.create_windowed_group."""
        store = self._store(group.name)

        def begin(entry: RegisteredWindows) -> None:
            self._recorded(group)  # first: without it nothing knows of the group
            store.define(entry.tiled)

        try:
            entry = self._registry.create_windows(group, now=self._now(), also=begin)
        except FeatureGroupExists:
            known = self._registry.windows().get(group.name)
            if known is None or known.is_filled or known.group != group:
                raise
            entry = known  # a kill left it half filled
        self.fill(entry.group.name, on_progress=on_progress)
        return self.describe(group.name)

    def describe(self, name: str) -> WindowedDescription:
        """See FeatureStore.describe_windowed_group."""
        return _described(self.get(name))

    def all(self) -> list[WindowedDescription]:
        """See FeatureStore.list_windowed_groups."""
        entries = self._registry.windows()
        return [_described(entries[name]) for name in sorted(entries)]

    def delete(self, name: str) -> None:
        """See FeatureStore.delete_windowed_group."""
        entry = self._registry.delete_windows(name, now=self._now())
        self._store(name).drop(entry.number)

    def get(self, name: str) -> RegisteredWindows:
        """Return a windowed group by name.

        Raises:
            FeatureGroupNotFound: no such windowed group; the message has the nearest name.
        """
        known = self._registry.windows()
        if name not in known:
            raise FeatureGroupNotFound.named(name, known)
        return known[name]

    def fill(
        self,
        name: str,
        *,
        newest: int = -1,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Take the events that are in the offline store into the online store.

        Those that are there already stay, so it may be repeated, and puts go on meanwhile.

        Args:
            name: of the windowed group.
            newest: those whose sequence is not higher give way to a version of them in the offline
                store; -1: none does.
            on_progress: called with the number of events taken in so far.

        Returns:
            How many events the offline store has within the group's reach.
        """
        entry = self.get(name)
        store = self._store(name)
        if entry.number not in {known.number for known in store.definitions()}:
            store.define(entry.tiled)  # the online store is another one than at the creation
        filled = 0
        for rows in self._offline_events(entry, self._flushed(entry.source)):
            kept = self._without_erased(entry, rows)
            store.fill(entry.number, kept, newest=newest)
            # An erasure that came between the look and the fill did not find them there.
            left = {event.identifier for event in self._without_erased(entry, kept)}
            for identifier in {event.identifier for event in kept} - left:
                store.erase(entry.source.number, identifier)
            filled += len(rows)
            if on_progress is not None:
                on_progress(filled)
        self._registry.note_filled(entry.number, now=self._now())
        return filled

    def read(
        self, entry: RegisteredWindows, texts: Sequence[str], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """Return the windowed features of keys.

        Args:
            entry: the windowed group.
            texts: the keys as texts.
            at: as of which time; None: now.

        Returns:
            One record per key, with the key; a feature that is null is absent.

        Raises:
            StoreUnavailable: the events from before the group's creation are not online yet.
            InvalidRequest: `at` is before what is kept online, or has no zone.
        """
        name = entry.group.name
        if not entry.is_filled:
            raise StoreUnavailable(
                f"{name}: the windowed group is being filled from the offline store; try again "
                f"when it is, or fill it (`featureline window fill {name}`)"
            )
        at_us = now = self._now()
        if at is not None:
            try:
                at_us = eventtime.to_us(at)
            except ValueError as error:
                raise InvalidRequest(f"{name}: at: {error}") from None
        earliest = now - (entry.group.kept_us - entry.group.longest_us)
        if at_us < earliest:
            raise InvalidRequest(
                f"{name}: expected a time from {eventtime.format_iso(earliest)} on, got "
                f"{eventtime.format_iso(at_us)}: earlier events are not kept online; use a "
                f"dataset, or a group with a longer retention"
            )
        keys = [text.encode() for text in texts]
        found = self._store(name).read(entry.number, keys, at_us)
        by, kind = entry.group.by, entry.windows.schema.types[entry.group.by]
        return [{by: _key(text, kind), **values} for text, values in zip(texts, found, strict=True)]

    def records(
        self, entry: RegisteredWindows, texts: Sequence[str], features: Sequence[str] = ()
    ) -> list[bytes]:
        """Return what `read` does now, as the bytes of records."""
        collections = entry.windows.schema.collections
        return [
            convert.encode_record(
                {name: value for name, value in record.items() if not features or name in features},
                collections,
            )
            for record in self.read(entry, texts)
        ]

    def texts(self, entry: RegisteredWindows, keys: Iterable[object]) -> list[str]:
        """Return keys as the texts they are kept under.

        Raises:
            InvalidRecord: one is null or has another type.
        """
        schema = entry.windows.schema
        return [record_rules.identifier_text(schema, key) for key in keys]

    def verify(self, name: str) -> VerifyReport:
        """Compare the features online with those from the offline store, as of one moment.

        For every key with events offline. A record that is put meanwhile, with an earlier event
        time, shows as a difference.

        Raises:
            FeatureGroupNotFound: no such windowed group.
            StoreUnavailable: its events are not online yet.
        """
        entry = self.get(name)
        windows = entry.windows
        snapshot = self._flushed(entry.source)
        now = self._now()
        names = [feature.name for feature in windows.group.features]
        total = compared = 0
        differences: list[Difference] = []
        connection = pointintime.connect(memory_limit=_MEMORY, spill=self._spill)
        try:
            keys = window_keys(
                snapshot, windows, after_us=now - windows.group.longest_us, connection=connection
            )
            for start in range(0, len(keys), _KEYS):
                some = keys.slice(start, _KEYS)
                times = pa.array([now] * len(some)).cast(pa.timestamp("us", "UTC"))
                rows = window_join(
                    pa.table({"key": some, "time": times}),
                    snapshot,
                    windows,
                    names,
                    connection=connection,
                ).to_pylist()
                texts = [key if isinstance(key, str) else repr(key) for key in some.to_pylist()]
                online = self.read(entry, texts, at=eventtime.to_datetime(now))
                for text, record, row in zip(texts, online, rows, strict=True):
                    compared += 1
                    for feature in names:
                        if record.get(feature) != row[feature]:
                            total += 1
                            if len(differences) < MAX_DIFFERENCES:
                                differences.append(_difference(text, feature, record, row))
        finally:
            connection.close()
        return VerifyReport(total == 0, compared, compared, tuple(differences))

    def history(
        self, name: str, snapshot: Snapshot | None, *, as_of_us: int | None = None
    ) -> pa.Table:
        """Return the windowed features as of each event of a table version.

        Returns:
            One row for each key and event time, in their order: both, then the features.
        """
        windows = self.get(name).windows
        connection = pointintime.connect(memory_limit=_MEMORY, spill=self._spill)
        try:
            spine = window_times(snapshot, windows, as_of_us=as_of_us, connection=connection)
            names = [feature.name for feature in windows.group.features]
            found = window_join(
                spine, snapshot, windows, names, as_of_us=as_of_us, connection=connection
            )
        finally:
            connection.close()
        columns = {windows.group.by: spine["key"], "event_time": spine["time"]}
        return pa.table({**columns, **{name: found[name] for name in names}})

    def _without_erased(self, entry: RegisteredWindows, events: list[Event]) -> list[Event]:
        """Leave out what an erasure of its identifier covers."""
        identifiers = [event.identifier for event in events]
        erased = self._online.erased_through(entry.source.number, identifiers)
        pairs = zip(events, erased, strict=True)
        return [event for event, end in pairs if end is None or event.time_us > end]

    def _offline_events(
        self, entry: RegisteredWindows, snapshot: Snapshot | None
    ) -> Iterator[list[Event]]:
        connection = pointintime.connect(memory_limit=_MEMORY, spill=self._spill)
        after_us = self._now() - entry.group.kept_us
        try:
            for rows in event_rows(
                snapshot, entry.windows, after_us=after_us, rows=_SLICE, connection=connection
            ):
                yield [entry.tiled.event(values, time_us, 0) for values, time_us in rows]
        finally:
            connection.close()

    def _store(self, name: str) -> WindowStore:
        store = self._online.windows
        if store is None:
            raise InvalidRequest(
                f"{name}: windowed features need the embedded online store (LMDB), and this home "
                f"has its online store elsewhere"
            )
        return store


def _difference(
    key: str, feature: str, online: Mapping[str, Value], offline: Mapping[str, Value]
) -> Difference:
    return Difference(
        key, f"{feature}: online {online.get(feature)!r}, offline {offline[feature]!r}"
    )


def _key(text: str, kind: FeatureType) -> Value:
    if kind is FeatureType.STRING:
        return text
    return int(text) if kind is FeatureType.INTEGRAL else float(text)


def _described(entry: RegisteredWindows) -> WindowedDescription:
    return WindowedDescription(
        entry.group,
        entry.windows.schema.features,
        eventtime.to_datetime(entry.created_us),
        is_filled=entry.is_filled,
    )
