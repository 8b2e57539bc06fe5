"""Encryption at rest: record values sealed with a data key per group, wrapped by a master key.

    master key    32 bytes, in a file or the environment, never in the home
    data keys     32 random bytes per group and version, wrapped (AES-256-GCM) in `home/keys.db`
    sealed value  form u8 · key version u32 · nonce 96 bits · identifier length u16 · identifier
                  · AES-256-GCM(record) · tag 128 bits

Form, key version, group number and identifier are associated data, so sealed bytes that were moved
to another identifier, group or version do not open. They carry the identifier, which is a key of
the online store anyway, so that the flush can open an outbox entry by itself.

A key seals at most 2³² messages: with random 96-bit nonces the chance that any two are equal then
stays below 2⁻³² (NIST SP 800-38D, 8.3). A process reserves messages in `keys.db` before it uses
them; when a key's are used up the group gets a new version, and old ones go on opening.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, final

from featurestore.cipher import FIRST_RESERVE, Cipher, destroyed, sealed_extra
from featurestore.errors import InvalidRequest, StoreCorrupt, StoreUnavailable
from featurestore.masterkey import (
    KEY_BYTES,
    KEYS_FILE,
    MASTER_KEY,
    MASTER_KEY_FILE,
    MasterKey,
    aead,
)
from featurestore.registry import sqlite_error

__all__ = [
    "FIRST_RESERVE",
    "KEYS_FILE",
    "MASTER_KEY",
    "MASTER_KEY_FILE",
    "Cipher",
    "DataKey",
    "KeyRing",
    "MasterKey",
    "data_keys",
    "sealed_extra",
]

MESSAGES_PER_KEY: Final = 2**32

_APPLICATION_ID: Final = 0x664C6B79  # "fLky": says whose file it is
_BUSY_TIMEOUT_S: Final = 30.0
# Where all keys were destroyed there is nothing to unwrap: any master key will do.
_PRESENT_MASTER: Final = (
    "SELECT fingerprint FROM master_key"
    " WHERE EXISTS (SELECT 1 FROM data_key WHERE wrapped IS NOT NULL)"
)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS master_key (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    fingerprint  TEXT NOT NULL,
    since_us     INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS data_key (
    group_number INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    wrapped      BLOB,              -- null: destroyed
    reserved     INTEGER NOT NULL,  -- messages that processes have reserved
    created_us   INTEGER NOT NULL,
    destroyed_us INTEGER,
    PRIMARY KEY (group_number, version)
) WITHOUT ROWID;
"""


class DataKey(NamedTuple):
    """What `keys.db` says of one data key, without the key.

    Args:
        group_number: the feature group's number.
        version: counts the group's keys, from 1; the newest seals.
        reserved: messages it was reserved for, of at most 2³².
        created_us: µs since the epoch.
        destroyed_us: None while it exists.
    """

    group_number: int
    version: int
    reserved: int
    created_us: int
    destroyed_us: int | None


@final
class KeyRing:
    """The data keys of a home. May be used from many threads, and opened by many processes.

    >>> import base64, tempfile
    >>> environ = {"FEATURELINE_MASTER_KEY": base64.b64encode(bytes(32)).decode()}
    >>> with tempfile.TemporaryDirectory() as home, KeyRing.open(home, environ=environ) as ring:
    ...     cipher = ring.create(7)
    ...     cipher.open(cipher.seal(b"record", b"id"), b"id")
    b'record'
    """

    def __init__(
        self,
        path: Path,
        master: Callable[[], MasterKey | None],
        *,
        messages_per_key: int = MESSAGES_PER_KEY,
    ) -> None:
        self._path = path
        self._read_master = master
        self._bound = messages_per_key
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._ciphers: dict[int, Cipher] = {}
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._master = master()
        if self._master is not None:
            aead(self._master.key)  # the extra is missing: say so before anything is written
        if path.exists():
            self._master = self._matching(self._connection())

    @classmethod
    def open(
        cls,
        home: str | Path,
        *,
        environ: Mapping[str, str] = os.environ,
        messages_per_key: int = MESSAGES_PER_KEY,
    ) -> KeyRing:
        """Open the ring of a home. The file `keys.db` is made with the first key.

        Args:
            home: the home folder.
            environ: names the master key by `FEATURELINE_MASTER_KEY_FILE` or
                `FEATURELINE_MASTER_KEY`; needed as soon as the home has keys.
            messages_per_key: how many messages a key may seal, at most 2³².

        Raises:
            StoreUnavailable: the master key is missing, is not the one the keys are wrapped with,
                or may be read by others; or the extra `encryption` is not installed.
            InvalidRequest: the master key is malformed.
            StoreCorrupt: `keys.db` is damaged or another program's.
        """
        return cls(
            Path(home) / KEYS_FILE,
            lambda: MasterKey.from_environment(environ),
            messages_per_key=messages_per_key,
        )

    @property
    def path(self) -> Path:
        """The file of the data keys."""
        return self._path

    def create(self, group_number: int) -> Cipher:
        """Make the first key of a group; one that is there is kept.

        Kept, since the number of a group whose creation failed may be given again.

        Raises:
            InvalidRequest: there is no master key, or the group's keys were destroyed.
            StoreFull: no space for it.
        """
        if self._master is None:
            raise InvalidRequest(
                f"an encrypted feature group needs a master key: make one with `featureline key "
                f"new FILE` and set {MASTER_KEY_FILE}"
            )
        with self._change() as db:
            versions = _versions(db, group_number)
            if versions and all(wrapped is None for _, wrapped, _ in versions):
                raise InvalidRequest(f"the keys of group {group_number} were destroyed")
            if not versions:
                self._add(db, group_number, 1, reserved=0)
        made = self.cipher(group_number)
        assert made is not None
        return made

    def cipher(self, group_number: int) -> Cipher | None:
        """Return what seals and opens the values of a group; None for a group without keys.

        Cost: one look into a dictionary after the first call for a group that has keys.
        """
        found = self._ciphers.get(group_number)
        return self._load(group_number) if found is None else found

    def numbers(self) -> frozenset[int]:
        """Return the numbers of the groups that have keys."""
        if not self._path.exists():
            return frozenset()
        with self._lock, self._errors():
            rows = self._connection().execute(
                "SELECT DISTINCT group_number FROM data_key WHERE wrapped IS NOT NULL"
            )
            return frozenset(number for (number,) in rows)

    def destroy(self, group_number: int) -> None:
        """Destroy all keys of a group: what they sealed can never be opened again.

        Does nothing for a group without keys. Copies in backups of `keys.db` stay as long as the
        master key that wrapped them.

        Raises:
            StoreFull: no space to write; the keys are still there.
        """
        if not self._path.exists():
            return
        with self._change() as db:
            db.execute(
                "UPDATE data_key SET wrapped = NULL, destroyed_us = ?"
                " WHERE group_number = ? AND wrapped IS NOT NULL",
                (_now_us(), group_number),
            )
        with self._lock:
            gone = self._ciphers.pop(group_number, None)
        if gone is not None:
            gone.forget()

    def rotate(self, new: MasterKey) -> int:
        """Wrap all data keys with a new master key, in one transaction; return how many.

        Values are not written again. Processes that run go on with the keys they have; when they
        need another one they read the master key again from where they had it.

        Raises:
            InvalidRequest: it is the present master key, or there are no keys to wrap.
        """
        if self._master is None or not self._path.exists():
            raise InvalidRequest(
                "the home has no keys to wrap: it has no encrypted feature group yet"
            )
        if new.key == self._master.key:
            raise InvalidRequest(f"{new.source} holds the present master key; expected a new one")
        with self._change() as db:
            old = self._matching(db)
            assert old is not None
            rows = db.execute(
                "SELECT group_number, version, wrapped FROM data_key WHERE wrapped IS NOT NULL"
            ).fetchall()
            for number, version, wrapped in rows:
                data_key = old.unwrap(wrapped, number, version)
                db.execute(
                    "UPDATE data_key SET wrapped = ? WHERE group_number = ? AND version = ?",
                    (new.wrap(data_key, number, version), number, version),
                )
            db.execute(
                "UPDATE master_key SET fingerprint = ?, since_us = ?", (new.fingerprint, _now_us())
            )
        self._master = new
        return len(rows)

    def close(self) -> None:
        """Close the file; using the ring afterwards raises StoreUnavailable."""
        with self._lock:
            self._closed = True
            self._ciphers.clear()
            if self._db is not None and self._pid == os.getpid():
                self._db.close()
            self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- for ciphers --------------------------------------------------------------------------

    def unwrapped(self, group_number: int) -> dict[int, bytes]:
        """Return the data keys of a group by version; empty without any."""
        if not self._path.exists():
            return {}
        with self._lock, self._errors():
            db = self._connection()
            rows = _versions(db, group_number)
            if not any(wrapped for _, wrapped, _ in rows):
                return {}
            master = self._master = self._matching(db)
            assert master is not None
            return {
                version: master.unwrap(wrapped, group_number, version)
                for version, wrapped, _ in rows
                if wrapped is not None
            }

    def reserve(self, group_number: int, messages: int) -> tuple[int, int]:
        """Reserve messages of the group's newest key, or of a new one when it has too few left.

        Returns:
            The key's version and how many were reserved.

        Raises:
            StoreUnavailable: the group's keys were destroyed.
            StoreFull: no space to note it.
        """
        messages = min(messages, self._bound)
        with self._change() as db:
            rows = [row for row in _versions(db, group_number) if row[1] is not None]
            if not rows:
                raise destroyed(group_number)
            version, _, reserved = rows[-1]
            if reserved + messages > self._bound:
                self._add(db, group_number, version + 1, reserved=messages)
                return version + 1, messages
            db.execute(
                "UPDATE data_key SET reserved = reserved + ?"
                " WHERE group_number = ? AND version = ?",
                (messages, group_number, version),
            )
            return version, messages

    # -- the file -----------------------------------------------------------------------------

    def _load(self, group_number: int) -> Cipher | None:
        with self._lock:
            found = self._ciphers.get(group_number)
            if found is None:
                keys = self.unwrapped(group_number)
                if not keys:
                    return None
                found = self._ciphers[group_number] = Cipher(self, group_number, keys)
            return found

    def _add(self, db: sqlite3.Connection, number: int, version: int, *, reserved: int) -> None:
        self._master = self._matching(db)
        assert self._master is not None
        if db.execute(_PRESENT_MASTER).fetchone() is None:
            db.execute(
                "INSERT OR REPLACE INTO master_key VALUES (1, ?, ?)",
                (self._master.fingerprint, _now_us()),
            )
        wrapped = self._master.wrap(os.urandom(KEY_BYTES), number, version)
        db.execute(
            "INSERT INTO data_key VALUES (?, ?, ?, ?, ?, NULL)",
            (number, version, wrapped, reserved, _now_us()),
        )

    def _matching(self, db: sqlite3.Connection) -> MasterKey | None:
        """Return the master key that the keys are wrapped with, which may have changed."""
        with self._errors():
            row = db.execute(_PRESENT_MASTER).fetchone()
        if row is None:
            return self._master
        master = self._master
        if master is None or master.fingerprint != row[0]:
            master = self._read_master()
        if master is None:
            raise StoreUnavailable(
                f"{self._path}: the home has encrypted feature groups and no master key is given; "
                f"set {MASTER_KEY_FILE} to the file of master key {row[0]}"
            )
        if master.fingerprint != row[0]:
            raise StoreUnavailable(
                f"{self._path}: the data keys are wrapped with master key {row[0]}, and "
                f"{master.source} holds master key {master.fingerprint}; give the right one"
            )
        return master

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailable("the key ring is closed")
        if self._pid != os.getpid():
            raise StoreUnavailable(
                "the key ring was opened before this process was forked; open it in the child"
            )
        if self._db is None:
            with self._errors():
                self._db = _connect(self._path)
        return self._db

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            with self._errors():
                if not self._path.exists():
                    os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
                db = self._connection()
                db.execute("BEGIN IMMEDIATE")
            try:
                with self._errors():
                    yield db
                    db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise sqlite_error(self._path, error) from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error


def data_keys(home: str | Path) -> list[DataKey]:
    """List the data keys of a home; needs no master key.

    Raises:
        StoreCorrupt: `keys.db` is damaged or another program's.
    """
    path = Path(home) / KEYS_FILE
    if not path.exists():
        return []
    try:
        db = _connect(path)
        try:
            rows = db.execute(
                "SELECT group_number, version, reserved, created_us, destroyed_us FROM data_key"
                " ORDER BY group_number, version"
            ).fetchall()
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        raise sqlite_error(path, error) from error
    return [DataKey(*row) for row in rows]


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        # Overwrite what is deleted: a destroyed key shall not stay in a free page.
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA synchronous = FULL")
        owner = db.execute("PRAGMA application_id").fetchone()[0]
        if owner != _APPLICATION_ID:
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if owner or tables:
                raise StoreCorrupt(
                    f"{path} belongs to another program; move it away and restore a backup"
                )
            db.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID}; {_SCHEMA} COMMIT"
            )
    except BaseException:
        db.close()
        raise
    return db


def _versions(db: sqlite3.Connection, number: int) -> list[tuple[int, bytes | None, int]]:
    return db.execute(
        "SELECT version, wrapped, reserved FROM data_key WHERE group_number = ? ORDER BY version",
        (number,),
    ).fetchall()


def _now_us() -> int:
    return time.time_ns() // 1_000
