"""A process that replays dead letters in a child, made anew at every line on its standard input.

Arguments: the store's home, the folder of the letters. Answers each line with the child's process
id, and reaps the child when the next line comes.
"""

from __future__ import annotations

import os
import sys

import featurestore
import ingest.letters.replay
from ingest import DeadLetters, replay


def work(home: str, folder: str) -> None:
    with featurestore.open(home) as store:
        replay(DeadLetters(folder), store, "readings")


def main() -> None:
    # Small batches, so that there are many places to be killed at.
    ingest.letters.replay._BATCH = 3
    child = 0
    for _ in sys.stdin:
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            work(*sys.argv[1:])
            os._exit(0)
        print(child, flush=True)
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
