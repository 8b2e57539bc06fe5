"""Lineage in PostgreSQL: durable jobs of many threads and processes, beside the SQLite file."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import lineage
from lineage import Graph
from tests.benchmarks.harness import BenchmarkSkipped, Figure, Size, compare, interleave, note
from tests.benchmarks.lineage_job import Job, make_job
from tests.benchmarks.lineage_marquez import marquez_figures
from tests.lineage.postgres import PostgresServer

__all__ = ["run"]

_WRITERS: Final = 8
_START_TIMEOUT_S: Final = 120.0
# Jobs of each thread and process, and runs.
_SIZES: Final = {Size.TINY: (2, 2, 1), Size.DEFAULT: (100, 50, 3), Size.FULL: (300, 150, 5)}
_BASELINE: Final = "the SQLite file"


class _Span(NamedTuple):
    """One writer's time on the system's monotonic clock, and its longest job, seconds."""

    began: float
    ended: float
    longest: float


class _Rate(NamedTuple):
    per_second: float
    longest_s: float


def run(size: Size, work: Path) -> list[Figure]:
    """Measure durable jobs (12 entities and 20 edges) from 8 threads and from 8 processes.

    Then a walk both ways beside the join that another tool has for it.

    The server has its default settings, syncs every commit and lies on the same disk as the file.

    Raises:
        BenchmarkSkipped: PostgreSQL or psycopg is not installed.
    """
    per_thread, per_process, repeats = _SIZES[size]
    try:
        server = PostgresServer()
    except pytest.skip.Exception as error:
        raise BenchmarkSkipped(str(error)) from error
    try:
        return [
            *_figures("threads", server, work, repeats, lambda place: _threads(place, per_thread)),
            *_figures(
                "processes", server, work, repeats, lambda place: _processes(place, per_process)
            ),
            *marquez_figures(size, server, work),
        ]
    finally:
        server.close()


def _figures(
    writers: str,
    server: PostgresServer,
    work: Path,
    repeats: int,
    measure: Callable[[str], _Rate],
) -> list[Figure]:
    note(f"durable jobs from {_WRITERS} {writers}")
    files = (str(work / f"{writers}-{number}.db") for number in range(repeats))
    samples = interleave(
        {
            "postgres": lambda: measure(server.new_url()),
            "sqlite": lambda: measure(next(files)),
        },
        repeats=repeats,
    )
    return [
        compare(
            f"durable jobs (12 entities + 20 edges) in PostgreSQL from {_WRITERS} {writers}",
            "jobs/s",
            [rate.per_second for rate in samples["postgres"]],
            baseline=_BASELINE,
            baseline_values=[rate.per_second for rate in samples["sqlite"]],
        ),
        compare(
            f"longest wait for a durable job in PostgreSQL from {_WRITERS} {writers}",
            "s",
            [rate.longest_s for rate in samples["postgres"]],
            baseline=_BASELINE,
            baseline_values=[rate.longest_s for rate in samples["sqlite"]],
        ),
    ]


def _threads(place: str, jobs_each: int) -> _Rate:
    work = [[make_job(writer, number) for number in range(jobs_each)] for writer in range(_WRITERS)]
    spans: list[_Span] = []
    start = threading.Barrier(_WRITERS)
    with lineage.open(place) as graph:

        def write(jobs: Sequence[Job]) -> None:
            start.wait()
            spans.append(_write_all(graph, jobs))

        workers = [threading.Thread(target=write, args=(jobs,)) for jobs in work]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return _rate(spans, jobs_each)


def _processes(place: str, jobs_each: int) -> _Rate:
    # Children come from a server process that has imported this module and runs no thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    lineage.open(place).close()
    start = context.Barrier(_WRITERS)
    answers = context.SimpleQueue()
    children = [
        context.Process(target=_process, args=(place, writer, jobs_each, start, answers))
        for writer in range(_WRITERS)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return _rate([answers.get() for child in children if child.exitcode == 0], jobs_each)


def _process(place: str, writer: int, count: int, start: Any, answers: Any) -> None:
    jobs = [make_job(writer, number) for number in range(count)]
    with lineage.open(place) as graph:
        start.wait(_START_TIMEOUT_S)
        answers.put(_write_all(graph, jobs))


def _write_all(graph: Graph, jobs: Sequence[Job]) -> _Span:
    began = last = time.monotonic()
    longest = 0.0
    for job in jobs:
        graph.record(job.entities, job.associations, kind="JobCompleted", actor="benchmark")
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now
    return _Span(began, last, longest)


def _rate(spans: Sequence[_Span], jobs_each: int) -> _Rate:
    if len(spans) != _WRITERS:
        raise RuntimeError(f"only {len(spans)} of {_WRITERS} writers came to their end")
    seconds = max(span.ended for span in spans) - min(span.began for span in spans)
    return _Rate(_WRITERS * jobs_each / seconds, max(span.longest for span in spans))
