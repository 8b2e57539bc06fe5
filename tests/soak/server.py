"""A server of `featureline serve` with all its processes, to be killed and measured."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, final

ROOT: Final = Path(__file__).resolve().parents[2]
_GONE_S: Final = 10.0


@final
class ServerProcess:
    """`featureline serve` over a home, started.

    Args:
        home: its folder.
        log: where its stderr goes.
        options: more of the command line.
    """

    def __init__(self, home: Path, log: Path, *options: object) -> None:
        command = [sys.executable, "-m", "featureline", "serve", "--home", str(home)]
        self.home, self.log = home, log
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                # The last of two options of a name counts.
                [*command, "--grpc", "127.0.0.1:0", *map(str, options)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server did not start; its log is {log}")
        self.ready: dict[str, Any] = json.loads(line)

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.ready["grpc"])

    def address_for(self, client: int) -> str:
        """Return an address for the connection of one client, of a server on `0.0.0.0`.

        All channels of a process to one address share a connection, and so a worker.
        """
        return f"127.0.0.{1 + client % 250}:{self.address.rpartition(':')[2]}"

    @property
    def is_up(self) -> bool:
        """Whether its first process is there."""
        return self._process.poll() is None

    def pids(self) -> list[int]:
        """Return its first process and all below it."""
        found = [self._process.pid]
        parents = _parents()
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def kill_one(self, index: int) -> bool:
        """Kill one of the processes below the first; return whether there is one."""
        below = self.pids()[1:]
        if below:
            _kill(below[index % len(below)])
        return bool(below)

    def kill(self, *, first_only: bool = False) -> int:
        """Kill it with -9: every process at once, or the first one, which the others must follow.

        Returns:
            How many processes were left behind, and had to be killed after it.
        """
        pids = self.pids()
        for pid in pids[:1] if first_only else pids:
            _kill(pid)
        self._process.communicate()
        until = time.monotonic() + _GONE_S
        while (left := [pid for pid in pids if _is_there(pid)]) and time.monotonic() < until:
            time.sleep(0.01)
        for pid in left:
            _kill(pid)
        return len(left)

    def signal(self, number: int, pid: int | None = None) -> None:
        """Send a signal to its first process, or to another one of its."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self._process.pid, number)

    def stop(self) -> int:
        """End it with SIGTERM; return its exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
        return int(self._process.returncode)

    def open_files(self) -> int:
        """Return how many files all its processes have open; a connection is one."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

    def anonymous_bytes(self) -> int:
        """Return the memory of all its processes that is not a mapped file."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        total += int(line.split()[1]) * 1024
        return total


def _parents() -> dict[int, int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The name in parentheses may hold spaces.
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(status.parent.name)] = int(parent)
    return parents


def _is_there(pid: int) -> bool:
    return pid in _parents()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
