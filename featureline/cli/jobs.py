"""`featureline train`, `predict` and `jobs`: training jobs and models."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import training
from featureline.cli.output import console, emit, emit_table, progress
from featureline.cli.store import common_options, login, open_embedded
from featurestore.embedded import open_store

__all__ = ["jobs", "predict", "train"]


@click.command()
@click.argument("algorithm", required=False)
@click.option("--list", "list_all", is_flag=True, help="List the algorithms.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME=PATH[,OPTION=VALUE]",
    help="Input data: label=COLUMN, features=A+B, content_type=TYPE.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A hyperparameter.")
@click.option("--job", "name", help="The job's name.  [default: made from algorithm and time]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="[default: the job's share of cores]"
)
@click.option(
    "--max-runtime", type=click.IntRange(min=0), default=86_400, help="Seconds; 0: no limit."
)
@common_options
def train(
    algorithm: str | None,
    list_all: bool,
    channels: tuple[str, ...],
    settings: tuple[str, ...],
    name: str | None,
    device: str,
    threads: int,
    max_runtime: int,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Train a model with ALGORITHM in a job of its own, recorded in lineage.

    With --connect the job runs on the server, and the paths are the server's.
    """
    if list_all:
        names = training.list_algorithms()
        emit(list(names), as_json=as_json, text="\n".join(names))
        return
    if algorithm is None:
        raise click.UsageError("name an ALGORITHM; --list shows them")
    job = training.TrainingJob(
        training_job_name=name or training.job_name(algorithm, now=dt.datetime.now(dt.UTC)),
        algorithm_name=algorithm,
        hyper_parameters=dict(_pair(setting) for setting in settings),
        input_data_config=[training.Channel.parse(channel) for channel in channels],
        stopping_condition=training.StoppingCondition(max_runtime_in_seconds=max_runtime),
        resource_config=training.ResourceConfig(threads=threads, device=device),
    )
    with progress(job.training_job_name, None, "steps") as tick:
        if connect is not None:
            result = _train_there(connect, job)
        else:
            with open_store(home) as store:
                result = training.train(store, job, on_progress=lambda seen: tick(seen.done))
    _say_result(result, as_json)


@click.command()
@click.argument("model")
@click.option(
    "--input",
    "source",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="Rows to answer: a file or a folder of files of one kind.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the replies go, one JSON object per line.",
)
@click.option("--content-type", help="By default the file's ending decides.")
@common_options
def predict(
    model: str,
    source: Path,
    out: Path,
    content_type: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Answer each row of --input by MODEL (a folder, a job's name or a digest), as JSON lines."""
    if connect is not None:
        raise click.UsageError("predict works on the files of a home; use --home")
    with progress(out.name, None, "rows") as tick:
        rows = training.transform(
            model, source, out, home=home, content_type=content_type, on_rows=tick
        )
    emit({"rows": rows, "out": str(out)}, as_json=as_json, text=f"{rows:,} replies in {out}")


@click.group()
def jobs() -> None:
    """List, describe and stop training jobs, and read their logs."""


@jobs.command(name="list")
@click.option("--status", help="Only jobs in this status.")
@common_options
def list_(status: str | None, home: Path | None, connect: str | None, as_json: bool) -> None:
    """List training jobs, newest first."""
    with _known_jobs(home, connect) as known:
        found = [
            entry.to_json()
            for entry in known.list()
            if status is None or entry.status.value == status
        ]
    rows = [
        {
            "job": entry["TrainingJobName"],
            "algorithm": entry["AlgorithmSpecification"]["AlgorithmName"],
            "status": entry["TrainingJobStatus"],
            "created": entry["CreationTime"],
        }
        for entry in found
    ]
    if as_json:
        emit(found, as_json=True, text="")
        return
    emit_table(
        rows, ("job", "algorithm", "status", "created"), as_json=False, empty="no training jobs"
    )


@jobs.command()
@click.argument("name")
@common_options
def describe(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Describe the training job NAME."""
    with _known_jobs(home, connect) as known:
        body = known.describe(name).to_json()
    emit(body, as_json=as_json, text=json.dumps(body, indent=2, default=str))


@jobs.command()
@click.argument("name")
@common_options
def logs(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Print what the training job NAME has printed."""
    with (
        open_embedded(home, connect, "jobs logs") as store,
        training.TrainingJobs(store.home) as known,
    ):
        lines = list(known.logs(name))
    emit(lines, as_json=as_json, text="\n".join(lines))


@jobs.command()
@click.argument("name")
@common_options
def stop(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Ask the training job NAME to stop."""
    with _known_jobs(home, connect) as known:
        known.stop(name)
    emit({"stopping": name}, as_json=as_json, text=f"{name}: asked to stop")


@contextmanager
def _known_jobs(
    home: Path | None, connect: str | None
) -> Iterator[training.TrainingJobs | training.TrainingClient]:
    """Open the jobs of the home, or of the server."""
    if connect is not None:
        with _there(connect) as there:
            yield there
    else:
        with open_store(home) as store, training.TrainingJobs(store.home) as here:
            yield here


def _there(target: str) -> training.TrainingClient:
    token, tls = login()
    return training.connect(target, token=token, tls=tls)


def _train_there(target: str, job: training.TrainingJob) -> training.JobResult:
    """Run a job on a server; Ctrl-C stops it there."""
    with _there(target) as there:
        name = there.submit(job)
        try:
            return there.wait(name)
        except KeyboardInterrupt:
            there.stop(name)
            raise


def _pair(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not equals:
        raise click.UsageError(f"--set: expected NAME=VALUE, got {setting!r}")
    return name, value


def _say_result(result: training.JobResult, as_json: bool) -> None:
    body: dict[str, Any] = {
        "job": result.job,
        "status": result.status.value,
        "metrics": dict(result.metrics),
        "model": str(result.model) if result.model is not None else None,
        "digest": result.digest,
    }
    if result.failure_reason:
        body["failure_reason"] = result.failure_reason
    lines = [f"{result.job}: {result.status.value}"]
    lines += [f"  {name:<24} {value:.6g}" for name, value in result.metrics.items()]
    if result.model is not None:
        lines += [f"  model   {result.model}", f"  digest  {result.digest}"]
    emit(body, as_json=as_json, text="\n".join(lines))
    if result.status.value == "Failed":
        reason = f"featureline: {result.failure_reason}"
        console.print(reason, style="red", markup=False, soft_wrap=True)
        sys.exit(1)
