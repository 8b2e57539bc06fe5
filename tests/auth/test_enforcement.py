"""A server of a home with policies: both fronts, every service, and the log of it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time

import grpc
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featureline.server import Server
from featurestore import FeatureGroup, feature_definitions
from featurestore.auth import Guard
from featurestore.embedded import open_store
from featurestore.server import native_is_available
from featurestore.v1 import (
    control_pb2,
    control_pb2_grpc,
    erasure_pb2,
    runtime_pb2,
    runtime_pb2_grpc,
)
from lineage.v1 import lineage_pb2, lineage_pb2_grpc
from training.v1 import training_pb2, training_pb2_grpc

PEOPLE = FeatureGroup(
    "people",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [("id", "String"), ("at", "String"), ("ssn", "String"), ("age", "Integral")]
    ),
)
RECORD = {"id": "a", "at": "2024-01-01T00:00:00Z", "ssn": "078-05-1120", "age": 7}


@pytest.fixture(params=["grpc", "native"])
def front(request):
    if request.param == "native" and not native_is_available():
        assert os.environ.get("CI") != "true", "the native front is not installed"
        pytest.skip("the extra `fast` is not installed")
    return request.param


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, made).result(60)

    yield run
    run(made.shutdown_default_executor())
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def server(home, front, loop):
    """A server of a home with one group and one record."""
    store = open_store(home)
    store.create_feature_group(PEOPLE)
    store.create_feature_group(FeatureGroup("other", "id", "at", PEOPLE.features))
    store.put("people", RECORD)
    guard = Guard.open(home)

    async def start():
        made = Server(store, "127.0.0.1:0", front=front, guard=guard)
        await made.start()
        return made

    started = loop(start())
    yield started
    loop(started.stop(1.0))
    guard.close()
    store.close()


class Client:
    """The stubs of all services, with a token in every call."""

    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.runtime = runtime_pb2_grpc.FeatureStoreRuntimeStub(self.channel)
        self.control = control_pb2_grpc.FeatureStoreStub(self.channel)
        self.lineage = lineage_pb2_grpc.LineageStub(self.channel)
        self.training = training_pb2_grpc.TrainingStub(self.channel)

    def __call__(self, service, method, request):
        return getattr(getattr(self, service), method)(request, metadata=self.metadata, timeout=30)

    def code(self, service, method, request):
        """The status of a call, by name."""
        try:
            reply = self(service, method, request)
            if hasattr(reply, "trailing_metadata"):
                list(reply)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def get(self, *names, group="people", identifier="a"):
        request = runtime_pb2.GetRecordRequest(
            feature_group_name=group, record_identifier_value_as_string=identifier
        )
        request.feature_names.extend(names)
        return self("runtime", "GetRecord", request)


@pytest.fixture
def client(server, database, put):
    """Make a client whose token has statements; none: without a token."""
    made = []

    def connect(*statements):
        token = None
        if statements:
            name = f"p{len(made)}"
            put(name, *statements)
            token = database.create_token("ada", [name]).text
            _until_known(server.address, token)
        made.append(Client(server.address, token))
        return made[-1]

    yield connect
    for each in made:
        each.channel.close()


def _until_known(address, token):
    """Wait until the server has noticed the token, in both of its fronts."""
    asking = Client(address, token)
    asked = (
        ("runtime", "ListRecords", runtime_pb2.ListRecordsRequest(feature_group_name="none")),
        ("control", "ListFeatureGroups", control_pb2.ListFeatureGroupsRequest()),
    )
    for service, method, request in asked:
        for _ in range(100):
            code = asking.code(service, method, request)
            if code not in ("UNAUTHENTICATED", "UNAVAILABLE", "NOT_FOUND"):
                break
            time.sleep(0.02)
    asking.channel.close()


def names(record):
    return [value.feature_name for value in record.values]


def put_request(group="people", **values):
    request = runtime_pb2.PutRecordRequest(feature_group_name=group)
    for name, value in (RECORD | values).items():
        if value is not None:
            kind = "integral_value" if isinstance(value, int) else "string_value"
            setattr(request.record.values.add(feature_name=name).value, kind, value)
    return request


def audited(home):
    return [json.loads(line) for line in (home / "audit.log").read_text().splitlines()]


EVERY_CALL = [
    ("runtime", "GetRecord", runtime_pb2.GetRecordRequest(feature_group_name="people")),
    ("runtime", "PutRecord", put_request()),
    ("runtime", "UpdateRecord", runtime_pb2.UpdateRecordRequest(feature_group_name="people")),
    ("runtime", "DeleteRecord", runtime_pb2.DeleteRecordRequest(feature_group_name="people")),
    ("runtime", "ListRecords", runtime_pb2.ListRecordsRequest(feature_group_name="people")),
    ("runtime", "GetSourcePosition", runtime_pb2.GetSourcePositionRequest(source="s")),
    ("control", "CreateFeatureGroup", control_pb2.CreateFeatureGroupRequest()),
    ("control", "DescribeFeatureGroup", control_pb2.DescribeFeatureGroupRequest()),
    ("control", "UpdateFeatureGroup", control_pb2.UpdateFeatureGroupRequest()),
    ("control", "DeleteFeatureGroup", control_pb2.DeleteFeatureGroupRequest()),
    ("control", "ListFeatureGroups", control_pb2.ListFeatureGroupsRequest()),
    ("control", "UpdateFeatureMetadata", control_pb2.UpdateFeatureMetadataRequest()),
    ("control", "DescribeFeatureMetadata", control_pb2.DescribeFeatureMetadataRequest()),
    ("control", "Search", control_pb2.SearchRequest()),
    ("control", "Flush", control_pb2.FlushRequest()),
    ("control", "Verify", control_pb2.VerifyRequest(feature_group_name="people")),
    ("control", "EraseRecords", erasure_pb2.EraseRecordsRequest(feature_group_name="people")),
    (
        "control",
        "BuildDataset",
        [
            control_pb2.BuildDatasetRequest(
                spec=control_pb2.DatasetSpec(
                    selections=[control_pb2.FeatureSelection(feature_group_name="people")]
                )
            )
        ],
    ),
    ("lineage", "Record", lineage_pb2.RecordRequest()),
    ("lineage", "DescribeEntity", lineage_pb2.DescribeEntityRequest(uid="x")),
    ("lineage", "FindEntities", lineage_pb2.FindEntitiesRequest()),
    ("lineage", "QueryLineage", lineage_pb2.QueryLineageRequest(start="x")),
    ("lineage", "VerifyLog", lineage_pb2.VerifyLogRequest()),
    ("training", "CreateTrainingJob", training_pb2.CreateTrainingJobRequest()),
    ("training", "DescribeTrainingJob", training_pb2.DescribeTrainingJobRequest()),
    ("training", "ListTrainingJobs", training_pb2.ListTrainingJobsRequest()),
    ("training", "StopTrainingJob", training_pb2.StopTrainingJobRequest()),
]


def asked(call):
    service, method, request = call
    return (service, method, iter(request) if isinstance(request, list) else request)


def test_every_call_asks_for_a_token_and_then_for_a_permission(client, allow):
    nothing = client(allow("s3:GetObject"))
    nobody = client()
    assert {nobody.code(*asked(call)) for call in EVERY_CALL} == {"UNAUTHENTICATED"}
    codes = {call[1]: nothing.code(*asked(call)) for call in EVERY_CALL}
    assert set(codes.values()) == {"PERMISSION_DENIED"}, codes


def test_a_token_that_may_do_all_is_answered_as_without_policies(client, allow):
    everything = client({"Effect": "Allow", "Action": "*", "Resource": "*"})
    codes = {call[1]: everything.code(*asked(call)) for call in EVERY_CALL}
    assert not {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNKNOWN", "INTERNAL"} & set(codes.values())
    assert names(everything.get().record) == list(RECORD)


def test_health_and_reflection_stay_open(client, allow, server):
    client(allow("s3:GetObject"))
    with grpc.insecure_channel(server.address) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_hidden_feature_does_not_leave_by_any_way(client, allow, deny):
    ada = client(allow("*"), deny("sagemaker:GetRecord", "people/feature/ssn"))
    assert names(ada.get().record) == ["id", "at", "age"]
    assert names(ada.get("age").record) == ["age"]
    with pytest.raises(grpc.RpcError) as refused:
        ada.get("ssn")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "ssn" in refused.value.details()
    request = runtime_pb2.BatchGetRecordRequest()
    for features in ((), ("ssn",), ("age", "ssn")):
        request.identifiers.add(
            feature_group_name="people",
            record_identifiers_value_as_string=["a"],
            feature_names=features,
        )
    reply = ada("runtime", "BatchGetRecord", request)
    assert [names(entry.record) for entry in reply.records] == [["id", "at", "age"]]
    assert [entry.code for entry in reply.errors] == ["AccessDenied", "AccessDenied"]


def test_a_batch_reads_and_writes_the_groups_that_are_allowed(client, allow):
    ada = client(allow("sagemaker:Batch*", "people"))
    request = runtime_pb2.BatchGetRecordRequest()
    for group in ("people", "other"):
        request.identifiers.add(feature_group_name=group, record_identifiers_value_as_string=["a"])
    reply = ada("runtime", "BatchGetRecord", request)
    assert [entry.feature_group_name for entry in reply.records] == ["people"]
    assert [(e.feature_group_name, e.code) for e in reply.errors] == [("other", "AccessDenied")]
    entries = [put_request("other"), put_request(at="2024-01-02T00:00:00Z")]
    written = ada(
        "runtime", "BatchWriteRecord", runtime_pb2.BatchWriteRecordRequest(entries=entries)
    )
    assert [(error.index, error.code) for error in written.errors] == [(0, "AccessDenied")]
    streamed = list(ada.runtime.StreamRecords(iter(entries), metadata=ada.metadata, timeout=30))
    assert streamed[-1].last == 2
    errors = [error for ack in streamed for error in ack.errors]
    assert [(error.index, error.code) for error in errors] == [(0, "AccessDenied")]
    position = runtime_pb2.BatchWriteRecordRequest(entries=entries)
    position.position.source = "kafka:g:t"
    position.position.partitions.add(partition="0", start=0, next=1)
    assert ada.code("runtime", "BatchWriteRecord", position) == "PERMISSION_DENIED"


def test_a_source_does_not_go_on_without_a_record_that_was_denied(client, allow):
    source = {
        "Effect": "Allow",
        "Action": "featureline:*SourcePosition",
        "Resource": "arn:aws:sagemaker:*:*:source/kafka:g:t",
    }
    ada = client(allow("sagemaker:BatchWriteRecord", "people"), source)
    batch = runtime_pb2.BatchWriteRecordRequest(entries=[put_request(), put_request("other")])
    batch.position.source = "kafka:g:t"
    batch.position.partitions.add(partition="0", start=0, next=2)
    stored = runtime_pb2.GetSourcePositionRequest(source="kafka:g:t")
    assert ada.code("runtime", "BatchWriteRecord", batch) == "PERMISSION_DENIED"
    assert dict(ada("runtime", "GetSourcePosition", stored).next) == {}
    del batch.entries[1]
    assert ada.code("runtime", "BatchWriteRecord", batch) == "OK"
    assert dict(ada("runtime", "GetSourcePosition", stored).next) == {"0": 2}


def test_a_large_batch_is_checked_as_well(client, allow, deny):
    times = [f"2024-02-01T00:{n // 60:02d}:{n % 60:02d}Z" for n in range(300)]
    batch = runtime_pb2.BatchWriteRecordRequest(entries=[put_request(at=at) for at in times])
    all_of_it = client(allow("*"))
    for _ in range(2):
        assert not all_of_it("runtime", "BatchWriteRecord", batch).errors
    mixed = client(allow("*"), deny("sagemaker:PutRecord", "people/feature/ssn"))
    for _ in range(2):
        assert len(mixed("runtime", "BatchWriteRecord", batch).errors) == 300
    batch.entries[299].feature_group_name = "other"
    one_group = client(allow("*", "people"))
    for _ in range(2):
        errors = one_group("runtime", "BatchWriteRecord", batch).errors
        assert [error.index for error in errors] == [299]


def test_a_denied_feature_cannot_be_written(client, allow, deny):
    ada = client(allow("*"), deny("sagemaker:PutRecord", "people/feature/ssn"))
    later = "2024-01-03T00:00:00Z"
    assert ada.code("runtime", "PutRecord", put_request(at=later)) == "PERMISSION_DENIED"
    assert ada.code("runtime", "PutRecord", put_request(at=later, ssn=None)) == "OK"
    update = runtime_pb2.UpdateRecordRequest(
        feature_group_name="people", record_identifier_value_as_string="a"
    )
    update.features.add(feature_name="ssn").value.string_value = "x"
    assert ada.code("runtime", "UpdateRecord", update) == "PERMISSION_DENIED"


def test_a_dataset_comes_without_hidden_features(client, allow, deny):
    ada = client(allow("*"), deny("*", "people/feature/ssn"))
    spine = pa.table({"id": ["a"], "event_time": ["2024-02-01T00:00:00Z"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, spine.schema) as writer:
        writer.write_table(spine)
    allowed = control_pb2.DatasetSpec(
        selections=[control_pb2.FeatureSelection(feature_group_name="people")]
    )
    naming = control_pb2.DatasetSpec(
        selections=[
            control_pb2.FeatureSelection(feature_group_name="people", feature_names=["ssn"])
        ]
    )
    part = control_pb2.BuildDatasetRequest
    rows = part(spine=sink.getvalue().to_pybytes())
    replies = ada("control", "BuildDataset", iter([part(spec=allowed), rows]))
    data = b"".join(reply.rows for reply in replies)
    assert pa.ipc.open_stream(data).read_all().column_names == ["id", "event_time", "age"]
    # Neither alone nor behind one that is allowed.
    assert (
        ada.code("control", "BuildDataset", iter([part(spec=naming), rows])) == "PERMISSION_DENIED"
    )
    twice = [part(spec=allowed), part(spec=naming), rows]
    assert ada.code("control", "BuildDataset", iter(twice)) == "PERMISSION_DENIED"


def test_the_log_has_the_control_plane_and_what_was_denied(client, allow, home):
    ada = client(allow(["sagemaker:DescribeFeatureGroup", "sagemaker:GetRecord"]))
    (home / "audit.log").unlink(missing_ok=True)
    describe = control_pb2.DescribeFeatureGroupRequest
    ada.code("control", "DescribeFeatureGroup", describe(feature_group_name="people"))
    ada.code("control", "DescribeFeatureGroup", describe(feature_group_name="none"))
    ada.code("runtime", "PutRecord", put_request())
    ada.get()
    client().code("runtime", "PutRecord", put_request())
    lines = audited(home)
    assert [(line["principal"], line["action"], line["outcome"]) for line in lines] == [
        ("ada", "sagemaker:DescribeFeatureGroup", "OK"),
        ("ada", "sagemaker:DescribeFeatureGroup", "NOT_FOUND"),
        ("ada", "sagemaker:PutRecord", "PERMISSION_DENIED"),
        ("", "featureline:Authenticate", "UNAUTHENTICATED"),
    ]
    assert lines[2]["address"] == "127.0.0.1"
    assert len({line["request_id"] for line in lines}) == 4


def test_an_erasure_names_the_token_and_the_log_names_no_identifier(client, allow, home):
    ada = client(allow("featureline:EraseRecords"))
    request = erasure_pb2.EraseRecordsRequest(
        feature_group_name="people", record_identifiers_value_as_string=["somebody-7"]
    )
    report = json.loads(ada("control", "EraseRecords", request).report_json)
    assert report["by"].startswith("token ")
    assert report["by"].endswith(" of ada")
    line = audited(home)[-1]
    assert (line["action"], line["outcome"]) == ("featureline:EraseRecords", "OK")
    assert line["resource"].endswith("/people")
    assert "somebody-7" not in (home / "audit.log").read_text()
    bob = client(allow("sagemaker:DeleteRecord"))
    assert bob.code("control", "EraseRecords", request) == "PERMISSION_DENIED"


def test_a_revoked_token_is_refused_within_a_second(client, allow, database):
    ada = client(allow("*"))
    assert ada.get().record.values
    [token] = [entry for entry in database.tokens() if entry.policies == ("p0",)]
    database.revoke_token(token.id)
    time.sleep(1.0)
    request = runtime_pb2.GetRecordRequest(feature_group_name="people")
    assert ada.code("runtime", "GetRecord", request) == "UNAUTHENTICATED"
