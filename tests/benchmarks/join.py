"""One point-in-time join in a process of its own: `… join REQUEST` prints its figures.

The clock runs from the open home and the file names to the Arrow table in memory; imports are
before it. The peak is that of the whole process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks.child import peak_bytes

# Each engine imports what it needs and no more: imports take memory too.


def join_with_featureline(request: Mapping[str, Any]) -> Callable[[], pa.Table]:
    """The dataset as users build it: checked, digested and recorded in lineage too."""
    import featurestore

    store = featurestore.open(request["home"])
    return lambda: store.dataset(request["spine"], [request["group"]]).table


def join_with_duckdb(request: Mapping[str, Any]) -> Callable[[], pa.Table]:
    """The least that gives the same values: no delete markers, no versions of one time."""
    import duckdb

    connection: Any = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    features = request["features"]
    query = f"""
        SELECT s.*, {", ".join(f"h.{name}" for name in features)}
        FROM read_parquet($spine) s
        ASOF LEFT JOIN (
            SELECT "user", _event_time, {", ".join(features)} FROM read_parquet($files)
        ) h ON s."user" = h."user" AND s.event_time >= h._event_time
    """
    parameters = {"spine": request["spine"], "files": request["files"]}
    return lambda: connection.sql(query, params=parameters).to_arrow_table()


ENGINES: Final = {"featureline": join_with_featureline, "duckdb": join_with_duckdb}


def main(text: str) -> None:
    """Join, and print what it took and a digest of what came out."""
    request = json.loads(text)
    join = ENGINES[request["engine"]](request)
    began, began_cpu = time.perf_counter(), time.process_time()
    table = join()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    # The peak before the digest, which is none of the join's business.
    peak = peak_bytes()
    matched = table[request["features"][0]].drop_null()
    figures = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak": peak,
        "rows": len(table),
        "matched": len(matched),
        "sum": pc.sum(matched).as_py(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
