"""Garbage below the level of messages: headers, frames, lengths. The server stays and answers."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

import grpc
import pytest

import featurestore
from tests.server import http2
from tests.server.http2 import PREFACE, Connection, frame, header_block, message
from tests.soak.server import ServerProcess

PUT = "/featurestore.v1.FeatureStoreRuntime/PutRecord"
GET = "/featurestore.v1.FeatureStoreRuntime/GetRecord"
STREAM = "/featurestore.v1.FeatureStoreRuntime/StreamRecords"
MIB = 1 << 20
OPEN = http2.END_HEADERS


@pytest.fixture(scope="module")
def victim(tmp_path_factory, front, weather) -> Iterator[ServerProcess]:
    """A server for all that is sent; at the end it is well, its log clean, its memory small."""
    work = tmp_path_factory.mktemp("victim")
    with featurestore.open(work / "home") as store:
        store.create_feature_group(weather)
        store.put("weather", WELL)
    server = ServerProcess(work / "home", work / "server.log", "--front", front)
    is_well(server)
    before = server.anonymous_bytes()
    yield server
    is_well(server)
    grown = server.anonymous_bytes() - before
    assert server.stop() == 0
    text = server.log.read_text(errors="replace")
    assert "Traceback" not in text, text
    assert "panicked" not in text, text
    assert grown < 150 * MIB, f"{grown / MIB:.0f} MiB more"


WELL = {"origin": "well", "hour": "2013-01-01T06:00:00Z"}


def is_well(server: ServerProcess) -> None:
    """Check that a client is answered, on a connection of its own."""
    with featurestore.connect(server.address, timeout_s=10) as store:
        assert store.get("weather", "well") == WELL
        store.put("weather", WELL)


def settings(*pairs: tuple[int, int]) -> bytes:
    body = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)
    return frame(http2.SETTINGS, 0, 0, body)


BROKEN = {
    "http/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "zeros": bytes(1000),
    "half a preface": PREFACE[:10],
    "settings of five bytes": PREFACE + frame(http2.SETTINGS, 0, 0, b"12345"),
    "settings on a stream": PREFACE + frame(http2.SETTINGS, 0, 3),
    "window of 2 GiB": PREFACE + settings((4, 2**31)),
    "frame size 0": PREFACE + settings((5, 0)),
    "data on stream 0": PREFACE + settings() + frame(http2.DATA, 0, 0, b"x"),
    "data on an idle stream": PREFACE + settings() + frame(http2.DATA, 0, 7, b"x"),
    "even stream": PREFACE + settings() + frame(http2.HEADERS, OPEN, 2, header_block(PUT)),
    "frame of 16 MiB": PREFACE + settings() + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(99),
    "unknown header index": PREFACE + settings() + frame(http2.HEADERS, OPEN, 1, b"\xff\xff\x03"),
    "integer without an end": PREFACE + settings() + frame(http2.HEADERS, OPEN, 1, b"\xff" * 40),
    "string beyond the end": PREFACE + settings() + frame(http2.HEADERS, OPEN, 1, b"\x00\x7e:pa"),
    "table of 4 GiB": PREFACE + settings() + frame(http2.HEADERS, OPEN, 1, b"\x3f\xff\xff\xff\x0f"),
    "padding beyond the end": PREFACE + settings() + frame(http2.HEADERS, OPEN | 8, 1, b"\xff12"),
    "continuation of nothing": PREFACE + settings() + frame(http2.CONTINUATION, OPEN, 1, b"x"),
    "window update of 0": PREFACE + settings() + frame(http2.WINDOW_UPDATE, 0, 0, bytes(4)),
    "window overflow": PREFACE
    + settings()
    + frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "push promise": PREFACE + settings() + frame(http2.PUSH_PROMISE, OPEN, 1, bytes(4) + b"x"),
    "ping of 3 bytes": PREFACE + settings() + frame(http2.PING, 0, 0, b"abc"),
    "reset of an idle stream": PREFACE + settings() + frame(http2.RST_STREAM, 0, 9, bytes(4)),
}


def test_what_is_no_http2_ends_its_connection_and_nothing_else(victim):
    with contextlib.ExitStack() as opened:
        for garbage in BROKEN.values():
            connection = opened.enter_context(Connection(victim.address, greet=False))
            connection.send(garbage)
        is_well(victim)
    is_well(victim)


def test_random_frames(victim):
    chance = random.Random(7)
    for _ in range(150):
        with Connection(victim.address) as connection:
            connection.send(frame(http2.HEADERS, OPEN, 1, header_block(PUT)))
            for _ in range(chance.randrange(1, 6)):
                kind, flags = chance.randrange(12), chance.randrange(256)
                stream = chance.choice([0, 1, 1, 2, 3, 2**31 - 1])
                body = chance.randbytes(chance.choice([0, 1, 4, 5, 8, 9, 100]))
                if not connection.send(frame(kind, flags, stream, body)):
                    break
    is_well(victim)


def test_damaged_headers_of_a_good_call(victim):
    chance = random.Random(11)
    good = header_block(PUT, [(b"authorization", b"Bearer flk_x"), (b"grpc-timeout", b"5S")])
    place_of_path = good.index(PUT.encode())
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            # Not in the path: see test_a_path_that_is_no_text.
            place = chance.choice(
                [*range(place_of_path), *range(place_of_path + len(PUT), len(good))]
            )
            damaged[place] = chance.randrange(256)
        with Connection(victim.address) as connection:
            connection.send(frame(http2.HEADERS, OPEN, 1, bytes(damaged)))
            connection.send(frame(http2.DATA, http2.END_STREAM, 1, message(b"\xff\xff")))
    is_well(victim)


SENSELESS = [
    (b"grpc-timeout", b"99999999999999999999H"),
    (b"grpc-timeout", b"-1S"),
    (b"grpc-timeout", b"x"),
    (b"grpc-encoding", b"snappy"),
    (b"content-type", b"text/plain"),
    (b"authorization", b"Bearer \xff\xfe\x80"),
    (b"x-request-id", b"\xc3\x28"),
    (b"x-binary-bin", b"!!! no base64 !!!"),
    (b"te", b"gzip"),
    (b"connection", b"close"),
    (b"Upper-Case", b"x"),
    (b"", b"x"),
    (b"new\nline", b"x"),
    (b":path", b"/again"),
    (b":status", b"200"),
]


def test_headers_that_make_no_sense_end_the_call(victim):
    with contextlib.ExitStack() as opened:
        calls = {}
        for path in (PUT, STREAM):
            for header in SENSELESS:
                connection = opened.enter_context(Connection(victim.address))
                connection.call(path, message(b"\x0a\x01x"), extra=[header])
                calls[path, header] = connection
        for call, connection in calls.items():
            assert connection.ended() != "silence", call
    is_well(victim)


LYING = [
    message(b"abc", length=2**32 - 1),
    message(b"abc", length=100 * MIB),
    message(b"abc", compressed=True),
    b"\x07" + message(b"abc")[1:],
    message(b"abc") + b"\x00\x00",
]
# C-core lets a call whose message never becomes whole wait for its deadline.
SHORT = [b"", b"\x00", message(b"abc", length=100)]


def test_lengths_that_lie_end_the_call(victim, front):
    with contextlib.ExitStack() as opened:
        calls = []
        for body in [*LYING, *(SHORT if front == "native" else [])]:
            calls.append(opened.enter_context(Connection(victim.address)))
            calls[-1].call(PUT, body)
        for body in SHORT:
            calls.append(opened.enter_context(Connection(victim.address)))
            calls[-1].call(PUT, body, extra=[(b"grpc-timeout", b"500m")])
        for connection in calls:
            assert connection.ended() != "silence"
    is_well(victim)


def test_a_message_of_a_huge_length_is_not_made_room_for(victim, front):
    before = victim.anonymous_bytes()
    connections = [Connection(victim.address) for _ in range(50)]
    for connection in connections:
        connection.send(frame(http2.HEADERS, OPEN, 1, header_block(PUT)))
        connection.send(frame(http2.DATA, 0, 1, message(bytes(1000), length=2**32 - 1)))
    is_well(victim)
    assert victim.anonymous_bytes() - before < 50 * MIB
    for connection in connections:
        connection.socket.close()


def test_a_flood_of_headers_is_refused(victim):
    with grpc.insecure_channel(victim.address) as channel:
        for metadata in (
            [(f"x-flood-{n}", "v" * 100) for n in range(1000)],
            [("x-long", "v" * 100_000)],
            [("x-same", "v" * 30)] * 1000,
            [("authorization", "Bearer " + "v" * 60_000)],
        ):
            for path in (PUT, "/featurestore.v1.FeatureStore/ListFeatureGroups"):
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(path)(b"", metadata=metadata, timeout=10)
                assert caught.value.code() in {
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    grpc.StatusCode.UNAVAILABLE,  # the connection is closed on it
                    grpc.StatusCode.UNKNOWN,  # HTTP's own status 431
                }
    is_well(victim)


def test_headers_that_never_end_are_cut_off(victim):
    before = victim.anonymous_bytes()
    with Connection(victim.address) as connection:
        connection.send(frame(http2.HEADERS, 0, 1, header_block(PUT)))
        part = b"".join(
            b"\x00\x08x-flood" + bytes((48 + n,)) + b"\x7f\x80\x01" + b"v" * 255 for n in range(9)
        )
        sent = 0
        while sent < 64 * MIB and connection.send(frame(http2.CONTINUATION, 0, 1, part) * 20):
            sent += 20 * len(part)
    # C-core reads on and keeps none of it.
    assert victim.anonymous_bytes() - before < 150 * MIB
    is_well(victim)


def test_calls_that_are_reset_at_once_cost_nothing(victim):
    """The rapid reset: calls begun and given up, faster than they can be answered."""
    before = victim.anonymous_bytes()
    body = message(b"\x0a\x07weather\x12\x04well")
    block = header_block(GET)
    for _ in range(10):
        with Connection(victim.address) as connection:
            for stream in range(1, 1000, 2):
                if not connection.send(
                    frame(http2.HEADERS, OPEN, stream, block)
                    + frame(http2.DATA, http2.END_STREAM, stream, body)
                    + frame(http2.RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
                ):
                    break
    until = time.monotonic() + 10
    while not _answers(victim):  # it may send clients away meanwhile
        assert time.monotonic() < until
    assert victim.anonymous_bytes() - before < 60 * MIB


def test_floods_of_pings_and_settings_hold_nothing(victim):
    before = victim.anonymous_bytes()
    for flood in (frame(http2.PING, 0, 0, bytes(8)), settings((3, 100))):
        with Connection(victim.address) as connection:
            # Whoever reads no answer is not to make the server keep them all.
            connection.socket.settimeout(0.5)
            sent = 0
            while sent < 5 * MIB and connection.send(flood * 1000):
                sent += 1000 * len(flood)
    assert victim.anonymous_bytes() - before < 60 * MIB
    is_well(victim)


def test_a_path_that_is_no_text_is_no_end(front, tmp_path, weather):
    """It ends the accept loop of grpc.aio, which the server begins again."""
    with featurestore.open(tmp_path / "home") as store:
        store.create_feature_group(weather)
        store.put("weather", WELL)
    server = ServerProcess(tmp_path / "home", tmp_path / "server.log", "--front", front)
    path = PUT.encode().replace(b"Runtime", b"Run\x9fime")
    try:
        for _ in range(2):
            with Connection(server.address) as connection:
                bad = header_block(PUT).replace(PUT.encode(), path)
                connection.send(frame(http2.HEADERS, OPEN, 1, bad))
                assert connection.ended() != "silence"
            until = time.monotonic() + 5
            while not _answers(server):
                assert time.monotonic() < until, server.log.read_text(errors="replace")
        with featurestore.connect(server.address) as store:
            assert [each.group.name for each in store.list_feature_groups()] == ["weather"]
    finally:
        assert server.stop() == 0


def _answers(server: ServerProcess) -> bool:
    try:
        is_well(server)
    except featurestore.StoreUnavailable:
        time.sleep(0.05)
        return False
    return True
