"""Events of OpenLineage over HTTP, durable at the reply, beside empty calls of the same listener.

`openlineage_figures` is called by the benchmark `lineage`; alone: `python -m
tests.benchmarks.lineage_openlineage`.
"""

from __future__ import annotations

import gzip
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.benchmarks.harness import Figure, Size, compare, interleave, machine, note, print_table
from tests.soak.server import ServerProcess

__all__ = ["openlineage_figures"]

_THREADS: Final = 8
_BATCH: Final = 100
_SIZES: Final = {
    # Runs of each thread, repeats.
    Size.TINY: (2, 1),
    Size.DEFAULT: (60, 3),
    Size.FULL: (200, 5),
}
_JSON: Final = {"content-type": "application/json"}


def openlineage_figures(size: Size, work: Path) -> list[Figure]:
    """Measure a server process that takes runs of two events each from several connections."""
    runs, repeats = _SIZES[size]
    numbers = iter(range(1_000_000))
    note(f"OpenLineage over HTTP: {2 * runs * _THREADS:,} events from {_THREADS} connections")
    server = ServerProcess(work / "openlineage", work / "openlineage.log", "--http", "127.0.0.1:0")
    try:
        address = str(server.ready["http"])

        def single() -> float:
            return _rate(address, [_posts(next(numbers), runs) for _ in range(_THREADS)])

        def empty() -> float:
            calls = [("GET", "/healthz", b"", {})] * (2 * runs)
            return _rate(address, [calls] * _THREADS)

        def batches() -> float:
            parts = [_batches(next(numbers), runs) for _ in range(_THREADS)]
            return _rate(address, parts) * _BATCH

        samples = interleave(
            {"single": single, "empty": empty, "batches": batches}, repeats=repeats
        )
    finally:
        server.kill()
    return [
        compare(
            f"OpenLineage events over HTTP, durable, {_THREADS} connections",
            "events/s",
            samples["single"],
            baseline="GET /healthz of the same server",
            baseline_values=samples["empty"],
        ),
        compare(
            f"OpenLineage events over HTTP in gzipped batches of {_BATCH}",
            "events/s",
            samples["batches"],
            baseline="one by one",
            baseline_values=samples["single"],
        ),
    ]


_Call = tuple[str, str, bytes, dict[str, str]]


def _posts(number: int, runs: int) -> list[_Call]:
    return [
        ("POST", "/api/v1/lineage", json.dumps(event).encode(), _JSON)
        for event in _events(number, runs)
    ]


def _batches(number: int, runs: int) -> list[_Call]:
    events = _events(number, max(runs, _BATCH))
    headers = {**_JSON, "content-encoding": "gzip"}
    return [
        (
            "POST",
            "/api/v1/lineage/batch",
            gzip.compress(json.dumps(events[place : place + _BATCH]).encode(), 1),
            headers,
        )
        for place in range(0, len(events) - _BATCH + 1, _BATCH)
    ]


def _events(number: int, runs: int) -> list[dict[str, Any]]:
    """Two events for each run: two inputs, one output, a schema and four column edges."""
    facet = {"_producer": "https://example.org/job", "_schemaURL": "https://example.org/facet"}
    fields = [{"name": f"column_{place}", "type": "DOUBLE"} for place in range(12)]
    inputs = [
        {
            "namespace": "s3://bucket",
            "name": f"raw-{number % 50}-{place}",
            "facets": {"schema": {**facet, "fields": fields}},
        }
        for place in range(2)
    ]
    columns = {
        f"column_{place}": {
            "inputFields": [
                {
                    "namespace": "s3://bucket",
                    "name": inputs[place % 2]["name"],
                    "field": f"column_{place}",
                    "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}],
                }
            ]
        }
        for place in range(4)
    }
    output = {
        "namespace": "s3://bucket",
        "name": f"flights-{number}",
        "facets": {
            "schema": {**facet, "fields": fields},
            "columnLineage": {**facet, "fields": columns},
        },
        "outputFacets": {"outputStatistics": {**facet, "rowCount": 1000}},
    }
    return [
        {
            "eventType": state,
            "eventTime": f"2026-01-31T12:00:{second:02}.000Z",
            "producer": "https://example.org/job",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": str(UUID(int=(number << 64) | run | 1 << 120))},
            "job": {"namespace": "airflow", "name": f"load-{number % 50}"},
            "inputs": inputs,
            "outputs": [output],
        }
        for run in range(runs)
        for second, state in enumerate(("START", "COMPLETE"))
    ]


def _rate(address: str, parts: Sequence[Sequence[_Call]]) -> float:
    """Make the calls of each part on a connection of its own; return calls per second."""
    barrier = threading.Barrier(len(parts) + 1)
    failed: list[str] = []

    def work(calls: Sequence[_Call]) -> None:
        with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
            connection.connect()
            barrier.wait()
            for method, path, body, headers in calls:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                said = response.read()
                if response.status not in (200, 204) or said.startswith(b'{"status"'):
                    failed.append(said.decode(errors="replace"))
                    return

    threads = [threading.Thread(target=work, args=(calls,)) for calls in parts]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failed:
        raise RuntimeError(f"a call failed: {failed[0][:500]}")
    return sum(map(len, parts)) / seconds


def main(
    figures: Callable[[Size, Path], list[Figure]] = openlineage_figures, name: str = "openlineage"
) -> None:
    """Print the figures alone."""
    with tempfile.TemporaryDirectory() as folder:
        found = figures(Size.DEFAULT, Path(folder))
    print_table(name, found, machine(Size.DEFAULT))


if __name__ == "__main__":
    main()
