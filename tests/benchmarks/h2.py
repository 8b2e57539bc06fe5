"""A load generator's end of HTTP/2: unary gRPC calls as ready frames, their replies only counted.

It does no more than a load generator needs: no compression of headers, no trailers read. A call
that the server refuses is seen by its reply, which has one block of headers and not two.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, final

__all__ = ["call_for"]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_HEAD: Final = 9
_WHOLE_WINDOW: Final = (1 << 31) - 1
_FIRST_WINDOW: Final = 65_535
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4
_ATONCE: Final = 1 << 18
_STALL_S: Final = 20.0


def call_for(
    address: str,
    method: str,
    messages: Iterator[bytes],
    *,
    in_flight: int,
    seconds: float,
    connections: int = 1,
) -> tuple[list[float], float]:
    """Keep so many calls under way for so long.

    Args:
        address: `host:port`, plaintext.
        method: `/service/method`.
        messages: requests, without an end.
        in_flight: calls under way on all connections together.
        seconds: how long new ones are made.
        connections: what they are spread over.

    Returns:
        How long each call took, in ms, and the seconds from the first call to the last reply.

    Raises:
        RuntimeError: the server refused a call or ended a connection, or does not answer.
    """
    ends = [
        _Connection(address, method, messages, in_flight // connections) for _ in range(connections)
    ]
    try:
        with selectors.DefaultSelector() as selector:
            for end in ends:
                selector.register(end.socket, selectors.EVENT_READ, end)
            began = time.perf_counter()
            until = began + seconds
            for end in ends:
                end.fill(until)
            while any(end.is_busy for end in ends):
                ready = selector.select(_STALL_S)
                if not ready:
                    raise RuntimeError(f"{method}: no reply for {_STALL_S:g} s")
                for key, _ in ready:
                    key.data.take(until)
            took = time.perf_counter() - began
        if any(end.blocks != 2 * len(end.times) for end in ends):
            raise RuntimeError(f"{method}: the server refused calls")
    finally:
        for end in ends:
            end.socket.close()
    return [1000.0 * duration for end in ends for duration in end.times], took


@final
class _Connection:
    def __init__(
        self, address: str, method: str, messages: Iterator[bytes], in_flight: int
    ) -> None:
        host, _, port = address.rpartition(":")
        self.times: list[float] = []
        self.socket = socket.create_connection((host, int(port)), timeout=_STALL_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._method = method
        self._messages = messages
        self._in_flight = in_flight
        self._headers = _header_block(address, method)
        self._started: dict[int, float] = {}
        self._next = 1
        self._window = _FIRST_WINDOW
        self._body = self._read_body()
        self._unread = b""
        self.blocks = 0
        self._received = 0
        settings = struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, _WHOLE_WINDOW)
        self.socket.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW, 0, 0, struct.pack(">I", _WHOLE_WINDOW - _FIRST_WINDOW))
        )

    @property
    def is_busy(self) -> bool:
        """Whether replies are awaited."""
        return bool(self._started)

    def fill(self, until: float) -> None:
        """Start as many calls as may be under way, within the server's window."""
        started, parts = self._started, []
        while len(started) < self._in_flight:
            body, now = self._body, time.perf_counter()
            if now >= until or len(body) > self._window:
                break
            self._window -= len(body)
            self._body = self._read_body()
            number = self._next
            self._next += 2
            started[number] = now
            parts.append(_frame(_HEADERS, _END_HEADERS, number, self._headers))
            parts.append(_frame(_DATA, _END_STREAM, number, body))
        if parts:
            self.socket.sendall(b"".join(parts))

    def _read_body(self) -> bytes:
        message = next(self._messages)
        return struct.pack(">?I", False, len(message)) + message

    def take(self, until: float) -> None:
        """Read what has come, note the calls that ended, start others in their place."""
        received = self.socket.recv(_ATONCE)
        if not received:
            raise RuntimeError(f"{self._method}: the server closed the connection")
        data = self._unread + received
        at, size = 0, len(data)
        now = time.perf_counter()
        while size - at >= _HEAD:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + _HEAD + length
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == _HEADERS:
                self.blocks += 1
                if flags & _END_STREAM:
                    number = int.from_bytes(data[at + 5 : at + _HEAD], "big")
                    self.times.append(now - self._started.pop(number))
            elif kind == _DATA:
                self._received += length
            else:
                stream = int.from_bytes(data[at + 5 : at + _HEAD], "big")
                self._heed(kind, flags, stream, data[at + _HEAD : end])
            at = end
        self._unread = data[at:]
        if self._received > _WHOLE_WINDOW // 2:
            self.socket.sendall(_frame(_WINDOW, 0, 0, struct.pack(">I", self._received)))
            self._received = 0
        self.fill(until)

    def _heed(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _WINDOW:
            # Those of streams do not matter: a request is smaller than the first window.
            self._window += 0 if stream else int.from_bytes(body, "big")
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            answer = body if kind == _PING else b""
            self.socket.sendall(_frame(kind, _ACK, 0, answer))
        elif kind in (_RST, _GOAWAY):
            raise RuntimeError(f"{self._method}: the server ended a call or the connection")


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + body


def _header_block(address: str, method: str) -> bytes:
    """Write the headers of a call, each literally, so that it says the same in every call."""
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(method),  # :path
            b"\x01" + _text(address),  # :authority
            b"\x0f\x10" + _text("application/grpc"),  # content-type
            b"\x00" + _text("te") + _text("trailers"),
        )
    )


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()
