"""`featureline lineage …` as a person meets it, on a home and on a server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import featurestore
from featureline.cli.main import cli
from featureline.server import Server
from featurestore.embedded import open_store
from lineage import ColumnEdge, ColumnLineage, Kind, Recorder, Run, artifact, context

TABLES = [
    artifact("Table", "s3://t", content_hash=f"t{n}", name=f"t@{n}", properties={"rows": n})
    for n in range(2)
]
MODELS = [artifact("Model", f"s3://m/{n}", content_hash=f"abcdef0{n}") for n in range(2)]
TWINS = [artifact("File", f"s3://{place}/twin.csv") for place in "ab"]
COMMANDS = [
    ["query", "0", "--direction", "ascendants"],
    ["show", "0"],
    ["paths", "t@0", "0"],
    ["ancestors", "0", "1"],
    ["diff", "0", "1"],
    ["explain", "0"],
    ["columns", "0"],
    ["features", "0"],
    ["models", "t@0", "wind"],
    ["find"],
    ["runs", "job0"],
    ["tag", "0"],
    ["log"],
    ["stats"],
    ["verify"],
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lineage") / "home"
    with featurestore.open(folder) as store:
        graph = store.graph
        for number, (table, model) in enumerate(zip(TABLES, MODELS, strict=True)):
            with Recorder(graph, "TrainingJob", f"job{number}", actor="ada") as job:
                job.input(table)
                job.parameter("depth", number)
                job.output(model)
        graph.record(
            [*TWINS, context("FeatureGroup", "weather")],
            kind="Seen",
            actor="eve",
            columns=[
                ColumnLineage(
                    MODELS[0],
                    "job0",
                    (ColumnEdge(TABLES[0], "wind", "", properties={"importance": 0.5}),),
                )
            ],
            runs=[Run("run-1", "urn:fs:trial-component:TrainingJob:job0", "Failed", 1, 5_000_001)],
            tags=[(MODELS[0], "stage", "live")],
            aliases=[("arn:model/0", MODELS[0])],
        )
    return folder


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    store = open_store(home)

    async def start() -> Server:
        server = Server(store, "127.0.0.1:0")
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    yield server.address
    asyncio.run_coroutine_threadsafe(server.stop(1.0), loop).result(60)
    store.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def run(home: Path) -> Callable[..., Result]:
    def command(*arguments: str, where: tuple[str, ...] = ("--home", str(home))) -> Result:
        return CliRunner().invoke(cli, ["lineage", *arguments, *where])

    return command


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_server_answers_as_the_home_does(
    run: Callable[..., Result], served: str, arguments: list[str]
) -> None:
    for form in ((), ("--json",)):
        here = run(*arguments, *form)
        there = run(*arguments, *form, where=("--connect", served))
        assert there.exit_code == here.exit_code
        assert here.output
        if form:  # names of properties come in no order over the network
            assert json.loads(there.output) == json.loads(here.output)
        else:
            assert there.output == here.output


def test_filters_limits_and_times_of_a_query(run: Callable[..., Result]) -> None:
    def names(*arguments: str) -> list[str]:
        ended = run("query", "0", *arguments, "--json")
        assert ended.exit_code == 0, ended.output
        return [entity["name"] for entity in json.loads(ended.output)["entities"]]

    assert names("--direction", "ascendants") == ["0", "job0", "t@0"]
    assert names("--kind", "artifact", "--direction", "either") == ["0", "t@0"]
    assert names("--state", "Completed") == ["job0", "job1"]
    assert names("--property", "rows=0", "--property", "parameters.depth=1") == ["t@0", "job1"]
    assert names("--limit", "1") == ["0"]
    assert names("--max-walked", "2") == ["0", "job0"]
    assert names("--through", "Produced") == ["0", "job0"]
    assert names("--depth", "0") == ["0"]
    assert names("--created-before", "2000-01-01") == []
    assert names("--modified-after", "2000-01-01T00:00:00+02:00", "--depth", "1") == ["0", "job0"]
    assert names("--as-of", "2") == ["0", "job0", "t@0"]
    assert names("--as-of", "2999-01-01", "--depth", "0") == ["0"]
    edges = run("query", "0", "--direction", "ascendants", "--edges").output
    assert "associations\n  job0 ─Produced→ 0" in edges
    assert "… there is more" in run("query", "0", "--limit", "1").output


def test_what_start_stands_for(run: Callable[..., Result]) -> None:
    for start in (
        "arn:model/0",
        "0",
        "Model:0",
        "abcdef00",
        "urn:fs:trial-component:TrainingJob:job0",
    ):
        assert run("query", start, "--depth", "0").exit_code == 0, start
    several = run("query", "abcdef")
    assert several.exit_code == 2
    assert "'abcdef' stands for 2 things; give TYPE:NAME or a uid:" in several.output
    twins = run("explain", "twin.csv")
    assert twins.exit_code == 2
    assert twins.output.count("urn:fs:artifact:s3:twin.csv@") == 2
    assert run("query", "weather", "--depth", "0").output.startswith("  0  FeatureGroup")
    assert run("query", "job-nobody").exit_code != 0


def test_exit_codes_say_the_answer(run: Callable[..., Result]) -> None:
    assert run("diff", "0", "0").exit_code == 0
    assert run("diff", "0", "1").exit_code == 1
    assert run("paths", "t@0", "0").exit_code == 0
    assert run("paths", "0", "weather").exit_code == 1
    assert run("find", "nobody").exit_code == 1


def test_paths_and_ancestors_take_options(run: Callable[..., Result]) -> None:
    assert "no path from" in run("paths", "0", "t@0", "--direction", "descendants").output
    both = run("paths", "0", "1", "--direction", "both", "--max-length", "9", "--limit", "1")
    assert "1 path from" in both.output
    below = run("ancestors", "t@0", "t@1", "--descendants", "--type", "Model", "--limit", "1")
    assert "1 common descendant of" in below.output


def test_log_and_find_filter(run: Callable[..., Result]) -> None:
    def events(*arguments: str) -> list[int]:
        return [event["sequence"] for event in json.loads(run("log", *arguments, "--json").output)]

    assert events("--actor", "eve") == [5]
    assert events("job0", "--kind", "JobStarted") == [1]
    assert events("--limit", "2", "--before", "4") == [3, 2]
    assert events("--since", "2999-01-01") == []

    def found(*arguments: str) -> list[str]:
        return [each["name"] for each in json.loads(run("find", *arguments, "--json").output)]

    assert found("--tag", "stage=live") == ["0"]
    assert found("--type", "Model", "--digest", "abcdef01") == ["1"]
    assert found("twin.csv", "--source-uri", "s3://a/twin.csv") == ["twin.csv"]
    assert found("--property", "rows=1") == ["t@1"]
    assert found("--type", "Model", "--limit", "1") == ["1"]


def test_tags_are_put_on_and_taken_off(run: Callable[..., Result]) -> None:
    put = run("tag", "1", "owner=ada", "note=a=b")
    assert put.output == "note = a=b\nowner = ada\n"
    assert run("tag", "1", "--remove", "note", "--remove", "owner").output == "no tags\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query", "0", "--property", "rows"], "--property: expected NAME=VALUE, got 'rows'"),
        (["query", "0", "--as-of", "yesterday"], "--as-of: expected a time such as 2013-"),
        (["query", "0", "--created-after", "1x"], "--created-after: expected a time"),
        (["query", "0", "--kind", "Thing"], "'--kind'"),
        (["query", "0", "--through", "Made"], "'--through'"),
        (["paths", "0"], "Missing argument 'B'"),
        (["tag", "0", "owner"], "expected KEY=VALUE, got 'owner'"),
        (["find", "--tag", "=x"], "--tag: expected KEY or KEY=VALUE"),
        (["log", "--until", "later"], "--until: expected a time"),
        (["columns", "0", "--direction", "both"], "'--direction'"),
    ],
)
def test_wrong_arguments(run: Callable[..., Result], arguments: list[str], words: str) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert words in ended.output


@pytest.mark.parametrize(
    "arguments",
    [["copy", "--to", "log.db"], ["use", "postgresql://h/d"], ["salvage", "--out", "x"]],
)
def test_what_works_on_files_says_where_to_do_it(arguments: list[str]) -> None:
    ended = CliRunner().invoke(cli, ["lineage", *arguments, "--connect", "127.0.0.1:1"])
    assert ended.exit_code == 2
    assert f"lineage {arguments[0]} works on the files of a home" in ended.output
    assert "use --home, on the machine that has them" in ended.output


def test_every_command_has_help_and_kind_is_in_it(run: Callable[..., Result]) -> None:
    listed = CliRunner().invoke(cli, ["lineage", "--help"]).output
    for name, *_ in COMMANDS:
        assert f"\n  {name} " in listed
    assert (
        Kind.ARTIFACT.value.lower()
        in CliRunner().invoke(cli, ["lineage", "query", "--help"]).output.lower()
    )
