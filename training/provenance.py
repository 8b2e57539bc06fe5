"""What a training job tells the lineage graph.

    data set, algorithm (Artifacts) ─ContributedTo─► training job ─Produced─► model (Artifact)

A dataset file stands for the dataset it was built as, so the walk from a model goes on to the
feature groups. A file that was cut or changed since says so: it is derived from that dataset.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet

import lineage
from featurestore.digest import table_digest
from training.algorithm import Algorithm
from training.artifact import Artifact
from training.data import manifest_of
from training.errors import InvalidData, TrainingJobFailed
from training.formats import ContentType, read_file
from training.jobs.delivery import SourceFile
from training.jobs.job import Channel, TrainingJob
from training.jobs.script import Script

__all__ = [
    "Outcome",
    "component_name",
    "model_entity",
    "outcome_of",
    "record_abandoned",
    "record_algorithm",
    "record_channel",
    "record_checkpoints",
    "record_columns",
    "record_model",
    "record_restored",
    "record_script",
    "record_tensorboard",
    "recorder",
    "versions",
]

_PARQUET = "application/x-parquet"


def component_name(job: str) -> str:
    """Return the name of a job's trial component, as SageMaker names it."""
    return f"{job}-aws-training-job"


def recorder(
    graph: lineage.Graph,
    job: TrainingJob,
    parameters: Mapping[str, Any],
    *,
    libraries: Mapping[str, str],
    folder: Path,
    threads: int,
    device: str,
) -> lineage.Recorder:
    """Return the recorder that a job runs in."""
    return lineage.Recorder(
        graph,
        "TrainingJob",
        component_name(job.training_job_name),
        source_uri=folder.absolute().as_uri(),
        parameters=parameters,
        properties={
            "job": job.training_job_name,
            "source_type": "SageMakerTrainingJob",
            "algorithm": job.algorithm_name,
            "libraries": dict(libraries),
            "threads": threads,
            "device": device,
            "tags": dict(job.tags),
            "columns": {
                channel.channel_name: {
                    "label": channel.label,
                    "features": list(channel.features),
                }
                for channel in job.input_data_config
            },
        },
    )


def record_algorithm(run: lineage.Recorder, algorithm: type[Algorithm]) -> None:
    """Name the algorithm as an input: its code, and its libraries in their versions."""
    source = inspect.getsourcefile(algorithm)
    digest = hashlib.sha256(Path(source).read_bytes() if source else b"")
    for library, version in sorted(versions(algorithm).items()):
        digest.update(f"{library}=={version}\n".encode())
    run.input(
        lineage.artifact(
            "Image",
            f"algorithm:{algorithm.name}",
            content_hash=digest.hexdigest(),
            properties={"libraries": versions(algorithm)},
        )
    )


def record_script(run: lineage.Recorder, script: Script, code: Path) -> None:
    """Name a program's source as an input, by the digest of its files."""
    run.input(
        lineage.artifact(
            "SourceCode",
            script.source.as_uri(),
            content_hash=lineage.folder_digest(code),
            name=script.program,
            properties={"program": script.program},
        )
    )


def record_model(run: lineage.Recorder, artifact: Artifact) -> dict[str, Any]:
    """Name the model that a fit goes on from as an input; returns as `record_channel`."""
    seen = run.input(model_entity(artifact))
    return {"uid": seen.uid, "source": artifact.path.as_uri(), "files": len(artifact.files)}


def record_channel(
    run: lineage.Recorder,
    channel: Channel,
    source: Path,
    sources: Sequence[SourceFile],
    *,
    check: Callable[[], None] = lambda: None,
    digests: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Name a channel's data as an input.

    Args:
        run: of the job.
        channel: of the job.
        source: where the channel's data is.
        sources: its files.
        check: called often while they are read; what it raises ends that.
        digests: of the files by name, where they are known.

    Returns:
        what the job keeps of it: `uid`, `source`, and how many `files`.

    Cost: reads every file once, and a dataset file into memory.
    """
    hashes = digests or {file.name: lineage.file_digest(file.path, check=check) for file in sources}
    files = [file.path for file in sources]
    content = next(iter(hashes.values()))
    if len(hashes) > 1:
        listing = "".join(f"{name}\0{digest}\n" for name, digest in sorted(hashes.items()))
        content = hashlib.sha256(listing.encode()).hexdigest()
    data = lineage.artifact(
        "DataSet",
        source.absolute().as_uri(),
        content_hash=content,
        properties={"files": len(hashes), "bytes": sum(file.stat().st_size for file in files)},
    )
    manifest = _manifest(channel, files)
    if manifest is None:
        seen = run.input(data)
    else:
        built = _built_dataset(manifest)
        if _is_whole(channel, files, manifest):
            seen = run.input(built)
        else:
            seen = run.input(data)
            run.associate(built, data, lineage.AssociationType.DERIVED_FROM)
            # Rows were left out; of each that is there the columns are the dataset's.
            run.columns(
                data,
                [
                    lineage.ColumnEdge(built, column, column, subtype="IDENTITY")
                    for column in manifest["columns"]
                ],
            )
    return {"uid": seen.uid, "source": source.absolute().as_uri(), "files": len(files)}


def model_entity(artifact: Artifact) -> lineage.Entity:
    """Return the lineage artifact of a model."""
    return lineage.artifact(
        "Model",
        artifact.path.absolute().as_uri(),
        content_hash=artifact.digest,
        name=f"{artifact.algorithm} {artifact.digest[:12]}",
        properties={
            "algorithm": artifact.algorithm,
            "inputs": [column["name"] for column in artifact.inputs],
        },
    )


def record_columns(
    run: lineage.Recorder, artifact: Artifact, job: TrainingJob, data: str, importance: Any
) -> None:
    """Say which columns of the training data the model reads, and how much it makes of each.

    Args:
        run: of the job; the model is its output.
        artifact: the model.
        job: what was asked for.
        data: uid of what the channel `train` read.
        importance: by column, where the algorithm tells; shares of the whole are recorded.
    """
    shares: dict[str, float] = {}
    if isinstance(importance, Mapping):
        gains = {str(name): float(gain) for name, gain in importance.items()}
        total = sum(gains.values())
        shares = {name: gain / total for name, gain in gains.items()} if total > 0 else {}
    edges = [
        lineage.ColumnEdge(
            data,
            column["name"],
            column["name"],
            subtype="TRANSFORMATION",
            properties={"importance": shares.get(column["name"], 0.0)} if shares else {},
        )
        for column in artifact.inputs
    ]
    label = next((c.label for c in job.input_data_config if c.channel_name == "train"), None)
    if label is not None:
        edges.append(lineage.ColumnEdge(data, label, "", "INDIRECT", "CONDITIONAL", "the label"))
    run.columns(model_entity(artifact), edges)


def record_checkpoints(run: lineage.Recorder, folder: Path, kept: Path | None = None) -> None:
    """Name the checkpoints that a job has left, if any, as an output.

    Args:
        run: of the job.
        folder: the job's.
        kept: where they are kept beyond the job, if they are.
    """
    if _has_files(folder, "*"):
        run.output(_folder_entity(run, folder, "Checkpoint", "checkpoints", at=kept))


def record_restored(run: lineage.Recorder, folder: Path, kept: Path) -> None:
    """Name the checkpoints that a job starts from, if there are any, as an input."""
    if _has_files(folder, "*"):
        run.input(_folder_entity(run, folder, "Checkpoint", "checkpoints", at=kept))


def record_tensorboard(run: lineage.Recorder, folder: Path, kept: Path | None = None) -> None:
    """Name the event files of TensorBoard that a job has left, if any, as an output.

    Args:
        run: of the job.
        folder: the job's.
        kept: where they are kept beyond the job, if they are.
    """
    if _has_files(folder, "*tfevents*"):
        run.output(_folder_entity(run, folder, "TensorBoard", "TensorBoard", at=kept))


def _has_files(folder: Path, pattern: str) -> bool:
    return folder.is_dir() and any(one.is_file() for one in folder.rglob(pattern))


def _folder_entity(
    run: lineage.Recorder, folder: Path, type: str, what: str, *, at: Path | None = None
) -> lineage.Entity:
    return lineage.artifact(
        type,
        (at or folder).absolute().as_uri(),
        content_hash=lineage.folder_digest(folder),
        name=f"{run.entity.properties['job']} {what}",
    )


@final
@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        state: Completed, Failed or Stopped.
        reason: why it failed or was stopped; "" when it completed.
        digest: of its model; "" when there is none.
    """

    state: str
    reason: str
    digest: str


def outcome_of(graph: lineage.Graph, type: str, component: str) -> Outcome | None:
    """Return how a job ended; None while its record is open, or where there is none.

    Args:
        graph: of the home.
        type: of the job's trial component, such as `TrainingJob`.
        component: its name.
    """
    for known in graph.find(kind=lineage.Kind.TRIAL_COMPONENT, type=type, name=component):
        if known.state in ("Completed", "Failed", "Stopped"):
            stopped = known.state == "Stopped"
            reason = known.properties.get("stop_reason" if stopped else "failure_reason")
            models = [
                one.content_hash
                for one in graph.query(known, "descendants", depth=1)
                if one.type == "Model" and known.state != "Failed"
            ]
            plain = str(reason or "").removeprefix(f"{TrainingJobFailed.__name__}: ")
            return Outcome(known.state, plain, models[0] if models else "")
    return None


def record_abandoned(graph: lineage.Graph, type: str, component: str, reason: str) -> None:
    """Close the record of a job whose runner died, where it is still open.

    Args:
        graph: of the home.
        type: of the job's trial component, such as `TrainingJob`.
        component: its name.
        reason: why the job failed.
    """
    for known in graph.find(kind=lineage.Kind.TRIAL_COMPONENT, type=type, name=component):
        if known.state == "InProgress":
            graph.record(
                [
                    lineage.trial_component(
                        type,
                        known.name,
                        source_uri=known.source_uri,
                        state="Failed",
                        properties={"failure_reason": reason},
                    )
                ],
                kind="JobFailed",
            )


def versions(algorithm: type[Algorithm]) -> dict[str, str]:
    """Return the installed versions of an algorithm's libraries, by PyPI name."""
    found = {}
    for package in algorithm.libraries.values():
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Installed under another name, as xgboost-cpu for xgboost.
            found[package] = "unknown"
    return found


def _manifest(channel: Channel, files: Sequence[Path]) -> Mapping[str, Any] | None:
    """Return the dataset manifest of a channel's first file."""
    given = ContentType.parse(channel.content_type).base if channel.content_type else _PARQUET
    is_parquet = given == _PARQUET and all(file.name.endswith(".parquet") for file in files)
    if not is_parquet or channel.compression != "None":
        return None
    try:
        return manifest_of(pyarrow.parquet.read_schema(files[0]))
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{channel.channel_name}: {files[0].name!r} cannot be read as {given}: {error}",
            channel=channel.channel_name,
            path=str(files[0]),
        ) from error


def _built_dataset(manifest: Mapping[str, Any]) -> lineage.Entity:
    """Return the dataset as its build recorded it: the same identity, so the graph connects."""
    fingerprint = str(manifest["fingerprint"])
    return lineage.artifact(
        "DataSet",
        f"dataset:{fingerprint}",
        content_hash=fingerprint,
        name=f"dataset {fingerprint[:12]}",
    )


def _is_whole(channel: Channel, files: Sequence[Path], manifest: Mapping[str, Any]) -> bool:
    """Whether a dataset file still holds the rows and columns it was built with.

    Tools that cut a table carry its metadata along, so the manifest alone proves nothing.
    """
    if len(files) != 1 or "rows_digest" not in manifest:
        return False
    if pyarrow.parquet.read_metadata(files[0]).num_rows != manifest.get("rows"):
        return False
    table = read_file(files[0], ContentType(_PARQUET), channel=channel.channel_name)
    return bool(table_digest(table.replace_schema_metadata(None)) == manifest["rows_digest"])
