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
    selections = [store.group(group["name"])[group["features"]] for group in request["groups"]]
    return lambda: store.dataset(request["spine"], selections).table


def join_with_duckdb(request: Mapping[str, Any]) -> Callable[[], pa.Table]:
    """The least that gives the same values: no delete markers, no versions of one time."""
    import duckdb

    connection: Any = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns, joins = [], []
    parameters = {"spine": request["spine"]}
    for number, group in enumerate(request["groups"]):
        names = ", ".join(["_event_time", *group["features"]])
        columns += [f"h{number}.{name} AS {name}_{number}" for name in group["features"]]
        joins.append(
            f'ASOF LEFT JOIN (SELECT "user", {names} FROM read_parquet($files{number})) h{number}'
            f' ON s."user" = h{number}."user" AND s.event_time >= h{number}._event_time'
        )
        parameters[f"files{number}"] = group["files"]
    query = f"SELECT s.*, {', '.join(columns)} FROM read_parquet($spine) s {' '.join(joins)}"
    return lambda: connection.sql(query, params=parameters).to_arrow_table()


def join_with_polars(request: Mapping[str, Any]) -> Callable[[], pa.Table]:
    """The same with Polars, whose join_asof needs both sides in the order of time."""
    import polars

    def join() -> pa.Table:
        joined = polars.scan_parquet(request["spine"]).with_row_index("_row").sort("event_time")
        for number, group in enumerate(request["groups"]):
            names = {name: f"{name}_{number}" for name in group["features"]}
            history = (
                polars.scan_parquet(group["files"])
                .select("user", "_event_time", *names)
                .rename(names)
                .sort("_event_time")
            )
            joined = joined.join_asof(
                history,
                left_on="event_time",
                right_on="_event_time",
                by="user",
                strategy="backward",
                check_sortedness=False,
                coalesce=True,
            )
            if "_event_time" in joined.collect_schema().names():
                joined = joined.drop("_event_time")
        return joined.sort("_row").drop("_row").collect().to_arrow()

    return join


ENGINES: Final = {
    "featureline": join_with_featureline,
    "duckdb": join_with_duckdb,
    "polars": join_with_polars,
}


def main(text: str) -> None:
    """Join, and print what it took and a digest of what came out."""
    request = json.loads(text)
    join = ENGINES[request["engine"]](request)
    began, began_cpu = time.perf_counter(), time.process_time()
    table = join()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    # The peak before the digest, which is none of the join's business.
    peak = peak_bytes()
    # Engines name the columns of several groups differently, but have them in one order.
    features = sum(len(group["features"]) for group in request["groups"])
    values = [column.drop_null() for column in table.columns[-features:]]
    figures = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak": peak,
        "rows": len(table),
        "matched": sum(map(len, values)),
        "sum": sum(pc.sum(v).as_py() or 0 for v in values if pa.types.is_int64(v.type)),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
