"""Opens a lineage file, reads its associations into memory, asks, and prints its memory."""

from __future__ import annotations

import json
import sys
import time

import lineage


def main(path: str, hub: str) -> dict[str, float]:
    """Return resident MB before and after, and the seconds that reading took."""
    with lineage.open(path) as graph:
        before = _resident_mb()
        began = time.perf_counter()
        graph.mirroring.load()
        read_s = time.perf_counter() - began
        len(graph.query(hub, "descendants"))
        return {"before": before, "resident": _resident_mb(), "read_s": read_s}


def _resident_mb() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        kib = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    return int(kib) / 1024


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2])))
