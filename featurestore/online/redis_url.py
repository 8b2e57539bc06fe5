"""Where a Redis or Valkey store is, and what of its durability is accepted, read from a URL."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, final
from urllib.parse import parse_qsl, unquote, urlsplit

from featurestore.errors import InvalidRequest

__all__ = ["DURABILITIES", "RedisUrl"]

DURABILITIES: Final = ("always", "everysec", "none")
_SCHEMES: Final = {
    "redis": (False, False),
    "rediss": (False, True),
    "redis+cluster": (True, False),
    "rediss+cluster": (True, True),
}
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FORMS: Final = (
    "redis://[user:password@]host:port/0, rediss://… (TLS) or redis+cluster://host:port[,host:port]"
)


@final
@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL.

    Options follow as `?name=value&…`:

        namespace           names one store among several in a database; default `default`
        durability          always | everysec | none: the weakest append-only file accepted
        replicas            how many replicas must have a put before it is acknowledged
        replica_timeout_ms  how long to wait for them
        timeout_s           for connecting and for one answer
        ca_certs, certfile, keyfile   PEM files, for TLS

    Args:
        cluster: the hosts are nodes of a cluster.
        tls: connections are encrypted.
        hosts: host and port; more than one only for a cluster.
        database: number of the database; 0 in a cluster.
        username: for ACLs; "" for the default user.
        password: "" for none.
        namespace: as above, like the following.
        text: the URL as it was read, with its secrets.

    >>> url = RedisUrl.parse("redis://:secret@cache:6380/2?durability=everysec")
    >>> url.location, url.durability
    ('redis://cache:6380/2?namespace=default', 'everysec')
    """

    cluster: bool
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    namespace: str = "default"
    durability: str = "always"
    replicas: int = 0
    replica_timeout_ms: int = 1000
    timeout_s: float = 10.0
    ca_certs: str = ""
    certfile: str = ""
    keyfile: str = ""
    text: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Read a URL.

        Raises:
            InvalidRequest: it has another form or an unknown option; the message hides passwords.
        """
        try:
            parts = urlsplit(text)
        except ValueError as error:  # its text may hold the password
            raise InvalidRequest(f"online store: expected a URL like {_FORMS}") from error
        if parts.scheme not in _SCHEMES:
            raise InvalidRequest(
                f"online store: expected a URL like {_FORMS}, got the scheme {parts.scheme!r}"
            )
        cluster, tls = _SCHEMES[parts.scheme]
        # A password with '/', '?' or '#' ends the place too early, and its rest would be shown.
        if "@" in parts.path + parts.query or parts.fragment:
            raise InvalidRequest(
                f"online store: expected '/', '?', '#' and '@' in a login or an option as "
                f"%2F, %3F, %23 and %40; write a URL like {_FORMS}"
            )
        login, _, places = parts.netloc.rpartition("@")
        username, _, password = login.partition(":")
        hosts = tuple(_host(place) for place in places.split(","))
        if len(hosts) > 1 and not cluster:
            raise InvalidRequest(
                f"online store: expected one host in a {parts.scheme}:// URL, got {places!r}; "
                f"several start nodes take redis+cluster://"
            )
        database = parts.path.strip("/") or "0"
        if not database.isdecimal() or (cluster and database != "0"):
            raise InvalidRequest(
                f"online store: expected a database number{' of 0 in a cluster' * cluster}, "
                f"got {database!r}"
            )
        return cls(
            cluster,
            tls,
            hosts,
            int(database),
            unquote(username),
            unquote(password),
            text=text,
            **_options(parts.query),
        )

    @property
    def location(self) -> str:
        """Which store it is: without login and options, so that it may be shown and compared."""
        scheme = ("rediss" if self.tls else "redis") + ("+cluster" if self.cluster else "")
        place = f"{scheme}://{self.where}"
        return f"{place}/{self.database}?namespace={self.namespace}"

    @property
    def where(self) -> str:
        """The hosts as `host:port`."""
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )


def _host(place: str) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if place.endswith("]") or not colon:
        host, port = place, "6379"
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InvalidRequest(f"online store: expected host:port, got {place!r}; write {_FORMS}")
    return host, int(port)


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _READ:
            raise InvalidRequest(
                f"online store: expected the options {', '.join(sorted(_READ))}, got {name!r}"
            )
        read, expected = _READ[name]
        try:
            options[name] = read(value)
        except ValueError:
            raise InvalidRequest(
                f"online store: {name}: expected {expected}, got {value!r}"
            ) from None
    return options


def _namespace(value: str) -> str:
    if not _NAMESPACE.fullmatch(value):
        raise ValueError(value)
    return value


def _durability(value: str) -> str:
    if value not in DURABILITIES:
        raise ValueError(value)
    return value


def _whole(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(value)
    return number


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds < 3600:
        raise ValueError(value)
    return seconds


_READ: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    "namespace": (_namespace, "1 to 64 letters, digits, '_', '.' or '-'"),
    "durability": (_durability, " or ".join(DURABILITIES)),
    "replicas": (_whole, "a whole number"),
    "replica_timeout_ms": (_whole, "milliseconds"),
    "timeout_s": (_seconds, "seconds from 0 to 3600"),
    "ca_certs": (str, "a file"),
    "certfile": (str, "a file"),
    "keyfile": (str, "a file"),
}
