"""Functions and blocks of one's own, and runs of experiments, as jobs of the graph."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import lineage
from lineage import (
    Graph,
    InvalidEntity,
    MemoryStore,
    RecordingFailed,
    Spool,
    StoreClosed,
    as_artifact,
    compare,
    current_run,
    mark_run,
    metric_history,
    metrics_of,
    parameters_of,
    runs_of,
    start_run,
    track,
)

ROOT = Path(lineage.__file__).parents[1]
TABLE = pa.table({"x": [1, 2, 3]})


def jobs(graph: Graph, type: str = "Function") -> list[lineage.Entity]:
    return graph.find(type=type)


class TestFunctions:
    def test_what_goes_in_and_comes_out_is_recorded(self, graph: Graph, tmp_path: Path) -> None:
        source = tmp_path / "in.csv"
        source.write_text("a\n1\n")

        @track(graph=graph)
        def clean(path: Path, table: pa.Table, *, least: int = 0) -> pa.Table:
            """Has a docstring."""
            return table.slice(least)

        made = clean(source, TABLE, least=1)
        assert clean.__doc__ == "Has a docstring."
        [job] = jobs(graph)
        assert job.name.startswith(
            "TestFunctions.test_what_goes_in_and_comes_out_is_recorded.clean-"
        )
        assert (job.state, job.properties["parameters"]) == ("Completed", {"least": 1})
        assert len(job.properties["function_digest"]) == 64
        found = graph.query(as_artifact(made), "ascendants")
        assert {one.name for one in found} == {"2 × 1 table", job.name, "in.csv", "3 × 1 table"}

    def test_one_functions_output_is_the_others_input(self, graph: Graph) -> None:
        @track(graph=graph)
        def first() -> pa.Table:
            return TABLE

        @track(graph=graph)
        def second(table: pa.Table) -> dict[str, Any]:
            return {"sum": np.array([6]), "table": table.slice(1)}

        result = second(first())
        assert len(graph.query(as_artifact(result["sum"]), "ascendants")) == 4

    def test_marks_say_which_paths_are_read_and_written(self, graph: Graph, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("1")

        @track(graph=graph, outputs=["log"])
        def copy(
            source: Annotated[str, lineage.Input],
            target: Annotated[str, lineage.Output],
            log: str,
            text: str,
        ) -> int:
            Path(target).write_text(Path(source).read_text())
            Path(log).touch()
            return 7

        copy(str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "log"), "a")
        [job] = jobs(graph)
        assert job.properties["result"] == 7
        assert job.properties["parameters"] == {"text": "a"}
        upstream = graph.query(job, "ascendants", depth=1).entities[1:]
        downstream = graph.query(job, "descendants", depth=1).entities[1:]
        assert [one.name for one in upstream] == ["a"]
        assert {one.name for one in downstream} == {"b", "log"}
        # The bytes of a and b are the same: they are known by their content.
        assert upstream[0].content_hash == next(
            one.content_hash for one in downstream if one.name == "b"
        )

    def test_an_exception_goes_through_and_is_told(self, graph: Graph) -> None:
        @track(graph=graph)
        def fails() -> None:
            raise ValueError("bad")

        with pytest.raises(ValueError, match="bad"):
            fails()
        [job] = jobs(graph)
        assert (job.state, job.properties["failure_reason"]) == ("Failed", "ValueError: bad")
        with pytest.raises(TypeError):
            fails(1)
        assert [one.state for one in jobs(graph)] == ["Failed", "Failed"]

    def test_calls_name_the_call_around_them(self, graph: Graph) -> None:
        @track(graph=graph)
        def inner() -> None:
            run = current_run()
            assert run is not None
            run.metric("depth", 2)

        @track(graph=graph)
        def outer() -> None:
            inner()
            inner()

        outer()
        assert current_run() is None
        first, *rest = jobs(graph)
        assert [one.properties["parent"] for one in rest] == [first.uid, first.uid]
        assert rest[0].properties["metrics"] == {"depth": 2}

    def test_async_functions_and_generators(self, graph: Graph) -> None:
        @track(graph=graph)
        async def slow(n: int) -> int:
            await asyncio.sleep(0.01)
            assert current_run() is not None
            return n

        @track(graph=graph)
        def items(n: int) -> Iterator[int]:
            yield from range(n)

        @track(graph=graph)
        async def stream(n: int) -> Any:
            for item in range(n):
                yield item

        async def both() -> list[int]:
            return [*await asyncio.gather(slow(1), slow(2)), *[item async for item in stream(2)]]

        assert asyncio.run(both()) == [1, 2, 0, 1]
        assert list(items(3)) == [0, 1, 2]
        begun = items(3)
        next(begun)
        begun.close()
        states = [one.state for one in jobs(graph)]
        assert states == ["Completed"] * 4 + ["Stopped"]

    def test_a_generator_is_current_only_while_it_works(self, graph: Graph) -> None:
        seen: list[object] = []

        @track(graph=graph)
        def inner() -> None:
            pass

        @track(graph=graph)
        def items() -> Any:
            with track("part", graph=graph):
                got = yield 1
                seen.append(got)
                inner()
                try:
                    yield 2
                except KeyError:
                    seen.append("thrown")
            return 3

        @track(graph=graph)
        async def stream() -> Any:
            seen.append((yield 1))
            yield 2

        begun = items()
        assert next(begun) == 1
        assert current_run() is None
        assert begun.send("sent") == 2
        with pytest.raises(StopIteration, match="3"):
            begun.throw(KeyError("k"))

        async def read() -> None:
            flow = stream()
            await anext(flow)
            assert current_run() is None
            await flow.asend("async")
            await flow.aclose()

        asyncio.run(read())
        assert seen == ["sent", "thrown", "async"]
        states = {
            one.properties["function"].rpartition(".")[2]: one.state
            for one in jobs(graph)
            if "function" in one.properties
        }
        assert states == {"inner": "Completed", "items": "Completed", "stream": "Stopped"}
        [part] = [one for one in jobs(graph) if one.name.startswith("part-")]
        [call] = [one for one in jobs(graph) if "inner" in one.name]
        assert call.properties["parent"] == part.uid

    def test_what_cannot_be_read_twice_or_told_by_content_is_left_alone(self, graph: Graph) -> None:
        @track(graph=graph)
        def rows(reader: Any, mixed: Any, column: Any, self: int = 0) -> Any:
            return [reader.read_all().num_rows]

        mixed = pd.DataFrame({"x": [1, "a", object()]})
        assert rows(TABLE.to_reader(), mixed, TABLE["x"]) == [3]
        [job] = jobs(graph)
        assert job.properties["result"] == [3]
        given: Any = job.properties["parameters"]
        assert set(given) == {"reader", "mixed", "column"}
        assert given["mixed"]["type"].endswith("DataFrame")
        assert len(graph.query(job)) == 1

    def test_threads_have_runs_of_their_own(self, graph: Graph) -> None:
        @track(graph=graph)
        def work(n: int) -> None:
            time.sleep(0.01)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = jobs(graph)
        assert sorted(one.properties["parameters"]["n"] for one in found) == [0, 1, 2, 3]
        assert all("parent" not in one.properties for one in found)

    def test_threads_belong_to_the_run_that_starts_them(self, graph: Graph) -> None:
        @track(graph=graph)
        def work(n: int) -> None: ...

        class Own(threading.Thread):
            def run(self) -> None:
                work(1)

        def nested() -> None:
            thread = threading.Thread(target=work, args=(3,))
            thread.start()
            thread.join()

        late = threading.Event()
        with ThreadPoolExecutor(1) as pool, start_run("around", graph=graph) as run:
            threads = [
                threading.Thread(target=work, args=(0,)),
                Own(),
                threading.Thread(target=nested),
                threading.Thread(target=lambda: late.wait(60) and work(4)),
            ]
            for thread in threads:
                thread.start()
            assert list(pool.map(work, [5, 6])) == [None, None]
            with track("inner", graph=graph) as inner:
                pool.submit(work, 7).result(60)
            for thread in threads[:3]:
                thread.join()
        late.set()
        threads[3].join()
        with ThreadPoolExecutor(1) as pool:
            with start_run("before", graph=graph):
                pool.submit(work, 8).result(60)
            # The pool's thread was started in a run, but serves whoever comes.
            pool.submit(work, 9).result(60)
        [before] = graph.find(type="Run", name="before")
        parents = {
            one.properties["parameters"]["n"]: one.properties.get("parent")
            for one in jobs(graph)
            if one.properties["parameters"]
        }
        assert parents == {
            **dict.fromkeys((0, 1, 3, 4, 5, 6), run.uid),
            7: inner.entity.uid,
            8: before.uid,
            9: None,
        }

    def test_several_threads_name_what_one_run_reads(self, graph: Graph) -> None:
        with track("block", graph=graph) as run:

            def name(n: int) -> None:
                around = current_run()
                assert around is not None
                assert around.uid == run.uid
                for m in range(20):
                    around.input(lineage.artifact("DataSet", f"s3://b/{n}/{m}"))
                    around.metric("m", m, step=m)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(name, range(8)))
        [job] = jobs(graph)
        assert len(graph.query(job)) == 161
        assert job.properties["metric_summaries"]["m"]["count"] == 160

    def test_numbers_that_json_lacks_come_back(self, graph: Graph) -> None:
        @track(graph=graph)
        def fit(missing: float, ranges: list[Any], word: str) -> float:
            run = current_run()
            assert run is not None
            run.metric("loss", -math.inf)
            return math.nan

        fit(math.nan, [{"up": np.float32("inf")}, 1.5], "NaN")
        [job] = jobs(graph)
        parameters = parameters_of(job)
        assert math.isnan(parameters.pop("missing"))
        assert parameters == {"ranges": [{"up": math.inf}, 1.5], "word": "NaN"}
        assert metrics_of(job) == {"loss": -math.inf}
        assert job.properties["result"] == {"float": "NaN"}
        [run] = graph.runs(job)
        assert math.isnan(parameters_of(run)["missing"])
        assert metrics_of(run) == metrics_of(job)
        nothing = lineage.action("Put", "p")
        assert (parameters_of(nothing), metrics_of(nothing)) == ({}, {})

    def test_what_is_no_parameter_is_refused_when_the_function_is_made(self) -> None:
        with pytest.raises(InvalidEntity, match=r"parameters \(path\), got 'pth'"):

            @track(inputs=["pth"])
            def read(path: str) -> None: ...

    def test_long_and_strange_arguments_are_told_by_digest_or_type(self, graph: Graph) -> None:
        @track(graph=graph, ignore=["password"])
        def call(text: str, things: list[int], other: object, password: str) -> None: ...

        call("x" * 2_000, list(range(2_000)), object(), "secret")
        [job] = jobs(graph)
        given = job.properties["parameters"]
        assert given["other"] == {"type": "builtins.object"}
        assert set(given["text"]) == {"type", "sha256"}
        assert given["things"]["items"] == 2_000
        assert "password" not in given

    def test_a_call_whose_lineage_cannot_be_written_fails(self) -> None:
        graph = Graph(MemoryStore())
        graph.close()

        @track(graph=graph)
        def work() -> None:
            raise AssertionError("never begun")

        with pytest.raises(RecordingFailed):
            work()


class TestBlocks:
    def test_a_block_names_what_it_reads_and_writes(self, graph: Graph, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "part").write_text("1")
        with track("export", graph=graph, type="ProcessingJob") as run:
            run.input("s3://bucket/raw")
            run.input(TABLE)
            out = run.output(tmp_path / "out", type="Export")
            run.parameter("n", 1)
            run.property("note", "x")
        [job] = jobs(graph, "ProcessingJob")
        assert job.properties["note"] == "x"
        assert len(graph.query(out, "ascendants")) == 4

    def test_the_default_is_the_graph_of_the_home(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEATURELINE_HOME", str(tmp_path / "home"))
        with track("block"):
            pass
        assert lineage.default_graph() is lineage.default_graph()
        with lineage.open(tmp_path / "home" / "lineage.db") as graph:
            assert [one.state for one in jobs(graph)] == ["Completed"]
        lineage.default_graph().close()
        with pytest.raises(RecordingFailed), track("block"):
            pass
        with pytest.raises(StoreClosed):
            lineage.default_graph().stats()


class TestContent:
    def test_equal_values_are_the_same_artifact_in_any_library(self) -> None:
        frames = (TABLE, pl.from_arrow(TABLE), pd.DataFrame({"x": [1, 2, 3]}))
        digests = {as_artifact(frame).content_hash for frame in frames}  # type: ignore[union-attr]
        assert len(digests) == 1
        other = as_artifact(pa.table({"x": [1, 2, 4]}))
        assert not digests & {other.content_hash}  # type: ignore[union-attr]
        assert as_artifact(np.zeros(3)) != as_artifact(np.zeros((3, 1)))

    def test_what_has_no_content_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidEntity, match="no such file or folder"):
            as_artifact(tmp_path / "none")
        with pytest.raises(InvalidEntity, match="lineage of a object: expected an entity"):
            as_artifact(object())


class TestRuns:
    def test_a_run_is_logged_to(self, graph: Graph, tmp_path: Path) -> None:
        (tmp_path / "model.bin").write_bytes(b"m")
        with start_run("one", experiment="late", graph=graph, tags={"team": "a"}) as run:
            run.log_parameters({"eta": 0.1, "depth": 6})
            run.log_input(TABLE)
            for step in range(2_500):
                run.log_metric("loss", 1 / (step + 1), step)
            run.log_metrics({"auc": 0.9, "bad": math.nan}, 0)
            model = run.log_model(tmp_path / "model.bin")
            run.set_tag("stage", "candidate")
        history = metric_history(graph, run.uid, "loss")
        assert history["step"].to_pylist() == list(range(2_500))
        assert history["value"][-1].as_py() == 1 / 2_500
        assert math.isnan(metric_history(graph, run.uid, "bad")["value"][0].as_py())
        assert len(metric_history(graph, run.uid, "none")) == 0
        assert run.entity.properties["metrics"]["auc"] == 0.9
        assert graph.tags(run.uid) == {"experiment": "late", "stage": "candidate", "team": "a"}
        assert [one.name for one in runs_of(graph, "late")] == ["one"]
        assert [one.type for one in graph.query(model)] == ["Model", "Run", "DataSet"]

    def test_a_number_that_cannot_be_kept_is_refused(self, graph: Graph) -> None:
        with start_run("one", graph=graph) as run:
            for value, said in (
                (10**400, "metric 'loss': expected a number that a float can hold"),
                ("many", "metric 'loss': expected a number, got 'many'"),
                ([1], "expected a number"),
            ):
                with pytest.raises(InvalidEntity, match=said):
                    run.log_metric("loss", value)  # type: ignore[arg-type]
            for step in (10**30, math.nan, math.inf, "x"):
                with pytest.raises(InvalidEntity, match="metric 'loss': step: expected"):
                    run.log_metric("loss", 1, step)  # type: ignore[arg-type]
            run.log_parameters({"eta": math.inf, "deep": {"x": (math.nan,)}})
        assert run.entity.properties["metrics"] == {}
        assert len(metric_history(graph, run.uid, "loss")) == 0
        assert parameters_of(run.entity)["eta"] == math.inf
        with start_run(graph=graph, resume=run.uid) as again:
            again.log_metric("loss", math.nan)
        assert math.isnan(parameters_of(again.entity)["deep"]["x"][0])
        assert math.isnan(metrics_of(again.entity)["loss"])
        table = compare(graph, [again.uid], only=["eta", "loss"])
        assert table[again.name].to_pylist() == ["inf", "nan"]

    def test_runs_are_compared_differences_first(self, graph: Graph) -> None:
        for name, eta in (("a", 0.1), ("b", 0.2)):
            with start_run(name, graph=graph, parameters={"eta": eta, "same": 1}) as run:
                run.log_metric("auc", 0.5 + eta)
        table = compare(graph, [one.uid for one in graph.find(type="Run")])
        assert table.column_names == ["what", "name", "differs", "a", "b"]
        assert table.to_pylist()[:2] == [
            {"what": "parameter", "name": "eta", "differs": True, "a": "0.1", "b": "0.2"},
            {"what": "metric", "name": "auc", "differs": True, "a": "0.6", "b": "0.7"},
        ]
        assert table["differs"].to_pylist() == [True, True, False, False]
        assert compare(graph, [run.entity, run.entity], only=["eta"]).column_names[-1] == "b #2"

    def test_runs_of_one_name_are_apart_and_know_the_run_around_them(self, graph: Graph) -> None:
        @track(graph=graph)
        def step() -> None:
            pass

        with start_run("sweep", graph=graph) as outer:
            for value in (1, 2):
                with start_run("try", graph=graph) as inner:
                    inner.log_metric("loss", value, 0)
                    step()
        assert current_run() is None
        first, second = graph.find(type="Run", name="try")
        assert metric_history(graph, first, "loss")["value"].to_pylist() == [1]
        assert {one.properties["parent"] for one in (first, second)} == {outer.uid}
        called = [one.properties["parent"] for one in jobs(graph)]
        assert called == [first.uid, second.uid]
        [execution] = graph.runs(first)
        assert execution.properties["parent_run"] == graph.runs(outer.uid)[0].uid

    def test_a_run_goes_on(self, graph: Graph) -> None:
        with pytest.raises(ValueError, match="cut"), start_run("r", graph=graph) as run:  # noqa: PT012
            run.log_parameter("eta", 0.1)
            run.log_metric("loss", 2, 0)
            raise ValueError("cut")
        with start_run(graph=graph, resume=run.uid) as again:
            again.log_metric("loss", 1, 1)
        assert again.uid == run.uid
        assert again.entity.state == "Completed"
        assert again.entity.properties["parameters"] == {"eta": 0.1}
        assert metric_history(graph, run.uid, "loss")["value"].to_pylist() == [2, 1]
        assert [one.state for one in graph.runs(run.uid)] == ["Failed", "Completed"]
        data = graph.record([as_artifact(TABLE)], kind="T").entities[0]  # type: ignore[list-item]
        with pytest.raises(InvalidEntity, match="expected a run"):
            start_run(graph=graph, resume=data)

    def test_a_run_that_was_killed_can_be_marked(self, tmp_path: Path) -> None:
        path = tmp_path / "lineage.db"
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False, timeout=60
        )
        assert killed.returncode == -9
        with lineage.open(path) as graph:
            [run] = graph.find(type="Run")
            assert run.state == "InProgress"
            assert metric_history(graph, run, "loss")["value"].to_pylist() == [1.0]
            marked = mark_run(graph, run.uid, "Failed", reason="killed")
            assert (marked.state, marked.properties["failure_reason"]) == ("Failed", "killed")
            assert [one.state for one in graph.runs(run.uid)] == ["Failed"]


KILLED = """
import os, sys
import lineage
run = lineage.start_run("r", graph=lineage.open(sys.argv[1]))
run.__enter__()
run.log_metric("loss", 1.0, 0)
run.flush()
os.kill(os.getpid(), 9)
"""


def test_a_tracked_call_waits_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    def away(draft: object) -> None:
        raise lineage.StoreUnavailable("away")

    graph = Graph(store, spool=Spool(tmp_path / "spool.ndjson"))
    with monkeypatch.context() as patched:
        patched.setattr(store, "append", away)
        with track("block", graph=graph) as run:
            run.output(TABLE)
    graph.replay_spool()
    assert [one.state for one in jobs(graph)] == ["Completed"]
