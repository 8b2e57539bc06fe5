"""Rounds of kill -9 on eight writers of a lineage log, in a file and in a PostgreSQL that dies."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, NamedTuple

import lineage
from lineage import Graph
from tests.lineage.postgres import PostgresServer
from tests.soak.figure import Figure

__all__ = ["run"]

_PROCESSES: Final = 8
_THREADS: Final = 2
_LIFE_S: Final = (0.05, 0.8)
# Shorter than the server is away, so that events have to wait in the spool.
_PATIENCE_S: Final = 0.2
_AWAY_S: Final = 0.5


class _Found(NamedTuple):
    """What a log holds at the end."""

    events: int
    lost: int
    doubled: int
    graph_differs: bool
    refused: bool


def run(seconds: float, work: Path, seed: int) -> list[Figure]:
    """Half of the time for each store."""
    figures = []
    for index, name in enumerate(("sqlite", "postgres")):
        chance = random.Random(seed + index)
        home = work / name
        home.mkdir(parents=True)
        with _server(name, home) as server:
            figures += _rounds(seconds / 2, home, server, chance, name)
    return figures


@contextmanager
def _server(name: str, home: Path) -> Iterator[PostgresServer | None]:
    if name != "postgres":
        yield None
        return
    server = PostgresServer()
    try:
        lineage.open_home(home, server.url).close()
        yield server
    finally:
        server.close()


def _rounds(
    seconds: float, home: Path, server: PostgresServer | None, chance: random.Random, name: str
) -> list[Figure]:
    # Children come from a process that has imported this module and runs no thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    said = home / "said"
    said.mkdir()
    until = time.monotonic() + seconds
    rounds = restarts = waited = 0
    while rounds < 2 or time.monotonic() < until:
        writers: list[BaseProcess] = [
            context.Process(target=_write, args=(home, said, f"{rounds}-{n}"))
            for n in range(_PROCESSES)
        ]
        for writer in writers:
            writer.start()
        threads = [threading.Timer(chance.uniform(*_LIFE_S), writer.kill) for writer in writers]
        for thread in threads:
            thread.start()
        if server is not None and chance.random() < 0.5:
            time.sleep(chance.uniform(0.0, 0.4))
            server.stop(chance.choice([signal.SIGQUIT, signal.SIGINT]))
            time.sleep(chance.uniform(0.0, _AWAY_S))
            for thread in threads:
                thread.join()
            waited += lineage.spool_of(home).waiting()
            server.start()
            restarts += 1
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.join()
        rounds += 1
    acknowledged = {
        line[:-1]
        for path in said.iterdir()
        for line in path.read_text("utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    }
    with lineage.open_home(home) as graph:
        found = _look(graph, acknowledged)
        report = graph.verify(projections=True)
    more = [
        Figure(f"{name}: restarts of the server", restarts, least=1),
        Figure(f"{name}: events found waiting in the spool", waited),
    ]
    return [
        Figure(f"{name}: kills of a writer", rounds * _PROCESSES),
        *(more if server is not None else []),
        Figure(f"{name}: events acknowledged", len(acknowledged), least=1),
        Figure(f"{name}: events in the log", found.events),
        Figure(f"{name}: acknowledged, lost", found.lost, most=0),
        Figure(f"{name}: in the log more than once", found.doubled, most=0),
        Figure(
            f"{name}: logs that are not intact, or graphs that differ",
            int(not report.intact or found.graph_differs),
            most=0,
        ),
        Figure(f"{name}: events refused by the graph", int(found.refused), most=0),
    ]


def _look(graph: Graph, acknowledged: set[str]) -> _Found:
    graph.replay_spool()
    with graph.store.log() as (events, _):
        uids = [event.event_uid for event in events]
    stats = graph.stats()
    # Each event has an entity and an association of its own, to one that all share.
    differs = bool(uids) and (stats["entities"], stats["associations"]) != (
        len(uids) + 1,
        len(uids),
    )
    assert graph.spool is not None
    return _Found(
        len(uids),
        len(acknowledged - set(uids)),
        len(uids) - len(set(uids)),
        differs,
        graph.spool.refused_path.exists(),
    )


def _write(home: Path, said: Path, name: str) -> None:
    """Record until killed; what is acknowledged is written down."""
    import lineage.store.postgres as store

    vars(store)["_PATIENCE_S"] = _PATIENCE_S
    graph: Any = lineage.open_home(home)
    hub = lineage.context("Hub", "hub")

    def work(thread: int) -> None:
        with (said / f"{name}-{thread}").open("w", encoding="utf-8", buffering=1) as file:
            for n in range(1_000_000):
                uid = f"{name}-{thread}-{n}"
                step = lineage.action("Step", uid)
                graph.record([step], [(step, hub, "Produced")], kind="T", event_uid=uid)
                file.write(uid + "\n")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
