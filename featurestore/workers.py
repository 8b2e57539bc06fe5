"""Threads that share the processors among the joins of a build."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Final, Self, TypeVar, final

from featurestore.errors import InvalidRequest

__all__ = ["Workers", "processors"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Jobs under way beyond the threads: while one waits for its last piece another has work.
_AHEAD: Final = 1
# How often a wait ends for a moment: a signal that comes just before a wait does not end it.
_LOOK_S: Final = 0.2


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@final
class Workers:
    """Runs the pieces of several jobs on a fixed number of threads.

    What computes runs on these threads, whichever job asks for it; a job itself only asks and
    waits. With one thread all runs in the caller's. Results do not depend on the number. Nothing
    runs any more after `close`.

    Args:
        threads: how many pieces run at once; None: one for each processor.

    Raises:
        InvalidRequest: less than one thread.

    >>> with Workers(2) as workers:
    ...     workers.together([lambda: workers.each(abs, [-1, 2]), lambda: workers.each(abs, [-3])])
    [[1, 2], [3]]
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = processors() if threads is None else int(threads)
        if self.threads < 1:
            raise InvalidRequest(f"threads: expected 1 or more, got {threads}")
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(self.threads, "join") if self.threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, once the pieces that are running are done; none is begun any more."""
        self._stopped.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Return the work's results of each item, in order.

        The first error is raised when the pieces that are running have ended; no other is begun.
        Pieces may not ask for pieces.
        """
        if self._pool is None:
            return [self._piece(work, item) for item in items]
        futures = [self._pool.submit(self._piece, work, item) for item in items]
        return _results(futures)

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Return the result of one piece of work."""
        (result,) = self.each(lambda _: work(), (None,))
        return result

    def together(self, jobs: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """Return the results of jobs, in order, that run beside each other and share the threads.

        At most one more than there are threads is under way, which bounds the memory. The first
        error ends all of them, and is raised when nothing runs any more; so does Ctrl-C.
        """
        if self._pool is None or len(jobs) < 2:
            return [job() for job in jobs]
        waiting = ThreadPoolExecutor(min(len(jobs), self.threads + _AHEAD), "join-group")
        try:
            futures = [waiting.submit(self._job, job) for job in jobs]
            _wait(futures)
        except BaseException:  # Ctrl-C
            self._stopped.set()
            raise
        finally:
            waiting.shutdown(cancel_futures=True)
        return _results(futures)

    def _job(self, job: Callable[[], _Result]) -> _Result:
        try:
            return job()
        except BaseException:
            # At once, and not when the caller has seen it: other jobs would begin pieces.
            self._stopped.set()
            raise

    def _piece(self, work: Callable[[_Item], _Result], item: _Item) -> _Result:
        if self._stopped.is_set():
            raise _Stopped
        return work(item)


class _Stopped(RuntimeError):
    """A piece was not begun, because another one failed."""


def _wait(
    futures: Sequence[Future[_Result]],
) -> tuple[set[Future[_Result]], set[Future[_Result]]]:
    """Wait until all have ended or one has failed; return those that have ended, and the others."""
    while True:
        done, left = wait(futures, timeout=_LOOK_S, return_when=FIRST_EXCEPTION)
        if not left or any(not one.cancelled() and one.exception() is not None for one in done):
            return done, left


def _results(futures: Sequence[Future[_Result]]) -> list[_Result]:
    try:
        done, left = _wait(futures)
    except BaseException:  # Ctrl-C
        _end(futures)
        raise
    if left:
        _end(futures)
        done = {future for future in futures if not future.cancelled()}
    failed = [future for future in futures if future in done and future.exception() is not None]
    for future in sorted(failed, key=lambda future: isinstance(future.exception(), _Stopped)):
        future.result()
    return [future.result() for future in futures]


def _end(futures: Sequence[Future[_Result]]) -> None:
    for future in futures:
        future.cancel()
    wait(futures)
