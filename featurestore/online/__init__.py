"""The online store: the latest record of each identifier, and the outbox beside it."""

from featurestore.online.base import (
    Batch,
    Erased,
    OnlineStore,
    Outcome,
    Usage,
    Version,
    Write,
    decide,
)
from featurestore.online.bound import OutboxBound, OutboxLimit
from featurestore.online.columns import PutColumns
from featurestore.online.committer import Committer
from featurestore.online.home import open_online
from featurestore.online.lmdb import LmdbStore
from featurestore.online.memory import MemoryStore
from featurestore.online.redis import RedisStore
from featurestore.online.redis_url import RedisUrl

__all__ = [
    "ENGINES",
    "Batch",
    "Committer",
    "Erased",
    "LmdbStore",
    "MemoryStore",
    "OnlineStore",
    "OutboxBound",
    "OutboxLimit",
    "Outcome",
    "PutColumns",
    "RedisStore",
    "RedisUrl",
    "Usage",
    "Version",
    "Write",
    "decide",
    "open_online",
]

ENGINES = {"lmdb": LmdbStore, "memory": MemoryStore, "redis": RedisStore}
