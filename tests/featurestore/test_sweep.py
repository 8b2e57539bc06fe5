"""The sweep gives space back and changes no answer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from featurestore import FeatureGroup, Ttl, TtlUnit
from featurestore.embedded import EmbeddedStore
from featurestore.online import LmdbStore, MemoryStore
from featurestore.schema import feature_definitions

GROUP = FeatureGroup(
    "g",
    "id",
    "at",
    feature_definitions([("id", "String"), ("at", "Fractional"), ("x", "String")]),
    ttl=Ttl(TtlUnit.SECONDS, 10),
)


class Clock:
    def __init__(self) -> None:
        self.us = 1_000_000_000_000_000

    def __call__(self) -> int:
        return self.us


@pytest.fixture(params=["memory", "lmdb"])
def swept(request: pytest.FixtureRequest, tmp_path: Path):
    clock = Clock()
    online = MemoryStore() if request.param == "memory" else LmdbStore(tmp_path / "online")
    with EmbeddedStore(tmp_path, online=online, now=clock) as store:
        store.create_feature_group(GROUP)
        yield store, clock


def put(store: EmbeddedStore, identifier: str, at: float, **options: object) -> None:
    store.put("g", {"id": identifier, "at": at, "x": "x" * 1000}, **options)


def test_expired_records_become_tombstones_without_features(swept):
    store, clock = swept
    put(store, "old", 1e9 - 100)
    put(store, "new", 1e9)
    put(store, "kept", 1e9 - 100, ttl=Ttl(TtlUnit.WEEKS, 1))

    assert store.sweep() == 1
    assert store.sweep() == 0

    values = {v.identifier: v for _, v in store.online.scan(1, after=None, limit=9)}
    assert values[b"old"].record == b""
    assert values[b"old"].is_deleted
    assert list(store.records("g")) == ["kept", "new"]
    assert list(store.records("g", include_soft_deleted=True)) == ["kept", "new"]
    clock.us += 10_000_000
    assert store.sweep() == 1
    assert store.verify("g").equal


def test_a_late_older_put_does_not_come_back(swept):
    store, _ = swept
    put(store, "a", 1e9 - 100)
    store.sweep()

    put(store, "a", 1e9 - 200, ttl=Ttl(TtlUnit.WEEKS, 9))
    assert store.get("g", "a") is None
    put(store, "a", 1e9 - 100, ttl=Ttl(TtlUnit.WEEKS, 9))
    assert store.get("g", "a") is not None
    assert store.verify("g").equal


@pytest.mark.parametrize("seed", range(6))
def test_a_sweep_at_any_moment_changes_no_answer(tmp_path, seed):
    chance = random.Random(seed)
    clock = Clock()
    stores = [
        EmbeddedStore(tmp_path / name, online=MemoryStore(), now=clock)
        for name in ("plain", "swept")
        if not (tmp_path / name).mkdir()
    ]
    for store in stores:
        store.create_feature_group(GROUP)
    for _ in range(150):
        identifier = chance.choice("abc")
        at = clock.us / 1e6 - chance.randrange(40)
        kind = chance.random()
        ttl = chance.choice([None, Ttl(TtlUnit.SECONDS, chance.randrange(1, 60))])
        for store in stores:
            if kind < 0.6:
                put(store, identifier, at, ttl=ttl)
            elif kind < 0.8:
                store.delete("g", identifier, event_time=at)
            elif store is stores[1]:
                store.sweep()
        clock.us += chance.randrange(3_000_000)
        answers = [[store.get("g", one) for one in "abc"] for store in stores]
        assert answers[0] == answers[1]
    for store in stores:
        assert store.verify("g").equal
        store.close()
