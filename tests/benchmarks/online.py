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
from tests.benchmarks.load import WARM_UP_S, Load, Requests, Sample, best_load
from tests.benchmarks.online_bulk import measure_bulk
from tests.benchmarks.records import FEATURES, GROUP, make_rows, user

__all__ = ["run"]

_IN_FLIGHT: Final = (1, 16, 64)
_BATCH: Final = 100
_STEP_US: Final = 1_000_000
_ECHO: Final = "empty grpc.aio echo"


@final
@dataclass(frozen=True)
class _Sizes:
    users: int
    seconds: float
    repeats: int
    bulk_rows: int
    bulk_repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(200, 0.1, 1, 500, 1),
    Size.DEFAULT: _Sizes(10_000, 1.0, 3, 50_000, 3),
    Size.FULL: _Sizes(100_000, 5.0, 7, 500_000, 3),
}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure calls at each number in flight, then bulk loads."""
    sizes = _SIZES[size]
    has_bars = size is not Size.TINY
    home = work / "home"
    rows = make_rows(0, sizes.users, users=sizes.users, step_us=_STEP_US)
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
        store.put_table(GROUP.name, rows)
        store.flush()
    figures: list[Figure] = []
    fronts = ["grpc", *(["native"] if native_is_available() else [])]
    for front in fronts:
        # A flush within a run would be measured with some calls and not with others.
        serve = module_command("featureline", "serve", "--home", home, "--grpc", "127.0.0.1:0")
        serve += ["--flush-seconds", "86400", "--front", front]
        with ExitStack() as stack:
            server = stack.enter_context(serving(serve, log=work / f"{front}.log"))
            empty = stack.enter_context(
                serving(module_command("tests.benchmarks.echo"), log=work / "echo.log")
            )
            remote = stack.enter_context(featurestore.connect(server.address))
            methods = _methods(server, empty, rows)
            _check_calls(remote, rows, methods)
            load = stack.enter_context(best_load(work))
            for in_flight in _IN_FLIGHT:
                figures += _calls(load, methods, in_flight, sizes, front, has_bars)
            if front == fronts[-1]:
                figures += measure_bulk(
                    remote,
                    rows=sizes.bulk_rows,
                    repeats=sizes.bulk_repeats,
                    work=work,
                    bar=Bar("value", ">=", 100_000.0) if has_bars else None,
                )
    return figures


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


def _methods(server: Server, empty: Server, rows: pa.Table) -> dict[str, _Method]:
    random = np.random.default_rng(7)
    count = len(rows)

    def some(n: int) -> list[str]:
        return [user(number) for number in random.integers(0, count, n)]

    gets = [
        runtime_pb2.GetRecordRequest(
            feature_group_name=GROUP.name, record_identifier_value_as_string=identifier
        )
        for identifier in some(count)
    ]
    puts = [
        runtime_pb2.PutRecordRequest(feature_group_name=GROUP.name, record=_record(row))
        for row in rows.to_pylist()
    ]
    batches = []
    for _ in range(min(count, 1_000)):
        batch = runtime_pb2.BatchGetRecordRequest()
        batch.identifiers.add(
            feature_group_name=GROUP.name, record_identifiers_value_as_string=some(_BATCH)
        )
        batches.append(batch)
    methods = {"echo": _Method(Requests(empty.address, echo.METHOD, [b""]), empty.pid)}
    for method, requests in (("GetRecord", gets), ("PutRecord", puts), ("BatchGetRecord", batches)):
        messages = [request.SerializeToString() for request in requests]
        path = f"/{SERVICE}/{method}"
        methods[method] = _Method(Requests(server.address, path, messages), server.pid)
    return methods


def _calls(
    load: Load,
    methods: dict[str, _Method],
    in_flight: int,
    sizes: _Sizes,
    front: str,
    has_bars: bool,
) -> list[Figure]:
    note(f"{front} front: {', '.join(methods)}: {in_flight} in flight")

    def measure(method: _Method) -> _Run:
        before = cpu_seconds(method.pid)
        sample = load.run(method.requests, in_flight=in_flight, seconds=sizes.seconds)
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
    if has_bars and in_flight == max(_IN_FLIGHT):
        bars = {
            ("GetRecord", "calls"): Bar("ratio", ">=", 0.7 if front == "grpc" else 8.0),
            ("BatchGetRecord", "calls"): Bar("value", ">=", 150_000.0),
        }
        if front == "native":
            bars["GetRecord", "p99"] = Bar("value", "<=", 5.0)
            bars["PutRecord", "calls"] = Bar("ratio", ">=", 3.5)
    figures = []
    for method in ("GetRecord", "PutRecord", "BatchGetRecord"):
        figures += _figures_of(method, load, runs[method], runs["echo"], in_flight, front, bars)
    return figures


def _figures_of(
    method: str,
    load: Load,
    runs: Sequence[_Run],
    echoes: Sequence[_Run],
    in_flight: int,
    front: str,
    bars: dict[tuple[str, str], Bar],
) -> list[Figure]:
    what = {
        "GetRecord": f"GetRecord ({len(FEATURES)} features)",
        "PutRecord": f"PutRecord ({len(FEATURES)} features), durable in both stores",
        "BatchGetRecord": f"BatchGetRecord of {_BATCH}",
    }[method]
    records, unit, counted = 1, "calls/s", ""
    if method == "BatchGetRecord":
        records, unit, counted = _BATCH, "records/s", f", each call counted as {_BATCH}"

    def figure(name: str, unit: str, key: str, read: Callable[[_Run], float]) -> Figure:
        return compare(
            f"{front} front: {what}, {in_flight} in flight{name}",
            unit,
            [read(run) for run in runs],
            baseline=f"{_ECHO}, by {load.name}{counted if key == 'calls' else ''}",
            baseline_values=[read(run) for run in echoes],
            bar=bars.get((method, key)),
        )

    figures = [
        figure("", unit, "calls", lambda run: run.sample.per_second * records),
        figure(": p50", "ms", "p50", lambda run: run.sample.p50_ms),
        figure(": p99", "ms", "p99", lambda run: run.sample.p99_ms),
    ]
    if in_flight == max(_IN_FLIGHT) and all(run.cpu_us for run in (*runs, *echoes)):
        # The load generator may be what limits the calls of both; the server's own time is not
        # its matter.
        figures.append(
            figure(": the server's CPU time", "µs/call", "cpu", lambda run: run.cpu_us or 0.0)
        )
    return figures


def _check_calls(store: FeatureStore, rows: pa.Table, methods: Mapping[str, _Method]) -> None:
    """Make each call once by a client that reads the replies, which h2load does not."""
    first = rows.slice(0, 1).to_pylist()[0]
    store.put(GROUP.name, first)
    if store.get(GROUP.name, first["user"]) != first:
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
