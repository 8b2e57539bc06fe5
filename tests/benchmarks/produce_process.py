"""One process that sends messages at a steady rate, and says when it sent which."""

from __future__ import annotations

import contextlib
import json
import sys
import time

from kafka import KafkaProducer

from tests.benchmarks.records import make_messages

__all__: list[str] = []

_PAUSE_S = 0.01


def main() -> None:
    """Read the order from the first argument; print `[[sent so far, monotonic seconds], …]`."""
    order = json.loads(sys.argv[1])
    rows = list(make_messages(1_000, users=100))
    sent: list[tuple[int, float]] = []
    with contextlib.closing(KafkaProducer(bootstrap_servers=order["address"])) as producer:
        number = 0
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < order["seconds"]:
            before = time.monotonic()
            while number < elapsed * order["per_s"]:
                producer.send(order["topic"], rows[number % len(rows)])
                number += 1
            sent.append((number, before))
            time.sleep(_PAUSE_S)
        producer.flush()
    print(json.dumps(sent), flush=True)


if __name__ == "__main__":
    main()
