"""A proxy before a Kafka broker: TLS, SASL, rights, partitions that appear, and a cable to pull.

It speaks the protocol itself as far as it has to: who may come in (SaslHandshake and
SaslAuthenticate, with SCRAM's server side), where to connect (Metadata and FindCoordinator name
the proxy), and what is denied. Everything else goes through to the broker as it is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import io
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kafka.protocol.consumer import FetchResponse, JoinGroupResponse
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    FindCoordinatorResponse,
    MetadataResponse,
)
from kafka.protocol.sasl import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
    SaslHandshakeRequest,
    SaslHandshakeResponse,
)

HOST = "127.0.0.1"
DENIED = {"Describe topic": 29, "Read topic": 29, "Read group": 30}
UNKNOWN_TOPIC, UNSUPPORTED_MECHANISM, AUTHENTICATION_FAILED = 3, 33, 58
ITERATIONS = 4096
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


class Proxy:
    """Listens on a port of its own and passes on to one broker.

    Args:
        broker: `HOST:PORT`.
        tls: of the listener; None: in the clear.
        users: name → password, for PLAIN and SCRAM; None: nobody has to log in.
        tokens: what OAUTHBEARER accepts.
        mechanisms: what is offered.
        max_versions: API key → the highest version that is offered.
    """

    def __init__(
        self,
        broker: str,
        *,
        tls: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
        tokens: tuple[str, ...] = (),
        mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"),
        max_versions: Mapping[int, int] | None = None,
    ) -> None:
        host, _, port = broker.rpartition(":")
        self._broker = (host, int(port))
        self._tls = tls
        self.users = users
        self.tokens = tokens
        self.mechanisms = mechanisms
        self.max_versions = dict(max_versions or {})
        self.denied: set[str] = set()
        self.hidden: set[int] = set()  # partitions that are not there yet
        self.is_up = True
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"{HOST}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def go_down(self) -> None:
        """End all connections, and every new one at once."""
        self.is_up = False
        self._drop()

    def come_back(self, broker: str | None = None) -> None:
        """Let connections through again, to another broker where one is named."""
        if broker is not None:
            host, _, port = broker.rpartition(":")
            self._broker = (host, int(port))
        self.is_up = True

    def close(self) -> None:
        self.is_up = False
        self._listener.close()
        self._drop()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _drop(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_up:
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            broker = socket.create_connection(self._broker, timeout=60)
        except (OSError, ssl.SSLError):
            connection.close()
            return
        with self._lock:
            self._connections |= {connection, broker}
        try:
            with connection, broker:
                _Conversation(self, connection, broker).go_on()
        except (OSError, ssl.SSLError, EOFError):
            pass  # one of the two has gone
        finally:
            with self._lock:
                self._connections -= {connection, broker}


class _Conversation:
    """One connection of a client."""

    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._broker = broker
        self._login: Callable[[bytes], tuple[bytes, bool]] | None = None
        self._is_in = proxy.users is None and not proxy.tokens

    def go_on(self) -> None:
        while True:
            request = _receive(self._client)
            key, version, number = struct.unpack_from(">hhi", request)
            if key == SaslHandshakeRequest.API_KEY:
                answer = self._shake_hands(request, version)
            elif key == SaslAuthenticateRequest.API_KEY:
                answer = self._authenticate(request, version)
                if answer.error_code:
                    self._answer(answer, version, number)
                    return
            elif key != ApiVersionsRequest.API_KEY and not self._is_in:
                return  # as brokers do with whoever does not log in
            else:
                _send(self._broker, request)
                passed = _receive(self._broker)
                rewrite = _REWRITES.get(key)
                if rewrite is None:
                    _send(self._client, passed)
                    continue
                response, edit = rewrite
                answer = response.decode(passed, version=version, header=True)
                if not edit(self._proxy, answer):
                    _send(self._client, passed)
                    continue
            self._answer(answer, version, number)

    def _answer(self, answer: Any, version: int, number: int) -> None:
        if isinstance(answer, ApiVersionsResponse) and answer.error_code:
            version = 0
        answer._header = None  # a response's header has no version to set
        answer.API_VERSION = version
        answer.with_header(correlation_id=number)
        _send(self._client, answer.encode(header=True))

    def _shake_hands(self, request: bytes, version: int) -> Any:
        asked = SaslHandshakeRequest.decode(request, version=version, header=True).mechanism
        is_offered = asked in self._proxy.mechanisms
        self._login = {"PLAIN": self._plain, "OAUTHBEARER": self._bearer}.get(
            asked, _Scram(self._proxy.users or {}, asked).step
        )
        return SaslHandshakeResponse(
            error_code=0 if is_offered else UNSUPPORTED_MECHANISM,
            mechanisms=list(self._proxy.mechanisms),
        )

    def _authenticate(self, request: bytes, version: int) -> Any:
        said = SaslAuthenticateRequest.decode(request, version=version, header=True).auth_bytes
        assert self._login is not None
        try:
            reply, self._is_in = self._login(bytes(said))
        except PermissionError as error:
            return SaslAuthenticateResponse(
                error_code=AUTHENTICATION_FAILED,
                error_message=f"Authentication failed: {error}",
                auth_bytes=b"",
                session_lifetime_ms=0,
            )
        return SaslAuthenticateResponse(
            error_code=0, error_message=None, auth_bytes=reply, session_lifetime_ms=0
        )

    def _plain(self, said: bytes) -> tuple[bytes, bool]:
        _, name, password = said.decode().split("\0")
        if (self._proxy.users or {}).get(name) != password:
            raise PermissionError("Invalid username or password")
        return b"", True

    def _bearer(self, said: bytes) -> tuple[bytes, bool]:
        token = said.decode().split("auth=Bearer ")[1].split("\x01")[0]
        if token not in self._proxy.tokens:
            raise PermissionError("invalid token")
        return b"", True


class _Scram:
    """The server's side of one login (RFC 5802)."""

    def __init__(self, users: Mapping[str, str], mechanism: str) -> None:
        self._users = users
        self._hash = HASHES.get(mechanism, "sha256")
        self._salt = os.urandom(16)
        self._first = ""
        self._sent = ""
        self._password = ""

    def step(self, said: bytes) -> tuple[bytes, bool]:
        text = said.decode()
        return self._begin(text) if not self._first else self._end(text)

    def _begin(self, text: str) -> tuple[bytes, bool]:
        self._first = text.split(",", 2)[2]
        fields = dict(part.split("=", 1) for part in self._first.split(","))
        self._password = self._users.get(fields["n"], "")
        nonce = fields["r"] + base64.b64encode(os.urandom(12)).decode()
        salt = base64.b64encode(self._salt).decode()
        self._sent = f"r={nonce},s={salt},i={ITERATIONS}"
        return self._sent.encode(), False

    def _end(self, text: str) -> tuple[bytes, bool]:
        bare, _, proof = text.rpartition(",p=")
        said = f"{self._first},{self._sent},{bare}".encode()
        salted = hashlib.pbkdf2_hmac(self._hash, self._password.encode(), self._salt, ITERATIONS)
        client_key = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.new(self._hash, client_key).digest(), said)
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        if not self._password or not hmac.compare_digest(expected, base64.b64decode(proof)):
            raise PermissionError("Invalid username or password")
        verifier = self._mac(self._mac(salted, b"Server Key"), said)
        return b"v=" + base64.b64encode(verifier), True

    def _mac(self, key: bytes, value: bytes) -> bytes:
        return hmac.new(key, value, self._hash).digest()


def _edit_versions(proxy: Proxy, answer: Any) -> bool:
    for entry in answer.api_keys:
        known = _REWRITES.get(entry.api_key)
        top = proxy.max_versions.get(entry.api_key, entry.max_version)
        entry.max_version = min(entry.max_version, top, known[0].max_version if known else top)
    kind = type(answer.api_keys[0])
    present = {entry.api_key for entry in answer.api_keys}
    for key, top in ((SaslHandshakeRequest.API_KEY, 1), (SaslAuthenticateRequest.API_KEY, 2)):
        if key not in present:
            answer.api_keys.append(kind(api_key=key, min_version=0, max_version=top))
    return True


def _edit_metadata(proxy: Proxy, answer: Any) -> bool:
    for broker in answer.brokers:
        broker.host, broker.port = HOST, proxy.port
    for topic in answer.topics:
        if "Describe topic" in proxy.denied:
            topic.error_code, topic.partitions = DENIED["Describe topic"], []
        topic.partitions = [
            part for part in topic.partitions if part.partition_index not in proxy.hidden
        ]
    return True


def _edit_coordinator(proxy: Proxy, answer: Any) -> bool:
    for found in answer.coordinators or [answer]:
        found.host, found.port = HOST, proxy.port
        if "Read group" in proxy.denied:
            found.error_code = DENIED["Read group"]
    return True


def _edit_join(proxy: Proxy, answer: Any) -> bool:
    if "Read group" in proxy.denied:
        answer.error_code = DENIED["Read group"]
    return "Read group" in proxy.denied


def _edit_fetch(proxy: Proxy, answer: Any) -> bool:
    if "Read topic" not in proxy.denied:
        return False
    for topic in answer.responses:
        for part in topic.partitions:
            part.error_code, part.records = DENIED["Read topic"], b""
    return True


_REWRITES: dict[int, tuple[Any, Callable[[Proxy, Any], bool]]] = {
    ApiVersionsResponse.API_KEY: (ApiVersionsResponse, _edit_versions),
    MetadataResponse.API_KEY: (MetadataResponse, _edit_metadata),
    FindCoordinatorResponse.API_KEY: (FindCoordinatorResponse, _edit_coordinator),
    JoinGroupResponse.API_KEY: (JoinGroupResponse, _edit_join),
    FetchResponse.API_KEY: (FetchResponse, _edit_fetch),
}


def _send(to: socket.socket, frame: bytes | bytearray) -> None:
    to.sendall(struct.pack(">i", len(frame)) + frame)


def _receive(source: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", _read(source, 4))
    return _read(source, size)


def _read(source: socket.socket, size: int) -> bytes:
    found = io.BytesIO()
    while found.tell() < size:
        part = source.recv(min(1 << 16, size - found.tell()))
        if not part:
            raise EOFError
        found.write(part)
    return found.getvalue()
