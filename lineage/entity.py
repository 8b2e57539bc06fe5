"""Lineage entities: the things, doings and groupings that the graph connects."""

from __future__ import annotations

import hashlib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias, final
from urllib.parse import quote

from lineage.errors import InvalidEntity

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""A value that JSON can hold; properties are made of these."""

MAX_VERSION = 2**31 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# One level of JSON costs a protobuf Struct three levels of its hundred.
_MAX_NESTING = 24
_MAX_INTEGER_BITS = 64
_MAX_CHARACTERS = {
    "type": 256,
    "name": 1024,
    "uid": 2048,
    "source_uri": 8192,
    "content_hash": 256,
    "state": 64,
}
_REQUIRED = ("type", "name")
_ONE_WORD = ("uid", "content_hash")

# Control characters, line separators, lone surrogates, and the marks that make a
# text display in another order than it is stored.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_PLAIN = re.compile(r"[A-Za-z0-9_.~+,=()-]{1,160}")


MAX_RANK = 2**63 - 1
STATE = "state"
"""The facet that gives an entity its state."""

TERMINAL = 2**61
"""Added to the rank of a state that ends a run, so that it outlasts every other."""


class Kind(StrEnum):
    """What an entity is, in SageMaker's words."""

    TRIAL_COMPONENT = "TrialComponent"
    TRIAL = "Trial"
    EXPERIMENT = "Experiment"
    CONTEXT = "Context"
    ACTION = "Action"
    ARTIFACT = "Artifact"

    @property
    def is_experiment(self) -> bool:
        """Whether this is an experiment entity; two of those are never associated."""
        return self in _EXPERIMENT_KINDS


KIND_TEXTS = {kind: kind.value for kind in Kind}
"""The plain text of each kind, at a fraction of what its `value` costs."""

_EXPERIMENT_KINDS = (Kind.TRIAL_COMPONENT, Kind.TRIAL, Kind.EXPERIMENT)
_URN_KINDS = {kind: re.sub(r"(?<!^)(?=[A-Z])", "-", kind.value).lower() for kind in Kind}


@final
@dataclass(frozen=True)
class Facet:
    """A value that knows its place in time, so that it may be recorded in any order.

    Of two under one name the one with the greater rank stays (and of equal ranks always
    the same one), whichever was recorded first.

    Args:
        rank: time of the value, such as UTC microseconds; 0 to 2^63 - 1.
        value: a JSON value; None says that there is none from then on.

    Raises:
        InvalidEntity: the rank is out of range, or the value is not JSON.
    """

    rank: int
    value: JSON = field(hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int):
            raise InvalidEntity(f"facet: rank: expected an int, got {self.rank!r}")
        if not 0 <= self.rank <= MAX_RANK:
            raise InvalidEntity(f"facet: rank: expected 0 to {MAX_RANK}, got {self.rank}")
        object.__setattr__(self, "value", plain_json(self.value, "facet"))


@final
@dataclass(frozen=True)
class Entity:
    """One thing of the lineage graph, as given to `Graph.record` or as stored.

    An artifact is identified by its source uri and content hash: new bytes at
    the same uri are a new version, the same bytes are the same artifact. Every
    other entity is identified by its uid, which is derived from kind, type and
    name unless given.

    Args:
        kind: the kind, or its value as text.
        type: free text such as `DataSet`, `Model`, `TrainingJob`; 1 to 256 characters.
        name: for people; 1 to 1024 characters.
        uid: stable address; empty to have it derived.
        source_uri: where the thing is; required for an artifact.
        content_hash: digest of the content, empty when unknown.
        version: place among the versions at one uri, from 1. The store numbers
            artifacts; a given version above 1 is kept when it is still free.
        state: such as InProgress, Completed, Failed; empty when it has none.
        properties: JSON values by name: finite numbers, integers of at most 64 bits,
            nested at most 24 deep. Numbers of NumPy become plain ones.
        facets: values by name that may be recorded in any order. The one named `state`
            gives the entity its state.
        created: set by the store, UTC; ignored when recorded.
        modified: set by the store, UTC; ignored when recorded.

    Raises:
        InvalidEntity: a field is missing, too long, not printable, or not JSON.

    >>> Entity(Kind.ACTION, "Approval", "flights", properties={"score": float("nan")})
    Traceback (most recent call last):
    ...
    lineage.errors.InvalidEntity: Approval 'flights': property 'score': expected a finite ...
    """

    kind: Kind
    type: str
    name: str
    _: KW_ONLY
    uid: str = ""
    source_uri: str = ""
    content_hash: str = ""
    version: int = 1
    state: str = ""
    properties: Mapping[str, JSON] = field(default_factory=dict, hash=False)
    created: datetime | None = None
    modified: datetime | None = None
    facets: Mapping[str, Facet] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        where = f"{self.type} {self.name!r}"
        object.__setattr__(self, "kind", as_kind(self.kind))
        for name, limit in _MAX_CHARACTERS.items():
            _check_text(getattr(self, name), name, limit, where)
        if self.kind is Kind.ARTIFACT and not self.source_uri:
            raise InvalidEntity(
                f"{where}: an artifact needs a source_uri (it is identified by that and by its "
                f"content_hash); give the path or uri where it is kept"
            )
        if isinstance(self.version, bool) or not isinstance(self.version, int):
            raise InvalidEntity(f"{where}: version: expected an int, got {self.version!r}")
        if not 1 <= self.version <= MAX_VERSION:
            raise InvalidEntity(
                f"{where}: version: expected 1 to {MAX_VERSION}, got {self.version}"
            )
        if not isinstance(self.properties, Mapping):
            raise InvalidEntity(
                f"{where}: properties: expected a mapping, got {type(self.properties).__name__}"
            )
        plain = {
            _key(key, where): plain_json(value, f"{where}: property {key!r}")
            for key, value in self.properties.items()
        }
        object.__setattr__(self, "properties", plain)
        if self.facets:
            _check_facets(self.facets, where)


End: TypeAlias = Entity | str
"""An end of an association: an entity, or the uid of one that exists."""


def artifact(
    type: str,
    source_uri: str,
    *,
    content_hash: str = "",
    name: str = "",
    version: int = 1,
    state: str = "",
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    """An artifact: a table version, dataset, model, image or file.

    Its identity is (source_uri, content_hash). The name defaults to the last
    part of the uri.

    >>> model = artifact("Model", "s3://bucket/flights/model.tar.gz", content_hash="9f2c")
    >>> model.name
    'model.tar.gz'
    >>> derived_uid(model)
    'urn:fs:artifact:s3:model.tar.gz@...'
    """
    return Entity(
        Kind.ARTIFACT,
        type,
        name or _last_part(source_uri),
        source_uri=source_uri,
        content_hash=content_hash,
        version=version,
        state=state,
        properties=properties or {},
    )


def context(
    type: str,
    name: str,
    *,
    source_uri: str = "",
    state: str = "",
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    """A context: a grouping such as a feature group, a model group or an endpoint."""
    return _entity(Kind.CONTEXT, type, name, source_uri, state, properties)


def action(
    type: str,
    name: str,
    *,
    source_uri: str = "",
    state: str = "",
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    """An action: a doing such as an ingestion, a dataset build, an approval, a deployment."""
    return _entity(Kind.ACTION, type, name, source_uri, state, properties)


def trial_component(
    type: str,
    name: str,
    *,
    source_uri: str = "",
    state: str = "",
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    """A trial component: one tracked job (`TrainingJob`, `ProcessingJob`, `TransformJob`)."""
    return _entity(Kind.TRIAL_COMPONENT, type, name, source_uri, state, properties)


def trial(
    type: str,
    name: str,
    *,
    source_uri: str = "",
    state: str = "",
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    """A trial: a set of trial components."""
    return _entity(Kind.TRIAL, type, name, source_uri, state, properties)


def experiment(
    type: str,
    name: str,
    *,
    source_uri: str = "",
    state: str = "",
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    """An experiment: a set of trials."""
    return _entity(Kind.EXPERIMENT, type, name, source_uri, state, properties)


def derived_uid(entity: Entity) -> str:
    """The uid that an entity gets when none is given.

    An artifact's uid depends on its source uri and content hash alone, any other
    entity's on kind, type and name, so every store derives the same one.

    >>> derived_uid(context("FeatureGroup", "flights"))
    'urn:fs:context:FeatureGroup:flights'
    """
    if entity.kind is Kind.ARTIFACT:
        identity = f"{entity.source_uri}\0{entity.content_hash}"
        scheme = _SCHEME.match(entity.source_uri)
        namespace = scheme[1].lower() if scheme else "file"
        name = _part(_last_part(entity.source_uri))
        return f"urn:fs:artifact:{namespace}:{name}@{_hash(identity)}"
    return f"urn:fs:{_URN_KINDS[entity.kind]}:{_part(entity.type)}:{_part(entity.name)}"


def amended(entity: Entity, **fields: object) -> Entity:
    """A copy with other fields, which the caller has checked: `replace` without its cost."""
    copy = object.__new__(Entity)
    known = copy.__dict__
    known.update(entity.__dict__)
    known.update(fields)
    return copy


def stored_entity(
    *,
    kind: Kind,
    type: str,
    name: str,
    uid: str,
    source_uri: str,
    content_hash: str,
    version: int,
    state: str,
    properties: Mapping[str, JSON],
    created: datetime | None,
    modified: datetime | None,
    facets: Mapping[str, Facet] | None = None,
) -> Entity:
    """An entity from fields that were checked when it was recorded.

    Reading skips the checks of the constructor: they cost more than the read.
    """
    entity = object.__new__(Entity)
    fields = entity.__dict__
    fields["kind"] = kind
    fields["type"] = type
    fields["name"] = name
    fields["uid"] = uid
    fields["source_uri"] = source_uri
    fields["content_hash"] = content_hash
    fields["version"] = version
    fields["state"] = state
    fields["properties"] = properties
    fields["created"] = created
    fields["modified"] = modified
    fields["facets"] = {} if facets is None else facets
    return entity


def stored_facet(rank: int, value: JSON) -> Facet:
    """A facet from fields that were checked when it was recorded."""
    facet = object.__new__(Facet)
    facet.__dict__.update(rank=rank, value=value)
    return facet


def from_us(time_us: int) -> datetime:
    """The time of this many microseconds since 1970, UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def to_us(time: datetime) -> int:
    """Microseconds since 1970 of a time with a zone."""
    return (time - _EPOCH) // _MICROSECOND


def as_kind(value: Kind | str) -> Kind:
    """The kind with this value.

    Raises:
        InvalidEntity: there is no such kind.
    """
    if isinstance(value, Kind):
        return value
    try:
        return Kind(value)
    except ValueError:
        names = ", ".join(Kind)
        raise InvalidEntity(f"kind: expected one of {names}; got {value!r}") from None


def plain_json(value: object, where: str, *, depth: int = 1) -> JSON:
    """A deep copy of `value` made of None, bool, int, float, str, list and dict alone.

    Raises:
        InvalidEntity: something in it is not JSON; the text says where.

    >>> plain_json({"shape": (2, 3)}, "here")
    {'shape': [2, 3]}
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        if _SURROGATE.search(value):
            raise InvalidEntity(f"{where}: expected Unicode text, got a lone surrogate")
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        whole = int(value)
        if whole.bit_length() > _MAX_INTEGER_BITS:
            raise InvalidEntity(
                f"{where}: expected an integer of at most {_MAX_INTEGER_BITS} bits, got one of "
                f"{whole.bit_length()}; record it as text"
            )
        return whole
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            raise InvalidEntity(
                f"{where}: expected a finite number, got {number}; JSON has no such number, "
                f"record it as text or leave it out"
            )
        return number
    if isinstance(value, Mapping | Sequence) and not isinstance(value, bytes | bytearray):
        if depth > _MAX_NESTING:
            raise InvalidEntity(f"{where}: expected at most {_MAX_NESTING} nested levels")
        if isinstance(value, Mapping):
            return {
                _key(key, where): plain_json(item, f"{where}.{key}", depth=depth + 1)
                for key, item in value.items()
            }
        return [
            plain_json(item, f"{where}[{index}]", depth=depth + 1)
            for index, item in enumerate(value)
        ]
    raise InvalidEntity(
        f"{where}: expected JSON (None, bool, int, float, str, list, dict), got "
        f"{type(value).__module__}.{type(value).__qualname__}; convert it first"
    )


def check_storable(value: object, where: str) -> None:
    """Refuse text that not every store can keep; what is no text is not looked at.

    Raises:
        InvalidEntity: it has a NUL or a lone surrogate.
    """
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise InvalidEntity(f"{where}: expected Unicode text without U+0000, got {value!a:.200}")


def _entity(
    kind: Kind,
    type: str,
    name: str,
    source_uri: str,
    state: str,
    properties: Mapping[str, JSON] | None,
) -> Entity:
    return Entity(kind, type, name, source_uri=source_uri, state=state, properties=properties or {})


def _check_facets(facets: object, where: str) -> None:
    if not isinstance(facets, Mapping):
        raise InvalidEntity(f"{where}: facets: expected a mapping, got {type(facets).__name__}")
    for name, facet in facets.items():
        _key(name, where)
        if not isinstance(facet, Facet):
            raise InvalidEntity(
                f"{where}: facet {name!r}: expected a Facet, got {type(facet).__name__}"
            )
    state = facets.get(STATE)
    if state is not None and state.value is not None:
        if not isinstance(state.value, str):
            raise InvalidEntity(f"{where}: facet 'state': expected text, got {state.value!r:.200}")
        _check_text(state.value, "state", _MAX_CHARACTERS["state"], where)


def _check_text(value: object, name: str, limit: int, where: str) -> None:
    if not isinstance(value, str):
        raise InvalidEntity(f"{where}: {name}: expected text, got {type(value).__name__}")
    if name in _REQUIRED and not value.strip():
        raise InvalidEntity(f"{where}: {name}: expected 1 to {limit} characters, got {value!r}")
    if len(value) > limit:
        raise InvalidEntity(
            f"{where[:80]}: {name}: expected at most {limit} characters, got {len(value)}"
        )
    found = _UNPRINTABLE.search(value)
    if found:
        raise InvalidEntity(
            f"{where!a}: {name}: expected printable text, got U+{ord(found[0]):04X} at "
            f"position {found.start()}"
        )
    if name in _ONE_WORD and value.split() not in ([], [value]):
        raise InvalidEntity(f"{where}: {name}: expected no spaces, got {value!r}")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str) or _SURROGATE.search(key):
        raise InvalidEntity(f"{where}: property names: expected text, got {key!a}")
    return str.__str__(key)


def _last_part(uri: str) -> str:
    path = uri.partition("?")[0].partition("#")[0].rstrip("/")
    return path.rpartition("/")[2] or uri


def _part(text: str) -> str:
    """`text` as one part of a urn: `:` and `@` escaped, long ones cut and hashed."""
    quoted = text if _PLAIN.fullmatch(text) else quote(text, safe="+,=()")
    if len(quoted) <= 160:
        return quoted
    return f"{re.sub('%.?$', '', quoted[:128])}@{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
