"""Writes that take long: another process holds the one writer's lock of LMDB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final, final

__all__ = ["Stall"]

_HOLDER: Final = """
import sys, lmdb
with lmdb.open(sys.argv[1], max_dbs=8, sync=False) as env:
    transaction = env.begin(write=True)
    print("held", flush=True)
    sys.stdin.read()
    transaction.abort()
"""


@final
class Stall:
    """While it is entered, no write to a home's online store begins; reads go on.

    Args:
        home: its folder.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "online"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Stall:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"
        return self

    def release(self) -> None:
        """Let writes go on."""
        if self._process is not None:
            self._process.communicate("")
            self._process = None

    def __exit__(self, *exception: object) -> None:
        self.release()
