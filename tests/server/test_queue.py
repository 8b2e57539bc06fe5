"""What waits for the next transaction: bounded, in order, and never stored too late."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest

from featurestore.errors import Overloaded
from featurestore.server import Limits
from featurestore.server.queue import Pace, WriteQueue
from featurestore.server.runtime import Call

CALL = Call("PutRecord", None)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(clock: Clock, **limits: Any) -> WriteQueue[int]:
    return WriteQueue(Limits(**limits), clock=clock)


def commit(waiting: WriteQueue[int], clock: Clock, seconds: float) -> list[int]:
    """Carry one transaction through; return whose writes were in it."""
    batch, _ = waiting.take()
    clock.now += seconds
    waiting.committed(len(batch))
    return [each.caller for each in batch]


def test_first_in_first_out_in_transactions_of_bounded_size(clock):
    waiting = queue(clock, batch=3)
    for caller in range(7):
        assert waiting.add(caller, CALL, size=10) is None

    assert [commit(waiting, clock, 0.001) for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6], []]


def test_a_transaction_is_bounded_in_bytes_and_one_larger_call_goes_alone(clock):
    waiting = queue(clock, batch_bytes=10_000)
    for caller, size in enumerate([4_000, 4_000, 4_000, 50_000, 10]):
        assert waiting.add(caller, CALL, size=size) is None

    assert [commit(waiting, clock, 0.001) for _ in range(4)] == [[0, 1], [2], [3], [4]]


def test_nothing_that_left_is_counted_any_more(clock):
    waiting = queue(clock, waiting_bytes=3_000)
    callers = count()
    for _ in range(50):
        for leave in ("taken", "late", "gone"):
            caller = next(callers)
            assert waiting.add(caller, CALL, size=2_000, remaining_s=1) is None
            assert isinstance(waiting.add(next(callers), CALL, size=2_000), Overloaded)
            if leave == "taken":
                assert commit(waiting, clock, 0) == [caller]
            elif leave == "late":
                clock.now += 2
                batch, late = waiting.take()
                assert (batch, [each.caller for each in late]) == ([], [caller])
                waiting.committed(0)
            else:
                waiting.forget(caller)
    assert len(waiting) == 0


def test_one_write_may_weigh_more_than_all_that_may_wait(clock):
    waiting = queue(clock, waiting_bytes=1_000)

    assert waiting.add(1, CALL, size=5_000) is None
    assert isinstance(waiting.add(2, CALL, size=1), Overloaded)


def test_who_cannot_be_served_in_time_is_refused_while_others_wait(clock):
    waiting = queue(clock, batch=1)
    for caller in range(3):
        waiting.add(caller, CALL, size=100)
        commit(waiting, clock, 0.5)
    waiting.add(3, CALL, size=100)
    waiting.take()  # half a second is under way

    refusal = waiting.add(4, CALL, size=100, remaining_s=0.4)

    assert isinstance(refusal, Overloaded)
    assert refusal.facts["retry_after_s"] >= 0.5
    assert waiting.add(5, CALL, size=100, remaining_s=5) is None
    assert waiting.add(6, CALL, size=100) is None, "who waits for ever is never refused for that"


def test_an_idle_server_tries_whatever_it_has_seen(clock):
    waiting = queue(clock)
    for caller, (size, seconds) in enumerate([(50, 0.001), (100, 3), (60, 0.01), (120, 4)]):
        waiting.add(caller, CALL, size=size)
        commit(waiting, clock, seconds)
    assert waiting.expected_s(300_000) > 1_000, "it believes that size was the cause"

    assert waiting.add(10, CALL, size=300_000, remaining_s=2) is None
    assert commit(waiting, clock, 0.01) == [10]
    assert waiting.expected_s(300_000) < 10, "and learns that it was not"


def test_thousands_of_writes_of_one_weight_do_not_make_a_heavier_one_endless():
    chance = random.Random(5)
    pace = Pace()
    pace.add(900, 0.002)
    for _ in range(20_000):
        pace.add(1_000, chance.uniform(0.001, 0.020))
    assert pace.seconds(1_000_000) < 20.0
    for _ in range(50):
        for weight in (1_000, 500_000):
            pace.add(weight, 0.010 + weight * 1e-7)
    assert pace.seconds(1_000_000) == pytest.approx(0.11, rel=0.01)
