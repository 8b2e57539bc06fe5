"""Source positions in LMDB: one entry a partition, and those of an earlier version."""

from __future__ import annotations

import json

import pytest

from featurestore import PartitionPosition, PositionConflict, SourcePosition
from featurestore.online.base import Batch
from featurestore.online.lmdb import LmdbStore
from featurestore.online.lmdb_source import LmdbSource


@pytest.fixture
def store(tmp_path):
    opened = LmdbStore(tmp_path / "online")
    yield opened
    opened.close()


def moved(store: LmdbStore, source: str, *parts: tuple[str, int, int]) -> object:
    position = SourcePosition(source, tuple(PartitionPosition(*part) for part in parts))
    (answer,) = store.put([Batch((), position)])
    return answer


def test_sources_with_names_that_begin_alike_are_kept_apart(store):
    for source in ("files", "files/a", "files\xff", "files\x00"):
        moved(store, source, (f"of {source}", 0, len(source)))
    for source in ("files", "files/a", "files\xff", "files\x00"):
        assert store.source_position(source) == {f"of {source}": len(source)}
    assert store.source_position("file") == {}


def test_conflict_names_the_positions_of_all_partitions(store):
    moved(store, "files", ("a", 0, 5), ("b", 0, 7))
    conflict = moved(store, "files", ("a", 4, 9))
    assert isinstance(conflict, PositionConflict)
    assert conflict.facts["stored"] == {"a": 5, "b": 7}
    assert store.source_position("files") == {"a": 5, "b": 7}


def test_positions_of_an_earlier_version_are_taken_over(store):
    positions = store.databases.positions
    with store.transaction(write=True) as txn:
        txn.put(b"files", json.dumps({"a": 5, "b": 7}).encode(), db=positions)
        txn.put(b"other", json.dumps({"x": 1}).encode(), db=positions)
    assert store.source_position("files") == {"a": 5, "b": 7}
    assert isinstance(moved(store, "files", ("a", 0, 9)), PositionConflict)
    assert moved(store, "files", ("a", 5, 9), ("c", 0, 1)) == []
    assert store.source_position("files") == {"a": 9, "b": 7, "c": 1}
    with store.transaction() as txn:
        assert txn.get(b"files", db=positions) is None
    assert LmdbSource(store).positions() == {
        "files": {"a": 9, "b": 7, "c": 1},
        "other": {"x": 1},
    }
