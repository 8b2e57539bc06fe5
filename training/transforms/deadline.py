"""A time that a stranger's function may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

from training.errors import InvalidData

__all__ = ["TookTooLong", "at_most"]


@final
class TookTooLong(InvalidData):
    """A function did not return within its time."""


@final
class _TimeIsUp(BaseException):
    """Not an Exception, so that a function that catches these does not go on."""


@contextmanager
def at_most(seconds: int | None) -> Iterator[None]:
    """Break off what is done here when the time is up; on the main thread only.

    A call into native code is broken off when it returns.

    Args:
        seconds: the time; None: any.

    Raises:
        TookTooLong: the time was up.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeIsUp as error:
        raise TookTooLong(
            f"it was not answered within InvocationsTimeoutInSeconds={seconds}"
        ) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
