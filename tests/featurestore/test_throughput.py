from __future__ import annotations

from dataclasses import replace

import pytest

from featurestore import FeatureGroup, InvalidFeatureGroup, Throttled, Throughput
from featurestore.registry import Registered
from featurestore.schema import feature_definitions
from featurestore.throughput import Limiter

GROUP = FeatureGroup("g", "id", "at", feature_definitions([("id", "String"), ("at", "String")]))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def entry(read: int | None = None, write: int | None = None) -> Registered:
    return Registered(1, replace(GROUP, throughput=Throughput(read, write)), 1, 0, 0, "g")


def test_a_group_without_limits_is_never_held(clock):
    limiter, group = Limiter(clock=clock), entry()

    for _ in range(10_000):
        limiter.admit_read(group)
        limiter.charge_read(group, 1 << 20)


@pytest.mark.parametrize(("kind", "unit"), [("read", 4096), ("write", 1024)])
def test_units_a_second_are_given_out(clock, kind, unit):
    limiter, group = Limiter(clock=clock), entry(10, 10)
    admit, charge = getattr(limiter, f"admit_{kind}"), getattr(limiter, f"charge_{kind}")
    for _ in range(10):
        admit(group)
        charge(group, 1)

    with pytest.raises(Throttled, match=f"the group's 10 {kind} units a second are used") as caught:
        admit(group)
    assert caught.value.retry_after_s == 0.1
    clock.now += 0.1
    admit(group)
    charge(group, unit)
    with pytest.raises(Throttled):
        admit(group)


def test_a_large_record_makes_a_debt_that_the_next_caller_waits_for(clock):
    limiter, group = Limiter(clock=clock), entry(10, 10)
    limiter.admit_write(group)
    limiter.charge_write(group, 40 * 1024 + 1)

    with pytest.raises(Throttled) as caught:
        limiter.admit_write(group)
    assert caught.value.retry_after_s == 3.2
    clock.now += 3.2
    limiter.admit_write(group)


def test_no_more_than_a_second_is_saved_up(clock):
    limiter, group = Limiter(clock=clock), entry(5, 5)
    limiter.admit_read(group)
    clock.now += 3600
    for _ in range(5):
        limiter.admit_read(group)
        limiter.charge_read(group, 4096)
    with pytest.raises(Throttled):
        limiter.admit_read(group)


def test_a_process_has_its_share_and_a_change_counts_at_once(clock):
    limiter = Limiter(share=0.5, clock=clock)
    for _ in range(5):
        limiter.admit_read(entry(10, 10))
        limiter.charge_read(entry(10, 10), 0)
    with pytest.raises(Throttled):
        limiter.admit_read(entry(10, 10))
    limiter.admit_read(entry(20, 10))


def test_zero_units_let_nothing_through(clock):
    with pytest.raises(Throttled):
        Limiter(clock=clock).admit_read(entry(0, 0))


@pytest.mark.parametrize("units", [(-1, 1), (1, 10_000_001), (1, None), (True, 1), (1.5, 1)])
def test_limits_that_cannot_be_are_refused(units):
    with pytest.raises(InvalidFeatureGroup, match="ThroughputConfig"):
        Throughput(*units)
