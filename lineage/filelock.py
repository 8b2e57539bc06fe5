"""The lock of a file, waited for in turn but not for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import final


def lock(descriptor: int, timeout_s: float) -> None:
    """Take the exclusive `flock` of an open file.

    The system hands it to those who wait in turn; a poll would starve some.

    Args:
        descriptor: of the file; after an error it has to be closed, as the lock may still come.
        timeout_s: the longest wait.

    Raises:
        TimeoutError: another process had it all the time.
        OSError: the file cannot be locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not _Waiter(descriptor).wait(timeout_s):
            raise OSError(
                errno.ETIMEDOUT, f"another process has had it locked for {timeout_s:g} s"
            ) from None


@final
class _Waiter:
    """Waits in a thread of its own: `flock` knows no timeout.

    Args:
        descriptor: of the file; a copy of it is locked, which is the same lock.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._is_given_up = False
        self._error: OSError | None = None
        threading.Thread(target=self._wait, daemon=True, name="lineage lock").start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the lock came in time; if not, it is let go when it comes."""
        is_ours = False
        try:
            is_ours = self._ended.wait(timeout_s)
        finally:
            with self._changing:
                self._is_given_up = not is_ours
                if self._is_given_up and self._ended.is_set():
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                if self._ended.is_set():
                    os.close(self._descriptor)
        if self._error is not None:
            raise self._error
        return is_ours

    def _wait(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        with self._changing:
            if self._is_given_up:
                # A child of a fork may have the file open too: closing alone would not do.
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                os.close(self._descriptor)
            self._ended.set()
