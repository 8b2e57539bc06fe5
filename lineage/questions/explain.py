"""Explain: one readable account of where something comes from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lineage.association import AssociationType
from lineage.entity import JSON, Entity, Kind, from_us
from lineage.questions.cause import is_code, is_environment
from lineage.questions.columns import FeatureUse
from lineage.questions.events import EventSummary
from lineage.questions.words import entity_json, flat, moment, plural, title, value_text
from lineage.store import View

_JOBS = (Kind.TRIAL_COMPONENT, Kind.ACTION)
_LOOSE = frozenset({AssociationType.ASSOCIATED_WITH.value, AssociationType.SAME_AS.value})
_CODE = ("algorithm", "entry_point", "command", "function", "code_version", "code_digest")
_ENVIRONMENT = (
    "python_version",
    "environment_digest",
    "libraries",
    "packages",
    "device",
    "threads",
    "precision",
    "instance_count",
)
_MEASURES = ("rows", "files", "bytes", "table_version")
_SHOWN = 12


@final
@dataclass(frozen=True)
class Source:
    """Something that an entity is made of.

    Args:
        entity: what it is.
        depth: associations away.
        groups: what it belongs to, such as the feature group of a table version.
    """

    entity: Entity
    depth: int
    groups: tuple[Entity, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """The source as plain values."""
        return {
            **entity_json(self.entity),
            "depth": self.depth,
            "groups": [entity_json(group) for group in self.groups],
        }


@final
@dataclass(frozen=True)
class Explanation:
    """Where an entity comes from, and what it is used for.

    Args:
        entity: what is explained.
        jobs: what made it, or the entity itself where it is a job.
        data: the data upstream, nearest first; of one place only the versions that were used.
        code: code upstream as entities; the words of the jobs for theirs are in `code_words`.
        code_words: commit, script and algorithm, as the jobs have them.
        parameters: of the jobs, by dotted names.
        environment: what the jobs ran on.
        metrics: of the jobs.
        features: what feeds it column by column, the most important first.
        events: the events that recorded it first and last, with actor and time.
        used_by: how many entities downstream of it there are, by type.
        belongs_to: what it is loosely tied to, such as a trial, a model group or another place.
        tags: of the entity.
    """

    entity: Entity
    jobs: tuple[Entity, ...]
    data: tuple[Source, ...]
    code: tuple[Source, ...]
    code_words: Mapping[str, JSON]
    parameters: Mapping[str, JSON]
    environment: Mapping[str, JSON]
    metrics: Mapping[str, JSON]
    features: tuple[FeatureUse, ...]
    events: tuple[EventSummary, ...]
    used_by: Mapping[str, int]
    belongs_to: tuple[Entity, ...]
    tags: Mapping[str, str]

    def text(self) -> str:
        """The account for people, a section per subject; what is not recorded has none."""
        lines = [title(self.entity), f"  {self.entity.uid}"]
        place = self.entity.source_uri
        if place:
            lines.append(f"  at {place}")
        if self.entity.content_hash:
            lines.append(f"  content {self.entity.content_hash}")
        sections: list[tuple[str, list[str]]] = [
            ("recorded", [event.text() for event in self.events]),
            ("made by", [_job_line(job) for job in self.jobs if job != self.entity]),
            ("ran", [_job_line(job) for job in self.jobs if job == self.entity]),
            ("data", [_source_line(source) for source in self.data]),
            ("features", [feature.text() for feature in self.features]),
            ("code", [_source_line(source) for source in self.code] + _values(self.code_words)),
            ("parameters", _values(self.parameters)),
            ("environment", _values(self.environment)),
            ("metrics", _values(self.metrics)),
            ("belongs to", [title(entity) for entity in self.belongs_to]),
            (
                "tags",
                [f"{key} = {value}" for key, value in self.tags.items()],
            ),
            ("used by", [plural(count, name) for name, count in self.used_by.items()]),
        ]
        for name, body in sections:
            if body:
                lines.append(name)
                lines += [f"  {line}" for line in body[:_SHOWN]]
                if len(body) > _SHOWN:
                    lines.append(f"  … and {len(body) - _SHOWN:,} more")
        return "\n".join(lines)

    def to_json(self) -> dict[str, JSON]:
        """The account as plain values, nothing left out."""
        return {
            "entity": entity_json(self.entity),
            "jobs": [entity_json(job) for job in self.jobs],
            "data": [source.to_json() for source in self.data],
            "code": [source.to_json() for source in self.code],
            "code_words": dict(self.code_words),
            "parameters": dict(self.parameters),
            "environment": dict(self.environment),
            "metrics": dict(self.metrics),
            "features": [feature.to_json() for feature in self.features],
            "events": [event.to_json() for event in self.events],
            "used_by": dict(self.used_by),
            "belongs_to": [entity_json(entity) for entity in self.belongs_to],
            "tags": dict(self.tags),
        }


@final
@dataclass(frozen=True)
class Account:
    """The part of an explanation that the associations tell."""

    entity: Entity
    jobs: tuple[Entity, ...]
    data: tuple[Source, ...]
    code: tuple[Source, ...]
    environments: tuple[Entity, ...]
    used_by: Mapping[str, int]
    belongs_to: tuple[Entity, ...]


def explained(
    account: Account,
    *,
    features: Sequence[FeatureUse],
    events: Sequence[EventSummary],
    tags: Mapping[str, str],
) -> Explanation:
    """Put an explanation together: what the jobs say of themselves is read off their properties."""
    parameters: dict[str, JSON] = {}
    environment: dict[str, JSON] = {}
    words: dict[str, JSON] = {}
    metrics: dict[str, JSON] = {}
    for job in account.jobs:
        known = job.properties
        # What was said first is of the nearest job.
        parameters = {**flat(_mapping(known.get("parameters"))), **parameters}
        metrics = {**flat(_mapping(known.get("metrics"))), **metrics}
        words = {**{name: known[name] for name in _CODE if known.get(name)}, **words}
        environment = {
            **{name: known[name] for name in _ENVIRONMENT if known.get(name)},
            **environment,
        }
    for entity in account.environments:
        environment = {**entity.properties, **environment}
    metrics = {**metrics, **flat(_mapping(account.entity.properties.get("metrics")))}
    return Explanation(
        account.entity,
        account.jobs,
        account.data,
        account.code,
        words,
        parameters,
        environment,
        metrics,
        tuple(features),
        tuple(events),
        account.used_by,
        account.belongs_to,
        dict(sorted(tags.items())),
    )


def find_account(view: View, start: int) -> Account:
    """Walk up from a node for what it is made of, and down for what uses it.

    Cost: its ascendants are read; of its descendants only the types.
    """
    entity = view.entities([start])[0]
    depths, steps, loose = _walk(view, start, upstream=True)
    entities = dict(zip(depths, view.entities(list(depths)), strict=True))
    depths = _used(start, steps, entities)
    nodes = sorted(depths, key=lambda node: (depths[node], node))
    groups = {node: [far for far in loose.get(node, ()) if far not in depths] for node in nodes}
    outside = sorted({far for fars in groups.values() for far in fars})
    others = dict(zip(outside, view.entities(outside), strict=True))
    jobs: list[Entity] = []
    if entity.kind in _JOBS:
        jobs = [entity]
    else:
        jobs = [
            entities[source]
            for source, link in steps.get(start, ())
            if link == AssociationType.PRODUCED and entities[source].kind in _JOBS
        ]
    data: list[Source] = []
    code: list[Source] = []
    environments: list[Entity] = []
    for node in nodes[1:]:
        known = entities[node]
        if known.kind is not Kind.ARTIFACT:
            continue
        if is_environment(known):
            environments.append(known)
            continue
        belongs = tuple(others[far] for far in groups[node] if others[far].kind is Kind.CONTEXT)
        (code if is_code(known) else data).append(Source(known, depths[node], belongs))
    # A group is used by whoever uses what is loosely tied to it, such as its table's versions.
    below, _, ties = _walk(view, start, upstream=False, through_ties=entity.kind is Kind.CONTEXT)
    found = view.entities(sorted(set(below) - {start}))
    used_by: dict[str, int] = {}
    for known in found:
        used_by[known.type] = used_by.get(known.type, 0) + 1
    tied = sorted({*loose.get(start, ()), *ties.get(start, ())})
    return Account(
        entity,
        tuple(jobs),
        tuple(data),
        tuple(code),
        tuple(environments),
        dict(sorted(used_by.items(), key=lambda item: (-item[1], item[0]))),
        tuple(view.entities(tied)),
    )


def _walk(
    view: View, start: int, *, upstream: bool, through_ties: bool = False
) -> tuple[dict[int, int], dict[int, list[tuple[int, str]]], dict[int, list[int]]]:
    """Depths, what each node was reached from by causes, and its loose ties.

    Args:
        view: the graph.
        start: where to begin.
        upstream: which way.
        through_ties: whether the walk follows the loose ties of the start, too.
    """
    depths = {start: 0}
    steps: dict[int, list[tuple[int, str]]] = {}
    loose: dict[int, list[int]] = {}
    frontier = [start]
    while frontier:
        reached: set[int] = set()
        for source, destination, link in view.neighbours(frontier, upstream=upstream):
            near, far = (destination, source) if upstream else (source, destination)
            if link in _LOOSE:
                loose.setdefault(near, []).append(far)
                if through_ties and near == start:
                    reached.add(far)
            else:
                steps.setdefault(near, []).append((far, link))
                reached.add(far)
        level = depths[frontier[0]] + 1
        frontier = sorted(reached.difference(depths))
        depths.update(dict.fromkeys(frontier, level))
    return depths, steps, loose


def _used(
    start: int, steps: Mapping[int, Sequence[tuple[int, str]]], entities: Mapping[int, Entity]
) -> dict[int, int]:
    """Depths of what something was made of: a version before it at the same place is not."""
    depths = {start: 0}
    waiting = deque([start])
    while waiting:
        near = waiting.popleft()
        for far, link in steps.get(near, ()):
            place = entities[near].source_uri
            is_older = link == AssociationType.DERIVED_FROM and place == entities[far].source_uri
            if far not in depths and not (place and is_older):
                depths[far] = depths[near] + 1
                waiting.append(far)
    return depths


def _job_line(job: Entity) -> str:
    started, ended = job.properties.get("started_us"), job.properties.get("ended_us")
    words = [title(job)]
    if isinstance(started, int):
        words.append(f"began {moment(from_us(started))}")
        if isinstance(ended, int):
            words.append(f"took {(ended - started) / 1e6:,.1f} s")
    reason = job.properties.get("failure_reason")
    if reason:
        words.append(value_text(reason))
    return ", ".join(words)


def _source_line(source: Source) -> str:
    entity = source.entity
    facts = [
        f"{name} {value_text(entity.properties[name])}"
        for name in _MEASURES
        if entity.properties.get(name) is not None
    ]
    if source.groups:
        facts.append(f"of {', '.join(title(group) for group in source.groups)}")
    return f"{title(entity)}: {'; '.join(facts)}" if facts else title(entity)


def _values(values: Mapping[str, JSON]) -> list[str]:
    return [
        f"{name} = {value_text(value)}"
        for name, value in values.items()
        if value is not None and value != {}
    ]


def _mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, Mapping) else {}
