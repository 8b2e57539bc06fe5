"""Rounds of kill -9 on a server with clients that put, over both fronts, with 1 and 3 workers."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Final

import featurestore
from featurestore.embedded import open_store
from featurestore.server import native_is_available
from tests.soak.figure import Figure
from tests.soak.server import ServerProcess
from tests.soak.writer import GROUP, Writer, lost_online, offline_faults

WORKERS: Final = (1, 3)


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


def _rounds(
    seconds: float, work: Path, front: str, workers: int, seed: int, name: str
) -> list[Figure]:
    work.mkdir(parents=True)
    chance = random.Random(seed)
    writers = [Writer(f"one{i}", 1) for i in range(3)] + [Writer("many", 20)]
    with open_store(work / "home") as store:
        store.create_feature_group(GROUP)
    until = time.monotonic() + seconds
    rounds = busy = left = lost = 0
    options = ("--front", front, "--workers", workers, "--flush-seconds", 0.1)
    while rounds < 2 or time.monotonic() < until:
        server = ServerProcess(work / "home", work / "server.log", *options)
        try:
            with featurestore.connect(server.address) as client:
                lost += lost_online(client, writers)
            before = sum(len(writer.acknowledged) for writer in writers)
            stop = threading.Event()
            threads = [
                threading.Thread(target=writer.write, args=(server.address, stop))
                for writer in writers
            ]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.05, 0.5))
            if workers > 1 and chance.random() < 0.5:
                # The others go on, and a new one takes its place.
                server.kill_one(chance.randrange(workers))
                time.sleep(chance.uniform(0.05, 0.5))
        finally:
            left += server.kill(first_only=chance.random() < 0.5)
        stop.set()
        for thread in threads:
            thread.join()
        rounds += 1
        busy += sum(len(writer.acknowledged) for writer in writers) > before
    with open_store(work / "home") as store:
        lost += lost_online(store, writers)
        missing, repeated, differences = offline_faults(store, writers)
    acknowledged = sum(len(writer.acknowledged) for writer in writers)
    failures = [failure for writer in writers for failure in writer.failures]
    for failure in failures[:3]:
        print(f"  {name}: {failure!r}")
    return [
        Figure(f"{name}: kills", rounds),
        Figure(f"{name}: lives that stored something", busy, least=rounds // 2),
        Figure(f"{name}: records acknowledged", acknowledged, least=1),
        Figure(f"{name}: acknowledged, lost online", lost, most=0),
        Figure(f"{name}: acknowledged, lost offline", missing, most=0),
        Figure(f"{name}: offline more than once", repeated, most=0),
        Figure(f"{name}: online differs from offline", differences, most=0),
        Figure(f"{name}: processes left behind", left, most=0),
        Figure(f"{name}: unexpected errors", len(failures), most=0),
    ]
