"""Compressed messages: values that the producer itself compressed, around any other decoder."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, final, get_args

import pyarrow as pa

from featurestore.record import shown
from ingest.decode import Decoded, Decoder
from ingest.decoders.plain import bytes_of
from ingest.errors import Undecodable
from ingest.source import Message

__all__ = ["MAX_BYTES", "CompressedDecoder", "Compression"]

_Decompress: TypeAlias = Callable[[bytes, int], bytes]
Compression: TypeAlias = Literal["gzip", "zstd", "lz4", "snappy"]

MAX_BYTES: Final = 16 * 1024 * 1024
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
# The block format of the snappy library for Java, which Kafka's own clients use.
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_ZSTD: Final[Any] = pa.Codec("zstd")
_SNAPPY: Final[Any] = pa.Codec("snappy")
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_HEADER_BYTES: Final = 18
_FRAMED: Final = b"\xff\x06\x00\x00sNaPpY"


@final
class CompressedDecoder(Decoder):
    """Decompresses a message's value and has another decoder read it.

    This is for values that a producer compressed before it sent them. What Kafka compresses, whole
    batches of messages, the source's client has decompressed already.

    gzip takes zlib's form too, and several members one after another; lz4 is the frame format;
    snappy is the plain format or the blocks of Java's library. lz4 and zstd are far faster with the
    libraries of extra `compression`.

    Args:
        inner: reads what was compressed; its mapping is this decoder's.
        compression: of every value.
        max_bytes: a value that grows larger is refused, and is not decompressed further: a few
            kilobytes can be made that stand for gigabytes.

    Raises:
        ValueError: no such compression, or `max_bytes` is below 1.

    >>> from ingest import JsonDecoder
    >>> import gzip
    >>> decoder = CompressedDecoder(JsonDecoder(), "gzip")
    >>> decoder.decode(Message("0", 0, gzip.compress(b'{"temp": 3.5}')))
    {'temp': 3.5}
    """

    def __init__(
        self, inner: Decoder, compression: Compression, *, max_bytes: int = MAX_BYTES
    ) -> None:
        super().__init__(inner.mapping)
        if compression not in get_args(Compression):
            raise ValueError(
                f"compression: expected one of {', '.join(get_args(Compression))}, "
                f"got {compression!r}"
            )
        if max_bytes < 1:
            raise ValueError(f"max_bytes: expected at least 1, got {max_bytes}")
        self._inner = inner
        self._compression = compression
        self._max_bytes = max_bytes
        self._decompress: _Decompress = _DECOMPRESS[compression]()

    def decode(self, message: Message) -> Decoded:
        """Return what the inner decoder makes of the decompressed value.

        A message without a value has nothing to decompress, and goes to the inner decoder as it is.

        Raises:
            Undecodable: the value is not compressed so, is damaged, or is too large.
        """
        return self._inner.decode(self._decompressed(message))

    def schema_of(self, message: Message) -> str | None:
        """Name the schema that the inner decoder finds in the decompressed value."""
        try:
            return self._inner.schema_of(self._decompressed(message))
        except Undecodable:
            return None

    def _decompressed(self, message: Message) -> Message:
        if message.value is None:
            return message
        value = bytes_of(message, f"bytes compressed by {self._compression}")
        try:
            plain = self._decompress(value, self._max_bytes)
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise Undecodable(
                "message",
                expected=f"bytes compressed by {self._compression}",
                got=f"{shown(value[:20].hex())} in hex: {shown(str(error))}",
            ) from None
        if len(plain) > self._max_bytes:
            raise Undecodable(
                "message",
                expected=f"at most {self._max_bytes} bytes when decompressed",
                got=f"more, of {len(value)} bytes compressed",
            )
        return message._replace(value=plain)


def _one_after_another(new: Callable[[], Any]) -> _Decompress:
    """Decompress members or frames that follow each other, as gzip and lz4 allow.

    Args:
        new: makes what decompresses one, to at most so many bytes.
    """

    def decompress(value: bytes, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            member = new()
            part = member.decompress(value, max_bytes + 1 - size)
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                break
            if not member.eof:
                raise EOFError("it ends too early")
            value = member.unused_data
            if not value:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return decompress


def _lz4() -> _Decompress:
    """Decompress by lz4 where it is installed: 2 µs in place of 20 for a small value."""
    try:
        import lz4.frame
    except ImportError:
        return _streamed("lz4")
    at_once = _one_after_another(lz4.frame.LZ4FrameDecompressor)

    def decompress(value: bytes, max_bytes: int) -> bytes:
        try:
            return at_once(value, max_bytes)
        except RuntimeError as error:  # what the library raises on anything
            raise ValueError(str(error)) from None

    return decompress


def _streamed(codec: str) -> _Decompress:
    def decompress(value: bytes, max_bytes: int) -> bytes:
        with pa.CompressedInputStream(pa.BufferReader(value), codec) as stream:
            plain: bytes = stream.read(max_bytes + 1)
        return plain

    return decompress


def _zstd() -> _Decompress:
    """Decompress at once where the frame tells its size, as a stream elsewhere.

    zstandard keeps what it works with from value to value: 1 µs in place of 60 for a small one.
    """
    at_once: Callable[[bytes, int], Any]
    try:
        import zstandard
    except ImportError:
        failures: tuple[type[Exception], ...] = (OSError,)

        def at_once(value: bytes, size: int) -> Any:
            return _ZSTD.decompress(value, decompressed_size=size, asbytes=True)
    else:
        failures = (zstandard.ZstdError,)
        kept = zstandard.ZstdDecompressor()

        def at_once(value: bytes, size: int) -> Any:
            return kept.decompress(value, allow_extra_data=False)

    def decompress(value: bytes, max_bytes: int) -> bytes:
        size = _zstd_size(value)
        if size is not None:
            if size > max_bytes:
                return bytes(max_bytes + 1)
            try:
                return bytes(at_once(value, size))
            except failures:
                pass  # damaged, or several frames
        return _zstd_streamed(value, max_bytes)

    return decompress


def _zstd_size(value: bytes) -> int | None:
    """Read the size from a frame's header (RFC 8878, section 3.1.1.1), where it has one."""
    if len(value) < _ZSTD_HEADER_BYTES or not value.startswith(_ZSTD_MAGIC):
        return None
    descriptor = value[4]
    is_single_segment = bool(descriptor & 0x20)
    flag = descriptor >> 6
    if not flag and not is_single_segment:
        return None
    width = 1 << flag
    place = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(value[place : place + width], "little")
    return size + 256 if width == 2 else size


def _snappy(value: bytes, max_bytes: int) -> bytes:
    if value.startswith(_FRAMED):
        raise ValueError("the framing format, which is not read: send the plain one")
    if not value.startswith(_XERIAL):
        return _snappy_block(value, max_bytes)
    parts = []
    size, place = 0, _XERIAL_HEADER_BYTES
    while place < len(value) and size <= max_bytes:
        length = int.from_bytes(value[place : place + 4], "big")
        place += 4
        if length > len(value) - place:
            raise EOFError("it ends within a block")
        part = _snappy_block(value[place : place + length], max_bytes - size)
        parts.append(part)
        size += len(part)
        place += length
    return b"".join(parts)


_zstd_streamed: Final = _streamed("zstd")


def _snappy_block(value: bytes, max_bytes: int) -> bytes:
    """Decompress one block, whose first bytes say how large it is.

    A block that says more than `max_bytes` is not read: what comes back is as long as that.
    """
    size = shift = 0
    for byte in value[:5]:
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    else:
        raise ValueError("no size at its beginning")
    if size > max_bytes:
        return bytes(max_bytes + 1)
    return bytes(_SNAPPY.decompress(value, decompressed_size=size, asbytes=True))


_DECOMPRESS: Final[dict[str, Callable[[], _Decompress]]] = {
    "gzip": lambda: _one_after_another(lambda: zlib.decompressobj(_GZIP_OR_ZLIB)),
    "zstd": _zstd,
    "lz4": _lz4,
    "snappy": lambda: _snappy,
}
