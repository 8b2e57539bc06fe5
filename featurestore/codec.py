"""Byte layouts of the online store: keys, stored values and outbox entries.

A stored value is a fixed header and the record's bytes as they go over the wire, so that a get
copies bytes instead of building objects. All integers are little-endian but for those in keys,
which are big-endian to sort.

    key      group u32 · identifier (or, when longer than a key allows, 0xFF and its BLAKE2b-256)
             of the tombstone of an erasure: group u32 · 0xFE · hash of the identifier, in hex
    value    form u8 · flags u8 · schema version u16 · event time i64 · expires i64 · sequence u64
             · [identifier length u16 · identifier, when hashed] · record
    outbox   group u32 · sequence u64
             → form u8 · flags u8 · schema version u16 · event time i64 · expires i64
             · invocation time i64 · record
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, final, overload

import numpy as np
import numpy.typing as npt

from featurestore.errors import StoreCorrupt

__all__ = [
    "NEVER",
    "OutboxEntries",
    "OutboxEntry",
    "StoredValue",
    "decode_outbox",
    "decode_outbox_entries",
    "decode_value",
    "encode_outbox",
    "encode_value",
    "erased_key",
    "erased_prefix",
    "group_prefix",
    "outbox_key",
    "outbox_keys",
    "pack_entries",
    "pack_entry",
    "pack_value",
    "pack_values",
    "record_key",
    "record_keys",
]

Integers = npt.NDArray[np.integer[Any]]

FORM: Final = 1
DELETED: Final = 1  # a tombstone or marker: no features
HARD: Final = 2  # the tombstone of a hard delete: not listed
ERASED: Final = 4  # the tombstone of an erasure: its identifier is a hash
NEVER: Final = 2**63 - 1  # an expiry that never comes
MAX_KEY: Final = 511  # LMDB's limit
MAX_IDENTIFIER_IN_KEY: Final = MAX_KEY - 4  # longer ones are hashed
_HASHED: Final = b"\xff"  # no UTF-8 text begins with this byte
_ERASED: Final = b"\xfe"  # nor with this one

_VALUE: Final = struct.Struct("<BBHqqQ")
_OUTBOX: Final = struct.Struct("<BBHqqq")
_LENGTH: Final = struct.Struct("<H")
_GROUP: Final = struct.Struct(">I")
_OUTBOX_KEY: Final = struct.Struct(">IQ")
_OUTBOX_ROW: Final = np.dtype(
    [
        ("form", "u1"),
        ("flags", "u1"),
        ("schema_version", "<u2"),
        ("event_time_us", "<i8"),
        ("expires_us", "<i8"),
        ("invocation_us", "<i8"),
    ]
)
_OUTBOX_KEY_ROW: Final = np.dtype([("group", ">u4"), ("sequence", ">u8")])
VALUE_HEADER_BYTES: Final = _VALUE.size
unpack_value_header = _VALUE.unpack_from
_pack_value = _VALUE.pack
_pack_outbox = _OUTBOX.pack


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


@final
class OutboxEntries(Sequence[OutboxEntry]):
    """Outbox entries by the column: the flush makes no object of each.

    Args:
        numbers: sequences, flags, schema versions, event times, expiries and invocation times,
            each of all entries.
        records: bytes of each record.
    """

    __slots__ = ("_numbers", "records")
    __hash__ = None  # type: ignore[assignment]  # it is equal to any sequence of the same entries

    def __init__(self, numbers: Sequence[Integers], records: Sequence[bytes]) -> None:
        self._numbers = tuple(numbers)
        self.records = records

    @classmethod
    def of(cls, entries: Sequence[OutboxEntry]) -> OutboxEntries:
        """Return entries by the column, as they are when they are so already.

        >>> entries = OutboxEntries.of([OutboxEntry(7, 0, 1, 5, NEVER, 6, b"record")])
        >>> entries.sequences.tolist(), entries[0].record, OutboxEntries.of(entries) is entries
        ([7], b'record', True)
        """
        if isinstance(entries, OutboxEntries):
            return entries
        columns = list(zip(*entries, strict=True)) or [()] * len(OutboxEntry._fields)
        *numbers, records = columns
        return cls([np.array(column, np.int64) for column in numbers], records)

    @property
    def sequences(self) -> Integers:
        """The sequence of each entry."""
        return self._numbers[0]

    @property
    def flags(self) -> Integers:
        """The flags of each entry."""
        return self._numbers[1]

    @property
    def event_times_us(self) -> Integers:
        """The event time of each entry."""
        return self._numbers[3]

    @property
    def expires_us(self) -> Integers:
        """The expiry of each entry."""
        return self._numbers[4]

    @property
    def invocations_us(self) -> Integers:
        """The invocation time of each entry."""
        return self._numbers[5]

    def with_records(self, records: Sequence[bytes]) -> OutboxEntries:
        """Return the entries with other bytes as their records."""
        return OutboxEntries(self._numbers, records)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[OutboxEntry]:
        columns: list[Any] = [column.tolist() for column in self._numbers]
        return map(OutboxEntry._make, zip(*columns, self.records, strict=True))

    @overload
    def __getitem__(self, place: int) -> OutboxEntry: ...

    @overload
    def __getitem__(self, place: slice) -> OutboxEntries: ...

    def __getitem__(self, place: int | slice) -> OutboxEntry | OutboxEntries:
        if isinstance(place, slice):
            return OutboxEntries([column[place] for column in self._numbers], self.records[place])
        return OutboxEntry._make([*(int(c[place]) for c in self._numbers), self.records[place]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"OutboxEntries({list(self)!r})"


def group_prefix(group: int) -> bytes:
    """Return the first bytes of every key of a group."""
    return _GROUP.pack(group)


def record_key(group: int, identifier: bytes) -> bytes:
    """Return the key of an identifier in a group."""
    if len(identifier) + 4 <= MAX_KEY:
        return _GROUP.pack(group) + identifier
    return _GROUP.pack(group) + _HASHED + hashlib.blake2b(identifier, digest_size=32).digest()


def record_keys(group: int, identifiers: Sequence[bytes]) -> list[bytes]:
    """Return the keys of many identifiers in a group, none longer than a key takes."""
    prefix = _GROUP.pack(group)
    return [prefix + identifier for identifier in identifiers]


def erased_prefix(group: int) -> bytes:
    """Return the first bytes of the keys of a group's tombstones of erasures."""
    return _GROUP.pack(group) + _ERASED


def erased_key(group: int, identifier: bytes, store_id: str) -> bytes:
    r"""Return the key of the tombstone that an erasure of an identifier leaves.

    It is found by the identifier and does not tell it: the hash is taken with the store's own
    name before it, so that no table made for another store fits. SHA-1 since Redis has it in its
    scripts; who makes two identifiers of one hash has one of them erased with the other.

    >>> erased_key(1, b"ada", "store")[4:13]
    b'\xfe1a096454'
    """
    digest = hashlib.sha1(store_id.encode() + identifier, usedforsecurity=False)
    return erased_prefix(group) + digest.hexdigest().encode()


def encode_value(value: StoredValue) -> bytes:
    """Write a stored value."""
    return pack_value(*value)


def pack_value(
    identifier: bytes,
    flags: int,
    schema_version: int,
    event_time_us: int,
    expires_us: int,
    sequence: int,
    record: bytes,
) -> bytes:
    """Write a stored value from its parts, in the order of StoredValue."""
    header = _pack_value(FORM, flags, schema_version & 0xFFFF, event_time_us, expires_us, sequence)
    if len(identifier) + 4 <= MAX_KEY:
        return header + record
    return header + _LENGTH.pack(len(identifier)) + identifier + record


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


def pack_values(
    schema_version: int,
    event_times_us: Integers,
    expires_us: Integers,
    sequences: Integers,
    records: Sequence[bytes],
) -> list[bytes]:
    """Write many stored values of puts, whose identifiers all fit into a key."""
    return _headed(schema_version, event_times_us, expires_us, sequences, records)


def pack_entries(
    schema_version: int,
    event_times_us: Integers,
    expires_us: Integers,
    invocation_us: int,
    records: Sequence[bytes],
) -> list[bytes]:
    """Write many outbox entries of puts that came in at once."""
    return _headed(schema_version, event_times_us, expires_us, invocation_us, records)


def outbox_keys(group: int, sequences: Integers) -> list[bytes]:
    """Return the keys of many outbox entries of a group."""
    rows = np.empty(len(sequences), _OUTBOX_KEY_ROW)
    rows["group"] = group
    rows["sequence"] = sequences
    return _cut(rows)


def _headed(
    schema_version: int,
    event_times_us: Integers,
    expires_us: Integers,
    last: Integers | int,
    records: Sequence[bytes],
) -> list[bytes]:
    # Values and outbox entries have headers of one layout.
    rows = np.empty(len(records), _OUTBOX_ROW)
    rows["form"] = FORM
    rows["flags"] = 0
    rows["schema_version"] = schema_version & 0xFFFF
    rows["event_time_us"] = event_times_us
    rows["expires_us"] = expires_us
    rows["invocation_us"] = last
    return [header + record for header, record in zip(_cut(rows), records, strict=True)]


def _cut(rows: npt.NDArray[np.void]) -> list[bytes]:
    """Return the bytes of each row."""
    data, size = rows.tobytes(), rows.dtype.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def outbox_key(group: int, sequence: int) -> bytes:
    """Return the key of an outbox entry; a group's entries sort by sequence."""
    return _OUTBOX_KEY.pack(group, sequence)


def encode_outbox(entry: OutboxEntry) -> bytes:
    """Write an outbox entry; the sequence is in its key."""
    return pack_entry(*entry[1:])


def pack_entry(
    flags: int,
    schema_version: int,
    event_time_us: int,
    expires_us: int,
    invocation_us: int,
    record: bytes,
) -> bytes:
    """Write an outbox entry from its parts, in the order of OutboxEntry."""
    return (
        _pack_outbox(FORM, flags, schema_version & 0xFFFF, event_time_us, expires_us, invocation_us)
        + record
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


def decode_outbox_entries(items: Sequence[tuple[bytes, bytes]]) -> OutboxEntries:
    """Read many outbox entries with their keys: `decode_outbox` for a slice of the outbox.

    Raises:
        StoreCorrupt: the bytes of one have another form.
    """
    size = _OUTBOX.size
    keys = np.frombuffer(b"".join([key for key, _ in items]), _OUTBOX_KEY_ROW)
    headers = np.frombuffer(b"".join([data[:size] for _, data in items]), _OUTBOX_ROW)
    for form in headers["form"][headers["form"] != FORM].tolist():
        _check_form(form)
    assert headers.dtype.names is not None
    numbers = [headers[name] for name in headers.dtype.names[1:]]
    return OutboxEntries(
        [keys["sequence"].astype(np.int64), *numbers], [data[size:] for _, data in items]
    )


def _check_form(form: int) -> None:
    if form != FORM:
        raise StoreCorrupt(
            f"a value of the online store: expected form {FORM}, got {form}; the store is damaged, "
            f"or was written by a later version"
        )
