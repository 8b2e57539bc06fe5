"""A server of a home with policies: both fronts, every service, and the log of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import featurestore
import lineage
from featureline.server import Server
from featurestore import (
    AccessDenied,
    FeatureGroup,
    FeatureSelection,
    WindowedFeature,
    WindowedGroup,
    feature_definitions,
)
from featurestore.auth import Guard
from featurestore.auth.arn import arn
from featurestore.dataset import fingerprint_of
from featurestore.embedded import open_store
from featurestore.server import native_is_available
from featurestore.server.permission import action_and_resources
from featurestore.v1 import (
    asof_pb2,
    control_pb2,
    control_pb2_grpc,
    dataset_pb2,
    erasure_pb2,
    impact_pb2,
    offline_pb2,
    runtime_pb2,
    runtime_pb2_grpc,
    source_pb2,
    transfer_pb2,
)
from lineage.v1 import lineage_pb2, lineage_pb2_grpc
from training import Channel, TrainingJob, TrainingJobs
from training.v1 import training_pb2, training_pb2_grpc, transform_pb2, transform_pb2_grpc

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
        self.transform = transform_pb2_grpc.BatchTransformStub(self.channel)

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
    asked = (
        ("runtime", "ListRecords", runtime_pb2.ListRecordsRequest(feature_group_name="none")),
        ("control", "ListFeatureGroups", control_pb2.ListFeatureGroupsRequest()),
    )
    # While the server knows of no policy, whoever asks is answered.
    for caller, is_known in ((Client(address, None), False), (Client(address, token), True)):
        for service, method, request in asked:
            for _ in range(500):
                code = caller.code(service, method, request)
                if code != "UNAVAILABLE" and (code != "UNAUTHENTICATED") is is_known:
                    break
                time.sleep(0.02)
        caller.channel.close()


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


def builder(*names, group="people", **joined):
    """Options of a DatasetBuilder on a group, or on rows with a group joined."""
    spec = dataset_pb2.DatasetBuilderSpec()
    if joined:
        spec.rows.record_identifier_name, spec.rows.event_time_name = "id", "event_time"
        spec.joined.add(feature_group_name=group, feature_names=names, **joined)
    else:
        spec.feature_group.feature_group_name = group
        spec.feature_group.feature_names.extend(names)
    return spec


BUILD = control_pb2.BuildDatasetRequest(
    spec=control_pb2.DatasetSpec(
        selections=[control_pb2.FeatureSelection(feature_group_name="people")]
    )
)
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
    ("control", "TraceRecord", impact_pb2.TraceRecordRequest(feature_group_name="people")),
    ("control", "ListRecordsBehind", impact_pb2.ListRecordsBehindRequest(start="urn:fs:x")),
    ("control", "MoveSource", source_pb2.MoveSourceRequest(source="topic", positions={"0": 1})),
    ("control", "BuildDataset", [BUILD]),
    ("control", "ExplainDataset", [BUILD]),
    ("control", "WriteDataset", [BUILD]),
    ("control", "SaveDataset", [dataset_pb2.SaveDatasetRequest(manifest_json="{}")]),
    ("control", "LoadDataset", dataset_pb2.LoadDatasetRequest(fingerprint="abcd")),
    ("control", "RebuildDataset", dataset_pb2.RebuildDatasetRequest(fingerprint="abcd")),
    ("control", "ListDatasets", dataset_pb2.ListDatasetsRequest()),
    ("control", "DescribeDataset", dataset_pb2.DescribeDatasetRequest(fingerprint="abcd")),
    ("control", "CheckDataset", [dataset_pb2.CheckDatasetRequest(spec={"manifest_json": "{}"})]),
    ("control", "CreateDataset", [dataset_pb2.CreateDatasetRequest(spec=builder())]),
    ("control", "Maintain", offline_pb2.MaintainRequest(feature_group_name="people")),
    ("control", "GetRecordsAsOf", asof_pb2.GetRecordsAsOfRequest(feature_group_name="people")),
    ("control", "ReadHistory", offline_pb2.ReadHistoryRequest(feature_group_name="people")),
    (
        "control",
        "ListTableVersions",
        offline_pb2.ListTableVersionsRequest(feature_group_name="people"),
    ),
    ("control", "Restore", offline_pb2.RestoreRequest(feature_group_name="people")),
    (
        "control",
        "LoadRows",
        [
            transfer_pb2.LoadRowsRequest(
                spec=transfer_pb2.LoadSpec(
                    feature_group_name="people", key="k", feature_names=["id", "at"]
                )
            )
        ],
    ),
    ("control", "Backfill", transfer_pb2.BackfillRequest(feature_group_name="people")),
    (
        "control",
        "Backfill",
        transfer_pb2.BackfillRequest(feature_group_name="people", rebuild=True),
    ),
    ("lineage", "Record", lineage_pb2.RecordRequest()),
    ("lineage", "DescribeEntity", lineage_pb2.DescribeEntityRequest(uid="x")),
    ("lineage", "FindEntities", lineage_pb2.FindEntitiesRequest()),
    ("lineage", "QueryLineage", lineage_pb2.QueryLineageRequest(start="x")),
    ("lineage", "VerifyLog", lineage_pb2.VerifyLogRequest()),
    ("lineage", "SearchEntities", lineage_pb2.SearchEntitiesRequest()),
    ("lineage", "FindPaths", lineage_pb2.FindPathsRequest()),
    ("lineage", "CommonAncestors", lineage_pb2.CommonEntitiesRequest()),
    ("lineage", "CommonDescendants", lineage_pb2.CommonEntitiesRequest()),
    ("lineage", "DiffLineage", lineage_pb2.DiffLineageRequest()),
    ("lineage", "ExplainEntity", lineage_pb2.ExplainEntityRequest()),
    ("lineage", "QueryColumns", lineage_pb2.QueryColumnsRequest()),
    ("lineage", "ListInputFeatures", lineage_pb2.ListInputFeaturesRequest()),
    ("lineage", "ListFeatureUsers", lineage_pb2.ListFeatureUsersRequest()),
    ("lineage", "ListRuns", lineage_pb2.ListRunsRequest()),
    ("lineage", "ListEvents", lineage_pb2.ListEventsRequest()),
    ("lineage", "AddTags", lineage_pb2.AddTagsRequest()),
    ("lineage", "DeleteTags", lineage_pb2.DeleteTagsRequest()),
    ("lineage", "ListTags", lineage_pb2.ListTagsRequest()),
    ("lineage", "DescribeGraph", lineage_pb2.DescribeGraphRequest()),
    ("training", "CreateTrainingJob", training_pb2.CreateTrainingJobRequest()),
    ("training", "DescribeTrainingJob", training_pb2.DescribeTrainingJobRequest()),
    ("training", "ListTrainingJobs", training_pb2.ListTrainingJobsRequest()),
    ("training", "StopTrainingJob", training_pb2.StopTrainingJobRequest()),
    ("transform", "CreateTransformJob", transform_pb2.CreateTransformJobRequest()),
    ("transform", "DescribeTransformJob", transform_pb2.DescribeTransformJobRequest()),
    ("transform", "ListTransformJobs", transform_pb2.ListTransformJobsRequest()),
    ("transform", "StopTransformJob", transform_pb2.StopTransformJobRequest()),
    ("training", "ReadTrainingJobLogs", training_pb2.ReadTrainingJobLogsRequest()),
    ("training", "ReadTrainingJobMetrics", training_pb2.ReadTrainingJobMetricsRequest()),
    ("training", "ReadTrainingJobReport", training_pb2.ReadTrainingJobReportRequest()),
    ("training", "DescribeTrainingBudget", training_pb2.DescribeTrainingBudgetRequest()),
    ("training", "UpdateTrainingBudget", training_pb2.UpdateTrainingBudgetRequest()),
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


def test_a_load_cannot_write_a_denied_feature(client, allow, deny):
    table = pa.table({"id": ["z"], "at": ["2024-01-03T00:00:00Z"], "ssn": ["x"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    part = transfer_pb2.LoadRowsRequest
    allowed, naming = (
        part(
            spec=transfer_pb2.LoadSpec(
                feature_group_name="people", key="denied", feature_names=names
            )
        )
        for names in (["id", "at"], ["id", "at", "ssn"])
    )
    rows, end = part(rows=sink.getvalue().to_pybytes()), part(end=1)
    for action in ("sagemaker:PutRecord", "featureline:LoadRows"):
        ada = client(allow("*"), deny(action, "people/feature/ssn"))
        for messages, code in [
            ([naming, rows, end], "PERMISSION_DENIED"),
            ([allowed, naming, rows, end], "PERMISSION_DENIED"),
            ([allowed, rows, end], "INVALID_ARGUMENT"),  # not the columns that were looked at
            ([rows, end], "INVALID_ARGUMENT"),
        ]:
            assert ada.code("control", "LoadRows", iter(messages)) == code
    backfills = client(allow("featureline:Backfill", "people"))
    request = transfer_pb2.BackfillRequest(feature_group_name="people")
    assert backfills.code("control", "Backfill", request) == "OK"
    request.rebuild = True
    assert backfills.code("control", "Backfill", request) == "PERMISSION_DENIED"


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


ANY_DATASET = {
    "Effect": "Allow",
    "Action": "featureline:*",
    "Resource": "arn:aws:sagemaker:*:*:dataset/*",
}
SPINE = pa.table({"id": ["a"], "event_time": ["2024-02-01T00:00:00Z"]})


@pytest.fixture
def connect(server, database, put):
    """Connect a store whose token has statements."""
    opened = []

    def made(*statements):
        name = f"s{len(opened)}"
        put(name, *statements)
        token = database.create_token("bob", [name]).text
        _until_known(server.address, token)
        opened.append(featurestore.connect(server.address, token=token))
        return opened[-1]

    yield made
    for store in opened:
        store.close()


def test_no_verb_of_datasets_shows_a_hidden_feature(connect, allow, deny, home, tmp_path):
    whole = connect({"Effect": "Allow", "Action": "*", "Resource": "*"})
    with_all = whole.dataset(SPINE, ["people"])
    with_all.save()
    bob = connect(
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        deny("featureline:ReadHistory", "people/feature/ssn"),
    )
    out = tmp_path / "o.parquet"

    # Left out where no feature is named.
    assert bob.dataset(SPINE, ["people"]).table.schema.names == ["id", "event_time", "age"]
    written = bob.write_dataset(SPINE, ["people"], out, memory_limit="64MB")
    assert list(written.manifest["columns"]) == ["id", "event_time", "age"]
    assert "ssn" not in bob.explain_dataset(SPINE, ["people"]).groups[0].columns_read
    assert bob.history("people").schema.names[:3] == ["id", "at", "age"]
    moments = [dt.datetime(2024, 2, 1, tzinfo=dt.UTC)]
    assert bob.get_as_of("people", SPINE["id"], moments).schema.names == ["age"]
    with pytest.raises(AccessDenied, match="ssn"):
        bob.get_as_of("people", SPINE["id"], moments, features=["ssn"])
    assert bob.create_dataset("people").to_arrow().schema.names == ["id", "at", "age"]
    rows = bob.create_dataset(SPINE, None, "id", "event_time").with_feature_group("people")
    assert rows.to_arrow().schema.names == ["id", "event_time", "id.1", "at.1", "age.1"]
    [kept] = bob.list_datasets()
    assert kept.fingerprint == with_all.fingerprint
    assert set(kept.statistics) == {"id", "event_time", "age"}
    assert set(bob.describe_dataset(kept.fingerprint).statistics) == {"id", "event_time", "age"}
    assert set(whole.describe_dataset(kept.fingerprint).statistics) > {"ssn"}

    # Refused where it is named, compared, or part of what is kept.
    naming = [FeatureSelection("people", ("ssn",))]
    joined = bob.create_dataset(SPINE, None, "id", "event_time")
    for verb in (
        lambda: bob.dataset(SPINE, naming),
        lambda: bob.write_dataset(SPINE, naming, out, memory_limit="64MB"),
        lambda: bob.explain_dataset(SPINE, naming),
        lambda: bob.history("people", features=["age", "ssn"]),
        lambda: bob.create_dataset("people", included_feature_names=["ssn"]).to_arrow(),
        lambda: joined.with_feature_group("people", feature_name_in_target="ssn").to_arrow(),
        lambda: (
            bob.create_dataset("people")
            .with_feature_group("other", target_feature_name_in_base="ssn")
            .to_arrow()
        ),
        lambda: bob.load_dataset(kept.fingerprint),
        lambda: bob.load_dataset(kept.fingerprint[:6]),
        lambda: bob.rebuild_dataset(kept.fingerprint),
        lambda: bob.check_dataset(with_all),
    ):
        with pytest.raises(AccessDenied, match="ssn") as refused:
            verb()
        assert refused.value.facts["principal"] == "bob"
    mine = bob.dataset(SPINE, ["people"])
    assert bob.check_dataset(mine).passed
    mine.save()
    assert bob.load_dataset(mine.fingerprint) == mine
    assert bob.rebuild_dataset(mine.fingerprint).fingerprint == mine.fingerprint

    # What is kept outlives its group, and so does what is denied.
    whole.delete_feature_group("people")
    with pytest.raises(AccessDenied, match="ssn"):
        bob.load_dataset(kept.fingerprint)
    assert whole.load_dataset(kept.fingerprint) == with_all
    denied = [line for line in audited(home) if line["outcome"] == "PERMISSION_DENIED"]
    assert {"featureline:ReadDataset", "featureline:RebuildDataset"} <= {
        line["action"] for line in denied
    }
    assert {line["resource"].rpartition("/")[2] for line in denied} == {"ssn"}


def test_a_manifest_cannot_name_windows_over_a_hidden_feature(connect, allow, deny):
    whole = connect({"Effect": "Allow", "Action": "*", "Resource": "*"})
    group = WindowedGroup(
        "recent", "people", "id", [WindowedFeature("last", of="ssn", over=dt.timedelta(days=99))]
    )
    whole.create_windowed_group(group)
    made = whole.dataset(SPINE, ["recent"])
    made.save()
    bob = connect(allow("*"), ANY_DATASET, deny("*", "people/feature/ssn"))

    # Who made the group might read the feature; bob may read the group.
    assert bob.dataset(SPINE, ["recent"]) == bob.load_dataset(made.fingerprint) == made
    assert bob.check_dataset(made).passed
    assert bob.rebuild_dataset(made.fingerprint) == made

    other = json.loads(json.dumps(made.manifest))
    other["selections"][0]["windows"]["Description"] = "of my own"
    forged = replace(made, manifest=other | {"fingerprint": fingerprint_of(other)})
    with pytest.raises(AccessDenied, match="'ssn' of people"):
        bob.check_dataset(forged)
    bob.save_dataset(forged)
    for verb in (bob.load_dataset, bob.rebuild_dataset):
        with pytest.raises(AccessDenied, match="'ssn' of people"):
            verb(forged.fingerprint)


def test_a_hidden_event_time_hides_the_history(connect, allow, deny):
    bob = connect(allow("*"), deny("*", "people/feature/at"))
    with pytest.raises(AccessDenied, match="'at'"):
        bob.history("people")
    ann = connect(allow("*"), deny("*", "people/feature/id"))
    assert ann.history("people").schema.names[:3] == ["at", "ssn", "age"]
    with pytest.raises(AccessDenied, match="'id'"):
        ann.create_dataset(SPINE, None, "id", "event_time").with_feature_group("people").build()


def test_a_permission_on_one_dataset_or_group_is_on_no_other(connect, allow):
    whole = connect({"Effect": "Allow", "Action": "*", "Resource": "*"})
    first = whole.dataset(SPINE, ["people[age]"])
    second = whole.dataset(SPINE, ["people[ssn]"])
    first.save()
    second.save()
    kept = "arn:aws:sagemaker:*:*:dataset/"
    reads = ["featureline:ReadDataset", "featureline:RebuildDataset"]
    bob = connect(
        {"Effect": "Allow", "Action": reads, "Resource": kept + first.fingerprint},
        allow("sagemaker:DescribeFeatureGroup"),
        allow(["featureline:Maintain", "featureline:CreateDataset"], "other"),
    )

    assert bob.load_dataset(first.fingerprint) == first
    for verb in (
        lambda: bob.load_dataset(second.fingerprint),
        lambda: bob.rebuild_dataset(first.fingerprint),  # which builds from a group
        bob.list_datasets,
        lambda: bob.describe_dataset(first.fingerprint),
        lambda: bob.save_dataset(first),
        lambda: bob.check_dataset(first),
        lambda: bob.maintain("people"),
        lambda: bob.restore("other", 0),
        lambda: bob.versions("other"),
        lambda: bob.create_dataset("other").with_feature_group("people").build(),
    ):
        with pytest.raises(AccessDenied):
            verb()
    assert bob.maintain("other").files_before == 0
    assert len(bob.create_dataset("other").build().table) == 0
    ann = connect(
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": reads, "Resource": kept + first.fingerprint},
    )
    with pytest.raises(AccessDenied):
        ann.load_dataset(first.fingerprint[:8])
    assert ann.load_dataset(second.fingerprint[:8]) == second


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
    # A line is written when its call has ended, a moment after its answer.
    assert sorted((line["principal"], line["action"], line["outcome"]) for line in lines) == [
        ("", "featureline:Authenticate", "UNAUTHENTICATED"),
        ("ada", "sagemaker:DescribeFeatureGroup", "NOT_FOUND"),
        ("ada", "sagemaker:DescribeFeatureGroup", "OK"),
        ("ada", "sagemaker:PutRecord", "PERMISSION_DENIED"),
    ]
    assert {line["address"] for line in lines if line["action"] == "sagemaker:PutRecord"} == {
        "127.0.0.1"
    }
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


def test_each_question_to_lineage_is_denied_or_allowed_by_itself_and_logged(client, allow, home):
    calls = [call for call in EVERY_CALL if call[0] == "lineage"]
    graph = arn("lineage-group", "*")
    nobody = client(allow("*"))  # everything on feature groups, nothing on the graph
    ada = client({"Effect": "Allow", "Action": "*", "Resource": graph})
    one = client({"Effect": "Allow", "Action": "featureline:DiffLineage", "Resource": graph})
    (home / "audit.log").unlink(missing_ok=True)
    for call in calls:
        assert nobody.code(*asked(call)) == "PERMISSION_DENIED", call[1]
        assert ada.code(*asked(call)) in ("OK", "NOT_FOUND", "INVALID_ARGUMENT"), call[1]
        assert (one.code(*asked(call)) == "PERMISSION_DENIED") is (call[1] != "DiffLineage")
    lines = [line for line in audited(home) if line["resource"].endswith("lineage-group")]
    actions = {action for call in calls for action, _ in action_and_resources(call[1], call[2])}
    outcomes = {line["action"] for line in lines if line["outcome"] == "PERMISSION_DENIED"}
    assert outcomes == actions
    assert {line["action"] for line in lines if line["outcome"] != "PERMISSION_DENIED"} == actions


def test_the_log_of_a_job_is_followed_by_who_may_read_that_job_and_logged_when_it_ends(
    client, home
):
    job = TrainingJob(
        training_job_name="mine",
        algorithm_name="xgboost",
        input_data_config=[Channel(channel_name="train", path="rows.parquet")],
    )
    mine = arn("training-job", "mine")
    reads = {"Effect": "Allow", "Action": "featureline:ReadTrainingJobLogs", "Resource": mine}
    ada = client(reads)
    (home / "audit.log").unlink(missing_ok=True)
    with TrainingJobs(home) as jobs, closing_claim(jobs.create(job, threads=1)):
        jobs.folder("mine").log.write_text("one\n")
        asked = training_pb2.ReadTrainingJobLogsRequest(training_job_name="mine", follow=True)
        replies = ada("training", "ReadTrainingJobLogs", asked)
        assert next(replies).data == b"one\n"
        replies.cancel()
        for name, action in (("yours", "ReadTrainingJobLogs"), ("mine", "ReadTrainingJobMetrics")):
            request = getattr(training_pb2, f"{action}Request")(training_job_name=name)
            assert ada.code("training", action, request) == "PERMISSION_DENIED"
        for _ in range(500):
            lines = audited(home)
            if len(lines) == 3:
                break
            time.sleep(0.02)
    denied = [(line["action"], line["resource"]) for line in lines if "DENIED" in line["outcome"]]
    assert denied == [
        ("featureline:ReadTrainingJobLogs", arn("training-job", "yours")),
        ("featureline:ReadTrainingJobMetrics", mine),
    ]
    (line,) = [line for line in lines if "DENIED" not in line["outcome"]]
    assert (line["action"], line["resource"], line["outcome"]) == (
        "featureline:ReadTrainingJobLogs",
        mine,
        "CANCELLED",
    )


@contextmanager
def closing_claim(claim):
    yield
    claim.release()


def test_where_a_job_writes_needs_a_permission_of_its_own(client):
    job = training_pb2.CreateTrainingJobRequest(training_job_name="mine", algorithm_name="xgboost")
    job.tensor_board_output_config.path = "/data/boards/../secret"
    boards = arn("path", "/data/boards/*")
    ada = client(
        {
            "Effect": "Allow",
            "Action": "sagemaker:CreateTrainingJob",
            "Resource": arn("training-job", "*"),
        },
        {"Effect": "Allow", "Action": "featureline:WritePath", "Resource": boards},
    )
    assert ada.code("training", "CreateTrainingJob", job) == "PERMISSION_DENIED"
    job.tensor_board_output_config.path = "/data/boards/mine"
    assert ada.code("training", "CreateTrainingJob", job) == "INVALID_ARGUMENT"  # it has no data


def test_a_move_of_a_source_names_the_token_and_needs_its_own_action(client, allow, home):
    ada = client({**allow("featureline:MoveSource"), "Resource": arn("source", "topic")})
    request = source_pb2.MoveSourceRequest(source="topic", positions={"0": 5})
    assert dict(ada("control", "MoveSource", request).next) == {"0": 5}
    assert audited(home)[-1]["action"] == "featureline:MoveSource"
    with lineage.open(home / "lineage.db") as graph:
        (seek,) = graph.find(type="Seek")
    assert seek.properties["moved"] == {"0": {"from": None, "to": 5}}
    assert str(seek.properties["by"]).endswith(" of ada")
    other = source_pb2.MoveSourceRequest(source="orders", positions={"0": 5})
    assert ada.code("control", "MoveSource", other) == "PERMISSION_DENIED"
    bob = client(
        {**allow("featureline:PutSourcePosition"), "Resource": arn("source", "*")},
    )
    assert bob.code("control", "MoveSource", request) == "PERMISSION_DENIED"


def test_a_revoked_token_is_refused_within_a_second(client, allow, database):
    ada = client(allow("*"))
    assert ada.get().record.values
    [token] = [entry for entry in database.tokens() if entry.policies == ("p0",)]
    database.revoke_token(token.id)
    time.sleep(1.0)
    request = runtime_pb2.GetRecordRequest(feature_group_name="people")
    assert ada.code("runtime", "GetRecord", request) == "UNAUTHENTICATED"
