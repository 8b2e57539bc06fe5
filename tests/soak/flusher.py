"""Rounds of kill -9 on a process that puts and flushes: each record is offline exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from featurestore import FeatureGroup, feature_definitions
from featurestore.embedded import open_store
from tests.soak.figure import Figure
from tests.soak.server import ROOT

_PROGRAM: Final = ROOT / "tests" / "featurestore" / "put_until_killed.py"
_GROUP: Final = FeatureGroup(
    "readings",
    record_identifier="station",
    event_time="time",
    features=feature_definitions(
        [("station", "String"), ("time", "String"), ("count", "Integral")]
    ),
)
_STATIONS: Final = 5
_DAY: Final = 86_400  # numbers become seconds of one day


def run(seconds: float, work: Path, seed: int) -> list[Figure]:
    """Kill for so long; a new home begins when the numbers of one are used up."""
    chance = random.Random(seed)
    until = time.monotonic() + seconds
    kills = acknowledged = lost = missing = repeated = differences = commits = homes = 0
    while homes == 0 or time.monotonic() < until:
        folder = work / f"home-{homes}"
        folder.mkdir(parents=True)
        homes += 1
        told, killed, stale = _kill_on(folder, until, chance)
        kills += killed
        lost += stale
        acknowledged += len(told)
        with open_store(folder / "home") as store:
            store.flush()
            differences += len(store.verify("readings").differences)
            delta = DeltaTable(store.offline_uri("readings"))
            table: pa.Table = pa.table(delta.to_pyarrow_table(columns=["count"]))
        commits += delta.version()
        missing += len(told - set(table["count"].to_pylist()))
        repeated += len(table) - int(pc.count_distinct(table["count"]).as_py())
    return [
        Figure("kills", kills),
        Figure("records acknowledged", acknowledged, least=1),
        Figure("Delta commits", commits, least=1),
        Figure("acknowledged, lost online", lost, most=0),
        Figure("acknowledged, lost offline", missing, most=0),
        Figure("offline more than once", repeated, most=0),
        Figure("online differs from offline", differences, most=0),
    ]


def _kill_on(folder: Path, until: float, chance: random.Random) -> tuple[set[int], int, int]:
    """Return what was acknowledged, how many kills there were, and what was lost online."""
    home, path = folder / "home", folder / "acknowledged"
    with open_store(home) as store:
        store.create_feature_group(_GROUP)
    first = kills = lost = 0
    told: list[int] = []
    with subprocess.Popen(
        [sys.executable, str(_PROGRAM), str(home), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while (kills < 2 or time.monotonic() < until) and first < _DAY - 10_000:
            process.stdin.write(f"{first}\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(chance.uniform(0.001, 0.3))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            kills += 1
            told = [int(line) for line in path.read_text().split()]
            # The put in flight may have been stored: its number is not used again.
            first = max(first, *told[-1:]) + 2
            newest = {number % _STATIONS: number for number in told}
            with open_store(home) as store:
                for station, number in newest.items():
                    record = store.get("readings", f"s{station}")
                    lost += record is None or int(str(record["count"])) < number
        process.stdin.close()
    return set(told), kills, lost
