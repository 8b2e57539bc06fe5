"""Gives a job whose runner died to another process."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from training.jobs.claim import Claim
from training.jobs.status import SecondaryStatus

__all__ = ["attempts_of", "hand_over"]

_LOG: Final = "supervisor.log"
_MODULE: Final = "training.jobs.resumption"


def attempts_of(row: sqlite3.Row) -> tuple[int, int]:
    """Return how many attempts of a job have begun, and how many it may have.

    Only training jobs have a retry strategy.
    """
    transitions = json.loads(row["transitions"])
    begun = sum(1 for status, *_ in transitions if status == SecondaryStatus.STARTING)
    retry = json.loads(row["job"]).get("RetryStrategy") if row["kind"] == "training" else None
    return begun, 1 + (int(retry["MaximumRetryAttempts"]) if retry else 0)


def hand_over(home: Path, name: str, root: Path, claim: Claim, *, scripts: bool) -> None:
    """Start a process that goes on with a job, and give it the claim.

    Args:
        home: the home folder.
        name: of the job.
        root: its folder.
        claim: on the job; the caller may release it, the process has it too.
        scripts: whether the process may let jobs go on that run a program of their caller.

    Raises:
        OSError: no process can be started.
    """
    with (root / _LOG).open("ab") as log:
        words = [str(home), name, str(claim.descriptor), "scripts" if scripts else "no-scripts"]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(claim.descriptor,),
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
    # Somebody has to take its exit status, or it stays in the system's table.
    threading.Thread(target=process.wait, daemon=True, name=f"resumed {name}").start()
