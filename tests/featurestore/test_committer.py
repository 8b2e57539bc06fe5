from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from featurestore import PartitionPosition, SourcePosition
from featurestore.codec import NEVER
from featurestore.errors import FeatureStoreError, PositionConflict, StoreFull, StoreUnavailable
from featurestore.online import Batch, Committer, MemoryStore, OnlineStore, Outcome, Write


def batch(identifier: str, *, start: int | None = None) -> Batch:
    write = Write(1, identifier.encode(), 1, b"", 0, NEVER, 1, 1)
    if start is None:
        return Batch([write])
    part = PartitionPosition("0", start, start + 1)
    return Batch([write], SourcePosition("topic", (part,)))


class Held:
    """A store whose first commit waits until it is let go, and which may be full."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self.begun = threading.Event()
        self.go = threading.Event()
        self.full = False
        self.sizes: list[int] = []

    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        self.sizes.append(len(batches))
        if len(self.sizes) == 1:
            self.begun.set()
            assert self.go.wait(10)
        if self.full:
            raise StoreFull("no space left")
        return self._store.put(batches)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def held(store):
    return Held(store)


class Puts:
    """Puts of many threads, and what each got."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._threads: list[threading.Thread] = []
        self.answers: dict[str, object] = {}

    def start(self, name: str, batch: Batch) -> None:
        def work() -> None:
            try:
                self.answers[name] = self._committer.put(batch)
            except FeatureStoreError as error:
                self.answers[name] = error

        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)

    def wait_until_queued(self, count: int) -> None:
        while len(self._committer._waiting) < count:
            pass

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def test_a_put_alone_is_one_commit(store):
    committer = Committer(store)
    assert committer.put(batch("a")) == [Outcome.APPLIED]
    assert store.get(1, [b"a"])[0] is not None


def test_what_arrives_during_a_commit_shares_the_next(held):
    committer = Committer(held)
    puts = Puts(committer)
    puts.start("first", batch("first"))
    assert held.begun.wait(10)
    names = [f"w{i}" for i in range(6)]
    for name in names:
        puts.start(name, batch(name))
    puts.wait_until_queued(6)
    held.go.set()
    puts.join()
    assert held.sizes == [1, 6]
    assert puts.answers == {name: [Outcome.APPLIED] for name in ["first", *names]}


def test_a_conflict_is_the_answer_of_its_own_put_only(store, held):
    committer = Committer(held)
    puts = Puts(committer)
    puts.start("first", batch("first", start=0))
    assert held.begun.wait(10)
    puts.start("good", batch("good"))
    puts.start("late", batch("late", start=0))
    puts.wait_until_queued(2)
    held.go.set()
    puts.join()
    assert puts.answers["good"] == [Outcome.APPLIED]
    assert isinstance(puts.answers["late"], PositionConflict)
    assert store.get(1, [b"late"]) == [None]


def test_a_commit_that_fails_is_told_to_all_that_shared_it(held):
    committer = Committer(held)
    puts = Puts(committer)
    puts.start("first", batch("first"))
    assert held.begun.wait(10)
    for name in ("one", "two"):
        puts.start(name, batch(name))
    puts.wait_until_queued(2)

    held.full = True
    held.go.set()
    puts.join()
    assert [type(answer) for answer in puts.answers.values()] == [StoreFull] * 3
    # And the committer goes on when the store does.
    held.full = False
    assert committer.put(batch("after")) == [Outcome.APPLIED]


def test_a_closed_store_is_unavailable(store):
    committer = Committer(store)
    store.close()
    with pytest.raises(StoreUnavailable):
        committer.put(batch("a"))


def test_many_threads_lose_nothing(store):
    committer = Committer(store)

    def work(worker: int) -> None:
        for step in range(50):
            committer.put(batch(f"{worker}-{step}"))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.scan(1, after=None, limit=1000)) == 400
    assert store.outbox.pending(1) == 400
