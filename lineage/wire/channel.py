"""How a client reaches a server, in plaintext or over TLS, and what each of its calls carries."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, final

import grpc
import grpc.aio

from lineage.errors import InvalidLogin
from lineage.wire.requestid import REQUEST_ID_KEY, new_request_id

__all__ = ["ClientTls", "Login", "Metadata", "place_of"]

TOKEN: Final = "FEATURELINE_TOKEN"
TLS_CA: Final = "FEATURELINE_TLS_CA"
TLS_CERT: Final = "FEATURELINE_TLS_CERT"
TLS_KEY: Final = "FEATURELINE_TLS_KEY"
TLS_SERVER_NAME: Final = "FEATURELINE_TLS_SERVER_NAME"
PLAINTEXT_TOKEN: Final = "FEATURELINE_PLAINTEXT_TOKEN"

_SHAPE: Final = re.compile(r"[!-~]+\Z")  # what metadata can carry, without a space

Metadata = tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True)
class ClientTls:
    """TLS as a client speaks it; the files are PEM.

    Args:
        ca: of the authorities that the server's certificate may come from; None: the public ones
            that gRPC knows.
        certificate: of this client, with its chain, for servers that ask for one.
        key: private, of the certificate.
        server_name: that the server's certificate must have, where it is not the host that is
            connected to: behind a tunnel, for example.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidLogin("TLS: a client's certificate and its key belong together; give both")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            InvalidLogin: one cannot be read, is no PEM, or the key is not that of the certificate.
        """
        ca = _pem(self.ca, b"CERTIFICATE")
        key = _pem(self.key, b"PRIVATE KEY")
        certificate = _pem(self.certificate, b"CERTIFICATE")
        # gRPC would say later, and only to a log, what is wrong with them.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise InvalidLogin(f"TLS: {self.ca}: {_reason(error)}; give PEM files") from error
        try:
            if self.certificate is not None:  # a key with a passphrase must not ask for it
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            raise InvalidLogin(
                f"TLS: {self.certificate} and {self.key}: expected a PEM certificate and its "
                f"private key without a passphrase, got {_reason(error)}; give the two files that "
                f"were made together"
            ) from error
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return what a channel is to know beside the credentials."""
        if self.server_name is None:
            return ()
        return (("grpc.ssl_target_name_override", self.server_name),)


@final
@dataclass(frozen=True, repr=False)
class Login:
    """How a client shows who it is.

    Args:
        token: as `featureline token create` printed it; None: none is sent.
        tls: None: plaintext.
        plaintext_token: send the token in plaintext to other machines, too: for a network, or a
            mesh, that encrypts by itself.

    Raises:
        InvalidLogin: the token has a form that no token has.
    """

    token: str | None = None
    tls: ClientTls | None = None
    plaintext_token: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and not _SHAPE.match(self.token):
            raise InvalidLogin("the token has spaces or signs that no token has; copy it anew")

    @classmethod
    def of(
        cls,
        token: str | None,
        tls: ClientTls | None,
        *,
        plaintext_token: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Return what was given, else what the environment says.

        `FEATURELINE_TOKEN`; `FEATURELINE_TLS_CA`, `FEATURELINE_TLS_CERT`, `FEATURELINE_TLS_KEY`
        and `FEATURELINE_TLS_SERVER_NAME`; `FEATURELINE_PLAINTEXT_TOKEN=1`.

        >>> login = Login.of(None, None, environ={"FEATURELINE_TOKEN": "flk_1_abc"})
        >>> login.call_metadata()[1]
        ('authorization', 'Bearer flk_1_abc')
        """
        if tls is None:
            ca, certificate, key = (
                Path(environ[name]) if environ.get(name) else None
                for name in (TLS_CA, TLS_CERT, TLS_KEY)
            )
            if ca or certificate or key:
                tls = ClientTls(ca, certificate, key, environ.get(TLS_SERVER_NAME) or None)
        return cls(
            token or (environ.get(TOKEN) or "").strip() or None,
            tls,
            plaintext_token or environ.get(PLAINTEXT_TOKEN) == "1",
        )

    @cached_property
    def _authorization(self) -> Metadata:
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def call_metadata(self) -> Metadata:
        """Make what one call carries: first an id of its own, then the token.

        >>> Login().call_metadata()[0][0]
        'x-request-id'
        """
        return ((REQUEST_ID_KEY, new_request_id()), *self._authorization)

    def channel(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """Make a channel; the first call opens its connection.

        Raises:
            InvalidLogin: the files of TLS cannot be used, or the token would travel in clear text.
        """
        if self.tls is not None:
            return grpc.secure_channel(
                target, self.tls.credentials(), (*options, *self.tls.options())
            )
        self._check_plaintext(target)
        return grpc.insecure_channel(target, options)

    def aio_channel(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
        """Make a channel for asyncio.

        Raises:
            InvalidLogin: as for `channel`.
        """
        if self.tls is not None:
            return grpc.aio.secure_channel(
                target, self.tls.credentials(), (*options, *self.tls.options())
            )
        self._check_plaintext(target)
        return grpc.aio.insecure_channel(target, options)

    def _check_plaintext(self, target: str) -> None:
        if self.token is not None and not self.plaintext_token and not _is_here(target):
            raise InvalidLogin(
                f"the token would travel to {target} in clear text, for everybody on the way to "
                f"read; connect over TLS (`tls`, or {TLS_CA}), or through a tunnel that ends on "
                f"this machine; where the network encrypts by itself, allow it by "
                f"`plaintext_token=True` or {PLAINTEXT_TOKEN}=1"
            )


def place_of(target: str) -> tuple[str, int] | None:
    """Return host and port of a target as gRPC takes it; None where it has none.

    >>> place_of("dns:///store.example:50051"), place_of("[::1]:1"), place_of("unix:/socket")
    (('store.example', 50051), ('::1', 1), None)
    """
    kind, _, rest = target.partition(":")
    if kind in ("ipv4", "ipv6", "dns"):
        target = rest.rpartition("/")[2]
    host, _, port = target.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal():
        return None
    return host.strip("[]"), int(port)


def _is_here(target: str) -> bool:
    """Whether a target is this machine's own."""
    if target.partition(":")[0] == "unix":
        return True
    place = place_of(target)
    if place is None:
        return False
    if place[0] == "localhost":
        return True
    try:
        return ipaddress.ip_address(place[0]).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).lower().replace("_", " ")


def _pem(path: Path | None, what: bytes) -> bytes | None:
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidLogin(f"TLS: {path} cannot be read: {error.strerror}") from error
    if what not in data or b"-----BEGIN" not in data:
        raise InvalidLogin(f"TLS: {path}: expected a PEM file with a {what.decode().lower()}")
    return data
