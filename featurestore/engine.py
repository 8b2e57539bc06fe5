"""Which engine joins a dataset: DuckDB in this process, or Spark on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from featurestore import datasetbuild, spark, streamed
from featurestore.dataset import Dataset, Resolved
from featurestore.errors import InvalidRequest
from featurestore.spine import spine_batches
from featurestore.streamed import WrittenDataset, memory_bytes

__all__ = ["Engine", "build", "check_engine", "write"]

Engine = Literal["duckdb", "spark"]


def check_engine(engine: str, session: object | None = None, **limits: object) -> None:
    """Refuse an engine that does not exist, and arguments that are another one's.

    Args:
        engine: `duckdb` or `spark`.
        session: of Spark.
        limits: DuckDB's arguments by name; None: not given.

    Raises:
        InvalidRequest: one of them does not fit.
    """
    if engine not in ("duckdb", "spark"):
        raise InvalidRequest(f"engine: expected 'duckdb' or 'spark', got {engine!r}")
    if engine == "duckdb" and session is not None:
        raise InvalidRequest("spark: a session is for engine='spark', the engine is 'duckdb'")
    given = [name for name, value in limits.items() if value is not None]
    if engine == "spark" and given:
        raise InvalidRequest(
            f"{given[0]}: this is for engine='duckdb'; Spark's session has its own settings, such "
            f"as spark.executor.memory"
        )


def build(
    spine: pa.Table,
    resolved: Sequence[Resolved],
    *,
    engine: Engine,
    time: str,
    as_of_us: int | None,
    threads: int | None,
    session: Any | None,
) -> Dataset:
    """Build a dataset in memory; see `datasetbuild.build` and `spark.build`."""
    check_engine(engine, session, threads=threads)
    if engine == "spark":
        return spark.build(spine, resolved, time=time, as_of_us=as_of_us, spark=session)
    return datasetbuild.build(spine, resolved, time=time, as_of_us=as_of_us, threads=threads)


def write(
    spine: object,
    resolved: Sequence[Resolved],
    path: Path,
    *,
    engine: Engine,
    time: str,
    as_of_us: int | None,
    recorded: Callable[[dict[str, Any]], dict[str, Any]],
    memory_limit: int | str | None,
    threads: int | None,
    on_progress: Callable[[int], None] | None,
    session: Any | None,
) -> WrittenDataset:
    """Build a dataset into a file or folder; see `streamed.write` and `spark.write`."""
    if engine == "spark":
        return spark.write(
            spine,
            resolved,
            path,
            time=time,
            as_of_us=as_of_us,
            recorded=recorded,
            spark=session,
        )
    if memory_limit is None:
        raise InvalidRequest(
            "memory_limit: expected bytes or a text like 512MB for engine='duckdb', got None"
        )
    return streamed.write(
        spine_batches(spine),
        resolved,
        path,
        time=time,
        as_of_us=as_of_us,
        memory_limit=memory_bytes(memory_limit),
        recorded=recorded,
        threads=threads,
        on_progress=on_progress,
    )
