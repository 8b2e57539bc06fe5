"""SIGTERM: health says so first, calls in flight finish, new ones are sent elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from deltalake import DeltaTable
from grpc_health.v1 import health_pb2, health_pb2_grpc

import featurestore
from featurestore import StoreUnavailable
from featurestore.embedded import open_store
from featurestore.v1 import record_pb2, runtime_pb2
from tests.server.stall import Stall
from tests.soak.server import ServerProcess
from tests.soak.writer import GROUP, Writer, lost_online, offline_faults

RUNTIME = "/featurestore.v1.FeatureStoreRuntime/"
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WORKERS = [1, 2]


@pytest.fixture
def home(tmp_path) -> Any:
    with open_store(tmp_path / "home") as store:
        store.create_feature_group(GROUP)
    return tmp_path / "home"


@pytest.fixture
def start(tmp_path, home, front) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server over the home."""
    started: list[ServerProcess] = []

    def begin(*options: object) -> ServerProcess:
        log = tmp_path / f"{len(started)}.log"
        started.append(ServerProcess(home, log, "--front", front, *options))
        return started[-1]

    yield begin
    for server in started:
        if server.is_up:
            server.kill()
        text = server.log.read_text()
        assert "Traceback" not in text, text


def put(identifier: str, n: int = 1) -> bytes:
    record = record_pb2.Record()
    record.values.add(feature_name="id", value=record_pb2.Value(string_value=identifier))
    at = "2024-01-01T00:00:00Z"
    record.values.add(feature_name="at", value=record_pb2.Value(string_value=at))
    record.values.add(feature_name="n", value=record_pb2.Value(integral_value=n))
    return runtime_pb2.PutRecordRequest(
        feature_group_name="readings", record=record
    ).SerializeToString()


@pytest.mark.parametrize("workers", WORKERS)
def test_calls_in_flight_finish_and_new_ones_are_refused(start, home, workers):
    server = start("--workers", workers)
    with Stall(home) as stall, ThreadPoolExecutor(1) as pool:
        # More connections than workers: each worker has some.
        channels = [
            grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
            for _ in range(6)
        ]
        calls = [
            channel.unary_unary(RUNTIME + "PutRecord").future(put(f"{n}"), timeout=20)
            for n, channel in enumerate(channels)
        ]
        stream = channels[0].stream_stream(RUNTIME + "StreamRecords")(
            iter([put("stream-1"), put("stream-2")]), timeout=20
        )
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            for channel in channels
        ]
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
        time.sleep(0.2)

        ended = pool.submit(server.stop)
        assert {next(watch).status for watch in watches} == {NOT_SERVING}
        time.sleep(0.1)
        late = [
            channel.unary_unary(RUNTIME + "PutRecord").future(put(f"late-{n}"), timeout=20)
            for n, channel in enumerate(channels)
        ]
        assert {call.code() for call in late} == {grpc.StatusCode.UNAVAILABLE}
        assert "another one may answer" in late[0].details()
        assert not any(call.done() for call in calls)
        assert not ended.done()

        stall.release()
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}
        assert [runtime_pb2.Ack.FromString(ack).last for ack in stream][-1:] == [2]
        assert ended.result() == 0
        for channel in channels:
            channel.close()

    with open_store(home) as store:
        for n in range(6):
            assert store.get("readings", f"{n}") is not None
            assert store.get("readings", f"late-{n}") is None
        assert store.get("readings", "stream-2") is not None


@pytest.mark.parametrize("workers", WORKERS)
def test_a_server_takes_over_and_the_place_in_the_outbox_is_kept(start, home, workers):
    """Servers of one port follow each other under load, while they flush."""
    options = ("--workers", workers, "--flush-seconds", 0.1)
    server = first = start(*options, "--grpc", "0.0.0.0:0")
    writers = [Writer(f"w{i}", batch) for i, batch in enumerate((1, 1, 20))]
    stop = threading.Event()
    threads = [
        threading.Thread(target=writer.write, args=(first.address_for(number), stop))
        for number, writer in enumerate(writers)
    ]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.4)
        assert server.stop() == 0
        before = [len(writer.acknowledged) for writer in writers]
        server = start(*options, "--grpc", first.address)
        until = time.monotonic() + 15  # a client waits a second or two before it connects again
        while any(len(w.acknowledged) <= n for w, n in zip(writers, before, strict=True)):
            assert time.monotonic() < until, "a client does not find the new server"
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [writer.failures for writer in writers] == [[], [], []]
    assert min(before) > 0
    assert server.stop() == 0

    with open_store(home) as store:
        assert lost_online(store, writers) == 0
        flushed = DeltaTable(store.offline_uri("readings")).version()
        assert flushed > 0, "the servers flushed nothing: the test shows nothing"
        assert offline_faults(store, writers) == (0, 0, 0, 0)


def test_a_call_that_never_ends_does_not_keep_the_server(start, home):
    server = start("--drain-seconds", 0.3)
    with Stall(home), grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(RUNTIME + "PutRecord").future(put("x"), timeout=20)
        time.sleep(0.2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 6
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_a_second_signal_ends_it_at_once(start, home):
    server = start()
    with Stall(home), grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(RUNTIME + "PutRecord").future(put("x"), timeout=20)
        time.sleep(0.2)
        server.signal(signal.SIGTERM)
        time.sleep(0.2)
        began = time.monotonic()
        assert server.stop() == -signal.SIGTERM
        assert time.monotonic() - began < 1
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_workers_that_end_by_themselves_are_no_fault_of_the_drain(start):
    """A service manager sends SIGTERM to every process of the service, not only to the first."""
    server = start("--workers", 2)
    first, *workers = server.pids()
    for pid in (*workers, first):
        server.signal(signal.SIGTERM, pid)
    assert server.wait() == 0
    assert server.pids() == [first], "a worker is left behind"


def test_who_drains_answers_every_call_and_stores_what_it_acknowledged(
    serving, front, weather, reading
):
    """Calls that arrive while the last writes are taken are answered, too."""
    for round_ in range(3):
        server = serving(front)
        server.store.create_feature_group(weather)
        calls: list[Any] = []
        stopping = threading.Event()
        with grpc.insecure_channel(server.address) as channel:
            send = channel.unary_unary(RUNTIME + "PutRecord")

            def load(calls=calls, send=send, stopping=stopping):
                while not stopping.is_set():
                    message = runtime_pb2.PutRecordRequest(feature_group_name="weather")
                    at = "2013-01-01T06:00:00Z"
                    for name, value in (("origin", f"i{len(calls)}"), ("hour", at)):
                        message.record.values.add(feature_name=name).value.string_value = value
                    calls.append(send.future(message.SerializeToString(), timeout=20))

            thread = threading.Thread(target=load)
            thread.start()
            time.sleep(0.15 + 0.03 * round_)
            began = time.monotonic()
            server.stop(8.0)
            took = time.monotonic() - began
            stopping.set()
            thread.join()
            answers = [call.code().name for call in calls]
        counted = Counter(answers)
        assert counted["OK"] > 0
        # grpc.aio cannot keep C-core from cancelling what it had not handed on yet.
        expected = {"OK", "UNAVAILABLE"} | ({"CANCELLED"} if front == "grpc" else set())
        assert set(counted) <= expected, counted
        assert took < 6, "a call was never answered, so the drain waited for it"
        with open_store(server.home) as store:
            stored = set(store.records("weather"))
        assert stored == {f"i{n}" for n, answer in enumerate(answers) if answer == "OK"}


def test_streams_are_told_to_come_again(serving, front):
    server = serving(front)
    server.store.create_feature_group(GROUP)
    more = threading.Event()

    def requests():
        yield put("a")
        more.wait(10)
        yield put("b")

    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(1) as pool:
        stream = channel.stream_stream(RUNTIME + "StreamRecords")(requests(), timeout=20)
        assert runtime_pb2.Ack.FromString(next(stream)).last == 1
        ended = pool.submit(server.stop)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        more.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        ended.result()
    with (
        featurestore.connect(server.address, timeout_s=1) as store,
        pytest.raises(StoreUnavailable),
    ):
        store.get("readings", "a")
