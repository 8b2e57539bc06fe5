"""What goes wrong inside the server: each caller is told, and nothing stands still after it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any, ClassVar

import grpc
import pytest

import featurestore
from featureline.server.flushing import Flushing
from featurestore.auth import AccessDatabase, Guard
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.server import Limits, NativeFront
from featurestore.server.front import WriteLane
from featurestore.server.runtime import Call, RuntimeService
from featurestore.v1 import runtime_pb2
from tests.server.conftest import installed

ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
RUNTIME = "/featurestore.v1.FeatureStoreRuntime/"


def test_a_guard_that_cannot_look_lets_nobody_in_and_stops_nothing(
    serving, front, tmp_path, weather, reading
):
    folder = tmp_path / "guarded"
    with contextlib.closing(AccessDatabase(folder)) as database:
        database.put_policy("all", json.dumps({"Statement": [ALL]}))
        token = database.create_token("ada", ["all"]).text
    with contextlib.closing(Guard.open(folder)) as guard:
        server = serving(front, guard=guard)
        server.store.create_feature_group(weather)
        server.store.put("weather", reading())
        get = runtime_pb2.GetRecordRequest(
            feature_group_name="weather", record_identifier_value_as_string="JFK"
        ).SerializeToString()
        metadata = [("authorization", f"Bearer {token}")]
        with grpc.insecure_channel(server.address) as channel:

            def ask() -> set[str]:
                calls = [
                    channel.unary_unary(method).future(data, metadata=metadata, timeout=5)
                    for method, data in (
                        (RUNTIME + "GetRecord", get),
                        (RUNTIME + "PutRecord", b""),
                        ("/featurestore.v1.FeatureStore/ListFeatureGroups", b""),
                    )
                ]
                return {call.code().name for call in calls}

            assert ask() == {"OK", "NOT_FOUND"}
            folder.rename(tmp_path / "aside")
            folder.touch()  # no folder any more
            _until(lambda: "OK" not in ask())
            seen = set()
            until = time.monotonic() + 0.6
            while time.monotonic() < until:
                seen |= ask()
            assert seen <= {"UNAVAILABLE", "INTERNAL"}, "it is open between two looks"
            folder.unlink()
            (tmp_path / "aside").rename(folder)
            _until(lambda: ask() == {"OK", "NOT_FOUND"})


def test_a_flush_that_fails_is_tried_again(tmp_path, weather, reading, caplog):
    caplog.set_level(logging.ERROR)
    with open_store(tmp_path / "home") as store:
        store.create_feature_group(weather)
        store.put("weather", reading())
        locks = tmp_path / "home" / "locks"
        aside = tmp_path / "aside"
        locks.rename(aside) if locks.exists() else aside.mkdir()
        locks.touch()  # a file where the folder of locks is to be

        async def run() -> None:
            flushing = Flushing(store, 0.02)
            task = asyncio.create_task(flushing.run())
            await asyncio.sleep(0.2)
            assert not task.done(), "the flush has ended for good"
            assert store.online.outbox.pending() == 1
            locks.unlink()
            aside.rename(locks)
            for _ in range(200):
                await asyncio.sleep(0.02)
                if not store.online.outbox.pending():
                    break
            flushing.stop()
            await task

        asyncio.run(run())
        assert store.online.outbox.pending() == 0
    assert "a flush failed" in caplog.text


def test_the_write_lane_goes_on_after_whatever_happened_in_it(tmp_path, weather, reading):
    """Here: metrics of another shape than it expects."""

    class Failing:
        def __init__(self) -> None:
            self.fails = True

        def commit(self, seconds: float, writes: int) -> None:
            if self.fails:
                raise ArithmeticError("counted wrong")

        def batch(self, kind: str, size: int) -> None: ...

        def queue(self, depth: int) -> None: ...

        def shed(self, reason: str, count: int = 1) -> None: ...

    with open_store(tmp_path / "home") as store:
        store.create_feature_group(weather)
        failing = Failing()
        lane = WriteLane(RuntimeService(store), Limits(), metrics=failing)
        call = Call("PutRecord", runtime_pb2.PutRecordRequest(feature_group_name="absent"))

        async def run() -> None:
            with pytest.raises(ArithmeticError):
                await asyncio.wait_for(lane.submit(call, size=10), 5)
            failing.fails = False
            reply = await asyncio.wait_for(lane.submit(call, size=10), 5)
            assert isinstance(reply, featurestore.FeatureGroupNotFound)

        asyncio.run(run())
        lane.close()


class SlowToRead:
    """A request that takes long to read, as a large one does."""

    @staticmethod
    def FromString(data: bytes) -> object:  # as protobuf names it
        time.sleep(0.3)
        return runtime_pb2.PutRecordRequest.FromString(data)


class SlowRuntime:
    """What answers; requests come to it slowly."""

    reads_block: ClassVar[bool] = False
    READS: ClassVar[dict[str, Any]] = {}
    WRITES: ClassVar[dict[str, Any]] = {"PutRecord": SlowToRead}

    def __init__(self, store: EmbeddedStore) -> None:
        self.write = RuntimeService(store).write


def test_a_write_that_is_read_while_the_drain_begins_is_answered(tmp_path):
    """It passes the door before the drain, and comes to the queue after the last write of it."""
    installed("native")
    with open_store(tmp_path / "home") as store:
        front = NativeFront("127.0.0.1:0", SlowRuntime(store), behind=str(tmp_path / "sock"))
        front.start()
        with grpc.insecure_channel(f"127.0.0.1:{front.port}") as channel:
            call = channel.unary_unary(RUNTIME + "PutRecord").future(b"", timeout=10)
            time.sleep(0.15)
            began = time.monotonic()
            assert front.drain(3.0), "the drain waited for what nobody answers"
            assert time.monotonic() - began < 2
            assert call.code() is grpc.StatusCode.UNAVAILABLE
        front.close()


def _until(ask) -> None:
    until = time.monotonic() + 10
    while not ask():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.05)
