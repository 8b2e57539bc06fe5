"""A claim on a file: held by one process at most, and gone with it however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self, final

__all__ = ["Claim"]


@final
class Claim:
    """An exclusive lock on a file.

    Unlike a process number, which the system gives out again, a lock tells for certain whether
    its holder still lives.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Claim a file, making it when absent; None when another holder has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    @classmethod
    def inherited(cls, descriptor: int) -> Self:
        """Take over the claim of the process that started this one."""
        os.set_inheritable(descriptor, False)
        return cls(descriptor)

    @property
    def descriptor(self) -> int:
        """What a process that is started with it has the claim by, too."""
        assert self._descriptor is not None
        return self._descriptor

    def release(self) -> None:
        """Give the claim up; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
