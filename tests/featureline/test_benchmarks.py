"""The benchmarks start and write what they promise; how fast anything is, is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"name", "value", "unit", "baseline", "baseline_value", "ratio", "bar", "met", "machine"}


def test_a_benchmark_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "lineage", "--tiny", "--out", tmp_path]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "durable jobs" in done.stdout
    figures = json.loads((tmp_path / "lineage.json").read_text())
    assert figures
    for figure in figures:
        assert set(figure) == KEYS
        # A difference of two times may be negative at this size.
        assert figure["ratio"] == figure["value"] / figure["baseline_value"] != 0
        assert {"cores", "cpu", "load", "python"} <= set(figure["machine"])
    assert list(tmp_path.iterdir()) == [tmp_path / "lineage.json"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "onlin"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "lineage, training, encryption, redis, got onlin" in done.stderr
