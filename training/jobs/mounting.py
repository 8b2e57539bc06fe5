"""Gives a program `/opt/ml`: its job's folder, mounted where it alone sees it.

A process that the system lets have mounts of its own binds the folder there: as root, or in a user
namespace, where it keeps its user. Nothing outside of it changes, and what it mounts ends with it.
This module imports nothing but the standard library.

Sources: mount_namespaces(7), user_namespaces(7), mount(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

__all__ = ["PLACE", "binding"]

PLACE: Final = "/opt/ml"

_PARENT: Final = "/opt"
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_MOST_BYTES: Final = 1 << 20
_SOURCES: Final = frozenset({".py", ".sh", ".json", ".yaml", ".yml", ".toml", ".cfg", ".txt", ""})


def binding(folder: Path, code: Path) -> tuple[Callable[[], None] | None, str]:
    """Return what a new process does to find its job's folder at `/opt/ml`, before it is a program.

    Args:
        folder: of the job's host.
        code: the program's source.

    Returns:
        the act, None where the system does not allow it; then also what to tell a program whose
        source names `/opt/ml`, else "".
    """
    libc = ctypes.CDLL(None, use_errno=True)
    source = os.path.abspath(folder)
    reason = _tried(libc, source)
    if not reason:
        return (lambda: _bind(libc, source)), ""
    if not _mentions_place(code):
        return None, ""
    return None, (
        f"{PLACE} is not this job's folder, since this system gives a process no mounts of its own "
        f"({reason}): what is written there is lost; take folders from the SM_ variables, such as "
        "SM_MODEL_DIR"
    )


def _tried(libc: Any, source: str) -> str:
    """Try it in a process that ends at once; return why it does not work, or ""."""
    child = os.fork()
    if child == 0:
        try:
            _bind(libc, source)
        except OSError as error:
            os._exit(error.errno or errno.ENOSYS)
        except BaseException:  # noqa: BLE001 - the outermost loop of this process
            os._exit(errno.EINVAL)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return os.strerror(number) if number > 0 else "" if number == 0 else "it was killed"


def _mentions_place(code: Path) -> bool:
    """Whether a program's source names `/opt/ml`."""
    for file in code.rglob("*"):
        if file.suffix not in _SOURCES or not file.is_file():
            continue
        try:
            with file.open("rb") as opened:
                if PLACE.encode() in opened.read(_MOST_BYTES):
                    return True
        except OSError:
            continue
    return False


def _bind(libc: Any, source: str) -> None:
    """Bind a folder to `/opt/ml` in a mount namespace of this process, which has one thread."""
    if not hasattr(libc, "unshare"):
        raise OSError(errno.ENOSYS, "only Linux can")
    _unshare(libc)
    _mount(libc, None, "/", None, _RECURSIVE | _PRIVATE)
    if not os.path.isdir(PLACE):
        _make_place(libc)
    _mount(libc, source, PLACE, None, _BIND | _RECURSIVE)


def _unshare(libc: Any) -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0 and libc.unshare(_NEW_MOUNTS) == 0:
        return
    if libc.unshare(_NEW_USER | _NEW_MOUNTS) != 0:
        raise _failed()
    # The same user and group inside as outside.
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def _make_place(libc: Any) -> None:
    """Make `/opt/ml` without touching the disk: a new `/opt` in memory, with all that is there."""
    before = os.open(_PARENT, os.O_RDONLY | os.O_DIRECTORY)
    entries = os.listdir(before)
    _mount(libc, "tmpfs", _PARENT, "tmpfs", 0, "mode=755,size=1m")
    for name in entries:
        there, here = f"/proc/self/fd/{before}/{name}", f"{_PARENT}/{name}"
        mode = os.lstat(there).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(there), here)
            continue
        if stat.S_ISDIR(mode):
            os.mkdir(here)
        else:
            os.close(os.open(here, os.O_CREAT | os.O_WRONLY))
        _mount(libc, there, here, None, _BIND | _RECURSIVE)
    os.close(before)
    os.mkdir(PLACE)


def _mount(
    libc: Any,
    source: str | None,
    target: str,
    kind: str | None,
    flags: int,
    options: str | None = None,
) -> None:
    encoded = [None if word is None else word.encode() for word in (source, target, kind, options)]
    if libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]) != 0:
        raise _failed()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
