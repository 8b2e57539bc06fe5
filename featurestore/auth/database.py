"""Tokens and policies of a home, in SQLite (`access.db`), readable by its owner only."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from featurestore.auth.policy import Policy, parse_policy
from featurestore.auth.token import Credential, Token, new_credential
from featurestore.errors import InvalidRequest, nearest
from featurestore.record import now_us
from featurestore.registry import sqlite_error

__all__ = ["FILE", "AccessDatabase", "Kept"]

FILE: Final = "access.db"
_OWNER_ONLY: Final = 0o600
_BUSY_TIMEOUT_S: Final = 10.0
_HOUR_US: Final = 3_600_000_000
_MAX_PRINCIPAL: Final = 128
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS policy (
    name         TEXT PRIMARY KEY,
    document     TEXT NOT NULL,
    created_us   INTEGER NOT NULL,
    modified_us  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS token (
    id           TEXT PRIMARY KEY,
    digest       BLOB NOT NULL,
    principal    TEXT NOT NULL,
    policies     TEXT NOT NULL,
    tags         TEXT NOT NULL,
    created_us   INTEGER NOT NULL,
    expires_us   INTEGER,
    revoked_us   INTEGER,
    last_used_us INTEGER
) WITHOUT ROWID;
"""
_TOKEN_COLUMNS: Final = (
    "id, principal, policies, tags, created_us, expires_us, revoked_us, last_used_us, digest"
)


class Kept(NamedTuple):
    """A policy with the times of its making and last change, µs since the epoch."""

    policy: Policy
    created_us: int
    modified_us: int


@final
class AccessDatabase:
    """The tokens and policies of one home. Several processes may use it at once.

    Args:
        home: folder of the stores; folder and file are made when absent.

    Raises:
        StoreCorrupt: the file is no SQLite database.
        StoreUnavailable: it cannot be opened.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / FILE
        self._lock = threading.RLock()
        home.mkdir(parents=True, exist_ok=True)
        # Made by hand: SQLite would make it readable for all, and its journals take its mode over.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _OWNER_ONLY))
        with self._errors():
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                with _alone(self.path):
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._db.executescript(_SCHEMA)
            except sqlite3.DatabaseError:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def version(self) -> int:
        """Return a number that changes when another process, or connection, changes the file."""
        with self._lock, self._errors():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # -- policies -----------------------------------------------------------------------------

    def put_policy(self, name: str, text: str, *, now: int | None = None) -> Policy:
        """Store a policy, in place of one of the same name. It acts at once, for all its tokens.

        Raises:
            InvalidRequest: the document breaks a rule; nothing is stored.
        """
        policy = parse_policy(name, text)
        moment = now_us() if now is None else now
        with self._lock, self._errors():
            self._db.execute(
                "INSERT INTO policy VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
                " SET document = excluded.document, modified_us = excluded.modified_us",
                (name, text, moment, moment),
            )
        return policy

    def policies(self) -> dict[str, Kept]:
        """Return all policies by name, sorted."""
        with self._lock, self._errors():
            rows = self._db.execute("SELECT * FROM policy ORDER BY name").fetchall()
        return {name: Kept(parse_policy(name, text), *times) for name, text, *times in rows}

    def policy(self, name: str) -> Kept:
        """Return a policy.

        Raises:
            InvalidRequest: there is none of this name.
        """
        found = self.policies()
        if name not in found:
            raise _no_policy(name, found)
        return found[name]

    def delete_policy(self, name: str, *, now: int | None = None) -> None:
        """Remove a policy.

        Raises:
            InvalidRequest: there is none, or tokens that can be used have it: without a Deny of
                it they could do more.
        """
        moment = now_us() if now is None else now
        with self._change():
            found = self.policies()
            if name not in found:
                raise _no_policy(name, found)
            users = [
                token.id
                for token in self.tokens()
                if name in token.policies and token.state(moment) == "active"
            ]
            if users:
                raise InvalidRequest(
                    f"policy {name}: expected no token that has it, got {', '.join(users)}; revoke "
                    f"them first (featureline token revoke ID), or put another document under this "
                    f"name"
                )
            self._db.execute("DELETE FROM policy WHERE name = ?", (name,))

    # -- tokens -------------------------------------------------------------------------------

    def create_token(
        self,
        principal: str,
        policies: Sequence[str],
        *,
        expires_us: int | None = None,
        tags: Mapping[str, str] | None = None,
        now: int | None = None,
    ) -> Credential:
        """Make a token; its secret is in the result and nowhere else.

        Args:
            principal: who will hold it: 1 to 128 printable characters.
            policies: names of one policy or more: what it may do.
            expires_us: the first µs at which it is no longer valid; None: it does not expire.
            tags: `aws:PrincipalTag/KEY` in conditions.
            now: µs since the epoch.

        Raises:
            InvalidRequest: a policy does not exist, or the principal is no name.
        """
        if not principal.isprintable() or not 1 <= len(principal.strip()) <= _MAX_PRINCIPAL:
            raise InvalidRequest(
                f"principal: expected 1 to {_MAX_PRINCIPAL} printable characters, got {principal!r}"
            )
        if not policies:
            raise InvalidRequest("policies: expected at least one, got none")
        moment = now_us() if now is None else now
        made = new_credential()
        with self._change():
            known = self.policies()
            for name in policies:
                if name not in known:
                    raise _no_policy(name, known)
            self._db.execute(
                f"INSERT INTO token ({_TOKEN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, ?)",
                (
                    made.id,
                    principal,
                    json.dumps(list(dict.fromkeys(policies))),
                    json.dumps(dict(tags or {})),
                    moment,
                    expires_us,
                    made.digest,
                ),
            )
        return made

    def tokens(self) -> list[Token]:
        """Return all tokens, the oldest first."""
        with self._lock, self._errors():
            rows = self._db.execute(
                f"SELECT {_TOKEN_COLUMNS} FROM token ORDER BY created_us, id"
            ).fetchall()
        return [_token(row) for row in rows]

    def token(self, token_id: str) -> Token:
        """Return a token.

        Raises:
            InvalidRequest: there is none of this id.
        """
        found = {token.id: token for token in self.tokens()}
        if token_id not in found:
            raise InvalidRequest(
                f"expected the id of a token, got {token_id!r}{nearest(token_id, found)}; "
                f"`featureline token list` shows them"
            )
        return found[token_id]

    def revoke_token(self, token_id: str, *, now: int | None = None) -> Token:
        """Make a token invalid for good; once revoked it stays so, with the first time.

        Raises:
            InvalidRequest: there is none of this id.
        """
        moment = now_us() if now is None else now
        with self._change():
            self.token(token_id)
            self._db.execute(
                "UPDATE token SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL",
                (moment, token_id),
            )
            return self.token(token_id)

    def mark_used(self, token_id: str, now: int) -> None:
        """Note the hour in which a token was used.

        Unlike other changes it may be lost with the machine's power.
        """
        hour = now - now % _HOUR_US
        with self._lock, self._errors():
            # One writer in a process and no wait for the disk: a call is waiting for this.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA busy_timeout = 0")
            try:
                self._db.execute(
                    "UPDATE token SET last_used_us = ? WHERE id = ?"
                    " AND (last_used_us IS NULL OR last_used_us < ?)",
                    (hour, token_id, hour),
                )
            finally:
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}")

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise sqlite_error(self.path, error) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from changing the journal mode at the same time (see the registry)."""
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _token(row: Sequence[Any]) -> Token:
    token_id, principal, policies, tags, *rest = row
    return Token(token_id, principal, tuple(json.loads(policies)), json.loads(tags), *rest)


def _no_policy(name: str, known: Mapping[str, Kept]) -> InvalidRequest:
    return InvalidRequest(
        f"policy {name!r} does not exist{nearest(name, known)}; `featureline policy put NAME FILE` "
        f"makes one"
    )
