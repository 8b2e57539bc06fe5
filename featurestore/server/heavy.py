"""Long work of calls: in threads of its own, few at once, ended when its caller goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, final

from featurestore.server.scratch import Place, Scratch

__all__ = ["Heavy", "stepwise"]

T = TypeVar("T")
_END: Final = object()


@final
class Heavy:
    """Runs the long work of calls; what finds no thread waits for one.

    Args:
        scratch: where its temporary files are.
        at_once: so many run at a time.
    """

    def __init__(self, scratch: Scratch, *, at_once: int = max(2, os.cpu_count() or 2)) -> None:
        self._scratch = scratch
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="heavy")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """Give a call a folder; it is removed after the call, and after its work."""
        loop = asyncio.get_running_loop()
        making = loop.run_in_executor(None, self._scratch.make)
        try:
            place = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_let_go)
            raise
        try:
            yield place
        finally:
            loop.run_in_executor(None, place.release)

    def begin(self, work: Callable[[], T], place: Place | None = None) -> asyncio.Future[T]:
        """Begin a piece of work. Cancelled before a thread takes it, it is not done.

        Args:
            work: what to run. It learns by other ways that its caller is gone.
            place: kept until the work has ended.
        """
        if place is not None:
            place.hold()
        job: Future[T] = self._pool.submit(work)
        if place is not None:
            job.add_done_callback(lambda _: place.release())
        running = asyncio.wrap_future(job)
        # Nobody may be left to ask for its error.
        running.add_done_callback(lambda done: done.cancelled() or done.exception())
        return running

    def close(self) -> None:
        """Wait for the work under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _let_go(made: asyncio.Future[Place]) -> None:
    if made.exception() is None:
        made.result().release()


async def stepwise(steps: Generator[T, None, None]) -> AsyncGenerator[T, None]:
    """Go through a generator that blocks, each step in a thread, the next when it is asked for.

    A caller that goes ends it: after the step under way it is closed.
    """
    loop = asyncio.get_running_loop()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = loop.run_in_executor(None, next, steps, _END)
            found = await asyncio.shield(step)
            if found is _END:
                return
            yield found
    finally:
        if step is None or step.done():
            await asyncio.shield(asyncio.to_thread(steps.close))
        else:
            step.add_done_callback(lambda _: steps.close())
            step.add_done_callback(asyncio.Future.exception)
