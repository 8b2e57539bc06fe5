"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["die_with_parent"]

# PR_SET_PDEATHSIG is the parent's wish, yet only the child can set it. It is set in a small Python
# that becomes the program, since code between fork and exec is unsafe beside threads. The second
# line closes the gap in which the parent died before the first one ran.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])
"""


def die_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs this one and is killed when this process's thread ends.

    On Linux the kernel sees to it; elsewhere the command is returned as it is, and whoever starts
    it must end it.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
