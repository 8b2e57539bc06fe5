"""Reading events of OpenLineage: lenient by default, with a note of each problem."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final
from uuid import UUID

from lineage.change import to_json
from lineage.errors import InvalidEvent
from lineage.openlineage.moment import read_time
from lineage.openlineage.plain import kept, shown

__all__ = [
    "EVENT_TYPES",
    "TERMINAL_TYPES",
    "Event",
    "Notes",
    "SaidDataset",
    "SaidJob",
    "read_event",
]

EVENT_TYPES: Final = ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
TERMINAL_TYPES: Final = ("COMPLETE", "ABORT", "FAIL")

_RUN_EVENT: Final = "RunEvent"
_JOB_EVENT: Final = "JobEvent"
_DATASET_EVENT: Final = "DatasetEvent"
_MAX_NOTES: Final = 50
_MAX_ID: Final = 400
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")


@final
class Notes:
    """What was wrong with an event that was taken nevertheless.

    Args:
        strict: refuse what the schema does not allow instead.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._texts: dict[str, None] = {}
        self._more = 0

    def problem(self, where: str, expected: str, got: Any, *, taken: str = "") -> None:
        """Note something that the schema does not allow, and what it is taken as.

        Raises:
            InvalidEvent: when strict.
        """
        if self.strict:
            advice = "leave strict out to have it taken with a note"
            raise InvalidEvent(where, expected, shown(got), advice)
        self.change(where, f"expected {expected}, got {shown(got)}{f'; {taken}' if taken else ''}")

    def change(self, where: str, text: str) -> None:
        """Note something that is valid and kept in another form."""
        line = f"{where}: {text}"[:400]
        if len(self._texts) < _MAX_NOTES or line in self._texts:
            self._texts[line] = None
        else:
            self._more += 1

    def lines(self) -> list[str]:
        """The notes, each once; beyond 50 only their number."""
        more = [f"and {self._more} more"] if self._more else []
        return [*self._texts, *more]


@final
@dataclass(frozen=True)
class SaidJob:
    """What an event says of a job."""

    namespace: str
    name: str
    facets: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: str = "job"


@final
@dataclass(frozen=True)
class SaidDataset:
    """What an event says of a dataset.

    Args:
        namespace: as written.
        name: as written.
        facets: of the dataset.
        role_facets: of the dataset as this input or output.
        where: path in the event.
    """

    namespace: str
    name: str
    facets: Mapping[str, Any] = field(default_factory=dict, hash=False)
    role_facets: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: str = "dataset"


@final
@dataclass(frozen=True)
class Event:
    """An event of OpenLineage that was read.

    Args:
        type: RunEvent, JobEvent or DatasetEvent.
        state: `eventType` of a run event in capitals; empty when it has none.
        time_us: `eventTime`, UTC microseconds; 0 when it has none that can be read.
        run_id: empty but in run events; a UUID in lower case.
        run_facets: of the run.
        job: but in dataset events.
        inputs: none in dataset events.
        outputs: none in dataset events.
        dataset: in dataset events only.
        raw: the event whole, as JSON that the graph can hold.
        notes: problems found so far.
    """

    type: str
    state: str
    time_us: int
    run_id: str
    run_facets: Mapping[str, Any] = field(hash=False)
    job: SaidJob | None
    inputs: tuple[SaidDataset, ...]
    outputs: tuple[SaidDataset, ...]
    dataset: SaidDataset | None
    raw: Mapping[str, Any] = field(hash=False)
    notes: Notes = field(hash=False, compare=False)
    text: str = field(hash=False, compare=False, repr=False)
    """`raw` as canonical JSON."""

    @property
    def uid(self) -> str:
        """Names the event by its content, so that it is recorded once however often it comes."""
        return f"openlineage:{hashlib.sha256(self.text.encode()).hexdigest()}"

    @property
    def validation(self) -> list[str]:
        """What was wrong with it."""
        return self.notes.lines()


def read_event(said: bytes | str | Mapping[str, Any], *, strict: bool = False) -> Event:
    """Read one event.

    Args:
        said: JSON text, or what was parsed from it.
        strict: whether to refuse everything that OpenLineage's schema does not allow. By default
            an event without producer, schemaURL or eventTime, with facets that are none, or
            with times and ids of another form is taken, and says so in `validation`.

    Raises:
        InvalidEvent: it is no JSON object; or a run event without `run.runId`, or a job or
            dataset without a name.

    >>> event = read_event(
    ...     '{"eventType": "START", "eventTime": "2026-01-31T12:00:00Z",'
    ...     ' "run": {"runId": "01890a5d-ac96-774b-bcce-b302099a8057"},'
    ...     ' "job": {"namespace": "airflow", "name": "load"}}'
    ... )
    >>> event.state, event.job.name, len(event.validation)
    ('START', 'load', 2)
    >>> read_event('{"eventType": "START", "job": {"namespace": "airflow", "name": "load"}}')
    Traceback (most recent call last):
    ...
    lineage.errors.InvalidEvent: run.runId: expected the UUID of the run, got nothing
    """
    notes = Notes(strict=strict)
    try:
        parsed = _parsed(said) if isinstance(said, bytes | str) else said
        if not isinstance(parsed, dict):
            raise InvalidEvent("", "an event, which is a JSON object", shown(parsed))
        raw: dict[str, Any] = kept(parsed, "", notes.change)
        text = to_json(raw)
    except RecursionError:
        raise InvalidEvent("", "JSON that nests less deeply", "too many levels") from None
    return _Reader(raw, text, notes).event()


def _parsed(said: bytes | str) -> Any:
    try:
        return json.loads(said)
    except UnicodeDecodeError as error:
        raise InvalidEvent("", "JSON in UTF-8", f"byte {error.start} that is none") from None
    except ValueError as error:
        raise InvalidEvent("", "a JSON object", f"text that is no JSON ({error})") from None


@final
class _Reader:
    """The state of reading one event."""

    def __init__(self, raw: dict[str, Any], text: str, notes: Notes) -> None:
        self._raw = raw
        self._text = text
        self._notes = notes

    def event(self) -> Event:
        raw, kind = self._raw, self._kind()
        time = read_time(raw.get("eventTime"))
        if time.expected:
            said = raw.get("eventTime")
            self._notes.problem("eventTime", time.expected, said, taken=time.taken)
        for name in ("producer", "schemaURL"):
            if not isinstance(raw.get(name), str) or not _URI.fullmatch(raw[name]):
                self._notes.problem(name, "a uri", raw.get(name))
        is_run = kind == _RUN_EVENT
        has_job = kind != _DATASET_EVENT
        run = self._object(raw.get("run"), "run", missing=not is_run) if is_run else {}
        return Event(
            type=kind,
            state=self._state() if is_run else "",
            time_us=time.us,
            run_id=self._run_id(run) if is_run else "",
            run_facets=self._facets(run.get("facets"), "run.facets"),
            job=self._job(raw.get("job")) if has_job else None,
            inputs=self._datasets("inputs", "inputFacets") if has_job else (),
            outputs=self._datasets("outputs", "outputFacets") if has_job else (),
            dataset=None if has_job else self._dataset(raw.get("dataset"), "dataset", ""),
            raw=raw,
            notes=self._notes,
            text=self._text,
        )

    def _kind(self) -> str:
        raw = self._raw
        schema = str(raw.get("schemaURL", "")).rpartition("/")[2]
        if "run" in raw or "eventType" in raw or schema == _RUN_EVENT:
            return _RUN_EVENT
        if "job" in raw or schema == _JOB_EVENT:
            return _JOB_EVENT
        if "dataset" in raw or schema == _DATASET_EVENT:
            return _DATASET_EVENT
        raise InvalidEvent(
            "",
            "an event of OpenLineage, which has a run and a job, a job, or a dataset",
            f"an object with {', '.join(map(ascii, list(raw)[:5])) or 'no fields'}",
        )

    def _state(self) -> str:
        said = self._raw.get("eventType")
        if said is None:
            return ""
        state = said.strip().upper() if isinstance(said, str) else ""
        if state != said or state not in EVENT_TYPES:
            self._notes.problem("eventType", f"one of {', '.join(EVENT_TYPES)}", said)
        return state if state in EVENT_TYPES else "OTHER"

    def _run_id(self, run: Mapping[str, Any]) -> str:
        said = run.get("runId")
        if not isinstance(said, str) or not said.strip():
            raise InvalidEvent("run.runId", "the UUID of the run", shown(said))
        return self.run_id(said, "run.runId")

    def run_id(self, said: str, where: str) -> str:
        try:
            return str(UUID(said.strip()))
        except ValueError:
            self._notes.problem(where, "a UUID", said)
        if len(said) > _MAX_ID:
            raise InvalidEvent(where, "a UUID", f"text of {len(said)} characters")
        return said.strip()

    def _job(self, said: Any) -> SaidJob:
        job = self._object(said, "job")
        return SaidJob(
            self._namespace(job, "job"),
            self._name(job, "job"),
            self._facets(job.get("facets"), "job.facets"),
        )

    def _datasets(self, role: str, facets: str) -> tuple[SaidDataset, ...]:
        said = self._raw.get(role)
        if said is None:
            return ()
        if not isinstance(said, list):
            self._notes.problem(role, "a list of datasets", said)
            said = [said] if isinstance(said, dict) else []
        return tuple(
            self._dataset(dataset, f"{role}[{place}]", facets) for place, dataset in enumerate(said)
        )

    def _dataset(self, said: Any, where: str, role_facets: str) -> SaidDataset:
        dataset = self._object(said, where)
        own = dataset.get(role_facets) if role_facets else None
        return SaidDataset(
            self._namespace(dataset, where),
            self._name(dataset, where),
            self._facets(dataset.get("facets"), f"{where}.facets"),
            self._facets(own, f"{where}.{role_facets}"),
            where,
        )

    def _name(self, said: Mapping[str, Any], where: str) -> str:
        name = said.get("name")
        if not isinstance(name, str) or not name.strip():
            what = "job" if where == "job" else "dataset"
            raise InvalidEvent(f"{where}.name", f"the name of the {what}", shown(name))
        return name

    def _namespace(self, said: Mapping[str, Any], where: str) -> str:
        namespace = said.get("namespace")
        if isinstance(namespace, str) and namespace.strip():
            return namespace
        self._notes.problem(f"{where}.namespace", "a namespace", namespace)
        return "default"

    def _facets(self, said: Any, where: str) -> Mapping[str, Any]:
        facets = {} if said is None else said
        if not isinstance(facets, dict):
            self._notes.problem(where, "facets by name", said)
            return {}
        for name, facet in facets.items():
            if facet is None:
                continue
            if not isinstance(facet, dict):
                self._notes.problem(f"{where}.{name}", "an object", facet)
                continue
            for required in ("_producer", "_schemaURL"):
                if not isinstance(facet.get(required), str):
                    self._notes.problem(f"{where}.{name}.{required}", "a uri", facet.get(required))
        return {name: facet for name, facet in facets.items() if facet is not None}

    def _object(self, said: Any, where: str, *, missing: bool = True) -> Mapping[str, Any]:
        if isinstance(said, dict):
            return said
        if said is not None and missing:
            self._notes.problem(where, "an object", said)
        return {}
