"""The audit log: who asked for what, and what came of it; one line of JSON each.

Lines are only appended, each in one write to a file opened for appending, so that the lines of
several processes do not mix. A file that has reached its size becomes `audit.log.1`, the one before
`audit.log.2`, and the oldest goes.

    {"time": "2026-01-31T12:00:00.000001Z", "request_id": "9f…", "principal": "loader",
     "token": "4f…", "address": "10.0.0.7", "action": "sagemaker:DeleteFeatureGroup",
     "resource": "arn:…:feature-group/weather", "outcome": "NOT_FOUND"}
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Final, final

from featurestore import eventtime
from featurestore.errors import StoreFull, StoreUnavailable

__all__ = ["FILE", "AuditLog"]

FILE: Final = "audit.log"
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
KEPT_FILES: Final = 10
_MAX_TEXT: Final = 300  # names come from requests, and nobody may fill the disk with one
_OWNER_ONLY: Final = 0o600


@final
class AuditLog:
    """Appends lines to a file that other processes append to as well.

    Args:
        path: the file; made at the first line, readable by its owner only.
        max_bytes: size from which a file is put aside.
        kept: how many files that were put aside are kept.
    """

    def __init__(
        self, path: Path, *, max_bytes: int = MAX_FILE_BYTES, kept: int = KEPT_FILES
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._lock = threading.Lock()
        self._file = -1
        self._cut = False

    def write(
        self,
        *,
        time_us: int,
        request_id: str,
        principal: str,
        token: str,
        address: str,
        action: str,
        resource: str,
        outcome: str,
    ) -> None:
        """Append a line. It is with the system when this returns, not yet on the disk.

        Raises:
            StoreFull, StoreUnavailable: it could not be written.
        """
        entry = {
            "time": eventtime.format_iso(time_us),
            "request_id": request_id,
            "principal": principal,
            "token": token,
            "address": address,
            "action": action,
            "resource": resource,
            "outcome": outcome,
        }
        line = json.dumps({name: _fit(text) for name, text in entry.items()}).encode() + b"\n"
        with self._lock:
            try:
                self._open()
                # After a line that was cut off, this one begins on a new line.
                written = os.write(self._file, b"\n" + line if self._cut else line)
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                kind = StoreFull if full else StoreUnavailable
                raise kind(f"{self._path}: {error.strerror}; a line of the log is lost") from error
            self._cut = written < len(line)
            if self._cut:
                raise StoreFull(f"{self._path}: the disk is full; a line of the log is cut off")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _open(self) -> None:
        """Have the file open that is now called the log, and is not yet full."""
        while True:
            if self._file < 0:
                self._file = os.open(
                    self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY
                )
            opened = os.fstat(self._file)
            try:
                named: os.stat_result | None = os.stat(self._path)
            except FileNotFoundError:
                named = None
            if named is not None and named.st_ino == opened.st_ino:
                if opened.st_size < self._max_bytes:
                    return
                self._put_aside()
            # Another process, or we, gave the file another name.
            os.close(self._file)
            self._file = -1

    def _put_aside(self) -> None:
        with open(self._path.with_name(f"{self._path.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if self._path.stat().st_size < self._max_bytes:
                    return  # another process did it meanwhile
            except FileNotFoundError:
                return
            for number in range(self._kept - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _fit(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
