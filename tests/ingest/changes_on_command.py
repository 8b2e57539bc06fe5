"""A process that follows a Delta table in a child, made anew at every line on its standard input.

As `ingest_on_command.py` does for Kafka; the child also says `+` for each batch that it stored.
Arguments: the store's home, the table's uri.
"""

from __future__ import annotations

import os
import sys

import featurestore
from ingest import DeltaChanges, Pipeline


def follow(home: str, uri: str) -> None:
    """Ingest until killed."""
    with featurestore.open(home) as store:
        source = DeltaChanges(uri, starting_version=0)
        Pipeline(source, store, "readings", batch_size=20).run(
            on_progress=lambda report: print("+", flush=True)
        )


def main() -> None:
    """Make a child for each line."""
    child = 0
    for _ in sys.stdin:
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            follow(*sys.argv[1:])
            os._exit(1)  # it only ends by being killed
        print(child, flush=True)
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
