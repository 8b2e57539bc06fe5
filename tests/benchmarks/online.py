"""The online store: calls of a server beside an empty echo on the same machine, and bulk loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import grpc
import numpy as np
import pyarrow as pa

import featurestore
from featurestore import FeatureStore
from featurestore.convert import encode_record
from featurestore.server import native_is_available
from featurestore.server.runtime import SERVICE
from featurestore.v1 import record_pb2, runtime_pb2
from tests.benchmarks import echo
from tests.benchmarks.child import Server, cpu_seconds, module_command, serving
from tests.benchmarks.harness import Bar, Figure, Size, compare, interleave, note
from tests.benchmarks.load import WARM_UP_S, Load, Requests, Sample
from tests.benchmarks.online_bulk import measure_bulk
from tests.benchmarks.records import group_named, make_rows, user

__all__ = ["run"]

_BATCH: Final = 100
_STEP_US: Final = 1_000_000
_LOADED_AT_ONCE: Final = 500_000
_REQUESTS: Final = 20_000
_BARS_AT: Final = 64
_ECHO: Final = "empty grpc.aio echo"
_CALLS: Final = ("GetRecord", "PutRecord", "BatchGetRecord")


@final
@dataclass(frozen=True)
class _Sizes:
    users: int
    many_users: int
    seconds: float
    repeats: int
    bulk_rows: int
    bulk_repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(200, 300, 0.1, 1, 500, 1),
    Size.DEFAULT: _Sizes(10_000, 100_000, 1.0, 3, 50_000, 3),
    Size.FULL: _Sizes(100_000, 10_000_000, 3.0, 5, 500_000, 3),
}


@final
@dataclass(frozen=True)
class _Scene:
    """One server under load.

    Args:
        front: what speaks gRPC.
        in_flight: calls under way, one after the other.
        workers: processes.
        features: of each record, besides identifier and event time.
        users: records in the store.
        methods: what is called.
    """

    front: str
    in_flight: tuple[int, ...] = (_BARS_AT,)
    workers: int = 1
    features: int = 10
    users: int = 0
    methods: tuple[str, ...] = _CALLS

    @property
    def connections(self) -> int:
        """Connections, so many that the kernel gives each worker its share of them."""
        return 1 if self.workers == 1 else 8 * self.workers

    def __str__(self) -> str:
        workers = "" if self.workers == 1 else f", {self.workers} workers"
        features = "" if self.features == 10 else f", {self.features} features"
        return f"{self.front} front{workers}{features}, {self.users:,} records"


def run(size: Size, work: Path) -> list[Figure]:
    """Measure calls at each number in flight, workers, wide records, a large store, bulk loads."""
    sizes = _SIZES[size]
    fronts = ["grpc", *(["native"] if native_is_available() else [])]
    best = fronts[-1]
    scenes = [_Scene(front, (1, 16, 64, 256), users=sizes.users) for front in fronts]
    scenes += [
        _Scene(best, (64, 256), workers=2, users=sizes.users, methods=_CALLS[:2]),
        _Scene(best, features=100, users=sizes.users),
        _Scene(best, users=sizes.many_users, methods=_CALLS[:2]),
    ]
    homes: dict[tuple[int, int], Path] = {}
    figures: list[Figure] = []
    with Load(work) as load:
        for scene in scenes:
            key = (scene.features, scene.users)
            if key not in homes:
                homes[key] = _home(work, scene)
            figures += _measure(scene, homes[key], load, sizes, work, size is not Size.TINY)
    with (
        serving(_serve(homes[10, sizes.users], best, 1), log=work / "bulk.log") as server,
        featurestore.connect(server.address) as remote,
    ):
        figures += measure_bulk(
            remote,
            rows=sizes.bulk_rows,
            repeats=sizes.bulk_repeats,
            work=work,
            bar=None if size is Size.TINY else Bar("value", ">=", 100_000.0),
        )
    return figures


def _home(work: Path, scene: _Scene) -> Path:
    home = work / f"home-{scene.features}-{scene.users}"
    group = group_named("profiles", scene.features)
    note(f"loading {scene.users:,} records of {scene.features} features")
    with featurestore.open(home) as store:
        store.create_feature_group(group)
        for first in range(0, scene.users, _LOADED_AT_ONCE):
            count = min(_LOADED_AT_ONCE, scene.users - first)
            store.put_table(group.name, _rows(scene, first, count))
            store.flush()
    return home


def _rows(scene: _Scene, first: int, count: int) -> pa.Table:
    return make_rows(first, count, users=scene.users, step_us=_STEP_US, features=scene.features)


def _serve(home: Path, front: str, workers: int) -> list[str]:
    # A flush within a run would be measured with some calls and not with others.
    command = module_command("featureline", "serve", "--home", home, "--grpc", "127.0.0.1:0")
    return [*command, "--flush-seconds", "86400", "--front", front, "--workers", str(workers)]


# -- calls ------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class _Method:
    """A method under load, and the server's process."""

    requests: Requests
    pid: int


@final
@dataclass(frozen=True)
class _Run:
    sample: Sample
    cpu_us: float | None


def _measure(
    scene: _Scene, home: Path, load: Load, sizes: _Sizes, work: Path, has_bars: bool
) -> list[Figure]:
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(_serve(home, scene.front, scene.workers), log=work / "server.log")
        )
        empty = stack.enter_context(
            serving(module_command("tests.benchmarks.echo"), log=work / "echo.log")
        )
        methods = _methods(scene, server, empty)
        with featurestore.connect(server.address) as remote:
            _check_calls(remote, scene, methods)
        figures: list[Figure] = []
        for in_flight in scene.in_flight:
            figures += _calls(scene, load, methods, in_flight, sizes, has_bars)
        return figures


def _methods(scene: _Scene, server: Server, empty: Server) -> dict[str, _Method]:
    random = np.random.default_rng(7)

    def some(n: int) -> list[str]:
        return [user(number) for number in random.integers(0, scene.users, n)]

    count = min(scene.users, _REQUESTS)
    requests: dict[str, list[Any]] = {
        "GetRecord": [
            runtime_pb2.GetRecordRequest(
                feature_group_name="profiles", record_identifier_value_as_string=identifier
            )
            for identifier in some(count)
        ],
        "PutRecord": [],
        "BatchGetRecord": [],
    }
    rows = _rows(scene, 0, count).to_pylist()
    for place in random.permutation(count):
        requests["PutRecord"].append(
            runtime_pb2.PutRecordRequest(feature_group_name="profiles", record=_record(rows[place]))
        )
    for _ in range(min(count, 1_000)):
        batch = runtime_pb2.BatchGetRecordRequest()
        batch.identifiers.add(
            feature_group_name="profiles", record_identifiers_value_as_string=some(_BATCH)
        )
        requests["BatchGetRecord"].append(batch)
    methods = {"echo": _Method(Requests(empty.address, echo.METHOD, [b""]), empty.pid)}
    for method in scene.methods:
        messages = [request.SerializeToString() for request in requests[method]]
        path = f"/{SERVICE}/{method}"
        methods[method] = _Method(Requests(server.address, path, messages), server.pid)
    return methods


def _calls(
    scene: _Scene,
    load: Load,
    methods: dict[str, _Method],
    in_flight: int,
    sizes: _Sizes,
    has_bars: bool,
) -> list[Figure]:
    note(f"{scene}: {', '.join(methods)}: {in_flight} in flight")

    def measure(method: _Method) -> _Run:
        before = cpu_seconds(method.pid)
        sample = load.run(
            method.requests,
            in_flight=in_flight,
            seconds=sizes.seconds,
            connections=scene.connections,
        )
        after = cpu_seconds(method.pid)
        if before is None or after is None:
            return _Run(sample, None)
        # The warm-up's calls cost the same as the others.
        calls = sample.per_second * (sizes.seconds + WARM_UP_S)
        return _Run(sample, 1e6 * (after - before) / calls)

    runs = interleave(
        {name: partial(measure, method) for name, method in methods.items()},
        repeats=sizes.repeats,
    )
    bars: dict[tuple[str, str], Bar] = {}
    if has_bars and in_flight == _BARS_AT and (scene.workers, scene.features) == (1, 10):
        bars = {
            ("GetRecord", "calls"): Bar("ratio", ">=", 0.7 if scene.front == "grpc" else 8.0),
            ("BatchGetRecord", "calls"): Bar("value", ">=", 150_000.0),
        }
        if scene.front == "native":
            bars["GetRecord", "p99"] = Bar("value", "<=", 5.0)
            bars["PutRecord", "calls"] = Bar("ratio", ">=", 3.5)
    figures = []
    for method in scene.methods:
        figures += _figures_of(scene, method, runs[method], runs["echo"], in_flight, bars)
    return figures


def _figures_of(
    scene: _Scene,
    method: str,
    runs: Sequence[_Run],
    echoes: Sequence[_Run],
    in_flight: int,
    bars: dict[tuple[str, str], Bar],
) -> list[Figure]:
    what = {
        "GetRecord": "GetRecord",
        "PutRecord": "PutRecord, durable in both stores",
        "BatchGetRecord": f"BatchGetRecord of {_BATCH}",
    }[method]
    records, unit, counted = 1, "calls/s", ""
    if method == "BatchGetRecord":
        records, unit, counted = _BATCH, "records/s", f", each call counted as {_BATCH}"

    def figure(name: str, unit: str, key: str, read: Callable[[_Run], float]) -> Figure:
        return compare(
            f"{scene}: {what}, {in_flight} in flight{name}",
            unit,
            [read(run) for run in runs],
            baseline=f"{_ECHO}{counted if key == 'calls' else ''}",
            baseline_values=[read(run) for run in echoes],
            bar=bars.get((method, key)),
        )

    figures = [
        figure("", unit, "calls", lambda run: run.sample.per_second * records),
        figure(": p50", "ms", "p50", lambda run: run.sample.p50_ms),
        figure(": p99", "ms", "p99", lambda run: run.sample.p99_ms),
        figure(": p999", "ms", "p999", lambda run: run.sample.p999_ms),
    ]
    if all(run.cpu_us for run in (*runs, *echoes)):
        # The load generator may be what limits the calls of both; the server's own time is not
        # its matter.
        figures.append(
            figure(": the server's CPU time", "µs/call", "cpu", lambda run: run.cpu_us or 0.0)
        )
    return figures


def _check_calls(store: FeatureStore, scene: _Scene, methods: Mapping[str, _Method]) -> None:
    """Make each call once by a client that reads the replies, which the load generator does not."""
    first = _rows(scene, 0, 1).to_pylist()[0]
    store.put("profiles", first)
    if store.get("profiles", first["user"]) != first:
        raise AssertionError(f"the server does not return the record of {first['user']}")
    for method in methods.values():
        requests = method.requests
        with grpc.insecure_channel(requests.address) as channel:
            call = channel.unary_unary(requests.method, _as_is, _as_is)
            call(requests.messages[0], timeout=10.0)


def _as_is(message: bytes) -> bytes:
    return message


def _record(values: dict[str, Any]) -> record_pb2.Record:
    return record_pb2.Record.FromString(encode_record(values))
