"""Addresses, ports and certificates: what a server listens with."""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from featureline.server.settings import Tls
from featurestore.errors import StoreUnavailable
from featurestore.server import native_is_available

__all__ = [
    "bound_socket",
    "check_address",
    "choose_front",
    "private_socket",
    "raise_file_limit",
    "reserved_port",
    "server_credentials",
]

_MAX_PORT: Final = 65_535
# The path of a Unix socket has room for about a hundred bytes.
_MAX_SOCKET_FOLDER_BYTES: Final = 70


def check_address(address: str) -> None:
    """Refuse an address that cannot be listened on.

    Raises:
        StoreUnavailable: with the system's reason, which gRPC does not tell.
    """
    with _bound(address, reuse_port=False):
        pass


@contextmanager
def reserved_port(address: str, *, option: str = "--grpc") -> Iterator[str]:
    """Hold a port for processes of this user that share it; nobody else gets it meanwhile.

    The socket is bound and does not listen, so no connection comes to it.

    Args:
        address: `host:port`; port 0 takes a free one.
        option: that gave the address, for errors.

    Returns:
        the address with its port.

    Raises:
        StoreUnavailable: the address cannot be listened on.
    """
    # Also finds a port that others share already.
    with _bound(address, reuse_port=False, option=option):
        pass
    with _bound(address, reuse_port=True, option=option) as held:
        yield f"{address.rpartition(':')[0]}:{held.getsockname()[1]}"


def bound_socket(address: str, *, reuse_port: bool, option: str) -> socket.socket:
    """Return a socket bound to an address; whoever takes it closes it.

    Args:
        address: `host:port`; port 0 takes a free one.
        reuse_port: whether other processes of this user may listen on it too.
        option: that gave the address, for errors.

    Raises:
        StoreUnavailable: it cannot be listened on.
    """
    with _bound(address, reuse_port=reuse_port, option=option) as bound:
        return bound.dup()


def choose_front(front: str, tls: Tls | None) -> str:
    """Return `native` or `grpc` for what was asked, which may be `auto`.

    Raises:
        StoreUnavailable: the native front was asked to speak TLS.
    """
    if tls is not None and front == "native":
        raise StoreUnavailable(
            "--front native speaks plaintext only; leave --front out, or use --front grpc, to "
            "serve with --tls-cert"
        )
    if front != "auto":
        return front
    return "native" if tls is None and native_is_available() else "grpc"


def server_credentials(tls: Tls) -> Any:
    """Read the files of a TLS listener.

    Raises:
        StoreUnavailable: one cannot be read, or the key is not that of the certificate.
    """
    certificate = _read("--tls-cert", tls.certificate)
    key = _read("--tls-key", tls.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # C-core would only say that the handshake failed, later and to each client. A key with a
        # passphrase must not stop to ask for it.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise StoreUnavailable(
            f"--tls-cert {tls.certificate} and --tls-key {tls.key}: expected a PEM certificate and "
            f"its private key without a passphrase, got {_reason(error)}; give the two files that "
            f"were made together"
        ) from error
    if tls.client_ca is None:
        return grpc.ssl_server_credentials([(key, certificate)])
    authorities = _read("--tls-client-ca", tls.client_ca)
    try:
        context.load_verify_locations(cafile=tls.client_ca)
    except ssl.SSLError as error:
        raise StoreUnavailable(
            f"--tls-client-ca {tls.client_ca}: expected PEM certificates of authorities, got "
            f"{_reason(error)}"
        ) from error
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authorities, require_client_auth=True
    )


def private_socket(home: Path) -> Path:
    """Choose the Unix socket of the server behind the native front; no other user reaches it."""
    folder = home / "run"
    if len(os.fsencode(folder)) > _MAX_SOCKET_FOLDER_BYTES:
        folder = Path(tempfile.gettempdir()) / f"featureline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StoreUnavailable(f"{folder} belongs to another user; choose a home of your own")
    for socket_file in folder.glob("*.sock"):
        # A server that was killed leaves its socket; the first word of the name is its process.
        if not Path(f"/proc/{socket_file.name.split('-')[0]}").exists() and Path("/proc").exists():
            socket_file.unlink(missing_ok=True)
    return folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows: a connection is one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _bound(address: str, *, reuse_port: bool, option: str = "--grpc") -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
        raise StoreUnavailable(
            f"{option}: expected HOST:PORT with a port from 0 to {_MAX_PORT}, got {address!r}"
        )
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(address, error) from error
    with bound:
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(place)
        except OSError as error:
            raise _cannot_listen(address, error) from error
        yield bound


def _cannot_listen(address: str, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"cannot listen on {address}: {error.strerror}; choose another address, or port 0 for a "
        f"free port"
    )


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreUnavailable(
            f"{option} {path}: {error.strerror}; give a file that this process may read"
        ) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).lower().replace("_", " ")
