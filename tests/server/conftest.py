"""Servers inside the test's process, and the same group behind every kind of store."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import featurestore
import lineage
from featureline.server import Server
from featurestore import FeatureGroup, FeatureStore, aio, feature_definitions
from featurestore.awaited_builder import AwaitedBuilder
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.server import native_is_available


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Serving:
    """The server of `featureline serve` over a home, on a free port of this machine.

    Args:
        loop: where it runs.
        home: its folder.
        front: what speaks gRPC.
        options: more of `Server`.
    """

    def __init__(self, loop: Loop, home: Path, front: str, **options: Any) -> None:
        self.home = home
        self.front = front
        self._options = options
        self._loop = loop
        self.store: EmbeddedStore = open_store(home)
        self._server: Server = loop.run(self._start())
        self.address = self._server.address
        self._stopped = False

    async def _start(self) -> Server:
        server = Server(self.store, "127.0.0.1:0", front=self.front, **self._options)
        await server.start()
        return server

    def refuse_health(self) -> None:
        self._loop.run(self._server.refuse_health())

    def stop(self, drain_s: float = 1.0) -> None:
        if not self._stopped:
            self._stopped = True
            self._loop.run(self._server.stop(drain_s))
            self.store.close()


class Blocking:
    """The asynchronous client with the synchronous store's verbs."""

    def __init__(self, loop: Loop, target: str, **options: Any) -> None:
        self._loop = loop
        self._target = target

        async def connect() -> aio.AsyncStore:
            return aio.connect(target, **options)

        self._store = loop.run(connect())

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        method = getattr(self._store, verb)
        return lambda *args, **kwargs: self._loop.run(method(*args, **kwargs))

    @cached_property
    def graph(self) -> lineage.LineageClient:
        return lineage.connect(self._target)

    def records(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        return self._listed(self._store.records(*args, **kwargs))

    def records_behind(self, start: str) -> Iterator[pa.Table]:
        return self._listed(self._store.records_behind(start))

    def create_dataset(self, *args: Any, **kwargs: Any) -> BlockingBuilder:
        begun = self._loop.run(self._store.create_dataset(*args, **kwargs))
        return BlockingBuilder(self._loop, begun)

    def close(self) -> None:
        graph = self.__dict__.pop("graph", None)
        if graph is not None:
            graph.close()
        self._loop.run(self._store.close())

    def _listed(self, found: AsyncIterator[Any]) -> Iterator[Any]:
        async def listed() -> list[Any]:
            return [one async for one in found]

        return iter(self._loop.run(listed()))


class BlockingBuilder:
    """The asynchronous client's builder with the synchronous one's methods."""

    def __init__(self, loop: Loop, builder: AwaitedBuilder) -> None:
        self._loop = loop
        self._builder = builder

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._builder, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            if inspect.iscoroutine(found):
                found = self._loop.run(found)
            return self if found is self._builder else found

        return call


WEATHER = FeatureGroup(
    "weather",
    record_identifier="origin",
    event_time="hour",
    features=feature_definitions(
        [
            ("origin", "String"),
            ("hour", "String"),
            ("temp", "Fractional"),
            ("wind", "Integral"),
            ("note", "String"),
        ]
    ),
    description="Hourly weather",
    tags={"team": "operations"},
)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    # One loop for all of a module: grpc.aio shares one socket among the loops of a process.
    opened = Loop()
    yield opened
    opened.close()


FRONTS = ["grpc", "native"]


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """What speaks gRPC: every test of a server holds for both."""
    return installed(str(request.param))


def installed(front: str) -> str:
    """A front, where it can run; CI has them all."""
    if front == "native" and not native_is_available():
        assert os.environ.get("CI") != "true", "the native front is not installed"
        pytest.skip("the extra `fast` is not installed")
    return front


@pytest.fixture(scope="module")
def new_server(
    loop: Loop, front: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Serving]]:
    """Start a server over a home of its own."""
    started: list[Serving] = []

    def start(**options: Any) -> Serving:
        started.append(Serving(loop, tmp_path_factory.mktemp("served"), front, **options))
        return started[-1]

    yield start
    for serving in started:
        serving.stop()


@pytest.fixture
def serving(loop: Loop, tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Start a server with a front, over an empty home."""
    started: list[Serving] = []

    def start(front: str, **options: Any) -> Serving:
        home = tmp_path / f"served-{len(started)}"
        started.append(Serving(loop, home, installed(front), **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def server(serving: Callable[[str], Serving], front: str) -> Serving:
    """A server over an empty home."""
    return serving(front)


@pytest.fixture
def remote(server: Serving) -> Iterator[FeatureStore]:
    """A client of the server."""
    with featurestore.connect(server.address) as store:
        yield store


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[FeatureStore]:
    """An embedded store over an empty home."""
    with featurestore.open(tmp_path / "embedded") as store:
        yield store


@pytest.fixture
def opened(
    loop: Loop, serving: Callable[[str], Serving], tmp_path: Path
) -> Iterator[Callable[[str], Any]]:
    """Open an empty store: `embedded`, `remote-FRONT`, or `awaited-FRONT` (asynchronous)."""
    stores: list[Any] = []

    def open_one(kind: str) -> Any:
        client, _, front = kind.partition("-")
        if client == "embedded":
            stores.append(featurestore.open(tmp_path / "embedded"))
        elif client == "remote":
            stores.append(featurestore.connect(serving(front).address))
        else:
            stores.append(Blocking(loop, serving(front).address))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture(params=["embedded", *(f"remote-{front}" for front in FRONTS)])
def store(request: pytest.FixtureRequest, opened: Callable[[str], Any]) -> FeatureStore:
    """Every kind of store with all verbs, empty."""
    store: FeatureStore = opened(request.param)
    return store


@pytest.fixture(
    params=["embedded", *(f"{c}-{front}" for c in ("remote", "awaited") for front in FRONTS)]
)
def record_store(request: pytest.FixtureRequest, opened: Callable[[str], Any]) -> Any:
    """Every kind of store, the asynchronous client too, with the group `weather`."""
    store = opened(request.param)
    store.create_feature_group(WEATHER)
    return store


@pytest.fixture(scope="module")
def refusing(
    loop: Loop, new_server: Callable[[], Serving], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Every kind of store, with `weather` and two groups of one store, for what changes nothing."""
    serving = new_server()
    stores = {
        "embedded": featurestore.open(tmp_path_factory.mktemp("embedded")),
        "remote": featurestore.connect(serving.address),
        "awaited": Blocking(loop, serving.address),
    }
    for name in ("embedded", "remote"):
        for group in (
            WEATHER,
            replace(WEATHER, name="online-only", offline=False),
            replace(WEATHER, name="offline-only", online=False),
        ):
            stores[name].create_feature_group(group)
    yield stores
    for store in stores.values():
        store.close()


@pytest.fixture(scope="session")
def weather() -> FeatureGroup:
    return WEATHER


@pytest.fixture(scope="session")
def reading() -> Callable[..., dict[str, object]]:
    """Make a record of `weather`; a value of None leaves the feature out."""

    def make(origin: str = "JFK", hour: int = 6, **changes: object) -> dict[str, object]:
        record: dict[str, object] = {
            "origin": origin,
            "hour": f"2013-01-01T{hour:02d}:00:00Z",
            "temp": 39.0,
            "wind": 7,
        }
        return record | changes

    return make


@pytest.fixture
def connect_later(loop: Loop) -> Callable[..., Sequence[Any]]:
    """Make both clients of an address."""

    def make(address: str, **options: Any) -> Sequence[Any]:
        return featurestore.connect(address, **options), Blocking(loop, address, **options)

    return make
