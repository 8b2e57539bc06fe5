"""Lineage both ways from a job: our graph beside a recursive array-overlap join in PostgreSQL.

The join is how Marquez's database answers a lineage request: every job with the arrays of what it
reads and writes, and a recursion over jobs whose arrays overlap. It is written anew here, over the
same jobs and data sets.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import lineage
from lineage import Entity, Graph
from tests.benchmarks.harness import Bar, Figure, Size, compare, interleave, note
from tests.lineage.postgres import PostgresServer

__all__ = ["marquez_figures"]

_DEPTH: Final = 20
_WINDOW: Final = 8
# Pipelines, jobs of each, and queries.
_SIZES: Final = {Size.TINY: (2, 8, 1), Size.DEFAULT: (100, 70, 3), Size.FULL: (100, 70, 11)}
_TABLE: Final = """
CREATE TABLE job_dataset (job TEXT NOT NULL, dataset TEXT NOT NULL, is_output BOOLEAN NOT NULL);
CREATE INDEX ON job_dataset (job);
CREATE INDEX ON job_dataset (dataset);
"""
_OVERLAP: Final = """
WITH RECURSIVE io AS (
    SELECT job,
           coalesce(array_agg(DISTINCT dataset) FILTER (WHERE NOT is_output), '{}') AS inputs,
           coalesce(array_agg(DISTINCT dataset) FILTER (WHERE is_output), '{}') AS outputs
    FROM job_dataset
    GROUP BY job
), reached (job, inputs, outputs, depth) AS (
    SELECT job, inputs, outputs, 0 FROM io WHERE job = %s
    UNION
    SELECT io.job, io.inputs, io.outputs, reached.depth + 1
    FROM reached
    JOIN io ON io.job <> reached.job
           AND (io.inputs || io.outputs) && (reached.inputs || reached.outputs)
    WHERE reached.depth < %s
)
SELECT DISTINCT ON (job) job, inputs, outputs FROM reached ORDER BY job, depth
"""

_Job = tuple[str, list[str], str]
"""Name, what it reads and what it writes."""


def marquez_figures(size: Size, server: PostgresServer, work: Path) -> list[Figure]:
    """Measure the same question to the overlap join, to our file and to our PostgreSQL store."""
    import psycopg

    pipelines, length, queries = _SIZES[size]
    count = pipelines * length
    note(f"lineage both ways in {count:,} jobs, beside an array-overlap join")
    jobs = _jobs(pipelines, length)
    starts = [jobs[place * length + length // 2][0] for place in range(min(pipelines, queries))]
    ms: dict[str, list[float]] = {}
    with (
        psycopg.connect(server.url, autocommit=True) as connection,
        lineage.open(work / "marquez.db") as file,
        lineage.open(server.new_url()) as shared,
    ):
        _fill(connection, jobs)
        for graph in (file, shared):
            _record(graph, jobs)
            graph.mirroring.close()  # what is measured here is the store

        def joined(start: str) -> set[str]:
            return {row[0] for row in connection.execute(_OVERLAP, (start, _DEPTH)).fetchall()}

        asked: dict[str, Callable[[str], set[str]]] = {
            "join": joined,
            "file": lambda start: _reached(file, start),
            "shared": lambda start: _reached(shared, start),
        }
        for start in starts:
            answers = interleave(
                {name: lambda ask=ask: _timed(ask, start) for name, ask in asked.items()},  # type: ignore[misc]  # noqa: B023
                repeats=1,
            )
            found = {name: samples[0][1] for name, samples in answers.items()}
            if not found["join"] == found["file"] == found["shared"]:
                raise AssertionError(f"{start}: the answers differ: {found}")
            for name, samples in answers.items():
                ms.setdefault(name, []).append(samples[0][0])
    bar = None if size is Size.TINY else Bar("ratio", "<=", 1 / 500)
    return [
        compare(
            f"lineage both ways of a job in {count:,} jobs, depth {_DEPTH}, from {where}",
            "ms",
            ms[name],
            baseline="a recursive array-overlap join in PostgreSQL, as Marquez has it",
            baseline_values=ms["join"],
            bar=bar if name == "file" else None,
        )
        for name, where in (("file", "the file"), ("shared", "PostgreSQL"))
    ]


def _jobs(pipelines: int, length: int) -> list[_Job]:
    chance = random.Random(7)
    jobs: list[_Job] = []
    for pipeline in range(pipelines):
        written = [f"raw-{pipeline}"]
        for place in range(length):
            near = written[-_WINDOW:]
            inputs = sorted(chance.sample(near, min(len(near), chance.randint(1, 3))))
            output = f"data-{pipeline}-{place}"
            jobs.append((f"job-{pipeline}-{place}", inputs, output))
            written.append(output)
    return jobs


def _fill(connection: Any, jobs: Sequence[_Job]) -> None:
    connection.execute(_TABLE)
    with connection.cursor() as cursor:
        with cursor.copy("COPY job_dataset FROM STDIN") as copy:
            for name, inputs, output in jobs:
                for dataset in inputs:
                    copy.write_row((name, dataset, False))
                copy.write_row((name, output, True))
        cursor.execute("ANALYZE job_dataset")


def _record(graph: Graph, jobs: Sequence[_Job]) -> None:
    drafts = []
    for name, inputs, output in jobs:
        job = lineage.trial_component("ProcessingJob", name)
        links: list[tuple[Entity, Entity, str]] = [(job, _data(output), "Produced")]
        links += [(_data(dataset), job, "ContributedTo") for dataset in inputs]
        drafts.append(lineage.as_draft([job], links, kind="JobCompleted", actor="benchmark"))
    for first in range(0, len(drafts), 100):
        for outcome in graph.record_all(drafts[first : first + 100]):
            if isinstance(outcome, lineage.LineageError):
                raise outcome


def _data(name: str) -> Entity:
    return lineage.artifact("DataSet", f"s3://bucket/{name}")


def _reached(graph: Graph, start: str) -> set[str]:
    job = lineage.trial_component("ProcessingJob", start)
    # From job to job by way of a data set are two associations.
    result = graph.query(job, "both", depth=2 * _DEPTH)
    assert result.associations
    return {entity.name for entity in result if entity.type == "ProcessingJob"}


def _timed(ask: Callable[[str], set[str]], start: str) -> tuple[float, set[str]]:
    began = time.perf_counter()
    found = ask(start)
    return (time.perf_counter() - began) * 1000, found
