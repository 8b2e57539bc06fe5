"""TFRecord files: length (uint64), its masked CRC-32C, the bytes of a record, theirs.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord, section on the format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final

from training.errors import InvalidData

__all__ = ["TFRECORDS", "framed", "masked_crc32c", "read_frames", "unframed"]

TFRECORDS: Final = "application/x-tfrecord"
"""The content type of such files."""

_POLYNOMIAL: Final = 0x82F63B78
_MASK: Final = 0xA282EAD8
_HEAD: Final = struct.Struct("<QI")
_CRC: Final = struct.Struct("<I")


def framed(data: bytes) -> bytes:
    """Return a TFRecord of some bytes.

    >>> unframed(framed(b"wind"))
    b'wind'
    """
    length = struct.pack("<Q", len(data))
    crcs = _CRC.pack(masked_crc32c(length)), _CRC.pack(masked_crc32c(data))
    return b"".join((length, crcs[0], data, crcs[1]))


def unframed(record: bytes) -> bytes:
    """Return the bytes of a record that `read_frames` gave."""
    return record[_HEAD.size : -_CRC.size]


def read_frames(file: IO[bytes] | Any) -> Iterator[bytes]:
    """Yield the records of a file, each with its frame.

    Raises:
        InvalidData: a record ends early, or a checksum does not fit; the message has its number.
    """
    number = place = 0
    while head := file.read(_HEAD.size):
        number += 1
        at = f"record {number} at byte {place}"
        if len(head) < _HEAD.size:
            raise InvalidData(f"{at}: expected {_HEAD.size} bytes of a TFRecord, got {len(head)}")
        length, crc = _HEAD.unpack(head)
        if masked_crc32c(head[:8]) != crc:
            raise InvalidData(f"{at}: the checksum of its length is wrong: this is no TFRecord")
        rest = file.read(length + _CRC.size)
        if len(rest) < length + _CRC.size:
            raise InvalidData(
                f"{at}: expected {length + _CRC.size} more bytes, got {len(rest)}: it is cut off"
            )
        if masked_crc32c(rest[:length]) != _CRC.unpack_from(rest, length)[0]:
            raise InvalidData(
                f"{at}: the checksum of its {length} bytes is wrong: they were changed"
            )
        yield head + rest
        place += len(head) + len(rest)


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes, rotated and shifted as TFRecords have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _table() -> Iterator[int]:
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        yield crc


_TABLE: Final[Sequence[int]] = tuple(_table())
