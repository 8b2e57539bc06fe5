"""Child processes: servers that say when they are ready, and scripts that measure themselves."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from featureline.child import die_with_parent

__all__ = ["ROOT", "Server", "cpu_seconds", "module_command", "peak_bytes", "run_module", "serving"]

ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 20.0


@final
@dataclass(frozen=True, slots=True)
class Server:
    """A server process that answers.

    Args:
        address: `host:port`.
        pid: its process.
    """

    address: str
    pid: int


def module_command(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of the repository.

    By module and not by file: a file's folder would come first on the path, and the benchmark
    `lineage` would hide the package of that name.
    """
    return [sys.executable, "-m", module, *map(str, arguments)]


@contextmanager
def serving(command: list[str], *, log: Path) -> Iterator[Server]:
    """Run a server that prints one line of JSON with its `grpc` address when it is ready.

    Raises:
        RuntimeError: it did not start; the message has the end of its log.
    """
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            die_with_parent(command),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                tail = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{command} did not start; its log ends with:\n{tail}")
            yield Server(str(json.loads(line)["grpc"]), process.pid)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            process.kill()


def run_module(module: str, *arguments: object) -> tuple[Any, float]:
    """Run a module that prints one JSON document; return it and the process's seconds.

    Raises:
        RuntimeError: it failed; the message has its errors.
    """
    began = time.perf_counter()
    done = subprocess.run(
        module_command(module, *arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{module} failed with status {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout), seconds


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that another process and its children have taken so far.

    None where the system hides it.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        return None
    pids = [pid, *map(int, children.read_text(encoding="ascii").split())]
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    status = Path(f"/proc/{pid}/stat")
    # The name in parentheses may hold spaces; the times are fields 14 and 15.
    fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Return the most memory that this process has had resident."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count the parent's memory from between fork and exec as this one's.
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
