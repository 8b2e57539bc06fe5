"""The load generator's process: reads orders as lines of JSON, answers each with its times."""

from __future__ import annotations

import gc
import itertools
import json
import sys
from pathlib import Path

from tests.benchmarks.h2 import call_for


def main() -> None:
    """Serve orders until standard input ends."""
    messages: dict[str, list[bytes]] = {}
    for line in sys.stdin:
        order = json.loads(line)
        file = order["messages"]
        if file not in messages:
            lines = Path(file).read_text(encoding="ascii").split("\n")
            messages[file] = [bytes.fromhex(text) for text in lines]
        turns = itertools.cycle(messages[file])
        for stretch in ("warm_up_s", "seconds"):
            gc.collect()
            milliseconds, seconds = call_for(
                order["address"],
                order["method"],
                turns,
                in_flight=order["in_flight"],
                connections=order["connections"],
                seconds=order[stretch],
            )
        print(json.dumps({"seconds": seconds, "milliseconds": milliseconds}), flush=True)


if __name__ == "__main__":
    main()
