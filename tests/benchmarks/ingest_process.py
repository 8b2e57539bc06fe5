"""One process that ingests a topic until it is caught up, and says what that took."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from pathlib import Path

import featurestore
from ingest import DeadLetters, KafkaSource, Pipeline, Report
from tests.benchmarks.child import peak_bytes
from tests.benchmarks.records import GROUP

__all__: list[str] = []

_PAGE_BYTES = resource.getpagesize()


def main() -> None:
    """Read the order from the first argument and wait for a line; print the result as JSON."""
    order = json.loads(sys.argv[1])
    memory: list[tuple[int, int]] = []
    home = Path(order["home"])
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(featurestore.open(home))
        source = KafkaSource(
            order["address"],
            order["topic"],
            consumer_group=order["consumer_group"],
            assignment=order["assignment"],
            client=order["client"],
            session_timeout_s=6.0,
            heartbeat_interval_s=1.0,
            max_poll_interval_s=30.0,
        )
        letters = DeadLetters(home / "deadletters")
        pipeline = Pipeline(source, store, GROUP.name, dead_letters=letters)
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.readline()
        began = time.perf_counter()

        def note(report: Report) -> None:
            memory.append((report.read, _resident_bytes()))

        report = pipeline.run(until_caught_up=True, on_progress=note)
        seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    quarters = [memory[len(memory) * part // 4 - 1][1] for part in (1, 2, 3, 4)] if memory else []
    print(
        json.dumps(
            {
                "written": report.written,
                "refused": report.refused,
                "seconds": seconds,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_bytes": peak_bytes(),
                "resident_bytes": quarters,
            }
        ),
        flush=True,
    )


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * _PAGE_BYTES


if __name__ == "__main__":
    main()
