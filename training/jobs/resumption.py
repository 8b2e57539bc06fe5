"""Another process for a job whose runner died: `python -m training.jobs.resumption`.

Its arguments are the home, the job's name, the number of a descriptor, and `scripts` or
`no-scripts`. It is started with the claim on the job, in a session of its own, so it outlives
whoever found the job; it runs what is left of the job as the first runner would have.
"""

from __future__ import annotations

import datetime as dt
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import lineage
from training.errors import TrainingError
from training.jobs.claim import Claim
from training.jobs.earlier import Earlier
from training.jobs.program import find_program
from training.jobs.registry import TrainingJobs
from training.jobs.runner import STOP_GRACE_S
from training.jobs.standing import Order
from training.jobs.status import SecondaryStatus
from training.jobs.supervisor import Supervisor
from training.provenance import component_name, record_abandoned

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run what is left of a job; return the exit status."""
    home, name = Path(arguments[0]), arguments[1]
    claim = Claim.inherited(int(arguments[2]))
    stop, kill = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.set())
    with TrainingJobs(home, scripts=arguments[3] == "scripts") as jobs:
        known = jobs.describe(name)
        try:
            program = find_program(known.job)
        except TrainingError as error:
            reason = f"the job cannot go on after its runner died: {error}"
            jobs.move(name, SecondaryStatus.FAILED, message=reason, failure_reason=reason)
            with lineage.open_home(home) as graph:
                record_abandoned(graph, "TrainingJob", component_name(name), reason)
            return 1
        order = Order(
            job=known.job,
            program=program,
            jobs=jobs,
            claim=claim,
            store=None,
            threads=known.threads,
            stop_grace_s=STOP_GRACE_S,
            on_progress=lambda progress: None,
            earlier=Earlier.of(known, jobs.folder(name).root, dt.datetime.now(dt.UTC)),
        )
        result = Supervisor(order, stop, kill).run()
    print(json.dumps(result.to_json()), flush=True)
    claim.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
