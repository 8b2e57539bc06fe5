import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from featurestore.v1 import asof_pb2 as _asof_pb2
from featurestore.v1 import dataset_pb2 as _dataset_pb2
from featurestore.v1 import erasure_pb2 as _erasure_pb2
from featurestore.v1 import impact_pb2 as _impact_pb2
from featurestore.v1 import offline_pb2 as _offline_pb2
from featurestore.v1 import record_pb2 as _record_pb2
from featurestore.v1 import source_pb2 as _source_pb2
from featurestore.v1 import transfer_pb2 as _transfer_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_TYPE_UNSPECIFIED: _ClassVar[FeatureType]
    INTEGRAL: _ClassVar[FeatureType]
    FRACTIONAL: _ClassVar[FeatureType]
    STRING: _ClassVar[FeatureType]

class CollectionType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COLLECTION_TYPE_UNSPECIFIED: _ClassVar[CollectionType]
    LIST: _ClassVar[CollectionType]
    SET: _ClassVar[CollectionType]
    VECTOR: _ClassVar[CollectionType]

class StorageType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORAGE_TYPE_UNSPECIFIED: _ClassVar[StorageType]
    STANDARD: _ClassVar[StorageType]
    STANDARD_V2: _ClassVar[StorageType]
    IN_MEMORY: _ClassVar[StorageType]

class SortOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SORT_ORDER_UNSPECIFIED: _ClassVar[SortOrder]
    ASCENDING: _ClassVar[SortOrder]
    DESCENDING: _ClassVar[SortOrder]

class SearchOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_OPERATOR_UNSPECIFIED: _ClassVar[SearchOperator]
    EQUALS: _ClassVar[SearchOperator]
    NOT_EQUALS: _ClassVar[SearchOperator]
    GREATER_THAN: _ClassVar[SearchOperator]
    GREATER_THAN_OR_EQUAL_TO: _ClassVar[SearchOperator]
    LESS_THAN: _ClassVar[SearchOperator]
    LESS_THAN_OR_EQUAL_TO: _ClassVar[SearchOperator]
    CONTAINS: _ClassVar[SearchOperator]
    EXISTS: _ClassVar[SearchOperator]
    NOT_EXISTS: _ClassVar[SearchOperator]
    IN: _ClassVar[SearchOperator]
FEATURE_TYPE_UNSPECIFIED: FeatureType
INTEGRAL: FeatureType
FRACTIONAL: FeatureType
STRING: FeatureType
COLLECTION_TYPE_UNSPECIFIED: CollectionType
LIST: CollectionType
SET: CollectionType
VECTOR: CollectionType
STORAGE_TYPE_UNSPECIFIED: StorageType
STANDARD: StorageType
STANDARD_V2: StorageType
IN_MEMORY: StorageType
SORT_ORDER_UNSPECIFIED: SortOrder
ASCENDING: SortOrder
DESCENDING: SortOrder
SEARCH_OPERATOR_UNSPECIFIED: SearchOperator
EQUALS: SearchOperator
NOT_EQUALS: SearchOperator
GREATER_THAN: SearchOperator
GREATER_THAN_OR_EQUAL_TO: SearchOperator
LESS_THAN: SearchOperator
LESS_THAN_OR_EQUAL_TO: SearchOperator
CONTAINS: SearchOperator
EXISTS: SearchOperator
NOT_EXISTS: SearchOperator
IN: SearchOperator

class FeatureDefinition(_message.Message):
    __slots__ = ("feature_name", "feature_type", "collection_type", "vector_dimension")
    FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_TYPE_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_DIMENSION_FIELD_NUMBER: _ClassVar[int]
    feature_name: str
    feature_type: FeatureType
    collection_type: CollectionType
    vector_dimension: int
    def __init__(self, feature_name: _Optional[str] = ..., feature_type: _Optional[_Union[FeatureType, str]] = ..., collection_type: _Optional[_Union[CollectionType, str]] = ..., vector_dimension: _Optional[int] = ...) -> None: ...

class ThroughputConfig(_message.Message):
    __slots__ = ("throughput_mode", "provisioned_read_capacity_units", "provisioned_write_capacity_units")
    class ThroughputMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        THROUGHPUT_MODE_UNSPECIFIED: _ClassVar[ThroughputConfig.ThroughputMode]
        ON_DEMAND: _ClassVar[ThroughputConfig.ThroughputMode]
        PROVISIONED: _ClassVar[ThroughputConfig.ThroughputMode]
    THROUGHPUT_MODE_UNSPECIFIED: ThroughputConfig.ThroughputMode
    ON_DEMAND: ThroughputConfig.ThroughputMode
    PROVISIONED: ThroughputConfig.ThroughputMode
    THROUGHPUT_MODE_FIELD_NUMBER: _ClassVar[int]
    PROVISIONED_READ_CAPACITY_UNITS_FIELD_NUMBER: _ClassVar[int]
    PROVISIONED_WRITE_CAPACITY_UNITS_FIELD_NUMBER: _ClassVar[int]
    throughput_mode: ThroughputConfig.ThroughputMode
    provisioned_read_capacity_units: int
    provisioned_write_capacity_units: int
    def __init__(self, throughput_mode: _Optional[_Union[ThroughputConfig.ThroughputMode, str]] = ..., provisioned_read_capacity_units: _Optional[int] = ..., provisioned_write_capacity_units: _Optional[int] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class FeatureGroup(_message.Message):
    __slots__ = ("feature_group_name", "record_identifier_feature_name", "event_time_feature_name", "feature_definitions", "enable_online_store", "enable_offline_store", "ttl_duration", "description", "tags", "storage_type", "throughput_config", "online_kms_key_id", "offline_s3_uri")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIER_FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_ONLINE_STORE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_OFFLINE_STORE_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    STORAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ONLINE_KMS_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_S3_URI_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifier_feature_name: str
    event_time_feature_name: str
    feature_definitions: _containers.RepeatedCompositeFieldContainer[FeatureDefinition]
    enable_online_store: bool
    enable_offline_store: bool
    ttl_duration: _record_pb2.TtlDuration
    description: str
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    storage_type: StorageType
    throughput_config: ThroughputConfig
    online_kms_key_id: str
    offline_s3_uri: str
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_feature_name: _Optional[str] = ..., event_time_feature_name: _Optional[str] = ..., feature_definitions: _Optional[_Iterable[_Union[FeatureDefinition, _Mapping]]] = ..., enable_online_store: bool = ..., enable_offline_store: bool = ..., ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ..., description: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., storage_type: _Optional[_Union[StorageType, str]] = ..., throughput_config: _Optional[_Union[ThroughputConfig, _Mapping]] = ..., online_kms_key_id: _Optional[str] = ..., offline_s3_uri: _Optional[str] = ...) -> None: ...

class CreateFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group",)
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    feature_group: FeatureGroup
    def __init__(self, feature_group: _Optional[_Union[FeatureGroup, _Mapping]] = ...) -> None: ...

class CreateFeatureGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: FeatureGroupDescription
    def __init__(self, description: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ...) -> None: ...

class DescribeFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class FeatureGroupDescription(_message.Message):
    __slots__ = ("feature_group", "version", "status", "creation_time", "last_modified_time", "offline_store_uri", "last_update_status")
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_TIME_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_STORE_URI_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATE_STATUS_FIELD_NUMBER: _ClassVar[int]
    feature_group: FeatureGroup
    version: int
    status: str
    creation_time: _timestamp_pb2.Timestamp
    last_modified_time: _timestamp_pb2.Timestamp
    offline_store_uri: str
    last_update_status: str
    def __init__(self, feature_group: _Optional[_Union[FeatureGroup, _Mapping]] = ..., version: _Optional[int] = ..., status: _Optional[str] = ..., creation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_modified_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., offline_store_uri: _Optional[str] = ..., last_update_status: _Optional[str] = ...) -> None: ...

class DescribeFeatureGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: FeatureGroupDescription
    def __init__(self, description: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ...) -> None: ...

class UpdateFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group_name", "feature_additions", "ttl_change", "storage_type", "throughput_config")
    class TtlChange(_message.Message):
        __slots__ = ("ttl_duration",)
        TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
        ttl_duration: _record_pb2.TtlDuration
        def __init__(self, ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ...) -> None: ...
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_ADDITIONS_FIELD_NUMBER: _ClassVar[int]
    TTL_CHANGE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_additions: _containers.RepeatedCompositeFieldContainer[FeatureDefinition]
    ttl_change: UpdateFeatureGroupRequest.TtlChange
    storage_type: StorageType
    throughput_config: ThroughputConfig
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_additions: _Optional[_Iterable[_Union[FeatureDefinition, _Mapping]]] = ..., ttl_change: _Optional[_Union[UpdateFeatureGroupRequest.TtlChange, _Mapping]] = ..., storage_type: _Optional[_Union[StorageType, str]] = ..., throughput_config: _Optional[_Union[ThroughputConfig, _Mapping]] = ...) -> None: ...

class UpdateFeatureGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: FeatureGroupDescription
    def __init__(self, description: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ...) -> None: ...

class DeleteFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class DeleteFeatureGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFeatureGroupsRequest(_message.Message):
    __slots__ = ("name_contains", "max_results", "next_token", "feature_group_status_equals", "offline_store_status_equals", "creation_time_after", "creation_time_before", "sort_by", "sort_order")
    class SortBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SORT_BY_UNSPECIFIED: _ClassVar[ListFeatureGroupsRequest.SortBy]
        NAME: _ClassVar[ListFeatureGroupsRequest.SortBy]
        CREATION_TIME: _ClassVar[ListFeatureGroupsRequest.SortBy]
        FEATURE_GROUP_STATUS: _ClassVar[ListFeatureGroupsRequest.SortBy]
        OFFLINE_STORE_STATUS: _ClassVar[ListFeatureGroupsRequest.SortBy]
    SORT_BY_UNSPECIFIED: ListFeatureGroupsRequest.SortBy
    NAME: ListFeatureGroupsRequest.SortBy
    CREATION_TIME: ListFeatureGroupsRequest.SortBy
    FEATURE_GROUP_STATUS: ListFeatureGroupsRequest.SortBy
    OFFLINE_STORE_STATUS: ListFeatureGroupsRequest.SortBy
    NAME_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FEATURE_GROUP_STATUS_EQUALS_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_STORE_STATUS_EQUALS_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SORT_BY_FIELD_NUMBER: _ClassVar[int]
    SORT_ORDER_FIELD_NUMBER: _ClassVar[int]
    name_contains: str
    max_results: int
    next_token: str
    feature_group_status_equals: str
    offline_store_status_equals: str
    creation_time_after: _timestamp_pb2.Timestamp
    creation_time_before: _timestamp_pb2.Timestamp
    sort_by: ListFeatureGroupsRequest.SortBy
    sort_order: SortOrder
    def __init__(self, name_contains: _Optional[str] = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ..., feature_group_status_equals: _Optional[str] = ..., offline_store_status_equals: _Optional[str] = ..., creation_time_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., creation_time_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sort_by: _Optional[_Union[ListFeatureGroupsRequest.SortBy, str]] = ..., sort_order: _Optional[_Union[SortOrder, str]] = ...) -> None: ...

class ListFeatureGroupsResponse(_message.Message):
    __slots__ = ("descriptions", "next_token")
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    descriptions: _containers.RepeatedCompositeFieldContainer[FeatureGroupDescription]
    next_token: str
    def __init__(self, descriptions: _Optional[_Iterable[_Union[FeatureGroupDescription, _Mapping]]] = ..., next_token: _Optional[str] = ...) -> None: ...

class FeatureParameter(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class FeatureMetadata(_message.Message):
    __slots__ = ("feature_group_name", "feature_definition", "description", "parameters", "creation_time", "last_modified_time")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_DEFINITION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_TIME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_definition: FeatureDefinition
    description: str
    parameters: _containers.RepeatedCompositeFieldContainer[FeatureParameter]
    creation_time: _timestamp_pb2.Timestamp
    last_modified_time: _timestamp_pb2.Timestamp
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_definition: _Optional[_Union[FeatureDefinition, _Mapping]] = ..., description: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[FeatureParameter, _Mapping]]] = ..., creation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_modified_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UpdateFeatureMetadataRequest(_message.Message):
    __slots__ = ("feature_group_name", "feature_name", "description", "parameter_additions", "parameter_removals")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_ADDITIONS_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_REMOVALS_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_name: str
    description: str
    parameter_additions: _containers.RepeatedCompositeFieldContainer[FeatureParameter]
    parameter_removals: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_name: _Optional[str] = ..., description: _Optional[str] = ..., parameter_additions: _Optional[_Iterable[_Union[FeatureParameter, _Mapping]]] = ..., parameter_removals: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateFeatureMetadataResponse(_message.Message):
    __slots__ = ("feature_metadata",)
    FEATURE_METADATA_FIELD_NUMBER: _ClassVar[int]
    feature_metadata: FeatureMetadata
    def __init__(self, feature_metadata: _Optional[_Union[FeatureMetadata, _Mapping]] = ...) -> None: ...

class DescribeFeatureMetadataRequest(_message.Message):
    __slots__ = ("feature_group_name", "feature_name")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_name: str
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_name: _Optional[str] = ...) -> None: ...

class DescribeFeatureMetadataResponse(_message.Message):
    __slots__ = ("feature_metadata",)
    FEATURE_METADATA_FIELD_NUMBER: _ClassVar[int]
    feature_metadata: FeatureMetadata
    def __init__(self, feature_metadata: _Optional[_Union[FeatureMetadata, _Mapping]] = ...) -> None: ...

class SearchFilter(_message.Message):
    __slots__ = ("name", "operator", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    operator: SearchOperator
    value: str
    def __init__(self, name: _Optional[str] = ..., operator: _Optional[_Union[SearchOperator, str]] = ..., value: _Optional[str] = ...) -> None: ...

class SearchExpression(_message.Message):
    __slots__ = ("filters", "nested_filters", "sub_expressions", "operator")
    class BooleanOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BOOLEAN_OPERATOR_UNSPECIFIED: _ClassVar[SearchExpression.BooleanOperator]
        AND: _ClassVar[SearchExpression.BooleanOperator]
        OR: _ClassVar[SearchExpression.BooleanOperator]
    BOOLEAN_OPERATOR_UNSPECIFIED: SearchExpression.BooleanOperator
    AND: SearchExpression.BooleanOperator
    OR: SearchExpression.BooleanOperator
    class NestedFilters(_message.Message):
        __slots__ = ("nested_property_name", "filters")
        NESTED_PROPERTY_NAME_FIELD_NUMBER: _ClassVar[int]
        FILTERS_FIELD_NUMBER: _ClassVar[int]
        nested_property_name: str
        filters: _containers.RepeatedCompositeFieldContainer[SearchFilter]
        def __init__(self, nested_property_name: _Optional[str] = ..., filters: _Optional[_Iterable[_Union[SearchFilter, _Mapping]]] = ...) -> None: ...
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    NESTED_FILTERS_FIELD_NUMBER: _ClassVar[int]
    SUB_EXPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    filters: _containers.RepeatedCompositeFieldContainer[SearchFilter]
    nested_filters: _containers.RepeatedCompositeFieldContainer[SearchExpression.NestedFilters]
    sub_expressions: _containers.RepeatedCompositeFieldContainer[SearchExpression]
    operator: SearchExpression.BooleanOperator
    def __init__(self, filters: _Optional[_Iterable[_Union[SearchFilter, _Mapping]]] = ..., nested_filters: _Optional[_Iterable[_Union[SearchExpression.NestedFilters, _Mapping]]] = ..., sub_expressions: _Optional[_Iterable[_Union[SearchExpression, _Mapping]]] = ..., operator: _Optional[_Union[SearchExpression.BooleanOperator, str]] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("resource", "search_expression", "sort_by", "sort_order", "max_results", "next_token")
    class Resource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RESOURCE_UNSPECIFIED: _ClassVar[SearchRequest.Resource]
        FEATURE_GROUP: _ClassVar[SearchRequest.Resource]
        FEATURE_METADATA: _ClassVar[SearchRequest.Resource]
    RESOURCE_UNSPECIFIED: SearchRequest.Resource
    FEATURE_GROUP: SearchRequest.Resource
    FEATURE_METADATA: SearchRequest.Resource
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    SEARCH_EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    SORT_BY_FIELD_NUMBER: _ClassVar[int]
    SORT_ORDER_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    resource: SearchRequest.Resource
    search_expression: SearchExpression
    sort_by: str
    sort_order: SortOrder
    max_results: int
    next_token: str
    def __init__(self, resource: _Optional[_Union[SearchRequest.Resource, str]] = ..., search_expression: _Optional[_Union[SearchExpression, _Mapping]] = ..., sort_by: _Optional[str] = ..., sort_order: _Optional[_Union[SortOrder, str]] = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("results", "next_token", "total_hits")
    class Result(_message.Message):
        __slots__ = ("feature_group", "feature_metadata")
        FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
        FEATURE_METADATA_FIELD_NUMBER: _ClassVar[int]
        feature_group: FeatureGroupDescription
        feature_metadata: FeatureMetadata
        def __init__(self, feature_group: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ..., feature_metadata: _Optional[_Union[FeatureMetadata, _Mapping]] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_HITS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SearchResponse.Result]
    next_token: str
    total_hits: int
    def __init__(self, results: _Optional[_Iterable[_Union[SearchResponse.Result, _Mapping]]] = ..., next_token: _Optional[str] = ..., total_hits: _Optional[int] = ...) -> None: ...

class FlushRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class FlushResponse(_message.Message):
    __slots__ = ("flushed",)
    class Flushed(_message.Message):
        __slots__ = ("feature_group_name", "records", "table_version")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        RECORDS_FIELD_NUMBER: _ClassVar[int]
        TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        records: int
        table_version: int
        def __init__(self, feature_group_name: _Optional[str] = ..., records: _Optional[int] = ..., table_version: _Optional[int] = ...) -> None: ...
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    flushed: _containers.RepeatedCompositeFieldContainer[FlushResponse.Flushed]
    def __init__(self, flushed: _Optional[_Iterable[_Union[FlushResponse.Flushed, _Mapping]]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("equal", "online", "offline", "differences")
    class Difference(_message.Message):
        __slots__ = ("record_identifier_value_as_string", "reason")
        RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        record_identifier_value_as_string: str
        reason: str
        def __init__(self, record_identifier_value_as_string: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    equal: bool
    online: int
    offline: int
    differences: _containers.RepeatedCompositeFieldContainer[VerifyResponse.Difference]
    def __init__(self, equal: bool = ..., online: _Optional[int] = ..., offline: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[VerifyResponse.Difference, _Mapping]]] = ...) -> None: ...

class FeatureSelection(_message.Message):
    __slots__ = ("feature_group_name", "feature_names", "key", "prefix", "lookback_us", "version")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LOOKBACK_US_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    key: str
    prefix: str
    lookback_us: int
    version: int
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ..., key: _Optional[str] = ..., prefix: _Optional[str] = ..., lookback_us: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class DatasetSpec(_message.Message):
    __slots__ = ("selections", "time_column", "as_of", "spine_name", "memory_bytes")
    SELECTIONS_FIELD_NUMBER: _ClassVar[int]
    TIME_COLUMN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SPINE_NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    selections: _containers.RepeatedCompositeFieldContainer[FeatureSelection]
    time_column: str
    as_of: _timestamp_pb2.Timestamp
    spine_name: str
    memory_bytes: int
    def __init__(self, selections: _Optional[_Iterable[_Union[FeatureSelection, _Mapping]]] = ..., time_column: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spine_name: _Optional[str] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class DatasetManifest(_message.Message):
    __slots__ = ("fingerprint", "spine_digest", "rows", "versions", "manifest_json")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SPINE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    spine_digest: str
    rows: int
    versions: _containers.ScalarMap[str, int]
    manifest_json: str
    def __init__(self, fingerprint: _Optional[str] = ..., spine_digest: _Optional[str] = ..., rows: _Optional[int] = ..., versions: _Optional[_Mapping[str, int]] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class BuildDatasetRequest(_message.Message):
    __slots__ = ("spec", "spine")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SPINE_FIELD_NUMBER: _ClassVar[int]
    spec: DatasetSpec
    spine: bytes
    def __init__(self, spec: _Optional[_Union[DatasetSpec, _Mapping]] = ..., spine: _Optional[bytes] = ...) -> None: ...

class BuildDatasetResponse(_message.Message):
    __slots__ = ("dataset", "rows")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    dataset: DatasetManifest
    rows: bytes
    def __init__(self, dataset: _Optional[_Union[DatasetManifest, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...
