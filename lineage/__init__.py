"""Lineage: an append-only, hash-chained record of where things came from, and its graph."""

from lineage.association import Association, AssociationType
from lineage.capture.active_run import (
    ActiveRun,
    compare,
    mark_run,
    metric_history,
    runs_of,
    start_run,
)
from lineage.capture.content import as_artifact
from lineage.capture.recorder import Recorder, RecordsLineage
from lineage.capture.track import Input, Output, TrackedRun, current_run, default_graph, track
from lineage.change import Draft, Recorded
from lineage.column import ColumnEdge, ColumnLineage, ColumnLink, ColumnNode, ColumnResult
from lineage.copying import copy_log
from lineage.digest import bytes_digest, file_digest, folder_digest
from lineage.entity import (
    JSON,
    TERMINAL,
    Entity,
    Facet,
    Kind,
    action,
    artifact,
    context,
    derived_uid,
    experiment,
    trial,
    trial_component,
)
from lineage.errors import (
    AccessDenied,
    EntityConflict,
    EntityNotFound,
    InvalidAssociation,
    InvalidEntity,
    InvalidEvent,
    InvalidImport,
    InvalidLog,
    InvalidLogin,
    InvalidProof,
    InvalidQuery,
    LineageError,
    NotALineageFile,
    RecordingFailed,
    StoreClosed,
    StoreCorrupt,
    StoreUnavailable,
    Unauthenticated,
)
from lineage.graph import Graph, as_draft, open  # noqa: A004 - `lineage.open` is the front door
from lineage.home import open_home, replay_spool, spool_of
from lineage.log import LogReport
from lineage.number import metrics_of, parameters_of
from lineage.proofs.checkpoint import Checkpoint, read_checkpoints
from lineage.proofs.damage import Damage, Salvaged, examine, salvage
from lineage.proofs.proof import GrowthProof, Proof
from lineage.query import Direction
from lineage.questions import (
    Cause,
    CommonEntities,
    CommonEntity,
    DataChange,
    DataChanges,
    Difference,
    EventSummary,
    Explanation,
    FeatureUse,
    LineageDiff,
    LineagePath,
    Outcome,
    Paths,
    Source,
)
from lineage.result import LineageResult
from lineage.run import Run
from lineage.spool import Replayed, Spool
from lineage.store import LineageStore
from lineage.store.memory import MemoryStore
from lineage.store.postgres import PostgresStore
from lineage.store.sqlite import SQLiteStore
from lineage.subscription import Match, Subscription
from lineage.wire.channel import ClientTls
from lineage.wire.client import LineageClient, connect
from lineage.wire.service import LineageService
from lineage.wire.subscription_remote import RemoteSubscription

__all__ = [  # noqa: RUF022 - by topic, in the order one meets them
    # the graph
    "open",
    "open_home",
    "replay_spool",
    "spool_of",
    "copy_log",
    "Graph",
    "Draft",
    "as_draft",
    "Recorded",
    "LineageResult",
    "Direction",
    "LogReport",
    # standing queries
    "Subscription",
    "RemoteSubscription",
    "Match",
    # what shows that nothing was altered
    "Checkpoint",
    "read_checkpoints",
    "Proof",
    "GrowthProof",
    "examine",
    "Damage",
    "salvage",
    "Salvaged",
    # questions
    "Paths",
    "LineagePath",
    "CommonEntities",
    "CommonEntity",
    "LineageDiff",
    "Difference",
    "Cause",
    "DataChange",
    "DataChanges",
    "Outcome",
    "Explanation",
    "Source",
    "EventSummary",
    "FeatureUse",
    # jobs
    "Recorder",
    "RecordsLineage",
    # entities and associations
    "Entity",
    "Kind",
    "Facet",
    "TERMINAL",
    "JSON",
    "artifact",
    "context",
    "action",
    "trial_component",
    "trial",
    "experiment",
    "derived_uid",
    "Association",
    "AssociationType",
    # functions and experiments of one's own
    "track",
    "Input",
    "Output",
    "TrackedRun",
    "current_run",
    "default_graph",
    "as_artifact",
    "start_run",
    "ActiveRun",
    "metric_history",
    "metrics_of",
    "parameters_of",
    "compare",
    "runs_of",
    "mark_run",
    # columns and runs
    "ColumnLineage",
    "ColumnEdge",
    "ColumnResult",
    "ColumnNode",
    "ColumnLink",
    "Run",
    # digests
    "file_digest",
    "bytes_digest",
    "folder_digest",
    # stores
    "Spool",
    "Replayed",
    "LineageStore",
    "MemoryStore",
    "SQLiteStore",
    "PostgresStore",
    # over the network
    "connect",
    "ClientTls",
    "LineageClient",
    "LineageService",
    # errors
    "LineageError",
    "InvalidEntity",
    "InvalidAssociation",
    "InvalidQuery",
    "InvalidEvent",
    "InvalidImport",
    "InvalidLog",
    "InvalidProof",
    "InvalidLogin",
    "Unauthenticated",
    "AccessDenied",
    "EntityNotFound",
    "EntityConflict",
    "NotALineageFile",
    "StoreClosed",
    "StoreUnavailable",
    "StoreCorrupt",
    "RecordingFailed",
]
