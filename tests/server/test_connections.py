"""Ten thousand clients that are connected and say nothing."""

from __future__ import annotations

import contextlib
import resource
import statistics
import time
from collections.abc import Iterator

import pytest

import featurestore
from featurestore.embedded import open_store
from tests.server.http2 import PREFACE, SETTINGS, Connection, frame
from tests.soak.server import ServerProcess

KIB = 1024
IDLE = 10_000


@pytest.fixture
def server(tmp_path, front, weather, reading) -> Iterator[ServerProcess]:
    with open_store(tmp_path / "home") as store:
        store.create_feature_group(weather)
        store.put("weather", reading())
    started = ServerProcess(tmp_path / "home", tmp_path / "server.log", "--front", front)
    yield started
    started.kill()
    assert "Traceback" not in started.log.read_text()


@pytest.fixture
def many_files() -> Iterator[int]:
    """Let this process open as many files as it may, and say how many connections that makes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(IDLE, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_cost_little(server, many_files):
    def milliseconds() -> float:
        times = []
        for _ in range(200):
            began = time.perf_counter()
            assert client.get("weather", "JFK") is not None
            times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    with featurestore.connect(server.address) as client, contextlib.ExitStack() as idle:
        milliseconds()
        before, alone = server.anonymous_bytes(), milliseconds()
        for n in range(many_files):
            connection = Connection(server.address, greet=False)
            idle.callback(connection.socket.close)
            assert connection.send(PREFACE + frame(SETTINGS, 0, 0))
            if n % 100 == 99 or n == many_files - 1:
                # In step with the server, whose backlog would overflow; and the last is served.
                assert next(connection.frames()).kind == SETTINGS
        among = milliseconds()
        each = (server.anonymous_bytes() - before) / many_files
        print(f"{many_files} idle: {each / KIB:.1f} KiB each, {alone:.2f} → {among:.2f} ms")

        assert each < 40 * KIB, f"{each / KIB:.1f} KiB each"
        with featurestore.connect(f"localhost:{server.address.rpartition(':')[2]}") as late:
            assert late.get("weather", "JFK") is not None, "one more is served"
    until = time.monotonic() + 10
    while server.open_files() > 200:
        assert time.monotonic() < until, "connections that were closed are kept"
        time.sleep(0.05)
