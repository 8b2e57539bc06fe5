"""Batches over several slots of a cluster: whole or not at all, whoever dies between two steps."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from featurestore import PartitionPosition, SourcePosition
from featurestore.codec import DELETED, HARD, NEVER
from featurestore.errors import PositionConflict, StoreUnavailable
from featurestore.online import Batch, Outcome, RedisStore, Write

# Beginning, one step for each group, and the end.
GROUPS = (1, 2, 3)
STEPS = ["intend", "apply 1", "apply 2", "apply 3", "settle"]


class Killed(BaseException):
    """What a step raises in the place of a kill: nothing of ours catches it."""


class Steps:
    """Counts the steps of a client, and does something before one of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.before: dict[int, Callable[[], None]] = {}

    def __call__(self, step: str) -> None:
        self.seen.append(step)
        act = self.before.pop(len(self.seen) - 1, None)
        if act is not None:
            act()


def die() -> None:
    raise Killed


def write(group: int, name: str, record: str, flags: int = 0, time_us: int = 1) -> Write:
    return Write(group, name.encode(), time_us, record.encode(), flags, NEVER, 1, 1)


def batch(start: int, *, label: str = "") -> Batch:
    """Three groups, two records each, from `start` to `start + 6`."""
    writes = [
        write(group, f"{which}", f"{label}{start} {group} {which}")
        for which in "ab"
        for group in GROUPS
    ]
    return Batch(writes, SourcePosition("topic", (PartitionPosition("0", start, start + 6),)))


def records(store: RedisStore) -> list[list[str]]:
    """What waits in the outbox of each group, without the group."""
    return [
        [
            entry.record.decode().replace(f" {group} ", " ")
            for entry in store.outbox.read(group, after=0, limit=1000)
        ]
        for group in GROUPS
    ]


@pytest.fixture
def url(cluster_url) -> str:
    return cluster_url()


@pytest.fixture
def client(url):
    opened = []

    def make(steps: Callable[[str], None] = lambda step: None) -> RedisStore:
        store = RedisStore(url, on_step=steps)
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def test_the_groups_lie_in_several_slots(client):
    store = client()
    slots = {store.link._slot_of(store.keys.of_group(group)[0]) for group in GROUPS}
    assert len(slots) > 1


def test_a_batch_has_these_steps(client):
    steps = Steps()
    store = client(steps)
    assert store.put([batch(0)]) == [[Outcome.APPLIED] * 6]
    assert steps.seen == STEPS
    assert store.source_position("topic") == {"0": 6}
    assert records(store) == [["0 a", "0 b"]] * 3


@pytest.mark.parametrize("at", range(len(STEPS)), ids=STEPS)
@pytest.mark.parametrize("reader", ["position", "put"])
def test_a_client_that_is_killed_at_a_step_leaves_all_or_nothing(client, at, reader):
    steps = Steps()
    steps.before[at] = die
    with pytest.raises(Killed):
        client(steps).put([batch(0)])

    other = client()
    if reader == "put":  # it does not know how far the other came
        (answer,) = other.put([batch(0, label="again ")])
        if isinstance(answer, PositionConflict):
            assert answer.stored == {"0": 6}
    stands = other.source_position("topic")
    if at == 0:
        assert stands == ({} if reader == "position" else {"0": 6})
        whole = [] if reader == "position" else ["again 0 a", "again 0 b"]
    else:
        assert stands == {"0": 6}
        whole = ["0 a", "0 b"]
    assert records(other) == [whole] * 3
    # And the source goes on.
    assert other.put([batch(stands.get("0", 0))])[0] == [Outcome.APPLIED] * 6
    assert records(other)[0] == [*whole, *(f"{stands.get('0', 0)} {which}" for which in "ab")]


REPLAY = ["replay 1", "replay 2", "replay 3", "settle"]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(range(1, len(STEPS)), range(len(REPLAY))))
)
def test_who_finishes_it_may_be_killed_too(client, first, second):
    steps = Steps()
    steps.before[first] = die
    with pytest.raises(Killed):
        client(steps).put([batch(0)])
    again = Steps()
    again.before[second] = die
    with pytest.raises(Killed):
        client(again).source_position("topic")
    assert again.seen == REPLAY[: second + 1]
    other = client()
    assert other.source_position("topic") == {"0": 6}
    assert records(other) == [["0 a", "0 b"]] * 3


@pytest.mark.parametrize("at", range(len(STEPS)), ids=STEPS)
@pytest.mark.parametrize("more", [0, 1, 3])
def test_a_client_that_sleeps_at_a_step_writes_nothing_twice(client, at, more):
    """Meanwhile another reads the position, and puts what comes next."""
    other = client()
    stood: list[int] = []

    def overtake() -> None:
        stands = other.source_position("topic").get("0", 0)
        stood.append(stands)
        for number in range(more):
            assert other.put([batch(stands + 6 * number)])[0] == [Outcome.APPLIED] * 6

    steps = Steps()
    steps.before[at] = overtake
    answer = None
    if at in (1, 2, 3) and more:  # its outcomes are not known any more
        with pytest.raises(StoreUnavailable, match=r"another client took over.*read the stored"):
            client(steps).put([batch(0)])
    else:
        (answer,) = client(steps).put([batch(0)])
    batches = more + (1 if at > 0 or more == 0 else 0)
    expected = [f"{6 * number} {which}" for number in range(batches) for which in "ab"]
    assert records(other) == [expected] * 3
    assert other.source_position("topic") == {"0": 6 * batches}
    if at == 0 and more:
        assert isinstance(answer, PositionConflict)
        assert answer.stored == {"0": 6 * more}
    elif answer is not None:
        assert answer == [Outcome.APPLIED] * 6


def test_outcomes_come_back_also_when_another_finished_it(client):
    other = client()
    other.put([Batch([write(1, "a", "newer", time_us=9), write(2, "h", "newer", time_us=9)])])
    position = SourcePosition("topic", (PartitionPosition("0", 0, 3),))
    writes = [
        write(2, "h", "m", DELETED | HARD),
        write(1, "a", "old"),
        write(2, "b", "new"),
    ]
    steps = Steps()
    steps.before[1] = lambda: other.source_position("topic")
    (answer,) = client(steps).put([Batch(writes, position)])
    assert answer == [Outcome.REFUSED, Outcome.HISTORIC, Outcome.APPLIED]


def test_a_conflict_of_one_batch_leaves_the_others(client):
    store = client()
    store.put([batch(0)])
    answers = store.put([Batch([write(1, "x", "1")]), batch(0), batch(6), Batch([])])
    assert isinstance(answers[1], PositionConflict)
    assert answers[0] == [Outcome.APPLIED]
    assert answers[2] == [Outcome.APPLIED] * 6
    assert answers[3] == []
    assert store.source_position("topic") == {"0": 12}


@pytest.mark.parametrize("source", ["with } brace", "{}", "ä", "a" * 400, "}:positions"])
def test_sources_of_any_name(client, source):
    store = client()
    for start in (0, 1):
        where = SourcePosition(source, (PartitionPosition("", start, start + 1),))
        assert store.put([Batch([write(1, "a", "1")], where)]) == [[Outcome.APPLIED]]
    assert store.source_position(source) == {"": 2}


def test_many_consumers_of_one_source_store_each_batch_once(client):
    stores = [client() for _ in range(4)]
    failures: list[BaseException] = []

    def consume(store: RedisStore) -> None:
        try:
            while (at := store.source_position("topic").get("0", 0)) < 6 * 25:
                store.put([batch(at)])
        except StoreUnavailable:
            consume(store)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=consume, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    expected = [f"{6 * number} {which}" for number in range(25) for which in "ab"]
    assert records(stores[0]) == [expected] * 3
