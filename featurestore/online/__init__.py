"""The online store: the latest record of each identifier, and the outbox beside it."""

from featurestore.online.base import Batch, OnlineStore, Outcome, Version, Write, decide
from featurestore.online.committer import Committer
from featurestore.online.lmdb import LmdbStore
from featurestore.online.memory import MemoryStore

__all__ = [
    "ENGINES",
    "Batch",
    "Committer",
    "LmdbStore",
    "MemoryStore",
    "OnlineStore",
    "Outcome",
    "Version",
    "Write",
    "decide",
]

ENGINES = {"lmdb": LmdbStore, "memory": MemoryStore}
