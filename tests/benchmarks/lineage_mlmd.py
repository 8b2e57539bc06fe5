"""ML Metadata beside our durable jobs, in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.benchmarks.harness import note

__all__ = ["Spans", "mlmd_python", "write_jobs"]

_ENVIRONMENT: Final = Path("build/venv-mlmd")
_SCRIPT: Final = Path(__file__).with_name("mlmd_process.py")
_TIMEOUT_S: Final = 300

Spans = list[tuple[float, float, float]]
"""When each writer began and ended, and its longest job, in seconds."""


def mlmd_python() -> Path | None:
    """The Python of an environment with ml-metadata, made when it can be; else None."""
    python = _ENVIRONMENT / "bin" / "python"
    if not python.exists():
        note("installing ml-metadata")
        commands = (
            [sys.executable, "-m", "venv", str(_ENVIRONMENT)],
            [str(python), "-m", "pip", "install", "--quiet", "ml-metadata>=1.17"],
        )
        for command in commands:
            if subprocess.run(command, check=False, capture_output=True).returncode:
                return None
    works = [str(python), "-c", "import ml_metadata"]
    return None if subprocess.run(works, check=False, capture_output=True).returncode else python


def write_jobs(python: Path, path: Path, writers: int, jobs_each: int) -> Spans:
    """Let processes write jobs into one SQLite file at once."""
    processes = []
    for writer in range(writers):
        command = [str(python), str(_SCRIPT), str(path), str(writer), str(jobs_each)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a writer of ML Metadata did not come up")
        processes.append(process)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    spans = []
    for process in processes:
        out, _ = process.communicate(timeout=_TIMEOUT_S)
        began, ended, longest = map(float, out.split())
        spans.append((began, ended, longest))
    return spans
