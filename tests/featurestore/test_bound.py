"""Back-pressure: beyond its limit the outbox takes no more, and drops nothing."""

from __future__ import annotations

import pytest

from featurestore.errors import Overloaded
from featurestore.online import MemoryStore, OutboxBound, OutboxLimit


@pytest.fixture
def limited(store, monkeypatch):
    """A store that looks at its outbox on every put."""
    monkeypatch.setattr("featurestore.online.bound._LOOK_S", 0.0)
    return store


def test_writes_are_refused_until_the_outbox_is_flushed(limited, reading):
    limited.limit_outbox(records=3)
    for second in range(3):
        limited.put("readings", reading("JFK", second))
    with pytest.raises(Overloaded, match=r"3 records wait .* expected fewer than 3") as refused:
        limited.put("readings", reading("JFK", 4))
    assert refused.value.facts["retry_after_s"] == 1.0
    assert limited.get("readings", "JFK")["time"].endswith("00:02Z"), "nothing of it was stored"
    assert limited.online.outbox.pending() == 3
    assert limited.flush()["readings"].records == 3
    limited.put("readings", reading("JFK", 4))
    limited.limit_outbox()
    assert limited.verify("readings").equal


def test_writes_for_the_online_store_alone_pass(limited, reading):
    limited.limit_outbox(records=1)
    limited.put("readings", reading("JFK", 1))
    limited.put("readings", reading("JFK", 2), stores=("OnlineStore",))
    assert limited.get("readings", "JFK")["time"].endswith("00:02Z")
    assert limited.sweep() == 0
    with pytest.raises(Overloaded):
        limited.delete("readings", "JFK", event_time=reading("JFK", 3)["time"])


def test_bytes_are_a_limit_too(limited, reading):
    assert limited.online.outbox.size_bytes() < 100_000
    limited.limit_outbox(size_bytes=100_000)
    second = 0
    while limited.online.outbox.size_bytes() < 100_000:
        limited.put("readings", reading("JFK", second, note="x" * 1_000))
        second += 1
    with pytest.raises(Overloaded, match=r"bytes wait .* expected fewer than 100,000"):
        limited.put("readings", reading("JFK", second))
    assert 20 < limited.online.outbox.pending() < 100
    limited.flush()
    limited.put("readings", reading("JFK", 2_000))


def test_the_outbox_is_not_looked_at_for_every_batch(monkeypatch):
    now = [0.0]
    looks = []

    store = MemoryStore()
    monkeypatch.setattr(store.outbox, "pending", lambda: looks.append(1) or 0)
    bound = OutboxBound(store, OutboxLimit(records=5), clock=lambda: now[0])
    for _ in range(10):
        bound.put([])
    assert len(looks) == 1
    now[0] = 1.0
    bound.put([])
    assert len(looks) == 2
