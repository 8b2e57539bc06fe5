"""A first look at a broker before the client library connects: says at once what is wrong.

The client libraries try again without end where TLS or the mechanism does not fit, and name no
reason. One connection of our own tells: can the host be reached, does TLS come about, does it
speak Kafka, does it ask for SASL, with which mechanisms, and does it know who we are.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

from kafka.net.sasl import get_sasl_mechanism

from ingest.sources.kafka_link import FaultKind, KafkaFault
from ingest.sources.kafka_python import sasl_settings
from ingest.sources.kafka_security import KafkaSecurity

__all__ = ["probe"]

_PAUSE_S: Final = 0.2
_STEP_S: Final = 3.0
_MAX_ANSWER_BYTES: Final = 1 << 20
_METADATA: Final = 3
_HANDSHAKE: Final = 17
_API_VERSIONS: Final = 18
_AUTHENTICATE: Final = 36
_CLIENT: Final = b"featureline-probe"
# Alert and handshake records, which only TLS begins with.
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")


def probe(servers: Sequence[str], security: KafkaSecurity, timeout_s: float) -> None:
    """Return when one of the addresses would let this client begin.

    Addresses that do not answer are tried again until the time is over; an answer that says no
    is final.

    Args:
        servers: `HOST:PORT` each.
        security: what the client will use.
        timeout_s: for all of them together.

    Raises:
        KafkaFault: AWAY, TLS, NO_LOGIN, MECHANISM or LOGIN.
        InvalidRequest: the security's files cannot be used.
    """
    context = security.context() if security.is_tls else None
    deadline = time.monotonic() + timeout_s
    while True:
        faults = []
        for server in servers:
            try:
                _try(server, security, context)
            except KafkaFault as fault:
                faults.append(fault)
            else:
                return
        told = [fault for fault in faults if fault.kind is not FaultKind.AWAY]
        if told:
            raise told[0]
        if time.monotonic() > deadline:
            raise KafkaFault(FaultKind.AWAY, "; ".join(fault.text for fault in faults))
        time.sleep(_PAUSE_S)


def _try(server: str, security: KafkaSecurity, context: ssl.SSLContext | None) -> None:
    host, _, port = server.rpartition(":") if ":" in server else (server, "", "9092")
    host = host.strip("[]")
    try:
        connection = socket.create_connection((host, int(port)), timeout=_STEP_S)
    except (OSError, ValueError) as error:
        raise KafkaFault(FaultKind.AWAY, f"{server}: {error}") from error
    with connection:
        if context is None:
            _greet(connection, server, security)
        else:
            with _encrypted(connection, context, host, server) as secured:
                _greet(secured, server, security)


def _encrypted(
    connection: socket.socket, context: ssl.SSLContext, host: str, server: str
) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        if "hostname mismatch" in str(error).lower() or "ip address mismatch" in str(error).lower():
            raise KafkaFault(
                FaultKind.TLS,
                f"{server}: the broker's certificate is for another name ({error.verify_message}); "
                f"use a name that is in it, or check_hostname = false if that cannot be",
            ) from error
        raise KafkaFault(
            FaultKind.TLS,
            f"{server}: the broker's certificate is not trusted ({error.verify_message}); name "
            f"the authority that signed it as ca",
        ) from error
    except (ssl.SSLError, ConnectionError) as error:
        if isinstance(error, ssl.SSLError) and _is_alert(error):
            raise KafkaFault(FaultKind.TLS, _alert(server, error)) from error
        raise KafkaFault(
            FaultKind.TLS,
            f"{server}: no TLS there ({error}); if this is a listener in the clear, use protocol "
            f"PLAINTEXT or SASL_PLAINTEXT, or take the port of the TLS listener",
        ) from error
    except TimeoutError as error:
        raise KafkaFault(
            FaultKind.TLS,
            f"{server}: it answers no TLS within {_STEP_S:g} s; if this is a listener in the "
            f"clear, use protocol PLAINTEXT or SASL_PLAINTEXT",
        ) from error
    except OSError as error:
        raise KafkaFault(FaultKind.AWAY, f"{server}: {error}") from error


def _greet(connection: socket.socket, server: str, security: KafkaSecurity) -> None:
    """Ask which requests it knows, then for a mechanism, or for what needs none."""
    try:
        _ask(connection, _API_VERSIONS, 0, b"")
    except ssl.SSLError as error:
        raise KafkaFault(FaultKind.TLS, _alert(server, error)) from error
    except TimeoutError as error:
        # A broker that has too much to do looks the same; the client waits longer.
        raise KafkaFault(FaultKind.AWAY, f"{server}: no answer within {_STEP_S:g} s") from error
    except (OSError, ValueError) as error:
        if security.is_tls and security.certificate is not None:
            raise KafkaFault(FaultKind.AWAY, f"{server}: {error}") from error
        if security.is_tls:
            raise KafkaFault(FaultKind.TLS, _broken_off(server, str(error))) from error
        raise KafkaFault(
            FaultKind.TLS if _speaks_tls(server) else FaultKind.AWAY,
            f"{server}: no Kafka in the clear there ({error}); if this is a TLS listener, use "
            f"protocol SSL or SASL_SSL",
        ) from error
    try:
        if security.is_sasl:
            _shake_hands(connection, server, security.mechanism or "")
            _log_in(connection, server, security)
        else:
            _ask(connection, _METADATA, 1, struct.pack(">i", 0))
    except (OSError, ValueError) as error:
        if security.is_sasl:
            raise KafkaFault(FaultKind.AWAY, f"{server}: {error}") from error
        raise KafkaFault(
            FaultKind.NO_LOGIN,
            f"{server}: it closes the connection to a client that does not log in ({error}); use "
            f"protocol {'SASL_SSL' if security.is_tls else 'SASL_PLAINTEXT'} with a mechanism",
        ) from error


def _shake_hands(connection: socket.socket, server: str, mechanism: str) -> None:
    answer = _ask(connection, _HANDSHAKE, 1, _text(mechanism.encode()))
    code, count = struct.unpack_from(">hi", answer)
    offered, at = [], 6
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, at)
        offered.append(answer[at + 2 : at + 2 + length].decode(errors="replace"))
        at += 2 + length
    if code or mechanism not in offered:
        raise KafkaFault(
            FaultKind.MECHANISM,
            f"{server}: it does not offer mechanism {mechanism}; it offers "
            f"{', '.join(sorted(offered)) or 'none'}",
        )


def _log_in(connection: socket.socket, server: str, security: KafkaSecurity) -> None:
    login: Any = get_sasl_mechanism(security.mechanism)(
        host=server, **sasl_settings(security), security_protocol=security.protocol
    )
    while not login.is_done():
        said = login.auth_bytes()
        answer = _ask(connection, _AUTHENTICATE, 0, struct.pack(">i", len(said)) + said)
        code, length = struct.unpack_from(">hh", answer)
        at = 4 + max(length, 0)
        if code:
            words = answer[4:at].decode(errors="replace") or f"error {code}"
            raise KafkaFault(FaultKind.LOGIN, f"{server}: {words}")
        (size,) = struct.unpack_from(">i", answer, at)
        try:
            login.receive(answer[at + 4 : at + 4 + size])
        except ValueError as error:
            raise KafkaFault(FaultKind.LOGIN, f"{server}: {error}") from error


def _ask(connection: socket.socket, key: int, version: int, body: bytes) -> bytes:
    request = struct.pack(">hhi", key, version, 1) + _text(_CLIENT) + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    head = _read(connection, 4)
    (size,) = struct.unpack(">i", head)
    if head[:2] in _TLS_RECORDS or not 4 <= size <= _MAX_ANSWER_BYTES:
        raise ValueError(f"it answers {head!r}")
    return _read(connection, size)[4:]


def _read(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionResetError("it closed the connection")
        found += part
    return found


def _text(value: bytes) -> bytes:
    return struct.pack(">h", len(value)) + value


def _speaks_tls(server: str) -> bool:
    """Whether a handshake comes about there, whatever the certificate says."""
    host, _, port = server.rpartition(":") if ":" in server else (server, "", "9092")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_STEP_S) as connection,
            context.wrap_socket(connection, server_hostname=host.strip("[]")),
        ):
            return True
    except ssl.SSLError as error:
        return _is_alert(error)
    except OSError:
        return False


def _is_alert(error: ssl.SSLError) -> bool:
    return "ALERT" in str(error.reason)


def _alert(server: str, error: ssl.SSLError) -> str:
    reason = str(error.reason or error.strerror or error)
    if "ALERT" in reason and "CERTIFICATE" not in reason and "UNKNOWN_CA" not in reason:
        return f"{server}: the broker broke TLS off ({reason})"
    return _broken_off(server, reason)


def _broken_off(server: str, reason: str) -> str:
    return (
        f"{server}: the broker ended TLS after the handshake ({reason}), as it does without a "
        f"certificate that it trusts; give this client one as certificate and key"
    )
