"""No job goes without lineage: each leaves its record, and fails where it can leave none.

The tables of `everyjob` name every command and every call of the server. Each job of them is run on
a copy of one small home; then again on one whose lineage takes no more events, where it has to fail
and to leave everything as it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import lmdb
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from kafka import KafkaProducer

import lineage
from featureline.broker import Broker, BrokerUnavailable
from featureline.cli import cli
from featureline.server import Server
from featurestore.archive import digest_of
from featurestore.backup import take_backup
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.errors import FeatureStoreError
from featurestore.manifest import MANIFEST, Manifest
from featurestore.server.metrics import Metrics
from featurestore.v1 import control_pb2, runtime_pb2, window_pb2
from ingest import DeadLetters, FileSource, Pipeline
from lineage.v1 import lineage_pb2
from tests.featureline.everyjob import JOBS, NO_JOB_CALLS, NO_JOBS, Case, Job
from tests.inprocess import Ended, run_command
from training.v1 import training_pb2, transform_pb2

HOURS = [f"2026-01-01T{hour:02}:00:00Z" for hour in range(20)]
ROWS = pa.table({"id": ["a", "b"] * 10, "at": HOURS, "wind": [float(n % 7) for n in range(20)]})
ROW = {"id": "k", "at": HOURS[0], "wind": 1.0}
WEATHER = {
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
GUSTS = {
    "WindowedGroupName": "gusts",
    "SourceFeatureGroupName": "weather",
    "ByFeatureName": "id",
    "WindowedFeatures": [
        {
            "FeatureName": "most",
            "Aggregation": "max",
            "SourceFeatureName": "wind",
            "WindowSeconds": 86400,
        }
    ],
}
SERVICES = (control_pb2, runtime_pb2, window_pb2, lineage_pb2, training_pb2, transform_pb2)

REMOTE = {name: job for name, job in JOBS.items() if job.is_remote}


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield " ".join(path)


def calls() -> set[str]:
    return {
        f"{service.full_name}/{method.name}"
        for module in SERVICES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_every_command_is_a_job_or_is_none_for_a_reason() -> None:
    known, there = JOBS.keys() | NO_JOBS.keys(), set(commands())
    assert not there - known, (
        f"new commands {sorted(there - known)}: put each into JOBS of "
        f"tests/featureline/everyjob.py, with how it is run and what it leaves in lineage, or "
        f"into NO_JOBS, with the reason"
    )
    # Some are run in two ways; a dataset builder has no command.
    gone = {name for name in known - there if name.partition(" --")[0] not in there}
    assert gone == {"DatasetBuilder"}, "they are no commands any more: remove them"
    assert not JOBS.keys() & NO_JOBS.keys()


def test_every_call_is_a_job_or_is_none_for_a_reason() -> None:
    jobs = {call for job in JOBS.values() for call in job.calls}
    known, there = jobs | NO_JOB_CALLS.keys(), calls()
    assert not there - known, (
        f"new calls {sorted(there - known)}: put each into `calls` of the job in JOBS of "
        f"tests/featureline/everyjob.py that makes it, or into NO_JOB_CALLS, with the reason"
    )
    assert not known - there, "they are no calls any more: remove them"
    assert not jobs & NO_JOB_CALLS.keys()


# -- what the jobs work on --------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that jobs read."""
    folder = tmp_path_factory.mktemp("inputs")
    pq.write_table(ROWS, folder / "rows.parquet")
    pq.write_table(pa.table({"wind": [1.0]}), folder / "ask.parquet")
    late = pa.table({"wind": ROWS["wind"], "late": [n % 2 for n in range(20)]})
    pq.write_table(late, folder / "late.parquet")
    times = pa.array(["2026-01-01T12:00:00Z"])
    pq.write_table(pa.table({"id": ["a"], "event_time": times}), folder / "spine.parquet")
    bad = {**ROW, "at": "never"}
    (folder / "rows.jsonl").write_text(f"{json.dumps(ROW)}\n{json.dumps(bad)}\n")
    write_deltalake(folder / "table", ROWS)
    return folder


@pytest.fixture(scope="module")
def filled(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with something for every job to do, and its backup beside it."""
    home = tmp_path_factory.mktemp("filled") / "home"

    def run(*arguments: object) -> str:
        ended = run_command(*arguments, "--home", home, "--json")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    for name, body, group in (
        ("group", {"FeatureGroupName": "weather", **WEATHER}, "weather"),
        ("group", {"FeatureGroupName": "planes", **WEATHER}, "planes"),
        ("window", GUSTS, "gusts"),
    ):
        file = home.parent / f"{group}.json"
        file.write_text(json.dumps(body))
        run(name, "create", file)
    with open_store(home) as store:
        for start in range(0, 20, 5):  # small files, for the maintenance
            store.put_table("weather", ROWS.slice(start, 5))
            store.flush("weather")
        letters = DeadLetters(home / "deadletters")
        Pipeline(FileSource(inputs / "rows.jsonl"), store, "weather", dead_letters=letters).run()
        store.put("planes", ROW)
        spine = pa.table({"id": ["a"], "event_time": ["2026-01-01T12:00:00Z"]})
        dataset = store.dataset(spine, ["weather"])
        store.save_dataset(dataset)
        (inputs / "fingerprint").write_text(dataset.fingerprint)
    trained = Case(home, home.parent, inputs).run(
        *("train", "xgboost", "--job", "j0", "--threads", 1, "--device", "cpu"),
        *("--channel", f"train={inputs / 'late.parquet'},label=late"),
        *("--set", "num_round=2", "--set", "objective=binary:logistic"),
    )
    assert trained.returncode == 0, trained.stderr
    with open_store(home) as store:
        store.put("weather", {"id": "a", "at": "2026-01-01T23:00:00Z", "wind": 9.0})  # it waits
    take_backup(home, home.parent / "backup")
    return home


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    try:
        started = Broker().start()
    except BrokerUnavailable as error:
        pytest.skip(f"no Kafka broker: {error}")
    with started:
        yield started


@pytest.fixture
def case(filled: Path, inputs: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    """A copy of the home."""
    shutil.copytree(filled, tmp_path / "home")
    shutil.copytree(filled.parent / "backup", tmp_path / "backup")

    topics: list[str] = []

    @contextmanager
    def kafka() -> Iterator[tuple[str, str]]:
        started: Broker = request.getfixturevalue("broker")
        if not topics:
            topics.append(tmp_path.name)
            started.create_topic(tmp_path.name)
            with closing(KafkaProducer(bootstrap_servers=started.address)) as producer:
                producer.send(tmp_path.name, json.dumps(ROW).encode()).get(10)
        yield started.address, tmp_path.name

    def redis() -> str:
        url: str = request.getfixturevalue("redis_url")()
        return url

    return Case(tmp_path / "home", tmp_path, inputs, kafka=kafka, flight=flying, redis=redis)


class Flights(flight.FlightServerBase):
    """A Flight server of one row."""

    def get_flight_info(
        self, context: flight.ServerCallContext, asked: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        ends = [flight.FlightEndpoint(b"rows", [f"grpc+tcp://127.0.0.1:{self.port}"])]
        return flight.FlightInfo(ROWS.schema, asked, ends, 1, -1)

    def do_get(
        self, context: flight.ServerCallContext, ticket: flight.Ticket
    ) -> flight.RecordBatchStream:
        return flight.RecordBatchStream(pa.Table.from_pylist([ROW], ROWS.schema))


@contextmanager
def flying() -> Iterator[str]:
    with Flights("grpc+tcp://127.0.0.1:0") as server:
        yield f"grpc+tcp://127.0.0.1:{server.port}"


@contextmanager
def served(case: Case) -> Iterator[tuple[Case, Metrics]]:
    """Serve the home of a case as `featureline serve` does, and count its calls."""
    metrics, loop = Metrics(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start(store: EmbeddedStore) -> Server:
        server = Server(store, "127.0.0.1:0", front="grpc", metrics=metrics)
        await server.start()
        return server

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    try:
        with open_store(case.home) as store:
            server = run(start(store))
            try:
                yield replace(case, address=server.address), metrics
            finally:
                run(server.stop(1.0))
                run(loop.shutdown_default_executor())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# -- with lineage -----------------------------------------------------------------------------


def done(name: str, job: Job, case: Case) -> None:
    """Run a job, and look at what it left."""
    home = case.folder / "again" if name == "restore" else case.home
    if job.before is not None:
        job.before(case)
    with lineage.open_home(case.home) as graph:
        before = graph.store.head().sequence
    ended = job.run(case)
    if isinstance(ended, Ended):
        assert ended.returncode == 0, ended.stderr
    with lineage.open_home(home) as graph:
        with graph.store.log(before) as (events, _):
            bodies = b"".join(event.body for event in events)
        left = [one for one in graph.find(type=job.leaves) if one.uid.encode() in bodies]
        assert left, f"{name} left no {job.leaves}"
        assert not [one for one in graph.find() if one.state == "InProgress"]
        assert all(one.state in ("", "Completed") for one in left)
        if job.is_linked:
            assert any(len(graph.query(one, "both", depth=1).entities) > 1 for one in left)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_leaves_its_record(name: str, case: Case) -> None:
    done(name, JOBS[name], case)


@pytest.mark.parametrize("name", REMOTE)
def test_a_job_on_a_server_leaves_its_record(name: str, case: Case) -> None:
    job = REMOTE[name]
    with served(case) as (there, metrics):
        done(name, job, there)
    # Now that no call is under way.
    called = {method for method, _ in metrics.snapshot().numbers["featureline_calls_total"]}
    assert {call.rpartition("/")[2] for call in job.calls} <= called


# -- without ----------------------------------------------------------------------------------


def be_away(home: Path) -> None:
    """Let the file of the lineage be read, and take no event."""
    with closing(sqlite3.connect(home / "lineage.db")) as db, db:
        db.execute("CREATE TRIGGER away BEFORE INSERT ON log BEGIN SELECT * FROM away; END")


def take_no_more(home: Path) -> None:
    """Let the lineage be read, and take no event: neither its file does, nor the spool."""
    be_away(home)
    (home / "lineage.spool.ndjson").mkdir()
    (home / "lineage.spool.ndjson" / "taken").touch()


def be_none(home: Path) -> None:
    """Let a file that is none of ours stand where the lineage was."""
    for file in home.glob("lineage.db*"):
        file.unlink()
    (home / "lineage.db").write_text("not a lineage file, and long enough to be seen as none\n" * 9)


def made_whole(backup: Path) -> None:
    """Let the manifest of a backup say what is in it now: what is refused is not its digests."""
    names = (path.relative_to(backup) for path in backup.rglob("*") if path.is_file())
    files = [digest_of(backup / name, str(name)) for name in names if str(name) != MANIFEST]
    manifest = replace(Manifest.read(backup), files=tuple(files))
    (backup / MANIFEST).write_bytes(manifest.to_bytes())


def told(home: Path) -> dict[str, str]:
    """Tell what a home holds: a digest of each file, row of a table, and part of the online store.

    Left out are the lineage, locks, and folders for what is only there for a while.
    """
    found: dict[str, str] = {}

    def tell(name: str, content: bytes) -> None:
        found[name] = hashlib.sha256(content).hexdigest()

    ours = ("lineage", "locks/", "online/", "meta.db", "cache/", "tmp/", "spill/", "erasure.")
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if path.is_file() and not name.startswith(ours) and not name.endswith(".lock"):
            tell(name, path.read_bytes())
    with closing(sqlite3.connect(home / "meta.db")) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            tell(
                f"{table} in meta.db",
                repr(db.execute(f"SELECT * FROM {table}").fetchall()).encode(),
            )
    copy = home.with_name(f"{home.name}-told")
    shutil.copytree(home / "online", copy)  # a server has the original open
    with lmdb.open(str(copy), max_dbs=64, readonly=True, lock=False) as env, env.begin() as main:
        names = [key for key, _ in main.cursor()]
        for key in names:
            with env.begin() as txn:
                db = env.open_db(key, txn=txn, create=False)
                rows = list(txn.cursor(db))
            tell(f"online: {key.decode()}", repr(rows).encode())
    shutil.rmtree(copy)
    return found


def refused(name: str, job: Job, case: Case, before: dict[str, str]) -> None:
    """Run a job that cannot be recorded, and look at what it left."""
    try:
        ended = job.run(case)
    except (lineage.LineageError, FeatureStoreError) as error:
        said = f"{type(error).__name__}: {error}"
    else:
        assert isinstance(ended, Ended), f"{name} went without lineage"
        assert ended.returncode == 1, f"{name} went without lineage: {ended.stdout}"
        said = ended.stderr
    assert "lineage" in said, said
    assert "Traceback" not in said
    after = told(case.home)
    changed = {part for part in before.keys() | after.keys() if before.get(part) != after.get(part)}
    allowed = (*job.keeps, *(("offline/", "online: outbox") if job.flushes else ()))
    assert not [part for part in changed if not part.startswith(allowed)]


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("broken", [take_no_more, be_none])
def test_a_job_that_cannot_be_recorded_fails_and_changes_nothing(
    name: str, broken: Callable[[Path], None], case: Case
) -> None:
    job = JOBS[name]
    if job.before is not None:
        job.before(case)
    before = told(case.home)
    if name == "restore":
        broken(case.folder / "backup")
        made_whole(case.folder / "backup")
    else:
        broken(case.home)
    refused(name, job, case, before)


@pytest.mark.parametrize("name", REMOTE)
def test_a_job_on_a_server_that_cannot_record_it_fails_and_changes_nothing(
    name: str, case: Case
) -> None:
    job = REMOTE[name]
    if job.before is not None:
        job.before(case)
    before = told(case.home)
    take_no_more(case.home)
    with served(case) as (there, _):
        refused(name, job, there, before)


@pytest.mark.parametrize("name", ["erase", "group delete", "put", "dataset build"])
def test_a_job_goes_on_whose_events_wait_on_disk(name: str, case: Case) -> None:
    be_away(case.home)
    ended = JOBS[name].run(case)
    assert ended.returncode == 0, ended.stderr
    assert f'"{JOBS[name].leaves}"' in (case.home / "lineage.spool.ndjson").read_text()
    with closing(sqlite3.connect(case.home / "lineage.db")) as db, db:
        db.execute("DROP TRIGGER away")
    with lineage.open_home(case.home) as graph:
        assert graph.find(type=JOBS[name].leaves)
        assert not [one for one in graph.find() if one.state == "InProgress"]


def test_an_erasure_whose_lineage_breaks_midway_is_finished_later(case: Case) -> None:
    def break_it(step: str) -> None:
        if step == "offline":
            take_no_more(case.home)

    with open_store(case.home) as store:
        store.eraser.on_step = break_it
        with pytest.raises(lineage.LineageError):
            store.erase("weather", "a")
        # It began, so it goes on: the log knows of it, and so does the journal.
        (begun,) = store.graph.find(type="Erasure")
        assert begun.state == "InProgress"
    with closing(sqlite3.connect(case.home / "lineage.db")) as db, db:
        db.execute("DROP TRIGGER away")
    shutil.rmtree(case.home / "lineage.spool.ndjson")
    with open_store(case.home) as store:
        (report,) = store.eraser.resume()
        (done,) = store.graph.find(type="Erasure")
        assert (done.uid, done.state) == (begun.uid, "Completed")
        assert done.properties["report_digest"] == report.document["digest"]
