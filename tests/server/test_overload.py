"""More work than the server takes: it says no at once, and its memory stays as it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import featurestore
from featurestore import FeatureGroup, Put, feature_definitions
from featurestore.server import Limits
from featurestore.v1 import record_pb2, runtime_pb2
from tests.server.http2 import Connection, message
from tests.server.stall import Stall
from tests.soak.server import ServerProcess

SERVICE = "/featurestore.v1.FeatureStoreRuntime/"
WAITING = 20
MESSAGE_BYTES = 1 << 20
LIMITS = Limits(waiting=WAITING, waiting_bytes=2 << 20, message_bytes=MESSAGE_BYTES)
GROUP = FeatureGroup(
    "notes",
    record_identifier="id",
    event_time="at",
    features=feature_definitions([("id", "String"), ("at", "String"), ("text", "String")]),
)
ANY_SIZE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(scope="module")
def small(new_server) -> Any:
    """A server that takes little."""
    serving = new_server(limits=LIMITS)
    serving.store.create_feature_group(GROUP)
    return serving


@pytest.fixture
def channel(small) -> Iterator[grpc.Channel]:
    """A connection without retries."""
    with grpc.insecure_channel(small.address) as opened:
        yield opened


@pytest.fixture
def stall(small) -> Iterator[Stall]:
    with Stall(small.home) as held:
        yield held


@pytest.fixture(autouse=True)
def no_faults_in_the_log(caplog):
    caplog.set_level(logging.ERROR)
    yield
    assert [record.getMessage() for record in caplog.records] == []


@pytest.fixture
def process(tmp_path, front) -> Iterator[Callable[..., ServerProcess]]:
    """Start `featurestore serve` as a process, over a home with the group."""
    started: list[ServerProcess] = []

    def start(*options: object) -> ServerProcess:
        with featurestore.open(tmp_path / "home") as store:
            if not store.list_feature_groups():
                store.create_feature_group(GROUP)
        log = tmp_path / "server.log"
        started.append(ServerProcess(tmp_path / "home", log, "--front", front, *options))
        return started[-1]

    yield start
    for server in started:
        if server.is_up:
            server.kill()


def put(identifier: str, text: str = "") -> bytes:
    record = record_pb2.Record()
    for name, value in (("id", identifier), ("at", "2024-01-01T00:00:00Z"), ("text", text)):
        record.values.add(feature_name=name, value=record_pb2.Value(string_value=value))
    return runtime_pb2.PutRecordRequest(
        feature_group_name="notes", record=record
    ).SerializeToString()


def send(channel: grpc.Channel, data: bytes, **options: Any) -> Any:
    return channel.unary_unary(SERVICE + "PutRecord").future(data, **options)


def codes(calls: list[Any]) -> list[str]:
    return [call.code().name for call in calls]


def settle(first: Any) -> None:
    """Wait until the first write is under way, so that all others wait."""
    time.sleep(0.15)
    assert not first.done()


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(small, channel, stall):
    first = send(channel, put("full"))
    settle(first)
    calls = [send(channel, put(f"full-{n}")) for n in range(3 * WAITING)]

    began = time.monotonic()
    _until(lambda: sum(call.done() for call in calls) >= 2 * WAITING or None)
    refused = [call for call in calls if call.done()]
    assert time.monotonic() - began < 1, "the refusal waited for the store"
    assert codes(refused) == ["RESOURCE_EXHAUSTED"] * 2 * WAITING
    trailers = dict(refused[0].trailing_metadata())
    assert trailers["featureline-error"] == "Overloaded"
    assert "nothing was written: try again in" in refused[0].details()

    stall.release()
    assert first.code() is grpc.StatusCode.OK
    for n, code in enumerate(codes(calls)):
        assert (small.store.get("notes", f"full-{n}") is not None) == (code == "OK")


def test_what_waits_is_bounded_in_bytes_as_well(channel, stall):
    settle(send(channel, put("heavy")))
    calls = [send(channel, put(f"heavy-{n}", "x" * 300 * KIB)) for n in range(12)]

    fit = 2 * MIB // (300 * KIB)
    _stalls(lambda: sum(call.done() for call in calls), quiet_s=0.3)
    ended = [call for call in calls if call.done()]
    stall.release()

    assert set(codes(ended)) == {"RESOURCE_EXHAUSTED"}
    assert len(ended) == len(calls) - fit
    assert codes(calls).count("OK") == fit


def test_a_write_whose_deadline_passes_is_never_stored(small, channel, stall):
    settle(send(channel, put("late")))
    late = send(channel, put("late-1"), timeout=0.3)
    patient = send(channel, put("late-2"), timeout=30)

    assert late.code() in {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # it was known that it would wait too long
    }
    time.sleep(0.1)  # client and server have a clock each
    stall.release()
    assert patient.code() is grpc.StatusCode.OK
    assert small.store.get("notes", "late-1") is None


def test_a_write_whose_caller_goes_away_is_never_stored(small, channel, stall):
    settle(send(channel, put("gone")))
    gone = send(channel, put("gone-1"))
    stays = send(channel, put("gone-2"))
    time.sleep(0.1)
    gone.cancel()
    time.sleep(0.1)

    stall.release()
    assert stays.code() is grpc.StatusCode.OK
    assert small.store.get("notes", "gone-1") is None


def test_who_would_wait_longer_than_its_deadline_hears_so_at_once(channel, small):
    # A quick transaction of the server's own between the two says there is no wait: again then.
    for attempt in range(4):
        with Stall(small.home):  # a transaction that takes long is what the next ones are judged by
            slow = send(channel, put(f"slow-{attempt}"))
            time.sleep(1.5)
        assert slow.code() is grpc.StatusCode.OK

        with Stall(small.home):
            calls = [send(channel, put(f"slow-{attempt}-{n}")) for n in range(2)]
            until = time.monotonic() + 3
            code, tries, seconds = None, 0, 0.0
            while code is not grpc.StatusCode.RESOURCE_EXHAUSTED and time.monotonic() < until:
                tries += 1  # of one whose deadline passed nothing is known
                began = time.monotonic()
                code = send(channel, put(f"hasty-{attempt}-{tries}"), timeout=0.6).code()
                seconds = time.monotonic() - began
            time.sleep(0.1)  # client and server have a clock each
        assert set(codes(calls)) == {"OK"}
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            break
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert seconds < 0.6  # its own deadline would have said another code
    assert small.store.get("notes", f"hasty-{attempt}-{tries}") is None


def test_the_client_comes_again_until_there_is_room(small, stall):
    with grpc.insecure_channel(small.address) as channel:
        settle(send(channel, put("again")))
        calls = [send(channel, put(f"again-{n}")) for n in range(WAITING + 1)]
        refused = _until(lambda: next((call for call in calls if call.done()), None))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        releasing = threading.Timer(0.1, stall.release)
        releasing.start()
        with featurestore.connect(small.address) as store:
            store.put("notes", {"id": "again-x", "at": "2024-01-01T00:00:00Z"})
        releasing.join()
        assert codes(calls).count("OK") == WAITING
    assert small.store.get("notes", "again-x") is not None


# -- sizes ------------------------------------------------------------------------------------


def test_messages_that_are_too_large_are_refused_both_ways(small, channel):
    status = send(channel, put("large", "x" * MESSAGE_BYTES)).code()
    assert status in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}

    for n in range(5):
        assert send(channel, put(f"large-{n}", "x" * 300 * KIB)).code() is grpc.StatusCode.OK
    with featurestore.connect(small.address) as store:
        wanted = [f"large-{n}" for n in range(5)]
        assert len(store.batch_get([featurestore.Get("notes", wanted[:3])])) == 3
        with pytest.raises(featurestore.InvalidRequest, match="ask for fewer records"):
            store.batch_get([featurestore.Get("notes", wanted)])
        with pytest.raises(featurestore.InvalidRequest, match=r"larger than|may have"):
            store.batch_write(
                [
                    Put("notes", {"id": i, "at": "2024-01-01T00:00:00Z", "text": "x" * 300 * KIB})
                    for i in wanted
                ]
            )


# -- memory -----------------------------------------------------------------------------------


def test_the_memory_of_a_server_that_is_asked_too_much_stays(process, tmp_path):
    server = process()
    data = put("much", "x" * 100 * KIB)
    # More connections than one client would make, each with as many calls as it may have.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(server.address, options) for _ in range(4)]
    calls: list[Any] = []
    memory = []
    with Stall(tmp_path / "home") as stall:
        for _ in range(3):
            calls += [send(channel, data) for channel in channels for _ in range(250)]
            _stalls(lambda sent=calls: sum(call.done() for call in sent), quiet_s=0.4)
            memory.append(server.anonymous_bytes())
        refused = codes([call for call in calls if call.done()])
        stall.release()
        stored = codes(calls).count("OK")
    for channel in channels:
        channel.close()

    assert set(refused) == {"RESOURCE_EXHAUSTED"}
    assert stored + len(refused) == len(calls)
    # The lane may have taken a batch before it was stalled: a part of the first 1,000 calls.
    assert 0 <= stored - 64 * MIB // len(data) < 100, (
        "as much waits as may wait, and what came first"
    )
    assert memory[2] - memory[0] < 150 * MIB, [f"{size / MIB:.0f} MiB" for size in memory]


def test_the_memory_for_replies_that_nobody_reads_is_bounded(process, tmp_path):
    server = process()
    with featurestore.connect(server.address) as store:
        for n in range(20):
            record = {"id": f"i{n}", "at": "2024-01-01T00:00:00Z", "text": "x" * 300 * KIB}
            store.put("notes", record)
    request = runtime_pb2.BatchGetRecordRequest()
    request.identifiers.add(
        feature_group_name="notes",
        record_identifiers_value_as_string=[f"i{n}" for n in range(20)],
    )
    before = server.anonymous_bytes()
    body = message(request.SerializeToString())  # 6 MB are the answer

    with Connection(server.address, window=0) as connection:
        for n in range(200):
            assert connection.call(SERVICE + "BatchGetRecord", body, stream=1 + 2 * n)
        with grpc.insecure_channel(server.address, ANY_SIZE) as channel:
            call = channel.unary_unary(SERVICE + "BatchGetRecord")
            refused = _until(lambda: call.future(request.SerializeToString()).exception(10))
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "have not read yet" in refused.details()
        with featurestore.connect(server.address) as store:
            assert store.get("notes", "i1") is not None, "single records are read all the same"
        grown = server.anonymous_bytes() - before
    assert grown < 800 * MIB, f"{grown / MIB:.0f} MiB more"
    with featurestore.connect(server.address) as store:
        wanted = [f"i{n}" for n in range(20)]
        assert len(store.batch_get([featurestore.Get("notes", wanted)])) == 20


def test_a_stream_that_does_not_read_its_acknowledgements_is_not_read_from(process):
    server = process()
    before = server.anonymous_bytes()
    bad = runtime_pb2.PutRecordRequest(feature_group_name="absent").SerializeToString()

    # The server may send no byte of a reply, so not one acknowledgement is out.
    with Connection(server.address, window=0) as connection:
        connection.open(SERVICE + "StreamRecords")
        taken = connection.pour(message(bad) * 100, 400 * MIB)
        grown = server.anonymous_bytes() - before
        with featurestore.connect(server.address) as store:
            store.put("notes", {"id": "other", "at": "2024-01-01T00:00:00Z"})
    assert taken < 40 * MIB, f"the server read on: {taken / MIB:.0f} MiB"
    assert grown < 100 * MIB, f"{grown / MIB:.0f} MiB more"


def test_a_request_that_was_too_large_leaves_no_memory_behind(process):
    server = process()
    before = server.anonymous_bytes()
    with grpc.insecure_channel(server.address, ANY_SIZE) as channel:
        data = bytes(150 * MIB)
        for compression in (None, grpc.Compression.Gzip):
            status = send(channel, data, compression=compression).code()
            assert status in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}
        until = time.monotonic() + 5
        while server.anonymous_bytes() - before > 100 * MIB and time.monotonic() < until:
            time.sleep(0.05)
        assert server.anonymous_bytes() - before < 100 * MIB


def _until(ask: Callable[[], Any]) -> Any:
    """Ask until there is an answer, and return it."""
    until = time.monotonic() + 10
    while (answer := ask()) is None:
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.05)
    return answer


def _stalls(count: Callable[[], int], quiet_s: float = 0.7) -> int:
    """Wait until a count stays as it is, and return it."""
    until = time.monotonic() + 20
    last, since = count(), time.monotonic()
    while time.monotonic() - since < quiet_s:
        assert time.monotonic() < until, "it goes on and on"
        time.sleep(0.05)
        if count() != last:
            last, since = count(), time.monotonic()
    return last
