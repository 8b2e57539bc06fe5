"""A port for the processes of a program to meet at, which nobody else is likely to take."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 20_000
# Where the system does not tell: the usual begin of the ports that it gives out by itself.
_GIVEN_OUT_FROM: Final = 32_768
_TRIES: Final = 100


def free_port() -> int:
    """Return a port of this machine that is free now.

    The program binds it seconds later, when its libraries are loaded. Until then it may be taken,
    so it is none of those that the system gives to whoever asks for any, each connection that
    somebody opens included: it is drawn from those below. Where the system gives out nearly all,
    it is one of these.
    """
    numbers = range(_LOWEST, _given_out_from())
    for _ in range(_TRIES if numbers else 0):
        number = random.SystemRandom().choice(numbers)
        if _is_free(number):
            return number
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _given_out_from() -> int:
    try:
        return int(_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _GIVEN_OUT_FROM


def _is_free(number: int) -> bool:
    with socket.socket() as listener:
        try:
            # All addresses: a program may listen on any of them.
            listener.bind(("", number))
        except OSError:
            return False
    return True
