"""A file that is asked much is read ahead, through the descriptor that SQLite has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import lineage
from lineage import SQLiteStore
from lineage.store import ahead
from lineage.store.ahead import read_ahead

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="the system takes no advice"
)
SIZE = 5 << 20


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What the system is advised: (inode, first, bytes)."""
    found: list[tuple[int, int, int]] = []

    def note(descriptor: int, first: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        found.append((os.fstat(descriptor).st_ino, first, size))

    monkeypatch.setattr(os, "posix_fadvise", note)
    return found


def opened() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_all_of_an_open_file_is_wanted(advised: list[tuple[int, int, int]], tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(SIZE))
    link = tmp_path / "link"
    link.symlink_to(path)
    with path.open("rb"):
        before = opened()
        thread = read_ahead(link)
        assert thread is not None
        thread.join()
        assert opened() == before
    assert {inode for inode, _, _ in advised} == {path.stat().st_ino}
    assert sum(size for _, _, size in advised) == SIZE
    assert len({first for _, first, _ in advised}) == len(advised)


def test_what_is_small_closed_gone_or_too_large_is_left(
    advised: list[tuple[int, int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(bytes(SIZE))
    assert read_ahead(large) is None  # nobody has it open
    assert read_ahead(tmp_path / "gone") is None
    with small.open("rb"), large.open("rb"):
        assert read_ahead(small) is None
        monkeypatch.setattr(ahead, "_available_bytes", lambda: SIZE)
        assert read_ahead(large) is None
    assert advised == []


def test_a_graph_that_is_asked_again_and_again_reads_ahead_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Path] = []
    monkeypatch.setattr("lineage.store.sqlite.read_ahead", paths.append)
    with lineage.open(tmp_path / "lineage.db") as graph:
        (start,) = graph.record([lineage.context("C", "one")], kind="T").entities
        graph.query(start)
        assert paths == []
        for _ in range(20):
            graph.query(start)
        assert isinstance(graph.store, SQLiteStore)
        assert paths == [graph.store.path]
