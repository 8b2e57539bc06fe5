"""Jobs whose runner died without a word: ended as their lineage says, or let go on.

A runner holds a claim on its job's folder, which the system takes from it however it dies. Whoever
looks at the jobs next, a server that starts or `featureline jobs list`, finds the claim free.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from typing import Final, NamedTuple, final

import lineage
from training.jobs.claim import Claim
from training.jobs.database import JobDatabase
from training.jobs.handover import attempts_of, hand_over
from training.jobs.leftover import end_left
from training.jobs.metricfile import last_values
from training.jobs.script import SCRIPT
from training.jobs.status import SecondaryStatus
from training.provenance import Outcome, outcome_of, record_abandoned

__all__ = ["SUFFIXES", "Orphans"]

SUFFIXES: Final = {"training": "", "transform": ".transform"}
"""What ends the names of folders; names of jobs have no dots, so no two kinds share one."""
_ABANDONED: Final = "the process that ran this job ended before the job did"
_NO_SCRIPTS: Final = (
    "this server runs no programs of its callers; whoever runs it allows them with "
    "`featureline serve --scripts`; then submit the job again under another name"
)
_COMPONENTS: Final = {
    "training": ("TrainingJob", "-aws-training-job"),
    "transform": ("TransformJob", "-aws-transform-job"),
}
"""By kind of job, the type of its lineage and what ends its name there."""

logger = logging.getLogger(__name__)


class _Component(NamedTuple):
    type: str
    name: str


@final
class Orphans:
    """Settles the jobs of a home that nobody runs any more.

    Args:
        database: with the rows of all jobs.
        scripts: whether jobs that run a program of their caller may go on from here.
    """

    def __init__(self, database: JobDatabase, *, scripts: bool = True) -> None:
        self._database = database
        self._scripts = scripts

    def settle(self) -> None:
        """End what such jobs have left running, and the jobs; those with attempts left go on."""
        for row in self._database.active():
            key = row["name"]
            if not self._database.folder(key).root.is_dir():
                self._abandon(row, f"{_ABANDONED}, and its folder is gone")
                continue
            claim = Claim.take(self._database.claim_path(key))
            if claim is None:
                continue
            try:
                self._settle(key, claim)
            finally:
                claim.release()
        self._record_late()

    def _settle(self, key: str, claim: Claim) -> None:
        row = self._database.row(key)
        # Its runner may have ended it properly between our look and our claim.
        if SecondaryStatus(row["secondary_status"]).primary.is_final:
            return
        root = self._database.folder(key).root
        if killed := end_left(root):
            logger.warning("job %s: ended %d processes that its runner has left", key, killed)
        if (outcome := self._outcome(row)) is not None:
            self._end_as(row, outcome)
            return
        begun, most = attempts_of(row)
        if begun >= most or row["stop_requested"]:
            self._abandon(row, _reason(row, begun, most))
            return
        if not self._scripts and _runs_program(row):
            self._abandon(row, f"{_ABANDONED}, and it does not go on here: {_NO_SCRIPTS}")
            return
        self._database.move(key, SecondaryStatus.INTERRUPTED, message=_ABANDONED)
        # Entered here, so that a start that fails counts.
        self._database.move(key, SecondaryStatus.STARTING, message=f"attempt {begun + 1} of {most}")
        try:
            hand_over(self._database.home, key, root, claim, scripts=self._scripts)
        except OSError as error:
            self._abandon(row, f"{_ABANDONED}, and no other could be started: {error}")

    def _outcome(self, row: sqlite3.Row) -> Outcome | None:
        """Return how the lineage says that a job ended, where its runner died after that."""
        component = _component(row)
        try:
            with lineage.open_home(self._database.home) as graph:
                return outcome_of(graph, component.type, component.name)
        except lineage.LineageError:
            logger.exception("the lineage of job %s cannot be read", row["name"])
            return None

    def _end_as(self, row: sqlite3.Row, outcome: Outcome) -> None:
        key, model = row["name"], None
        if outcome.digest:
            model = self._database.home / "artifacts" / "models" / outcome.digest
        self._database.move(
            key,
            SecondaryStatus(outcome.state),
            message=outcome.reason,
            failure_reason=outcome.reason,
            metrics=self._finals(row),
            model=model,
            digest=outcome.digest or row["digest"],
        )

    def _abandon(self, row: sqlite3.Row, reason: str) -> None:
        key = row["name"]
        if row["kind"] == "transform":
            # What it has answered stays: an equal job goes on from there.
            for place in ("input", "spill"):
                shutil.rmtree(self._database.folder(key).root / place, ignore_errors=True)
        self._database.move(
            key,
            SecondaryStatus.FAILED,
            message=reason,
            failure_reason=reason,
            metrics=self._finals(row),
            digest=row["digest"],
        )
        if not self._record(row, reason):
            with self._database.change() as db:
                db.execute("UPDATE training_job SET is_unrecorded = 1 WHERE name = ?", (key,))

    def _finals(self, row: sqlite3.Row) -> str:
        """Return what a training job has measured; how far a transform was, as it said last."""
        if row["kind"] == "transform":
            return str(row["metrics"])
        return json.dumps(last_values(self._database.folder(row["name"]).metrics))

    def _record_late(self) -> None:
        """Record the ends that could not be recorded when they were found."""
        for row in self._database.query("SELECT * FROM training_job WHERE is_unrecorded = 1"):
            if self._record(row, row["failure_reason"]):
                with self._database.change() as db:
                    db.execute(
                        "UPDATE training_job SET is_unrecorded = 0 WHERE name = ?", (row["name"],)
                    )

    def _record(self, row: sqlite3.Row, reason: str) -> bool:
        component = _component(row)
        try:
            with lineage.open_home(self._database.home) as graph:
                record_abandoned(graph, component.type, component.name, reason)
        except lineage.LineageError:
            # The job is Failed either way; it is tried again at the next look.
            logger.exception("the end of job %s could not be recorded", row["name"])
            return False
        return True


def _component(row: sqlite3.Row) -> _Component:
    type_, end = _COMPONENTS[row["kind"]]
    return _Component(type_, f"{row['name'].removesuffix(SUFFIXES[row['kind']])}{end}")


def _runs_program(row: sqlite3.Row) -> bool:
    """Whether a job runs a program of its caller."""
    if row["kind"] != "training":
        return False
    return bool(json.loads(row["job"])["AlgorithmSpecification"]["AlgorithmName"] == SCRIPT)


def _keeps_checkpoints(row: sqlite3.Row) -> bool:
    """Whether a training job's checkpoints outlive it."""
    return bool(json.loads(row["job"]).get("CheckpointConfig", {}).get("S3Uri"))


def _reason(row: sqlite3.Row, begun: int, most: int) -> str:
    if row["stop_requested"]:
        return f"{_ABANDONED}; it had been asked to stop"
    if most > 1:
        return f"{_ABANDONED}, in attempt {begun} of {most}"
    again = "submit it again under another name"
    if row["kind"] == "training" and _keeps_checkpoints(row):
        again += ", with the same checkpoint path: it goes on from there"
    return f"{_ABANDONED}; {again}; with a retry strategy it is started again by itself"
