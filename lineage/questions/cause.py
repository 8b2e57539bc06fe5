"""Causes: what two recordings of the same role differ in, and how likely each is to matter."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, final

from lineage.change import to_json
from lineage.entity import JSON, Entity, Kind
from lineage.questions.words import entity_json, flat, plural, title, value_text

_CODE_TYPES = frozenset({"Image", "TransformationCode", "SourceCode", "Code", "Algorithm"})
_ENVIRONMENT_TYPES = frozenset({"Environment"})
_SEED = re.compile(r"(^|[._-])(seed|random_state|random_seed)$", re.IGNORECASE)
_CODE = frozenset(
    {"algorithm", "code_digest", "code_version", "entry_point", "command", "function", "is_dirty"}
    | {"code_dirty", "code_repository", "code_branch"}
)
_CODE_DIFFS = ("code_diff", "dirty_diff", "diff")
_PACKAGES = ("packages", "libraries")
_ENVIRONMENT = frozenset(
    {"python_version", "environment_digest", "device", "threads", "platform", "image", "cuda"}
    | {"precision", "instance_count"}
)
# What came of a run: never a cause.
_OUTCOMES = ("metrics",)
_RESULTS = (
    *("rounds", "rows", "rows_in", "rows_out", "rows_left_out", "refused"),
    *("stop_reason", "failure_reason"),
    # What algorithms say of the model that came out.
    *("chosen", "threshold", "topics", "cluster_sizes", "singular_values"),
    *("lists", "nprobe", "pq_bits", "method"),
)
# What every run has of its own, and what says again what is compared by itself.
_OWN = frozenset(
    {"started_us", "ended_us", "metric_summaries", "job", "tags", "proof", "rebuilt", "channels"}
    | {"code_diff_digest", "code_untracked"}
    | {"run", "run_id", "attempt", "attempts", "resumed", "host", "pid", "user", "working_folder"}
    | {"feature_importance", "verdict", "report", "partitions", "stretches"}
)
# Chosen for a job as its parameters are: which columns it reads.
_CHOICES = frozenset({"columns"})
_MEASURES = ("rows", "files", "bytes", "table_version")
_MOST_LINES = 12


class Cause(StrEnum):
    """What kind of thing differs, the likeliest to matter first."""

    DATA = "data"
    CODE = "code"
    PARAMETERS = "parameters"
    SEED = "seed"
    ENVIRONMENT = "environment"
    OTHER = "other"
    UNEXPLAINED = "unexplained"


_WEIGHTS = {cause: float(len(Cause) - place) for place, cause in enumerate(Cause)}


@final
@dataclass(frozen=True)
class Difference:
    """One thing that differs between two lineages.

    Args:
        cause: what kind of thing.
        name: what, such as the name of a parameter or of a table.
        old: the value on the side of the first; None where only the second has it.
        new: the value on the side of the second; None where only the first has it.
        a: the entity it was found on, on the side of the first; None where only the second has it.
        b: the same on the side of the second.
        weight: the greater the likelier to matter: a whole number for the cause, and the size of
            the change, from 0 to 1, behind the point.
        details: lines for people.
        facts: what else is known, as plain values.
    """

    cause: Cause
    name: str
    old: JSON
    new: JSON
    a: Entity | None
    b: Entity | None
    weight: float
    details: tuple[str, ...] = ()
    facts: JSON = None

    def text(self) -> str:
        """The difference for people: a line, and more where more is known."""
        if self.a is None and self.b is not None:
            line = f"{self.name}: only the second has {_side(self.new)}"
        elif self.b is None and self.a is not None:
            line = f"{self.name}: only the first has {_side(self.old)}"
        else:
            line = f"{self.name}: {_side(self.old)} → {_side(self.new)}"
        shown = [f"  {detail}" for detail in self.details[:_MOST_LINES]]
        hidden = len(self.details) - len(shown)
        if hidden > 0:
            shown.append(f"  … and {plural(hidden, 'line')} more")
        return "\n".join([line, *shown])

    def to_json(self) -> dict[str, JSON]:
        """The difference as plain values."""
        return {
            "cause": self.cause.value,
            "name": self.name,
            "old": self.old,
            "new": self.new,
            "a": None if self.a is None else entity_json(self.a),
            "b": None if self.b is None else entity_json(self.b),
            "weight": self.weight,
            "details": list(self.details),
            "facts": self.facts,
        }


@final
@dataclass(frozen=True)
class DataChange:
    """What changed between two versions of data, as somebody knows who can read it.

    Args:
        summary: in a line, such as `2 files added, 1,200 rows more`.
        share: of the rows that changed, from 0 to 1.
        facts: all that is known, as plain values.
        details: lines for people.
    """

    summary: str
    share: float
    facts: JSON = None
    details: tuple[str, ...] = ()


class DataChanges(Protocol):
    """Says what changed between two versions of data; None where it cannot say."""

    def __call__(self, a: Entity, b: Entity, /) -> DataChange | None:
        """Compare them; what it cannot read it says in the summary, and raises nothing."""


def is_code(entity: Entity) -> bool:
    """Whether an artifact is code rather than data."""
    return entity.type in _CODE_TYPES


def is_environment(entity: Entity) -> bool:
    """Whether an artifact describes what jobs ran on."""
    return entity.type in _ENVIRONMENT_TYPES


def is_same_content(a: Entity, b: Entity) -> bool:
    """Whether two artifacts hold the same bytes, wherever they are."""
    return a.kind is b.kind is Kind.ARTIFACT and a.content_hash == b.content_hash != ""


def entity_difference(
    a: Entity | None, b: Entity | None, *, changes: DataChanges | None
) -> Difference:
    """Say that an artifact or context is another, or is there on one side alone."""
    known = a or b
    assert known is not None
    if is_environment(known) and a is not None and b is not None:
        found = list(_environment(a, b, a.properties, b.properties))
        if found:
            return found[0]
    cause = Cause.CODE if is_code(known) else Cause.DATA
    if is_environment(known):
        cause = Cause.ENVIRONMENT
    elif known.kind in (Kind.TRIAL_COMPONENT, Kind.ACTION):
        cause = Cause.OTHER
    share, details, facts = 0.5, [], None
    if a is None or b is None:
        share = 0.9
    elif cause is Cause.CODE:
        details = list(_package_lines(_packages(a.properties), _packages(b.properties)))
    else:
        change = None if changes is None else changes(a, b)
        if change is not None:
            share, facts = change.share, change.facts
            details = [change.summary, *change.details]
        else:
            details = [
                f"{name}: {_side(a.properties.get(name))} → {_side(b.properties.get(name))}"
                for name in _MEASURES
                if a.properties.get(name) != b.properties.get(name)
            ]
    # Where the names say it already, such as weather@3 and weather@5, the type is enough.
    renamed = a is not None and b is not None and a.name != b.name
    return Difference(
        cause,
        known.type if renamed else _name(known),
        None if a is None else _version(a),
        None if b is None else _version(b),
        a,
        b,
        _weight(cause, share),
        tuple(details),
        facts,
    )


def unexplained(a: Entity, b: Entity, reason: str) -> Difference:
    """Say that two things differ, and nothing recorded explains it."""
    cause = Cause.UNEXPLAINED
    return Difference(
        cause, _name(a), _version(a), _version(b), a, b, _weight(cause, 0.5), (reason,)
    )


def job_differences(a: Entity, b: Entity) -> list[Difference]:
    """What two jobs were told and ran on, where it differs; not what came out of them."""
    left, right = dict(a.properties), dict(b.properties)
    found = [
        _named(Cause.SEED if _SEED.search(name) else Cause.PARAMETERS, name, old, new, a, b)
        for name, old, new in _changed(
            _mapping(left.pop("parameters", {})), _mapping(right.pop("parameters", {}))
        )
    ]
    found += _environment(a, b, left, right)
    found += _code(a, b, left, right)
    for name in (*_OWN, *_OUTCOMES, *_RESULTS, *_PACKAGES, *_CODE_DIFFS, *_CODE, *_ENVIRONMENT):
        left.pop(name, None)
        right.pop(name, None)
    for name, old, new in _changed(left, right):
        cause = Cause.SEED if _SEED.search(name) else Cause.OTHER
        if name.partition(".")[0] in _CHOICES:
            cause = Cause.PARAMETERS
        found.append(_named(cause, name, old, new, a, b))
    return found


def outcomes(a: Entity, b: Entity) -> list[tuple[str, JSON, JSON]]:
    """What came out of two jobs, where it differs: name, old and new value."""
    found: list[tuple[str, JSON, JSON]] = []
    for group in _OUTCOMES:
        found += _changed(
            _mapping(a.properties.get(group, {})), _mapping(b.properties.get(group, {}))
        )
    if a.state != b.state:
        found.append(("state", a.state or None, b.state or None))
    for name in _RESULTS:
        old, new = a.properties.get(name), b.properties.get(name)
        if old != new:
            found.append((name, old, new))
    return found


def _environment(
    a: Entity, b: Entity, left: Mapping[str, JSON], right: Mapping[str, JSON]
) -> Iterator[Difference]:
    """Packages by name where both sides list them, else the digest; and what else it ran on."""
    old, new = _packages(left), _packages(right)
    lines = list(_package_lines(old, new))
    if lines:
        names = [name for name in sorted({**old, **new}) if old.get(name) != new.get(name)]
        before: dict[str, JSON] = {name: old[name] for name in names if name in old}
        after: dict[str, JSON] = {name: new[name] for name in names if name in new}
        share = len(names) / (len(names) + 4)
        yield Difference(
            Cause.ENVIRONMENT,
            "packages",
            before,
            after,
            a,
            b,
            _weight(Cause.ENVIRONMENT, share),
            tuple(lines),
        )
    listed = all(side.get("packages") for side in (left, right))
    for name in sorted(_ENVIRONMENT):
        if left.get(name) != right.get(name) and not (name == "environment_digest" and listed):
            yield _named(Cause.ENVIRONMENT, name, left.get(name), right.get(name), a, b)


def _code(
    a: Entity, b: Entity, left: Mapping[str, JSON], right: Mapping[str, JSON]
) -> Iterator[Difference]:
    """Commit, script and other words for the code; and what was changed and not committed."""
    for name in sorted(_CODE):
        if left.get(name) != right.get(name):
            yield _named(Cause.CODE, name, left.get(name), right.get(name), a, b)
    for name in _CODE_DIFFS:
        old, new = left.get(name) or "", right.get(name) or ""
        if old == new or not (isinstance(old, str) and isinstance(new, str)):
            continue
        lines = [
            line
            for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
            if not line.startswith(("---", "+++"))
        ]
        changed = sum(line.startswith(("+", "-")) for line in lines)
        yield Difference(
            Cause.CODE,
            "uncommitted changes",
            plural(len(old.splitlines()), "line"),
            plural(len(new.splitlines()), "line"),
            a,
            b,
            _weight(Cause.CODE, changed / (changed + 4)),
            tuple(lines),
        )


def _named(cause: Cause, name: str, old: JSON, new: JSON, a: Entity, b: Entity) -> Difference:
    weight = _weight(cause, _share(old, new))
    return Difference(cause, name, old, new, a, b, weight, tuple(_list_lines(old, new)))


def _list_lines(old: JSON, new: JSON) -> Iterator[str]:
    """What only one of two lists has; nothing for other values."""
    if not (isinstance(old, list) and isinstance(new, list)):
        return
    for side, values, others in (("first", old, new), ("second", new, old)):
        for value in values:
            if value not in others:
                yield f"only the {side}: {to_json(value)}"


def _packages(properties: Mapping[str, JSON]) -> dict[str, str]:
    """The packages by name, as a mapping or as a list of `name==version`."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        value = properties.get(name)
        if isinstance(value, Mapping):
            found.update({package: str(version) for package, version in value.items()})
        elif isinstance(value, Sequence) and not isinstance(value, str):
            found.update(str(line).partition("==")[::2] for line in value)
    return found


def _package_lines(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    if not (old and new):
        return
    for name in sorted({**old, **new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is None:
            yield f"{name} {after} added"
        elif after is None:
            yield f"{name} {before} removed"
        else:
            yield f"{name} {before} → {after}"


def _changed(left: Mapping[str, JSON], right: Mapping[str, JSON]) -> list[tuple[str, JSON, JSON]]:
    old, new = flat(left), flat(right)
    return [
        (name, old.get(name), new.get(name))
        for name in sorted({**old, **new})
        if old.get(name) != new.get(name)
    ]


def _share(old: JSON, new: JSON) -> float:
    """How much of a value changed: of numbers relatively, of anything else half."""
    if isinstance(old, bool) or isinstance(new, bool):
        return 0.5
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(old - new) / (abs(old) + abs(new))
    return 0.5


def _weight(cause: Cause, share: float) -> float:
    return round(_WEIGHTS[cause] + min(max(share, 0.0), 0.999), 3)


def _name(entity: Entity) -> str:
    return f"{entity.type} {entity.name}"


def _version(entity: Entity) -> JSON:
    """What tells the versions of one thing apart."""
    if entity.kind is not Kind.ARTIFACT:
        return title(entity)
    found: dict[str, JSON] = {
        "name": entity.name,
        "version": entity.version,
        "content_hash": entity.content_hash,
    }
    found.update({name: entity.properties[name] for name in _MEASURES if name in entity.properties})
    return found


def _side(value: JSON) -> str:
    if isinstance(value, Mapping) and "version" in value and "content_hash" in value:
        digest = str(value["content_hash"])[:12]
        return f"{value['name']} v{value['version']}{f' ({digest})' if digest else ''}"
    return "none" if value is None else value_text(value)


def _mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, Mapping) else {}
