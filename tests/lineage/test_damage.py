"""Damaged lineage files: the damage is named, and the log is saved up to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import lineage
from lineage import NotALineageFile, StoreUnavailable, artifact, as_draft, examine, salvage

EVENTS = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("salvage") / "lineage.db"
    with lineage.open(path) as graph:
        graph.record_all(
            [
                as_draft([artifact("D", f"uri/{n}", properties={"x": "y" * 500})], kind="T")
                for n in range(EVENTS)
            ]
        )
        graph.checkpoint()
    return path.read_bytes()


@pytest.fixture
def file(path: Path, written: bytes) -> Path:
    path.write_bytes(written)
    return path


def page_of(file: Path, sequence: int) -> int:
    """Where the page lies that has an event: its uri stands there in clear."""
    data = file.read_bytes()
    place = data.index(f'"uri/{sequence - 1}"'.encode())
    return place // 4096 * 4096


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def overwrite(file: Path) -> None:
    with file.open("r+b") as data:
        data.seek(page_of(file, EVENTS // 2))
        data.write(b"\xa5" * 4096)


def zero(file: Path) -> None:
    with file.open("r+b") as data:
        data.seek(page_of(file, EVENTS // 2))
        data.write(bytes(4096))


def one_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(f'"uri/{EVENTS // 2}"'.encode()) + 5] ^= 1
    file.write_bytes(data)


def edit(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(
        "DROP TRIGGER log_is_never_updated; UPDATE log SET actor = 'eve' WHERE seq = 150"
    )
    connection.close()


@pytest.mark.parametrize("damage", [cut, overwrite, zero, one_byte, edit])
def test_a_damaged_log_is_named_and_saved_up_to_the_damage(
    file: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(file)
    before = file.read_bytes()
    found = examine(file)
    assert found.is_damaged
    assert found.first_damaged == found.whole + 1
    assert 0 < found.whole < EVENTS
    assert found.expected == EVENTS
    assert found.whole <= found.readable <= EVENTS
    assert any("event" in finding for finding in found.findings), found.findings
    out = tmp_path / "saved.db"
    saved = salvage(file, out)
    assert file.read_bytes() == before
    assert (saved.events, saved.lost) == (found.whole, EVENTS - found.whole)
    with lineage.open(out) as graph:
        assert graph.verify(projections=True).intact
        assert graph.stats()["events"] == found.whole
        graph.record([artifact("D", "uri/next")], kind="T")
    assert not examine(out).is_damaged
    assert not list(tmp_path.glob(".saved*"))
    with pytest.raises(StoreUnavailable, match="exists already"):
        salvage(file, out)


def test_a_damaged_index_is_named_and_the_whole_log_saved(file: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(file)
    connection.executescript(
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM "
        "sqlite_master WHERE name = 'edge_begun') WHERE name = 'entity_name'"
    )
    connection.close()
    found = examine(file)
    assert any("entity_name" in finding for finding in found.findings), found
    assert (found.whole, found.first_damaged) == (EVENTS, None)
    saved = salvage(file, tmp_path / "saved.db")
    assert (saved.events, saved.lost, saved.checkpoints) == (EVENTS, 0, 1)
    assert not examine(tmp_path / "saved.db").is_damaged


def test_what_another_tool_removed_is_named(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.executescript("DROP TRIGGER log_is_never_deleted; DROP TABLE tag")
    connection.close()
    assert set(examine(file).findings) >= {
        "trigger log_is_never_deleted is missing",
        "table tag is missing",
    }


def test_a_lost_wal_is_told_by_a_kept_checkpoint(path: Path, tmp_path: Path) -> None:
    with lineage.open(path) as graph:
        graph.record([artifact("D", "uri/1")], kind="T")
    with lineage.open(path) as graph:
        graph.record([artifact("D", "uri/2")], kind="T")
        kept = graph.checkpoint()
        copy = tmp_path / "copy.db"
        copy.write_bytes(path.read_bytes())  # without what is still in the WAL
    assert not examine(copy).is_damaged
    with lineage.open(copy) as graph:
        report = graph.verify(against=[kept])
    assert (report.intact, report.first_altered) == (False, 2)


def test_an_undamaged_file_says_so(file: Path) -> None:
    found = examine(file)
    assert not found.is_damaged, found
    assert found.to_text().endswith(f"undamaged, {EVENTS} events")


def test_what_is_no_lineage_file_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NotALineageFile, match="nothing"):
        examine(path)
    path.write_bytes(b"plain text" * 100)
    with pytest.raises(NotALineageFile, match="plain text"):
        salvage(path, tmp_path / "out.db")
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(NotALineageFile, match="without a log"):
        examine(tmp_path / "other.db")
    assert not (tmp_path / "out.db").exists()
