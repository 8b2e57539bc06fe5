"""Logs, metrics and reports of jobs, read over a connection as in process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.inprocess import run_command
from tests.training.programs import MakeProgram, program_maker
from tests.training.served import Served, serve
from training import MetricDefinition, TrainingClient, TrainingJob, TrainingJobs, connect, submit
from training.errors import InvalidJob, TrainingJobNotFound, TrainingUnavailable
from training.jobs.following import LogReader, log_lines
from training.jobs.metricfile import MetricReader, MetricWriter

MakeJob = Callable[..., TrainingJob]

PRINTS = """\
import os, pathlib, sys, time
host = os.environ["SM_CURRENT_HOST"]
print("begin \\u00e9", host)
for step in range(3):
    print(f"epoch={step}, loss={1 / (step + 1)}")
flag = pathlib.Path(__file__).parent.parent / "go"
while not flag.exists():
    time.sleep(0.02)
sys.stdout.write("the end")
"""
LOSS = MetricDefinition(name="loss", regex=r"loss=(\S+)")


@pytest.fixture
def make(tmp_path: Path) -> MakeProgram:
    return program_maker(tmp_path)


@pytest.fixture
def served(home: Path) -> Iterator[Served]:
    with serve(home) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[TrainingClient]:
    with connect(served.address) as client:
        yield client


def let_go(home: Path, name: str) -> None:
    (home / "jobs" / name / "go").touch()


def test_a_job_is_followed_on_a_server_as_in_process(
    home: Path, make: MakeProgram, client: TrainingClient
) -> None:
    job = submit(home, make(PRINTS, "prints-1", hosts=2, metric_definitions=[LOSS]))
    lines = client.logs("prints-1", follow=True)
    first = list(itertools.islice(lines, 8))
    assert sorted(first)[:2] == ["algo-1: begin é algo-1", "algo-1: epoch=0, loss=1.0"]
    values = client.follow_metrics("prints-1")
    batch = next(values)
    assert set(batch["name"].to_pylist()) == {"loss"}
    for host in ("", "hosts/algo-2"):
        (home / "jobs" / "prints-1" / host / "go").touch()
    rest = list(lines)
    assert sorted(rest) == ["algo-1: the end", "algo-2: the end"]
    after = list(values)
    job.wait().check()
    with TrainingJobs(home) as jobs:
        assert sorted(jobs.logs("prints-1")) == sorted(first + rest)
        table = jobs.metrics("prints-1")
        assert client.metrics("prints-1").equals(table)
        assert pa.Table.from_batches([batch, *after]).equals(table)
        assert pa.Table.from_batches(client.follow_metrics("prints-1", offset=4)).equals(
            table.slice(4)
        )
        assert pa.Table.from_batches(jobs.follow_metrics("prints-1", offset=4)).equals(
            table.slice(4)
        )
    assert len(table) == 6
    there = ("--connect", client._target)
    for words in (["logs", "-f"], ["logs", "--json"], ["metrics", "-f"], ["metrics", "--json"]):
        here, over = (
            run_command("jobs", words[0], "prints-1", *words[1:], *place)
            for place in (("--home", home), there)
        )
        assert here.returncode == over.returncode == 0, over.stderr
        assert here.stdout == over.stdout != ""
    missing = run_command("jobs", "report", "prints-1", *there)
    assert missing.returncode == 1
    assert "has no report: an algorithm writes one when its fit is done" in missing.stderr
    assert "4" in run_command("jobs", "budget", "--cores", 4, *there).stdout
    assert '"cores": 4' in run_command("jobs", "budget", "--json", "--home", home).stdout


def test_a_reader_goes_on_at_another_server(home: Path, make: MakeProgram, served: Served) -> None:
    job = submit(home, make(PRINTS, "prints-1"))
    port = served.port
    with connect(served.address) as client:
        lines = client.logs("prints-1", follow=True)
        first = list(itertools.islice(lines, 4))
        served.end()
        rest: list[str] = []
        reading = threading.Thread(target=lambda: rest.extend(lines))
        reading.start()
        with serve(home, port):
            let_go(home, "prints-1")
            reading.join(30)
            job.wait().check()
    assert first + rest == [
        "begin é algo-1",
        *(f"epoch={step}, loss={1 / (step + 1)}" for step in range(3)),
        "the end",
    ]


def test_a_reader_that_goes_ends_its_call(
    home: Path, make: MakeProgram, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    logs = served.service._reading.logs

    async def watched(*arguments: object) -> object:  # type: ignore[misc]
        try:
            async for message in logs(*arguments):  # type: ignore[arg-type]
                yield message
        finally:
            ended.set()

    monkeypatch.setattr(served.service._reading, "logs", watched)
    job = submit(home, make(PRINTS, "prints-1"))
    with connect(served.address) as client:
        lines = client.log_pieces("prints-1", follow=True)
        next(lines)
        lines.close()  # type: ignore[attr-defined]
        assert ended.wait(10)
    assert not job.is_done
    let_go(home, "prints-1")
    job.wait().check()


def test_a_report_is_the_file_of_the_job(
    home: Path, make_job: MakeJob, client: TrainingClient, tmp_path: Path
) -> None:
    submit(home, make_job()).wait().check()
    page = client.report("flights-1")
    assert page == (home / "jobs" / "flights-1" / "output" / "data" / "report.html").read_bytes()
    out = tmp_path / "page.html"
    for place in (("--home", home), ("--connect", client._target)):
        ended = run_command("jobs", "report", "flights-1", "--out", out, *place)
        assert ended.returncode == 0, ended.stderr
        assert out.read_bytes() == page
        out.unlink()


def test_what_cannot_be_read_is_refused(home: Path, client: TrainingClient) -> None:
    for call in (client.logs, client.metrics, client.report, client.follow_metrics):
        with pytest.raises(TrainingJobNotFound, match="'nobody' does not exist"):
            list(call("nobody"))
    with pytest.raises(InvalidJob, match="offset: expected 0 or more values, got -1"):
        list(client.follow_metrics("nobody", offset=-1))
    with connect("127.0.0.1:1", timeout_s=0.2) as nobody, pytest.raises(TrainingUnavailable):
        nobody.metrics("prints-1")


def test_offsets_are_checked_and_long_lines_come_in_parts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 3_000_000 + b"\nshort\n")
    reader = LogReader({"algo-1": log})
    pieces = list(reader.read())
    assert max(len(piece.data) for piece in pieces) == 65_536
    assert b"".join(piece.data for piece in pieces) == log.read_bytes()
    lines = list(log_lines(pieces, hosts=1))
    assert "".join(lines) == "x" * 3_000_000 + "short"
    assert lines[-1] == "short"
    assert max(map(len, lines)) < 1_200_000
    later = LogReader({"algo-1": log}, {"algo-1": pieces[3].offset})
    assert list(later.read()) == pieces[4:]
    with pytest.raises(InvalidJob, match="no host 'algo-2'; did you mean 'algo-1'"):
        LogReader({"algo-1": log}, {"algo-2": 0})
    with pytest.raises(
        InvalidJob, match="expected 0 to 3000007, the bytes of its log, got 4000000"
    ):
        LogReader({"algo-1": log}, {"algo-1": 4_000_000})


def test_metrics_are_read_on_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.arrows"
    with MetricReader(path, offset=1) as reader:
        assert list(reader.read()) == []
        with MetricWriter(path, "one", every_s=0) as writer:
            for step in range(3):
                writer.add("loss", step / 2, host="algo-1", micros=step, step=step)
                writer.flush()
            assert [batch["step"][0].as_py() for batch in reader.read()] == [1, 2]
            assert reader.offset == 3
            writer.add("loss", 9.0, host="algo-1", micros=9)
            writer.flush()
            with path.open("r+b") as file:
                whole = file.read()
                file.truncate(len(whole) - 8)
            assert list(reader.read()) == []
            path.write_bytes(whole)
            (batch,) = reader.read()
            assert batch["value"].to_pylist() == [9.0]
        assert list(reader.read()) == []
