"""The replaying process is killed again and again, and each letter is stored exactly once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featurestore import feature_definitions
from ingest import DeadLetters, FileSource, Pipeline, replay

pytestmark = pytest.mark.timeout(120)

LETTERS = 60
KILLS = 5


def test_killed_at_random_moments_a_replay_stores_each_letter_once(
    tmp_path, store, stored, reading
):
    path = tmp_path / "r.jsonl"
    records = (reading(n, humidity=1.0) if n % 10 else f"number {n}" for n in range(LETTERS))
    lines = [json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n")
    letters = DeadLetters(tmp_path / "dead")
    Pipeline(FileSource(path), store, "readings", dead_letters=letters, batch_size=20).run()
    store.add_features("readings", feature_definitions([("humidity", "Fractional")]))

    script = Path(__file__).with_name("replay_on_command.py")
    root = Path(__file__).parents[2]
    chance = random.Random(7)
    progressed = 0
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "home"), str(letters.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(KILLS):
            before = _replayed(letters)
            parent.stdin.write("\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            stamp = _stamp(letters)
            while _stamp(letters) == stamp and _is_alive(child):
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.03))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            progressed += _replayed(letters) > before
        parent.stdin.close()
    report = replay(letters, store, "readings")

    good = [n for n in range(LETTERS) if n % 10]
    assert progressed, "no life stored anything: the test shows nothing"
    assert report.refused == LETTERS - len(good)
    assert stored() == good
    assert _replayed(letters) == len(good)
    assert sorted(one.offset for one in letters.read() if not one.replayed) == [
        n for n in range(LETTERS) if not n % 10
    ]
    assert store.verify("readings").equal


def _stamp(letters: DeadLetters) -> int:
    """What changes when a file of letters is written anew."""
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_mtime_ns for path in letters.folder.rglob("*.jsonl"))
    return 0


def _is_alive(child: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return ") Z" not in Path(f"/proc/{child}/stat").read_text()
    return False


def _replayed(letters: DeadLetters) -> int:
    return sum(one.replayed is not None for one in letters.read())
