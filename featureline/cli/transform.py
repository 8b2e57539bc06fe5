"""`featureline transform`: batch transform jobs."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

import training
from featureline.cli.jobs import jobs_of_server
from featureline.cli.output import console, emit, emit_table, read_json
from featureline.cli.store import common_options, open_embedded
from featurestore.embedded import open_store

__all__ = ["transform"]

_LINE_S: Final = 10.0


@click.group()
def transform() -> None:
    """Answer files, or the records of a feature group, by a model in a job of its own."""


@transform.command()
@click.argument("model", required=False)
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="What is answered: a file, a folder, or with --manifest a file that lists them.",
)
@click.option("--input-group", metavar="GROUP", help="Answer the latest records of this group.")
@click.option("--table-version", type=click.IntRange(min=0), help="Of --input-group's table.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the answers: one NAME.out for each input file NAME.",
)
@click.option("--out-group", metavar="GROUP", help="Store each answer in this group, once.")
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME=JSONPATH",
    help="Of --out-group: where its value is, such as score=$.SageMakerOutput.score.",
)
@click.option("--event-time", default="", help="Of all records of --out-group.")
@click.option("--content-type", help="Of the files.  [default: by their ending]")
@click.option(
    "--split",
    type=click.Choice(["None", "Line", "RecordIO", "TFRecord"]),
    help="What a record is.  [default: by content type; None: the whole file]",
)
@click.option("--gzip", is_flag=True, help="The files are compressed.")
@click.option("--manifest", is_flag=True, help="--input lists the files, in JSON.")
@click.option(
    "--strategy",
    type=click.Choice(["MultiRecord", "SingleRecord"]),
    help="Many records in a request, or one.  [default: MultiRecord]",
)
@click.option(
    "--max-payload-mb",
    type=click.IntRange(0, 100),
    default=6,
    show_default=True,
    help="The most of a request; 0: no limit.",
)
@click.option(
    "--concurrent",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Requests answered at once, each by a process of its own.",
)
@click.option(
    "--hosts",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="So many times the processes of --concurrent.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 3600),
    default=600,
    show_default=True,
    help="Seconds that a script may answer a request.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 3),
    default=3,
    show_default=True,
    help="How often a script is asked again when a request fails.",
)
@click.option("--accept", help="Content type of the answers.  [default: of the requests]")
@click.option(
    "--assemble",
    type=click.Choice(["None", "Line"]),
    default="None",
    help="Line: each answer ends with a line end.",
)
@click.option("--input-filter", default="$", help="JSONPath: what of a record the model is sent.")
@click.option("--output-filter", default="$", help="JSONPath: what of the answer is kept.")
@click.option("--join", is_flag=True, help="Put each record beside its answer.")
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the processes."
)
@click.option("--job", "name", help="The job's name.  [default: made from model and time]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Of each process.  [default: the job's share of cores]",
)
@click.option("--memory-mb", type=click.IntRange(min=0), default=0, help="Set aside for each.")
@click.option(
    "--definition",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file in CreateTransformJob's shape, in place of the other options; - is stdin.",
)
@common_options
def run(
    model: str | None,
    definition: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer --input or --input-group by MODEL (a training job, a digest or a folder).

    The job reads its input in requests, asks the model, and writes the answers in the order of the
    input. It is recorded in lineage, waits for the same cores as training jobs, and leaves all of
    its answers or none. With --connect it runs on the server, and the paths are the server's.
    """
    if definition is not None:
        if model is not None or _any_given(options):
            raise click.UsageError("--definition says everything; leave MODEL and options out")
        job = training.TransformJob.from_json(read_json(definition))
    elif model is None:
        raise click.UsageError("name a MODEL, or give a --definition")
    elif (options["source"] is None) == (options["input_group"] is None):
        raise click.UsageError("give what is answered by one of --input and --input-group")
    elif (options["out"] is None) == (options["out_group"] is None):
        raise click.UsageError("say where the answers go by one of --out and --out-group")
    else:
        job = _job(model, options)
    with _progress(job.transform_job_name) as show:
        if connect is not None:
            result = _run_there(connect, job, show)
        else:
            with open_store(home) as store:
                result = training.run_transform(store, job, on_progress=show)
    _say_result(result, as_json)


@transform.command(name="list")
@click.option("--status", help="Only jobs in this status.")
@common_options
def list_(status: str | None, home: Path | None, connect: str | None, as_json: bool) -> None:
    """List transform jobs in the order of their creation."""
    with _known_jobs(home, connect) as known:
        found = [entry.to_json() for entry in known.list(status=status)]
    if as_json:
        emit(found, as_json=True, text="")
        return
    rows = [
        {
            "job": entry["TransformJobName"],
            "model": entry["ModelName"],
            "status": _status(entry),
            "records": f"{entry['Records']:,}",
            "created": entry["CreationTime"],
        }
        for entry in found
    ]
    columns = ("job", "model", "status", "records", "created")
    emit_table(rows, columns, as_json=False, empty="no transform jobs")


@transform.command()
@click.argument("name")
@common_options
def describe(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Describe the transform job NAME."""
    with _known_jobs(home, connect) as known:
        body = known.describe(name).to_json()
    emit(body, as_json=as_json, text=json.dumps(body, indent=2, default=str))


@transform.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
@common_options
def logs(name: str, follow: bool, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Print what the transform job NAME has printed, such as a script's own lines."""
    with (
        open_embedded(home, connect, "transform logs") as store,
        training.TransformJobs(store.home) as known,
    ):
        lines = known.logs(name, follow=follow)
        if as_json:
            emit(list(lines), as_json=True, text="")
            return
        for line in lines:
            click.echo(line)


@transform.command()
@click.argument("name")
@common_options
def stop(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Ask the transform job NAME to stop."""
    with _known_jobs(home, connect) as known:
        known.stop(name)
    emit({"stopping": name}, as_json=as_json, text=f"{name}: asked to stop")


def _any_given(options: Iterable[str]) -> bool:
    """Whether one of some options stands on the command line."""
    context = click.get_current_context()
    return any(context.get_parameter_source(o) is ParameterSource.COMMANDLINE for o in options)


def _job(model: str, options: dict[str, Any]) -> training.TransformJob:
    source, out = options["source"], options["out"]
    now = dt.datetime.now(dt.UTC)
    return training.TransformJob(
        transform_job_name=options["name"] or training.job_name(Path(model).name, now=now),
        model_name=model,
        transform_input=training.TransformInput(
            path=None if source is None else str(source),
            feature_group=options["input_group"],
            table_version=options["table_version"],
            content_type=options["content_type"],
            split_type=options["split"] or "",
            compression="Gzip" if options["gzip"] else "None",
            data_type="ManifestFile" if options["manifest"] else "S3Prefix",
        ),
        transform_output=training.TransformOutput(
            path=None if out is None else str(out),
            feature_group=options["out_group"],
            features=dict(_pair("--feature", text) for text in options["features"]),
            event_time=options["event_time"],
            accept=options["accept"],
            assemble_with=options["assemble"],
        ),
        data_processing=training.DataProcessing(
            input_filter=options["input_filter"],
            output_filter=options["output_filter"],
            join_source="Input" if options["join"] else "None",
        ),
        batch_strategy=options["strategy"] or "",
        max_payload_in_mb=options["max_payload_mb"],
        max_concurrent_transforms=options["concurrent"],
        model_client_config=training.ModelClientConfig(
            timeout_seconds=options["timeout"], max_retries=options["retries"]
        ),
        environment=dict(_pair("--env", text) for text in options["variables"]),
        transform_resources=training.ResourceConfig(
            threads=options["threads"],
            device=options["device"],
            memory_mb=options["memory_mb"],
            instance_count=options["hosts"],
        ),
    )


def _run_there(target: str, job: training.TransformJob, show: Any) -> training.TransformResult:
    """Run a job on a server; Ctrl-C stops it there."""
    with jobs_of_server(target) as there:
        name = there.transforms.submit(job)
        try:
            return there.transforms.wait(name, on_progress=show)
        except KeyboardInterrupt:
            there.transforms.stop(name)
            raise


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{option}: expected NAME=VALUE, got {text!r}")
    return name, value


def _status(entry: dict[str, Any]) -> str:
    """Return the status, with what the job is doing where that says more."""
    status, doing = str(entry["TransformJobStatus"]), str(entry["SecondaryStatus"])
    return f"{status} ({doing})" if status == "InProgress" else status


def _say_result(result: training.TransformResult, as_json: bool) -> None:
    text = f"{result.job}: {result.status.value}"
    if result.status is training.TrainingJobStatus.COMPLETED:
        files = f"{result.files:,} file{'' if result.files == 1 else 's'}"
        text += f"\n  {result.records:,} records, {files}: {result.output}"
    emit(result.to_json(), as_json=as_json, text=text)
    if result.status is training.TrainingJobStatus.FAILED:
        reason = f"featureline: {result.failure_reason}"
        console.print(reason, style="red", markup=False, soft_wrap=True)
        sys.exit(1)


@contextmanager
def _known_jobs(
    home: Path | None, connect: str | None
) -> Iterator[training.TransformJobs | training.TransformClient]:
    """Open the jobs of the home, or of the server."""
    if connect is not None:
        with jobs_of_server(connect) as there:
            yield there.transforms
    else:
        with open_store(home) as store, training.TransformJobs(store.home) as here:
            yield here


@contextmanager
def _progress(title: str) -> Iterator[Callable[[training.TransformProgress], None]]:
    """Yield what shows how far a job is: a line that changes on a terminal, else plain lines."""
    if console.is_terminal:
        with console.status(title) as status:
            yield lambda seen: status.update(f"{title}: {_said(seen)}")
        return
    last: list[Any] = [None, time.monotonic()]

    def show(seen: training.TransformProgress) -> None:
        now = time.monotonic()
        if seen.status.primary.is_final or (seen.status is last[0] and now < last[1] + _LINE_S):
            return
        last[:] = [seen.status, now]
        click.echo(f"{title}: {_said(seen)}", err=True)

    yield show


def _said(seen: training.TransformProgress) -> str:
    records = f", {seen.records:,} records" if seen.records else ""
    return f"{seen.status.value}{records}"
