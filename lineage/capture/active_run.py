"""Experiments: runs that a notebook logs to, and their comparison."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, SupportsFloat, final

from lineage.capture.content import as_artifact
from lineage.capture.recorder import Recorder, RecordsLineage
from lineage.capture.track import TrackedRun, default_graph, parent_properties, running
from lineage.entity import JSON, Entity, Kind, amended, artifact, derived_uid, trial_component
from lineage.errors import EntityNotFound, InvalidEntity
from lineage.log import new_uid, now_us
from lineage.number import (
    as_number,
    as_step,
    kept_number,
    metrics_of,
    parameters_of,
)
from lineage.run import Run

if TYPE_CHECKING:
    import pyarrow

RUN_TYPE: Final = "Run"

_SERIES: Final = "MetricSeries"
# A series is written when it has so many points, or is so old, and at the end.
_POINTS: Final = 1_000
_FLUSH_S: Final = 10.0


@final
class ActiveRun:
    """One run of an experiment, while it is logged to; made by `start_run`.

    As a context manager it ends with the block: Completed, Failed with the exception's text, or
    Stopped when interrupted. A process that is killed leaves it InProgress, with what was
    written; `mark_run` says what became of it, and `start_run(resume=…)` goes on with it.

    Methods may be called from any thread.
    """

    def __init__(self, graph: RecordsLineage, recorder: Recorder, tags: Mapping[str, str]) -> None:
        self._graph: Any = graph
        self._recorder = recorder
        self._tags = dict(tags)
        self._lock = threading.RLock()
        self._series: dict[str, list[tuple[int, float | str, int]]] = {}
        self._flushed = time.monotonic()
        self._inside = running(TrackedRun(recorder))

    @property
    def name(self) -> str:
        """The run's name."""
        return self._recorder.entity.name

    @property
    def uid(self) -> str:
        """Of the run's entity."""
        return self._recorder.entity.uid

    @property
    def entity(self) -> Entity:
        """The run, as last recorded."""
        return self._recorder.entity

    def log_parameter(self, name: str, value: object) -> None:
        """Set a parameter, a JSON value; `lineage.parameters_of` gives it back, NaN included.

        Raises:
            InvalidEntity: the value is not JSON.
        """
        with self._lock:
            self._recorder.parameter(name, value)

    def log_parameters(self, values: Mapping[str, object]) -> None:
        """Set several parameters."""
        for name, value in values.items():
            self.log_parameter(name, value)

    def log_metric(self, name: str, value: SupportsFloat, step: int | None = None) -> None:
        """Log a metric. With a step it is a point of a series, kept whole; the last counts.

        Points are written some thousands at a time: a point costs microseconds.

        Raises:
            InvalidEntity: it is no number, or beyond the greatest float.
        """
        where = f"{self.name}: metric {name!r}"
        number = as_number(value, where)
        at = None if step is None else as_step(step, where)
        with self._lock:
            self._recorder.metric(name, number, step=at)
            if at is None:
                return
            points = self._series.setdefault(name, [])
            points.append((at, kept_number(number), now_us()))
            if len(points) >= _POINTS or time.monotonic() - self._flushed >= _FLUSH_S:
                self.flush()

    def log_metrics(self, values: Mapping[str, SupportsFloat], step: int | None = None) -> None:
        """Log several metrics of one step."""
        for name, value in values.items():
            self.log_metric(name, value, step)

    def log_input(self, value: object, *, type: str = "DataSet", name: str = "") -> Entity:
        """Name something that the run reads; see `lineage.content.as_artifact`.

        Raises:
            InvalidEntity: there is nothing at the path, or the value is no content.
        """
        with self._lock:
            return self._recorder.input(as_artifact(value, type=type, name=name))

    def log_output(self, value: object, *, type: str = "DataSet", name: str = "") -> Entity:
        """Name something that the run writes; as `log_input`."""
        with self._lock:
            return self._recorder.output(as_artifact(value, type=type, name=name))

    def log_artifact(self, path: str | Path, *, type: str = "File", name: str = "") -> Entity:
        """Name a file or folder that the run has written: it is known by its content."""
        return self.log_output(Path(path), type=type, name=name)

    def log_model(self, path: str | Path, *, name: str = "") -> Entity:
        """Name a model that the run has written."""
        return self.log_output(Path(path), type="Model", name=name)

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag, by which runs are found: `graph.tagged(key, value)`.

        Raises:
            InvalidEntity: it is no text.
        """
        if not isinstance(value, str):
            raise InvalidEntity(f"tag {key!r}: expected text, got {value!r:.200}")
        with self._lock:
            self._tags[key] = value
            self._record_tags({key: value})

    def flush(self) -> None:
        """Write what was logged so far; others see it then.

        Raises:
            RecordingFailed: lineage cannot be written.
        """
        with self._lock:
            self._write_series()
            self._recorder.update()
            self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        self._recorder.__enter__()
        self._record_tags(self._tags)
        self._inside.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside.__exit__(None, None, None)
        with self._lock:
            try:
                self._write_series()
            finally:
                self._recorder.__exit__(kind, error, traceback)

    def _record_tags(self, tags: Mapping[str, str]) -> None:
        if tags:
            self._graph.record(
                [], kind="RunTagged", tags=[(self.uid, key, value) for key, value in tags.items()]
            )

    def _write_series(self) -> None:
        """One artifact a batch and metric: the batches of one metric are its versions."""
        batches = [
            artifact(
                _SERIES,
                _series_uri(self.uid, name),
                content_hash=new_uid(),
                name=f"{name} of {self.name}",
                properties={
                    "metric": name,
                    "steps": [step for step, _, _ in points],
                    "values": [value for _, value, _ in points],
                    "times_us": [at for _, _, at in points],
                },
            )
            for name, points in self._series.items()
            if points
        ]
        if batches:
            self._graph.record(batches, kind="MetricsLogged")
            self._series.clear()


def start_run(
    name: str = "",
    *,
    experiment: str = "",
    trial: str = "",
    graph: RecordsLineage | None = None,
    parameters: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
    resume: str | Entity | None = None,
) -> ActiveRun:
    """Begin a run to log parameters, metrics, inputs and outputs to; enter it with `with`.

    A run inside another, or in a thread that the other started, names it as its parent.

    Args:
        name: of the run, for people: each call is a run of its own; by default a new one.
        experiment: that it belongs to; a tag of the run.
        trial: that it belongs to; a tag of the run.
        graph: where to record: a `Graph` or `LineageClient`; by default `default_graph()`.
        parameters: known before.
        tags: by which it is found.
        resume: a run, or its uid, to go on with: what it had stays.

    Raises:
        EntityNotFound: there is no such run to go on with.
        InvalidEntity: a name, parameter or tag is not valid, or `resume` is no run.

    >>> from lineage import Graph, MemoryStore
    >>> graph = Graph(MemoryStore())
    >>> with start_run("first", experiment="late", graph=graph) as run:
    ...     run.log_parameter("eta", 0.1)
    ...     for step in range(3):
    ...         run.log_metric("loss", 1 / (step + 1), step)
    >>> run.entity.state, metric_history(graph, run.uid, "loss")["value"].to_pylist()
    ('Completed', [1.0, 0.5, 0.3333333333333333])
    """
    into = graph or default_graph()
    kept: Mapping[str, Any] = {}
    if resume is not None:
        uid = (resume.uid or derived_uid(resume)) if isinstance(resume, Entity) else resume
        known = into.entity(uid)
        if known.type != RUN_TYPE or known.kind is not Kind.TRIAL_COMPONENT:
            raise InvalidEntity(f"{uid}: expected a run to go on with, got {known.type}")
        name, kept = known.name, known.properties
    else:
        # Two runs may have one name: cells of a notebook are executed over and over.
        name = name or f"run-{new_uid()}"
        uid = f"{derived_uid(trial_component(RUN_TYPE, name))}:{new_uid()}"
    recorder = Recorder(
        into,
        RUN_TYPE,
        name,
        uid=uid,
        parameters={**kept.get("parameters", {}), **(parameters or {})},
        properties=parent_properties(),
    )
    for metric, value in kept.get("metrics", {}).items():
        recorder.metric(metric, float(value))
    belongs = {"experiment": experiment, "trial": trial}
    return ActiveRun(into, recorder, {**{k: v for k, v in belongs.items() if v}, **(tags or {})})


def mark_run(graph: Any, run: str | Entity, state: str, *, reason: str = "") -> Entity:
    """Say what became of a run that was killed: such as `Failed`, with the reason.

    Raises:
        EntityNotFound: there is no such run.
        InvalidEntity: it is no run, or the state is no text.
    """
    uid = (run.uid or derived_uid(run)) if isinstance(run, Entity) else run
    known = graph.entity(uid)
    if known.type != RUN_TYPE:
        raise InvalidEntity(f"{uid}: expected a run, got {known.type} {known.name!r}")
    properties: dict[str, JSON] = {"ended_us": now_us()}
    if reason:
        properties["failure_reason"] = reason
    marked = amended(
        trial_component(RUN_TYPE, known.name, state=state, properties=properties), uid=known.uid
    )
    executions = [
        Run(one.uid, known.uid, state, ended_us=now_us(), properties=properties)
        for one in graph.runs(known.uid)
        if one.state == "InProgress"
    ]
    stored: Entity = graph.record([marked], kind="RunMarked", runs=executions).entities[0]
    return stored


def metric_history(graph: Any, run: str | Entity, metric: str) -> pyarrow.Table:
    """The points of a metric in the order they were logged.

    Returns:
        a table of `step`, `value` and `time`; NaN and infinities are themselves again.
    """
    import pyarrow  # takes longer to import than most queries take

    uid = (run.uid or derived_uid(run)) if isinstance(run, Entity) else run
    steps: list[int] = []
    values: list[float] = []
    times: list[int] = []
    batches = graph.find(type=_SERIES, source_uri=_series_uri(uid, metric))
    for batch in sorted(batches, key=lambda one: one.version):
        steps += batch.properties["steps"]
        values += [float(value) for value in batch.properties["values"]]
        times += batch.properties["times_us"]
    time_type = pyarrow.timestamp("us", tz="UTC")
    return pyarrow.table(
        {
            "step": pyarrow.array(steps, pyarrow.int64()),
            "value": pyarrow.array(values, pyarrow.float64()),
            "time": pyarrow.array(times, pyarrow.int64()).cast(time_type),
        }
    )


def compare(
    graph: Any, runs: Sequence[str | Entity], *, only: Collection[str] = ()
) -> pyarrow.Table:
    """Set the parameters and metrics of runs side by side, those that differ first.

    Args:
        graph: that has the runs.
        runs: entities or uids, of any kind of job.
        only: names to show; none: all.

    Returns:
        a table of `what` (state, parameter, metric), `name`, `differs`, and a column of texts
        for each run, called like it (and numbered where two are called the same); null where a
        run has no such value.

    Raises:
        EntityNotFound: a run does not exist.
    """
    import pyarrow  # takes longer to import than most queries take

    uids = [(run.uid or derived_uid(run)) if isinstance(run, Entity) else run for run in runs]
    entities: list[Entity] = [graph.entity(uid) for uid in uids]
    rows: dict[tuple[str, str], list[str | None]] = {}
    for place, entity in enumerate(entities):
        for what, name, value in _values(entity):
            if not only or name in only:
                rows.setdefault((what, name), [None] * len(entities))[place] = value
    order = {"state": 0, "parameter": 1, "metric": 2}
    ordered = sorted(
        rows.items(), key=lambda row: (len(set(row[1])) == 1, order[row[0][0]], row[0][1])
    )
    titles: list[str] = []
    for entity in entities:
        same = sum(title.partition(" #")[0] == entity.name for title in titles)
        titles.append(f"{entity.name} #{same + 1}" if same else entity.name)
    text = pyarrow.string()
    return pyarrow.table(
        {
            "what": pyarrow.array([what for (what, _), _ in ordered], text),
            "name": pyarrow.array([name for (_, name), _ in ordered], text),
            "differs": pyarrow.array([len(set(row)) > 1 for _, row in ordered], pyarrow.bool_()),
            **{
                title: pyarrow.array([row[place] for _, row in ordered], text)
                for place, title in enumerate(titles)
            },
        }
    )


def runs_of(graph: Any, experiment: str) -> list[Entity]:
    """The runs of an experiment, oldest first.

    Raises:
        EntityNotFound: there is none.
    """
    found: list[Entity] = graph.tagged("experiment", experiment)
    if not found:
        raise EntityNotFound(f"experiment {experiment}")
    return found


def _values(entity: Entity) -> list[tuple[str, str, str]]:
    found = [("state", "state", entity.state)]
    for what, values in (("parameter", parameters_of(entity)), ("metric", metrics_of(entity))):
        found += [(what, key, str(value)) for key, value in values.items()]
    return found


def _series_uri(uid: str, metric: str) -> str:
    return f"metrics:{uid}/{metric}"
