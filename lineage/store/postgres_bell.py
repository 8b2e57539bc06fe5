"""Commits of any process, told by PostgreSQL: one connection listens for all who wait."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    import psycopg

RING: Final = "SELECT pg_notify(current_schema()::text, '')"
"""Rings for all who listen to the schema, when the transaction commits."""

# How long the connection is kept when nobody waits, and how often that is looked at.
_IDLE_S: Final = 60.0
_LOOK_S: Final = 5.0


class CannotListen(Exception):
    """The server takes no listeners: it is a standby."""


@final
class Bell:
    """Wakes those who wait, when anybody commits to a schema.

    One thread listens, on a connection of its own. It begins with the first who waits and ends
    when nobody has waited for a while, or when the connection is lost: the next begins anew.

    Args:
        schema: that the commits are to.
        connect: opens a connection.
    """

    def __init__(self, schema: str, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._schema = schema
        self._connect = connect
        self._beginning = threading.Lock()
        self._changed = threading.Condition()
        self._rings = 0
        self._asked = 0.0
        self._connection: psycopg.Connection[Any] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def until(self, look: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `look` finds something; it is asked at first, at each ring and at the end.

        Returns:
            What it found.

        Raises:
            CannotListen: the server takes no listeners.
            StoreUnavailable: the server is away.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            # Counted before looking: what is committed between the two rings once more.
            known = self._begun()
            if look():
                return True
            left = give_up - time.monotonic()
            with self._changed:
                rang = self._changed.wait_for(
                    lambda known=known: self._rings != known or self._closed,  # type: ignore[misc]
                    max(left, 0),
                )
            if not rang or self._closed:
                return look()

    def close(self) -> None:
        """Stop listening; idempotent."""
        with self._beginning, self._changed:
            self._closed = True
            self._changed.notify_all()
            connection, thread = self._connection, self._thread
            if connection is not None:
                # Wakes the thread, which then closes it.
                with (
                    suppress(OSError),
                    socket.socket(fileno=os.dup(connection.fileno())) as peer,
                ):
                    peer.shutdown(socket.SHUT_RDWR)
        if thread is not None:
            thread.join()

    def forget(self) -> psycopg.Connection[Any] | None:
        """In the child of a fork: the connection that is the parent's, not to be closed here."""
        connection, self._connection, self._thread = self._connection, None, None
        self._beginning = threading.Lock()
        self._changed = threading.Condition()
        return connection

    def _begun(self) -> int:
        """Listen, and say how often it has rung."""
        with self._beginning:
            with self._changed:
                self._asked = time.monotonic()
                if self._connection is not None or self._closed:
                    return self._rings
            connection = self._listening()
            with self._changed:
                self._connection = connection
                self._thread = threading.Thread(
                    target=self._listen, args=(connection,), name="lineage bell", daemon=True
                )
                self._thread.start()
                return self._rings

    def _listening(self) -> psycopg.Connection[Any]:
        from psycopg import Error, errors

        connection = self._connect()
        try:
            connection.autocommit = True
            connection.execute(f'LISTEN "{self._schema}"')
        except Error as error:
            connection.close()
            if isinstance(error, errors.ReadOnlySqlTransaction):
                raise CannotListen(str(error)) from error
            raise
        return connection

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        from psycopg import Error

        # Lost: those who wait look for themselves, and whoever still waits begins anew.
        with suppress(Error):
            while self._is_wanted():
                for _ in connection.notifies(timeout=_LOOK_S, stop_after=1):
                    self._ring()
        with self._changed:
            if self._connection is connection:
                self._connection = None
            connection.close()
        self._ring()

    def _is_wanted(self) -> bool:
        with self._changed:
            wanted = not self._closed and time.monotonic() - self._asked < _IDLE_S
            if not wanted:
                # Whoever waits from now on begins anew.
                self._connection = None
            return wanted

    def _ring(self) -> None:
        with self._changed:
            self._rings += 1
            self._changed.notify_all()
