"""The check of calls: every method has its permission, and denied features stay inside."""

from __future__ import annotations

import json

import pytest
from google.protobuf import descriptor_pool, message_factory

from featurestore import AccessDenied, FeatureGroup, Unauthenticated, feature_definitions
from featurestore.registry import Registry
from featurestore.server.access import Access
from featurestore.server.permission import ACTIONS, action_and_resources
from featurestore.v1 import control_pb2, runtime_pb2, window_pb2
from lineage.v1 import lineage_pb2
from training.v1 import training_pb2, transform_pb2

SERVICES = {
    "FeatureStoreRuntime": runtime_pb2,
    "FeatureStore": control_pb2,
    "WindowedFeatures": window_pb2,
    "Lineage": lineage_pb2,
    "Training": training_pb2,
    "BatchTransform": transform_pb2,
}
METHODS = [
    (name, method)
    for name, module in SERVICES.items()
    for method in module.DESCRIPTOR.services_by_name[name].methods
]
PEOPLE = FeatureGroup(
    "people",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [("id", "String"), ("at", "String"), ("ssn", "String"), ("age", "Integral")]
    ),
    tags={"team": "ops"},
)


@pytest.fixture
def registry(home):
    home.mkdir(exist_ok=True)
    opened = Registry(home / "meta.db")
    opened.create(PEOPLE, now=1, also=lambda entry: None)
    yield opened
    opened.close()


@pytest.fixture
def access(guard, registry):
    return Access(guard, registry)


@pytest.fixture
def caller_with(database, guard, put):
    def made(*statements):
        put("own", *statements)
        token = database.create_token("ada", ["own"]).text
        guard._next_look = 0.0
        return guard.authenticate(token, "10.0.0.7")

    return made


def get(*names, group="people"):
    return runtime_pb2.GetRecordRequest(feature_group_name=group, feature_names=names)


def put_request(*names, group="people"):
    request = runtime_pb2.PutRecordRequest(feature_group_name=group)
    for name in names:
        request.record.values.add(feature_name=name).value.string_value = "x"
    return request


def filled(message):
    """A message with something in every field, as deep as it goes."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and message.WhichOneof(field.containing_oneof.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            if field.message_type is None:
                value.extend(["x"] if field.type == field.TYPE_STRING else [])
            else:
                filled(value.add())
        elif field.message_type is not None:
            if field.message_type.full_name.startswith("google."):
                continue
            value.SetInParent()
            if field.message_type is not message.DESCRIPTOR:
                filled(value)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, "x")
    return message


@pytest.mark.parametrize(
    ("service", "method"), METHODS, ids=[f"{service}.{m.name}" for service, m in METHODS]
)
def test_every_method_of_every_service_has_its_permissions(service, method):
    request = message_factory.GetMessageClass(method.input_type)()
    if method.name == "Search":
        needs = action_and_resources(method.name, request)
    else:
        needs = action_and_resources(method.name, filled(request))
    assert needs
    for action, resource in needs:
        assert action in ACTIONS
        assert resource.startswith("arn:aws:sagemaker:")


def test_no_two_services_have_a_method_of_one_name():
    names = [method.name for _, method in METHODS]
    assert len(set(names)) == len(names)


def test_every_action_is_asked_for_by_some_call():
    asked = set()
    for _, method in METHODS:
        request = message_factory.GetMessageClass(method.input_type)()
        if method.name != "Search":
            filled(request)
        asked |= {action for action, _ in action_and_resources(method.name, request)}
        if method.name == "CreateTrainingJob":
            request.input_data_config[0].dataset = "f"
            asked |= {action for action, _ in action_and_resources(method.name, request)}
        if method.name == "CreateTransformJob":
            request.transform_output.path = "/answers"
            asked |= {action for action, _ in action_and_resources(method.name, request)}
        if method.name == "ReplayModel":
            request.keep = True
            asked |= {action for action, _ in action_and_resources(method.name, request)}
        if method.name == "Backfill":
            request.rebuild = not request.rebuild
            asked |= {action for action, _ in action_and_resources(method.name, request)}
    assert asked == ACTIONS


def test_a_method_nobody_knows_is_refused(access, caller_with, allow):
    caller = caller_with(allow("*"))
    with pytest.raises(AccessDenied, match="no permission is defined"):
        action_and_resources("Unheard", get())
    with pytest.raises(AccessDenied, match="no permission is defined"):
        access.check("Unheard", get(), caller)


def test_while_the_guard_is_open_everything_passes(access):
    access.check("GetRecord", get(), None)
    assert access.entries("BatchGetRecord", None) is None


def test_once_closed_nobody_passes_without_a_caller(access, caller_with, allow):
    caller_with(allow("*"))
    with pytest.raises(Unauthenticated):
        access.check("GetRecord", get(), None)
    with pytest.raises(Unauthenticated):
        access.entries("BatchGetRecord", None)


@pytest.mark.parametrize(
    ("service", "method"), METHODS, ids=[f"{service}.{m.name}" for service, m in METHODS]
)
def test_no_call_passes_for_a_token_that_may_do_nothing(
    access, caller_with, allow, service, method
):
    caller = caller_with(allow("s3:GetObject"))
    request = message_factory.GetMessageClass(method.input_type)()
    if method.name != "Search":
        filled(request)
    if method.name in ("BatchGetRecord", "BatchWriteRecord"):
        entries = access.entries(method.name, caller)
        for entry in [*getattr(request, "identifiers", ()), *getattr(request, "entries", ())]:
            with pytest.raises(AccessDenied):
                entries.check(entry)
        if method.name == "BatchGetRecord":
            return
    with pytest.raises(AccessDenied):
        access.check(method.name, request, caller)


def test_a_read_comes_without_hidden_features_unless_it_names_them(
    access, caller_with, allow, deny
):
    caller = caller_with(allow("*"), deny("sagemaker:GetRecord", "people/feature/ssn"))
    request = get()
    access.check("GetRecord", request, caller)
    assert list(request.feature_names) == ["id", "at", "age"]
    request = get("age")
    access.check("GetRecord", request, caller)
    assert list(request.feature_names) == ["age"]
    with pytest.raises(AccessDenied, match="feature 'ssn' of people") as refused:
        access.check("GetRecord", get("age", "ssn"), caller)
    assert refused.value.facts["resource"].endswith("people/feature/ssn")


def test_a_group_whose_every_feature_is_hidden_cannot_be_read(access, caller_with, allow, deny):
    caller = caller_with(allow("*"), deny("*", "people/feature/*"))
    with pytest.raises(AccessDenied):
        access.check("GetRecord", get(), caller)


def test_a_resource_name_in_place_of_a_name_does_not_get_round_a_deny(
    access, caller_with, allow, deny
):
    caller = caller_with(allow("*"), deny("*", "people/feature/ssn"), deny("*", "secret"))
    full = "arn:aws:sagemaker:eu-west-1:1:feature-group/"
    request = get(group=f"{full}people")
    access.check("GetRecord", request, caller)
    assert "ssn" not in request.feature_names
    assert request.feature_names
    with pytest.raises(AccessDenied):
        access.check("GetRecord", get(group=f"{full}secret"), caller)


def test_writes_of_a_denied_feature_are_refused(access, caller_with, allow, deny):
    caller = caller_with(allow("*"), deny("sagemaker:PutRecord", "people/feature/ssn"))
    access.check("PutRecord", put_request("id", "at"), caller)
    with pytest.raises(AccessDenied, match="leave the feature out"):
        access.check("PutRecord", put_request("id", "at", "ssn"), caller)
    update = runtime_pb2.UpdateRecordRequest(feature_group_name="people")
    update.features.add(feature_name="ssn")
    with pytest.raises(AccessDenied):
        access.check("UpdateRecord", update, caller)
    request = get()
    access.check("GetRecord", request, caller)
    assert list(request.feature_names) == []  # only writes were denied


def test_entries_are_refused_one_by_one_and_logged_once(access, caller_with, allow, deny, home):
    caller = caller_with(allow("*", "people"), deny("*", "people/feature/ssn"))
    entries = access.entries("BatchWriteRecord", caller)
    entries.check(put_request("id"))
    for _ in range(3):
        with pytest.raises(AccessDenied):
            entries.check(put_request("id", "ssn"))
        with pytest.raises(AccessDenied):
            entries.check(put_request("id", group="other"))
    entries.check(put_request("age"))
    lines = [json.loads(line) for line in (home / "audit.log").read_text().splitlines()]
    assert [line["resource"].rpartition("group/")[2] for line in lines] == [
        "people/feature/ssn",
        "other",
    ]
    assert {line["outcome"] for line in lines} == {"PERMISSION_DENIED"}


def test_an_entry_of_a_batch_read_is_narrowed(access, caller_with, allow, deny):
    caller = caller_with(allow("*"), deny("sagemaker:GetRecord", "people/feature/ssn"))
    entry = runtime_pb2.BatchGetRecordRequest.Identifier(feature_group_name="people")
    access.entries("BatchGetRecord", caller).check(entry)
    assert list(entry.feature_names) == ["id", "at", "age"]


def test_features_of_a_record_are_there_for_conditions(access, caller_with, allow):
    only = {"ForAllValues:StringEquals": {"featureline:FeatureNames": ["id", "age"]}}
    caller = caller_with(allow("*", "people", Condition=only))
    access.check("GetRecord", get("age"), caller)
    access.check("PutRecord", put_request("id", "age"), caller)
    for method, request in (("GetRecord", get()), ("PutRecord", put_request("id", "ssn"))):
        with pytest.raises(AccessDenied):
            access.check(method, request, caller)
    entries = access.entries("BatchWriteRecord", caller)
    entries.check(put_request("id"))
    with pytest.raises(AccessDenied):
        entries.check(put_request("ssn"))


def test_tags_of_the_group_are_there_for_conditions(access, caller_with, allow):
    caller = caller_with(
        allow("*", Condition={"StringEquals": {"sagemaker:ResourceTag/team": "ops"}})
    )
    access.check("GetRecord", get(), caller)
    describe = control_pb2.DescribeFeatureGroupRequest(feature_group_name="people")
    access.check("DescribeFeatureGroup", describe, caller)
    with pytest.raises(AccessDenied):
        access.check("GetRecord", get(group="unknown"), caller)


def test_tags_of_a_new_group_are_there_for_conditions(access, caller_with, allow):
    caller = caller_with(
        allow("*", Condition={"StringEquals": {"aws:RequestTag/team": "ops"}}),
    )
    request = control_pb2.CreateFeatureGroupRequest()
    request.feature_group.feature_group_name = "new"
    with pytest.raises(AccessDenied):
        access.check("CreateFeatureGroup", request, caller)
    request.feature_group.tags.add(key="team", value="ops")
    access.check("CreateFeatureGroup", request, caller)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("ListRecords", runtime_pb2.ListRecordsRequest), ("Verify", control_pb2.VerifyRequest)],
)
def test_identifiers_are_not_listed_where_the_identifier_is_hidden(
    access, caller_with, allow, deny, method, kind
):
    caller = caller_with(allow("*"), deny("sagemaker:GetRecord", "people/feature/id"))
    with pytest.raises(AccessDenied, match="feature 'id'"):
        access.check(method, kind(feature_group_name="people"), caller)


def test_a_dataset_is_built_without_hidden_features(access, caller_with, allow, deny):
    caller = caller_with(allow("*"), deny("*", "people/feature/ssn"))
    request = control_pb2.BuildDatasetRequest()
    request.spec.selections.add(feature_group_name="people")
    access.check("BuildDataset", request, caller)
    assert list(request.spec.selections[0].feature_names) == ["age"]
    request.spec.selections.add(feature_group_name="people", feature_names=["ssn"])
    with pytest.raises(AccessDenied):
        access.check("BuildDataset", request, caller)


def test_a_feature_added_later_is_denied_from_its_first_moment(
    access, caller_with, allow, deny, registry
):
    caller = caller_with(allow("*"), deny("*", "people/feature/income"))
    access.check("GetRecord", get(), caller)
    registry.update(
        "people",
        lambda group: group.with_features(feature_definitions([("income", "Fractional")])),
        now=2,
        also=lambda entry: None,
    )
    with pytest.raises(AccessDenied):
        access.check("GetRecord", get("income"), caller)
    request = get()
    access.check("GetRecord", request, caller)
    assert "income" not in request.feature_names


def test_pools_have_no_service_that_was_forgotten():
    pool = descriptor_pool.Default()
    for module in (runtime_pb2, control_pb2, lineage_pb2, training_pb2, transform_pb2):
        for name in module.DESCRIPTOR.services_by_name:
            assert name in SERVICES
            assert pool.FindServiceByName(f"{module.DESCRIPTOR.package}.{name}")


def transform(source="people", out="people", model="m"):
    request = transform_pb2.CreateTransformJobRequest(transform_job_name="t", model_name=model)
    request.transform_input.feature_group = source
    request.transform_output.feature_group = out
    return request


def test_a_transform_needs_every_feature_of_the_groups_it_reads_and_writes(
    access, caller_with, allow, deny
):
    everything = allow("*") | {"Resource": "*"}
    caller = caller_with(everything, deny("sagemaker:GetRecord", "people/feature/ssn"))
    with pytest.raises(AccessDenied, match="feature 'ssn' of people"):
        access.check("CreateTransformJob", transform(out="others"), caller)
    access.check("CreateTransformJob", transform(source="others"), caller)
    caller = caller_with(everything, deny("sagemaker:PutRecord", "people/feature/ssn"))
    with pytest.raises(AccessDenied, match="feature 'ssn' of people"):
        access.check("CreateTransformJob", transform(source="others"), caller)


def test_the_paths_of_a_transform_are_those_it_will_use():
    request = transform(model="/models/../secret/m")
    request.transform_input.path = "/data/in/../../etc/passwd"
    request.transform_output.path = "file:///out"
    resources = [
        resource.partition(":path/")[2]
        for _, resource in action_and_resources("CreateTransformJob", request)
        if ":path/" in resource
    ]
    assert resources == ["/secret/m", "/etc/passwd", "/out"]
