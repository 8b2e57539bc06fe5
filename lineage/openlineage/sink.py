"""Where events of OpenLineage are sent: a file, or an endpoint over HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import urlsplit

from lineage.errors import InvalidEvent, InvalidLogin, StoreUnavailable

__all__ = ["FileSink", "HttpSink", "Sink", "open_sink"]

_PATH: Final = "/api/v1/lineage"
_TIMEOUT_S: Final = 30.0
_MAX_SHOWN: Final = 300
_MIN_GZIP_BYTES: Final = 1024
_OK: Final = 300
# What another event may pass, or the same one later; every other refusal is of this event.
_AGAIN: Final = (401, 403, 404, 405, 407, 408, 425, 429)
_SERVER: Final = 500


class Sink(ABC):
    """Takes events, one at a time."""

    @abstractmethod
    def send(self, event: Mapping[str, Any]) -> None:
        """Hand over one event; it is there when this returns.

        Raises:
            InvalidEvent: this event will never be taken.
            StoreUnavailable: not now; try again.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connection or file; idempotent."""


def open_sink(target: str, *, token: str = "") -> Sink:
    """The sink that a URL or path names.

    Args:
        target: `http://…` or `https://…`, by default with the path `/api/v1/lineage`; else the
            path of a file, to which lines are appended.
        token: shown to the endpoint as bearer token.

    Raises:
        InvalidLogin: the URL has none of these schemes, or a name and password in it.
    """
    parts = urlsplit(target)
    if parts.scheme in ("http", "https") and parts.hostname:
        if parts.username or parts.password:
            raise InvalidLogin(
                f"{parts.scheme}://{parts.hostname}: expected no login in the URL, got one; give "
                f"the token by the environment variable OPENLINEAGE_API_KEY"
            )
        return HttpSink(target, token=token)
    if "://" in target and parts.scheme != "file":
        raise InvalidLogin(
            f"{target[:200]!r}: expected http://…, https://… or the path of a file; give one"
        )
    return FileSink(Path(parts.path if parts.scheme == "file" else target))


@final
class FileSink(Sink):
    """Appends each event as one line.

    Args:
        path: of the file; made when absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Append one line, and wait for the disk."""
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab")
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


@final
class HttpSink(Sink):
    """Posts each event over one connection, which is opened again when it breaks.

    Args:
        url: of the endpoint.
        token: shown as bearer token; empty: none is.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._is_tls = parts.scheme == "https"
        path = parts.path if parts.path not in ("", "/") else _PATH
        self._path = f"{path}?{parts.query}" if parts.query else path
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Post one event."""
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        headers = dict(self._headers)
        if len(body) >= _MIN_GZIP_BYTES:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        try:
            connection = self._connected()
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            said = response.read(_MAX_SHOWN * 4)
            if response.length:  # more than we read: not a connection to go on with
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = str(error) or type(error).__name__
            raise StoreUnavailable(f"{self._where()}: {reason}") from error
        if response.status < _OK:
            return
        text = said.decode(errors="replace")[:_MAX_SHOWN]
        answer = f"{response.status} {response.reason} {text!a}"
        if response.status in _AGAIN or response.status >= _SERVER:
            raise StoreUnavailable(f"{self._where()}: {answer}")
        raise InvalidEvent("", f"an event that {self._where()} takes", answer)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._is_tls:
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
                )
            else:
                self._connection = http.client.HTTPConnection(
                    self._host, self._port, timeout=_TIMEOUT_S
                )
        return self._connection

    def _where(self) -> str:
        scheme = "https" if self._is_tls else "http"
        port = f":{self._port}" if self._port else ""
        return f"{scheme}://{self._host}{port}{self._path.partition('?')[0]}"
