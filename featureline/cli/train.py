"""`featureline train`: an algorithm, or a script of the user's, in a job of its own."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any, Final

import click

import training
from featureline.cli.algorithmhelp import TrainCommand, summary
from featureline.cli.jobprogress import job_progress
from featureline.cli.jobs import jobs_of_server
from featureline.cli.output import console, emit
from featureline.cli.store import common_options
from featurestore.embedded import open_store

__all__ = ["train"]

_SCRIPT: Final = "script"


@click.command(cls=TrainCommand)
@click.argument("algorithm", required=False)
@click.option("--list", "list_all", is_flag=True, help="List the algorithms.")
@click.option(
    "--script",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Run this program instead of an algorithm, as SageMaker's containers do.",
)
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    help="The folder or tar.gz that --script needs.  [default: the script alone]",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME=PATH[,OPTION=VALUE]",
    help="Input data. Options: label=COLUMN, features=A+B, content_type=TYPE, input_mode=MODE, "
    "shuffle_seed=N, distribution=WORD, compression=Gzip, data_type=WORD, attributes=A+B, "
    "record_wrapper=RecordIO.",
)
@click.option(
    "--dataset",
    metavar="FINGERPRINT|PATH[,OPTION=VALUE]",
    help="The dataset to learn from: short for --channel train=…",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A hyperparameter.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME=REGEX",
    help="A metric to read from the log; the first group is its value.",
)
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the process."
)
@click.option("--job", "name", help="The job's name.  [default: made from algorithm and time]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "fp16"]),
    default="float32",
    show_default=True,
    help="Of the arithmetic; the others in algorithms of torch.",
)
@click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="[default: the job's share of cores]"
)
@click.option(
    "--hosts",
    type=click.IntRange(1, 64),
    default=1,
    help="Processes algo-1 to algo-N that work together.",
)
@click.option(
    "--memory-mb", type=click.IntRange(min=0), default=0, help="Memory to set aside for each host."
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to go on from and to keep checkpoints in.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Seconds between an algorithm's checkpoints; 0: after each step.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 30),
    default=0,
    help="Start it again so often when it fails.",
)
@click.option(
    "--tensorboard", is_flag=True, help="Write its metrics as event files of TensorBoard."
)
@click.option(
    "--tensorboard-path",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write them, and keep a copy in this folder.",
)
@click.option(
    "--max-runtime", type=click.IntRange(min=0), default=86_400, help="Seconds; 0: no limit."
)
@common_options
def train(
    algorithm: str | None,
    list_all: bool,
    script: Path | None,
    source: Path | None,
    channels: tuple[str, ...],
    dataset: str | None,
    settings: tuple[str, ...],
    metrics: tuple[str, ...],
    variables: tuple[str, ...],
    name: str | None,
    device: str,
    precision: str,
    threads: int,
    hosts: int,
    memory_mb: int,
    checkpoints: Path | None,
    checkpoint_every: float | None,
    retries: int,
    tensorboard: bool,
    tensorboard_path: Path | None,
    max_runtime: int,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Train a model with ALGORITHM or --script in a job of its own, recorded in lineage.

    With --connect the job runs on the server, and the paths are the server's. ALGORITHM --help
    tells of its channels and hyperparameters.
    """
    if list_all:
        names = training.list_algorithms()
        lines = [f"{name:<24}{summary(name)}" for name in names]
        emit(list(names), as_json=as_json, text="\n".join(lines))
        return
    if dataset is not None:
        channels = (f"train={dataset}", *channels)
    if (algorithm is None) == (script is None):
        raise click.UsageError("name an ALGORITHM (--list shows them) or a --script")
    if source is not None and script is None:
        raise click.UsageError("--source goes with --script")
    values = dict(_pair("--set", setting) for setting in settings)
    called = algorithm or ""
    if script is not None:
        called = script.stem
        values = training.script_hyperparameters(script, source) | values
    job = training.TrainingJob(
        training_job_name=name or training.job_name(called, now=dt.datetime.now(dt.UTC)),
        algorithm_name=algorithm or _SCRIPT,
        hyper_parameters=values,
        input_data_config=[training.Channel.parse(channel) for channel in channels],
        stopping_condition=training.StoppingCondition(max_runtime_in_seconds=max_runtime),
        resource_config=training.ResourceConfig(
            threads=threads,
            device=device,
            instance_count=hosts,
            memory_mb=memory_mb,
            precision=precision,
        ),
        environment=dict(_pair("--env", variable) for variable in variables),
        checkpoint_config=training.CheckpointConfig(
            path=str(checkpoints or ""), interval_in_seconds=checkpoint_every
        )
        if checkpoints or checkpoint_every is not None
        else None,
        retry_strategy=training.RetryStrategy(maximum_retry_attempts=retries) if retries else None,
        tensor_board_output_config=training.TensorBoardOutputConfig(
            path=str(tensorboard_path or "")
        )
        if tensorboard or tensorboard_path
        else None,
        metric_definitions=[
            training.MetricDefinition(name=metric, regex=regex)
            for metric, regex in (_pair("--metric", given) for given in metrics)
        ],
    )
    with job_progress(job.training_job_name) as show:
        if connect is not None:
            result = _train_there(connect, job, show)
        else:
            with open_store(home) as store:
                result = training.train(store, job, on_progress=show)
    _say_result(result, as_json)


def _train_there(target: str, job: training.TrainingJob, show: Any) -> training.JobResult:
    """Run a job on a server; Ctrl-C stops it there."""
    with jobs_of_server(target) as there:
        name = there.submit(job)
        try:
            return there.wait(name, on_progress=show)
        except KeyboardInterrupt:
            there.stop(name)
            raise


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{option}: expected NAME=VALUE, got {text!r}")
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
