"""Feature groups: what a record must look like, and the rules for names and limits."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, final

from featurestore.errors import FeatureNotFound, InvalidFeatureGroup, nearest
from featurestore.feature import (
    MAX_DIMENSION,
    CollectionType,
    FeatureDefinition,
    FeatureType,
    Value,
)
from featurestore.record import validate
from featurestore.shape import Shapes

__all__ = [
    "FeatureGroup",
    "StorageType",
    "Store",
    "Throughput",
    "Ttl",
    "TtlUnit",
    "check_name",
    "definitions_from_json",
    "feature_definitions",
    "ttl_from_json",
]

MAX_FEATURES: Final = 2500
MAX_ADDITIONS: Final = 100
MAX_DESCRIPTION: Final = 128
MAX_TAGS: Final = 50
MAX_CAPACITY_UNITS: Final = 10_000_000
# Names the offline table needs for itself: SageMaker's three, and ours behind an underscore.
RESERVED_FEATURES: Final = frozenset({"is_deleted", "write_time", "api_invocation_time"})
_NAME: Final = re.compile(r"(?=.{1,64}\Z)[a-zA-Z0-9]([_-]*[a-zA-Z0-9])*\Z")
_PLACE: Final = re.compile(r"s3://[a-z0-9][a-z0-9._-]{0,62}(/[!-~]*)?")
_SECONDS: Final = {"Seconds": 1, "Minutes": 60, "Hours": 3600, "Days": 86_400, "Weeks": 604_800}


class Store(enum.StrEnum):
    """The two stores a record can go to."""

    ONLINE = "OnlineStore"
    OFFLINE = "OfflineStore"


class StorageType(enum.StrEnum):
    """SageMaker's online storage types: kept and reported; one engine serves them all."""

    STANDARD = "Standard"
    STANDARD_V2 = "Standard_V2"
    IN_MEMORY = "InMemory"


@final
@dataclass(frozen=True, slots=True)
class Throughput:
    """What a group may read and write a second.

    Args:
        read_units: of 4 KiB read a second; None: as much as the machine gives.
        write_units: of 1 KiB written a second; None likewise.
    """

    read_units: int | None = None
    write_units: int | None = None

    def __post_init__(self) -> None:
        if (self.read_units is None) != (self.write_units is None):
            raise InvalidFeatureGroup(
                "ThroughputConfig: Provisioned needs both ProvisionedReadCapacityUnits and "
                "ProvisionedWriteCapacityUnits"
            )
        for name, units in (("Read", self.read_units), ("Write", self.write_units)):
            if units is not None and (
                isinstance(units, bool)
                or not isinstance(units, int)
                or not 0 <= units <= MAX_CAPACITY_UNITS
            ):
                raise InvalidFeatureGroup(
                    f"ThroughputConfig.Provisioned{name}CapacityUnits: expected a whole number "
                    f"from 0 to {MAX_CAPACITY_UNITS:,}, got {units!r}"
                )

    @property
    def is_provisioned(self) -> bool:
        """Whether there are limits."""
        return self.read_units is not None


class TtlUnit(enum.StrEnum):
    """The unit of a time to live."""

    SECONDS = "Seconds"
    MINUTES = "Minutes"
    HOURS = "Hours"
    DAYS = "Days"
    WEEKS = "Weeks"


@final
@dataclass(frozen=True, slots=True)
class Ttl:
    """How long after its event time a record can be read online.

    >>> Ttl(TtlUnit.HOURS, 2).us
    7200000000
    """

    unit: TtlUnit
    value: int

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 1:
            raise InvalidFeatureGroup(
                f"TtlDuration.Value: expected a whole number >= 1, got {self.value!r}"
            )

    @property
    def us(self) -> int:
        """The duration in microseconds."""
        return self.value * _SECONDS[self.unit] * 1_000_000


@final
@dataclass(frozen=True)
class FeatureGroup:
    """A schema with one record identifier and one event time.

    Checked on construction. A change is a new value (`with_features`, `with_ttl`), and the
    registry numbers the versions.

    Args:
        name: 1 to 64 letters, digits, `_` and `-`, beginning and ending with a letter or digit.
        record_identifier: the feature that names the thing described.
        event_time: the String (ISO-8601) or Fractional (Unix seconds) feature that orders versions.
        features: 1 to 2,500 definitions, the two above among them.
        online: keep the latest record for `get`.
        offline: keep all records for datasets.
        ttl: how long records can be read online after their event time.
        description: up to 128 characters.
        tags: up to 50 pairs.
        storage_type: the online store's type, by SageMaker's names.
        throughput: limits of reads and writes.
        offline_place: object-store prefix of the offline table, `s3://bucket/prefix`; "": the home,
            or where the home puts the tables of new groups.
        kms_key: name of the master key; record values are then encrypted at rest. "": they are not.

    Raises:
        InvalidFeatureGroup: a rule is broken; the message names it.

    >>> group = FeatureGroup(
    ...     "weather",
    ...     record_identifier="origin",
    ...     event_time="hour",
    ...     features=(
    ...         FeatureDefinition("origin", FeatureType.STRING),
    ...         FeatureDefinition("hour", FeatureType.STRING),
    ...         FeatureDefinition("temp", FeatureType.FRACTIONAL),
    ...     ),
    ... )
    >>> group.feature_type("temp")
    <FeatureType.FRACTIONAL: 'Fractional'>
    """

    name: str
    record_identifier: str
    event_time: str
    features: tuple[FeatureDefinition, ...]
    online: bool = True
    offline: bool = True
    ttl: Ttl | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    storage_type: StorageType = StorageType.STANDARD
    throughput: Throughput = Throughput()
    kms_key: str = ""
    offline_place: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "FeatureGroupName")
        if not 1 <= len(self.features) <= MAX_FEATURES:
            raise InvalidFeatureGroup(
                f"{self.name}: expected 1 to {MAX_FEATURES} features, got {len(self.features)}"
            )
        seen: dict[str, str] = {}
        for feature in self.features:
            _check_feature(self.name, feature)
            twin = seen.get(feature.name.lower())
            if twin is not None:
                raise InvalidFeatureGroup(
                    f"{self.name}: feature {feature.name!r} is defined twice"
                    if twin == feature.name
                    else f"{self.name}: features {twin!r} and {feature.name!r} differ only in "
                    f"case, which the offline table cannot tell apart; rename one"
                )
            seen[feature.name.lower()] = feature.name
        for role, wanted in (
            ("RecordIdentifierFeatureName", self.record_identifier),
            ("EventTimeFeatureName", self.event_time),
        ):
            if wanted not in self.types:
                raise InvalidFeatureGroup(
                    f"{self.name}: {role} {wanted!r} is not among the feature definitions"
                    f"{nearest(str(wanted), self.types)}"
                )
        for role, wanted in (
            ("record identifier", self.record_identifier),
            ("event time", self.event_time),
        ):
            if wanted in self.collections:
                raise InvalidFeatureGroup(
                    f"{self.name}: the {role} {wanted!r} must hold one value, not a "
                    f"{self.collections[wanted].collection}"
                )
        if self.record_identifier == self.event_time:
            raise InvalidFeatureGroup(
                f"{self.name}: the record identifier and the event time must be two features, "
                f"got {self.event_time!r} for both"
            )
        if self.feature_type(self.event_time) is FeatureType.INTEGRAL:
            raise InvalidFeatureGroup(
                f"{self.name}: event time {self.event_time!r} must be String or Fractional, "
                f"got Integral"
            )
        if not (self.online or self.offline):
            raise InvalidFeatureGroup(
                f"{self.name}: enable the online store, the offline store, or both"
            )
        if self.offline_place:
            check_place(
                self.offline_place, f"{self.name}: OfflineStoreConfig.S3StorageConfig.S3Uri"
            )
        if len(self.description) > MAX_DESCRIPTION:
            raise InvalidFeatureGroup(
                f"{self.name}: description: expected at most {MAX_DESCRIPTION} characters, "
                f"got {len(self.description)}"
            )
        if len(self.tags) > MAX_TAGS:
            raise InvalidFeatureGroup(
                f"{self.name}: expected at most {MAX_TAGS} tags, got {len(self.tags)}"
            )

    @cached_property
    def types(self) -> dict[str, FeatureType]:
        """Feature types by name, in the order of definition."""
        return {feature.name: feature.type for feature in self.features}

    @cached_property
    def definitions(self) -> dict[str, FeatureDefinition]:
        """Feature definitions by name, in their order."""
        return {feature.name: feature for feature in self.features}

    @cached_property
    def scalars(self) -> dict[str, FeatureType]:
        """Types of the features that hold one value, by name."""
        return {f.name: f.type for f in self.features if f.collection is None}

    @cached_property
    def collections(self) -> dict[str, FeatureDefinition]:
        """The features that hold several values, by name."""
        return {f.name: f for f in self.features if f.collection is not None}

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of the group's records, as this process saw them."""
        return Shapes(self.scalars, identifier=self.record_identifier, event_time=self.event_time)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in the order of definition."""
        return tuple(self.types)

    def feature_type(self, name: str) -> FeatureType:
        """Return the type of one feature.

        Raises:
            FeatureNotFound: the group has no such feature.
        """
        found = self.types.get(name)
        if found is None:
            raise FeatureNotFound.named(self.name, name, self.types)
        return found

    def validate(self, record: Mapping[str, object]) -> dict[str, Value]:
        """Return the record with every value in its declared type and nulls left out.

        See `featurestore.record.validate` for the rules.
        """
        return validate(self, record)

    def with_features(self, additions: Sequence[FeatureDefinition]) -> FeatureGroup:
        """Return the group with 1 to 100 more features. Features are never removed or retyped.

        Raises:
            InvalidFeatureGroup: too many, or a name that exists.
        """
        if not 1 <= len(additions) <= MAX_ADDITIONS:
            raise InvalidFeatureGroup(
                f"{self.name}: expected 1 to {MAX_ADDITIONS} feature additions in a call, "
                f"got {len(additions)}"
            )
        return replace(self, features=(*self.features, *additions))

    def with_ttl(self, ttl: Ttl | None) -> FeatureGroup:
        """Return the group with another time to live for records put from now on."""
        return replace(self, ttl=ttl)

    def with_throughput(self, throughput: Throughput) -> FeatureGroup:
        """Return the group with other limits of reads and writes."""
        return replace(self, throughput=throughput)

    def with_offline_place(self, place: str) -> FeatureGroup:
        """Return the group with its offline table at another place; only before it is created."""
        return replace(self, offline_place=place)

    def with_storage_type(self, storage_type: StorageType) -> FeatureGroup:
        """Return the group with another online storage type: only Standard becomes Standard_V2.

        Raises:
            InvalidFeatureGroup: any other change.
        """
        change = (self.storage_type, storage_type)
        if change != (StorageType.STANDARD, StorageType.STANDARD_V2):
            raise InvalidFeatureGroup(
                f"{self.name}: StorageType: only Standard can be changed, to Standard_V2; "
                f"got {storage_type} for {self.storage_type}"
            )
        return replace(self, storage_type=storage_type)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FeatureGroup:
        """Read a definition in SageMaker's CreateFeatureGroup shape.

        `OnlineStoreConfig.EnableOnlineStore` and the presence of `OfflineStoreConfig` choose the
        stores; with neither given, both are on. `OfflineStoreConfig.S3StorageConfig.S3Uri` places
        the offline table. `RoleArn` and catalogue settings have no meaning here and are accepted.

        Raises:
            InvalidFeatureGroup: a member is missing, unknown or of the wrong form.
        """
        if not isinstance(body, Mapping):
            raise InvalidFeatureGroup(
                f"expected a JSON object in CreateFeatureGroup's shape, got {type(body).__name__}"
            )
        unknown = sorted(set(body) - _MEMBERS)
        if unknown:
            raise InvalidFeatureGroup(
                f"unknown member {unknown[0]!r} in a feature group{nearest(unknown[0], _MEMBERS)}"
            )
        name = _text(body, "FeatureGroupName")
        online = _object(body, "OnlineStoreConfig")
        offline = _object(body, "OfflineStoreConfig")
        neither = online is None and offline is None
        enabled = (online or {}).get("EnableOnlineStore", False)
        if not isinstance(enabled, bool):
            raise InvalidFeatureGroup(
                f"OnlineStoreConfig.EnableOnlineStore: expected true or false, got {enabled!r}"
            )
        return cls(
            name=name,
            record_identifier=_text(body, "RecordIdentifierFeatureName"),
            event_time=_text(body, "EventTimeFeatureName"),
            features=definitions_from_json(name, body.get("FeatureDefinitions")),
            online=neither or enabled,
            offline=neither or offline is not None,
            ttl=ttl_from_json((online or {}).get("TtlDuration")),
            storage_type=storage_type_from_json((online or {}).get("StorageType")),
            throughput=throughput_from_json(body.get("ThroughputConfig")),
            kms_key=_kms_key(online or {}),
            offline_place=_offline_place(offline or {}),
            description=str(body.get("Description") or ""),
            tags=_tags(body.get("Tags")),
        )

    def to_json(self) -> dict[str, Any]:
        """Write the definition in SageMaker's CreateFeatureGroup shape."""
        body: dict[str, Any] = {
            "FeatureGroupName": self.name,
            "RecordIdentifierFeatureName": self.record_identifier,
            "EventTimeFeatureName": self.event_time,
            "FeatureDefinitions": [definition_to_json(feature) for feature in self.features],
            "OnlineStoreConfig": {"EnableOnlineStore": self.online},
        }
        if self.online:
            body["OnlineStoreConfig"]["StorageType"] = self.storage_type.value
        if self.kms_key:
            body["OnlineStoreConfig"]["SecurityConfig"] = {"KmsKeyId": self.kms_key}
        if self.throughput.is_provisioned:
            body["ThroughputConfig"] = {
                "ThroughputMode": "Provisioned",
                "ProvisionedReadCapacityUnits": self.throughput.read_units,
                "ProvisionedWriteCapacityUnits": self.throughput.write_units,
            }
        if self.ttl is not None:
            body["OnlineStoreConfig"]["TtlDuration"] = {
                "Unit": self.ttl.unit.value,
                "Value": self.ttl.value,
            }
        if self.offline:
            body["OfflineStoreConfig"] = (
                {"S3StorageConfig": {"S3Uri": self.offline_place}} if self.offline_place else {}
            )
        if self.description:
            body["Description"] = self.description
        if self.tags:
            body["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        return body


_MEMBERS: Final = frozenset(
    {
        "FeatureGroupName",
        "RecordIdentifierFeatureName",
        "EventTimeFeatureName",
        "FeatureDefinitions",
        "OnlineStoreConfig",
        "OfflineStoreConfig",
        "ThroughputConfig",
        "RoleArn",
        "Description",
        "Tags",
    }
)


def check_place(place: str, what: str) -> str:
    """Return an object-store prefix that an offline table can have.

    Raises:
        InvalidFeatureGroup: another form than `s3://bucket` or `s3://bucket/prefix`.

    >>> check_place("s3://features/offline/", "S3Uri")
    's3://features/offline/'
    """
    if _PLACE.fullmatch(place) is None:
        raise InvalidFeatureGroup(f"{what}: expected s3://BUCKET/PREFIX, got {place!r}")
    return place


def check_name(name: object, what: str) -> str:
    """Return the name when it fits SageMaker's rule for groups and features.

    Raises:
        InvalidFeatureGroup: it does not.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidFeatureGroup(
            f"{what}: expected 1 to 64 letters, digits, '_' and '-', beginning and ending with "
            f"a letter or digit, got {name!r}"
        )
    return name


def ttl_from_json(body: object) -> Ttl | None:
    """Read `{"Unit": "Hours", "Value": 2}`; null members mean no ttl."""
    if body is None:
        return None
    if not isinstance(body, Mapping):
        raise InvalidFeatureGroup(f"TtlDuration: expected an object, got {body!r}")
    unit, value = body.get("Unit"), body.get("Value")
    if unit is None and value is None:
        return None
    if not isinstance(unit, str) or unit not in _SECONDS:
        raise InvalidFeatureGroup(
            f"TtlDuration.Unit: expected one of {list(_SECONDS)}, got {unit!r}"
        )
    return Ttl(TtlUnit(unit), value)  # type: ignore[arg-type]  # Ttl checks the value itself


def storage_type_from_json(body: object) -> StorageType:
    """Read an online storage type; absent means Standard."""
    try:
        return StorageType(body or "Standard")  # type: ignore[arg-type]  # refused below
    except ValueError:
        names = ", ".join(kind.value for kind in StorageType)
        raise InvalidFeatureGroup(
            f"OnlineStoreConfig.StorageType: expected one of {names}, got {body!r}"
        ) from None


def throughput_from_json(body: object) -> Throughput:
    """Read a ThroughputConfig; absent or OnDemand means no limits."""
    if body is None:
        return Throughput()
    if not isinstance(body, Mapping):
        raise InvalidFeatureGroup(f"ThroughputConfig: expected an object, got {body!r}")
    mode = body.get("ThroughputMode")
    if mode not in ("OnDemand", "Provisioned"):
        raise InvalidFeatureGroup(
            f"ThroughputConfig.ThroughputMode: expected OnDemand or Provisioned, got {mode!r}"
        )
    units = [body.get(f"Provisioned{kind}CapacityUnits") for kind in ("Read", "Write")]
    if mode == "OnDemand":
        if units != [None, None]:
            raise InvalidFeatureGroup(
                "ThroughputConfig: capacity units belong to Provisioned; OnDemand has none"
            )
        return Throughput()
    if None in units:
        raise InvalidFeatureGroup(
            "ThroughputConfig: Provisioned needs ProvisionedReadCapacityUnits and "
            "ProvisionedWriteCapacityUnits"
        )
    return Throughput(units[0], units[1])


def definition_to_json(feature: FeatureDefinition) -> dict[str, Any]:
    """Write one feature definition in SageMaker's shape."""
    body: dict[str, Any] = {"FeatureName": feature.name, "FeatureType": feature.type.value}
    if feature.collection is not None:
        body["CollectionType"] = feature.collection.value
    if feature.dimension is not None:
        body["CollectionConfig"] = {"VectorConfig": {"Dimension": feature.dimension}}
    return body


def definitions_from_json(group: str, body: object) -> tuple[FeatureDefinition, ...]:
    """Read a list of `{"FeatureName": …, "FeatureType": …}`."""
    if not isinstance(body, Sequence) or isinstance(body, str):
        raise InvalidFeatureGroup(f"{group}: feature definitions: expected a list, got {body!r}")
    return tuple(_feature(group, entry) for entry in body)


def feature_definitions(
    pairs: Iterable[tuple[str, FeatureType | str]],
) -> tuple[FeatureDefinition, ...]:
    """Build definitions from (name, type) pairs.

    Raises:
        InvalidFeatureGroup: a type is not Integral, Fractional or String.
    """
    return tuple(FeatureDefinition(name, _type(name, kind)) for name, kind in pairs)


def _check_feature(group: str, feature: FeatureDefinition) -> None:
    name = check_name(feature.name, f"{group}: FeatureName")
    if name.lower() in RESERVED_FEATURES:
        raise InvalidFeatureGroup(
            f"{group}: feature name {name!r} is reserved for the offline store; choose another"
        )
    dimension = feature.dimension
    if feature.collection is not CollectionType.VECTOR:
        if dimension is not None:
            raise InvalidFeatureGroup(f"{group}.{name}: only a Vector has a dimension")
        return
    if feature.type is not FeatureType.FRACTIONAL:
        raise InvalidFeatureGroup(
            f"{group}.{name}: a Vector has Fractional elements, got {feature.type}"
        )
    if (
        isinstance(dimension, bool)
        or not isinstance(dimension, int)
        or not 1 <= dimension <= MAX_DIMENSION
    ):
        raise InvalidFeatureGroup(
            f"{group}.{name}: VectorConfig.Dimension: expected a whole number from 1 to "
            f"{MAX_DIMENSION:,}, got {dimension!r}"
        )


def _text(body: Mapping[str, Any], member: str) -> str:
    value = body.get(member)
    if not isinstance(value, str) or not value:
        raise InvalidFeatureGroup(f"{member}: expected text, got {value!r}")
    return value


def _object(body: Mapping[str, Any], member: str) -> Mapping[str, Any] | None:
    value = body.get(member)
    if value is not None and not isinstance(value, Mapping):
        raise InvalidFeatureGroup(f"{member}: expected an object, got {value!r}")
    return value


def _tags(body: object) -> dict[str, str]:
    if body is None:
        return {}
    if not isinstance(body, Sequence) or isinstance(body, str):
        raise InvalidFeatureGroup(f"Tags: expected a list, got {body!r}")
    tags: dict[str, str] = {}
    for tag in body:
        if not isinstance(tag, Mapping) or {"Key", "Value"} - set(tag):
            raise InvalidFeatureGroup(f"Tags: expected objects with Key and Value, got {tag!r}")
        tags[str(tag["Key"])] = str(tag["Value"])
    return tags


def _feature(group: str, entry: Any) -> FeatureDefinition:
    if not isinstance(entry, Mapping):
        raise InvalidFeatureGroup(f"{group}: FeatureDefinitions: expected objects, got {entry!r}")
    name = check_name(entry.get("FeatureName"), f"{group}: FeatureName")
    where = f"{group}.{name}"
    kind = _type(where, entry.get("FeatureType"))
    collection = entry.get("CollectionType")
    if collection is None:
        return FeatureDefinition(name, kind)
    try:
        shape = CollectionType(collection)
    except ValueError:
        raise InvalidFeatureGroup(
            f"{where}: CollectionType: expected List, Set or Vector, got {collection!r}"
        ) from None
    return FeatureDefinition(name, kind, shape, _dimension(where, entry.get("CollectionConfig")))


def _dimension(where: str, body: Any) -> Any:
    """Read the dimension of a CollectionConfig; the group checks its value."""
    if body is None:
        return None
    vector = body.get("VectorConfig") if isinstance(body, Mapping) else None
    if not isinstance(vector, Mapping):
        raise InvalidFeatureGroup(
            f'{where}: CollectionConfig: expected {{"VectorConfig": {{"Dimension": N}}}}, '
            f"got {body!r}"
        )
    return vector.get("Dimension")


def _offline_place(offline: Mapping[str, Any]) -> str:
    storage = _object(offline, "S3StorageConfig")
    if storage is None or storage.get("S3Uri") is None:
        return ""
    return _text(storage, "S3Uri")


def _kms_key(online: Mapping[str, Any]) -> str:
    security = _object(online, "SecurityConfig")
    if security is None:
        return ""
    return _text(security, "KmsKeyId")


def _type(where: str, kind: Any) -> FeatureType:
    try:
        return FeatureType(kind)
    except ValueError:
        raise InvalidFeatureGroup(
            f"{where}: FeatureType: expected Integral, Fractional or String, got {kind!r}"
        ) from None
