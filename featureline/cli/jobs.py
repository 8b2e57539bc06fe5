"""`featureline predict` and `jobs`: models, and the training jobs of a home."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click
import pyarrow as pa
import pyarrow.compute as pc

import training
from featureline.cli.output import emit, emit_table, progress
from featureline.cli.store import common_options, login
from featurestore.embedded import open_store

__all__ = ["jobs", "jobs_of_server", "predict"]

_COLUMNS: Final = ("time", "host", "epoch", "step", "name", "value")


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
        found = [entry.to_json() for entry in _all(known, status)]
    found.reverse()
    rows = [
        {
            "job": entry["TrainingJobName"],
            "algorithm": entry["AlgorithmSpecification"]["AlgorithmName"],
            "status": _status(entry),
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
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
@common_options
def logs(name: str, follow: bool, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Print what the training job NAME has printed.

    With --connect a connection that breaks is made again, and nothing is printed twice.
    """
    with _known_jobs(home, connect) as known:
        lines = known.logs(name, follow=follow)
        if as_json:
            _emit_each(lines)
            return
        for line in lines:
            click.echo(line)


@jobs.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
@click.option("--metric", help="Only values of this metric.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write an Arrow file instead of printing.",
)
@common_options
def metrics(
    name: str,
    follow: bool,
    metric: str | None,
    out: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Print every metric that the training job NAME has reported so far."""
    if follow and out is not None:
        raise click.UsageError("--follow prints; give --out when the job has ended")
    with _known_jobs(home, connect) as known:
        if follow:
            rows = _rows_of(known.follow_metrics(name), metric)
            if as_json:
                _emit_each(rows)
                return
            for row in map(_shown, rows):
                click.echo("\t".join(f"{row[column]}" for column in _COLUMNS))
            return
        table = known.metrics(name)
    if metric is not None:
        table = table.filter(pc.field("name") == metric)
    if out is not None:
        with pa.OSFile(str(out), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        count = len(table)
        emit({"rows": count, "out": str(out)}, as_json=as_json, text=f"{count:,} values in {out}")
        return
    rows = _rows_of(table.to_batches(), None)
    shown = list(rows) if as_json else list(map(_shown, rows))
    emit_table(shown, _COLUMNS, as_json=as_json, empty="no metrics so far")


@jobs.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page goes.  [default: NAME.html]",
)
@common_options
def report(
    name: str, out: Path | None, home: Path | None, connect: str | None, as_json: bool
) -> None:
    """Write the page on how the model of the training job NAME was measured, as HTML."""
    out = out or Path(f"{name}.html")
    with _known_jobs(home, connect) as known:
        if isinstance(known, training.TrainingClient):
            page = known.report(name)
        else:
            page = known.report(name).read_bytes()
    out.write_bytes(page)
    emit(
        {"job": name, "out": str(out), "bytes": len(page)},
        as_json=as_json,
        text=f"the report of {name} is in {out}",
    )


@jobs.command()
@click.option("--cores", type=click.IntRange(min=1), help="Cores for all jobs together.")
@click.option("--memory-mb", type=click.IntRange(min=1), help="Memory for all jobs together.")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs for all jobs together.")
@common_options
def budget(
    cores: int | None,
    memory_mb: int | None,
    gpus: int | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Show or set what training jobs may use at once; others wait in the order they came.

    Without a budget the jobs of a home share the whole machine.
    """
    given = {"cores": cores, "memory_mb": memory_mb, "gpus": gpus}
    changes = {name: value for name, value in given.items() if value is not None}
    with _known_jobs(home, connect) as known:
        if changes:
            known.set_budget(replace(known.budget(), **changes))
        now = asdict(known.budget())
    emit(
        now,
        as_json=as_json,
        text="\n".join(f"{name:<10} {value:,}" for name, value in now.items()),
    )


@jobs.command()
@click.argument("name")
@common_options
def stop(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Ask the training job NAME to stop."""
    with _known_jobs(home, connect) as known:
        known.stop(name)
    emit({"stopping": name}, as_json=as_json, text=f"{name}: asked to stop")


def _all(
    known: training.TrainingJobs | training.TrainingClient, status: str | None
) -> list[training.TrainingJobDescription]:
    """Return the jobs in the order of their creation, however many there are."""
    if isinstance(known, training.TrainingClient):
        return list(known.list(status=status))
    found: list[training.TrainingJobDescription] = []
    while page := known.list(status=status, after=found[-1].job.training_job_name if found else ""):
        found += page
    return found


def _rows_of(batches: Iterable[pa.RecordBatch], metric: str | None) -> Iterator[dict[str, Any]]:
    """Yield the values of a metric, or of all."""
    for batch in batches:
        for row in batch.to_pylist():
            if metric is None or row["name"] == metric:
                yield row


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as people see it: what is not known is empty."""
    return {column: "" if value is None else value for column, value in row.items()}


def _emit_each(values: Iterable[Any]) -> None:
    """Print a JSON list as it comes."""
    before = "["
    for value in values:
        click.echo(before + json.dumps(value, default=str), nl=False)
        before = ", "
    click.echo("[]" if before == "[" else "]")


def _status(entry: dict[str, Any]) -> str:
    """Return the status, with what the job is doing where that says more."""
    status, doing = str(entry["TrainingJobStatus"]), str(entry["SecondaryStatus"])
    return f"{status} ({doing})" if status == "InProgress" else status


@contextmanager
def _known_jobs(
    home: Path | None, connect: str | None
) -> Iterator[training.TrainingJobs | training.TrainingClient]:
    """Open the jobs of the home, or of the server."""
    if connect is not None:
        with jobs_of_server(connect) as there:
            yield there
    else:
        with open_store(home) as store, training.TrainingJobs(store.home) as here:
            yield here


def jobs_of_server(target: str) -> training.TrainingClient:
    """Return the jobs of a server."""
    token, tls = login()
    return training.connect(target, token=token, tls=tls)
