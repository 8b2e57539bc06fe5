"""A process that ingests in a child, made anew at every line on its standard input.

The child lives until it is killed. Forking from a process that has imported everything makes a
life of a few milliseconds possible, so that kills also land in the first moments.

Arguments: the store's home, the broker's address, the topic. Answers each line with the child's
process id, and reaps the child when the next line comes.
"""

from __future__ import annotations

import os
import sys

import featurestore
from ingest import DeadLetters, KafkaSource, Pipeline


def ingest(home: str, address: str, topic: str) -> None:
    source = KafkaSource(address, topic, consumer_group="killed", assignment="all")
    with featurestore.open(home) as store:
        letters = DeadLetters(f"{home}/dead")
        Pipeline(source, store, "readings", dead_letters=letters, batch_size=6).run()


def main() -> None:
    child = 0
    for _ in sys.stdin:
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            ingest(*sys.argv[1:])
            os._exit(1)  # it only ends by being killed
        print(child, flush=True)
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
