"""The service and the client: the words and errors of a graph, over the network."""

import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lineage
from lineage import (
    EntityConflict,
    EntityNotFound,
    InvalidAssociation,
    InvalidEntity,
    InvalidQuery,
    Kind,
    LineageClient,
    LineageError,
    Recorder,
    RecordingFailed,
    StoreClosed,
    StoreUnavailable,
    action,
    artifact,
    context,
    trial,
    trial_component,
)
from lineage.v1 import lineage_pb2 as pb
from lineage.v1 import lineage_pb2_grpc
from lineage.wire import convert
from tests.lineage.serving import Server

# Numbers that no kind and no direction has.
_NINE: Any = 9
_NONE: Any = 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with lineage.open(tmp_path_factory.mktemp("server") / "lineage.db") as graph:
        server = Server(graph)
        yield server
        server.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[LineageClient]:
    with lineage.connect(server.target) as client:
        yield client


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.target) as channel:
        yield lineage_pb2_grpc.LineageStub(channel)


def test_what_is_recorded_over_the_network_is_in_the_graph(
    server: Server, client: LineageClient
) -> None:
    data = artifact(
        "DataSet",
        "s3://b/übung",
        content_hash="1",
        properties={
            "rows": 336_776,
            "mean": 6.5,
            "whole": 2.0,
            "none": None,
            "yes": True,
            "nested": {"list": [1, {"x": "天"}]},
        },
    )
    job = trial_component("TrainingJob", "grpc-1", state="Completed")
    recorded = client.record(
        [data, job], [(data, job, "ContributedTo")], kind="JobCompleted", actor="ci"
    )
    assert recorded.entities == tuple(server.graph.entity(e.uid) for e in recorded.entities)
    assert recorded.entities[0].properties == data.properties
    assert type(recorded.entities[0].properties["rows"]) is int
    assert client.entity(recorded.entities[1].uid) == recorded.entities[1]
    assert recorded.entities[0].created is not None
    assert client.verify() == server.graph.verify()


def test_numbers_that_a_struct_rounds_arrive_exactly(
    server: Server, client: LineageClient, stub: Any
) -> None:
    properties: dict[str, Any] = {"seed": 2**63 + 1, "fine": 2**53, "deep": [{"x": -(2**60)}]}
    stored = client.record([context("C", "large", properties=properties)], kind="T").entities[0]
    assert client.entity(stored.uid) == server.graph.entity(stored.uid) == stored
    assert stored.properties == properties
    # A client that knows the Struct alone gets those beyond 2^53 as text.
    old = stub.DescribeEntity(pb.DescribeEntityRequest(uid=stored.uid)).entity.properties
    assert (old["seed"], old["fine"]) == (str(2**63 + 1), float(2**53))
    whole = client.record([context("C", "whole", properties={"x": 2.0})], kind="T").entities[0]
    assert type(client.entity(whole.uid).properties["x"]) is float


def test_a_retried_call_is_recorded_once(client: LineageClient) -> None:
    first = client.record([action("Put", "retry")], kind="T", event_uid="grpc-retry")
    again = client.record([action("Put", "retry")], kind="T", event_uid="grpc-retry")
    assert again == first


def test_find_finds_what_the_graph_finds(server: Server, client: LineageClient) -> None:
    client.record(
        [artifact("Found", "s3://found", content_hash=h, name="f") for h in "12"]
        + [action("Found", "f", source_uri="s3://found"), context("Found", "g")],
        kind="T",
    )
    for wanted, count in (
        ({"type": "Found"}, 4),
        ({"type": "Found", "kind": "Artifact"}, 2),
        ({"name": "f", "type": "Found"}, 3),
        ({"source_uri": "s3://found", "kind": Kind.ACTION}, 1),
        ({"name": "nobody"}, 0),
    ):
        found = client.find(**wanted)
        assert found == server.graph.find(**wanted)
        assert len(found) == count
    with pytest.raises(InvalidEntity):
        client.find(kind="Thing")


def test_ends_that_are_only_ends(server: Server, client: LineageClient) -> None:
    stored = client.record([context("C", "end", state="Old")], kind="T").entities[0]
    server.graph.record([context("C", "end", state="New")], kind="T")
    mine = lineage.Entity(Kind.ARTIFACT, "D", "d", uid="my:end", source_uri="end-uri")
    server.graph.record([mine], kind="T")
    recorded = client.record(
        [],
        [
            (artifact("D", "end-uri"), stored, "ContributedTo"),
            (action("A", "new end"), stored.uid, "ContributedTo"),
        ],
        kind="T",
    )
    assert recorded.entities == ()
    assert server.graph.entity(stored.uid).state == "New"
    found = {entity.uid for entity in server.graph.query(stored.uid)}
    assert found == {stored.uid, "my:end", "urn:fs:action:A:new%20end"}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(1, 8),
    links=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16),
    direction=st.sampled_from(["ascendants", "descendants", "both"]),
    depth=st.none() | st.integers(0, 4),
    limit=st.none() | st.integers(1, 4),
    types=st.none() | st.just(["T0"]),
    kinds=st.none() | st.just([Kind.ARTIFACT]),
    include_edges=st.booleans(),
    seed=st.uuids(),
)
def test_a_query_answers_as_the_graph_does(
    server: Server,
    client: LineageClient,
    count: int,
    links: list[tuple[int, int]],
    seed: object,
    **options: Any,
) -> None:
    nodes = [
        artifact(f"T{n % 2}", f"{seed}/{n}") if n % 3 else action(f"T{n % 2}", f"{seed}/{n}")
        for n in range(count)
    ]
    edges = [(nodes[a % count], nodes[b % count], "DerivedFrom") for a, b in links]
    server.graph.record(
        nodes, [edge for edge in edges if edge[0] is not edge[1]], kind="T", cycles="allow"
    )
    ours, theirs = client.query(nodes[0], **options), server.graph.query(nodes[0], **options)
    assert ours.entities == theirs.entities
    assert ours.path_entities == theirs.path_entities
    assert set(ours.associations) == set(theirs.associations)
    assert dict(ours.depths) == dict(theirs.depths)
    assert (len(ours), ours.truncated) == (len(theirs), theirs.truncated)
    assert ours.to_tree().count("\n") == theirs.to_tree().count("\n")


class TestPages:
    def pages(self, stub: Any, **request: Any) -> list[pb.QueryLineageResponse]:
        token, pages = "", []
        while True:
            page = stub.QueryLineage(pb.QueryLineageRequest(next_token=token, **request))
            pages.append(page)
            token = page.next_token
            if not token:
                return pages

    def test_they_join_to_the_whole(self, server: Server, stub: Any) -> None:
        nodes = [artifact("D", f"page/{n}") for n in range(25)]
        edges = [(nodes[n // 2], nodes[n], "DerivedFrom") for n in range(1, 25)]
        server.graph.record(nodes, edges, kind="T")
        start = lineage.derived_uid(nodes[0])
        whole = server.graph.query(start, "descendants")
        pages = self.pages(
            stub, start=start, direction=pb.DESCENDANTS, include_edges=True, max_results=7
        )
        assert [len(page.entities) for page in pages] == [7, 7, 7, 4]
        uids = [entity.uid for page in pages for entity in page.entities]
        assert uids == [entity.uid for entity in whole.entities]
        got = [convert.association_from_message(a) for page in pages for a in page.associations]
        assert len(got) == 24
        assert set(got) == set(whole.associations)

    def test_a_strange_token_is_refused(self, server: Server, stub: Any) -> None:
        uid = server.graph.record([action("A", "token")], kind="T").entities[0].uid
        for token in ("nonsense", "!", "dXJuOm90aGVy"):
            with pytest.raises(grpc.RpcError) as caught:
                stub.QueryLineage(
                    pb.QueryLineageRequest(start=uid, direction=pb.BOTH, next_token=token)
                )
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestErrors:
    def test_not_found_with_its_facts(self, server: Server, client: LineageClient) -> None:
        server.graph.record([context("FeatureGroup", "netz")], kind="T")
        with pytest.raises(EntityNotFound) as caught:
            client.entity("urn:fs:context:FeatureGroup:nezt")
        assert caught.value.uid == "urn:fs:context:FeatureGroup:nezt"
        assert caught.value.nearest == "urn:fs:context:FeatureGroup:netz"
        assert "did you mean" in str(caught.value)
        assert isinstance(caught.value.__cause__, grpc.RpcError)

    def test_the_same_classes_as_in_the_graph(self, client: LineageClient) -> None:
        a, b = artifact("D", "err/a"), trial("T", "err/b")
        client.record([lineage.Entity(Kind.ACTION, "A", "a", uid="err:uid")], kind="T")
        for expected, call in (
            (InvalidAssociation, lambda: client.record(
                [], [(b, trial_component("J", "err/j"), "AssociatedWith")], kind="T")),
            (InvalidAssociation, lambda: client.record([a, b], [(a, b, "Made")], kind="T")),
            (InvalidEntity, lambda: client.record([a], kind="")),
            (EntityConflict, lambda: client.record(
                [lineage.Entity(Kind.CONTEXT, "A", "a", uid="err:uid")], kind="T")),
            (EntityNotFound, lambda: client.record([a], [(a, "err:none", "Produced")], kind="T")),
            (EntityNotFound, lambda: client.query("err:none")),
            (InvalidQuery, lambda: client.query(a, "sideways")),
        ):  # fmt: skip
            with pytest.raises(LineageError) as caught:
                call()
            assert type(caught.value) is expected

    @pytest.mark.parametrize(
        ("request_", "detail"),
        [
            (pb.QueryLineageRequest(start="err:uid"), "direction"),
            (pb.QueryLineageRequest(start="err:uid", direction=_NINE), "number 9"),
            (pb.QueryLineageRequest(start="err:uid", direction=pb.BOTH, depth=-1), "depth"),
            (
                pb.QueryLineageRequest(start="err:uid", direction=pb.BOTH, max_results=-1),
                "max_results",
            ),
            (pb.QueryLineageRequest(start="err:uid", direction=pb.BOTH, kinds=[_NONE]), "kind"),
        ],
    )
    def test_a_raw_request_that_makes_no_sense(
        self, stub: Any, request_: pb.QueryLineageRequest, detail: str
    ) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.QueryLineage(request_)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert detail in error.details()

    def test_a_raw_entity_without_a_kind(self, stub: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Record(pb.RecordRequest(kind="T", entities=[pb.Entity(type="A", name="a")]))
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "TRIAL_COMPONENT" in error.details()

    def test_a_number_that_is_none(self, stub: Any) -> None:
        entity = pb.Entity(kind=pb.ACTION, type="A", name="nan")
        entity.properties.update({"x": math.nan})
        with pytest.raises(grpc.RpcError) as caught:
            stub.Record(pb.RecordRequest(kind="T", entities=[entity]))
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    def test_no_server(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (
            lineage.connect(f"127.0.0.1:{port}", timeout_s=5) as client,
            pytest.raises(StoreUnavailable, match=f"no lineage server answers at 127.0.0.1:{port}"),
        ):
            client.verify()

    def test_a_closed_client(self, server: Server) -> None:
        client = lineage.connect(server.target)
        client.close()
        with pytest.raises(StoreClosed):
            client.verify()

    def test_a_server_whose_graph_is_closed(self, tmp_path: Path) -> None:
        graph = lineage.open(tmp_path / "lineage.db")
        server = Server(graph)
        graph.close()
        with lineage.connect(server.target) as client:
            with pytest.raises(StoreClosed):
                client.verify()
            with pytest.raises(RecordingFailed), Recorder(client, "J", "j"):
                pass
        server.stop()


def test_a_job_records_over_the_network(server: Server, client: LineageClient) -> None:
    with Recorder(client, "TrainingJob", "remote", parameters={"depth": 6}) as job:
        job.input(artifact("D", "remote/d", content_hash="1"))
        job.output(artifact("M", "remote/m", content_hash="2"))
        job.metric("rmse", 1.5)
    stored = server.graph.entity(job.entity.uid)
    assert stored == job.entity
    assert stored.properties["parameters"] == {"depth": 6}
    assert len(server.graph.query(stored, "both")) == 3


def test_the_deepest_properties_travel(client: LineageClient) -> None:
    deep: Any = 1
    for _ in range(24):
        deep = {"x": deep}
    stored = client.record([context("C", "deep", properties={"p": deep})], kind="T").entities[0]
    assert stored.properties == {"p": deep}
    assert [entity.properties for entity in client.query(stored)] == [{"p": deep}]


def test_what_is_larger_than_a_message_is_refused_as_here(
    server: Server, client: LineageClient
) -> None:
    before = server.graph.last_sequence()
    for count in (1, 4):  # the server refuses the one, the client does not even send the other
        large = [
            artifact("DataSet", f"s3://b/{n}", properties={"text": "x" * 17_000_000})
            for n in range(count)
        ]
        with pytest.raises(InvalidEntity, match="at most 16777216 bytes"):
            client.record(large, kind="T")
    assert server.graph.last_sequence() == before


def test_many_callers_share_commits(server: Server, client: LineageClient) -> None:
    before = server.graph.stats()["events"]
    threads = [
        threading.Thread(
            target=lambda n=n: [
                client.record([action("Put", f"many/{n}/{k}")], kind="T") for k in range(10)
            ]
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.graph.stats()["events"] == before + 80
    assert client.verify().intact


def test_a_batch_is_recorded_in_order_and_each_event_is_answered(
    server: Server, client: LineageClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, job = artifact("DataSet", "s3://batch/data", content_hash="1"), action("Load", "batch")
    drafts = [
        lineage.as_draft([data], kind="First", event_uid="batch-1"),
        lineage.as_draft(associations=[("urn:nobody", data, "ContributedTo")], kind="Refused"),
        lineage.as_draft(
            [job], [(data, job, "ContributedTo")], kind="Last", actor="ada", tags=[(job, "a", None)]
        ),
        lineage.as_draft([data], kind="First", event_uid="batch-1"),  # again
    ]
    for size in (1 << 20, 1):  # in one call, and in a call each
        monkeypatch.setattr("lineage.wire.client.recording._BATCH_BYTES", size)
        first, refused, last, again = client.record_all(drafts)
        assert isinstance(refused, EntityNotFound)
        assert refused.uid == "urn:nobody"
        with lineage.Graph(lineage.MemoryStore()) as here:
            expected = here.record_all(drafts)
        for outcome, same in zip((first, last), (expected[0], expected[2]), strict=True):
            assert isinstance(outcome, lineage.Recorded)
            assert isinstance(same, lineage.Recorded)
            assert [one.uid for one in outcome.entities] == [one.uid for one in same.entities]
        assert again == first
    [event] = server.graph.events(kinds=["Last"], limit=1)
    assert event.actor == "ada"
    assert [one.kind for one in server.graph.events(kinds=["First", "Refused"])] == ["First"]


def test_what_is_no_event_is_refused_and_leaves_the_others_in(server: Server, stub: Any) -> None:
    said = stub.RecordBatch(
        pb.RecordBatchRequest(
            events=[
                pb.RecordRequest(kind="Whole", tags=[]),
                pb.RecordRequest(kind=""),
                pb.RecordRequest(kind="T", entities=[pb.Entity(kind=_NINE)]),
            ]
        )
    )
    assert [one.WhichOneof("outcome") for one in said.outcomes] == ["recorded", *["refused"] * 2]
    assert [one.refused.error for one in said.outcomes[1:]] == ["InvalidEntity"] * 2
    assert "event kind" in said.outcomes[1].refused.message


def test_a_graph_is_made_anew_and_compared(server: Server, client: LineageClient) -> None:
    client.record([action("Load", "rebuilt")], kind="T")
    assert client.rebuild() == server.graph.last_sequence()
    assert client.verify(projections=True).intact
    assert client.replay_spool() == lineage.Replayed(0, 0)  # it has none


def test_a_server_without_a_home_collects_nothing(client: LineageClient) -> None:
    with pytest.raises(InvalidQuery, match="featureline serve"):
        client.collect()
