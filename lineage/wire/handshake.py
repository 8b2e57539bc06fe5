"""Why a connection did not come about, where TLS is the reason."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

from lineage.wire.channel import ClientTls, place_of

__all__ = ["why_unreachable"]

# What gRPC says when the two ends do not agree on TLS.
_CAUSES: Final = (
    (
        ("Peer name", "Hostname Verification"),
        "the server's certificate is for another name: connect by a name that the certificate "
        "has, or give that name as `server_name`",
    ),
    (
        ("certificate has expired", "certificate is not yet valid"),
        "the server's certificate is not valid now: renew it, and check the clocks of both ends",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "the server's certificate is not trusted: give the certificate of its authority as `ca` "
        "(--tls-ca)",
    ),
    (
        ("WRONG_VERSION_NUMBER", "wrong version number", "PACKET_LENGTH_TOO_LONG"),
        "the server speaks plaintext: leave `tls` (--tls-ca) out",
    ),
)
_SPEAKS_TLS: Final = (
    "the server speaks TLS: give `tls`, with the certificate of its authority (--tls-ca)"
)
_WANTS_CERTIFICATE: Final = (
    "the server asks for a client's certificate: give `certificate` and `key` (--tls-cert, "
    "--tls-key)"
)
_REFUSES_CERTIFICATE: Final = (
    "the server does not take the client's certificate: give one of an authority that the server "
    "knows (its --tls-client-ca), which has not expired"
)
# The server hung up while the connection was made, and gRPC does not say at what.
_HUNG_UP: Final = re.compile(
    r"failed to connect .*(Socket closed|Connection reset|Broken pipe|Stream removed|EOF)", re.S
)
_LOOK_S: Final = 2.0


def why_unreachable(details: str, target: str, tls: ClientTls | None) -> str:
    """Explain gRPC's words of a connection that failed, where TLS is the reason; else empty.

    Where the words leave it open, a second connection is made to see what the server speaks. It
    carries nothing but the handshake.

    Args:
        details: what gRPC said.
        target: address of the server.
        tls: what the client speaks.

    Cost: up to two seconds where the server hung up on the first connection.

    >>> why_unreachable(
    ...     "... SSL_ERROR_SSL: ... CERTIFICATE_VERIFY_FAILED: self signed ...", "h:1", ClientTls()
    ... )[:40]
    "the server's certificate is not trusted:"
    """
    for signs, cause in _CAUSES:
        if any(sign in details for sign in signs):
            return cause
    return _look(target, tls) if _HUNG_UP.search(details) else ""


def _look(target: str, tls: ClientTls | None) -> str:
    place = place_of(target)
    if place is None:
        return ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whom we speak with was checked by gRPC; this asks only how far it lets us come.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        if tls is not None and tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
        with socket.create_connection(place, timeout=_LOOK_S) as plain:
            try:
                with context.wrap_socket(plain, server_hostname=place[0]) as spoken:
                    if tls is None:
                        return _SPEAKS_TLS
                    # TLS 1.3 looks at the client's certificate after the client's handshake.
                    return _certificate(tls) if spoken.recv(1) == b"" else ""
            except ssl.SSLError as error:
                if "ALERT" not in (error.reason or ""):
                    return ""  # no TLS
                return _SPEAKS_TLS if tls is None else _certificate(tls)
            except ConnectionError:
                return "" if tls is None else _certificate(tls)
    except (OSError, ValueError):
        return ""  # not reached, or files of TLS that have changed since


def _certificate(tls: ClientTls) -> str:
    return _WANTS_CERTIFICATE if tls.certificate is None else _REFUSES_CERTIFICATE
