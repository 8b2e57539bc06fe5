"""Diff: why two entities differ, as the smallest set of causes upstream of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import SequenceMatcher
from typing import TypeAlias, final

from lineage.association import AssociationType
from lineage.change import to_json
from lineage.entity import JSON, Entity, Kind, amended
from lineage.errors import InvalidQuery
from lineage.query import viewed
from lineage.questions.cause import (
    Cause,
    DataChanges,
    Difference,
    entity_difference,
    is_same_content,
    job_differences,
    outcomes,
    unexplained,
)
from lineage.questions.words import entity_json, plural, title, value_text
from lineage.store import LineageStore, View

# AssociatedWith and SameAs tie things together and make nothing of anything.
_CAUSAL = frozenset(
    {
        AssociationType.CONTRIBUTED_TO.value,
        AssociationType.PRODUCED.value,
        AssociationType.DERIVED_FROM.value,
    }
)
_JOBS = (Kind.TRIAL_COMPONENT, Kind.ACTION)
# What a name has of one version alone: digests, times and numbers.
_PASSING = re.compile(r"[0-9a-f]{7,}|\d+")
_MOST_COMPARED = 100

Pair: TypeAlias = tuple[int, int]
Alone: TypeAlias = tuple[Entity | None, Entity | None]


@final
@dataclass(frozen=True)
class Outcome:
    """Something that came out differently: an effect, not a cause.

    Args:
        name: such as the name of a metric, or `state`.
        old: on the side of the first; None where it has none.
        new: on the side of the second.
    """

    name: str
    old: JSON
    new: JSON

    def to_json(self) -> dict[str, JSON]:
        """The outcome as plain values."""
        return {"name": self.name, "old": self.old, "new": self.new}


@final
@dataclass(frozen=True)
class LineageDiff:
    """Why two entities differ.

    Args:
        a: the first.
        b: the second.
        is_equal: whether they are the same entity, or hold the same bytes.
        causes: the smallest set found that explains the rest, the likeliest to matter first. What
            follows from a cause further upstream is not among them.
        outcomes: what came out differently, such as metrics.
        compared: how many pairs of entities were held against each other.
    """

    a: Entity
    b: Entity
    is_equal: bool
    causes: tuple[Difference, ...]
    outcomes: tuple[Outcome, ...]
    compared: int

    def of(self, cause: Cause | str) -> tuple[Difference, ...]:
        """The causes of one kind, such as `data`."""
        return tuple(each for each in self.causes if each.cause == cause)

    def text(self) -> str:
        """The causes for people, grouped by their kind, then the outcomes."""
        ends = f"{title(self.a)} and {title(self.b)}"
        if self.a.uid == self.b.uid:
            lines = [f"{title(self.a)} is one and the same entity: nothing differs"]
        elif self.is_equal:
            lines = [f"{ends} hold the same bytes"]
            if self.causes:
                lines.append("What differs upstream made no difference:")
        else:
            lines = [f"{ends} differ by {plural(len(self.causes), 'cause')}"]
        kind: Cause | None = None
        for number, each in enumerate(self.causes, 1):
            if each.cause is not kind:
                kind = each.cause
                lines.append(kind.value)
            first, *rest = each.text().splitlines()
            lines.append(f"  {number}. {first}")
            lines += [f"     {line}" for line in rest]
        if self.outcomes:
            lines.append("outcome")
            lines += [
                f"  {each.name}: {_value(each.old)} → {_value(each.new)}" for each in self.outcomes
            ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, JSON]:
        """The causes and outcomes as plain values."""
        return {
            "a": entity_json(self.a),
            "b": entity_json(self.b),
            "is_equal": self.is_equal,
            "causes": [each.to_json() for each in self.causes],
            "outcomes": [each.to_json() for each in self.outcomes],
            "compared": self.compared,
        }


@final
class History:
    """A store at other times.

    Args:
        store: which.
    """

    def __init__(self, store: LineageStore) -> None:
        self._store = store
        self._known: dict[tuple[int, datetime], tuple[Entity, set[int]]] = {}

    def when_made(
        self, job: Entity, node: int, made: Entity, through: frozenset[str]
    ) -> tuple[Entity, set[int]]:
        """A job as it was when something was first recorded, and the inputs it had had by then."""
        if made.created is None:
            return job, set()
        key = (node, made.created)
        if key not in self._known:
            with viewed(self._store, made.created) as view:
                then = view.by_uid([job.uid]).get(job.uid, job)
                edges = view.neighbours([node], upstream=True)
            inputs = {source for source, _, link in edges if link in through}
            self._known[key] = (then, inputs)
        return self._known[key]


def find_difference(
    view: View,
    a: int,
    b: int,
    *,
    through: frozenset[str],
    changes: DataChanges | None,
    history: History,
) -> LineageDiff:
    """Hold the ascendants of two nodes against each other, pair by pair in the same role.

    Two entities are paired when what is made of them is, and they are equal in where they are, or
    in their name, or in their type. What both have in common is the same, and not looked behind.
    A pair of other content is a cause only when nothing upstream of it explains that.

    Args:
        view: the graph.
        a: the first.
        b: the second.
        through: association types to follow; empty: those that say what was made of what.
        changes: says what changed between two versions of data.
        history: the graph at other times: a job that made both was another each time.

    Raises:
        InvalidQuery: one is an experiment or trial, which nothing is made of.

    Cost: the ascendants that are not common are read once; a pair costs the product of the
    inputs that are not common.
    """
    return _Comparison(view, through or _CAUSAL, changes, history).of(a, b)


@final
class _Comparison:
    def __init__(
        self,
        view: View,
        through: frozenset[str],
        changes: DataChanges | None,
        history: History,
    ) -> None:
        self._view = view
        self._through = through
        self._changes = changes
        self._history = history
        self._entities: dict[int, Entity] = {}
        self._inputs: dict[int, list[int]] = {}
        self._explained: dict[Pair, bool] = {}
        # Of each side, the partner on the other: a thing plays one role.
        self._partners: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._causes: list[Difference] = []

    def of(self, a: int, b: int) -> LineageDiff:
        self._load([a, b])
        first, second = self._entities[a], self._entities[b]
        for entity in (first, second):
            if entity.kind in (Kind.TRIAL, Kind.EXPERIMENT):
                raise InvalidQuery(
                    f"diff: expected artifacts, jobs or contexts, got the {entity.kind} "
                    f"{entity.name!r}; compare two of its trial components"
                )
        is_equal = a == b or is_same_content(first, second)
        found: list[Outcome] = []
        if a != b:
            self._partners[0][a], self._partners[1][b] = b, a
            self._explain((a, b))
            if not self._causes and not is_equal:
                self._causes.append(unexplained(first, second, self._why(a, b)))
            found = list(self._outcomes(a, b))
        ranked = sorted(_distinct(self._causes), key=lambda each: (-each.weight, each.name))
        return LineageDiff(
            first, second, is_equal, tuple(ranked), tuple(found), len(self._explained)
        )

    def _explain(self, top: Pair) -> None:
        """Find the causes of a pair: those of its inputs first, on a stack of our own."""
        waiting: list[tuple[Pair, list[Pair], list[Pair]]] = []
        self._enter(top, waiting)
        while waiting:
            pair, inputs, left = waiting[-1]
            while left and left[-1] in self._explained:
                left.pop()
            if left:
                self._enter(left.pop(), waiting)
                continue
            waiting.pop()
            is_explained = self._explained[pair] or any(self._explained[one] for one in inputs)
            if not is_explained and pair != top and not self._is_job(pair):
                a, b = (self._entities[node] for node in pair)
                self._causes.append(entity_difference(a, b, changes=self._changes))
                is_explained = True
            self._explained[pair] = is_explained

    def _enter(self, pair: Pair, waiting: list[tuple[Pair, list[Pair], list[Pair]]]) -> None:
        """Note what a pair differs in by itself, and which pairs of inputs to look behind."""
        a, b = pair
        first, second = self._entities[a], self._entities[b]
        found = []
        if self._is_job(pair):
            found = job_differences(self._whole(first), self._whole(second))
        self._causes += found
        left, right = self._inputs_of(a), self._inputs_of(b)
        common = set(left).intersection(right)
        inputs, alone = self._paired(
            [node for node in left if node not in common],
            [node for node in right if node not in common],
            _ROLES,
        )
        for job in common:
            if self._entities[job].kind in _JOBS and first.kind is second.kind is Kind.ARTIFACT:
                more, others = self._twice(job, first, second, found)
                inputs += more
                alone += others
        for only_a, only_b in alone:
            one = entity_difference(only_a, only_b, changes=self._changes)
            self._causes.append(one)
            found.append(one)
        self._explained[pair] = bool(found)
        waiting.append((pair, inputs, list(inputs)))

    def _twice(
        self, job: int, a: Entity, b: Entity, found: list[Difference]
    ) -> tuple[list[Pair], list[Alone]]:
        """What differs between two runs of one job, of which each made one of a pair.

        Inputs stay associated with a job, so only those that one run had and the other did not
        yet are told apart.
        """
        first, inputs_a = self._history.when_made(self._entities[job], job, a, self._through)
        second, inputs_b = self._history.when_made(self._entities[job], job, b, self._through)
        mine = job_differences(self._whole(first), self._whole(second))
        self._causes += mine
        found += mine
        self._load(sorted(inputs_a | inputs_b))
        if inputs_a <= inputs_b:
            pairs, alone = self._paired(sorted(inputs_a), sorted(inputs_b - inputs_a), _SURE_ROLES)
            return pairs, [one for one in alone if one[0] is None]
        pairs, alone = self._paired(sorted(inputs_a - inputs_b), sorted(inputs_b), _SURE_ROLES)
        return pairs, [one for one in alone if one[1] is None]

    def _whole(self, job: Entity) -> Entity:
        """A job with what it names by digest: the packages, and the changes of its code."""
        properties = dict(job.properties)
        for uri, digest, name in (
            ("environment", "environment_digest", "packages"),
            ("code", "code_diff_digest", "code_diff"),
        ):
            known = properties.get(digest)
            if not isinstance(known, str) or name in properties:
                continue
            place = known if uri == "environment" else str(properties.get("code_version"))
            kept = self._view.artifact(f"{uri}:{place}", known)
            if kept is not None and name in kept.properties:
                properties[name] = kept.properties[name]
        return (
            job if len(properties) == len(job.properties) else amended(job, properties=properties)
        )

    def _inputs_of(self, node: int) -> list[int]:
        """What a node was made of, without the versions before it at the same place."""
        if node not in self._inputs:
            edges = self._view.neighbours([node], upstream=True)
            nodes = sorted({source for source, _, link in edges if link in self._through})
            self._load(nodes)
            uri = self._entities[node].source_uri
            self._inputs[node] = [
                source
                for source in nodes
                if not (
                    uri
                    and self._entities[source].kind is self._entities[node].kind is Kind.ARTIFACT
                    and self._entities[source].source_uri == uri
                )
            ]
        return self._inputs[node]

    def _paired(
        self,
        left: list[int],
        right: list[int],
        roles: Sequence[Callable[[Entity], object]],
    ) -> tuple[list[Pair], list[Alone]]:
        """Pairs in the same role with other content, and those without a partner."""
        ours_to, theirs_to = self._partners
        known = {(a, ours_to[a]) for a in left if a in ours_to}
        known |= {(theirs_to[b], b) for b in right if b in theirs_to}
        found = sorted(known)
        left = [a for a in left if a not in ours_to]
        right = [b for b in right if b not in theirs_to]
        for role in roles:
            for ours, theirs in _groups(role, left, right, self._entities):
                for a, b in _nearest(ours, theirs, self._entities):
                    left.remove(a)
                    right.remove(b)
                    ours_to[a], theirs_to[b] = b, a
                    found.append((a, b))
        pairs = [
            (a, b) for a, b in found if not is_same_content(self._entities[a], self._entities[b])
        ]
        alone: list[Alone] = [
            *((self._entities[node], None) for node in left),
            *((None, self._entities[node]) for node in right),
        ]
        return pairs, alone

    def _outcomes(self, a: int, b: int) -> Iterator[Outcome]:
        """What came out of the two, or of the jobs that made them."""
        pairs = [(self._entities[a], self._entities[b])]
        makers = [
            [node for node in self._inputs_of(one) if self._entities[node].kind in _JOBS]
            for one in (a, b)
        ]
        for left, right in zip(*makers, strict=False):
            first, second = self._entities[left], self._entities[right]
            if left == right:
                first, _ = self._history.when_made(first, left, self._entities[a], self._through)
                second, _ = self._history.when_made(second, left, self._entities[b], self._through)
            pairs.append((first, second))
        seen: dict[str, None] = {}
        for first, second in pairs:
            for name, old, new in outcomes(first, second):
                if name not in seen:
                    seen[name] = None
                    yield Outcome(name, old, new)

    def _why(self, a: int, b: int) -> str:
        if not self._inputs_of(a) and not self._inputs_of(b):
            return "nothing is recorded of what either was made of"
        return (
            "inputs, code, parameters, seed and environment are recorded as equal: something that "
            "is not recorded, or chance, made the difference"
        )

    def _is_job(self, pair: Pair) -> bool:
        return self._entities[pair[0]].kind in _JOBS

    def _load(self, nodes: Sequence[int]) -> None:
        unknown = [node for node in nodes if node not in self._entities]
        if unknown:
            self._entities.update(zip(unknown, self._view.entities(unknown), strict=True))


def _distinct(causes: Sequence[Difference]) -> list[Difference]:
    """Each difference once, though several jobs may show it."""
    found: dict[str, Difference] = {}
    for each in causes:
        is_of_job = each.a is not None and each.a.kind in _JOBS
        ends = () if is_of_job else (each.a and each.a.uid, each.b and each.b.uid)
        key = to_json([each.cause, each.name, each.old, each.new, *ends])
        first = found.setdefault(key, each)
        if first is not each and each.a is not None:
            found[key] = replace(first, details=(*first.details, f"also {title(each.a)}"))
    return list(found.values())


def _where(entity: Entity) -> object:
    return (entity.kind, entity.source_uri) if entity.source_uri else None


def _named(entity: Entity) -> object:
    return entity.kind, entity.type, entity.name


def _alike(entity: Entity) -> object:
    return entity.kind, entity.type, _PASSING.sub("", entity.name.lower())


def _typed(entity: Entity) -> object:
    return entity.kind, entity.type


# A job has its place in a folder of its own, so where it is says little; but where that is equal
# it is the same one.
_SURE_ROLES: tuple[Callable[[Entity], object], ...] = (_where, _named, _alike)
_ROLES: tuple[Callable[[Entity], object], ...] = (*_SURE_ROLES, _typed)


def _groups(
    role: Callable[[Entity], object],
    left: Iterable[int],
    right: Iterable[int],
    entities: dict[int, Entity],
) -> Iterator[tuple[list[int], list[int]]]:
    """Nodes of both sides that play one role."""
    sides: dict[object, tuple[list[int], list[int]]] = {}
    for side, nodes in enumerate((left, right)):
        for node in nodes:
            key = role(entities[node])
            if key is not None:
                sides.setdefault(key, ([], []))[side].append(node)
    for ours, theirs in sides.values():
        if ours and theirs:
            yield ours, theirs


def _nearest(ours: list[int], theirs: list[int], entities: dict[int, Entity]) -> Iterator[Pair]:
    """Partners among several in one role: equal content, then the likest names, then order."""
    for a in list(ours):
        same = [b for b in theirs if is_same_content(entities[a], entities[b])]
        if same:
            ours.remove(a)
            theirs.remove(same[0])
            yield a, same[0]
    if len(ours) * len(theirs) == 1 or len(ours) * len(theirs) > _MOST_COMPARED**2:
        yield from zip(ours, theirs, strict=False)
        return
    scored = sorted(
        (
            -SequenceMatcher(None, entities[a].name, entities[b].name).ratio(),
            ours.index(a),
            theirs.index(b),
        )
        for a in ours
        for b in theirs
    )
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, place, other in scored:
        if place not in taken[0] and other not in taken[1]:
            taken[0].add(place)
            taken[1].add(other)
            yield ours[place], theirs[other]


def _value(value: JSON) -> str:
    return "none" if value is None else value_text(value)
