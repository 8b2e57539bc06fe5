"""Arrow Flight as a source: the endpoints of one flight, each a stream of rows."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, TypeVar, final

import pyarrow as pa
from pyarrow import flight

import lineage
from featurestore import PartitionPosition
from ingest.errors import IngestError, PositionLost, SourceNotFound, SourceUnavailable
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.rows import pieces, refuse_naive_times, rows_of

__all__ = ["FLIGHT_TOKEN", "FlightSource"]

_log = logging.getLogger(__name__)

FLIGHT_TOKEN: Final = "FEATURELINE_FLIGHT_TOKEN"  # the variable's name
_FIRST_PAUSE_S: Final = 0.1
_LAST_PAUSE_S: Final = 5.0
_REUSE: Final = b"arrow-flight-reuse-connection"
_T = TypeVar("_T")


@final
class FlightSource(Source):
    """Reads the streams that a Flight server offers under one descriptor, once.

    A partition is an endpoint of the flight, the position in it is the row. A stream is always
    read from its beginning, so a run that goes on asks for it again and passes over what is
    stored: the server must give the same rows in the same order each time. A server that is away
    is asked again, later and later; what it refuses ends the run at once, with the server's words.

    The token goes into the header `authorization: Bearer TOKEN`. It is read from `token_file` or,
    without one, from the environment variable FEATURELINE_FLIGHT_TOKEN when the source connects,
    and is never logged.

    Args:
        location: `grpc+tcp://HOST:PORT` or `grpc+tls://HOST:PORT`.
        path: parts of the descriptor's path.
        command: the descriptor's command. One of the two must be given.
        partition_by: endpoints are known by their order, or by their tickets: where a server's
            order changes and its tickets do not.
        tls_roots: PEM file of the authorities that sign the server's certificate; None: the
            system's.
        token_file: file with the token.
        call_timeout_s: for an answer that is no stream.
        unavailable_timeout_s: how long to ask a server that is away.

    Raises:
        ValueError: an option is out of range, or not one of `path` and `command` is given.

    Cost: going on at row n receives n rows again.
    """

    def __init__(
        self,
        location: str,
        *,
        path: Sequence[str] = (),
        command: bytes | str | None = None,
        partition_by: Literal["order", "ticket"] = "order",
        tls_roots: str | Path | None = None,
        token_file: str | Path | None = None,
        call_timeout_s: float = 20.0,
        unavailable_timeout_s: float = 60.0,
    ) -> None:
        if isinstance(path, str):
            raise ValueError(f"path: expected a list of parts, got {path!r}")
        if bool(path) == (command is not None):
            raise ValueError("path: expected it or command, and not both")
        if partition_by not in ("order", "ticket"):
            raise ValueError(f"partition_by: expected 'order' or 'ticket', got {partition_by!r}")
        for what, seconds in (
            ("call_timeout_s", call_timeout_s),
            ("unavailable_timeout_s", unavailable_timeout_s),
        ):
            if not seconds > 0:
                raise ValueError(f"{what}: expected more than 0 seconds, got {seconds}")
        self.location = location
        self.path = tuple(path)
        self.command = command.encode() if isinstance(command, str) else command
        self.partition_by = partition_by
        self._tls_roots = None if tls_roots is None else Path(tls_roots)
        self._token_file = None if token_file is None else Path(token_file)
        self._call_timeout_s = call_timeout_s
        self._unavailable_timeout_s = unavailable_timeout_s
        self._headers: list[tuple[bytes, bytes]] = []
        self._client: flight.FlightClient | None = None
        self._elsewhere: dict[bytes, flight.FlightClient] = {}
        self._endpoints: list[tuple[str, flight.FlightEndpoint]] = []
        self._position: dict[str, int] = {}
        self._rows: Iterator[list[Message]] | None = None
        self._left: list[Message] = []
        self._has_read = False
        # Since when the server has not answered, and the pause before it is asked again.
        self._away_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    @property
    def name(self) -> str:
        """`flight:LOCATION/PATH`, or with a digest of the command for the path."""
        return f"flight:{self._uri}"

    def inputs(self) -> Sequence[lineage.Entity]:
        """Name the flight, if it gave rows."""
        if not self._has_read:
            return ()
        return (lineage.artifact("Flight", self._uri),)

    def seek(self, stored: StoredPositions) -> None:
        """Ask for the flight's endpoints and go on in each where the store stands.

        Raises:
            SourceNotFound: the server has no such flight.
            SourceUnavailable: it does not answer.
            IngestError: it refuses, or a file of the login cannot be read.
        """
        self.close()
        self._client = self._connect(self.location)
        descriptor = (
            flight.FlightDescriptor.for_path(*self.path)
            if self.command is None
            else flight.FlightDescriptor.for_command(self.command)
        )
        client = self._client
        info = self._asked(
            lambda: client.get_flight_info(
                descriptor,
                flight.FlightCallOptions(timeout=self._call_timeout_s, headers=self._headers),
            )
        )
        refuse_naive_times(
            info.schema, self._uri, advice="have the server send timestamps with a zone"
        )
        self.columns = tuple(info.schema.names)
        self._endpoints = [
            (self._label(number, endpoint), endpoint)
            for number, endpoint in enumerate(info.endpoints)
        ]
        labels = {label for label, _ in self._endpoints}
        if len(labels) < len(self._endpoints):
            raise IngestError(
                f"{self._uri}: two endpoints have the same ticket; tell them apart by their order"
            )
        self._position = dict(stored())

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next rows of one endpoint; a server that is away is waited for.

        Raises:
            PositionLost: a stream ends before the stored position.
            SourceUnavailable: the server has been away for `unavailable_timeout_s`.
            IngestError: the server refuses, with its own words.
        """
        deadline = time.monotonic() + timeout_s
        while self._endpoints:
            label, endpoint = self._endpoints[0]
            if not self._left:
                try:
                    if self._rows is None:
                        self._rows = self._read(label, endpoint)
                    self._left = next(self._rows)
                except StopIteration:
                    self._endpoints.pop(0)
                    self._rows = None
                    continue
                except _Away as away:
                    self._rows = None
                    if not self._wait(away, deadline):
                        return Batch()
                    continue
                self._away_since, self._pause_s = None, _FIRST_PAUSE_S
            taken, self._left = self._left[:max_records], self._left[max_records:]
            start = self._position.get(label, 0)
            self._position[label] = taken[-1].offset + 1
            self._has_read = True
            return Batch(taken, (PartitionPosition(label, start, self._position[label]),))
        return Batch(is_caught_up=True, is_last=True)

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Do nothing: a flight knows of no readers."""

    def close(self) -> None:
        """Cancel the stream and disconnect."""
        self._rows = None
        self._left = []
        self._endpoints = []
        for client in (self._client, *self._elsewhere.values()):
            if client is not None:
                client.close()
        self._client = None
        self._elsewhere = {}

    @property
    def _uri(self) -> str:
        what = "/".join(self.path)
        if self.command is not None:
            what = f"command-{hashlib.sha256(self.command).hexdigest()[:32]}"
        return f"{self.location.rstrip('/')}/{what}"

    def _label(self, number: int, endpoint: flight.FlightEndpoint) -> str:
        if self.partition_by == "order":
            return str(number)
        return f"ticket-{hashlib.sha256(endpoint.ticket.ticket).hexdigest()[:32]}"

    def _connect(self, location: str | bytes) -> flight.FlightClient:
        roots = None
        try:
            if self._tls_roots is not None:
                roots = self._tls_roots.read_bytes()
            token = (
                os.environ.get(FLIGHT_TOKEN, "")
                if self._token_file is None
                else self._token_file.read_text(encoding="utf-8")
            ).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise IngestError(f"{self._uri}: cannot read what logs in: {error}") from error
        if self._token_file is not None and not token:
            raise IngestError(f"{self._token_file}: expected a token, got an empty file")
        self._headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        try:
            return flight.FlightClient(location, tls_root_certs=roots)
        except (pa.ArrowException, ValueError) as error:
            raise IngestError(
                f"{location!r}: expected a location such as grpc+tcp://HOST:PORT: {error}"
            ) from error

    def _client_for(self, endpoint: flight.FlightEndpoint) -> flight.FlightClient:
        assert self._client is not None
        for location in endpoint.locations:
            uri: bytes = location.uri
            if uri.startswith(_REUSE):
                break
            if uri not in self._elsewhere:
                self._elsewhere[uri] = self._connect(uri)
            return self._elsewhere[uri]
        return self._client

    def _asked(self, ask: Callable[[], _T]) -> _T:
        """Ask until there is an answer."""
        while True:
            try:
                with self._told_apart():
                    answer = ask()
            except _Away as away:
                self._wait(away, None)
            else:
                self._away_since, self._pause_s = None, _FIRST_PAUSE_S
                return answer

    def _wait(self, away: _Away, deadline: float | None) -> bool:
        """Wait before the server is asked again; False when the deadline comes first."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        away_s = now - self._away_since
        if away_s > self._unavailable_timeout_s:
            raise SourceUnavailable(
                f"no Flight server answers at {self.location} for {away_s:.0f} s; check the "
                f"address, that the server runs, and with grpc+tls the authorities: {away}"
            ) from away.__cause__
        _log.info("Flight at %s: %s; asking again", self.location, away)
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LAST_PAUSE_S)
        if deadline is not None and now + pause_s > deadline:
            time.sleep(max(0.0, deadline - now))
            return False
        time.sleep(pause_s)
        return True

    def _read(self, label: str, endpoint: flight.FlightEndpoint) -> Iterator[list[Message]]:
        """Give an endpoint's rows from the position on, in chunks."""
        start = self._position.get(label, 0)
        options = flight.FlightCallOptions(headers=self._headers)
        with self._told_apart():
            reader = self._client_for(endpoint).do_get(endpoint.ticket, options)
        first = 0
        try:
            while True:
                with self._told_apart():
                    try:
                        batch = reader.read_chunk().data
                    except StopIteration:
                        break
                if first + batch.num_rows > start:
                    for place, piece in pieces(batch, max(start - first, 0)):
                        yield [
                            Message(label, row, values)
                            for row, values in enumerate(rows_of(piece), first + place)
                        ]
                first += batch.num_rows
        finally:
            with contextlib.suppress(pa.ArrowException):
                reader.cancel()
        if first < start:
            raise PositionLost(
                f"{self._uri} endpoint {label}: the store stands at row {start:,}, but the stream "
                f"ends at {first:,}: it is another one; read it under another descriptor, or into "
                f"another group",
                partition=label,
                position=start,
            )

    @contextlib.contextmanager
    def _told_apart(self) -> Iterator[None]:
        try:
            yield
        except (flight.FlightUnavailableError, flight.FlightTimedOutError) as error:
            raise _Away(_words(error)) from error
        except (flight.FlightUnauthenticatedError, flight.FlightUnauthorizedError) as error:
            what = (
                "does not know who asks"
                if isinstance(error, flight.FlightUnauthenticatedError)
                else "does not allow this read"
            )
            raise IngestError(
                f"{self._uri}: the server {what}; check the token (token_file, or "
                f"{FLIGHT_TOKEN}) and its rights: {_words(error)}"
            ) from error
        except KeyError as error:
            raise SourceNotFound(
                f"{self._uri}: the server has no such flight: {_words(error)}"
            ) from error
        except (flight.FlightError, pa.ArrowException) as error:
            raise IngestError(f"{self._uri}: the server fails: {_words(error)}") from error


@final
class _Away(Exception):
    """The server does not answer."""


def _words(error: Exception) -> str:
    """The server's own words, without gRPC's account and the server's traceback."""
    text = str(error)
    for end in (". gRPC client debug context", ". Detail: ", "\n"):
        text = text.partition(end)[0]
    return text.strip("'\" ")
