"""Schema registry: which schema a message was written with, from a registry over HTTP.

Speaks the REST interface that Confluent's registry has and others (Karapace, Apicurio, Redpanda)
offer too.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, final
from urllib.parse import quote, unquote, urlsplit

from featurestore.record import shown
from ingest.errors import (
    IngestError,
    RegistryRefused,
    RegistryUnavailable,
    SchemaNotFound,
)

__all__ = ["MISSING_S", "Reference", "RegisteredSchema", "SchemaRegistry"]

_log = logging.getLogger(__name__)

_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_MAX_REPLY_BYTES: Final = 16 * 1024 * 1024
_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 5.0
# How long an id is known to be unknown: a topic full of junk shall not be a flood of requests.
MISSING_S: Final = 5.0
_TOO_MANY_REQUESTS: Final = 429

Read = TypeVar("Read")


@final
@dataclass(frozen=True, slots=True)
class Reference:
    """A schema that another one builds on.

    Args:
        name: as the other one calls it: a type's full name in Avro, a file in Protobuf, a URI in
            JSON Schema.
        subject: where the registry has it.
        version: of the subject.
    """

    name: str
    subject: str
    version: int


@final
@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as the registry has it.

    Args:
        id: its number in the whole registry.
        kind: `AVRO`, `PROTOBUF` or `JSON`.
        text: the schema itself.
        references: the schemas it builds on directly.
        subject: a subject that has it; None where the registry does not say.
        version: its version there.
    """

    id: int
    kind: str
    text: str
    references: tuple[Reference, ...] = ()
    subject: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        if self.subject is None:
            return f"schema {self.id}"
        return f"schema {self.id} ({self.subject} version {self.version})"


@final
class SchemaRegistry:
    """A schema registry, read through a cache. Safe to share between threads.

    A registry that is away is asked again, with growing pauses, for `retry_s`; then
    RegistryUnavailable says so, and no message is refused for it. What is known stays known: a
    schema's id never changes its meaning. That an id is unknown is believed for seconds only.

    Args:
        url: `http://HOST:PORT` or `https://…`, several separated by commas, which are asked in
            turn. A path before the interface's own is kept; a login in it (`USER:PASSWORD@`) is
            used and never shown.
        login: `USER:PASSWORD`.
        token: a bearer token, in place of a login.
        ca_file: certificates (PEM) to trust, in place of the system's.
        certificate_file: this client's certificate and key (PEM).
        timeout_s: for one request.
        retry_s: how long to try again. A pipeline waits as long; keep it below the source's
            `max_poll_interval_s`.
        max_cached: schemas kept; the one that was not asked for longest goes first.

    Raises:
        ValueError: the URL is none, or both a login and a token are given.
        IngestError: a certificate file cannot be read.

    >>> SchemaRegistry("http://reader:secret@registry:8081")
    SchemaRegistry('http://registry:8081')
    """

    def __init__(
        self,
        url: str,
        *,
        login: str | None = None,
        token: str | None = None,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        timeout_s: float = 10.0,
        retry_s: float = 30.0,
        max_cached: int = 1000,
    ) -> None:
        servers = [_Server.of(part.strip()) for part in url.split(",") if part.strip()]
        if not servers:
            raise ValueError(f"registry: expected a URL such as http://registry:8081, got {url!r}")
        if login is not None and token is not None:
            raise ValueError("registry: expected a login or a token, got both")
        if login is not None and ":" not in login:
            raise ValueError("registry login: expected USER:PASSWORD, got no colon in it")
        if token is not None and not (token and token.isascii() and token.isprintable()):
            # A header with it would be refused by an error that shows it.
            raise ValueError("registry token: expected printable ASCII text, got something else")
        self.url = ",".join(server.url for server in servers)
        self._servers = servers
        self._headers = {
            "Accept": f"{_CONTENT_TYPE}, application/json",
            "Content-Type": _CONTENT_TYPE,
        }
        if login is not None:
            self._headers["Authorization"] = _basic(login)
        elif token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = _tls(ca_file, certificate_file)
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._max_cached = max_cached
        self._lock = threading.Lock()
        # Held while a schema is fetched, so that threads that miss the same id ask once.
        self._fetching = threading.Lock()
        self._known: OrderedDict[int, RegisteredSchema] = OrderedDict()
        self._missing: OrderedDict[int, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"SchemaRegistry({self.url!r})"

    def schema(self, id: int) -> RegisteredSchema:
        """Return the schema with an id.

        Raises:
            SchemaNotFound: the registry has none.
            RegistryUnavailable: it does not answer.
            RegistryRefused: it refuses this client, or is none.
        """
        found = self._cached(id)
        if found is None:
            with self._fetching:
                found = self._cached(id) or self._fetched(id)
        return found

    def version(self, subject: str, version: int | None = None) -> RegisteredSchema:
        """Return a version of a subject; None: the latest.

        Raises:
            SchemaNotFound, RegistryUnavailable, RegistryRefused: as for `schema`.
        """
        place = "latest" if version is None else version
        path = f"/subjects/{_quoted(subject)}/versions/{place}"
        reply = self._call("GET", path)
        return self._read(path, reply, lambda: _registered(reply))

    def referenced(self, schema: RegisteredSchema) -> Sequence[tuple[str, RegisteredSchema]]:
        """Return all that a schema builds on, by the name it has there, what is needed first.

        Raises:
            SchemaNotFound, RegistryUnavailable, RegistryRefused: as for `schema`.
        """
        found: dict[str, RegisteredSchema] = {}
        open_names: list[str] = []

        def collect(of: RegisteredSchema) -> None:
            for reference in of.references:
                if reference.name in found or reference.name in open_names:
                    continue
                open_names.append(reference.name)
                other = self.version(reference.subject, reference.version)
                collect(other)
                open_names.pop()
                found[reference.name] = other

        collect(schema)
        return list(found.items())

    def register(
        self,
        subject: str,
        text: str,
        *,
        kind: str = "AVRO",
        references: Sequence[Reference] = (),
    ) -> int:
        """Add a schema as the subject's next version, unless it has it already; return its id.

        Raises:
            RegistryRefused: it is no schema, or not compatible with what the subject has.
            RegistryUnavailable: the registry does not answer.
        """
        path = f"/subjects/{_quoted(subject)}/versions"
        reply = self._call("POST", path, _body(text, kind, references))
        return self._read(path, reply, lambda: int(reply["id"]))

    def incompatibilities(
        self,
        subject: str,
        text: str,
        *,
        kind: str = "AVRO",
        references: Sequence[Reference] = (),
    ) -> Sequence[str]:
        """Ask why a schema could not be the subject's next version; nothing: it could.

        Raises:
            RegistryRefused: it is no schema.
            SchemaNotFound: there is no such subject.
            RegistryUnavailable: the registry does not answer.
        """
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/latest?verbose=true"
        reply = self._call("POST", path, _body(text, kind, references))
        if self._read(path, reply, lambda: reply["is_compatible"]):
            return ()
        return tuple(map(str, reply.get("messages") or ("not compatible",)))

    def _cached(self, id: int) -> RegisteredSchema | None:
        with self._lock:
            found = self._known.get(id)
            if found is not None:
                self._known.move_to_end(id)
                return found
            missing_at = self._missing.get(id)
        if missing_at is not None and time.monotonic() - missing_at < MISSING_S:
            raise self._not_found(f"schema {id}")
        return None

    def _fetched(self, id: int) -> RegisteredSchema:
        try:
            reply = self._call("GET", f"/schemas/ids/{id}")
        except SchemaNotFound:
            with self._lock:
                self._missing[id] = time.monotonic()
                while len(self._missing) > self._max_cached:
                    self._missing.popitem(last=False)
            raise
        schema = self._read(
            f"/schemas/ids/{id}", reply, lambda: _registered({**reply, "id": id, **self._place(id)})
        )
        with self._lock:
            self._missing.pop(id, None)
            self._known[id] = schema
            while len(self._known) > self._max_cached:
                self._known.popitem(last=False)
        return schema

    def _place(self, id: int) -> dict[str, Any]:
        """Ask for the schema's subject and version, which not every registry tells."""
        try:
            places = self._call("GET", f"/schemas/ids/{id}/versions")
        except (SchemaNotFound, RegistryRefused) as error:
            _log.debug("%s does not tell the versions of schema %d: %s", self.url, id, error)
            return {}
        if not isinstance(places, list) or not places or not isinstance(places[0], dict):
            return {}
        return {"subject": places[0].get("subject"), "version": places[0].get("version")}

    def _call(self, method: str, path: str, body: object = None) -> Any:
        """Make a request, trying again and elsewhere while nobody can answer."""
        deadline = time.monotonic() + self._retry_s
        pause_s = _FIRST_RETRY_S
        while True:
            problems = []
            for server in list(self._servers):
                try:
                    status, reply = self._request(server, method, path, body)
                except ssl.SSLCertVerificationError as error:
                    raise RegistryRefused(
                        f"schema registry at {server.url}: its certificate is not trusted "
                        f"({error.verify_message}); give the file of the authority that signed it"
                    ) from error
                except (OSError, http.client.HTTPException) as error:
                    problems.append(f"{server.url}: {error or type(error).__name__}")
                else:
                    if status < http.HTTPStatus.INTERNAL_SERVER_ERROR and (
                        status != _TOO_MANY_REQUESTS
                    ):
                        return self._answer(server, path, status, reply)
                    problems.append(f"{server.url}: HTTP {status} {_reason(reply)}".rstrip())
                # The next request begins with one that may answer.
                with self._lock:
                    if len(self._servers) > 1 and self._servers[0] is server:
                        self._servers = [*self._servers[1:], server]
            if time.monotonic() + pause_s > deadline:
                raise RegistryUnavailable(
                    f"no schema registry answers within {self._retry_s:g} s "
                    f"({'; '.join(problems)}); check the address and that it runs"
                )
            _log.warning("schema registry: %s; trying again", "; ".join(problems))
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_RETRY_S)

    def _request(self, server: _Server, method: str, path: str, body: object) -> tuple[int, bytes]:
        connection = (
            http.client.HTTPSConnection(
                server.host, server.port, timeout=self._timeout_s, context=self._tls
            )
            if server.is_tls
            else http.client.HTTPConnection(server.host, server.port, timeout=self._timeout_s)
        )
        headers = dict(self._headers)
        if server.login is not None:
            headers.setdefault("Authorization", _basic(server.login))
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, server.path + path, data, headers)
            response = connection.getresponse()
            return response.status, response.read(_MAX_REPLY_BYTES + 1)
        finally:
            connection.close()

    def _answer(self, server: _Server, path: str, status: int, reply: bytes) -> Any:
        where = f"schema registry at {server.url}"
        try:
            if len(reply) > _MAX_REPLY_BYTES:
                raise ValueError("too long")
            body = json.loads(reply)
        except (ValueError, RecursionError):
            body = None
        if status == http.HTTPStatus.OK and body is not None:
            return body
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            what = "who this is" if status == http.HTTPStatus.UNAUTHORIZED else "what this may do"
            raise RegistryRefused(
                f"{where} refuses {path}: HTTP {status}; check {what}: login, token and its rights"
            )
        code = body.get("error_code") if isinstance(body, dict) else None
        # A plain 404 may be another page's, and is not by itself the word that there is no schema.
        if status == http.HTTPStatus.NOT_FOUND and (
            (isinstance(code, int) and code // 100 == http.HTTPStatus.NOT_FOUND)
            or (path.startswith("/schemas/ids/") and self._is_registry(server))
        ):
            raise self._not_found(f"{path}: {_reason(reply)}")
        if code is None and status != http.HTTPStatus.OK:
            raise RegistryRefused(
                f"{where}: expected a schema registry's answer to {path}, got HTTP {status} "
                f"{shown(reply[:60].decode(errors='replace'))}; check the URL"
            )
        if code is None:
            raise RegistryRefused(
                f"{where}: expected JSON for {path}, got "
                f"{shown(reply[:60].decode(errors='replace'))}; check the URL"
            )
        raise RegistryRefused(f"{where} refuses {path}: HTTP {status}, {_reason(reply)}")

    def _is_registry(self, server: _Server) -> bool:
        try:
            status, reply = self._request(server, "GET", "/subjects", None)
            return status == http.HTTPStatus.OK and isinstance(json.loads(reply), list)
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return False

    def _read(self, path: str, reply: Any, read: Callable[[], Read]) -> Read:
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RegistryRefused(
                f"schema registry at {self.url}: expected a schema registry's answer to {path}, "
                f"got {shown(reply)}; check the URL"
            ) from None

    def _not_found(self, what: str) -> SchemaNotFound:
        return SchemaNotFound(f"schema registry at {self.url} has no {what}")


@final
@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    host: str
    port: int | None
    path: str
    is_tls: bool
    login: str | None

    @classmethod
    def of(cls, url: str) -> _Server:
        # Nothing of a URL that cannot be read is shown: a login may be in it.
        wrong = ValueError("registry: expected http://HOST:PORT or https://HOST:PORT")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise wrong from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise wrong
        login = None
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        path = parts.path.rstrip("/")
        place = parts.netloc.rpartition("@")[2]
        return cls(
            f"{parts.scheme}://{place}{path}",
            parts.hostname,
            port,
            path,
            parts.scheme == "https",
            login,
        )


def _tls(ca_file: str | None, certificate_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate_file is not None:
            context.load_cert_chain(certificate_file)
    except (OSError, ssl.SSLError) as error:
        raise IngestError(
            f"schema registry: {ca_file or ''} {certificate_file or ''}: expected certificates in "
            f"PEM, got {error}"
        ) from error
    return context


def _basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode("ascii")


def _body(text: str, kind: str, references: Sequence[Reference]) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": text, "schemaType": kind}
    if references:
        body["references"] = [
            {"name": one.name, "subject": one.subject, "version": one.version} for one in references
        ]
    return body


def _registered(reply: dict[str, Any]) -> RegisteredSchema:
    references = tuple(
        Reference(str(one["name"]), str(one["subject"]), int(one["version"]))
        for one in reply.get("references") or ()
    )
    # Avro was first, and is what is meant where no kind is named.
    return RegisteredSchema(
        int(reply["id"]),
        str(reply.get("schemaType") or "AVRO"),
        str(reply["schema"]),
        references,
        reply.get("subject"),
        reply.get("version"),
    )


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _reason(reply: bytes) -> str:
    try:
        return shown(str(json.loads(reply)["message"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
