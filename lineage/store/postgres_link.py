"""Connections to PostgreSQL: opened, kept for the next, lost, and explained."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from lineage.errors import (
    InvalidEntity,
    NotALineageFile,
    StoreClosed,
    StoreCorrupt,
    StoreUnavailable,
)
from lineage.store.postgres_bell import Bell
from lineage.store.tables import Dialect

if TYPE_CHECKING:
    import psycopg

_FORM = 2
_DEFAULT_SCHEMA = "featureline_lineage"
_LOGIN = re.compile(r"(?:[^@/?#\[\]%]|%[0-9A-Fa-f]{2})*")
_HOSTS = re.compile(r"(?:(?:\[[^\]]*\]|[^:,@\[\]]*)(?::\d*)?(?:,|$))*")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MARK = "featureline_lineage_form"
# One of those that `postgres_index.sql` makes.
_INDEX = "version_of_uri"
_MAKING = 0x664C696E  # the advisory lock of who makes the tables
_IDLE_READERS = 8
# A commit that gets no answer for so long is given up, and settled by its event_uid.
COMMIT_TIMEOUT_S = 60.0
# How often one is looked at in that time.
_LOOKS = 10
# What notices a peer that went without a word; a URL may say otherwise.
_KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# Every statement reads by an index, whatever the planner guesses of tables that were never
# analysed; a plan that it has to scan for would otherwise be compiled first.
_PLANS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
# Of the writing connection: the wait for the head of the log, when a process that holds it is
# stopped; the server ends what that one began, so that the others go on.
_WRITER_SETTINGS = {
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_ROWS_AT_ONCE = 2_000
_INSERT = re.compile(r"INSERT INTO (?P<table>\w+) \((?P<columns>[^()]*)\) VALUES \([?, ]*\)")

POSTGRES = Dialect(
    integers="unnest(?::bigint[]) WITH ORDINALITY AS wanted (value, place)",
    texts="unnest(?::text[]) WITH ORDINALITY AS wanted (value, place)",
    columns="unnest(?::bigint[], ?::text[]) AS wanted (node, name)",
    join="JOIN",
    array=list,
    pairs=lambda pairs: tuple(map(list, zip(*pairs, strict=True))) or ([], []),
    in_order="ORDER BY wanted.place",
    joined="string_agg({}::text, ',')",
    equal="(hashtextextended({column}, 0) = hashtextextended(CAST({value} AS TEXT), 0) "
    "AND {column} = {value})",
    values=lambda value: (value, value),
)


@final
class ConnectionLost(StoreUnavailable):
    """The connection broke; what was under way may or may not have happened."""


@final
class ValueRefused(InvalidEntity):
    """PostgreSQL does not take a value; what was under way did not happen."""


@final
class PostgresConnection:
    """A connection in a transaction, in the form that the tables take.

    Args:
        connection: to the database.
        inserts: the statements that insert arrays of rows, kept for the next transaction.
    """

    def __init__(self, connection: psycopg.Connection[Any], inserts: dict[str, str]) -> None:
        self._connection = connection
        self._inserts = inserts

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement answers."""
        return self._connection.execute(*_translated(statement, parameters)).fetchall()

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        """The first row that a statement answers."""
        row: tuple[Any, ...] | None
        row = self._connection.execute(*_translated(statement, parameters)).fetchone()
        return row

    def each(self, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """The rows that a statement answers, read in parts as they are taken."""
        with self._connection.cursor(name=f"each_{os.urandom(6).hex()}") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(*_translated(statement, parameters))
            yield from cursor

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of several rows."""
        insert = _INSERT.fullmatch(statement) if len(rows) > 1 else None
        if insert is not None:
            # One array for each column: no row costs a message, and the statement stays prepared.
            arrays = [list(column) for column in zip(*rows, strict=True)]
            self._connection.execute(self._of_arrays(insert), arrays)
        elif len(rows) == 1:
            self._connection.execute(*_translated(statement, rows[0]))
        elif rows:
            with self._connection.cursor() as cursor:
                cursor.executemany(statement.replace("?", "%s"), rows)

    def _of_arrays(self, insert: re.Match[str]) -> Any:
        known = self._inserts.get(insert[0])
        if known is None:
            types = dict(
                self._connection.execute(
                    "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute "
                    "WHERE attrelid = %s::regclass AND attnum > 0",
                    (insert["table"],),
                ).fetchall()
            )
            casts = (f"%s::{types[name.strip()]}[]" for name in insert["columns"].split(","))
            known = self._inserts[insert[0]] = (
                f"INSERT INTO {insert['table']} ({insert['columns']}) "
                f"SELECT * FROM unnest({', '.join(casts)})"
            )
        return known


@final
class PostgresLink:
    """The connections of one process to one schema.

    A child of a fork opens its own: connections do not survive a fork.

    Args:
        url: as `PostgresStore.open` takes it, without the schema.
        schema: that holds the tables.
        script: makes the tables.
        added: makes those that schemas of before may lack, where they do.
    """

    def __init__(
        self,
        url: str,
        schema: str,
        script: Traversable,
        added: Traversable,
        indexes: Traversable,
    ) -> None:
        self.place = without_password(url)
        self._url = url
        self._schema = schema
        self._script = script
        self._added = added
        self._indexes = indexes
        self._is_prepared = False
        self._inserts: dict[str, str] = {}
        self._watch = _Watch()
        self.bell = Bell(schema, self._for_listening)
        self._lock = threading.Lock()
        self._readers: list[psycopg.Connection[Any]] = []
        self._writer: psycopg.Connection[Any] | None = None
        self._closed = False
        _LINKS.add(self)

    @classmethod
    def open(
        cls,
        url: str,
        script: Traversable,
        *,
        added: Traversable,
        indexes: Traversable,
        wait: bool = False,
    ) -> PostgresLink:
        """Reach the database, and make the tables when there are none.

        Args:
            url: as `PostgresStore.open` takes it.
            script: makes the tables.
            added: makes those that schemas of before may lack, where they do.
            indexes: makes the indexes of look-ups, where they are not there.
            wait: whether the database may be away for now: it is reached by the first call then.

        Raises:
            NotALineageFile: the schema holds something else, or another form.
            StoreUnavailable: the server is away, refuses the login, or psycopg is not installed.
        """
        rest, schema = _schema_of(url)
        link = cls(rest, schema, script, added, indexes)
        try:
            link.prepare()
        except ConnectionLost:
            if not wait:
                link.close()
                raise
        except BaseException:
            link.close()
            raise
        return link

    def prepare(self) -> None:
        """Make sure that the tables are there; errors as for `open`."""
        if not self._is_prepared:
            with self._transaction() as connection:
                self._prepare(connection)
            self._is_prepared = True

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """A connection in a read transaction: one state of the database."""
        self.prepare()
        connection = self._reader()
        broken = True
        try:
            with self.explained():
                yield PostgresConnection(connection, self._inserts)
            broken = connection.broken
        finally:
            # A query that failed leaves a usable connection; a broken one goes.
            if not connection.closed and not connection.broken:
                with suppress(self._errors()):
                    connection.rollback()
                    broken = connection.broken
            with self._lock:
                keep = not broken and not self._closed and len(self._readers) < _IDLE_READERS
                if keep:
                    self._readers.append(connection)
            if not keep:
                connection.close()

    @contextmanager
    def writing(self, *, limit_s: float | None = None) -> Iterator[PostgresConnection]:
        """The writing connection in a transaction: see `_transaction`."""
        self.prepare()
        with self._transaction(limit_s) as connection:
            yield connection

    @contextmanager
    def _transaction(self, limit_s: float | None = None) -> Iterator[PostgresConnection]:
        """The writing connection in a transaction, durable when the context ends well.

        The caller lets one thread at a time in here.

        Args:
            limit_s: when the connection is cut, in case the server is there but stands still;
                None: never.

        Raises:
            ConnectionLost: it broke; the transaction may or may not have been committed.
        """
        with self._lock:
            self._check_open()
            connection, self._writer = self._writer, None
        if connection is None or connection.broken or connection.closed:
            connection = self._connect(read_only=False)
        try:
            with self.explained(), self._watch.over(connection, limit_s):
                yield PostgresConnection(connection, self._inserts)
                connection.commit()
        except BaseException:
            with suppress(self._errors()):
                connection.rollback()
            raise
        finally:
            with self._lock:
                if connection.broken or self._closed:
                    connection.close()
                else:
                    self._writer = connection

    def close(self) -> None:
        """Close every connection, those in use as they come back."""
        with self._lock:
            self._closed = True
            waiting = [*self._readers, *([self._writer] if self._writer else [])]
            self._readers, self._writer = [], None
        for connection in waiting:
            connection.close()
        self.bell.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what PostgreSQL raises into this package's errors."""
        import psycopg
        from psycopg import errors

        try:
            yield
        except (errors.UndefinedTable, errors.UndefinedColumn) as error:
            raise StoreCorrupt(self.place, _first_line(error)) from error
        except (
            errors.DiskFull,
            errors.InsufficientPrivilege,
            errors.ReadOnlySqlTransaction,
        ) as error:
            raise StoreUnavailable(
                f"{self.place}: PostgreSQL cannot go on: {_first_line(error)}; check its disk and "
                f"the rights of the role, then try again"
            ) from error
        except errors.LockNotAvailable as error:
            raise StoreUnavailable(
                f"{self.place}: another process has held the head of the log for "
                f"{_WRITER_SETTINGS['lock_timeout']}; it may be rebuilding the graph: try again"
            ) from error
        except (psycopg.DataError, errors.ProgramLimitExceeded, UnicodeEncodeError) as error:
            raise ValueRefused(f"PostgreSQL does not take a value: {_first_line(error)}") from error
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            errors.IdleInTransactionSessionTimeout,
        ) as error:
            raise ConnectionLost(
                f"{self.place}: the connection to PostgreSQL was lost: {_first_line(error)}"
            ) from error

    def forget(self) -> None:
        """In the child of a fork: leave the connections to the parent."""
        _ABANDONED.extend([*self._readers, self._writer, self.bell.forget()])
        self._lock = threading.Lock()
        self._watch = _Watch()
        self._readers, self._writer = [], None

    def _reader(self) -> psycopg.Connection[Any]:
        """A connection that answers: one kept from before may be dead by now."""
        while True:
            with self._lock:
                self._check_open()
                connection = self._readers.pop() if self._readers else None
            if connection is None:
                return self._connect(read_only=True)
            with suppress(self._errors()):
                connection.execute("SELECT 1")
                return connection
            connection.close()

    def _for_listening(self) -> psycopg.Connection[Any]:
        self.prepare()
        with self._lock:
            self._check_open()
        return self._connect(read_only=True)

    def _connect(self, *, read_only: bool) -> psycopg.Connection[Any]:
        driver = _psycopg()
        given = dict(parse_qsl(urlsplit(self._url).query))
        settings = {
            "search_path": self._schema,
            **_PLANS,
            **({} if read_only else _WRITER_SETTINGS),
        }
        options = given.get("options", "")
        for name, value in settings.items():
            options += f" -c {name}={value}"
        try:
            connection: psycopg.Connection[Any] = driver.connect(
                self._url,
                options=options.strip(),
                prepare_threshold=2,
                application_name="featureline lineage",
                **{name: value for name, value in _KEEPALIVE.items() if name not in given},
            )
            if not read_only:
                # Acknowledged means on disk, whatever the database's default is.
                connection.execute(
                    "SELECT set_config('synchronous_commit', 'on', false) "
                    "WHERE current_setting('synchronous_commit') = 'off'"
                )
                connection.commit()
        except driver.OperationalError as error:
            raise ConnectionLost(
                f"{self.place}: PostgreSQL cannot be reached: {_first_line(error)}; check host, "
                f"port, database, user and password"
            ) from error
        except driver.ProgrammingError as error:
            raise StoreUnavailable(
                f"{self.place}: not a URL of PostgreSQL: {_first_line(error)}"
            ) from error
        if read_only:
            connection.read_only = True
            connection.isolation_level = driver.IsolationLevel.REPEATABLE_READ
        return connection

    def _prepare(self, connection: PostgresConnection) -> None:
        """Recognise the schema, or make it; one process at a time."""
        connection.one("SELECT pg_advisory_xact_lock(?)", _MAKING)
        # Of the catalogue, which names also what this role may not read. Indexes are in it, too.
        tables = {
            name
            for (name,) in connection.all(
                "SELECT relname::text FROM pg_class JOIN pg_namespace AS schema "
                "ON schema.oid = relnamespace WHERE nspname = ?",
                self._schema,
            )
        }
        where = f"{self.place} schema {self._schema}"
        if not tables:
            # A role without the right to make schemas may have been given one.
            if connection.one("SELECT 1 FROM pg_namespace WHERE nspname = ?", self._schema) is None:
                connection.many(f"CREATE SCHEMA {self._schema}", [()])
            connection.many(self._script.read_text("utf-8"), [()])
            connection.many(f"CREATE TABLE {_MARK} (form INTEGER NOT NULL)", [()])
            connection.many(f"INSERT INTO {_MARK} VALUES (?)", [(_FORM,)])
        elif _MARK not in tables:
            raise NotALineageFile(
                where,
                f"tables of another program ({', '.join(sorted(tables)[:5])})",
                "name another schema in the URL: ?schema=NAME",
            )
        else:
            row = connection.one(f"SELECT form FROM {self._schema}.{_MARK}")
            if row is None or row[0] != _FORM:
                raise NotALineageFile(
                    where,
                    f"form {row and row[0]} where this version writes form {_FORM}",
                    "open it with the version of featureline that wrote it",
                )
        if "checkpoint" not in tables:
            connection.many(self._added.read_text("utf-8"), [()])
        # Without them look-ups take longer, and only the owner of a table may make them.
        if _INDEX not in tables and connection.one(
            "SELECT 1 FROM pg_class WHERE oid = to_regclass(?) AND pg_has_role(relowner, 'USAGE') "
            "AND NOT pg_is_in_recovery()",
            f"{self._schema}.entity",
        ):
            connection.many(self._indexes.read_text("utf-8"), [()])

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed()

    @staticmethod
    def _errors() -> type[Exception]:
        import psycopg

        return psycopg.Error


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise StoreUnavailable(
            "lineage in PostgreSQL needs the package psycopg: pip install 'featureline[postgres]'"
        ) from error
    return psycopg


def _schema_of(url: str) -> tuple[str, str]:
    """The URL without its parameter `schema`, and the schema."""
    parts = _split(url)
    if parts is None:
        raise StoreUnavailable(
            "not a URL of PostgreSQL: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in a "
            "password / ? # @ [ ] % are written %2F %3F %23 %40 %5B %5D %25"
        )
    options = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(options).get("schema", _DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema):
        raise StoreUnavailable(
            f"{without_password(url)}: schema: expected lower-case letters, digits and _, got "
            f"{schema!r}"
        )
    rest = urlencode([(k, v) for k, v in options if k != "schema"], quote_via=quote)
    return urlunsplit(parts._replace(query=rest)), schema


def without_password(url: str) -> str:
    """A URL as it may be shown; of one that cannot be read nothing but its scheme."""
    parts = _split(url)
    if parts is None:
        return f"{url.partition('://')[0]}://..." if "://" in url else url
    user = parts.username or ""
    _, at, host = parts.netloc.rpartition("@")
    options = [(k, v) for k, v in parse_qsl(parts.query) if "password" not in k.lower()]
    return urlunsplit(
        parts._replace(netloc=f"{user}{at}{host}", query=urlencode(options, quote_via=quote))
    )


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None where a password with special characters may be anywhere."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    login, _, hosts = parts.netloc.rpartition("@")
    behind = f"{parts.path}?{parts.query}#{parts.fragment}"
    if not parts.scheme:
        return parts
    is_plain = _LOGIN.fullmatch(login) and _HOSTS.fullmatch(hosts) and "@" not in behind
    return parts if is_plain and not parts.fragment else None


def _translated(statement: str, parameters: Sequence[Any]) -> tuple[Any, Any]:
    """A statement in psycopg's form."""
    return statement.replace("?", "%s"), parameters or None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


@final
class _Watch:
    """Cuts a connection that a server leaves without an answer for too long.

    One thread for all transactions, as to start one costs as much as a transaction; it ends when
    it has had nothing to do for a while, and is begun again.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._watched: tuple[int, float] | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: psycopg.Connection[Any], limit_s: float | None) -> Iterator[None]:
        """Watch a connection while the context lasts; None: do not."""
        if limit_s is None:
            yield
            return
        with self._changing:
            self._watched = (connection.fileno(), time.monotonic() + limit_s)
            if self._thread is None or not self._thread.is_alive():
                looks = (limit_s / _LOOKS,)
                self._thread = threading.Thread(target=self._look, args=looks, daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            # Its descriptor may become another's.
            with self._changing:
                self._watched = None

    def _look(self, every_s: float) -> None:
        idle = 0
        while True:
            time.sleep(every_s)
            with self._changing:
                idle = 0 if self._watched else idle + 1
                if idle > _LOOKS:
                    self._thread = None
                    return
                if self._watched and time.monotonic() > self._watched[1]:
                    with socket.socket(fileno=os.dup(self._watched[0])) as peer, suppress(OSError):
                        peer.shutdown(socket.SHUT_RDWR)
                    self._watched = None


_LINKS: weakref.WeakSet[PostgresLink] = weakref.WeakSet()
_ABANDONED: list[Any] = []


def _after_fork_in_child() -> None:
    for link in list(_LINKS):
        link.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
