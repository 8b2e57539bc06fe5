"""Byte layouts of the online store: keys, stored values and outbox entries.

A stored value is a fixed header and the record's bytes as they go over the wire, so that a get
copies bytes instead of building objects. All integers are little-endian but for those in keys,
which are big-endian to sort.

    key      group u32 · identifier (or, when longer than a key allows, 0xFF and its BLAKE2b-256)
    value    form u8 · flags u8 · schema version u16 · event time i64 · expires i64 · sequence u64
             · [identifier length u16 · identifier, when hashed] · record
    outbox   group u32 · sequence u64
             → form u8 · flags u8 · schema version u16 · event time i64 · expires i64
             · invocation time i64 · record
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from featurestore.errors import StoreCorrupt

__all__ = [
    "NEVER",
    "OutboxEntry",
    "StoredValue",
    "decode_outbox",
    "decode_value",
    "encode_outbox",
    "encode_value",
    "group_prefix",
    "outbox_key",
    "record_key",
]

FORM: Final = 1
DELETED: Final = 1  # a tombstone or marker: no features
HARD: Final = 2  # the tombstone of a hard delete: not listed
NEVER: Final = 2**63 - 1  # an expiry that never comes
MAX_KEY: Final = 511  # LMDB's limit
_HASHED: Final = b"\xff"  # no UTF-8 text begins with this byte

_VALUE: Final = struct.Struct("<BBHqqQ")
_OUTBOX: Final = struct.Struct("<BBHqqq")
_LENGTH: Final = struct.Struct("<H")
_GROUP: Final = struct.Struct(">I")
_OUTBOX_KEY: Final = struct.Struct(">IQ")
VALUE_HEADER_BYTES: Final = _VALUE.size
unpack_value_header = _VALUE.unpack_from


class StoredValue(NamedTuple):
    """The latest version of one identifier, as stored.

    A named tuple where a frozen dataclass would be the rule: one is made per read, and this one
    costs a third.

    Args:
        identifier: UTF-8.
        flags: DELETED, HARD.
        schema_version: the group's version when it was put.
        event_time_us: orders versions.
        expires_us: first microsecond at which it cannot be read; NEVER without a ttl.
        sequence: the store's running number of the write.
        record: bytes of a `featurestore.v1.Record`; empty for a tombstone.
    """

    identifier: bytes
    flags: int
    schema_version: int
    event_time_us: int
    expires_us: int
    sequence: int
    record: bytes

    @property
    def is_deleted(self) -> bool:
        """Whether this is a tombstone."""
        return bool(self.flags & DELETED)

    def is_readable(self, now: int) -> bool:
        """Whether a get returns it at `now` (µs)."""
        return not self.flags & DELETED and now < self.expires_us


class OutboxEntry(NamedTuple):
    """One record or marker that waits for the offline table."""

    sequence: int
    flags: int
    schema_version: int
    event_time_us: int
    expires_us: int
    invocation_us: int
    record: bytes


def group_prefix(group: int) -> bytes:
    """Return the first bytes of every key of a group."""
    return _GROUP.pack(group)


def record_key(group: int, identifier: bytes) -> bytes:
    """Return the key of an identifier in a group."""
    if len(identifier) + 4 <= MAX_KEY:
        return _GROUP.pack(group) + identifier
    return _GROUP.pack(group) + _HASHED + hashlib.blake2b(identifier, digest_size=32).digest()


def encode_value(value: StoredValue) -> bytes:
    """Write a stored value."""
    header = _VALUE.pack(
        FORM,
        value.flags,
        value.schema_version & 0xFFFF,
        value.event_time_us,
        value.expires_us,
        value.sequence,
    )
    if len(value.identifier) + 4 <= MAX_KEY:
        return header + value.record
    return header + _LENGTH.pack(len(value.identifier)) + value.identifier + value.record


def decode_value(key: bytes, data: bytes) -> StoredValue:
    """Read a stored value with its key.

    Raises:
        StoreCorrupt: the bytes have another form.

    >>> value = StoredValue(b"k", 0, 1, 5, NEVER, 9, b"record")
    >>> decode_value(record_key(1, b"k"), encode_value(value)) == value
    True
    """
    form, flags, version, event_time, expires, sequence = _VALUE.unpack_from(data)
    _check_form(form)
    start = _VALUE.size
    identifier = key[4:]
    if identifier[:1] == _HASHED:
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        identifier = data[start : start + length]
        start += length
    return StoredValue(identifier, flags, version, event_time, expires, sequence, data[start:])


def outbox_key(group: int, sequence: int) -> bytes:
    """Return the key of an outbox entry; a group's entries sort by sequence."""
    return _OUTBOX_KEY.pack(group, sequence)


def encode_outbox(entry: OutboxEntry) -> bytes:
    """Write an outbox entry; the sequence is in its key."""
    return (
        _OUTBOX.pack(
            FORM,
            entry.flags,
            entry.schema_version & 0xFFFF,
            entry.event_time_us,
            entry.expires_us,
            entry.invocation_us,
        )
        + entry.record
    )


def decode_outbox(key: bytes, data: bytes) -> OutboxEntry:
    """Read an outbox entry with its key.

    Raises:
        StoreCorrupt: the bytes have another form.
    """
    _, sequence = _OUTBOX_KEY.unpack(key)
    form, flags, version, event_time, expires, invocation = _OUTBOX.unpack_from(data)
    _check_form(form)
    return OutboxEntry(
        sequence, flags, version, event_time, expires, invocation, data[_OUTBOX.size :]
    )


def _check_form(form: int) -> None:
    if form != FORM:
        raise StoreCorrupt(
            f"a value of the online store: expected form {FORM}, got {form}; the store is damaged, "
            f"or was written by a later version"
        )
