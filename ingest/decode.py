"""Decoders: from a message as it came to a record of feature names and values."""

from __future__ import annotations

import datetime as dt
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, NoReturn, TypeAlias, final

from ingest.errors import Undecodable
from ingest.source import DELETED, Message

__all__ = [
    "Decoded",
    "Decoder",
    "Deleted",
    "JsonDecoder",
    "RowDecoder",
    "TombstoneDecoder",
    "TombstoneKey",
    "Tombstones",
    "with_tombstones",
]

_SHOWN: Final = 80
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})


class Deleted(NamedTuple):
    """What a message says that removes a record.

    Args:
        fields: what the message tells of the record: at least its identifier, under the names that
            a put of the same source has.
        event_time: when it was removed, in any form that the group's event time may have; None:
            the fields have it.
    """

    fields: Mapping[str, object]
    event_time: object = None


Decoded: TypeAlias = Mapping[str, object] | Deleted | None
"""What a message says: a record to put, one to delete, or nothing that concerns records."""


Tombstones: TypeAlias = Literal["refuse", "skip", "delete"]
TombstoneKey: TypeAlias = Literal["text", "json"]


class Decoder(ABC):
    """Turns a message into a record, or the word that one is gone.

    Values keep the type they were sent in: what a value must be is the feature group's matter.

    Args:
        mapping: feature name → field name. With a mapping the record has just its features, and a
            field that is absent is null; without one every field is a feature of its own name.
    """

    def __init__(self, mapping: Mapping[str, str] = _NO_MAPPING) -> None:
        self.mapping = dict(mapping)

    @abstractmethod
    def decode(self, message: Message) -> Decoded:
        """Return what the message says.

        Raises:
            Undecodable: the message is not one.
        """

    def schema_of(self, message: Message) -> str | None:
        """Name the schema that a message was written with, for whoever has to do with a refusal.

        None where messages name none, or the schema is not known.
        """
        return None

    def _mapped(self, fields: Mapping[str, object]) -> Mapping[str, object]:
        if not self.mapping:
            return fields
        return {
            feature: fields[field] for feature, field in self.mapping.items() if field in fields
        }


@final
class JsonDecoder(Decoder):
    """Reads a message as one JSON object in UTF-8 (RFC 8259, strictly).

    What JSON readers disagree about is refused: a name twice in one object, NaN and Infinity,
    bytes that are not UTF-8, a byte order mark, anything after the object.

    Args:
        mapping: feature name → name in the object.

    >>> decoder = JsonDecoder({"origin": "airport"})
    >>> decoder.decode(Message("0", 7, b'{"airport": "JFK", "temp": 3.5}'))
    {'origin': 'JFK'}
    """

    def __init__(self, mapping: Mapping[str, str] = _NO_MAPPING) -> None:
        super().__init__(mapping)
        self._parse = json.JSONDecoder(
            object_pairs_hook=_unique, parse_constant=_refuse_constant
        ).decode

    def decode(self, message: Message) -> Mapping[str, object]:
        """Return the object's members.

        Raises:
            Undecodable: the bytes are not one JSON object.
        """
        value = message.value
        if not isinstance(value, bytes):
            raise Undecodable("message", expected="a JSON object", got=_shown_value(value))
        try:
            fields = self._parse(value.decode())
        except UnicodeDecodeError as error:
            raise Undecodable(
                f"byte {error.start}", expected="UTF-8", got=f"0x{value[error.start]:02x}"
            ) from None
        except json.JSONDecodeError as error:
            raise Undecodable(
                f"line {error.lineno}, column {error.colno}",
                expected=f"JSON ({_uncapitalised(error.msg)})",
                got=_shown(error.doc[error.pos :]),
            ) from None
        except Undecodable:
            raise
        except (ValueError, RecursionError) as error:
            # An integer of thousands of digits, or arrays nested thousands deep.
            raise Undecodable(
                "message", expected="JSON within the limits", got=str(error)
            ) from None
        if not isinstance(fields, dict):
            raise Undecodable("line 1, column 1", expected="a JSON object", got=_shown(value))
        return self._mapped(fields)


@final
class TombstoneDecoder(Decoder):
    """Takes a message without a value, as compacted topics have them, for a deletion.

    Args:
        decoder: for all other messages.
        field: what the identifier is called in them.
        key: how keys are written: the identifier as text, or JSON: an object that has `field`, or
            the identifier itself.
        skip: tombstones are left out, and delete nothing.

    The record is deleted as of the message's timestamp.

    >>> decoder = TombstoneDecoder(JsonDecoder(), field="origin")
    >>> decoder.decode(Message("0", 7, None, key=b"JFK", timestamp_us=0))
    Deleted(fields={'origin': 'JFK'}, event_time=datetime.datetime(1970, 1, 1, 0, 0, \
tzinfo=datetime.timezone.utc))
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        field: str,
        key: TombstoneKey = "text",
        skip: bool = False,
    ) -> None:
        super().__init__(decoder.mapping)
        if key not in ("text", "json"):
            raise ValueError(f"key: expected 'text' or 'json', got {key!r}")
        self.inner = decoder
        self._field = field
        self._key = key
        self._skip = skip

    def decode(self, message: Message) -> Decoded:
        """Return a deletion for a message without a value, else what the other decoder returns.

        Raises:
            Undecodable: the tombstone has no key, or one that is not written as said.
        """
        if message.value is not None:
            return self.inner.decode(message)
        if self._skip:
            return None
        if message.timestamp_us is None:
            raise Undecodable("tombstone", expected="a timestamp", got="none")
        moment = _EPOCH + dt.timedelta(microseconds=message.timestamp_us)
        return Deleted(self._mapped(self._identified(message.key)), moment)

    def schema_of(self, message: Message) -> str | None:
        """Name the schema that the other decoder finds."""
        return self.inner.schema_of(message)

    def _identified(self, key: bytes | None) -> Mapping[str, object]:
        if key is None:
            raise Undecodable("tombstone", expected="a key", got="none")
        try:
            text = key.decode()
            written = text if self._key == "text" else json.loads(text)
        except ValueError:
            expected = "UTF-8" if self._key == "text" else "JSON"
            raise Undecodable("key of a tombstone", expected=expected, got=_shown(key)) from None
        fields = written if isinstance(written, dict) else {self._field: written}
        if self._field not in fields:
            raise Undecodable(
                "key of a tombstone", expected=f"an object with {self._field!r}", got=_shown(key)
            )
        return fields


def with_tombstones(
    decoder: Decoder, tombstones: Tombstones, *, identifier: str, key: TombstoneKey = "text"
) -> Decoder:
    """Say what a message without a value does.

    Args:
        decoder: for all other messages.
        tombstones: `refuse`: what the decoder makes of it, an error; `skip`; `delete`.
        identifier: the group's record identifier, whose field keys give.
        key: see TombstoneDecoder.
    """
    if tombstones == "refuse":
        return decoder
    field = decoder.mapping.get(identifier, identifier)
    return TombstoneDecoder(decoder, field=field, key=key, skip=tombstones == "skip")


@final
class RowDecoder(Decoder):
    """Takes rows that a source has already split into columns, as files give them.

    A row that the source says was deleted removes its record at the message's time.

    Args:
        mapping: feature name → column name.

    >>> RowDecoder().decode(Message("flights.csv", 0, {"carrier": "UA", "delay": "4"}))
    {'carrier': 'UA', 'delay': '4'}
    """

    def decode(self, message: Message) -> Mapping[str, object] | Deleted:
        """Return the row, or that it is gone.

        Raises:
            Undecodable: the message is no row.
        """
        value = message.value
        if not isinstance(value, Mapping):
            raise Undecodable("row", expected="columns", got=_shown_value(value))
        if message.headers and DELETED in message.headers:
            return Deleted(self._mapped(value), _moment(message.timestamp_us))
        return self._mapped(value)


def _moment(time_us: int | None) -> dt.datetime | None:
    return None if time_us is None else _EPOCH + dt.timedelta(microseconds=time_us)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Undecodable("JSON object", expected="each name once", got=f"{twice!r} twice")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise Undecodable("JSON number", expected="a finite number or null", got=constant)


def _shown(value: bytes | str) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…") if text else "the end"


def _shown_value(value: bytes | Mapping[str, object] | None) -> str:
    if value is None:
        return "no value (a tombstone)"
    return _shown(value) if isinstance(value, bytes) else "a row of columns"


def _uncapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]
