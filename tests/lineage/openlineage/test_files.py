"""Events from files: batches, refused lines, and going on where an import ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lineage import Graph, MemoryStore, Recorded, StoreUnavailable
from lineage.change import Draft
from lineage.errors import LineageError
from lineage.openlineage import Cursor, import_file, record_events
from lineage.openlineage import record as record_module
from tests.lineage.openlineage.events import RUN_A, RUN_B, dataset, run_event


def _lines(*events: Any) -> str:
    return "".join(
        f"{event if isinstance(event, str) else json.dumps(event)}\n" for event in events
    )


@pytest.fixture
def graph() -> Graph:
    return Graph(MemoryStore())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_refused_lines_are_named_and_leave_the_others_in(graph: Graph, file: Path) -> None:
    file.write_text(_lines(run_event("START"), "", "{oops", {"a": 1}, run_event("COMPLETE", 1)))
    imported = import_file(graph, file)
    assert (imported.events, imported.noted) == (2, 0)
    assert [one.place for one in imported.refused] == [3, 4]
    assert "no JSON" in str(imported.refused[0].error)
    assert graph.entity(RUN_A).state == "Completed"


def test_a_file_that_grew_is_read_on_and_another_one_from_its_start(
    graph: Graph, file: Path, tmp_path: Path
) -> None:
    def run() -> tuple[int, int]:
        imported = import_file(graph, file, cursor=Cursor(tmp_path / "cursor.json"))
        return imported.events, imported.skipped

    file.write_text(_lines(run_event("START"), run_event("RUNNING", 1)))
    assert run() == (2, 0)
    assert run() == (0, 2)
    with file.open("a") as more:
        more.write(_lines(run_event("COMPLETE", 2)))
        more.write('{"cut')  # which its writer has not finished
    assert run() == (1, 2)
    with file.open("a") as more:
        more.write(' off": 1}\n')
    assert run() == (1, 2)  # the batch with the cut line again
    file.write_text(_lines(run_event("START", run=RUN_B)))
    assert run() == (1, 0)
    (tmp_path / "cursor.json").write_text("not JSON")
    assert run() == (1, 0)
    assert graph.stats()["events"] == 4


def test_an_import_that_was_cut_goes_on_behind_its_last_batch(
    graph: Graph, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "_BATCH", 2)
    file.write_text(_lines(*(run_event("RUNNING", minute) for minute in range(5))))

    class Away:
        """A graph whose store goes away after its first batch."""

        batches = 0

        def record_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
            self.batches += 1
            if self.batches == 2:
                raise StoreUnavailable("the disk is full")
            return graph.record_all(drafts)

    cursor = tmp_path / "cursor.json"
    with pytest.raises(StoreUnavailable):
        import_file(Away(), file, cursor=Cursor(cursor))
    assert graph.stats()["events"] == 2
    imported = import_file(graph, file, cursor=Cursor(cursor))
    assert (imported.events, imported.skipped) == (3, 2)
    assert graph.stats()["events"] == 5


def test_a_line_that_is_too_long_is_refused_alone(
    graph: Graph, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "MAX_EVENT_BYTES", 1000)
    long = run_event("START", padding="x" * 5000)
    file.write_text(_lines(run_event("START"), long, run_event("COMPLETE", 1)))
    imported = import_file(graph, file)
    assert imported.events == 2
    assert [one.place for one in imported.refused] == [2]


def test_a_batch_stores_what_it_can(graph: Graph) -> None:
    refused = record_events(
        graph,
        [run_event("START"), 3, {"run": {}}, run_event("COMPLETE", 1)],  # type: ignore[list-item]
    )
    assert [one.place for one in refused] == [1, 2]
    assert record_events(graph, []) == []
    assert graph.entity(RUN_A).state == "Completed"


def test_a_file_that_is_not_there_is_said(graph: Graph, file: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"events\.jsonl: No such file"):
        import_file(graph, file)
    assert dataset("x")["name"] == "x"
