"""Acknowledged means durable: a process that puts is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import featurestore

KILLS = 20
STATIONS = 5


def test_what_was_acknowledged_is_there_after_every_kill(run_python, tmp_path, readings, rows_of):
    home = tmp_path / "home"
    path = tmp_path / "acknowledged"
    with featurestore.open(home) as store:
        store.create_feature_group(readings)
    program = str(Path(__file__).with_name("put_until_killed.py"))
    chance = random.Random(20240501)
    told: list[int] = []
    first = lives = 0
    with run_python([program, str(home), str(path)]) as process:
        for _ in range(KILLS):
            process.stdin.write(f"{first}\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(chance.uniform(0.001, 0.3))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"

            before, told = told, [int(line) for line in path.read_text().split()]
            lives += len(told) > len(before)
            # The put in flight may have been stored, only without an answer: its number is not
            # used again.
            first = max(first, *told[-1:]) + 2
            newest = {number % STATIONS: number for number in told}
            with featurestore.open(home) as store:
                for station, number in newest.items():
                    assert store.get("readings", f"s{station}")["count"] >= number
        process.stdin.close()
    assert process.returncode == 0
    assert lives >= KILLS // 2, "too few lives put anything: the test shows nothing"

    with featurestore.open(home) as store:
        store.flush()
        assert store.verify("readings").equal
        counts = [row["count"] for row in rows_of(store)]
    assert sorted(counts) == sorted(set(counts)), "each is offline once"
    assert set(counts) >= set(told)
    assert len(counts) - len(told) <= KILLS, "a kill leaves at most one put without its answer"
