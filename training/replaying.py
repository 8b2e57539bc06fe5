"""A model trained again from its lineage: the same bytes, or the step that differs.

    model ─► its training job ─► data (built again), parameters, code, environment ─► model again

The job runs anew in a home of its own, which records its lineage as every home does. What the two
records say is then compared step by step, in the order in which one leads to the next: the first
step that differs is where to look.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, final

import lineage
from featurestore.dataset import Dataset
from featurestore.errors import DatasetChanged, DatasetNotFound
from training.errors import InvalidJob, ModelNotFound
from training.jobs.description import TrainingJobDescription
from training.jobs.folder import JobFolder
from training.jobs.job import Channel, TrainingJob
from training.jobs.registry import TrainingJobs
from training.jobs.result import JobResult, Progress
from training.jobs.runner import RunningJob, submit
from training.jobs.script import SCRIPT, kept_source

__all__ = ["ReplayReport", "ReplayStep", "Replayable", "replay"]

_EQUAL: Final = "equal"
_DIFFERS: Final = "differs"
_UNKNOWN: Final = "unknown"
_NEVER: Final = dt.datetime.min.replace(tzinfo=dt.UTC)


class Replayable(Protocol):
    """A store whose models can be trained again: an embedded one."""

    @property
    def home(self) -> Path:
        """Its folder."""

    @property
    def graph(self) -> lineage.Graph:
        """Its lineage."""

    def rebuild_dataset(self, fingerprint: str) -> Dataset:
        """Build a dataset again from the table versions it names."""


@final
@dataclass(frozen=True)
class ReplayStep:
    """One thing that the model depends on, then and now.

    Args:
        name: `dataset CHANNEL`, `dataset CHANNEL was cut from`, `data CHANNEL`, `parameters`,
            `code`, `libraries`, `environment`, `threads`, `device`, or `model`.
        verdict: `equal`, `differs`, or `unknown` where one of the two is not known.
        expected: what the lineage says; "" when it does not.
        got: what it is now.
        note: what is to be known about it, such as why a dataset could not be built again.
    """

    name: str
    verdict: str
    expected: str
    got: str
    note: str = ""


@final
@dataclass(frozen=True)
class ReplayReport:
    """What came of training a model again.

    Args:
        model: uid of the model.
        digest: of the model, as recorded.
        job: that made it.
        verdict: `equal`: the same bytes; `differs`; `failed`: the job did not run to its end.
        steps: in causal order, the model last.
        reason: why it failed; else "".
        recorded: uid of the action that says all this in the lineage.
    """

    model: str
    digest: str
    job: str
    verdict: str
    steps: tuple[ReplayStep, ...]
    reason: str = ""
    recorded: str = ""

    @property
    def first_difference(self) -> ReplayStep | None:
        """The first step that differs: what comes behind may follow from it."""
        return next((step for step in self.steps if step.verdict == _DIFFERS), None)

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        first = self.first_difference
        return {
            "model": self.model,
            "digest": self.digest,
            "job": self.job,
            "verdict": self.verdict,
            "first_difference": None if first is None else first.name,
            "steps": [vars(step) for step in self.steps],
            "reason": self.reason,
            "recorded": self.recorded,
        }

    def to_text(self) -> str:
        """The report for people, a line for each step."""
        said = {
            _EQUAL: "equal, bit for bit",
            _DIFFERS: "DIFFERS",
            "failed": f"FAILED: {self.reason}",
        }[self.verdict]
        lines = [f"model {self.digest[:12]} of job {self.job}: {said}"]
        first = self.first_difference
        for step in self.steps:
            line = f"  {step.verdict:<8} {step.name}"
            if step.verdict == _DIFFERS:
                line += f": expected {step.expected or 'nothing'}, got {step.got or 'nothing'}"
            if step.note:
                line += f" ({step.note})"
            lines.append(line + ("  <- the first difference" if step is first else ""))
        return "\n".join(lines)


def replay(
    store: Replayable,
    model: str,
    *,
    keep: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_job: Callable[[RunningJob], None] = lambda job: None,
    scripts: bool = True,
    actor: str | None = None,
) -> ReplayReport:
    """Train a model again and say whether it comes out the same; the verdict is recorded.

    Datasets are built again from the table versions they name. Other data is read where the job
    read it, or from the copy that the job's folder keeps. Parameters, seed, threads and device are
    those of the job.

    Args:
        store: that trained it.
        model: uid of the model in the lineage, or its digest.
        keep: a new folder for the model that came out; None: it is deleted.
        on_progress: see `training.train`.
        on_job: called with the job that trains again once it is started, so that it can be stopped.
        scripts: whether a job that ran a program of its caller may run it again.
        actor: who asks for it, for the record; None: the user of the process.

    Raises:
        ModelNotFound: the lineage knows no such model, or no job that made it.
        TrainingJobNotFound: the job is not in the home.
        InvalidJob: `keep` exists, or the job ran a program where that is not allowed.
        RecordingFailed: the verdict cannot be recorded.
    """
    if keep is not None and keep.exists():
        raise InvalidJob(f"{keep}: exists; name a new folder for the model", field="keep")
    graph = store.graph
    made = _model(graph, model)
    component = _made_by(graph, made)
    name = str(component.properties.get("job", component.name))
    with TrainingJobs(store.home, scripts=scripts) as jobs:
        described = jobs.describe(name)
        folder = jobs.folder(name)
    if described.job.algorithm_name == SCRIPT and not scripts:
        raise InvalidJob(
            f"job {name} ran a program of its caller, and this server runs none; whoever runs it "
            f"allows them with `featureline serve --scripts`",
            field="AlgorithmName",
        )
    at = dt.datetime.now(dt.UTC)
    recorder = lineage.Recorder(
        graph,
        "Replay",
        f"replay-{made.content_hash[:12]}-{at:%Y%m%dT%H%M%S.%fZ}",
        kind=lineage.Kind.ACTION,
        properties={"job": name, "model": made.content_hash},
        actor=actor,
    )
    with recorder as run, _scratch(store.home) as scratch:
        run.input(made)
        steps: list[ReplayStep] = []
        channels = []
        for channel in described.job.input_data_config:
            data = graph.entity(_channels(component)[channel.channel_name])
            run.input(data)
            again, said = _channel(store, channel, data, folder, scratch)
            channels.append(again)
            steps += said
        job = replace(
            described.job,
            training_job_name=f"replay-{made.content_hash[:12]}",
            input_data_config=tuple(channels),
            hyper_parameters=kept_source(described.job.hyper_parameters, folder.code)
            if described.job.algorithm_name == SCRIPT
            else described.job.hyper_parameters,
            # What others keep in the folder of the checkpoints is not the job's, then or now.
            checkpoint_config=None,
            resource_config=replace(
                described.job.resource_config,
                threads=described.threads,
                device=_device_of(described),
            ),
        )
        running = submit(scratch / "home", job, on_progress=on_progress, scripts=scripts)
        on_job(running)
        result = running.wait()
        report = _report(made, name, component, graph, job, result, scratch / "home", steps)
        run.property("verdict", report.verdict)
        run.property("report", report.to_json())
        if keep is not None and result.model is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(result.model, keep)
    return replace(report, recorded=recorder.entity.uid)


def _model(graph: lineage.Graph, model: str) -> lineage.Entity:
    try:
        found = graph.entity(model)
    except lineage.EntityNotFound as missing:
        by_digest = [one for one in graph.find(type="Model") if one.content_hash == model]
        if not by_digest:
            raise ModelNotFound(f"lineage: {missing}", name=model) from None
        found = by_digest[-1]
    if found.type != "Model":
        raise ModelNotFound(
            f"{model}: expected a model, got {found.type} {found.name!r}", name=model
        )
    return found


def _made_by(graph: lineage.Graph, model: lineage.Entity) -> lineage.Entity:
    """The job that made a model last."""
    jobs = graph.query(
        model, "ascendants", depth=1, types=["TrainingJob"], through=["Produced"]
    ).entities
    done = [job for job in jobs if job.state == "Completed"]
    if not done:
        raise ModelNotFound(
            f"{model.name}: the lineage names no training job that made it, so there is nothing "
            f"to train again",
            name=model.uid,
        )
    return max(done, key=lambda job: (job.modified or _NEVER, job.uid))


def _channels(component: lineage.Entity) -> dict[str, str]:
    """The uid of what each channel of a job read."""
    channels = component.properties.get("channels")
    if not isinstance(channels, Mapping):
        return {}
    return {
        name: str(channel["uid"])
        for name, channel in sorted(channels.items())
        if isinstance(channel, Mapping)
    }


def _channel(
    store: Replayable, channel: Channel, data: lineage.Entity, folder: JobFolder, scratch: Path
) -> tuple[Channel, list[ReplayStep]]:
    """Where a channel's data comes from this time, and what is to be said about that."""
    what = f"dataset {channel.channel_name}"
    fingerprint = data.properties.get("fingerprint")
    if isinstance(fingerprint, str):
        path = scratch / f"{channel.channel_name}.parquet"
        dataset, step = _rebuilt(store, what, fingerprint)
        if dataset is None:
            return _read_again(store, channel, folder, scratch), [step]
        dataset.write(path)
        return replace(channel, dataset=None, path=str(path)), [step]
    again = _read_again(store, channel, folder, scratch)
    # A file that was cut from a dataset cannot be cut again, but the dataset can be built.
    origins = store.graph.query(
        data, "ascendants", depth=1, types=["DataSet"], through=["DerivedFrom"]
    )
    fingerprints = {
        str(one.properties["fingerprint"]) for one in origins if "fingerprint" in one.properties
    }
    return again, [_rebuilt(store, f"{what} was cut from", one)[1] for one in sorted(fingerprints)]


def _rebuilt(store: Replayable, what: str, fingerprint: str) -> tuple[Dataset | None, ReplayStep]:
    try:
        dataset = store.rebuild_dataset(fingerprint)
    except (DatasetChanged, DatasetNotFound) as error:
        return None, ReplayStep(what, _UNKNOWN, fingerprint, "", str(error))
    return dataset, ReplayStep(what, _EQUAL, fingerprint, dataset.fingerprint, "built again")


def _read_again(store: Replayable, channel: Channel, folder: JobFolder, scratch: Path) -> Channel:
    """The data as the job read it: its folder keeps a copy, unless the job read it in place.

    A copy of packed files, or of a manifest's lines, has other bytes than the lineage names, so it
    is read where the source is gone. A host's share of the files is not all of them; what is kept
    for a pipe is.
    """
    piped = folder.piped(channel.channel_name)
    if piped.is_dir() and channel.data_type == "S3Prefix":
        return replace(channel, dataset=None, path=str(piped))
    kept = folder.channel(channel.channel_name)
    is_whole = channel.distribution == "FullyReplicated" and kept.is_dir() and any(kept.iterdir())
    is_rewritten = channel.compression != "None" or channel.is_augmented
    is_there = channel.path is not None and Path(channel.path).exists()
    if is_whole and not (is_rewritten and is_there):
        return _copied(channel, folder, scratch)
    if channel.path is not None:
        return channel
    path = store.home / "artifacts" / "datasets" / f"{channel.dataset}.parquet"
    return replace(channel, dataset=None, path=str(path))


def _device_of(described: TrainingJobDescription) -> str:
    """Return what a job computed on; of several hosts each has had a device of its own."""
    asked = described.job.resource_config
    return asked.device if asked.instance_count > 1 else described.device or asked.device


def _copied(channel: Channel, folder: JobFolder, scratch: Path) -> Channel:
    """The copy in a job's folder as a channel, in the order in which the job read it."""
    kept, listing = folder.channel(channel.channel_name), folder.listing(channel.channel_name)
    copy = replace(channel, dataset=None, path=str(kept), compression="None")
    if channel.is_augmented:
        manifest = next(file for file in sorted(kept.iterdir()) if file.is_file())
        return replace(copy, path=str(manifest), shuffle_seed=None)
    copy = replace(copy, data_type="S3Prefix")
    is_ordered = channel.data_type == "ManifestFile" or channel.shuffle_seed is not None
    if not is_ordered or not listing.is_file():
        return copy
    names = [name for name, _ in json.loads(listing.read_text(encoding="utf-8"))]
    order = scratch / f"{channel.channel_name}.manifest"
    order.write_text(json.dumps([{"prefix": f"{kept.absolute()}/"}, *names]), encoding="utf-8")
    return replace(copy, path=str(order), data_type="ManifestFile", shuffle_seed=None)


def _report(
    made: lineage.Entity,
    name: str,
    component: lineage.Entity,
    graph: lineage.Graph,
    job: TrainingJob,
    result: JobResult,
    home: Path,
    steps: list[ReplayStep],
) -> ReplayReport:
    with lineage.open_home(home) as fresh:
        [again] = fresh.find(type="TrainingJob")
        now = _facts(fresh, again)
    then = _facts(graph, component)
    # What a dataset built again holds is said by its fingerprint, not by its file.
    built = {step.name.removeprefix("dataset ") for step in steps}
    for what, expected in then.items():
        kind, _, channel = what.partition(" ")
        if kind == "data" and channel in built:
            continue
        got = now.get(what, "")
        known = bool(expected) and bool(got)
        verdict = _EQUAL if expected == got else _DIFFERS if known else _UNKNOWN
        steps.append(ReplayStep(what, verdict, expected, got))
    if result.model is None:
        return ReplayReport(
            made.uid, made.content_hash, name, "failed", tuple(steps), result.failure_reason
        )
    verdict = _EQUAL if result.digest == made.content_hash else _DIFFERS
    steps.append(ReplayStep("model", verdict, made.content_hash, result.digest))
    return ReplayReport(made.uid, made.content_hash, name, verdict, tuple(steps))


def _facts(graph: lineage.Graph, component: lineage.Entity) -> dict[str, str]:
    """What a record says of what went into a job, in causal order."""
    found: dict[str, str] = {}
    for name, uid in _channels(component).items():
        found[f"data {name}"] = graph.entity(uid).content_hash
    properties = component.properties
    found["parameters"] = _text(properties.get("parameters"))
    codes = graph.query(
        component, "ascendants", depth=1, types=["Image", "SourceCode"], include_edges=False
    )
    found["code"] = next((code.content_hash for code in codes), "")
    found["libraries"] = _text(properties.get("libraries"))
    found["environment"] = str(properties.get("environment_digest", ""))
    found["threads"] = _text(properties.get("threads"))
    found["device"] = str(properties.get("device", ""))
    return found


def _text(value: object) -> str:
    return "" if value is None else json.dumps(value, sort_keys=True, default=str)


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder of the home for the job that is run again, deleted at the end."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="replay-", dir=home / "tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
