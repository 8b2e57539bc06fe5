"""The online store on Redis beside LMDB: through the embedded store, and through a server."""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import featurestore
from featurestore import FeatureStore, Get, Put
from featurestore.convert import encode_record
from featurestore.embedded import EmbeddedStore
from featurestore.server import native_is_available
from featurestore.server.runtime import SERVICE
from featurestore.v1 import record_pb2, runtime_pb2
from tests.benchmarks.child import module_command, serving
from tests.benchmarks.harness import BenchmarkSkipped, Figure, Size, compare, interleave, note
from tests.benchmarks.load import Load, Requests
from tests.benchmarks.records import GROUP, make_rows, user

__all__ = ["run"]

# Records, seconds of one sample, samples.
_SIZES: Final = {
    Size.TINY: (200, 0.02, 1),
    Size.DEFAULT: (10_000, 0.25, 3),
    Size.FULL: (100_000, 2.0, 5),
}
_ENGINES: Final = ("LMDB", "Redis, always", "Redis, everysec")
_BATCH: Final = 100
_IN_FLIGHT: Final = 64
_STEP_US: Final = 1_000_000
_START_S: Final = 10.0

_Rate = Callable[[], float]


def run(size: Size, work: Path) -> list[Figure]:
    """Measure puts and gets, one at a time, in batches, as tables, and by calls of a server."""
    records, seconds, repeats = _SIZES[size]
    if shutil.which("redis-server") is None:
        raise BenchmarkSkipped("redis-server is not installed")
    with ExitStack() as stack:
        stores = {engine: stack.enter_context(_open(stack, work, engine)) for engine in _ENGINES}
        note(f"loading {records:,} records into each engine")
        for store in stores.values():
            store.create_feature_group(GROUP)
            store.put_table(GROUP.name, _rows(0, records, records))
        figures = _embedded(stores, records, seconds, repeats)
        for store in stores.values():
            store.flush()
        homes = {engine: store.home for engine, store in stores.items()}
        figures += _served(homes, work, records, seconds, repeats)
    return figures


@contextmanager
def _open(stack: ExitStack, work: Path, engine: str) -> Iterator[EmbeddedStore]:
    name, _, kept = engine.partition(", ")
    url = None
    if name == "Redis":
        port = stack.enter_context(_redis(work / f"redis-{kept}", kept))
        url = f"redis://127.0.0.1:{port}/0?durability={kept}"
    with featurestore.open(work / f"home-{name}-{kept}", online=url) as store:
        yield store


@contextmanager
def _redis(folder: Path, appendfsync: str) -> Iterator[int]:
    """Run a Redis server with an append-only file, and give its port."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = {"port": port, "dir": folder, "save": "", "appendonly": "yes"}
    options |= {"bind": "127.0.0.1", "appendfsync": appendfsync}
    command = ["redis-server"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _rows(first: int, count: int, users: int) -> Any:
    return make_rows(first, count, users=users, step_us=_STEP_US)


# -- embedded ---------------------------------------------------------------------------------


def _embedded(
    stores: Mapping[str, FeatureStore], records: int, seconds: float, repeats: int
) -> list[Figure]:
    note("embedded, one thread")
    some = itertools.cycle(np.random.default_rng(3).integers(0, records, 4096).tolist())
    rows = _rows(0, min(records, 1_000), records).to_pylist()
    fresh = itertools.cycle(rows)
    table = _rows(0, records, records)
    name = GROUP.name

    def repeated(work: Callable[[], object], count: int) -> float:
        """Return records a second of work that handles `count` of them each time."""
        done, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            work()
            done += count
        return done / spent

    def put(store: FeatureStore) -> object:
        return store.put(name, next(fresh))

    def put_batch(store: FeatureStore) -> object:
        return store.batch_write([Put(name, next(fresh)) for _ in range(_BATCH)])

    def get(store: FeatureStore) -> object:
        return store.get(name, user(next(some)))

    def get_batch(store: FeatureStore) -> object:
        return store.batch_get([Get(name, [user(next(some)) for _ in range(_BATCH)])])

    def put_table(store: FeatureStore) -> object:
        return store.put_table(name, table)

    def get_table(store: FeatureStore) -> object:
        return store.get_table(name, table["user"])

    verbs: dict[str, tuple[Callable[[FeatureStore], object], int]] = {
        "put": (put, 1),
        f"batch_write of {_BATCH}": (put_batch, _BATCH),
        "get": (get, 1),
        f"batch_get of {_BATCH}": (get_batch, _BATCH),
        "put_table": (put_table, records),
        "get_table": (get_table, records),
    }
    figures = []
    for verb, (work, count) in verbs.items():
        figures += _compared(
            f"embedded: {verb}",
            {
                engine: partial(repeated, partial(work, store), count)
                for engine, store in stores.items()
            },
            repeats,
        )
    return figures


# -- through a server -------------------------------------------------------------------------


def _served(
    homes: Mapping[str, Path], work: Path, records: int, seconds: float, repeats: int
) -> list[Figure]:
    front = "native" if native_is_available() else "grpc"
    figures: list[Figure] = []
    with ExitStack() as stack:
        load = stack.enter_context(Load(work))
        servers = {
            engine: stack.enter_context(serving(_serve(home, front), log=work / f"{engine}.log"))
            for engine, home in homes.items()
        }
        for method, (messages, count) in _messages(records).items():
            note(f"{front} front: {method}, {_IN_FLIGHT} in flight")
            rates: dict[str, _Rate] = {}
            for engine, server in servers.items():
                requests = Requests(server.address, f"/{SERVICE}/{method}", messages)
                rates[engine] = partial(_calls, load, requests, seconds, count)
            what = method if count == 1 else f"{method} of {count}"
            figures += _compared(f"{front} front, {_IN_FLIGHT} in flight: {what}", rates, repeats)
    return figures


def _serve(home: Path, front: str) -> list[str]:
    command = module_command("featureline", "serve", "--home", home, "--grpc", "127.0.0.1:0")
    return [*command, "--flush-seconds", "86400", "--front", front]


def _calls(load: Load, requests: Requests, seconds: float, count: int) -> float:
    sample = load.run(requests, in_flight=_IN_FLIGHT, seconds=seconds, connections=1)
    return count * sample.per_second


def _messages(records: int) -> dict[str, tuple[list[bytes], int]]:
    """Return requests by method, and how many records each asks for."""
    random = np.random.default_rng(7)
    batches = []
    for _ in range(200):
        batch = runtime_pb2.BatchGetRecordRequest()
        batch.identifiers.add(
            feature_group_name=GROUP.name,
            record_identifiers_value_as_string=[
                user(number) for number in random.integers(0, records, _BATCH)
            ],
        )
        batches.append(batch.SerializeToString())
    gets = [
        runtime_pb2.GetRecordRequest(
            feature_group_name=GROUP.name, record_identifier_value_as_string=user(number)
        ).SerializeToString()
        for number in random.integers(0, records, 4096)
    ]
    puts = [
        runtime_pb2.PutRecordRequest(
            feature_group_name=GROUP.name,
            record=record_pb2.Record.FromString(encode_record(row)),
        ).SerializeToString()
        for row in _rows(0, min(records, 4096), records).to_pylist()
    ]
    return {
        "GetRecord": (gets, 1),
        "PutRecord": (puts, 1),
        "BatchGetRecord": (batches, _BATCH),
    }


def _compared(what: str, rates: Mapping[str, _Rate], repeats: int) -> list[Figure]:
    """Measure the engines in turns; each one's figure is beside LMDB's."""
    samples = interleave(rates, repeats=repeats)
    first, *others = _ENGINES
    return [
        compare(
            f"{what}, {engine}",
            "records/s",
            samples[engine],
            baseline=first,
            baseline_values=samples[first],
        )
        for engine in others
    ]
