"""All work that a command or a call begins: what is a job, how it is run, and what is none."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import featurestore
from featurestore.journal import Journal
from ingest import FileSource
from ingest.fleet.progress import State
from tests.inprocess import Ended, run_command

__all__ = ["JOBS", "NO_JOBS", "NO_JOB_CALLS", "Case", "Job"]


@final
@dataclass(frozen=True)
class Case:
    """A home to work on, and where a job's own files go.

    Args:
        home: its folder.
        folder: for the files of the job.
        inputs: what the jobs of all cases read, see `test_every_job.inputs`.
        address: of the server that serves the home; "": none does.
        kafka: opens a topic with one message of `weather`; gives broker and name.
        flight: opens a Flight server with one row of `weather`; gives its address.
        redis: gives the URL of an empty Redis.
    """

    home: Path
    folder: Path
    inputs: Path
    address: str = ""
    kafka: Callable[[], AbstractContextManager[tuple[str, str]]] = lambda: nullcontext(("", ""))
    flight: Callable[[], AbstractContextManager[str]] = lambda: nullcontext("")
    redis: Callable[[], str] = lambda: ""

    def run(self, *arguments: object) -> Ended:
        """Run a command on the home, or on its server."""
        place = ("--connect", self.address) if self.address else ("--home", self.home)
        return run_command(*arguments, *place)

    def file(self, name: str, content: object) -> Path:
        """Write a file of JSON, or of a text as it is."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def input(self, name: str) -> Path:
        """A file that is there for all cases."""
        return self.inputs / name

    def fleet(self, source: str = "") -> Path:
        """Write the settings of a fleet of one pipeline; by default it reads rows.jsonl."""
        place = f'connect = "{self.address}"' if self.address else f'home = "{self.home}"'
        source = source or f'kind = "files", path = "{self.input("rows.jsonl")}"'
        return self.file(
            "fleet.toml",
            f'[store]\n{place}\n[fleet]\nstate = "{self.folder / "fleet"}"\n'
            '[[pipeline]]\nname = "rows"\ngroup = "weather"\n'
            f"source = {{ {source} }}\n",
        )


@final
@dataclass(frozen=True)
class Job:
    """Work that leaves its lineage.

    Args:
        leaves: types of the entities that stand for it.
        run: does it; what a command ended with, or an exception.
        calls: methods of the server that do it, where the command is told to connect; none: it
            works on the files of a home.
        is_remote: whether it runs with --connect.
        before: what it needs before, done while the lineage is whole.
        keeps: folders of the home, and tables, where a job that failed may have left that it did.
        flushes: whether it moves what waits in the outbox, which is no job, before it is refused.
        is_linked: whether associations lead to what it was done with.
    """

    leaves: str
    run: Callable[[Case], Any]
    calls: tuple[str, ...] = ()
    is_remote: bool = True
    before: Callable[[Case], Any] | None = None
    keeps: tuple[str, ...] = ()
    flushes: bool = False
    is_linked: bool = True


CONTROL = "featurestore.v1.FeatureStore"
WINDOWS = "featurestore.v1.WindowedFeatures"
TRAINING = "training.v1.Training"
TRANSFORM = "training.v1.BatchTransform"
LINEAGE = "lineage.v1.Lineage"
RUNTIME = "featurestore.v1.FeatureStoreRuntime"

GROUP = {
    "FeatureGroupName": "more",
    "RecordIdentifierFeatureName": "id",
    "EventTimeFeatureName": "at",
    "FeatureDefinitions": [
        {"FeatureName": "id", "FeatureType": "String"},
        {"FeatureName": "at", "FeatureType": "String"},
        {"FeatureName": "wind", "FeatureType": "Fractional"},
    ],
    "OnlineStoreConfig": {"EnableOnlineStore": True},
    "OfflineStoreConfig": {},
}
ADDED = {"FeatureAdditions": [{"FeatureName": "rain", "FeatureType": "Fractional"}]}
WINDOWED = {
    "WindowedGroupName": "calms",
    "SourceFeatureGroupName": "weather",
    "ByFeatureName": "id",
    "WindowedFeatures": [
        {
            "FeatureName": "least",
            "Aggregation": "min",
            "SourceFeatureName": "wind",
            "WindowSeconds": 3600,
        }
    ],
}
RECORD = {"id": "c", "at": "2026-01-02T00:00:00Z", "wind": 1.0}


def built(case: Case, *options: object) -> Ended:
    """Build a dataset of `weather`."""
    spine = case.input("spine.parquet")
    out = case.folder / "built.parquet"
    ended = case.run(
        *("dataset", "build", "--spine", spine, "--features", "weather[wind]", "--out", out),
        *options,
    )
    assert out.exists() == (ended.returncode == 0)
    return ended


def with_builder(case: Case) -> object:
    """Run a DatasetBuilder, which no command does."""
    opened: Any = featurestore.connect(case.address) if case.address else None
    with opened or featurestore.open(case.home) as store:
        return store.create_dataset("weather").build()


def trained(case: Case) -> Ended:
    """Train the model that all cases may begin with, under another name."""
    return case.run(
        *("train", "xgboost", "--job", "j1", "--threads", 1, "--device", "cpu"),
        *("--channel", f"train={case.input('late.parquet')},label=late"),
        *("--set", "num_round=2", "--set", "objective=binary:logistic"),
    )


def restored(case: Case) -> Ended:
    """Make a home from a backup; the lineage is that of the backup."""
    ended = run_command("restore", case.folder / "backup", "--home", case.folder / "again")
    assert (case.folder / "again").exists() == (ended.returncode == 0)
    return ended


def ingested(case: Case, kind: str, *arguments: object) -> Ended:
    """Ingest into `weather`, with the letters of the home."""
    letters = case.home / "deadletters"
    options = ("--group", "weather", "--dead-letters", letters, "--until-caught-up")
    return case.run("ingest", kind, *arguments, *options)


def from_kafka(case: Case) -> Ended:
    """Ingest a topic."""
    with case.kafka() as (broker, topic):
        return ingested(
            case, "kafka", "--bootstrap", broker, "--topic", topic, "--assignment", "all"
        )


def moved_back(case: Case) -> Ended:
    """Move a pipeline of a topic back by time."""
    with case.kafka() as (broker, topic):
        source = f'kind = "kafka", bootstrap = "{broker}", topic = "{topic}"'
        moment = "2000-01-01T00:00:00Z"
        return run_command(
            "ingest", "replay", "rows", "--from", moment, "--fleet", case.fleet(source)
        )


def partition_of(path: Path) -> str:
    """What a source of files calls the partition of a file."""
    with closing(FileSource(path)) as source:
        source.seek(dict)
        return source.poll(1, 0.0).position[0].partition


def run_of_a_fleet(case: Case) -> Ended:
    """Run a fleet until its pipeline has ended, or waits since it cannot begin."""
    settings = case.fleet()
    over = threading.Event()
    reasons: list[str] = []

    def watch() -> None:
        while not over.wait(0.05):
            told = Journal(case.folder / "fleet" / "status.json").read()
            reasons.extend(one["reason"] for one in told.get("pipelines", ()) if one["reason"])
            if reasons and told["pipelines"][0]["state"] == State.WAITING:
                os.kill(os.getpid(), signal.SIGTERM)  # the fleet would try again, for ever
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    ended = run_command("ingest", "run", settings)
    over.set()
    watcher.join()
    waits = any("to start again" in reason for reason in reasons)
    return Ended(1, ended.stdout, reasons[-1]) if waits else ended


def from_flight(case: Case) -> Ended:
    """Ingest a Flight stream."""
    with case.flight() as location:
        return ingested(case, "flight", location, "--path", "rows")


def predicted(case: Case) -> Ended:
    """Answer rows by the model that is there."""
    out = case.folder / "replies.jsonl"
    ended = case.run("predict", "j0", "--input", case.input("ask.parquet"), "--out", out)
    assert out.exists() == (ended.returncode == 0)
    return ended


def transformed(case: Case) -> Ended:
    """Answer rows by the model that is there, in a job."""
    out = case.folder / "answers"
    ended = case.run(
        *("transform", "run", "j0", "--job", "t1", "--threads", 1),
        *("--input", case.input("ask.parquet"), "--out", out),
    )
    assert (out / "ask.parquet.out").exists() == (ended.returncode == 0)
    return ended


# Every command that is a job.
JOBS: Mapping[str, Job] = {
    "put": Job("Load", lambda c: c.run("put", "weather", c.file("record.json", RECORD))),
    "load": Job(
        "Load",
        lambda c: c.run("load", "weather", c.input("rows.parquet"), "--key", "k"),
        (f"{CONTROL}/LoadRows",),
    ),
    "group create": Job(
        "FeatureGroup",
        lambda c: c.run("group", "create", c.file("group.json", GROUP)),
        (f"{CONTROL}/CreateFeatureGroup",),
        is_linked=False,
    ),
    "group update": Job(
        "FeatureGroup",
        lambda c: c.run("group", "update", "weather", c.file("change.json", ADDED)),
        (f"{CONTROL}/UpdateFeatureGroup",),
    ),
    "group delete": Job(
        "GroupDeletion",
        lambda c: c.run("group", "delete", "planes"),
        (f"{CONTROL}/DeleteFeatureGroup",),
    ),
    "group maintain": Job(
        "Maintenance",
        lambda c: c.run("group", "maintain", "weather", "--retention", "0s"),
        (f"{CONTROL}/Maintain",),
    ),
    "group restore": Job(
        "Restore",
        lambda c: c.run("group", "restore", "weather", "--version", 1),
        (f"{CONTROL}/Restore",),
    ),
    "group backfill": Job(
        "Backfill", lambda c: c.run("group", "backfill", "weather"), (f"{CONTROL}/Backfill",)
    ),
    "group rebuild": Job(
        "Rebuild", lambda c: c.run("group", "rebuild", "weather"), (f"{CONTROL}/Backfill",)
    ),
    "window create": Job(
        "FeatureGroup",
        lambda c: c.run("window", "create", c.file("windowed.json", WINDOWED)),
        (f"{WINDOWS}/CreateWindowedGroup",),
    ),
    "window fill": Job(
        "WindowFill",
        lambda c: c.run("window", "fill", "gusts"),
        (f"{WINDOWS}/FillWindowedGroup",),
    ),
    "window delete": Job(
        "WindowDeletion",
        lambda c: c.run("window", "delete", "gusts"),
        (f"{WINDOWS}/DeleteWindowedGroup",),
    ),
    "ingest files": Job("Ingest", lambda c: ingested(c, "files", c.input("rows.jsonl"))),
    "ingest query": Job(
        "Ingest",
        lambda c: ingested(
            c, "query", "--sql", f"SELECT * FROM '{c.input('rows.parquet')}'", "--order-by", "at"
        ),
    ),
    "ingest changes": Job("Ingest", lambda c: ingested(c, "changes", c.input("table"))),
    "ingest flight": Job("Ingest", from_flight),
    "ingest kafka": Job("Ingest", from_kafka),
    "ingest run": Job("Ingest", run_of_a_fleet),
    "ingest seek": Job(
        "Seek",
        lambda c: run_command(
            *("ingest", "seek", "rows", "--fleet", c.fleet()),
            *("--partition", partition_of(c.input("rows.jsonl")), "--offset", "beginning"),
        ),
        (f"{CONTROL}/MoveSource",),
        is_linked=False,
    ),
    "ingest replay": Job(
        "Seek", moved_back, (f"{CONTROL}/MoveSource",), before=from_kafka, is_linked=False
    ),
    "deadletter replay": Job(
        "Replay",
        lambda c: c.run(
            "deadletter", "replay", "--group", "weather", "--dead-letters", c.home / "deadletters"
        ),
    ),
    "deadletter purge": Job(
        "Purge",
        lambda c: c.run("deadletter", "purge", "--yes", "--dead-letters", c.home / "deadletters"),
    ),
    "dataset build": Job("DatasetBuild", built, (f"{CONTROL}/BuildDataset",), flushes=True),
    "dataset build --memory-limit": Job(
        "DatasetBuild",
        lambda c: built(c, "--memory-limit", "64MB"),
        (f"{CONTROL}/WriteDataset",),
        flushes=True,
    ),
    "dataset rebuild": Job(
        "DatasetBuild",
        lambda c: c.run("dataset", "rebuild", c.input("fingerprint").read_text()),
        (f"{CONTROL}/RebuildDataset",),
        flushes=True,
    ),
    "DatasetBuilder": Job(
        "DatasetBuild", with_builder, (f"{CONTROL}/CreateDataset",), flushes=True
    ),
    "train": Job(
        "TrainingJob",
        trained,
        (f"{TRAINING}/CreateTrainingJob",),
        keeps=("jobs/", "training_job", "sqlite_sequence"),
    ),
    "predict": Job("TransformJob", predicted, is_remote=False),
    "transform run": Job(
        "TransformJob",
        transformed,
        (f"{TRANSFORM}/CreateTransformJob",),
        keeps=("jobs/", "training_job", "sqlite_sequence"),
    ),
    "lineage replay": Job(
        "Replay", lambda c: c.run("lineage", "replay", "j0"), (f"{TRAINING}/ReplayModel",)
    ),
    "lineage gc": Job(
        "Collection",
        lambda c: c.run("lineage", "gc", "--apply", "--older-than", "0d"),
        (f"{LINEAGE}/CollectGarbage",),
    ),
    "erase": Job(
        "Erasure",
        lambda c: c.run("erase", "weather", "a", "--datasets", "delete"),
        (f"{CONTROL}/EraseRecords",),
    ),
    "migrate": Job(
        "Migration",
        lambda c: c.run("migrate", "--to", c.redis()),
        is_remote=False,
        before=lambda c: c.run("window", "delete", "gusts"),
        is_linked=False,
    ),
    "restore": Job("HomeRestore", restored, is_remote=False),
}

READS = "reads only"
RECORD_VERB = "one record at a time; the work that sends many of them is the job"
LINEAGE_ITSELF = "is about the lineage itself, and fails where that cannot be read or written"
RIGHTS = "changes rights, not data; the audit log has it"
KEYS = "changes how keys are kept, not data"
STEERS = "steers a job, which records its own end"

NO_JOBS: Mapping[str, str] = {
    "backup": READS,
    "dataset check": READS,
    "dataset explain": READS,
    "dataset list": READS,
    "dataset show": READS,
    "dataset sources": READS,
    "deadletter list": READS,
    "deadletter show": READS,
    "delete": RECORD_VERB,
    "demo": "runs commands, each of which stands here",
    "feature describe": READS,
    "feature update": "changes what is said of a feature, not its data",
    "flush": "moves acknowledged records, changes none; what reads the table version names it",
    "get": READS,
    "group describe": READS,
    "group history": READS,
    "group list": READS,
    "ingest audit files": READS,
    "ingest audit kafka": READS,
    "ingest pause": STEERS,
    "ingest preview": READS,
    "ingest resume": STEERS,
    "ingest status": READS,
    "jobs budget": STEERS,
    "jobs describe": READS,
    "jobs list": READS,
    "jobs logs": READS,
    "jobs metrics": READS,
    "jobs report": READS,
    "jobs stop": STEERS,
    "key list": READS,
    "key new": KEYS,
    "key rotate": KEYS,
    "lineage ancestors": READS,
    "lineage checkpoint": LINEAGE_ITSELF,
    "lineage columns": READS,
    "lineage copy": LINEAGE_ITSELF,
    "lineage diff": READS,
    "lineage emit": READS,
    "lineage explain": READS,
    "lineage export": READS,
    "lineage features": READS,
    "lineage find": READS,
    "lineage impact": READS,
    "lineage import mlflow": LINEAGE_ITSELF,
    "lineage import ndjson": LINEAGE_ITSELF,
    "lineage import openlineage": LINEAGE_ITSELF,
    "lineage log": READS,
    "lineage models": READS,
    "lineage paths": READS,
    "lineage prove": READS,
    "lineage query": READS,
    "lineage rebuild": LINEAGE_ITSELF,
    "lineage records": READS,
    "lineage replay-spool": LINEAGE_ITSELF,
    "lineage runs": READS,
    "lineage salvage": LINEAGE_ITSELF,
    "lineage show": READS,
    "lineage stats": READS,
    "lineage tag": LINEAGE_ITSELF,
    "lineage use": LINEAGE_ITSELF,
    "lineage verify": READS,
    "lineage watch": READS,
    "policy delete": RIGHTS,
    "policy explain": READS,
    "policy list": READS,
    "policy put": RIGHTS,
    "policy show": READS,
    "records": READS,
    "search": READS,
    "serve": "begins no work of its own but flushes and maintenance, which records itself",
    "transform describe": READS,
    "transform list": READS,
    "transform logs": READS,
    "transform stop": STEERS,
    "token create": RIGHTS,
    "token list": READS,
    "token revoke": RIGHTS,
    "top": READS,
    "verify": READS,
    "window describe": READS,
    "window get": READS,
    "window list": READS,
}

NO_JOB_CALLS: Mapping[str, str] = {
    **{
        f"{CONTROL}/{name}": READS
        for name in (
            *("DescribeFeatureGroup", "ListFeatureGroups", "DescribeFeatureMetadata", "Search"),
            *("Verify", "ExplainDataset", "LoadDataset", "ListDatasets", "DescribeDataset"),
            *("CheckDataset", "ReadHistory", "ListTableVersions", "GetRecordsAsOf"),
            *("TraceRecord", "ListRecordsBehind"),
        )
    },
    f"{CONTROL}/UpdateFeatureMetadata": NO_JOBS["feature update"],
    f"{CONTROL}/Flush": NO_JOBS["flush"],
    f"{CONTROL}/SaveDataset": "keeps a dataset whose build is recorded",
    **{
        f"{WINDOWS}/{name}": READS
        for name in ("DescribeWindowedGroup", "ListWindowedGroups", "GetWindows")
    },
    **{
        f"{RUNTIME}/{name}": READS
        for name in ("GetRecord", "BatchGetRecord", "ListRecords", "GetSourcePosition")
    },
    **{
        f"{RUNTIME}/{name}": RECORD_VERB
        for name in (
            *("PutRecord", "BatchWriteRecord", "UpdateRecord", "DeleteRecord", "StreamRecords"),
        )
    },
    **{
        f"{TRAINING}/{name}": READS
        for name in (
            *("DescribeTrainingJob", "ListTrainingJobs", "ReadTrainingJobLogs"),
            *("ReadTrainingJobMetrics", "ReadTrainingJobReport", "DescribeTrainingBudget"),
        )
    },
    **{f"{TRAINING}/{name}": STEERS for name in ("StopTrainingJob", "UpdateTrainingBudget")},
    **{f"{TRANSFORM}/{name}": READS for name in ("DescribeTransformJob", "ListTransformJobs")},
    f"{TRANSFORM}/StopTransformJob": STEERS,
    **{
        f"{LINEAGE}/{name}": LINEAGE_ITSELF
        for name in (
            *("Record", "RecordBatch", "AddTags", "DeleteTags", "MakeCheckpoint"),
            *("RebuildGraph", "ReplaySpool"),
        )
    },
    **{
        f"{LINEAGE}/{name}": READS
        for name in (
            *("DescribeEntity", "FindEntities", "QueryLineage", "VerifyLog", "SearchEntities"),
            *("FindPaths", "CommonAncestors", "CommonDescendants", "DiffLineage", "ExplainEntity"),
            *("QueryColumns", "ListInputFeatures", "ListFeatureUsers", "ListRuns", "ListEvents"),
            *("ListTags", "DescribeGraph", "Subscribe", "ListCheckpoints", "ProveEntity"),
            *("ProveGrowth", "ExportGraph", "ListOpenLineageEvents"),
        )
    },
}
