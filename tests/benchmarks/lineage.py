"""Lineage: walks of a large graph, and durable jobs, beside SQL, networkx and plain inserts."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import lineage
from lineage import Graph
from tests.benchmarks import lineage_postgres
from tests.benchmarks.child import run_module
from tests.benchmarks.harness import Bar, BenchmarkSkipped, Figure, Size, compare, interleave, note
from tests.benchmarks.lineage_capture import capture_figures
from tests.benchmarks.lineage_graph import DEPTH, PROJECT, Networkx, Sql, record_graph
from tests.benchmarks.lineage_job import Job, PlainFile, make_job
from tests.benchmarks.lineage_mlmd import mlmd_python, write_jobs
from tests.benchmarks.lineage_openlineage import openlineage_figures

__all__ = ["run"]

_WARM_UP: Final = 20
_START_TIMEOUT_S: Final = 120.0


@final
@dataclass(frozen=True)
class _Sizes:
    projects: int
    queries: int
    hub_queries: int
    loads: int
    repeats: int
    jobs: int
    jobs_per_thread: int
    jobs_per_process: int


_SIZES: Final = {
    Size.TINY: _Sizes(15, 20, 2, 1, 1, 5, 2, 2),
    Size.DEFAULT: _Sizes(1_428, 400, 20, 3, 3, 400, 125, 60),
    Size.FULL: _Sizes(14_285, 1_000, 11, 1, 5, 1_000, 400, 150),
}
_THREADS: Final = 8


def run(size: Size, work: Path) -> list[Figure]:
    """Measure walks, then durable jobs."""
    sizes = _SIZES[size]
    return [
        *_queries(size, sizes, work),
        *_durable_jobs(size, sizes, work),
        *_beside_mlmd(size, sizes, work),
        *_in_postgres(size, work),
        *capture_figures(size, work),
        *openlineage_figures(size, work),
    ]


# -- walks ------------------------------------------------------------------------------------


def _queries(size: Size, sizes: _Sizes, work: Path) -> list[Figure]:
    path = work / "graph.db"
    random.seed(7)
    note(f"recording a graph of {sizes.projects * PROJECT:,} entities")
    with lineage.open(path) as graph:
        hubs, nodes = record_graph(graph, sizes.projects)
        stats = graph.stats()
    shape = f"{stats['entities']:,} nodes / {stats['associations']:,} edges"
    starts = random.sample(nodes, min(len(nodes), sizes.queries + _WARM_UP))
    figures = [*_opening(shape, sizes, path, starts[0])]
    with lineage.open(path) as graph, closing(Sql(path)) as sql:
        graph.mirroring.close()  # what is measured here is the file
        memory = Networkx(path)
        figures += _ascendants(size, shape, graph, sql, memory, starts)
        figures += _descendants(size, shape, sizes, graph, sql, memory, hubs)
        del memory
    figures += _mirrored(size, shape, path, starts, hubs)
    return figures


def _mirrored(
    size: Size, shape: str, path: Path, starts: Sequence[str], hubs: Sequence[str]
) -> list[Figure]:
    """The same questions with the associations in memory, and without."""
    note("the same with the associations in memory")
    with lineage.open(path) as mirrored, lineage.open(path) as stored:
        stored.mirroring.close()
        mirrored.mirroring.load()
        graphs = (mirrored, stored)

        def timed(ask: Callable[[Graph], object]) -> tuple[float, float]:
            seconds = []
            for graph in graphs:
                began = time.perf_counter()
                ask(graph)
                seconds.append((time.perf_counter() - began) * 1000)
            return seconds[0], seconds[1]

        walks = [timed(lambda graph, start=start: _whole(graph, start)) for start in starts]
        drawn = [timed(lambda graph, start=start: _drawn(graph, start)) for start in starts]
        counts = [
            timed(lambda graph, hub=hub: len(graph.query(hub, "descendants"))) for hub in hubs
        ]
        tables = [
            timed(lambda graph, hub=hub: graph.query(hub, "descendants").to_arrow())
            for hub in hubs[:3]
        ]
    # In a process of its own: this one has held all of it in other forms.
    memory, _ = run_module("tests.benchmarks.lineage_memory", path, hubs[0])
    plain = "the same from the file, frontier by frontier"
    rows: list[tuple[str, list[tuple[float, float]], float | None]] = [
        (f"ascendants to depth {DEPTH}", walks[_WARM_UP:], 0.5),
        (f"ascendants to depth {DEPTH} as a networkx graph", drawn[_WARM_UP:], 1.0),
        ("all descendants of a hub", counts, 30.0),
        ("all descendants of a hub as an Arrow table", tables, None),
    ]
    bars = size is Size.FULL
    figures = [
        compare(
            f"{name}, associations in memory, {shape}: p50",
            "ms",
            [one for one, _ in values],
            baseline=plain,
            baseline_values=[other for _, other in values],
            bar=Bar("value", "<=", limit) if bars and limit is not None else None,
        )
        for name, values, limit in rows
    ]
    return [
        *figures,
        compare(
            f"resident memory with the associations ({memory['read_s']:.1f} s to read them), "
            f"{shape}",
            "MB",
            [memory["resident"]],
            baseline="before they were read",
            baseline_values=[memory["before"]],
            bar=Bar("value", "<=", 250.0) if bars else None,
        ),
    ]


def _whole(graph: Graph, start: str) -> tuple[int, int]:
    result = graph.query(start, "ascendants", depth=DEPTH)
    return len(result.entities), len(result.associations)


def _drawn(graph: Graph, start: str) -> object:
    return graph.query(start, "ascendants", depth=DEPTH).to_networkx()


def _ascendants(
    size: Size, shape: str, graph: Graph, sql: Sql, memory: Networkx, starts: Sequence[str]
) -> list[Figure]:
    note(f"ascendants to depth {DEPTH} of {len(starts)} entities")
    seconds: dict[str, list[float]] = {"graph": [], "sql": [], "networkx": []}
    found = []
    for start in starts:
        began = time.perf_counter()
        result = graph.query(start, "ascendants", depth=DEPTH)
        answers = (len(result.entities), len(result.associations))
        seconds["graph"].append(time.perf_counter() - began)
        for name, ask in (("sql", sql.ascendants), ("networkx", memory.ascendants)):
            began = time.perf_counter()
            other = ask(start)
            seconds[name].append(time.perf_counter() - began)
            _check_equal(start, answers, other)
        found.append(len(result))
    found.sort()
    name = f"ascendants to depth {DEPTH} ({found[len(found) // 2]} entities), {shape}: p50"
    ms = {key: [second * 1000 for second in values[_WARM_UP:]] for key, values in seconds.items()}
    bar = None if size is Size.TINY else Bar("value", "<=", 0.5)
    return _against_both(name, ms, bar)


def _descendants(
    size: Size,
    shape: str,
    sizes: _Sizes,
    graph: Graph,
    sql: Sql,
    memory: Networkx,
    hubs: Sequence[str],
) -> list[Figure]:
    note("descendants of hubs")
    seconds: dict[str, list[float]] = {"graph": [], "sql": [], "networkx": []}
    count = 0
    for turn in range(sizes.hub_queries):
        hub = hubs[turn % len(hubs)]
        began = time.perf_counter()
        # Of so large an answer most callers want the number or a page: entities are read later.
        count = len(graph.query(hub, "descendants"))
        seconds["graph"].append(time.perf_counter() - began)
        for name, ask in (("sql", sql.descendants), ("networkx", memory.descendants)):
            began = time.perf_counter()
            other = ask(hub)
            seconds[name].append(time.perf_counter() - began)
            if other[0] != count:
                raise AssertionError(f"{name} found {other[0]} descendants of {hub}, not {count}")
    name = f"all descendants of a hub ({count:,} entities and their edges), {shape}: p50"
    ms = {key: [second * 1000 for second in values] for key, values in seconds.items()}
    return _against_both(name, ms, Bar("value", "<=", 200.0) if size is Size.FULL else None)


def _opening(shape: str, sizes: _Sizes, path: Path, start: str) -> list[Figure]:
    note("opening the file and asking once")

    def embedded() -> float:
        began = time.perf_counter()
        with lineage.open(path) as graph:
            graph.query(start, "ascendants", depth=DEPTH)
            return time.perf_counter() - began

    def in_memory() -> float:
        began = time.perf_counter()
        Networkx(path).ascendants(start)
        return time.perf_counter() - began

    samples = interleave({"graph": embedded, "networkx": in_memory}, repeats=sizes.loads)
    return [
        compare(
            f"first answer after opening the file, {shape}",
            "s",
            samples["graph"],
            baseline="networkx.MultiDiGraph loaded from the file",
            baseline_values=samples["networkx"],
        )
    ]


def _against_both(name: str, ms: dict[str, list[float]], bar: Bar | None) -> list[Figure]:
    return [
        compare(name, "ms", ms["graph"], baseline=baseline, baseline_values=ms[key], bar=bar)
        for key, baseline in (
            ("sql", "the same as a recursive SQL query of the file"),
            ("networkx", "the same in a networkx.MultiDiGraph in memory"),
        )
    ]


def _check_equal(start: str, answer: tuple[int, int], other: tuple[int, int]) -> None:
    if answer != other:
        raise AssertionError(
            f"{start}: the graph found {answer} entities and associations, another way {other}"
        )


# -- durable jobs -----------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class _Rate:
    """Jobs a second over all writers, and the longest that any waited for one."""

    per_second: float
    longest_s: float


Write = Callable[[Job], None]


def _durable_jobs(size: Size, sizes: _Sizes, work: Path) -> list[Figure]:
    figures: list[Figure] = []
    cases: list[tuple[str, Callable[[Path, str], _Rate], float | None]] = [
        ("1 thread", lambda path, how: _threads(path, how, 1, sizes.jobs), None),
        (
            f"{_THREADS} threads",
            lambda path, how: _threads(path, how, _THREADS, sizes.jobs_per_thread),
            1_000.0,
        ),
        (
            f"{_THREADS} processes",
            lambda path, how: _processes(path, how, _THREADS, sizes.jobs_per_process),
            350.0,
        ),
    ]
    for number, (writers, measure, least) in enumerate(cases):
        note(f"durable jobs from {writers}")
        paths = (work / f"jobs-{number}-{run}.db" for run in range(2 * sizes.repeats))

        def once(how: str, measure: Callable[[Path, str], _Rate] = measure) -> _Rate:
            path = next(paths)  # noqa: B023  # used up before the next case begins
            return measure(path, how)

        samples = interleave(
            {"graph": lambda: once("graph"), "plain": lambda: once("plain")},
            repeats=sizes.repeats,
        )
        has_bars = size is not Size.TINY and least is not None
        figures.append(
            compare(
                f"durable jobs (12 entities + 20 edges) from {writers}",
                "jobs/s",
                [rate.per_second for rate in samples["graph"]],
                baseline="the same rows by plain SQLite, one transaction a job",
                baseline_values=[rate.per_second for rate in samples["plain"]],
                bar=Bar("value", ">=", least) if has_bars and least else None,
            )
        )
        if "processes" in writers:
            figures.append(
                compare(
                    f"longest wait for a durable job from {writers}",
                    "s",
                    [rate.longest_s for rate in samples["graph"]],
                    baseline="the same rows by plain SQLite, one transaction a job",
                    baseline_values=[rate.longest_s for rate in samples["plain"]],
                    bar=Bar("value", "<=", 0.5) if has_bars else None,
                )
            )
    return figures


def _threads(path: Path, how: str, threads: int, jobs_each: int) -> _Rate:
    work = [[make_job(thread, number) for number in range(jobs_each)] for thread in range(threads)]
    spans: list[_Span] = []
    graph = lineage.open(path) if how == "graph" else None
    start = threading.Barrier(threads)

    def write(jobs: Sequence[Job]) -> None:
        if graph is not None:
            start.wait()
            spans.append(_write_all(jobs, lambda job: _record(graph, job)))
            return
        with closing(PlainFile(path)) as file:
            start.wait()
            spans.append(_write_all(jobs, file.write))

    if graph is None:
        PlainFile(path).close()  # makes the tables
    workers = [threading.Thread(target=write, args=(jobs,)) for jobs in work]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if graph is not None:
        graph.close()
    return _rate(spans, threads, jobs_each)


def _processes(path: Path, how: str, processes: int, jobs_each: int) -> _Rate:
    # Children come from a server process that has imported this module and runs no thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    if how == "graph":
        lineage.open(path).close()
    else:
        PlainFile(path).close()
    start = context.Barrier(processes)
    answers = context.SimpleQueue()
    children = [
        context.Process(target=_process, args=(path, how, writer, jobs_each, start, answers))
        for writer in range(processes)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    spans = [answers.get() for child in children if child.exitcode == 0]
    return _rate(spans, processes, jobs_each)


def _process(path: Path, how: str, writer: int, count: int, start: Any, answers: Any) -> None:
    jobs = [make_job(writer, number) for number in range(count)]
    if how == "graph":
        with lineage.open(path) as graph:
            start.wait(_START_TIMEOUT_S)
            answers.put(_write_all(jobs, lambda job: _record(graph, job)))
        return
    with closing(PlainFile(path)) as file:
        start.wait(_START_TIMEOUT_S)
        answers.put(_write_all(jobs, file.write))


_Span = tuple[float, float, float]
"""When a writer began and ended, on the system's monotonic clock, and its longest job."""


def _write_all(jobs: Sequence[Job], write: Write) -> _Span:
    began = last = time.monotonic()
    longest = 0.0
    for job in jobs:
        write(job)
        now = time.monotonic()
        longest = max(longest, now - last)
        last = now
    return began, last, longest


def _record(graph: Graph, job: Job) -> None:
    graph.record(job.entities, job.associations, kind="JobCompleted", actor="benchmark")


def _rate(spans: Sequence[_Span], writers: int, jobs_each: int) -> _Rate:
    if len(spans) != writers:
        raise RuntimeError(f"only {len(spans)} of {writers} writers came to their end")
    seconds = max(span[1] for span in spans) - min(span[0] for span in spans)
    return _Rate(writers * jobs_each / seconds, max(span[2] for span in spans))


def _in_postgres(size: Size, work: Path) -> list[Figure]:
    try:
        return lineage_postgres.run(size, work)
    except BenchmarkSkipped as reason:
        note(f"left out: {reason}")
        return []


def _beside_mlmd(size: Size, sizes: _Sizes, work: Path) -> list[Figure]:
    """Durable jobs of the same number of nodes and edges in ML Metadata's SQLite store."""
    python = None if size is Size.TINY else mlmd_python()
    if python is None:
        note("ml-metadata is not installed and cannot be: left out")
        return []
    figures = []
    for writers, ours in ((1, _threads), (_THREADS, _processes)):
        note(f"durable jobs beside ML Metadata, {writers} writer(s)")
        jobs = sizes.jobs_per_process
        paths = (work / f"mlmd-{writers}-{turn}.db" for turn in range(2 * sizes.repeats))

        def graph(ours: Any = ours, jobs: int = jobs) -> float:
            return float(ours(next(paths), "graph", _THREADS, jobs).per_second)  # noqa: B023

        def mlmd(writers: int = writers, jobs: int = jobs) -> float:
            spans = write_jobs(python, next(paths), writers, jobs)  # noqa: B023
            return _rate(spans, writers, jobs).per_second

        samples = interleave({"graph": graph, "mlmd": mlmd}, repeats=sizes.repeats)
        name = f"{_THREADS} threads" if writers == 1 else f"{_THREADS} processes"
        least = 10.0 if writers == 1 else 5.0
        figures.append(
            compare(
                f"durable jobs from {name}, beside ML Metadata",
                "jobs/s",
                samples["graph"],
                baseline=f"ML Metadata, put_lineage_subgraph, {writers} process(es)",
                baseline_values=samples["mlmd"],
                bar=Bar("ratio", ">=", least),
            )
        )
    return figures
