"""Reading the runs of an MLflow tracking store into the graph."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, final
from urllib.parse import unquote, urlparse

from lineage.association import AssociationType
from lineage.change import to_json
from lineage.entity import (
    JSON,
    STATE,
    TERMINAL,
    End,
    Entity,
    Facet,
    Kind,
    artifact,
    experiment,
)
from lineage.errors import EntityNotFound, InvalidEntity, InvalidImport
from lineage.imports.ndjson import Imported
from lineage.run import Run

if TYPE_CHECKING:
    from lineage.graph import Graph
    from lineage.wire.client import LineageClient

_STATES: Final = {
    "SCHEDULED": "Pending",
    "RUNNING": "InProgress",
    "FINISHED": "Completed",
    "FAILED": "Failed",
    "KILLED": "Stopped",
}
_PAGE: Final = 200
_ALLOW: Final = "MLFLOW_ALLOW_FILE_STORE"
_CONTEXT: Final = "mlflow.data.context"
_PARENT: Final = "mlflow.parentRunId"

T = TypeVar("T")
_Link = tuple[End, End, str]


def import_mlflow(
    graph: Graph | LineageClient, uri: str | Path, *, actor: str | None = None
) -> Imported:
    """Record the experiments and runs of an MLflow tracking store.

    An experiment becomes an Experiment; a run a TrialComponent of type `MLflowRun` with its
    parameters, latest metrics, tags, state and times. The datasets it logged as inputs become
    `DataSet` artifacts, identified by source and digest, that contributed to it; logged models
    and artifacts what it produced. Two experiment entities are never associated, so a run
    names its experiment and its parent by property and by tag (`experiment`, `parent_run`).
    A run is found under `runs:/ID` and a logged model under `models:/ID` too.

    A run that has not changed since it was last imported changes nothing, so the same import
    may run again and again. Runs that MLflow holds as deleted are not read.

    Args:
        graph: to record in, here or of a server.
        uri: of the store: a folder (`mlruns`), `sqlite:///mlflow.db` (which needs SQLAlchemy)
            or a server.
        actor: who records; by default the user of the process.

    Returns:
        What was read, with a note on each thing that could not be.

    Raises:
        InvalidImport: the store cannot be read, or MLflow is not installed.
    """
    with _client(uri) as (client, folder):
        notes: list[str] = []
        entities = associations = events = 0
        for one in _experiments(client, folder, notes):
            found = _Experiment(graph, client, one, folder)
            for event in found.events(notes):
                recorded = graph.record(
                    event.entities,
                    event.associations,
                    kind="MLflowImported",
                    event_uid=event.uid,
                    actor=actor,
                    runs=event.runs,
                    tags=event.tags,
                    aliases=event.aliases,
                    cycles="allow",
                )
                entities += len(recorded.entities)
                associations += len(event.associations)
                events += 1
        return Imported(entities, associations, events, tuple(notes))


@final
class _Event:
    """What is recorded of one experiment or run."""

    def __init__(self, name: str) -> None:
        self.entities: list[Entity] = []
        self.associations: list[_Link] = []
        self.runs: list[Run] = []
        self.tags: list[tuple[End, str, str | None]] = []
        self.aliases: list[tuple[str, End]] = []
        self._name = name

    @property
    def uid(self) -> str:
        """Of the same content always the same one."""
        said: JSON = [
            [
                [
                    e.kind.value,
                    e.type,
                    e.name,
                    e.uid,
                    e.source_uri,
                    e.content_hash,
                    e.state,
                    e.properties,
                ]
                for e in self.entities
            ],
            [
                [_name(source), _name(destination), link]
                for source, destination, link in self.associations
            ],
            [[run.uid, run.state, run.ended_us] for run in self.runs],
            [[_name(end), key, value] for end, key, value in self.tags],
        ]
        return f"mlflow:{self._name}:{hashlib.sha256(to_json(said).encode()).hexdigest()[:32]}"


@final
class _Experiment:
    """One experiment with its runs and logged models."""

    def __init__(
        self, graph: Graph | LineageClient, client: Any, found: Any, folder: Path | None
    ) -> None:
        self._graph = graph
        self._client = client
        self._found = found
        self._folder = folder
        self.entity = experiment(
            "MLflowExperiment",
            f"mlflow:{found.name}",
            source_uri=found.artifact_location or "",
            properties={
                "experiment_id": str(found.experiment_id),
                "tags": dict(found.tags),
                **_times(created_us=found.creation_time),
            },
        )

    def events(self, notes: list[str]) -> Iterator[_Event]:
        """The experiment, then its runs, oldest first."""
        event = _Event(f"experiment:{self._found.experiment_id}")
        event.entities.append(self.entity)
        yield event
        models = self._models(notes)
        for run in self._runs(notes):
            try:
                yield self._run(run, models, notes)
            except InvalidEntity as error:
                notes.append(f"run {run.info.run_id}: {error}")

    def _runs(self, notes: list[str]) -> Iterator[Any]:
        """Of a file store one by one: MLflow lists none of them when one cannot be read."""
        number = self._found.experiment_id
        if self._folder is None:
            yield from _pages(
                lambda token: self._client.search_runs(
                    [number],
                    max_results=_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            )
            return
        found = []
        for place in (self._folder / str(number)).glob("*/meta.yaml"):
            where = f"run {place.parent.name}: {place}"
            run = _tried(partial(self._client.get_run, place.parent.name), where, notes)
            if run is not None and run.info.lifecycle_stage != "deleted":
                found.append(run)
        yield from sorted(found, key=lambda run: (run.info.start_time or 0, run.info.run_id))

    def _run(self, run: Any, models: Mapping[str, list[Any]], notes: list[str]) -> _Event:
        info, data = run.info, run.data
        event = _Event(f"run:{info.run_id}")
        state = _STATES.get(str(info.status), str(info.status))
        tags = {
            key: value for key, value in data.tags.items() if not key.startswith("mlflow.log-model")
        }
        parent = data.tags.get(_PARENT)
        inputs = self._inputs(run, notes)
        properties: dict[str, JSON] = {
            "run_id": info.run_id,
            "run_name": info.run_name or "",
            "experiment": self._found.name,
            "user": info.user_id or "",
            "parameters": dict(data.params),
            "metrics": {name: _number(value) for name, value in data.metrics.items()},
            "tags": tags,
            "inputs": [
                {"name": one.name, "digest": one.content_hash, "context": context}
                for one, context in inputs
            ],
            **_times(started_us=info.start_time, ended_us=info.end_time),
        }
        if parent:
            properties["parent_run"] = parent
        # A run may begin again; its end outlasts all that was said before it.
        rank = (info.end_time or info.start_time or 0) * 1000
        component = Entity(
            Kind.TRIAL_COMPONENT,
            "MLflowRun",
            self._name_of(info),
            uid=_run_uid(info.run_id),
            source_uri=info.artifact_uri or "",
            properties=properties,
            facets={STATE: Facet(rank + (TERMINAL if info.end_time else 0), state)},
        )
        event.entities.append(component)
        event.aliases.append((f"runs:/{info.run_id}", component))
        event.runs.append(
            Run(
                f"mlflow:{info.run_id}",
                component,
                state,
                _us(info.start_time),
                _us(info.end_time),
                {"parameters": dict(data.params), "metrics": properties["metrics"]},
            )
        )
        event.tags.append((component, "experiment", self._found.name))
        if parent:
            event.tags.append((component, "parent_run", _run_uid(parent)))
        for dataset, _ in inputs:
            event.entities.append(dataset)
            event.associations.append((dataset, component, AssociationType.CONTRIBUTED_TO.value))
        for model in models.get(info.run_id, ()):
            made = _model(model)
            event.entities.append(made)
            event.aliases.append((f"models:/{model.model_id}", made))
            event.associations.append((component, made, AssociationType.PRODUCED.value))
        for used in getattr(run.inputs, "model_inputs", None) or ():
            self._use(used.model_id, component, event, notes)
        for made in self._artifacts(info, notes):
            event.entities.append(made)
            event.associations.append((component, made, AssociationType.PRODUCED.value))
        return event

    def _name_of(self, info: Any) -> str:
        """The name it was first imported under: MLflow renames runs, lineage keeps names."""
        try:
            return self._graph.entity(_run_uid(info.run_id)).name
        except EntityNotFound:
            return str(info.run_name or info.run_id)

    def _inputs(self, run: Any, notes: list[str]) -> list[tuple[Entity, str]]:
        found = []
        for given in run.inputs.dataset_inputs if run.inputs else ():
            context = next((tag.value for tag in given.tags if tag.key == _CONTEXT), "")
            try:
                found.append((_dataset(given.dataset), context))
            except InvalidEntity as error:
                notes.append(f"run {run.info.run_id}: dataset {given.dataset.name!r}: {error}")
        # MLflow lists them in any order; the same run has to look the same each time.
        return sorted(found, key=lambda one: (one[0].name, one[0].uid, one[0].content_hash, one[1]))

    def _use(self, model_id: str, component: Entity, event: _Event, notes: list[str]) -> None:
        used = _tried(
            lambda: self._client.get_logged_model(model_id),
            f"run {component.name!r}: model {model_id}",
            notes,
        )
        if used is not None:
            event.associations.append(
                (_model(used), component, AssociationType.CONTRIBUTED_TO.value)
            )

    def _artifacts(self, info: Any, notes: list[str]) -> list[Entity]:
        """What lies at the top of the run's folder; a folder with an MLmodel is a model."""
        where = f"run {info.run_id}: artifacts"
        files = _tried(lambda: self._client.list_artifacts(info.run_id), where, notes) or ()
        made = []
        for file in sorted(files, key=lambda file: str(file.path)):
            place = f"{info.artifact_uri.rstrip('/')}/{file.path}"
            what, properties = "File", {}
            if file.is_dir:
                inside = _tried(
                    partial(self._client.list_artifacts, info.run_id, file.path),
                    where,
                    notes,
                )
                names = [one.path.rpartition("/")[2] for one in inside or ()]
                what = "Model" if "MLmodel" in names else "Folder"
            elif file.file_size is not None:
                properties = {"size_bytes": int(file.file_size)}
            try:
                made.append(artifact(what, place, properties=properties))
            except InvalidEntity as error:
                notes.append(f"{where}: {error}")
        return made

    def _models(self, notes: list[str]) -> dict[str, list[Any]]:
        """The logged models of the experiment, by the run that made them."""
        where = f"experiment {self._found.name!r}: logged models"
        by_run: dict[str, list[Any]] = {}
        ids = [self._found.experiment_id]
        found = _tried(
            lambda: list(
                _pages(lambda token: self._client.search_logged_models(ids, page_token=token))
            ),
            where,
            notes,
        )
        for model in sorted(found or (), key=lambda model: str(model.model_id)):
            if model.source_run_id:
                by_run.setdefault(model.source_run_id, []).append(model)
        return by_run


def _experiments(client: Any, folder: Path | None, notes: list[str]) -> Iterator[Any]:
    if folder is None:
        yield from _pages(lambda token: client.search_experiments(page_token=token))
        return
    for place in sorted(folder.glob("*/meta.yaml")):
        where = f"experiment {place.parent.name}: {place}"
        found = _tried(partial(client.get_experiment, place.parent.name), where, notes)
        if found is not None and found.lifecycle_stage != "deleted":
            yield found


def _dataset(given: Any) -> Entity:
    try:
        source = json.loads(given.source)
    except ValueError:
        source = given.source
    uri = ""
    if isinstance(source, dict):
        uri = next((str(source[key]) for key in ("uri", "url", "path") if source.get(key)), "")
    elif isinstance(source, str):
        uri = source
    properties: dict[str, JSON] = {"source_type": given.source_type}
    for name in ("schema", "profile"):
        text = getattr(given, name, None)
        if text:
            try:
                properties[name] = json.loads(text)
            except ValueError:
                properties[name] = text
    return artifact(
        "DataSet",
        uri or f"mlflow-dataset:{given.name}",
        content_hash=given.digest or "",
        name=given.name,
        properties=properties,
    )


def _model(model: Any) -> Entity:
    return artifact(
        "Model",
        model.artifact_location,
        content_hash=model.model_id,
        name=model.name or model.model_id,
        state=str(getattr(model.status, "name", model.status)).title(),
        properties={
            "model_id": model.model_id,
            "model_type": model.model_type or "",
            "parameters": dict(model.params or {}),
            "tags": dict(model.tags or {}),
            "metrics": {metric.key: _number(metric.value) for metric in model.metrics or ()},
        },
    )


@contextmanager
def _client(uri: str | Path) -> Iterator[tuple[Any, Path | None]]:
    """A client of the store, and its folder if it is one of files."""
    folder = _folder(uri)
    if folder is not None and not any(folder.glob("*/meta.yaml")):
        # MLflow would make a new store there.
        raise InvalidImport(
            f"{uri}: expected a folder of an MLflow tracking store, such as mlruns, with a "
            f"folder and a meta.yaml for each experiment; found none"
        )
    if str(uri).startswith("sqlite:") and not Path(str(uri).partition(":///")[2]).is_file():
        raise InvalidImport(f"{uri}: expected a database of MLflow; there is no such file")
    before = os.environ.get(_ALLOW)
    # MLflow refuses file stores in favour of databases unless told otherwise; to read one is
    # what is asked here.
    os.environ[_ALLOW] = "true"
    try:
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as missing:
            raise InvalidImport(
                f"{uri}: reading MLflow's stores needs MLflow; pip install 'featureline[mlflow]'"
            ) from missing
        try:
            yield MlflowClient(str(uri) if folder is None else folder.absolute().as_uri()), folder
        except (MlflowException, ModuleNotFoundError) as error:
            raise InvalidImport(f"{uri}: MLflow cannot read it: {error}") from error
    finally:
        if before is None:
            os.environ.pop(_ALLOW, None)
        else:
            os.environ[_ALLOW] = before


def _folder(uri: str | Path) -> Path | None:
    parsed = urlparse(str(uri))
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if parsed.scheme == "" else None


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _tried(ask: Callable[[], T], where: str, notes: list[str]) -> T | None:
    """What MLflow answers, or a note that it cannot: of a torn file it says so in many ways."""
    from mlflow.exceptions import MlflowException
    from yaml import YAMLError

    try:
        return ask()
    except (
        MlflowException,
        YAMLError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        notes.append(f"{where}: {first}")
        return None


def _run_uid(run_id: str) -> str:
    return f"urn:fs:trial-component:mlflow:{run_id}"


def _name(end: End) -> str:
    return (
        end
        if isinstance(end, str)
        else end.uid or f"{end.source_uri} {end.content_hash} {end.name}"
    )


def _us(time_ms: int | None) -> int | None:
    return None if time_ms is None else time_ms * 1000


def _times(**times_ms: int | None) -> dict[str, JSON]:
    return {name: time * 1000 for name, time in times_ms.items() if time is not None}


def _number(value: float) -> JSON:
    """JSON has no NaN and no infinity; as text they stay what they are."""
    return float(value) if math.isfinite(value) else str(value)
