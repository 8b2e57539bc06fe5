"""Standing queries: every match once and in order, whoever records and whoever is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lineage
from lineage import Entity, EntityNotFound, Graph, InvalidQuery, MemoryStore, action, artifact
from tests.lineage.test_grpc import Server

WAIT_S = 20


def node(name: str, **fields: str) -> Entity:
    return action("Step", name, **fields)  # type: ignore[arg-type]


def link(graph: Graph, *pairs: str, retract: bool = False, kind: str = "T") -> None:
    """Record associations, `ab` for one from a to b."""
    links = [(node(pair[0]), node(pair[1]), "ContributedTo") for pair in pairs]
    if retract:
        graph.record(retract=links, kind=kind)
    else:
        graph.record([], links, kind=kind, cycles="allow")


def names(entities: tuple[Entity, ...]) -> str:
    return "".join(sorted(entity.name for entity in entities))


class TestReach:
    def test_what_comes_within_reach_is_pushed_once(self, graph: Graph) -> None:
        link(graph, "ab", "xy")
        with graph.subscribe(node("a")) as following:
            assert following.poll() is None
            link(graph, "yz")  # out of reach
            link(graph, "bx")  # brings what is behind it
            match = following.wait(WAIT_S)
            assert match is not None
            assert (names(match.reached), match.kind, match.sequence) == ("xyz", "T", 3)
            link(graph, "ay")  # a second way is no news
            link(graph, "zq")
            assert names(next(following).reached) == "q"
            assert (following.position, following.reach) == (5, 6)
            graph.record([node("q", state="Failed")], kind="Ended")
            match = next(following)
            assert [entity.state for entity in match.changed] == ["Failed"]
            link(graph, "bx", retract=True)
            # The others are still reached by the second way.
            assert next(following).lost == (lineage.derived_uid(node("x")),)
            assert following.reach == 5

    def test_what_an_ended_association_kept_within_reach_is_lost(self, graph: Graph) -> None:
        link(graph, "ab", "bc", "ad")
        following = graph.subscribe(node("a"))
        link(graph, "bc", retract=True)
        assert next(following).lost == (lineage.derived_uid(node("c")),)
        link(graph, "dc")
        assert names(next(following).reached) == "c"

    def test_directions_and_filters(self, graph: Graph) -> None:
        link(graph, "ab")
        up = graph.subscribe(node("b"), "ascendants")
        both = graph.subscribe(node("b"), "both")
        either = graph.subscribe(node("b"), "either")
        only = graph.subscribe(node("b"), "both", types=["DataSet"])
        derived = graph.subscribe(node("b"), "both", through="DerivedFrom")
        data = artifact("DataSet", "s3://b/x")
        graph.record([data], [(data, node("a"), "ContributedTo")], kind="T")
        link(graph, "ac")
        link(graph, "bd")
        for following, expected in ((up, ["x"]), (both, ["x", "c", "d"]), (either, ["x", "d"])):
            found = [names(match.reached) for match in iter(following.poll, None)]
            assert found == expected
        assert [names(match.reached) for match in iter(only.poll, None)] == ["x"]
        assert derived.poll() is None

    def test_from_the_beginning_and_from_any_place(self, graph: Graph) -> None:
        for pair in ("ab", "bc", "xy", "cd"):
            link(graph, pair)
        all_of_it = list(iter(graph.subscribe(node("a"), after=0).poll, None))
        assert [(match.sequence, names(match.reached)) for match in all_of_it] == [
            (1, "b"),
            (2, "c"),
            (4, "d"),
        ]
        for match in all_of_it:
            rest = list(iter(graph.subscribe(node("a"), after=match.sequence).poll, None))
            assert rest == [later for later in all_of_it if later.sequence > match.sequence]

    def test_wrong_arguments(self, graph: Graph) -> None:
        link(graph, "ab")
        with pytest.raises(EntityNotFound):
            graph.subscribe("nothing")
        for after in (-1, 2, True):
            with pytest.raises(InvalidQuery, match="after"):
                graph.subscribe(node("a"), after=after)

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(
            st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.booleans()),
            max_size=12,
        ),
        st.sampled_from(list(lineage.Direction)),
    )
    def test_it_tells_what_the_same_query_would(
        self, said: list[tuple[str, str, bool]], direction: lineage.Direction
    ) -> None:
        graph = Graph(MemoryStore())
        graph.record([node("a")], kind="T")
        following = graph.subscribe(node("a"), direction)
        known = {"a"}
        valid: set[str] = set()
        for source, destination, ends in said:
            pair = source + destination
            if source == destination or (ends and pair not in valid):
                continue
            link(graph, pair, retract=ends)
            valid ^= {pair} if ends or pair not in valid else set()
            for match in iter(following.poll, None):
                known |= set(names(match.reached))
                known -= {uid[-1] for uid in match.lost}
            assert known == {entity.name for entity in graph.query(node("a"), direction)}


class TestWaiting:
    def test_a_slow_user_holds_little_and_misses_nothing(self) -> None:
        graph = Graph(MemoryStore())
        graph.record([node("a")], kind="T")
        following = graph.subscribe(node("a"))
        for number in range(300):
            graph.record([], [(node("a"), node(str(number)), "ContributedTo")], kind="T")
        taken = [names(next(following).reached) for _ in range(3)]
        assert len(following._events) < 100
        taken += [names(match.reached) for match in iter(following.poll, None)]
        assert taken == [str(number) for number in range(300)]

    def test_another_thread_and_a_close(self, graph: Graph) -> None:
        link(graph, "ab")
        following = graph.subscribe(node("a"))
        got: list[str] = []
        reader = threading.Thread(target=lambda: got.extend(names(m.reached) for m in following))
        reader.start()
        link(graph, "bc")
        link(graph, "cd")
        with graph.subscribe(node("a"), after=1) as twin:
            assert [names(twin.wait(WAIT_S).reached) for _ in "cd"] == ["c", "d"]  # type: ignore[union-attr]
        while len(got) < 2:
            reader.join(0.01)
        following.close()
        reader.join(WAIT_S)
        assert not reader.is_alive()
        assert got == ["c", "d"]

    def test_async_and_a_cancelled_task(self, graph: Graph) -> None:
        link(graph, "ab")

        async def follow() -> list[str]:
            following = graph.subscribe(node("a"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(following), 0.01)
            link(graph, "bc")
            link(graph, "cd")
            return [names((await anext(following)).reached) for _ in "cd"]

        assert asyncio.run(follow()) == ["c", "d"]


WRITER = """
import sys, lineage
graph = lineage.open(sys.argv[1])
for n in range(int(sys.argv[2])):
    step = lineage.action("Step", f"s{n}")
    other = lineage.action("Other", f"o{n}")
    graph.record([step], [("urn:fs:action:Step:a", step, "ContributedTo")], kind="T")
    graph.record([other], kind="T")
"""

READER = """
import sys, lineage
graph = lineage.open(sys.argv[1])
for match in graph.subscribe("urn:fs:action:Step:a", after=int(sys.argv[2])):
    print(match.sequence, *(entity.name for entity in match.reached), flush=True)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_across_processes_and_kills_none_is_lost_and_none_comes_twice(path: Path) -> None:
    count = 60
    with lineage.open(path) as graph:
        graph.record([node("a")], kind="T")
    writer = start(WRITER, path, count)
    got: list[str] = []
    handled = 1
    for round_ in range(2):
        reader = start(READER, path, handled)
        assert reader.stdout is not None
        while len(got) < (count // 3 if round_ == 0 else count):
            sequence, name = reader.stdout.readline().split()
            handled = int(sequence)
            got.append(name)
        reader.kill()
        reader.stdout.close()
        reader.wait(WAIT_S)
    assert writer.wait(WAIT_S) == 0
    assert writer.stdout is not None
    writer.stdout.close()
    assert got == [f"s{n}" for n in range(count)]


class TestOverTheNetwork:
    @pytest.fixture
    def server(self, path: Path) -> Iterator[Server]:
        with lineage.open(path) as graph:
            graph.record([node("a")], kind="T")
            server = Server(graph)
            yield server
            server.stop()

    def test_matches_arrive_and_a_stream_is_resumed(self, server: Server) -> None:
        with lineage.connect(server.target) as client:
            with client.subscribe(node("a"), kinds=["Action"]) as following:
                link(server.graph, "ab")
                link(server.graph, "bc", "xy")
                match = next(following)
                assert (match.sequence, names(match.reached)) == (2, "b")
                assert following.position == 2
            [again] = [next(client.subscribe(node("a"), after=2))]
            assert (names(again.reached), again.actor) == ("c", again.actor)
            with pytest.raises(EntityNotFound):
                client.subscribe("nothing")
            with pytest.raises(InvalidQuery, match="after"):
                client.subscribe(node("a"), after=99)
            following = client.subscribe(node("a"))
            following.close()
            assert list(following) == []

    def test_a_server_that_ends_does_not_wait_for_it(self, server: Server) -> None:
        with lineage.connect(server.target) as client:
            following = client.subscribe(node("a"))
            server.service.end_streams()
            with pytest.raises(lineage.StoreUnavailable, match="subscribe again"):
                next(following)

    def test_a_server_that_goes_away_is_said(self) -> None:
        graph = Graph(MemoryStore())
        graph.record([node("a")], kind="T")
        server = Server(graph)
        with lineage.connect(server.target) as client:
            following = client.subscribe(node("a"))
            server.stop()
            with pytest.raises(lineage.LineageError):
                next(following)
