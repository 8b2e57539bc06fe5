import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lineage import InvalidEntity, LineageError, StoreUnavailable
from lineage.store.commit import GroupCommit


class Committer:
    """Records the groups it is given; the first waits until it may go on."""

    def __init__(self, outcome: Callable[[int], int | LineageError] = lambda item: item * 10):
        self.groups: list[list[int]] = []
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.outcome = outcome

    def __call__(self, arriving: Iterator[int]) -> list[int | LineageError]:
        items = list(arriving)
        self.groups.append(items)
        self.started.set()
        assert self.go_on.wait(10)
        return [self.outcome(item) for item in items]


def wait_for(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def submit_behind(commit: GroupCommit[int, int], pool: ThreadPoolExecutor, items: range) -> list:  # type: ignore[type-arg]
    """Submit one item after the other, while a commit is going on."""
    futures = []
    for item in items:
        before = len(commit._waiting)
        futures.append(pool.submit(commit.submit, item))
        wait_for(lambda before=before: len(commit._waiting) > before)  # type: ignore[misc]
    return futures


def test_what_waits_goes_together_and_in_order() -> None:
    committer = Committer()
    commit: GroupCommit[int, int] = GroupCommit(committer)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(commit.submit, 0)
        assert committer.started.wait(10)
        others = submit_behind(commit, pool, range(1, 9))
        committer.go_on.set()
        assert [future.result(10) for future in (first, *others)] == [n * 10 for n in range(9)]
    assert committer.groups == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_one_thread_does_not_wait_for_company() -> None:
    committer = Committer()
    committer.go_on.set()
    commit: GroupCommit[int, int] = GroupCommit(committer)
    assert [commit.submit(n) for n in range(50)] == [n * 10 for n in range(50)]
    assert len(committer.groups) == 50


def test_a_refused_item_fails_alone() -> None:
    committer = Committer(lambda item: InvalidEntity("no") if item == 2 else item)
    commit: GroupCommit[int, int] = GroupCommit(committer)
    with ThreadPoolExecutor(12) as pool:
        pool.submit(commit.submit, 0)
        assert committer.started.wait(10)
        futures = submit_behind(commit, pool, range(1, 4))
        committer.go_on.set()
        assert futures[0].result(10) == 1
        assert futures[2].result(10) == 3
        with pytest.raises(InvalidEntity, match="no"):
            futures[1].result(10)


def test_a_failed_commit_fails_all_of_its_group_and_no_other() -> None:
    def outcome(item: int) -> int:
        if item == 2:
            raise StoreUnavailable("disk full")
        return item

    committer = Committer(outcome)
    commit: GroupCommit[int, int] = GroupCommit(committer)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(commit.submit, 0)
        assert committer.started.wait(10)
        futures = submit_behind(commit, pool, range(1, 4))
        committer.go_on.set()
        assert first.result(10) == 0
        for future in futures:
            with pytest.raises(StoreUnavailable, match="disk full"):
                future.result(10)
    assert commit.submit(5) == 5


def test_a_commit_that_cannot_begin_fails_all_that_wait_and_no_later_one() -> None:
    committer = Committer()
    locked = threading.Event()

    def begin(arriving: Iterator[int]) -> list[int | LineageError]:
        if locked.is_set():
            locked.clear()
            raise StoreUnavailable("locked")
        return committer(arriving)

    commit: GroupCommit[int, int] = GroupCommit(begin)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(commit.submit, 0)
        assert committer.started.wait(10)
        futures = submit_behind(commit, pool, range(1, 4))
        locked.set()
        committer.go_on.set()
        assert first.result(10) == 0
        for future in futures:
            with pytest.raises(StoreUnavailable, match="locked"):
                future.result(10)
    assert commit.submit(5) == 50


def test_who_comes_while_the_first_are_written_is_taken_along() -> None:
    written: list[list[int]] = []
    late = threading.Event()

    def write(arriving: Iterator[int]) -> list[int | LineageError]:
        written.append([])
        for item in arriving:
            written[-1].append(item)
            if item == 1:
                late.set()
                wait_for(lambda: len(commit._waiting) == 1)
        return [item * 10 for item in written[-1]]

    commit: GroupCommit[int, int] = GroupCommit(write)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(commit.submit, 1)
        assert late.wait(10)
        assert pool.submit(commit.submit, 2).result(10) == 20
        assert first.result(10) == 10
    assert written == [[1, 2]]


def test_an_interrupted_leader_leaves_nobody_waiting() -> None:
    def outcome(item: int) -> int:
        if item == 1:
            raise KeyboardInterrupt
        return item

    committer = Committer(outcome)
    commit: GroupCommit[int, int] = GroupCommit(committer)
    with ThreadPoolExecutor(12) as pool:
        pool.submit(commit.submit, 0)
        assert committer.started.wait(10)
        leader, follower = submit_behind(commit, pool, range(1, 3))
        committer.go_on.set()
        with pytest.raises(KeyboardInterrupt):
            leader.result(10)
        with pytest.raises(StoreUnavailable, match="same event_uid"):
            follower.result(10)
    assert commit.submit(3) == 3
