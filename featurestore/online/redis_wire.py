"""How batches, keys and sequences are written for the scripts of the Redis store."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, final

from featurestore import codec
from featurestore.codec import OutboxEntry
from featurestore.online.base import Batch, Outcome, Write
from featurestore.position import SourcePosition

__all__ = [
    "FORMAT_KEY",
    "Keys",
    "PackedBatches",
    "pack_batches",
    "pack_sequence",
    "pack_time",
    "read_outcomes",
    "read_stream_id",
    "stream_id",
    "unpack_sequence",
    "unpack_time",
]

FORMAT_KEY: Final = b"featureline:format"  # one for a database; the namespaces share it
SHARD: Final = 0  # a feature group is one shard; its number has a place in the keys
_ONLINE, _OFFLINE, _EXPECTED, _LONG = 1, 2, 4, 8
_SEQUENCE: Final = struct.Struct("<Q")
_TIME: Final = struct.Struct("<q")
_COUNT: Final = struct.Struct("<I")
_BATCH: Final = struct.Struct("<HHII")
_PART: Final = struct.Struct("<HBB")
_WRITE: Final = struct.Struct("<HBHI")
_LENGTH: Final = struct.Struct("<H")
_OUTCOMES: Final = {48 + outcome: outcome for outcome in Outcome}  # by the code of its digit


@final
class Keys:
    """The names of a store's keys.

    What lies in braces decides the slot in a cluster: all keys of a feature group share one, and
    all keys of a source.
    """

    def __init__(self, namespace: str) -> None:
        self.prefix = f"featureline:{{{namespace}/".encode()
        self._group: dict[int, tuple[bytes, bytes, bytes, bytes]] = {}
        self.store = self.prefix + b"store}:store"
        self.groups = self.prefix + b"store}:groups"

    def of_group(self, group: int) -> tuple[bytes, bytes, bytes, bytes]:
        """Return values, index, outbox and state of a feature group."""
        found = self._group.get(group)
        if found is None:
            tag = self.prefix + b"%d:%d}:" % (group, SHARD)
            found = (tag + b"values", tag + b"index", tag + b"outbox", tag + b"state")
            self._group[group] = found
        return found

    def positions(self, source: str) -> bytes:
        """Return the positions of a source."""
        return self._source(source, b"positions")

    def redo(self, source: str) -> bytes:
        """Return the redo log of a source."""
        return self._source(source, b"redo")

    def number(self, source: str) -> bytes:
        """Return the number of a source's last batch in the redo log."""
        return self._source(source, b"number")

    def _source(self, source: str, what: bytes) -> bytes:
        # The source comes last: whatever it holds, the braces before it close the tag of its own
        # only when it has none; a '}' inside shortens the tag for all its keys alike.
        return self.prefix + b"source:" + source.encode() + b"}:" + what


class PackedBatches(NamedTuple):
    """Batches as put.lua takes them.

    Args:
        groups: the feature groups, in the order of their keys.
        sources: the sources, in the order of their keys.
        data: the batches.
    """

    groups: Sequence[int]
    sources: Sequence[str]
    data: bytes


def pack_batches(batches: Sequence[Batch]) -> PackedBatches:
    """Write batches for put.lua."""
    groups: dict[int, int] = {}
    sources: dict[str, int] = {}
    pieces = [_COUNT.pack(len(batches))]
    for batch in batches:
        parts: list[bytes] = []
        source = 0
        if batch.position is not None and batch.position.partitions:
            source = sources.setdefault(batch.position.source, len(sources))
            parts = list(_parts(batch.position))
        size = sum(map(len, parts))
        count = len(batch.position.partitions) if batch.position is not None else 0
        pieces.append(_BATCH.pack(count, source, size, len(batch.writes)))
        pieces.extend(parts)
        for write in batch.writes:
            _pack_write(pieces, groups.setdefault(write.group, len(groups)), write)
    return PackedBatches(list(groups), list(sources), b"".join(pieces))


def read_outcomes(digits: bytes) -> list[Outcome]:
    """Read the outcomes of one batch."""
    return [_OUTCOMES[digit] for digit in digits]


def pack_sequence(sequence: int) -> bytes:
    """Write a sequence as the scripts take it."""
    return _SEQUENCE.pack(sequence)


def unpack_sequence(data: bytes) -> int:
    """Read a sequence that a script answered."""
    return int(_SEQUENCE.unpack(data)[0])


def pack_time(us: int) -> bytes:
    """Write an event time as the scripts take it."""
    return _TIME.pack(us)


def unpack_time(data: bytes) -> int:
    """Read an event time that a script answered."""
    return int(_TIME.unpack(data)[0])


def stream_id(sequence: int) -> str:
    """Write a sequence as an ID of the outbox stream: its two halves, which sort alike.

    >>> stream_id(2**32 + 7)
    '1-7'
    """
    return f"{sequence >> 32}-{sequence & 0xFFFFFFFF}"


def read_stream_id(data: bytes) -> int:
    """Read the sequence in a stream ID."""
    high, _, low = data.partition(b"-")
    return int(high) << 32 | int(low)


def stored_positions(flat: Sequence[bytes]) -> dict[str, int]:
    """Read the answer of HGETALL on positions."""
    return {
        partition.decode(): int(following)
        for partition, following in zip(flat[::2], flat[1::2], strict=True)
    }


def position_fields(stored: Mapping[str, int]) -> Iterable[bytes]:
    """Write positions as HSET takes them."""
    for partition, following in stored.items():
        yield partition.encode()
        yield b"%d" % following


def _parts(position: SourcePosition) -> Iterable[bytes]:
    for part in position.partitions:
        partition = part.partition.encode()
        start, following = b"%d" % part.start, b"%d" % part.next
        yield _PART.pack(len(partition), len(start), len(following)) + partition + start + following


def _pack_write(pieces: list[bytes], group: int, write: Write) -> None:
    key = codec.record_key(write.group, write.identifier)[4:]
    entry = codec.encode_outbox(
        OutboxEntry(
            0,
            write.flags,
            write.schema_version,
            write.event_time_us,
            write.expires_us,
            write.invocation_us,
            write.record,
        )
    )
    control = _ONLINE * write.online | _OFFLINE * write.offline
    long = len(write.identifier) + 4 > codec.MAX_KEY
    if write.expected is not None:
        control |= _EXPECTED
    if long:
        control |= _LONG
    pieces += (_WRITE.pack(group, control, len(key), len(entry)), key, entry)
    if write.expected is not None:
        pieces.append(_SEQUENCE.pack(write.expected))
    if long:
        pieces += (_LENGTH.pack(len(write.identifier)), write.identifier)
