"""Threads that a run starts belong to it, as far as Python tells which they are."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, final

_Run = TypeVar("_Run")
_LOCK = threading.Lock()
# Whether the threads that are started here serve a pool, and so whoever comes.
_POOL = threading.local()


@final
class Carried(Generic[_Run]):
    """A context variable that threads inherit from the thread that starts them.

    Context variables begin empty in a new thread. From the first value that is set on, a
    `threading.Thread` keeps the value of whoever called its `start`, and what is submitted to a
    `ThreadPoolExecutor` runs with the value of whoever submitted it. For anything else that hands
    work to threads of its own there is `contextvars.copy_context().run`.

    Args:
        name: of the variable.
    """

    def __init__(self, name: str) -> None:
        self._here: ContextVar[_Run | None] = ContextVar(name, default=None)
        self._inherited = f"_inherited {name}"
        self._carries = False

    def get(self) -> _Run | None:
        """The value here, else the one that this thread was started with, else None."""
        here = self._here.get()
        if here is None and self._carries:
            inherited: _Run | None = threading.current_thread().__dict__.get(self._inherited)
            return inherited
        return here

    def set(self, value: _Run | None) -> None:
        """Give it another value here; None: the one that this thread was started with."""
        if not self._carries:
            self._carry()
        self._here.set(value)

    def _carry(self) -> None:
        with _LOCK:
            if self._carries:
                return
            start, submit = threading.Thread.start, ThreadPoolExecutor.submit

            @functools.wraps(start)
            def started(thread: threading.Thread) -> None:
                value = self.get()
                if value is not None and not getattr(_POOL, "starts", False):
                    thread.__dict__[self._inherited] = value
                start(thread)

            @functools.wraps(submit)  # type: ignore[arg-type]
            def submitted(
                pool: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any
            ) -> Future[Any]:
                value = self.get()
                if value is not None:
                    work = functools.partial(self._within, value, work)
                _POOL.starts = True
                try:
                    return submit(pool, work, *args, **kwargs)
                finally:
                    _POOL.starts = False

            threading.Thread.start = started  # type: ignore[method-assign, assignment]
            ThreadPoolExecutor.submit = submitted  # type: ignore[method-assign, assignment]
            self._carries = True

    def _within(self, value: _Run, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        around = self._here.get()
        self._here.set(value)
        try:
            return work(*args, **kwargs)
        finally:
            self._here.set(around)
