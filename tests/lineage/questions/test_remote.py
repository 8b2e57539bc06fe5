"""The graph of a server answers every question as the graph itself does, and refuses alike."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

import lineage
from lineage import (
    ColumnEdge,
    ColumnLineage,
    DataChange,
    Entity,
    EntityNotFound,
    Facet,
    Graph,
    InvalidAssociation,
    InvalidEntity,
    InvalidQuery,
    Kind,
    LineageClient,
    Recorder,
    Run,
    artifact,
    context,
)
from lineage.v1 import lineage_pb2 as pb
from lineage.v1 import lineage_pb2_grpc
from tests.lineage.serving import Server

TABLES = [
    artifact("Table", "s3://t", content_hash=f"t{n}", name=f"t@{n}", properties={"rows": n})
    for n in range(2)
]
MODELS = [artifact("Model", f"s3://m/{n}", content_hash=f"abcdef{n}") for n in range(2)]
JOB = "urn:fs:trial-component:TrainingJob:job0"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    def changes(a: Entity, b: Entity) -> DataChange | None:
        return DataChange("1 row more", 0.5, {"rows": [0, 1], "big": 2**60}, ("version 1: WRITE",))

    path = tmp_path_factory.mktemp("questions") / "lineage.db"
    with lineage.open(path, changes=changes) as graph:
        served = Server(graph)
        yield served
        served.stop()


@pytest.fixture(scope="module")
def remote(server: Server) -> Iterator[LineageClient]:
    with lineage.connect(server.target) as client:
        for number, (table, model) in enumerate(zip(TABLES, MODELS, strict=True)):
            with Recorder(client, "TrainingJob", f"job{number}", actor="ada") as job:
                job.input(table)
                job.parameter("depth", number)
                job.metric("rmse", 1.0 / (number + 1))
                job.output(model)
        client.record(
            [
                Entity(
                    Kind.CONTEXT, "Endpoint", "live", facets={"owner": Facet(5, {"x": [1, None]})}
                )
            ],
            [(MODELS[0], context("Endpoint", "live"), "AssociatedWith")],
            kind="Deployed",
            actor="eve",
            columns=[
                ColumnLineage(
                    MODELS[0],
                    "job0",
                    (
                        ColumnEdge(TABLES[0], "wind", "", properties={"importance": 0.5}),
                        ColumnEdge(TABLES[0], "temp", "", "INDIRECT", "FILTER", "temp > 0", True),
                    ),
                    rank=7,
                )
            ],
            runs=[
                Run("run-1", "urn:fs:trial-component:TrainingJob:job0", "Failed", 1, 2, {"a": 1})
            ],
            tags=[(MODELS[0], "stage", "live"), (MODELS[1], "stage", "old")],
            aliases=[("arn:model/0", MODELS[0])],
        )
        yield client


@pytest.fixture(scope="module")
def local(server: Server, remote: LineageClient) -> Graph:
    return server.graph


def plain(value: Any) -> Any:
    """An answer to compare: what a result holds, or itself."""
    if isinstance(value, lineage.LineageResult):
        associations = sorted((a.source, a.destination, a.type) for a in value.associations)
        return (
            value.start,
            value.direction,
            len(value),
            value.truncated,
            value.entities,
            value.path_entities,
            associations,
            dict(value.depths),
        )
    return value


A, B = MODELS
QUESTIONS: list[Callable[[Any], Any]] = [
    lambda g: g.entity("arn:model/0"),
    lambda g: g.entity("urn:fs:context:Endpoint:live").facets,
    lambda g: g.find(type="Model"),
    lambda g: g.find(type="Model", as_of=3),
    lambda g: g.query("arn:model/0", "either"),
    lambda g: g.query(A, "both", states=["Completed"], through=["Produced"]),
    lambda g: g.query(A, "both", uris=["s3://"], types=["Model", "Table"]),
    lambda g: g.search(uris=["s3://m/"]),
    lambda g: g.query(A, "both", properties={"rows": 0, "nothing": 1}),
    lambda g: g.query(A, "both", properties={"parameters.depth": 0}, include_edges=False),
    lambda g: g.query(A, "ascendants", max_walked=2),
    lambda g: g.query(A, "ascendants", limit=1),
    lambda g: g.query(A, "ascendants", kinds=["Artifact"], limit=1),
    lambda g: g.query(A, "ascendants", kinds=["Experiment"]),
    lambda g: g.query(A, "descendants", as_of=3),
    lambda g: g.query(A, created_after=NOON, modified_before=NOON + timedelta(days=36500)),
    lambda g: g.query(A, created_before=NOON - timedelta(days=3650)),
    lambda g: g.columns(A),
    lambda g: g.columns(TABLES[0], "wind", "descendants", depth=1),
    lambda g: g.runs("urn:fs:trial-component:TrainingJob:job0"),
    lambda g: g.tags(A),
    lambda g: g.tags(A, as_of=3),
    lambda g: g.tagged("stage"),
    lambda g: g.tagged("stage", "old"),
    lambda g: g.search(types=["Model", "Table"], limit=3),
    lambda g: g.search(content_hash="abcdef", tags={"stage": None}),
    lambda g: g.search(properties={"rows": 1}),
    lambda g: g.search(name="live", kinds=["Context"], source_uri=None),
    lambda g: g.paths(TABLES[0], A),
    lambda g: g.paths(TABLES[0], B, limit=1, through=["DerivedFrom", "ContributedTo", "Produced"]),
    lambda g: g.paths(A, B, direction="both", max_length=9, max_walked=50),
    lambda g: g.paths(A, A),
    lambda g: g.paths(A, B),
    lambda g: g.shortest_path(TABLES[0], A),
    lambda g: g.shortest_path(A, B),
    lambda g: g.common_ancestors(A, B, types=["Table"], depth=5),
    lambda g: g.common_descendants(*TABLES, limit=1),
    lambda g: g.diff(A, B),
    lambda g: g.diff(A, A),
    lambda g: g.diff(A, context("Endpoint", "live")),
    lambda g: g.explain(A),
    lambda g: g.explain("urn:fs:trial-component:TrainingJob:job0"),
    lambda g: g.features(A),
    lambda g: g.feature_users(TABLES[0], "wind"),
    lambda g: g.feature_users(TABLES[0], types=None),
    lambda g: g.events(),
    lambda g: g.events(A, kinds=["JobCompleted"], actors="ada", limit=1),
    lambda g: g.events(since=NOON - timedelta(days=36500), before=3),
    lambda g: g.events(before=2**70, limit=2**40),
    lambda g: g.query(A, depth=2**40, limit=2**40, max_walked=2**40),
    lambda g: g.paths(TABLES[0], A, limit=10_000, max_length=2**40, max_walked=2**33),
    lambda g: g.search(content_hash="abcdef", limit=2**40),
    lambda g: g.sequence_at(NOON),
    lambda g: g.last_sequence(),
    lambda g: g.stats(),
    lambda g: g.verify(),
]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_the_same_answer(local: Graph, remote: LineageClient, ask: Callable[[Any], Any]) -> None:
    theirs, ours = ask(remote), ask(local)
    assert plain(theirs) == plain(ours)
    if hasattr(ours, "text"):
        assert theirs.text() == ours.text()
        assert theirs.to_json() == ours.to_json()
        json.dumps(ours.to_json())


@pytest.mark.parametrize("ask", QUESTIONS[4:14])
def test_an_answer_of_many_pages_is_the_same(
    local: Graph,
    remote: LineageClient,
    ask: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lineage.wire.client.walking._PAGE", 2)
    assert plain(ask(remote)) == plain(ask(local))


REFUSALS: list[tuple[type[Exception], Callable[[Any], Any]]] = [
    (EntityNotFound, lambda g: g.paths(A, "nobody")),
    (EntityNotFound, lambda g: g.explain("nobody")),
    (EntityNotFound, lambda g: g.add_tags("nobody", {"a": "b"})),
    (EntityNotFound, lambda g: g.entity(lineage.derived_uid(A), as_of=1)),
    (InvalidQuery, lambda g: g.paths(A, B, limit=0)),
    (InvalidQuery, lambda g: g.paths(A, B, limit=10_001)),
    (InvalidQuery, lambda g: g.paths(A, B, max_walked=1)),
    (InvalidQuery, lambda g: g.common_ancestors(A)),
    (InvalidQuery, lambda g: g.common_ancestors(A, B, depth=-1)),
    (InvalidQuery, lambda g: g.columns(A, "", "both")),
    (InvalidQuery, lambda g: g.columns(A, depth=-1)),
    (InvalidQuery, lambda g: g.query(A, as_of=-1)),
    (InvalidQuery, lambda g: g.query(A, max_walked=0)),
    (InvalidQuery, lambda g: g.events(limit=0)),
    (InvalidQuery, lambda g: g.events(since=datetime(2026, 1, 1))),  # noqa: DTZ001
    (InvalidQuery, lambda g: g.sequence_at(datetime(2026, 1, 1))),  # noqa: DTZ001
    (InvalidQuery, lambda g: g.search(limit=-1)),
    (InvalidEntity, lambda g: g.search(kinds=["Thing"])),
    (InvalidEntity, lambda g: g.add_tags(A, {"": "b"})),
    (InvalidAssociation, lambda g: g.diff(A, B, through=["Made"])),
    (InvalidAssociation, lambda g: g.record([], [], kind="T", retract=[(A, B, "Produced")])),
]


@pytest.mark.parametrize(("error", "ask"), REFUSALS)
def test_the_same_refusal(
    local: Graph, remote: LineageClient, error: type[Exception], ask: Callable[[Any], Any]
) -> None:
    texts = []
    for graph in (local, remote):
        with pytest.raises(error) as caught:
            ask(graph)
        assert type(caught.value) is error
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_every_verb_of_a_graph_is_one_of_the_client_with_the_same_arguments() -> None:
    # Those of the store itself: only who has it can do them.
    own = {"rebuild", "record_all", "store", "mirroring", "spool"}
    own |= {"replay_spool", "export", "export_text"}
    for name, verb in vars(Graph).items():
        if name.startswith("_") or name in own:
            continue
        theirs = getattr(LineageClient, name)
        if name == "verify":  # a server's projections are its own affair
            continue
        ours = inspect.signature(verb).parameters
        assert list(ours.items()) == list(inspect.signature(theirs).parameters.items()), name


def test_what_only_stands_at_an_end_is_left_as_it_is(local: Graph, remote: LineageClient) -> None:
    old = Entity(Kind.CONTEXT, "C", "end", state="Old", properties={"a": 1})
    known = local.record([old], kind="T").entities[0]
    new = Entity(Kind.CONTEXT, "C", "end", state="New", properties={"a": 2})
    fresh = context("C", "fresh")
    recorded = remote.record([], [(new, fresh, "AssociatedWith")], kind="T", tags=[(new, "x", "y")])
    assert recorded.entities == ()
    assert local.entity(known.uid) == known
    assert local.query(fresh, "ascendants").entities[1] == known
    assert local.tags(known) == {"x": "y"}


def test_what_is_retracted_and_tagged_over_the_network(local: Graph, remote: LineageClient) -> None:
    one, two = context("C", "one"), context("C", "two")
    remote.record([], [(one, two, "AssociatedWith")], kind="T", tags=[(one, "a", "1")])
    remote.record(retract=[(one, two, "AssociatedWith")], kind="T", tags=[(one, "a", None)])
    assert len(local.query(one, "both")) == 1
    assert local.tags(one) == {}
    assert len(local.query(one, "both", as_of=local.last_sequence() - 1)) == 2
    remote.add_tags(one, {"b": "2"})
    remote.delete_tags(one, "b")
    assert [event.kind for event in remote.events(limit=2)] == ["TagsDeleted", "TagsAdded"]


@pytest.fixture(scope="module")
def wide(server: Server) -> str:
    nodes = [artifact("D", f"wide/{n}") for n in range(30)]
    edges = [(nodes[0], node, "DerivedFrom") for node in nodes[1:]]
    return server.graph.record(nodes, edges, kind="T").entities[0].uid


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.target) as channel:
        yield lineage_pb2_grpc.LineageStub(channel)


def page_request(start: str, **more: Any) -> pb.QueryLineageRequest:
    return pb.QueryLineageRequest(
        start=start, direction=pb.DESCENDANTS, include_edges=True, max_results=10, **more
    )


def test_they_are_of_one_state_whatever_is_recorded_meanwhile(
    server: Server, stub: Any, wide: str
) -> None:
    first = stub.QueryLineage(page_request(wide))
    new = artifact("D", "wide/0a")
    server.graph.record([new], [(wide, new, "DerivedFrom")], kind="T")
    server.graph.record(retract=[(wide, artifact("D", "wide/29"), "DerivedFrom")], kind="T")
    for forgetful in (False, True):
        if forgetful:  # as a server that was started anew, or that has many callers
            server.service._pages._kept.clear()
        pages = [first]
        while pages[-1].next_token:
            pages.append(stub.QueryLineage(page_request(wide, next_token=pages[-1].next_token)))
        names = [entity.name for page in pages for entity in page.entities]
        assert names == [f"{n}" for n in range(30)]
        assert {page.count for page in pages} == {30}
        assert sum(len(page.associations) for page in pages) == 29


def test_the_walk_is_not_repeated_for_each(
    server: Server, stub: Any, wide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    query = Graph.query
    monkeypatch.setattr(
        Graph, "query", lambda *args, **more: asked.append(more) or query(*args, **more)
    )
    token = stub.QueryLineage(page_request(wide)).next_token
    while token:
        token = stub.QueryLineage(page_request(wide, next_token=token)).next_token
    assert len(asked) == 1


def test_a_token_of_another_request_is_refused(stub: Any, wide: str) -> None:
    token = stub.QueryLineage(page_request(wide)).next_token
    for other in (
        page_request(wide, next_token=token, types=["E"]),
        page_request(wide, next_token=token[:-4]),
        page_request(wide, next_token="W10="),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            stub.QueryLineage(other)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "start again without one" in refused.value.details()


def test_json_that_is_none_is_refused(server: Server, remote: LineageClient) -> None:
    bad = [
        pb.Entity(kind=pb.ACTION, type="A", name="a", properties_json="{"),
        pb.Entity(kind=pb.ACTION, type="A", name="a", properties_json="[1]"),
        pb.Entity(kind=pb.ACTION, type="A", name="a", properties_json='{"x": NaN}'),
        pb.Entity(kind=pb.ACTION, type="A", name="a", properties_json="[" * 100_000),
        pb.Entity(
            kind=pb.ACTION, type="A", name="a", facets={"f": pb.Facet(rank=-1, value_json="1")}
        ),
    ]
    with grpc.insecure_channel(server.target) as channel:
        stub: Any = lineage_pb2_grpc.LineageStub(channel)
        for entity in bad:
            with pytest.raises(grpc.RpcError) as refused:
                stub.Record(pb.RecordRequest(kind="T", entities=[entity]))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, entity
        with pytest.raises(grpc.RpcError) as refused:
            stub.SearchEntities(pb.SearchEntitiesRequest(filter={"properties_json": "7"}))
        assert "expected a JSON object" in refused.value.details()
