"""Record shapes: checking a record's bytes by one pattern for the order of its features.

The records of a client have their features in one order. Beside their values the bytes of all of
them are then alike, and one regular expression tells whether a record is right, at a third of the
price of looking at each feature as a message. What it does not know (a NaN, a text with a line
break or of many hundred bytes, an unknown feature, another order) goes the long way.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, final

from featurestore.feature import FeatureType

__all__ = ["Keys", "Shapes"]

# Orders of one group that are kept. More cost each record that has none of them.
_KEPT: Final = 3
# Longer texts go the long way, in bytes; so do groups with more features.
_LONGEST: Final = 1 << 10
_MOST: Final = 500
# Two lengths of two bytes, one of the text, and two tags.
_MAX_LENGTHS: Final = 8
_ONE_BYTE: Final = 0x80
_DOUBLE: Final = struct.Struct("<d")
# Tags of featurestore/v1/record.proto.
_FEATURE, _NAME, _VALUE = b"\x0a", b"\x0a", b"\x12"
_TAGS: Final = {
    FeatureType.STRING: b"\x0a",
    FeatureType.INTEGRAL: b"\x10",
    FeatureType.FRACTIONAL: b"\x19",
}
# A length of one or two bytes; what it must be is known when the feature's end is.
_LENGTH: Final = rb"(?:[\x00-\x7f]|[\x80-\xff][\x00-\x7f])"
_PATTERNS: Final = {
    # A feature begins with the byte of a line break, so that a text without one cannot hide one.
    FeatureType.STRING: _LENGTH + rb"[^\n]*+",
    FeatureType.INTEGRAL: rb"[\x80-\xff]{0,9}+[\x00-\x7f]",
    # Neither NaN nor infinity.
    FeatureType.FRACTIONAL: rb"[\x00-\xff]{7}[^\x7f\xff]",
}
_INT64: Final = 1 << 63


class Keys(NamedTuple):
    """The values by which a record is stored, in their declared types."""

    identifier: str | int
    event_time: str | float


@final
class Shapes:
    """The shapes of the records of one feature group, as they were seen.

    Args:
        scalars: types of the features that hold one value, by name.
        identifier: name of the record identifier.
        event_time: name of the event time.

    May be used from many threads.
    """

    def __init__(
        self, scalars: Mapping[str, FeatureType], *, identifier: str, event_time: str
    ) -> None:
        self._scalars = scalars
        self._keys = (identifier, event_time)
        self._lock = threading.Lock()
        self._known: tuple[_Shape, ...] = ()

    def learn(self, names: Sequence[str]) -> None:
        """Keep the order of a record that was found to be right by looking at each feature.

        Args:
            names: its features in their order, each once and of one value.
        """
        if len(self._known) >= _KEPT or len(self._scalars) > _MOST:
            return
        if self._scalars[self._keys[0]] is FeatureType.FRACTIONAL:
            return  # as an identifier -0.0 is 0.0
        with self._lock:
            order = [name for name in self._scalars if name in set(names)]
            given = list(self._scalars) if order == list(names) else list(names)
            given += [name for name in self._scalars if name not in given]
            if len(self._known) < _KEPT and all(shape.order != given for shape in self._known):
                self._known += (_Shape(given, self._scalars, self._keys),)

    def read(self, record: bytes) -> Keys | None:
        """Return the keys of a record that has a known shape, and is right thereby.

        Every feature is one of the group's, is there once, and has its declared type; no number is
        NaN. Strings are UTF-8 where protobuf has read the bytes before.

        Args:
            record: bytes of a `featurestore.v1.Record`.

        Returns:
            None: look at each feature.
        """
        for shape in self._known:
            keys = shape.read(record)
            if keys is not None:
                return keys
        return None


@final
class _Shape:
    """One order of features, of which all but the keys may be absent."""

    def __init__(
        self, order: list[str], scalars: Mapping[str, FeatureType], keys: tuple[str, str]
    ) -> None:
        self.order = order
        pattern = b""
        heads: dict[str, _Heads] = {}  # of the features whose bytes are looked at again
        for name in order:
            kind = scalars[name]
            known = _Heads(name, kind)
            if kind is FeatureType.FRACTIONAL and name not in keys:
                # All have one length.
                pattern += b"(?:" + re.escape(known.of(_DOUBLE.size)) + _PATTERNS[kind] + b")?+"
                continue
            feature = b"(" + _FEATURE + _LENGTH + _NAME + re.escape(_named(name))
            feature += _VALUE + _LENGTH + re.escape(_TAGS[kind]) + _PATTERNS[kind] + b")"
            pattern += feature if name in keys else feature + b"?+"
            heads[name] = known
        self._match = re.compile(pattern, re.DOTALL).fullmatch
        self._heads = list(heads.values())
        self._identifier, self._event_time = (list(heads).index(name) for name in keys)
        self._identifier_is_text = scalars[keys[0]] is FeatureType.STRING
        self._time_is_text = scalars[keys[1]] is FeatureType.STRING

    def read(self, record: bytes) -> Keys | None:
        found = self._match(record)
        if found is None:
            return None
        features = found.groups()
        # The lengths in a head follow from that of the feature: no other head is right.
        try:
            for feature, heads in zip(features, self._heads, strict=True):
                if feature is not None and not feature.startswith(heads[len(feature)]):
                    return None
        except KeyError:
            return None
        feature = features[self._identifier]
        value = feature[len(self._heads[self._identifier][len(feature)]) :]
        identifier = value.decode() if self._identifier_is_text else _number(value)
        feature = features[self._event_time]
        value = feature[len(self._heads[self._event_time][len(feature)]) :]
        moment = value.decode() if self._time_is_text else _DOUBLE.unpack(value)[0]
        return Keys(identifier, moment) if identifier else None


@final
class _Heads(dict[int, bytes]):
    """What stands before the value of a feature, by the size of the whole feature."""

    def __init__(self, name: str, kind: FeatureType) -> None:
        super().__init__()
        self._name = _NAME + _named(name) + _VALUE
        self._kind = kind

    def __missing__(self, whole: int) -> bytes:
        # The lengths in the head grow with it: its own size is found by trying.
        for size in range(max(0, whole - len(self._name) - _MAX_LENGTHS), min(whole, _LONGEST)):
            head = self.of(size)
            if len(head) + size == whole:
                self[whole] = head
                return head
        raise KeyError(whole)

    def of(self, size: int) -> bytes:
        """Return the head of a value of so many bytes."""
        inner = _TAGS[self._kind] + (_varint(size) if self._kind is FeatureType.STRING else b"")
        body = self._name + _varint(len(inner) + size) + inner
        return _FEATURE + _varint(len(body) + size) + body


def _named(name: str) -> bytes:
    """Write a name with its length, which is one byte: names have at most 64."""
    text = name.encode()
    return bytes((len(text),)) + text


def _varint(number: int) -> bytes:
    if number < _ONE_BYTE:
        return bytes((number,))
    return bytes((number & 0x7F | _ONE_BYTE, number >> 7))


def _number(varint: bytes) -> int:
    number = 0
    for place, byte in enumerate(varint):
        number |= (byte & 0x7F) << (7 * place)
    return number - 2 * _INT64 if number >= _INT64 else number
