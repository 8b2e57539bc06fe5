"""HTTP/2 spoken byte by byte: what no client library would send."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["Connection", "Frame", "frame", "header_block", "message"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION: Final = 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE: Final = 4
DEFAULT_WINDOW: Final = 65_535
MAX_FRAME: Final = 16_384


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def header_block(path: str, extra: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """Write the headers of a gRPC call, each as a literal that is not indexed."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *extra,
    ]
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def message(body: bytes, *, length: int | None = None, compressed: bool = False) -> bytes:
    """Write a gRPC message; `length` is what it says of itself."""
    return struct.pack(">BI", compressed, len(body) if length is None else length) + body


class Connection:
    """A connection that says what it is told to say.

    Args:
        address: `host:port`.
        window: how many bytes of each reply the server may send before it is allowed more.
        greet: begin as HTTP/2 asks for.
    """

    def __init__(self, address: str, *, window: int | None = None, greet: bool = True) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self._read = b""
        self._may_send = self._stream_may_send = 0
        if greet:
            settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Send bytes; whether the server still takes them."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            return False
        return True

    def call(
        self,
        path: str,
        body: bytes,
        *,
        stream: int = 1,
        extra: Iterable[tuple[bytes, bytes]] = (),
    ) -> bool:
        """Send a whole unary call; whether the server took it."""
        return self.send(
            frame(HEADERS, END_HEADERS, stream, header_block(path, extra))
            + frame(DATA, END_STREAM, stream, body)
        )

    def open(self, path: str, *, stream: int = 1) -> None:
        """Begin a call whose messages are to follow."""
        self.send(frame(HEADERS, END_HEADERS, stream, header_block(path)))
        self._may_send, self._stream_may_send = DEFAULT_WINDOW, DEFAULT_WINDOW

    def pour(self, data: bytes, most: int, *, stream: int = 1, quiet_s: float = 1.5) -> int:
        """Send bytes over and over, as fast as the server asks for them.

        Args:
            data: what is sent; whole messages.
            most: when to stop, in bytes.
            stream: the call.
            quiet_s: how long the server may ask for nothing.

        Returns:
            how many bytes it took.
        """
        sent = 0
        while sent < most:
            size = min(self._may_send, self._stream_may_send, MAX_FRAME, most - sent)
            if size <= 0:
                if not self._wait_for_room(stream, quiet_s):
                    return sent
                continue
            begin = sent % len(data)
            part = (data[begin:] + data)[:size] if size > len(data) - begin else data[begin:][:size]
            if not self.send(frame(DATA, 0, stream, part)):
                return sent
            sent += len(part)
            self._may_send -= len(part)
            self._stream_may_send -= len(part)
        return sent

    def _wait_for_room(self, stream: int, quiet_s: float) -> bool:
        until = time.monotonic() + quiet_s
        while (left := until - time.monotonic()) > 0:
            for got in self.frames(left):
                if got.kind == WINDOW_UPDATE and got.stream in (0, stream):
                    more = int.from_bytes(got.payload, "big")
                    if got.stream:
                        self._stream_may_send += more
                    else:
                        self._may_send += more
                elif got.kind == SETTINGS and not got.flags & ACK:
                    self._stream_may_send += _window_change(got.payload)
                    self.send(frame(SETTINGS, ACK, 0))
                elif got.kind == PING and not got.flags & ACK:
                    self.send(frame(PING, ACK, 0, got.payload))
                elif got.kind == RST_STREAM:
                    return False
                if min(self._may_send, self._stream_may_send) > 0:
                    return True
                if time.monotonic() > until:
                    return False
        return False

    def frames(self, timeout_s: float = 5.0) -> Iterator[Frame]:
        """Read frames until the server closes the connection, or is silent for so long."""
        until = time.monotonic() + timeout_s
        while (head := self._take(9, until)) is not None:
            body = self._take(int.from_bytes(head[:3], "big"), until)
            if body is None:
                return
            until = time.monotonic() + timeout_s
            yield Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), body)

    def ended(self, timeout_s: float = 5.0) -> str:
        """Wait for the end of a call or of the connection, and say which it was."""
        for got in self.frames(timeout_s):
            if got.kind == GOAWAY and int.from_bytes(got.payload[4:8], "big"):
                return "goaway"
            if got.kind == RST_STREAM:
                return "reset"
            if got.kind == HEADERS and got.flags & END_STREAM:
                return "trailers"
            if got.kind == PING and not got.flags & ACK:
                self.send(frame(PING, ACK, 0, got.payload))
        return "closed" if self.is_closed() else "silence"

    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        self.socket.settimeout(0.01)
        try:
            while data := self.socket.recv(65536):
                self._read += data
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def _take(self, size: int, until: float) -> bytes | None:
        while len(self._read) < size:
            left = until - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                try:
                    data = self.socket.recv(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._read += data
        taken, self._read = self._read[:size], self._read[size:]
        return taken


def _window_change(settings: bytes) -> int:
    """Return by how much a stream's window changes from what HTTP/2 begins with."""
    for name, value in struct.iter_unpack(">HI", settings):
        if name == INITIAL_WINDOW_SIZE:
            return int(value) - DEFAULT_WINDOW
    return 0


def _text(text: bytes) -> bytes:
    """Write a string of HPACK without Huffman coding."""
    if len(text) < 127:
        return bytes((len(text),)) + text
    rest, parts = len(text) - 127, bytearray(b"\x7f")
    while rest >= 128:
        parts.append(rest % 128 + 128)
        rest //= 128
    return bytes((*parts, rest)) + text
