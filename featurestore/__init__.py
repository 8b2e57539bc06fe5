"""The feature store: feature groups, records, and point-in-time datasets.

>>> import tempfile
>>> from featurestore import FeatureGroup, feature_definitions
>>> store = open(tempfile.mkdtemp())
>>> _ = store.create_feature_group(
...     FeatureGroup(
...         "weather",
...         record_identifier="origin",
...         event_time="hour",
...         features=feature_definitions(
...             [("origin", "String"), ("hour", "String"), ("temp", "Fractional")]
...         ),
...     )
... )
>>> store.put("weather", {"origin": "JFK", "hour": "2013-01-01T06:00:00Z", "temp": 39.0})
>>> store.get("weather", "JFK")["temp"]
39.0
>>> store.close()
"""

from featurestore import aio
from featurestore.builder import (
    BuilderOptions,
    BuiltDataset,
    DatasetBuilder,
    JoinComparatorEnum,
    JoinedGroup,
    JoinTypeEnum,
)
from featurestore.check import CheckReport
from featurestore.checked import CheckedBatch, check_batch
from featurestore.client import connect
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.embedded import open_store as open  # noqa: A004  # read as featurestore.open
from featurestore.erasure import ErasureReport, verify_report
from featurestore.errors import (
    AccessDenied,
    DatasetChanged,
    DatasetNotFound,
    FeatureGroupExists,
    FeatureGroupNotFound,
    FeatureNotFound,
    FeatureStoreError,
    InternalError,
    InvalidFeatureGroup,
    InvalidRecord,
    InvalidRequest,
    InvalidSpine,
    Overloaded,
    PositionConflict,
    RecordConflict,
    RecordNotFound,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
    Throttled,
    Unauthenticated,
)
from featurestore.feature import CollectionType, FeatureDefinition, FeatureType, Value
from featurestore.loaded import BackfillReport, LoadResult
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.offline.flusher import Flushed
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import MaintenanceReport
from featurestore.plan import DatasetPlan, GroupPlan
from featurestore.position import PartitionPosition, SourcePosition
from featurestore.provenance import group_entity
from featurestore.record import Delete, Put
from featurestore.saved import SavedDataset
from featurestore.schema import (
    FeatureGroup,
    StorageType,
    Store,
    Throughput,
    Ttl,
    TtlUnit,
    feature_definitions,
)
from featurestore.search import Expression, Filter, NestedFilters, Operator, Resource
from featurestore.spine import sql_spine
from featurestore.split import Fold
from featurestore.store import (
    Description,
    FeatureStore,
    Found,
    Get,
    PutResult,
    WindowedDescription,
    WriteError,
)
from featurestore.streamed import WrittenDataset
from featurestore.verify import Difference, VerifyReport
from featurestore.window import Aggregation, WindowedFeature, WindowedGroup
from lineage.wire.channel import ClientTls

__all__ = [  # noqa: RUF022  # grouped by topic
    # opening a store
    "open",
    "connect",
    "aio",
    "ClientTls",
    "FeatureStore",
    # feature groups
    "FeatureGroup",
    "FeatureDefinition",
    "FeatureType",
    "CollectionType",
    "feature_definitions",
    "Store",
    "StorageType",
    "Throughput",
    "Ttl",
    "TtlUnit",
    "Description",
    "FeatureMetadata",
    "MetadataChange",
    # windowed features
    "WindowedGroup",
    "WindowedFeature",
    "Aggregation",
    "WindowedDescription",
    # search
    "Resource",
    "Expression",
    "Filter",
    "NestedFilters",
    "Operator",
    # records
    "Value",
    "Put",
    "Delete",
    "CheckedBatch",
    "check_batch",
    "Get",
    "Found",
    "PutResult",
    "WriteError",
    "SourcePosition",
    "PartitionPosition",
    # offline store and datasets
    "Flushed",
    "LoadResult",
    "BackfillReport",
    "FeatureSelection",
    "Dataset",
    "Fold",
    "DatasetBuilder",
    "JoinTypeEnum",
    "JoinComparatorEnum",
    "BuilderOptions",
    "JoinedGroup",
    "BuiltDataset",
    "SavedDataset",
    "WrittenDataset",
    "sql_spine",
    "DatasetPlan",
    "GroupPlan",
    "CheckReport",
    "MaintenanceReport",
    "TableVersion",
    "VerifyReport",
    "Difference",
    "ErasureReport",
    "verify_report",
    "group_entity",
    # errors
    "FeatureStoreError",
    "InvalidRequest",
    "InvalidFeatureGroup",
    "InvalidRecord",
    "InvalidSpine",
    "FeatureGroupNotFound",
    "FeatureNotFound",
    "RecordNotFound",
    "DatasetNotFound",
    "DatasetChanged",
    "FeatureGroupExists",
    "RecordConflict",
    "PositionConflict",
    "Throttled",
    "Overloaded",
    "Unauthenticated",
    "AccessDenied",
    "StoreFull",
    "StoreUnavailable",
    "StoreCorrupt",
    "InternalError",
]
