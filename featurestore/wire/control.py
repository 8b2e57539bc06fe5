"""Messages of the control plane: definitions, descriptions, metadata and search.

Plain functions that both clients and the server share, as `featurestore.wire` has them for records.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final

from featurestore import convert, errors
from featurestore.errors import InvalidRequest
from featurestore.feature import CollectionType, FeatureDefinition, FeatureType
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.position import moved
from featurestore.schema import FeatureGroup, StorageType, Throughput
from featurestore.search import Expression, Filter, NestedFilters, Operator, Resource
from featurestore.store import Description
from featurestore.v1 import control_pb2, erasure_pb2, source_pb2
from featurestore.wire.record import ttl_from
from featurestore.wire.value import text

__all__ = ["description_from", "description_message", "group_from", "group_message"]

_TYPES: Final = {
    FeatureType.INTEGRAL: control_pb2.INTEGRAL,
    FeatureType.FRACTIONAL: control_pb2.FRACTIONAL,
    FeatureType.STRING: control_pb2.STRING,
}
_FROM_TYPES: Final = {number: kind for kind, number in _TYPES.items()}
_COLLECTIONS: Final = {
    CollectionType.LIST: control_pb2.LIST,
    CollectionType.SET: control_pb2.SET,
    CollectionType.VECTOR: control_pb2.VECTOR,
}
_FROM_COLLECTIONS: Final = {number: kind for kind, number in _COLLECTIONS.items()}
_STORAGE: Final = {
    StorageType.STANDARD: control_pb2.STANDARD,
    StorageType.STANDARD_V2: control_pb2.STANDARD_V2,
    StorageType.IN_MEMORY: control_pb2.IN_MEMORY,
}
_FROM_STORAGE: Final = {number: kind for kind, number in _STORAGE.items()} | {
    control_pb2.STORAGE_TYPE_UNSPECIFIED: StorageType.STANDARD
}
_RESOURCES: Final = {
    Resource.FEATURE_GROUP: control_pb2.SearchRequest.FEATURE_GROUP,
    Resource.FEATURE_METADATA: control_pb2.SearchRequest.FEATURE_METADATA,
}
_FROM_RESOURCES: Final = {number: resource for resource, number in _RESOURCES.items()}
_OPERATORS: Final = {
    Operator.EQUALS: control_pb2.EQUALS,
    Operator.NOT_EQUALS: control_pb2.NOT_EQUALS,
    Operator.GREATER_THAN: control_pb2.GREATER_THAN,
    Operator.GREATER_THAN_OR_EQUAL_TO: control_pb2.GREATER_THAN_OR_EQUAL_TO,
    Operator.LESS_THAN: control_pb2.LESS_THAN,
    Operator.LESS_THAN_OR_EQUAL_TO: control_pb2.LESS_THAN_OR_EQUAL_TO,
    Operator.CONTAINS: control_pb2.CONTAINS,
    Operator.EXISTS: control_pb2.EXISTS,
    Operator.NOT_EXISTS: control_pb2.NOT_EXISTS,
    Operator.IN: control_pb2.IN,
}
_FROM_OPERATORS: Final = {number: operator for operator, number in _OPERATORS.items()} | {
    control_pb2.SEARCH_OPERATOR_UNSPECIFIED: Operator.EQUALS
}
_OR: Final = control_pb2.SearchExpression.OR
_MODES: Final = control_pb2.ThroughputConfig


def definitions_message(
    features: Iterable[FeatureDefinition],
) -> list[control_pb2.FeatureDefinition]:
    """Write feature definitions."""
    return [
        control_pb2.FeatureDefinition(
            feature_name=f.name,
            feature_type=_TYPES[f.type],
            collection_type=None if f.collection is None else _COLLECTIONS[f.collection],
            vector_dimension=f.dimension,
        )
        for f in features
    ]


def definitions_from(messages: Iterable[Any]) -> tuple[FeatureDefinition, ...]:
    """Read feature definitions.

    Raises:
        InvalidFeatureGroup: a definition has no type.
    """
    return tuple(map(_definition_from, messages))


def _definition_from(message: Any) -> FeatureDefinition:
    kind = _FROM_TYPES.get(message.feature_type)
    if kind is None:
        raise errors.InvalidFeatureGroup(
            f"feature {message.feature_name!r}: expected a feature_type of INTEGRAL, "
            f"FRACTIONAL or STRING"
        )
    if not message.collection_type:
        return FeatureDefinition(message.feature_name, kind)
    collection = _FROM_COLLECTIONS.get(message.collection_type)
    if collection is None:
        raise errors.InvalidFeatureGroup(
            f"feature {message.feature_name!r}: expected a collection_type of LIST, SET or VECTOR"
        )
    return FeatureDefinition(
        message.feature_name, kind, collection, message.vector_dimension or None
    )


def group_message(group: FeatureGroup) -> control_pb2.FeatureGroup:
    """Write a definition."""
    return control_pb2.FeatureGroup(
        feature_group_name=group.name,
        record_identifier_feature_name=group.record_identifier,
        event_time_feature_name=group.event_time,
        feature_definitions=definitions_message(group.features),
        enable_online_store=group.online,
        enable_offline_store=group.offline,
        ttl_duration=convert.ttl_to_message(group.ttl),
        description=group.description,
        tags=[control_pb2.Tag(key=key, value=value) for key, value in group.tags.items()],
        storage_type=storage_type_number(group.storage_type),
        throughput_config=throughput_message(group.throughput),
        online_kms_key_id=group.kms_key,
        offline_s3_uri=group.offline_place,
    )


def group_from(message: Any) -> FeatureGroup:
    """Read a definition; it is checked as any other."""
    return FeatureGroup(
        message.feature_group_name,
        record_identifier=message.record_identifier_feature_name,
        event_time=message.event_time_feature_name,
        features=definitions_from(message.feature_definitions),
        online=message.enable_online_store,
        offline=message.enable_offline_store,
        ttl=ttl_from(message),
        description=message.description,
        tags={tag.key: tag.value for tag in message.tags},
        storage_type=storage_type_from(message.storage_type),
        throughput=throughput_from(message.throughput_config),
        kms_key=message.online_kms_key_id,
        offline_place=message.offline_s3_uri,
    )


def description_message(description: Description) -> control_pb2.FeatureGroupDescription:
    """Write a description."""
    message = control_pb2.FeatureGroupDescription(
        feature_group=group_message(description.group),
        version=description.version,
        status="Created",
        last_update_status="Successful",
        offline_store_uri=description.offline_uri,
    )
    message.creation_time.FromDatetime(description.created)
    message.last_modified_time.FromDatetime(description.modified)
    return message


def description_from(message: Any) -> Description:
    """Read a description."""
    return Description(
        group_from(message.feature_group),
        message.version,
        message.creation_time.ToDatetime(dt.UTC),
        message.last_modified_time.ToDatetime(dt.UTC),
        message.offline_store_uri,
    )


def storage_type_from(number: int) -> StorageType:
    """Read an online storage type; unset means Standard.

    Raises:
        InvalidRequest: an unknown number.
    """
    kind: StorageType | None = _FROM_STORAGE.get(number)  # type: ignore[call-overload]  # protobuf's int is an int
    if kind is None:
        raise InvalidRequest(
            f"storage_type: expected STANDARD, STANDARD_V2 or IN_MEMORY, got {number}"
        )
    return kind


def storage_type_number(kind: StorageType) -> Any:
    """Write an online storage type."""
    return _STORAGE[kind]


def throughput_message(throughput: Throughput) -> control_pb2.ThroughputConfig:
    """Write a group's limits."""
    if not throughput.is_provisioned:
        return control_pb2.ThroughputConfig(throughput_mode=_MODES.ON_DEMAND)
    return control_pb2.ThroughputConfig(
        throughput_mode=_MODES.PROVISIONED,
        provisioned_read_capacity_units=throughput.read_units,
        provisioned_write_capacity_units=throughput.write_units,
    )


def throughput_from(message: Any) -> Throughput:
    """Read a group's limits; unset means none.

    Raises:
        InvalidFeatureGroup: units without PROVISIONED, or too many.
    """
    units = (message.provisioned_read_capacity_units, message.provisioned_write_capacity_units)
    if message.throughput_mode == _MODES.PROVISIONED:
        return Throughput(*units)
    if units != (0, 0):
        raise errors.InvalidFeatureGroup(
            "throughput_config: capacity units belong to PROVISIONED; ON_DEMAND has none"
        )
    return Throughput()


def metadata_message(metadata: FeatureMetadata) -> control_pb2.FeatureMetadata:
    """Write one feature's metadata."""
    message = control_pb2.FeatureMetadata(
        feature_group_name=metadata.group,
        feature_definition=definitions_message([metadata.feature])[0],
        description=metadata.description,
        parameters=[
            control_pb2.FeatureParameter(key=key, value=value)
            for key, value in sorted(metadata.parameters.items())
        ],
    )
    message.creation_time.FromDatetime(metadata.created)
    message.last_modified_time.FromDatetime(metadata.modified)
    return message


def metadata_from(message: Any) -> FeatureMetadata:
    """Read one feature's metadata."""
    return FeatureMetadata(
        message.feature_group_name,
        _definition_from(message.feature_definition),
        message.description,
        {entry.key: entry.value for entry in message.parameters},
        message.creation_time.ToDatetime(dt.UTC),
        message.last_modified_time.ToDatetime(dt.UTC),
    )


def change_message(
    group: str, feature: str, change: MetadataChange
) -> control_pb2.UpdateFeatureMetadataRequest:
    """Write a change of metadata."""
    message = control_pb2.UpdateFeatureMetadataRequest(
        feature_group_name=group,
        feature_name=feature,
        parameter_additions=[
            control_pb2.FeatureParameter(key=key, value=value)
            for key, value in change.additions.items()
        ],
        parameter_removals=change.removals,
    )
    if change.description is not None:
        message.description = change.description
    return message


def change_from(message: Any) -> MetadataChange:
    """Read a change of metadata.

    Raises:
        InvalidRequest: a rule is broken, or a parameter is added twice.
    """
    additions: dict[str, str] = {}
    for entry in message.parameter_additions:
        if entry.key in additions:
            raise InvalidRequest(f"parameter_additions: the key {entry.key!r} is given twice")
        additions[entry.key] = entry.value
    return MetadataChange(
        message.description if message.HasField("description") else None,
        additions,
        tuple(message.parameter_removals),
    )


def search_message(
    resource: Resource, expression: Expression, sort_by: str, descending: bool, token: str
) -> control_pb2.SearchRequest:
    """Write a search."""
    return control_pb2.SearchRequest(
        resource=_RESOURCES[resource],
        search_expression=_expression_message(expression),
        sort_by=sort_by,
        sort_order=control_pb2.DESCENDING if descending else control_pb2.ASCENDING,
        max_results=1000,
        next_token=token,
    )


def resource_from(message: Any) -> Resource:
    """Read what is searched for.

    Raises:
        InvalidRequest: it is neither feature groups nor features.
    """
    resource = _FROM_RESOURCES.get(message.resource)
    if resource is None:
        raise InvalidRequest(
            f"resource: expected FEATURE_GROUP or FEATURE_METADATA, got {message.resource}"
        )
    return resource


def expression_from(message: Any) -> Expression:
    """Read a search expression.

    Raises:
        InvalidRequest: an unknown operator.
    """
    return Expression(
        tuple(map(_filter_from, message.filters)),
        tuple(
            NestedFilters(nested.nested_property_name, tuple(map(_filter_from, nested.filters)))
            for nested in message.nested_filters
        ),
        tuple(map(expression_from, message.sub_expressions)),
        message.operator == _OR,
    )


def result_message(entry: Description | FeatureMetadata) -> control_pb2.SearchResponse.Result:
    """Write one hit of a search."""
    if isinstance(entry, Description):
        return control_pb2.SearchResponse.Result(feature_group=description_message(entry))
    return control_pb2.SearchResponse.Result(feature_metadata=metadata_message(entry))


def result_from(message: Any) -> Description | FeatureMetadata:
    """Read one hit of a search."""
    if message.WhichOneof("kind") == "feature_group":
        return description_from(message.feature_group)
    return metadata_from(message.feature_metadata)


def _filter_from(message: Any) -> Filter:
    operator = _FROM_OPERATORS.get(message.operator)
    if operator is None:
        raise InvalidRequest(f"search: {message.name}: unknown operator {message.operator}")
    return Filter(message.name, operator, message.value)


def _filter_message(entry: Filter) -> control_pb2.SearchFilter:
    return control_pb2.SearchFilter(
        name=entry.name, operator=_OPERATORS[entry.operator], value=entry.value
    )


def _expression_message(expression: Expression) -> control_pb2.SearchExpression:
    return control_pb2.SearchExpression(
        filters=map(_filter_message, expression.filters),
        nested_filters=[
            control_pb2.SearchExpression.NestedFilters(
                nested_property_name=nested.name, filters=map(_filter_message, nested.filters)
            )
            for nested in expression.nested
        ],
        sub_expressions=map(_expression_message, expression.expressions),
        operator=_OR if expression.any_of else control_pb2.SearchExpression.AND,
    )


def erase_message(group: str, identifiers: object, reason: str, datasets: str) -> Any:
    """Make the request of an erasure.

    Raises:
        InvalidRequest: `datasets` is neither keep nor delete.
    """
    kinds = erasure_pb2.EraseRecordsRequest
    known = {"keep": kinds.KEEP, "delete": kinds.DELETE}
    if datasets not in known:
        raise InvalidRequest(f"datasets: expected keep or delete, got {datasets!r}")
    if isinstance(identifiers, str | bytes) or not isinstance(identifiers, Iterable):
        identifiers = [identifiers]
    return kinds(
        feature_group_name=group,
        record_identifiers_value_as_string=map(text, identifiers),
        reason=reason,
        saved_datasets=known[datasets],
    )


def move_message(source: str, positions: Mapping[str, int], expected: Mapping[str, int]) -> Any:
    """Make the request that moves a source.

    Raises:
        InvalidRequest: no partition is moved, or one to a place that is none.
    """
    moved(source, positions, expected=expected)
    return source_pb2.MoveSourceRequest(source=source, positions=positions, expected=expected)


def saved_datasets_from(request: Any) -> str:
    """Read what becomes of saved datasets in an erasure.

    Raises:
        InvalidRequest: an unknown number.
    """
    kinds = erasure_pb2.EraseRecordsRequest
    if request.saved_datasets not in kinds.SavedDatasets.values():
        raise InvalidRequest(f"saved_datasets: unknown number {request.saved_datasets}")
    return "delete" if request.saved_datasets == kinds.DELETE else "keep"
