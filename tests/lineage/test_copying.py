"""A log copied from store to store, and the store that a home has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import lineage
from featureline.cli.main import cli
from lineage import Graph, InvalidLog, MemoryStore, NotALineageFile, action, artifact, copy_log
from tests.lineage.postgres import PostgresServer


def filled(count: int) -> Graph:
    graph = Graph(MemoryStore())
    for n in range(count):
        step = action("Step", f"s{n}")
        graph.record(
            [step], [(step, artifact("D", f"d/{n}"), "Produced")], kind="T", event_uid=str(n)
        )
    return graph


def test_a_copy_is_the_same_log_and_graph(open_graph: Callable[[], Graph]) -> None:
    source, target = filled(12), open_graph()
    seen: list[tuple[int, int]] = []
    told = seen.append
    assert copy_log(source.store, target.store, on_progress=lambda a, b: told((a, b))) == 12
    assert seen == [(12, 12)]
    assert target.store.head() == source.store.head()
    assert target.find() == source.find()
    assert target.verify(projections=True).intact
    # What comes later follows, and an event that was copied is known by its uid.
    assert target.record([action("Step", "s0")], kind="T", event_uid="0").sequence == 1
    source.record([action("Step", "new")], kind="T")
    assert copy_log(source.store, target.store) == 1
    back = Graph(MemoryStore())
    assert copy_log(target.store, back.store) == 13
    assert back.store.head() == source.store.head()


def test_another_log_is_refused(open_graph: Callable[[], Graph]) -> None:
    source, target = filled(3), open_graph()
    target.record([action("Step", "own")], kind="T")
    with pytest.raises(InvalidLog, match="another log; name an empty target"):
        copy_log(source.store, target.store)
    with pytest.raises(InvalidLog):
        copy_log(filled(0).store, target.store)
    with source.store.log() as (events, _):
        [first, second, third] = events
    empty = open_graph()
    with pytest.raises(InvalidLog, match="event 2 does not follow event 0"):
        empty.store.adopt([second])
    with pytest.raises(InvalidLog, match="event 3 was altered"):
        empty.store.adopt([first, second, replace(third, actor="me")])
    assert empty.stats() == {"events": 0, "entities": 0, "associations": 0}


def run(*arguments: object, stdin: str | None = None) -> str:
    result = CliRunner().invoke(cli, list(map(str, arguments)), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_home_moves_to_postgresql_and_remembers_it(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    home, url = tmp_path / "home", postgres.new_url()
    with lineage.open_home(home) as graph:
        graph.record([action("Step", "before")], kind="T")
    with pytest.raises(InvalidLog, match="featureline lineage copy"):
        lineage.open_home(home, url)
    body = json.loads(run("lineage", "copy", "--home", home, "--to", url, "--json"))
    assert (body["copied"], body["events"]) == (1, 1)
    said = run("lineage", "use", "-", "--home", home, stdin=f"{url}&passfile=/none\n")
    assert "kept in postgresql://" in said
    run("lineage", "use", url, "--home", home)
    assert (home / "lineage.json").stat().st_mode & 0o777 == 0o600
    with lineage.open_home(home) as graph:
        graph.record([action("Step", "after")], kind="T")
    with lineage.open(url) as graph:
        assert [one.name for one in graph.find()] == ["before", "after"]
    (home / "lineage.json").write_text("{")
    with pytest.raises(NotALineageFile, match="give the URL"):
        lineage.open_home(home)


def test_a_spool_is_replayed_by_hand(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "0 events recorded" in run("lineage", "replay-spool", "--home", home)
    spool = lineage.spool_of(home)
    spool.put(lineage.as_draft([action("Step", "a")], kind="T"))
    spool.put(lineage.as_draft([], [("urn:none", action("A", "a"), "Produced")], kind="T"))
    assert spool.waiting() == 2
    arguments = ["lineage", "replay-spool", "--home", str(home), "--json"]
    result = CliRunner().invoke(cli, arguments)
    body = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (body["recorded"], body["refused"], body["waiting"]) == (1, 1, 0)
    assert "urn:none" in Path(body["refused_in"]).read_text("utf-8")
    with lineage.open_home(str(home)) as graph:
        assert [one.name for one in graph.find()] == ["a"]
