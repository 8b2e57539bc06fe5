"""The recorder: every job runs inside one, so that no job goes without lineage."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, SupportsFloat, final
from weakref import WeakKeyDictionary

from lineage.association import Association, AssociationType, as_association_type, check_kinds
from lineage.capture.environment import environment_artifacts, environment_properties
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import JSON, Entity, Kind, amended, derived_uid, plain_json
from lineage.errors import (
    InvalidEntity,
    LineageError,
    RecordingFailed,
    StoreUnavailable,
)
from lineage.log import new_uid, now_us
from lineage.number import as_number, as_step, kept_number, tagged
from lineage.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lineage.change import Recorded
    from lineage.entity import End

# As long as SageMaker's FailureReason.
_MAX_REASON = 1024

_OWN_PROPERTIES = (
    "parameters",
    "metrics",
    "metric_summaries",
    "failure_reason",
    "started_us",
    "ended_us",
    "python_version",
    "environment_digest",
    "code_version",
    "code_digest",
    "code_repository",
    "code_dirty",
    "code_diff_digest",
    "code_untracked",
    "attempt",
)

# What is kept of each execution beside the job, which shows the last one.
_OF_A_RUN = (
    *("attempt", "parameters", "metrics", "metric_summaries", "failure_reason"),
    *("code_version", "code_diff_digest", "environment_digest"),
    *("seed", "threads", "device", "parent_run", "parent"),
)
# By graph, the uids of environments that it is known to have.
_ENVIRONMENTS: WeakKeyDictionary[RecordsLineage, set[str]] = WeakKeyDictionary()


# What a run says of its end, and a later run of the same job must not inherit.
_OUTCOME = (
    *("metrics", "metric_summaries", "failure_reason", "ended_us", "code_version"),
    *("code_dirty", "code_diff_digest", "code_untracked"),
)


class RecordsLineage(Protocol):
    """What a recorder needs of a graph; `Graph` and `LineageClient` both have it."""

    def record(
        self,
        entities: Sequence[Entity],
        associations: Sequence[tuple[End, End, str]] = (),
        *,
        kind: str,
        event_uid: str | None = None,
        actor: str | None = None,
        columns: Sequence[ColumnLineage] = (),
        runs: Sequence[Run] = (),
        cycles: Literal["refuse", "allow"] = "refuse",
    ) -> Recorded:
        """Append one event."""

    def entity(self, uid: str) -> Entity:
        """The entity with this uid."""

    def get(self, uid: str) -> Entity | None:
        """The same, or None when there is none."""


@final
class Recorder:
    """Records a job: that it started, what went in and out, and how it ended.

    Entering records one event with state InProgress; leaving records one with all the
    rest and the state Completed, Failed (with `failure_reason`) or Stopped (interrupted or
    cancelled), and lets the exception through. A job whose lineage cannot be written
    fails. The same job run again continues the same entity, with the outcome of its last
    run; the log keeps them all.

    Start and end time, the version of Python, the digest of the installed packages and the
    version of the code are recorded as properties by themselves.

    Args:
        graph: where to record: a `Graph`, or the `LineageClient` of a server.
        type: such as `TrainingJob`, `DatasetBuild`.
        name: of the job.
        kind: `Kind.TRIAL_COMPONENT` or `Kind.ACTION`.
        source_uri: where the job is described, if anywhere.
        parameters: chosen before the job; JSON values by name.
        properties: anything else that is known before the job.
        actor: who runs it; by default the user of the process.
        run_uid: names this execution of the job; by default a new one.
        uid: of the job's entity, where several jobs may have one name; by default derived from
            type and name.

    Raises:
        InvalidEntity: a field, parameter or property is not valid.
        RecordingFailed: lineage cannot be written (raised on entering and on leaving).

    >>> from lineage import Graph, MemoryStore, artifact
    >>> graph = Graph(MemoryStore())
    >>> with Recorder(graph, "TrainingJob", "flights-1", parameters={"max_depth": 6}) as job:
    ...     data = job.input(artifact("DataSet", "flights.parquet", content_hash="51b2"))
    ...     job.metric("rmse", 12.5)
    ...     model = job.output(artifact("Model", "model.tar.gz", content_hash="9f2c"))
    >>> job.entity.state, job.entity.properties["metrics"]
    ('Completed', {'rmse': 12.5})
    >>> [entity.name for entity in graph.query(model, "ascendants")]
    ['model.tar.gz', 'flights-1', 'flights.parquet']
    """

    def __init__(
        self,
        graph: RecordsLineage,
        type: str,
        name: str,
        *,
        kind: Kind = Kind.TRIAL_COMPONENT,
        source_uri: str = "",
        parameters: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        actor: str | None = None,
        run_uid: str = "",
        uid: str = "",
    ) -> None:
        if kind not in (Kind.TRIAL_COMPONENT, Kind.ACTION):
            raise InvalidEntity(
                f"{type} {name!r}: a job is a TrialComponent or an Action, not a {kind}"
            )
        self._where = f"{type} {name!r}"
        self._graph = graph
        self._actor = actor
        self._run = run_uid or new_uid()
        # Threads that a job starts may name what they read and write.
        self._lock = RLock()
        self._attempt = 1
        self._columns: list[tuple[Entity, tuple[ColumnEdge, ...], str]] = []
        self._running = False
        self._updates = 0
        self._entity = Entity(kind, type, name, source_uri=source_uri, state="InProgress")
        self._entity = amended(self._entity, uid=uid or derived_uid(self._entity))
        self._properties: dict[str, JSON] = {}
        self._parameters: dict[str, JSON] = {}
        self._metrics: dict[str, JSON] = {}
        self._summaries: dict[str, dict[str, int | float]] = {}
        self._inputs: dict[str, Entity] = {}
        self._outputs: dict[str, Entity] = {}
        self._new: dict[str, Entity] = {}
        self._associations: dict[Association, None] = {}
        for key, value in (parameters or {}).items():
            self.parameter(key, value)
        for key, value in (properties or {}).items():
            self.property(key, value)

    @property
    def entity(self) -> Entity:
        """The job, as last recorded."""
        return self._entity

    @property
    def run_uid(self) -> str:
        """Names this execution of the job; see `Graph.runs`."""
        return self._run

    @property
    def inputs(self) -> tuple[Entity, ...]:
        """What went in; once the job has ended, as stored, with versions."""
        return tuple(self._inputs.values())

    @property
    def outputs(self) -> tuple[Entity, ...]:
        """What came out; once the job has ended, as stored, with versions."""
        return tuple(self._outputs.values())

    def input(
        self, entity: End, type: AssociationType | str = AssociationType.CONTRIBUTED_TO
    ) -> Entity:
        """Name something that goes into the job.

        Args:
            entity: a new entity, which is recorded (or merged into the one of the same
                identity) when the job ends; or one that came from the graph, or its uid, which
                stays as it is.
            type: of the association from it to the job.

        Returns:
            The entity with its uid. Its version is settled when the job ends.

        Raises:
            EntityNotFound: no entity has this uid.
            InvalidAssociation: the entity is an experiment entity like the job, or the job.
            RecordingFailed: the job is not running.
        """
        with self._lock:
            seen = self._see(entity)
            self._connect(seen, self._entity, type)
            self._inputs[seen.uid] = seen
            return seen

    def output(self, entity: End, type: AssociationType | str = AssociationType.PRODUCED) -> Entity:
        """Name something that comes out of the job; as `input`, with the arrow reversed."""
        with self._lock:
            seen = self._see(entity)
            self._connect(self._entity, seen, type)
            self._outputs[seen.uid] = seen
            return seen

    def associate(self, source: End, destination: End, type: AssociationType | str) -> None:
        """Connect two other entities, or the job with one; errors as for `input`."""
        with self._lock:
            self._connect(self._see(source), self._see(destination), type)

    def columns(self, destination: End, edges: Iterable[ColumnEdge], *, by: str = "") -> None:
        """Say which columns went into those of something that comes out of the job.

        What an earlier run of the job said of the same destination is replaced.

        Args:
            destination: whose columns these are: an output, or anything else.
            edges: the sources are inputs, or anything else; none is named as an input by this.
            by: who says so, where what another job said before is to be replaced; by default
                this job.

        Raises:
            EntityNotFound: no entity has this uid.
            RecordingFailed: the job is not running.
        """
        with self._lock:
            settled = tuple(replace(edge, source=self._side(edge.source)) for edge in edges)
            self._columns.append((self._side(destination), settled, by or self._entity.uid))

    def parameter(self, name: str, value: object) -> None:
        """Set a parameter, a JSON value; NaN and infinities are given back by `parameters_of`.

        Raises:
            InvalidEntity: the value is not JSON.
        """
        plain = plain_json(tagged(value), f"{self._where}: parameter {name!r}")
        with self._lock:
            self._parameters[name] = plain

    def metric(self, name: str, value: SupportsFloat, *, step: int | None = None) -> None:
        """Set a metric; the last value counts.

        With `step`, `metric_summaries` keeps the count, the least and the greatest finite
        value and the last step too. A number that JSON lacks is kept as text: `NaN`,
        `Infinity`, `-Infinity`; `lineage.metrics_of` gives it back.

        Raises:
            InvalidEntity: it is no number, or beyond the greatest float.
        """
        where = f"{self._where}: metric {name!r}"
        number = as_number(value, where)
        at = None if step is None else as_step(step, where)
        with self._lock:
            self._metrics[name] = kept_number(number)
            if at is not None:
                summary = self._summaries.setdefault(name, {"count": 0})
                summary["count"] += 1
                summary["last_step"] = at
                if math.isfinite(number):
                    summary["min"] = min(summary.get("min", number), number)
                    summary["max"] = max(summary.get("max", number), number)

    def property(self, name: str, value: object) -> None:
        """Set any other property, a JSON value.

        Raises:
            InvalidEntity: the value is not JSON, or the name is one that the recorder fills.
        """
        if name in _OWN_PROPERTIES:
            raise InvalidEntity(
                f"{self._where}: property {name!r} is filled by the recorder; choose another name"
            )
        plain = plain_json(value, f"{self._where}: property {name!r}")
        with self._lock:
            self._properties[name] = plain

    def update(self) -> None:
        """Record what is known of the running job by now; whoever looks at it sees how far it is.

        Inputs and outputs that were named so far are recorded with it. A job that is killed keeps
        the state InProgress and what it said last.

        Raises:
            RecordingFailed: lineage cannot be written, or the job is not running.
        """
        if not self._running:
            raise RecordingFailed(f"{self._where}: only a running job can be updated")
        with self._lock, self._failing("progress"):
            self._updates += 1
            known = amended(
                self._entity,
                properties={
                    **self._properties,
                    "parameters": dict(self._parameters),
                    "metrics": dict(self._metrics),
                },
            )
            self._entity = self._record_with_ends(known, f"JobUpdated/{self._updates}")

    def __enter__(self) -> Self:
        with self._failing("start"):
            stale = self._stale_properties()
            started: dict[str, JSON] = {
                **stale,
                **environment_properties(),
                **self._properties,
                "parameters": dict(self._parameters),
                "attempt": self._attempt,
                "started_us": now_us(),
            }
            job = amended(self._entity, properties=started)
            self._entity = self._record(
                [job, *self._unknown_environment()],
                "JobStarted",
                runs=[self._as_run(job)],
            ).entities[0]
        self._running = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._running:
            return
        state, reason = _outcome(error)
        try:
            with self._lock:
                self._running = False
                self._end(state, reason)
        except RecordingFailed as failure:
            if error is None:
                raise
            # The job's own error matters more; this one travels with it.
            error.add_note(str(failure))

    def _end(self, state: str, reason: str | None) -> None:
        ended: dict[str, JSON] = {
            **self._properties,
            "parameters": dict(self._parameters),
            "metrics": dict(self._metrics),
            "ended_us": now_us(),
        }
        if self._summaries:
            ended["metric_summaries"] = {name: dict(s) for name, s in self._summaries.items()}
        if reason is not None:
            ended["failure_reason"] = reason
        job = amended(self._entity, state=state, properties=ended)
        with self._failing("end"):
            try:
                self._entity = self._record_with_ends(job, f"Job{state}")
            except LineageError as refusal:
                self._end_refused(ended, refusal)
                raise

    def _record_with_ends(self, job: Entity, event: str) -> Entity:
        """Record the job with what went in and out and was not recorded yet; return it as stored.

        Args:
            job: as it is now.
            event: what happened, unique within the job; up to a slash it is the event's kind.
        """
        at = now_us()
        recorded = self._record(
            [job, *self._new.values()],
            event,
            [
                (self._end_of(a.source), self._end_of(a.destination), a.type.value)
                for a in self._associations
            ],
            columns=[
                ColumnLineage(
                    self._new.get(destination.uid, destination),
                    by,
                    tuple(replace(edge, source=self._latest(edge.source)) for edge in edges),
                    at,
                )
                for destination, edges, by in self._columns
            ],
            runs=[self._as_run(job)],
        )
        stored = dict(zip(self._new, recorded.entities[1:], strict=True))
        for seen in (self._inputs, self._outputs):
            seen.update({uid: stored[uid] for uid in seen if uid in stored})
        self._new.clear()
        self._associations.clear()
        self._columns.clear()
        return recorded.entities[0]

    def _end_refused(self, ended: dict[str, JSON], refusal: LineageError) -> None:
        """Leave the job Failed rather than InProgress for ever, when it can be written at all."""
        reason = _reason(refusal)
        job = amended(self._entity, state="Failed", properties={**ended, "failure_reason": reason})
        with suppress(LineageError):
            self._entity = self._record([job], "JobFailed", runs=[self._as_run(job)]).entities[0]

    def _record(
        self,
        entities: Sequence[Entity],
        kind: str,
        associations: Sequence[tuple[End, End, str]] = (),
        *,
        columns: Sequence[ColumnLineage] = (),
        runs: Sequence[Run] = (),
    ) -> Recorded:
        return self._graph.record(
            entities,
            associations,
            columns=columns,
            runs=runs,
            kind=kind.partition("/")[0],
            event_uid=f"{self._run}/{kind}",
            actor=self._actor,
            # A second run may read what the first one wrote: a checkpoint, a table.
            cycles="allow",
        )

    def _as_run(self, job: Entity) -> Run:
        """This execution of the job, as far as it is known."""
        started, ended = (job.properties.get(name) for name in ("started_us", "ended_us"))
        return Run(
            self._run,
            job.uid,
            job.state,
            started if isinstance(started, int) else None,
            ended if isinstance(ended, int) else None,
            {name: value for name, value in job.properties.items() if name in _OF_A_RUN},
        )

    def _unknown_environment(self) -> list[Entity]:
        """What the job runs on, as far as the graph does not have it yet."""
        known = _ENVIRONMENTS.setdefault(self._graph, set())
        unknown = []
        for entity in environment_artifacts():
            uid = derived_uid(entity)
            if uid not in known:
                try:
                    if self._graph.get(uid) is None:
                        unknown.append(entity)
                except StoreUnavailable:
                    continue
                known.add(uid)
        return unknown

    def _stale_properties(self) -> dict[str, JSON]:
        """What an earlier run of the same job left, emptied: merging would keep it."""
        try:
            known = self._graph.get(self._entity.uid)
        except StoreUnavailable:
            return {}  # what is recorded waits in the spool, or the next step fails
        if known is None:
            return {}
        before = known.properties.get("attempt")
        self._attempt = before + 1 if isinstance(before, int) else 1
        return {
            name: {} if name.startswith("metric") else None
            for name in _OUTCOME
            if name in known.properties
        }

    def _see(self, end: End) -> Entity:
        if not self._running:
            raise RecordingFailed(
                f"{self._where}: inputs and outputs belong into the `with` block of the recorder"
            )
        if isinstance(end, str):
            return self._graph.entity(end)
        if end.created is not None:
            return end
        uid = end.uid or derived_uid(end)
        before = self._new.get(uid)
        self._new[uid] = seen = amended(
            end,
            uid=uid,
            state=end.state or (before.state if before else ""),
            properties={**(before.properties if before else {}), **end.properties},
        )
        return seen

    def _side(self, end: End) -> Entity:
        """Something whose columns are spoken of; that alone changes nothing about it."""
        if not self._running:
            raise RecordingFailed(
                f"{self._where}: columns belong into the `with` block of the recorder"
            )
        if isinstance(end, str):
            return self._new.get(end) or self._graph.entity(end)
        return amended(end, uid=end.uid or derived_uid(end))

    def _latest(self, end: End) -> End:
        return self._new.get(end.uid, end) if isinstance(end, Entity) else end

    def _end_of(self, uid: str) -> End:
        return self._new.get(uid, uid)

    def _connect(self, source: Entity, destination: Entity, type: AssociationType | str) -> None:
        association = Association(source.uid, destination.uid, as_association_type(type))
        check_kinds(source.kind, destination.kind, where=f"{self._where}: {association.type}")
        self._associations[association] = None

    @contextmanager
    def _failing(self, step: str) -> Iterator[None]:
        try:
            yield
        except LineageError as error:
            raise RecordingFailed(
                f"{self._where}: its {step} could not be recorded, so the job fails: {error}"
            ) from error


def _outcome(error: BaseException | None) -> tuple[str, str | None]:
    """State and failure reason of a job that ended this way."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "Completed", None
    if isinstance(error, KeyboardInterrupt | GeneratorExit | asyncio.CancelledError):
        return "Stopped", type(error).__name__
    return "Failed", _reason(error)


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"[:_MAX_REASON]
    return text.encode(errors="backslashreplace").decode()
