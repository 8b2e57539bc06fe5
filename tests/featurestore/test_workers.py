"""Joins that share threads: order, the number at once, the first error, Ctrl-C, nothing left."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from featurestore.errors import InvalidRequest
from featurestore.workers import Workers


class Counted:
    """Work that counts how much of it runs at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = self.most = self.begun = 0

    def __call__(self, item: int) -> int:
        with self._lock:
            self.running += 1
            self.begun += 1
            self.most = max(self.most, self.running)
        time.sleep(0.001)
        with self._lock:
            self.running -= 1
        return -item


def join_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("join")]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_are_in_order_and_no_more_runs_at_once_than_there_are_threads(threads):
    work = Counted()
    with Workers(threads) as workers:
        jobs = [lambda n=n: workers.each(work, range(n, n + 8)) for n in range(6)]
        found = workers.together(jobs)
    assert found == [[-item for item in range(n, n + 8)] for n in range(6)]
    assert 1 <= work.most <= threads
    assert join_threads() == []


def test_one_thread_is_the_callers():
    with Workers(1) as workers:
        (names,) = workers.together(
            [lambda: workers.each(lambda _: threading.current_thread().name, range(3))]
        )
    assert set(names) == {threading.current_thread().name}


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_ends_all(threads):
    work = Counted()

    def fail(item: int) -> int:
        if item == 3:
            raise InvalidRequest("the third")
        return work(item)

    with Workers(threads) as workers:
        jobs = [
            lambda: workers.each(fail, range(1_000)),
            lambda: workers.each(work, range(1_000)),
        ]
        with pytest.raises(InvalidRequest, match="the third"):
            workers.together(jobs)
        assert work.running == 0
        assert work.begun < 2_000
    assert join_threads() == []


def test_an_error_between_pieces_ends_the_other_jobs():
    work = Counted()

    def fail() -> list[int]:
        raise InvalidRequest("at once")

    with Workers(2) as workers:
        with pytest.raises(InvalidRequest, match="at once"):
            workers.together([lambda: workers.each(work, range(2_000)), fail])
        assert work.running == 0
        assert work.begun < 2_000


def test_ctrl_c_ends_all():
    work = Counted()

    def interrupt(item: int) -> int:
        if item == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return work(item)

    with Workers(2) as workers:
        jobs = [lambda: workers.each(interrupt, range(2_000))] * 2
        with pytest.raises(KeyboardInterrupt):
            workers.together(jobs)
        assert work.running == 0
        assert work.begun < 4_000
    assert join_threads() == []


def test_less_than_one_thread_is_refused():
    with pytest.raises(InvalidRequest, match="threads: expected 1 or more, got 0"):
        Workers(0)
