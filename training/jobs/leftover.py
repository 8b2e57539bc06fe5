"""The processes that a job may leave behind when the process that ran it dies: noted, and ended.

A process is known by its number and the moment it started, and by the boot of the machine: numbers
are given out again. Its descendants are those of its session.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["end_left", "note"]

_NOTE: Final = ".processes"
_PROC: Final = Path("/proc")
_BOOT: Final = _PROC / "sys" / "kernel" / "random" / "boot_id"
_MARK: Final = b"SAGEMAKER_BASE_DIR="
_WAIT_S: Final = 10.0
_LOOK_S: Final = 0.02


class _Stat(NamedTuple):
    state: str
    session: int
    started: str


def note(root: Path, processes: Iterable[int]) -> None:
    """Write down which processes an attempt has started; each leads a session of its own.

    Args:
        root: the job's folder.
        processes: their numbers.
    """
    known = {str(number): _started(number) for number in processes}
    part = root / f"{_NOTE}.part"
    part.write_text(json.dumps({"boot": _boot(), "processes": known}), encoding="utf-8")
    part.replace(root / _NOTE)


def end_left(root: Path) -> int:
    """End what is left of the processes that were noted; return how many were killed.

    Args:
        root: the job's folder.
    """
    try:
        noted = json.loads((root / _NOTE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0  # Nothing was started, or the machine went down while it was noted.
    killed: set[int] = set()
    if noted["boot"] == _boot():
        until = time.monotonic() + _WAIT_S
        for number, started in noted["processes"].items():
            # A process may start another between our look and its end.
            while left := list(_left(int(number), started, root)):
                killed.update(one for one in left if _kill(one))
                if time.monotonic() > until:
                    break
                time.sleep(_LOOK_S)
    (root / _NOTE).unlink(missing_ok=True)
    return len(killed)


def _left(leader: int, started: str, root: Path) -> Iterator[int]:
    """Yield the living processes of a leader's session."""
    if not _has_proc():
        if _started(leader) == started:
            yield leader
        return
    now = _stat(leader)
    if now is not None and now.started != started:
        return  # The number is another's, which is not given out while the session lives.
    for entry in _PROC.glob("[0-9]*"):
        number = int(entry.name)
        stat = _stat(number)
        if stat is None or stat.session != leader or stat.state == "Z":
            continue
        # Without its leader only the job's variables tell that a session is the job's.
        if now is not None or _is_marked(number, root):
            yield number


def _kill(number: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if _has_proc():
            os.kill(number, signal.SIGKILL)
        else:
            os.killpg(number, signal.SIGKILL)
        return True
    return False


def _is_marked(number: int, root: Path) -> bool:
    with contextlib.suppress(OSError):
        for variable in (_PROC / str(number) / "environ").read_bytes().split(b"\0"):
            if variable.startswith(_MARK):
                folder = Path(os.fsdecode(variable.removeprefix(_MARK)))
                return folder == root or root in folder.parents
    return False


def _started(number: int) -> str:
    """Return when a process started, in whatever way the system tells; "" where it is gone."""
    if _has_proc():
        stat = _stat(number)
        return "" if stat is None else stat.started
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(number)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def _stat(number: int) -> _Stat | None:
    try:
        text = (_PROC / str(number) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in parentheses, may have spaces.
    fields = text.rpartition(")")[2].split()
    return _Stat(fields[0], int(fields[3]), fields[19])


def _has_proc() -> bool:
    return (_PROC / "self" / "stat").exists()


def _boot() -> str:
    """Return what names this boot of the machine; "" where the system does not tell."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""
