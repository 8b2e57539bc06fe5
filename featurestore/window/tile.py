"""Windowed features online: events and tiles kept up to date as records come, merged at a read.

A tile holds the states of all events of one key in one span of time. The spans are levels of
fixed lengths, each a multiple of the one below; a tile's bounds are open below and closed above,
as a window's are. An event is added to one tile of each level; when it replaces an earlier version
its tiles are made again from the level below. A read covers a window by the largest tiles that lie
in it, and by single events at its ends.

All of it lives in an ordered space of keys and values, in the transaction of the records:

    0 · group u32                                   → JSON of what is kept for the group
    1 · group u32 · key hash · time · tie           → the event
    2 · group u32 · identifier hash · time          → sequence and key hash; where the key is not
                                                      the identifier
    3 · group u32 · key hash · level u8 · number    → the tile

Key hashes are BLAKE2b of 128 bits, so that keys of any length fit.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple, Protocol, final

from featurestore.feature import FeatureType, Value
from featurestore.schema import FeatureGroup
from featurestore.window.aggregate import Aggregate, aggregate_of
from featurestore.window.definition import WindowedFeature, WindowedGroup, Windows

__all__ = [
    "Event",
    "Space",
    "TiledWindows",
    "Tiles",
    "define",
    "definition",
    "definitions",
    "drop",
    "tie_of",
    "undefine",
]

LEVELS_US: Final = tuple(s * 1_000_000 for s in (15, 600, 21_600, 604_800))
# A window shorter than so many tiles of a level is not covered by them.
_TILES: Final = 4
_BIAS: Final = 2**63
_DEFINITION, _EVENT, _INDEX, _TILE = b"\x00", b"\x01", b"\x02", b"\x03"
_GROUP: Final = struct.Struct(">I")
_MOMENT: Final = struct.Struct(">Q")
_NUMBER: Final = struct.Struct(">BQ")
_SEQUENCE: Final = struct.Struct("<QH")  # and the length of the tie
_INDEXED: Final = struct.Struct("<Q")
_HASH_BYTES: Final = 16
_HEAD: Final = 1 + _GROUP.size + _HASH_BYTES


_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
# Of one event: its time and its states.
_Part = tuple[int, list[Any]]


class Space(Protocol):
    """Keys and values in the order of keys, within one transaction."""

    def get(self, key: bytes) -> bytes | None:
        """Return a value; None without one."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value."""

    def delete(self, key: bytes) -> None:
        """Take a key and its value away, where there is one."""

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return keys and values from `first` to before `end`; none is changed meanwhile."""


class Event(NamedTuple):
    """One record as windows see it.

    Args:
        key: the text of the feature that windows are kept by; None where it is null.
        identifier: the record identifier's text.
        tie: orders events of one time.
        time_us: event time.
        values: of the inputs, in their order; None: null.
        sequence: the store's running number: of two versions the later one counts.
    """

    key: bytes | None
    identifier: bytes
    tie: bytes
    time_us: int
    values: tuple[Value | None, ...]
    sequence: int


@final
@dataclass(frozen=True)
class TiledWindows:
    """A windowed group as its source's writes need it.

    Args:
        number: names it in keys.
        source: the number of the group whose records are the events.
        windows: the definition.
    """

    number: int
    source: int
    windows: Windows

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The tiles' lengths in µs, the shortest first."""
        longest = self.windows.group.longest_us
        return tuple(length for length in LEVELS_US if length * _TILES <= longest)

    @cached_property
    def states(self) -> tuple[tuple[int | None, Aggregate], ...]:
        """Which input each state of a tile is of, and how it is aggregated: each once."""
        return tuple(self._known.values())

    @cached_property
    def _known(self) -> dict[tuple[str, str | None, int | None], tuple[int | None, Aggregate]]:
        known: dict[tuple[str, str | None, int | None], tuple[int | None, Aggregate]] = {}
        group, source = self.windows.group, self.windows.source
        for feature in group.features:
            kind = None if feature.of is None else source.types[feature.of]
            place = None if feature.of is None else group.inputs.index(feature.of)
            known.setdefault(_state_of(feature), (place, aggregate_of(feature, kind)))
        return known

    def state_of(self, feature: WindowedFeature) -> int:
        """Return which of `states` a feature is made from."""
        return list(self._known).index(_state_of(feature))

    @property
    def has_index(self) -> bool:
        """Whether a record may move from one key to another."""
        return self.windows.group.by != self.windows.source.record_identifier

    def event(self, record: Mapping[str, Value], time_us: int, sequence: int) -> Event:
        """Return a record as an event."""
        group, source = self.windows.group, self.windows.source
        key = record.get(group.by)
        identifier = record[source.record_identifier]
        return Event(
            None if key is None else _text(key),
            _text(identifier),
            tie_of(source.types[source.record_identifier], identifier),
            time_us,
            tuple(record.get(name) for name in group.inputs),
            sequence,
        )

    def to_json(self) -> bytes:
        """Write it for the space."""
        body = {
            "number": self.number,
            "source": self.source,
            "group": self.windows.group.to_json(),
            "features": self.windows.source.to_json(),
        }
        return json.dumps(body).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TiledWindows:
        """Read what `to_json` wrote."""
        body = json.loads(data)
        return cls(
            body["number"],
            body["source"],
            Windows(
                WindowedGroup.from_json(body["group"]), FeatureGroup.from_json(body["features"])
            ),
        )


def definitions(space: Space) -> list[TiledWindows]:
    """Return all windowed groups that are kept in a space."""
    return [_parsed(data) for _, data in space.scan(_DEFINITION, _EVENT)]


def definition(space: Space, number: int) -> TiledWindows | None:
    """Return one windowed group; None when it is not kept."""
    data = space.get(_DEFINITION + _GROUP.pack(number))
    return None if data is None else _parsed(data)


def define(space: Space, windows: TiledWindows) -> None:
    """Begin to keep a windowed group: from this transaction on its source's writes are events."""
    space.put(_DEFINITION + _GROUP.pack(windows.number), windows.to_json())


def undefine(space: Space, number: int) -> None:
    """Keep a windowed group no longer; its events and tiles are left for `drop`."""
    space.delete(_DEFINITION + _GROUP.pack(number))


def drop(space: Space, number: int, *, limit: int) -> int:
    """Delete events and tiles of a windowed group.

    Returns:
        How many keys went; fewer than `limit` at the end.
    """
    removed: list[bytes] = []
    for kind in (_EVENT, _INDEX, _TILE):
        prefix = kind + _GROUP.pack(number)
        for key, _ in space.scan(prefix, _after(prefix)):
            if len(removed) == limit:
                break
            removed.append(key)
    for key in removed:
        space.delete(key)
    return len(removed)


@final
class Tiles:
    """The events and tiles of one windowed group in a space.

    Args:
        space: of a transaction.
        windows: the group.
    """

    def __init__(self, space: Space, windows: TiledWindows) -> None:
        self._space = space
        self._windows = windows
        self._group = _GROUP.pack(windows.number)
        self._aggregates = [aggregate for _, aggregate in windows.states]

    # -- writing ------------------------------------------------------------------------------

    def add(self, events: Iterable[Event], *, newest: int | None = None) -> None:
        """Take events in, each of which replaces an earlier version of itself.

        Args:
            events: in any order.
            newest: stored events whose sequence is higher stay: what is added was written before
                them. None: the events' own sequences decide.
        """
        added: dict[bytes, list[_Part]] = {}
        again: dict[bytes, tuple[bytes, int]] = {}
        for event in events:
            limit = event.sequence if newest is None else newest
            key_hash = b"" if event.key is None else _hash(event.key)
            if self._windows.has_index and not self._move(event, key_hash, limit, again):
                continue
            if event.key is None:
                continue
            place = self._event_key(key_hash, event)
            stored = self._space.get(place)
            if stored is not None and _SEQUENCE.unpack_from(stored)[0] > limit:
                continue
            self._space.put(place, _packed(event))
            part = (event.time_us, self._states_of(event))
            for level, length in enumerate(self._windows.levels):
                tile = self._tile_key(key_hash, level, _number(event.time_us, length))
                if stored is None:
                    added.setdefault(tile, []).append(part)
                else:
                    again[tile] = (key_hash, level)
        for tile, some in added.items():
            if tile not in again:
                self._extend(tile, some)
        self._remake(again)

    def remove(self, key: bytes) -> int:
        """Delete all events and tiles of one key; return how many events there were."""
        key_hash = _hash(key)
        removed = 0
        for kind in (_EVENT, _TILE):
            prefix = kind + self._group + key_hash
            for place, _ in self._space.scan(prefix, _after(prefix)):
                self._space.delete(place)
                removed += kind == _EVENT
        return removed

    def remove_identifier(self, identifier: bytes) -> int:
        """Delete the events of one record identifier; return how many there were."""
        if not self._windows.has_index:
            return self.remove(identifier)
        again: dict[bytes, tuple[bytes, int]] = {}
        prefix = _INDEX + self._group + _hash(identifier)
        removed = 0
        for place, stored in self._space.scan(prefix, _after(prefix)):
            key_hash = stored[_INDEXED.size :]
            if key_hash:
                self._take_out(key_hash, place, again)
                removed += 1
            self._space.delete(place)
        self._remake(again)
        return removed

    def sweep(self, before_us: int, *, after: bytes | None, limit: int) -> tuple[int, bytes | None]:
        """Delete events and tiles that no window reaches any more.

        Args:
            before_us: events at or before it go, and tiles that end there.
            after: the key to go on from; None: from the start.
            limit: how many keys are looked at.

        Returns:
            How many were deleted, and the key to go on from; None at the end.
        """
        first = _EVENT + self._group if after is None else after
        looked = 0
        old: list[bytes] = []
        for kind in (_EVENT, _INDEX, _TILE):
            prefix = kind + self._group
            if first >= _after(prefix):
                continue
            for key, _ in self._space.scan(max(first, prefix), _after(prefix)):
                if looked == limit:
                    for place in old:
                        self._space.delete(place)
                    return len(old), key
                looked += 1
                if self._ends(kind, key) <= before_us:
                    old.append(key)
        for place in old:
            self._space.delete(place)
        return len(old), None

    # -- reading ------------------------------------------------------------------------------

    def read(self, key: bytes, at_us: int) -> dict[str, Value]:
        """Return the windowed features of a key as of a time; null ones are absent."""
        key_hash = _hash(key)
        made: dict[int, list[Any]] = {}
        result: dict[str, Value] = {}
        for feature in self._windows.windows.group.features:
            over = feature.over_us
            if over not in made:
                made[over] = self._covered(key_hash, at_us - over, at_us)
            state = self._windows.state_of(feature)
            value = self._aggregates[state].result(made[over][state])
            if value is not None:
                result[feature.name] = value
        return result

    def _covered(self, key_hash: bytes, after_us: int, until_us: int) -> list[Any]:
        states: list[Any] = [None] * len(self._aggregates)
        top = sum(length * _TILES <= until_us - after_us for length in self._windows.levels)
        self._cover(key_hash, top - 1, after_us, until_us, states)
        return states

    def _cover(
        self, key_hash: bytes, level: int, after_us: int, until_us: int, states: list[Any]
    ) -> None:
        """Merge what lies behind `after_us` up to `until_us` into states."""
        if after_us >= until_us:
            return
        if level < 0:
            prefix = _EVENT + self._group + key_hash
            first, end = prefix + _moment(after_us + 1), prefix + _moment(until_us + 1)
            for place, data in self._space.scan(first, end):
                self._merge(states, self._states_of(_unpacked(place, data)))
            return
        length = self._windows.levels[level]
        lowest, highest = _number(after_us + 1, length), _number(until_us, length)
        prefix = _TILE + self._group + key_hash
        first = prefix + _NUMBER.pack(level, lowest + _BIAS)
        end = prefix + _NUMBER.pack(level, highest + 1 + _BIAS)
        for place, data in self._space.scan(first, end):
            earliest, latest, held = json.loads(data)
            if earliest > after_us and latest <= until_us:
                self._merge(states, held)
                continue
            begin = (_NUMBER.unpack_from(place, _HEAD)[1] - _BIAS) * length
            self._cover(
                key_hash, level - 1, max(after_us, begin), min(until_us, begin + length), states
            )

    # -- tiles --------------------------------------------------------------------------------

    def _states_of(self, event: Event) -> list[Any]:
        return [
            None
            if place is not None and event.values[place] is None
            else aggregate.one(
                None if place is None else event.values[place], event.time_us, event.tie
            )
            for place, aggregate in self._windows.states
        ]

    def _merge(self, states: list[Any], other: Sequence[Any]) -> None:
        for place, state in enumerate(other):
            if state is not None:
                held = states[place]
                states[place] = (
                    state if held is None else self._aggregates[place].merge(held, state)
                )

    def _extend(self, tile: bytes, parts: Sequence[_Part]) -> None:
        """Add events, each its time and states, to one tile."""
        data = self._space.get(tile)
        times = [time_us for time_us, _ in parts]
        states: list[Any] = [None] * len(self._aggregates)
        if data is not None:
            earliest, latest, states = json.loads(data)
            times += [earliest, latest]
        # In pairs, so that a long list of values is not gone through for each event.
        waiting = [list(states) for _, states in parts]
        while len(waiting) > 1:
            for one, other in zip(waiting[::2], waiting[1::2], strict=False):
                self._merge(one, other)
            waiting = waiting[::2]
        self._merge(states, waiting[0])
        self._put_tile(tile, min(times), max(times), states)

    def _remake(self, tiles: Mapping[bytes, tuple[bytes, int]]) -> None:
        """Make tiles again from the level below, the lowest level from events."""
        for tile in sorted(tiles, key=lambda tile: tiles[tile][1]):
            key_hash, level = tiles[tile]
            length = self._windows.levels[level]
            begin = (_NUMBER.unpack_from(tile, _HEAD)[1] - _BIAS) * length
            states: list[Any] = [None] * len(self._aggregates)
            times: list[int] = []
            if level == 0:
                prefix = _EVENT + self._group + key_hash
                first, end = prefix + _moment(begin + 1), prefix + _moment(begin + length + 1)
                for place, data in self._space.scan(first, end):
                    event = _unpacked(place, data)
                    times.append(event.time_us)
                    self._merge(states, self._states_of(event))
            else:
                below = self._windows.levels[level - 1]
                prefix = _TILE + self._group + key_hash
                lowest = begin // below + _BIAS
                first = prefix + _NUMBER.pack(level - 1, lowest)
                end = prefix + _NUMBER.pack(level - 1, lowest + length // below)
                for _, data in self._space.scan(first, end):
                    earliest, latest, held = json.loads(data)
                    times += [earliest, latest]
                    self._merge(states, held)
            if times:
                self._put_tile(tile, min(times), max(times), states)
            else:
                self._space.delete(tile)

    def _put_tile(self, tile: bytes, earliest: int, latest: int, states: Sequence[Any]) -> None:
        self._space.put(tile, _encode([earliest, latest, states]).encode())

    # -- places -------------------------------------------------------------------------------

    def _move(
        self, event: Event, key_hash: bytes, limit: int, again: dict[bytes, tuple[bytes, int]]
    ) -> bool:
        """Note the key of a record's version, and take an earlier one of another key out.

        A version whose key is null is no event; it is noted, so that none before it comes back.

        Returns:
            False: a later version is stored.
        """
        place = self._index_key(event)
        stored = self._space.get(place)
        if stored is not None:
            if _INDEXED.unpack_from(stored)[0] > limit:
                return False
            before = stored[_INDEXED.size :]
            if before and before != key_hash:
                self._take_out(before, place, again)
        self._space.put(place, _INDEXED.pack(event.sequence) + key_hash)
        return True

    def _take_out(
        self, key_hash: bytes, index: bytes, again: dict[bytes, tuple[bytes, int]]
    ) -> None:
        """Delete the event that an index entry stands for, and have its tiles made again."""
        moment = index[_HEAD : _HEAD + _MOMENT.size]
        identifier_hash = index[1 + _GROUP.size : _HEAD]
        self._space.delete(_EVENT + self._group + key_hash + moment + identifier_hash)
        time_us = _MOMENT.unpack(moment)[0] - _BIAS
        for level, length in enumerate(self._windows.levels):
            tile = self._tile_key(key_hash, level, _number(time_us, length))
            again[tile] = (key_hash, level)

    def _event_key(self, key_hash: bytes, event: Event) -> bytes:
        head = _EVENT + self._group + key_hash + _moment(event.time_us)
        return head + _hash(event.identifier) if self._windows.has_index else head

    def _index_key(self, event: Event) -> bytes:
        return _INDEX + self._group + _hash(event.identifier) + _moment(event.time_us)

    def _tile_key(self, key_hash: bytes, level: int, number: int) -> bytes:
        return _TILE + self._group + key_hash + _NUMBER.pack(level, number + _BIAS)

    def _ends(self, kind: bytes, key: bytes) -> int:
        """Return the time of an event, or the end of a tile."""
        if kind == _TILE:
            level, number = _NUMBER.unpack_from(key, _HEAD)
            return int((number - _BIAS + 1) * self._windows.levels[level])
        return int(_MOMENT.unpack_from(key, _HEAD)[0] - _BIAS)


@lru_cache(256)
def _parsed(data: bytes) -> TiledWindows:
    return TiledWindows.from_json(data)


def tie_of(kind: FeatureType, identifier: Value) -> bytes:
    """Return bytes that sort as record identifiers of one type do.

    >>> tie_of(FeatureType.INTEGRAL, 9) < tie_of(FeatureType.INTEGRAL, 10)
    True
    >>> tie_of(FeatureType.FRACTIONAL, -2.5) < tie_of(FeatureType.FRACTIONAL, -1.0)
    True
    """
    if kind is FeatureType.STRING:
        assert isinstance(identifier, str)
        return identifier.encode()
    if kind is FeatureType.INTEGRAL:
        assert isinstance(identifier, int)
        return _MOMENT.pack(identifier + _BIAS)
    assert isinstance(identifier, float)
    (bits,) = struct.unpack(">Q", struct.pack(">d", identifier))
    return _MOMENT.pack(bits ^ (2**64 - 1) if bits & _BIAS else bits | _BIAS)


def _state_of(feature: WindowedFeature) -> tuple[str, str | None, int | None]:
    return feature.kind.value, feature.of, feature.k


def _packed(event: Event) -> bytes:
    tie = event.tie
    return _SEQUENCE.pack(event.sequence, len(tie)) + tie + _encode(event.values).encode()


def _unpacked(place: bytes, data: bytes) -> Event:
    """Read an event; its key and identifier stay hashes, which nothing here needs."""
    sequence, length = _SEQUENCE.unpack_from(data)
    start = _SEQUENCE.size
    time_us = _MOMENT.unpack_from(place, _HEAD)[0] - _BIAS
    values = tuple(json.loads(data[start + length :]))
    return Event(None, b"", data[start : start + length], time_us, values, sequence)


def _text(value: Value) -> bytes:
    return (value if isinstance(value, str) else repr(value)).encode()


def _number(time_us: int, length_us: int) -> int:
    """Return the tile of a time: its span is open below and closed above."""
    return (time_us - 1) // length_us


def _moment(time_us: int) -> bytes:
    return _MOMENT.pack(time_us + _BIAS)


def _hash(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_HASH_BYTES).digest()


def _after(prefix: bytes) -> bytes:
    """Return the first key behind all that begin with a prefix."""
    return (int.from_bytes(prefix, "big") + 1).to_bytes(len(prefix), "big")
