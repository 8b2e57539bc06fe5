"""Reads in threads of their own: what shares a batch, what waits, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from featurestore.errors import Overloaded, StoreUnavailable
from featurestore.server.limits import Limits
from featurestore.server.readpool import THREADS, ReadPool
from featurestore.server.runtime import Call

GET, BATCH_GET = Call("GetRecord", None), Call("BatchGetRecord", None)


class Slow:
    """Answers when it is let go on, and remembers in which batches."""

    def __init__(self, **limits: int) -> None:
        self.batches: list[list[int]] = []
        self.go_on = threading.Event()
        self.busy = threading.Semaphore(0)
        self.pool: ReadPool[int] = ReadPool(self.answer, limits=Limits(**limits))

    def answer(self, batch: Sequence[tuple[int, Call]]) -> None:
        self.batches.append([caller for caller, _ in batch])
        self.busy.release()
        assert self.go_on.wait(30)

    def occupy(self) -> None:
        """Give every thread something to do."""
        for thread in range(THREADS):
            assert self.pool.submit(-1 - thread, BATCH_GET, size=1) is None
            assert self.busy.acquire(timeout=30)
        self.batches.clear()

    def end(self) -> list[list[int]]:
        self.go_on.set()
        self.pool.close()
        return sorted(self.batches)


@pytest.fixture
def slow():
    made = []

    def make(**limits: int) -> Slow:
        made.append(Slow(**limits))
        made[-1].occupy()
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_gets_that_wait_share_a_batch_and_others_go_alone(slow):
    reads = slow()
    for caller, call in enumerate([GET, GET, BATCH_GET, BATCH_GET, GET, GET, GET]):
        assert reads.pool.submit(caller, call, size=1) is None
    reads.pool.forget(5)
    reads.pool.forget(99)
    assert reads.end() == [[0, 1], [2], [3], [4, 6]]


def test_more_than_a_batch_takes_is_two(slow):
    reads = slow()
    for caller in range(600):
        assert reads.pool.submit(caller, GET, size=1) is None
    assert [len(batch) for batch in reads.end()] == [512, 88]


@pytest.mark.parametrize(("limits", "size"), [({"waiting": 3}, 1), ({"waiting_bytes": 35}, 10)])
def test_what_waits_is_bounded(slow, limits, size):
    reads = slow(**limits)
    for caller in range(3):
        assert reads.pool.submit(caller, GET, size=size) is None
    refusal = reads.pool.submit(3, GET, size=size)
    assert isinstance(refusal, Overloaded)
    assert "3 reads waiting" in refusal.message
    reads.pool.forget(0)
    assert reads.pool.submit(3, GET, size=size) is None
    assert reads.end() == [[1, 2, 3]]


def test_a_closed_pool_has_answered_and_refuses(slow):
    reads = slow()
    assert reads.pool.submit(0, GET, size=1) is None
    assert reads.end() == [[0]]
    assert isinstance(reads.pool.submit(1, GET, size=1), StoreUnavailable)
