"""When the elected process flushes, sweeps and maintains, by time and by what waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import featurestore
from featureline.server import flushing as flushing_module
from featureline.server.flushing import Flushing
from featureline.server.maintaining import Maintaining
from featureline.server.sweeping import Sweeping
from featurestore import FeatureGroup, StoreUnavailable, Ttl, TtlUnit, feature_definitions
from featurestore.server.metrics import Metrics

LONG_S = 3600.0


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(flushing_module, "_LOOK_S", 0.02)
    with featurestore.open(tmp_path / "home") as made:
        made.create_feature_group(
            FeatureGroup(
                "readings",
                record_identifier="id",
                event_time="at",
                features=feature_definitions([("id", "String"), ("at", "String")]),
            )
        )
        yield made


def put(store, count: int, *, first: int = 0) -> None:
    for second in range(first, first + count):
        store.put("readings", {"id": "a", "at": f"2024-01-01T00:00:{second:02d}Z"})


async def until(condition, *, within_s: float = 20.0) -> bool:
    """Wait until a condition holds; whether it came to hold."""
    for _ in range(int(within_s / 0.02)):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def beside(job, work) -> None:
    """Run some work beside a background job, then stop that."""
    running = asyncio.create_task(job.run())
    try:
        await work()
    finally:
        job.stop()
        await asyncio.wait_for(running, 20)


@pytest.mark.parametrize("trigger", [{"records": 5}, {"size_bytes": 4096}])
def test_what_waits_triggers_a_flush_long_before_its_time(store, trigger):
    async def work() -> None:
        if "records" in trigger:
            put(store, 4)
            await asyncio.sleep(0.3)
            assert store.online.outbox.pending() == 4, "fewer wait for their time"
        put(store, 5, first=4)
        assert await until(lambda: store.online.outbox.pending() == 0)

    asyncio.run(beside(Flushing(store, LONG_S, **trigger), work))


def test_where_flushes_fail_what_waits_triggers_no_more(store, monkeypatch):
    tried = []

    def flush(name: str) -> None:
        tried.append(name)
        raise StoreUnavailable("the offline store is away")

    monkeypatch.setattr(store, "flush", flush)

    async def work() -> None:
        put(store, 5)
        assert await until(lambda: bool(tried))
        await asyncio.sleep(0.3)
        assert tried == ["readings"]

    asyncio.run(beside(Flushing(store, LONG_S, records=1), work))


def files(store) -> int:
    return len(list(Path(store.offline_uri("readings")).glob("_event_date=*/*.parquet")))


def test_the_elected_process_maintains(store):
    for second in range(6):
        put(store, 1, first=second)
        store.flush()
    table = store.offline_table(store.registry.get("readings"))

    async def work() -> None:
        assert await until(lambda: len(table.scan().files) == 1)

    asyncio.run(beside(Maintaining(store, lambda: True, every_s=0.05), work))
    assert files(store) == 7  # old versions keep theirs
    assert store.verify("readings").equal


def test_another_process_does_not(store):
    for second in range(6):
        put(store, 1, first=second)
        store.flush()

    async def work() -> None:
        await asyncio.sleep(0.3)
        assert files(store) == 6

    asyncio.run(beside(Maintaining(store, lambda: False, every_s=0.05), work))
    asyncio.run(beside(Maintaining(store, lambda: True, every_s=None), work))


def live(store) -> int:
    versions = store.online.scan(store.registry.get("readings").number, after=None, limit=100)
    return sum(not value.is_deleted for _, value in versions)


def test_the_elected_process_sweeps_and_counts(store):
    metrics = Metrics()
    put(store, 1)
    store.put("readings", {"id": "b", "at": "2024-01-01T00:00:00Z"}, ttl=Ttl(TtlUnit.SECONDS, 1))
    assert live(store) == 2

    async def nothing() -> None:
        await asyncio.sleep(0.3)
        assert live(store) == 2

    async def swept() -> None:
        assert await until(lambda: live(store) == 1)

    asyncio.run(beside(Sweeping(store, lambda: False, every_s=0.05, metrics=metrics), nothing))
    asyncio.run(beside(Sweeping(store, lambda: True, every_s=0.05, metrics=metrics), swept))
    assert metrics.snapshot().numbers["featureline_expired_swept_total"] == {(): 1}
    assert store.get("readings", "a") is not None


@pytest.mark.parametrize(("job", "verb"), [(Sweeping, "sweep"), (Maintaining, "maintain")])
def test_a_round_that_fails_is_not_the_last(store, monkeypatch, caplog, job, verb):
    tried = []

    def fail(*_args: object, **_options: object) -> None:
        tried.append(verb)
        raise OSError("something nobody thought of")

    monkeypatch.setattr(store, verb, fail)

    async def work() -> None:
        assert await until(lambda: len(tried) > 2)

    asyncio.run(beside(job(store, lambda: True, every_s=0.02), work))
    assert "something nobody thought of" in caplog.text
