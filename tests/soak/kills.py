"""Rounds of kill -9 on a server with clients that put, over both fronts, with 1 and 3 workers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import featurestore
from featurestore.embedded import open_store
from featurestore.server import native_is_available
from tests.soak.figure import Figure
from tests.soak.server import ServerProcess
from tests.soak.writer import GROUP, Writer, lost_online, offline_faults

__all__ = ["Life", "live_and_die", "make_writers", "run"]

WORKERS: Final = (1, 3)
# Shorter than a commit of the flush takes, so that most kills meet one.
_FLUSH_S: Final = 0.1
# The port is served all the time: a client that was sent away is answered at the next try or two.
_ANSWER_S: Final = 20.0


class Life(NamedTuple):
    """One life of a server."""

    lost: int  # identifiers that came up older than was acknowledged
    stored: bool  # something was acknowledged
    workers_killed: int  # one by one, while the others went on
    left: int  # processes that outlived the kill


def run(seconds: float, work: Path, seed: int) -> list[Figure]:
    """Take turns among fronts and numbers of workers for so long."""
    fronts = ["grpc", *(["native"] if native_is_available() else [])]
    figures: list[Figure] = []
    settings = [(front, workers) for front in fronts for workers in WORKERS]
    for index, (front, workers) in enumerate(settings):
        name = f"{front}, {workers} worker{'s' * (workers > 1)}"
        figures += _rounds(
            seconds / len(settings), work / f"{front}-{workers}", front, workers, seed + index, name
        )
    return figures


def make_writers() -> list[Writer]:
    """Make clients that put one record at a time, and one that puts many."""
    return [*(Writer(f"one{i}", 1) for i in range(3)), Writer("many", 20)]


def live_and_die(
    work: Path, front: str, workers: int, writers: Sequence[Writer], chance: random.Random
) -> Life:
    """Start a server over `work/home`, let the writers put, and kill it at some moment.

    Of several workers, one alone is killed before, often more than once: the port goes on serving.
    """
    options = ("--front", front, "--workers", workers, "--flush-seconds", _FLUSH_S)
    log = work / "server.log"
    server = ServerProcess(work / "home", log, *options, "--grpc", "0.0.0.0:0")
    stop = threading.Event()
    threads = [
        threading.Thread(target=writer.write, args=(server.address_for(number), stop))
        for number, writer in enumerate(writers)
    ]
    lost = left = 0
    alone = 0
    before = sum(len(writer.acknowledged) for writer in writers)
    try:
        with featurestore.connect(server.address_for(len(writers))) as client:
            lost += lost_online(client, writers)
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.05, 0.5))
        while workers > 1 and chance.random() < 0.7:
            # The others go on, and a new one takes its place.
            alone += server.kill_one(chance.randrange(workers))
            known = [(writer, set(writer.acknowledged)) for writer in writers]
            lost += _lost_among_the_others(server, writers, known)
            time.sleep(chance.uniform(0.05, 0.5))
    finally:
        left += server.kill(first_only=chance.random() < 0.5)
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    stored = sum(len(writer.acknowledged) for writer in writers) > before
    return Life(lost, stored, alone, left)


def _lost_among_the_others(
    server: ServerProcess, writers: Sequence[Writer], known: Sequence[tuple[Writer, set[int]]]
) -> int:
    """Ask while one worker has just been killed; some connections were to that one."""
    until = time.monotonic() + _ANSWER_S
    client = len(writers)
    while True:
        client += 1
        try:
            with featurestore.connect(server.address_for(client), timeout_s=5) as store:
                return lost_online(store, writers, known)
        except featurestore.StoreUnavailable:
            if time.monotonic() > until:
                raise


def _rounds(
    seconds: float, work: Path, front: str, workers: int, seed: int, name: str
) -> list[Figure]:
    work.mkdir(parents=True)
    chance = random.Random(seed)
    writers = make_writers()
    with open_store(work / "home") as store:
        store.create_feature_group(GROUP)
    until = time.monotonic() + seconds
    lives: list[Life] = []
    while len(lives) < 2 or time.monotonic() < until:
        lives.append(live_and_die(work, front, workers, writers, chance))
    lost = sum(life.lost for life in lives)
    with open_store(work / "home") as store:
        lost += lost_online(store, writers)
        missing, repeated, differences, parts = offline_faults(store, writers)
    acknowledged = sum(len(writer.acknowledged) for writer in writers)
    failures = [failure for writer in writers for failure in writer.failures]
    for failure in failures[:3]:
        print(f"  {name}: {failure!r}")
    return [
        Figure(f"{name}: kills of the server", len(lives)),
        *(
            [Figure(f"{name}: kills of one worker", sum(life.workers_killed for life in lives))]
            if workers > 1
            else []
        ),
        Figure(
            f"{name}: lives that stored something",
            sum(life.stored for life in lives),
            least=len(lives) // 2,
        ),
        Figure(f"{name}: records acknowledged", acknowledged, least=1),
        Figure(f"{name}: acknowledged, lost online", lost, most=0),
        Figure(f"{name}: acknowledged, lost offline", missing, most=0),
        Figure(f"{name}: offline more than once", repeated, most=0),
        Figure(f"{name}: batches stored in part", parts, most=0),
        Figure(f"{name}: online differs from offline", differences, most=0),
        Figure(f"{name}: processes left behind", sum(life.left for life in lives), most=0),
        Figure(f"{name}: unexpected errors", len(failures), most=0),
    ]
