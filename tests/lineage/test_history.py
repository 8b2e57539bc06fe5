"""Everything an event can say, on every store: the same graph, also as it was before."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

import lineage
from lineage import (
    TERMINAL,
    ColumnEdge,
    ColumnLineage,
    Entity,
    EntityConflict,
    EntityNotFound,
    Facet,
    Graph,
    InvalidAssociation,
    InvalidEntity,
    InvalidQuery,
    LineageError,
    MemoryStore,
    Run,
    action,
    artifact,
    as_draft,
    context,
    trial_component,
)

NAMES = ("a", "b", "c", "d")
_TYPES = ("ContributedTo", "Produced", "AssociatedWith")


def entity(name: str, **fields: Any) -> Entity:
    made = action("Step", name) if name in "ab" else artifact("DataSet", f"s3://b/{name}")
    return lineage.Entity(made.kind, made.type, made.name, source_uri=made.source_uri, **fields)


def facets(draw: st.DrawFn) -> dict[str, Facet]:
    names = draw(st.lists(st.sampled_from(["state", "schema"]), unique=True, max_size=2))
    return {
        name: Facet(draw(st.integers(0, 3)), draw(st.sampled_from([None, "Done", "Failed"])))
        for name in names
    }


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of one call of `record`, some of which it refuses."""
    name = st.sampled_from(NAMES)
    end = name.map(entity)
    said: dict[str, Any] = {
        "entities": [
            entity(
                one,
                state=draw(st.sampled_from(["", "InProgress", "Completed"])),
                properties=draw(st.dictionaries(st.sampled_from("xy"), st.integers(0, 2))),
                facets=facets(draw),
            )
            for one in draw(st.lists(name, unique=True, max_size=3))
        ],
        "associations": [
            (entity(a), entity(b), link)
            for a, b, link in draw(
                st.lists(st.tuples(name, name, st.sampled_from(_TYPES)), max_size=3)
            )
            if a != b
        ],
        "kind": "T",
        "cycles": draw(st.sampled_from(["refuse", "allow"])),
    }
    if draw(st.booleans()):
        said["columns"] = [
            ColumnLineage(
                draw(end),
                draw(st.sampled_from(["j1", "j2"])),
                tuple(
                    ColumnEdge(draw(end), draw(st.sampled_from(["", "p", "q"])), column)
                    for column in draw(st.lists(st.sampled_from(["", "p", "q"]), max_size=2))
                ),
                draw(st.integers(0, 2)),
            )
            for _ in range(draw(st.integers(1, 2)))
        ]
    if draw(st.booleans()):
        said["runs"] = [
            Run(
                draw(st.sampled_from(["r1", "r2"])),
                entity("a"),
                draw(st.sampled_from(["", "InProgress", "Completed"])),
                draw(st.sampled_from([None, 5])),
                draw(st.sampled_from([None, 9])),
                draw(st.dictionaries(st.sampled_from("xy"), st.integers(0, 2))),
            )
            for _ in range(draw(st.integers(1, 2)))
        ]
        said["tags"] = [
            (draw(end), draw(st.sampled_from("kl")), draw(st.sampled_from([None, "1", "2"])))
            for _ in range(draw(st.integers(0, 2)))
        ]
        said["aliases"] = [
            (draw(st.sampled_from(["arn:1", "arn:2"])), draw(end))
            for _ in range(draw(st.integers(0, 1)))
        ]
    if draw(st.booleans()):
        said["retract"] = [
            (entity(a), entity(b), link)
            for a, b, link in [draw(st.tuples(name, name, st.sampled_from(_TYPES)))]
            if a != b
        ]
    return said


def told(graph: Graph, as_of: int | None) -> dict[str, Any]:
    """All that a graph can be asked, without the times that differ from store to store."""
    found = graph.find(as_of=as_of)
    answers: dict[str, Any] = {}
    for one in found:
        uid = one.uid
        result = graph.query(uid, "both", as_of=as_of)
        either = graph.query(uid, "either", states=["Completed"], as_of=as_of)
        columns = graph.columns(uid, direction="either", as_of=as_of)
        answers[uid] = (
            {**vars(one), "created": None, "modified": None},
            result.depths,
            set(result.associations),
            set(either.depths),
            {(node.entity, node.column): node.depth for node in columns},
            {str(link) for link in columns.links},
            graph.runs(uid, as_of=as_of),
            graph.tags(uid, as_of=as_of),
        )
    for alias in ("arn:1", "arn:2"):
        try:
            answers[alias] = graph.entity(alias, as_of=as_of).uid
        except EntityNotFound:
            answers[alias] = None
    for key in "kl":
        answers[key] = [one.uid for one in graph.tagged(key, "1", as_of=as_of)]
    return answers


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(events(), max_size=5))
def test_every_store_tells_the_same_of_every_moment(
    open_graph: Callable[[], Graph], said: list[dict[str, Any]]
) -> None:
    graph, twin = open_graph(), Graph(MemoryStore())
    moments: list[dict[str, Any]] = []
    for event in said:
        outcomes = []
        for one in (graph, twin):
            try:
                outcomes.append(one.record(**event).sequence)
            except LineageError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], int):
            moments.append(told(graph, None))
            assert moments[-1] == told(twin, None)
    for sequence, then in enumerate(moments, start=1):
        assert told(graph, sequence) == then
    assert graph.stats() == twin.stats()
    assert graph.verify(projections=True).intact
    graph.rebuild()
    assert graph.verify(projections=True).intact
    if moments:
        assert told(graph, None) == moments[-1]
    graph.close()


class TestFacets:
    def test_the_order_of_recording_does_not_matter(self, open_graph: Callable[[], Graph]) -> None:
        said = [
            {"schema": Facet(3, {"x": "int"}), "state": Facet(2, "InProgress")},
            {"schema": Facet(5, {"x": "long"}), "state": Facet(4 + TERMINAL, "Completed")},
            {"schema": Facet(5, {"x": "big"}), "state": Facet(9, "InProgress")},
            {"owner": Facet(1, None)},
        ]
        states = []
        for order in itertools.permutations(said):
            graph = open_graph()
            for one in (*order, order[0]):
                graph.record([entity("a", facets=one)], kind="T")
            known = graph.find()[0]
            states.append((known.state, known.facets))
            graph.close()
        assert all(state == states[0] for state in states)
        assert states[0][0] == "Completed"
        assert states[0][1]["schema"] == Facet(5, {"x": "long"})

    def test_a_state_that_is_no_text_is_refused(self) -> None:
        with pytest.raises(InvalidEntity, match="facet 'state': expected text"):
            entity("a", facets={"state": Facet(1, 5)})

    def test_properties_of_a_query_look_into_facets(self, graph: Graph) -> None:
        graph.record(
            [entity("a", properties={"p": {"q": 3}}, facets={"owner": Facet(1, {"name": "ops"})})],
            kind="T",
        )
        uid = graph.find()[0].uid
        for wanted, count in (
            ({"owner.name": "ops"}, 1),
            ({"owner.name": "me"}, 0),
            ({"p.q": "3"}, 1),
            ({"p.q": 3}, 1),
            ({"p.q": 4, "owner.name": "ops"}, 1),
            ({"none": None}, 0),
        ):
            assert len(graph.query(uid, properties=wanted)) == count, wanted


class TestColumns:
    def test_a_walk_goes_from_column_to_column(self, graph: Graph) -> None:
        group, data, model = context("FeatureGroup", "weather"), entity("c"), entity("d")
        graph.record(
            [group, data, model],
            columns=[
                ColumnLineage(
                    data,
                    "build",
                    (
                        ColumnEdge(group, "temp", "temp", subtype="IDENTITY"),
                        ColumnEdge(group, "wind", "gust"),
                        ColumnEdge(group, "key", "", "INDIRECT", "JOIN"),
                    ),
                ),
                ColumnLineage(
                    model, "train", (ColumnEdge(data, "temp", "f0", properties={"gain": 0.5}),)
                ),
            ],
            kind="T",
        )
        found = graph.columns(model, "f0")
        assert [(c.entity.rpartition(":")[2], c.column, c.depth) for c in found][1:] == [
            (graph.find(name="c")[0].uid.rpartition(":")[2], "temp", 1),
            ("weather", "key", 2),
            ("weather", "temp", 2),
        ]
        assert found.links[0].properties == {"gain": 0.5}
        reached = graph.columns(group, "temp", "descendants")
        assert [(c.column, c.depth) for c in reached] == [("temp", 0), ("temp", 1), ("f0", 2)]
        assert len(graph.columns(group, "wind", "descendants", depth=1)) == 2
        with pytest.raises(InvalidQuery, match="either for columns"):
            graph.columns(group, "wind", "both")

    def test_what_a_job_says_later_replaces_what_it_said(self, graph: Graph) -> None:
        data, model = entity("c"), entity("d")
        for rank, column in ((5, "new"), (3, "old")):
            graph.record(
                [data, model],
                columns=[ColumnLineage(model, "j", (ColumnEdge(data, column, "f"),), rank)],
                kind="T",
            )
        assert [c.column for c in graph.columns(model)] == ["", "new"]

    @pytest.mark.parametrize("rank", [-1, 2**63, True, "5"])
    def test_a_rank_that_is_none_is_refused(self, rank: Any) -> None:
        with pytest.raises(InvalidAssociation, match="rank"):
            ColumnLineage("x", "j", (), rank)


class TestNames:
    def test_an_alias_is_another_name(self, graph: Graph) -> None:
        job = trial_component("TrainingJob", "j")
        graph.record([job], aliases=[("arn:aws:job/j", job)], kind="T")
        assert graph.entity("arn:aws:job/j").name == "j"
        assert graph.query("arn:aws:job/j").start == graph.entity("arn:aws:job/j").uid
        graph.record([], [("arn:aws:job/j", entity("c"), "Produced")], kind="T")
        assert len(graph.query("arn:aws:job/j", "descendants")) == 2

    def test_an_alias_names_one_thing(self, graph: Graph) -> None:
        graph.record([], aliases=[("arn:1", entity("a"))], kind="T")
        with pytest.raises(EntityConflict, match="arn:1"):
            graph.record([], aliases=[("arn:1", entity("b"))], kind="T")

    def test_tags_are_set_and_taken_off(self, graph: Graph) -> None:
        graph.record([], tags=[(entity("a"), "keep", "yes"), (entity("b"), "keep", "no")], kind="T")
        assert [one.name for one in graph.tagged("keep")] == ["a", "b"]
        assert [one.name for one in graph.tagged("keep", "yes")] == ["a"]
        graph.record([], tags=[(entity("a"), "keep", None)], kind="T")
        assert graph.tags(entity("a")) == {}
        assert graph.tags(entity("a"), as_of=1) == {"keep": "yes"}

    def test_a_tag_without_key_is_refused(self, graph: Graph) -> None:
        with pytest.raises(InvalidEntity, match="tag: expected a key"):
            graph.record([], tags=[(entity("a"), " ", "x")], kind="T")


class TestHistory:
    def test_a_time_is_a_moment_too(self, graph: Graph) -> None:
        before = datetime.now(UTC)
        graph.record([entity("a", state="One")], kind="T")
        first = graph.find()[0]
        assert first.modified is not None
        graph.record([entity("a", state="Two"), entity("b")], kind="T")
        later = graph.find()[0]
        assert later.modified is not None
        assert graph.sequence_at(datetime.now(UTC)) == 2
        assert graph.find(as_of=before) == []
        if later.modified > first.modified:
            assert graph.find(as_of=first.modified) == [first]

    @pytest.mark.parametrize("as_of", [-1, True, "yesterday", datetime(2026, 1, 1)])  # noqa: DTZ001
    def test_what_is_no_moment_is_refused(self, graph: Graph, as_of: Any) -> None:
        with pytest.raises(InvalidQuery, match="as_of: expected the sequence"):
            graph.find(as_of=as_of)

    def test_an_association_that_is_not_there_cannot_end(self, graph: Graph) -> None:
        graph.record([entity("a"), entity("c")], kind="T")
        with pytest.raises(InvalidAssociation, match="there is none that could end"):
            graph.record([], retract=[(entity("a"), entity("c"), "Produced")], kind="T")

    def test_no_more_is_walked_than_asked_for(self, graph: Graph) -> None:
        hub = entity("a")
        graph.record(
            [hub], [(hub, artifact("D", f"d/{n}"), "Produced") for n in range(9)], kind="T"
        )
        result = graph.query(hub, "descendants", max_walked=4)
        assert (len(result), len(result.associations), result.truncated) == (4, 3, True)
        assert not graph.query(hub, "descendants", max_walked=10).truncated

    def test_only_the_wanted_associations_are_followed(self, graph: Graph) -> None:
        a, c, d = entity("a"), entity("c"), entity("d")
        graph.record([], [(a, c, "Produced"), (a, d, "AssociatedWith")], kind="T")
        assert len(graph.query(a, "descendants", through=["Produced"])) == 2
        with pytest.raises(InvalidAssociation, match="expected one of"):
            graph.query(a, through=["Made"])


def test_several_events_go_into_one_transaction(graph: Graph) -> None:
    good = as_draft([entity("a")], kind="T", event_uid="e-1")
    bad = as_draft([], [("none", entity("a"), "Produced")], kind="T")
    outcomes = graph.record_all([good, bad, good, as_draft([entity("b")], kind="T")])
    assert [getattr(one, "sequence", type(one).__name__) for one in outcomes] == [
        1, "EntityNotFound", 1, 2,
    ]  # fmt: skip
    assert graph.record_all([]) == []
    assert graph.stats()["events"] == 2


def test_a_file_of_the_first_form_is_brought_up(path: Path) -> None:
    with lineage.open(path) as graph:
        graph.record([entity("a")], [(entity("a"), entity("c"), "Produced")], kind="T")
        before = told(graph, None)
    connection = sqlite3.connect(path)
    for table in ("amendment", "column_set", "column_edge", "run", "tag", "alias"):
        connection.execute(f"DROP TABLE {table}")
    for index in ("artifact_content", "edge_begun", "edge_ended"):
        connection.execute(f"DROP INDEX {index}")
    connection.execute("ALTER TABLE entity DROP COLUMN facets")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with lineage.open(path) as graph:
        assert told(graph, None) == before
        assert graph.verify(projections=True).intact
        graph.record([entity("b", facets={"state": Facet(1, "Done")})], kind="T")
