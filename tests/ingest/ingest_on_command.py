"""Processes that ingest, made anew at every line on standard input.

Each lives until it is killed, or told by SIGTERM to end after the batch in hand. Forking from a
process that has imported everything makes a life of a few milliseconds possible, so that kills
also land in the first moments.

Argument: a JSON object of home, address, topic and the options of KafkaSource. A line is a JSON
list of process ids that have ended or are about to, which are waited for; the answer is the new
one's id. An empty line starts none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import featurestore
from ingest import DeadLetters, KafkaSource, Pipeline


def ingest(home: str, address: str, topic: str, batch_size: int, **options: Any) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    source = KafkaSource(address, topic, **options)
    with featurestore.open(home) as store:
        letters = DeadLetters(f"{home}/dead")
        Pipeline(
            source, store, "readings", dead_letters=letters, batch_size=batch_size, retry_s=120.0
        ).run(stop=stop)


def main() -> None:
    order = json.loads(sys.argv[1])
    alive: set[int] = set()
    for line in sys.stdin:
        for pid in json.loads(line):
            os.waitpid(pid, 0)
            alive.discard(pid)
        child = os.fork()
        if child == 0:
            ingest(**order)
            os._exit(0)
        alive.add(child)
        print(child, flush=True)
    for pid in alive:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
