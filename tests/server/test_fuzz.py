"""Nothing that a client can send ends the server, or is answered as the server's own fault."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

import featurestore
from featurestore.auth import AccessDatabase, Guard
from featurestore.v1 import control_pb2, record_pb2, runtime_pb2
from lineage.v1 import lineage_pb2
from tests.server.conftest import Serving, installed
from tests.server.http2 import Connection, message
from training.v1 import training_pb2

SERVICES = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (runtime_pb2, "FeatureStoreRuntime"),
        (control_pb2, "FeatureStore"),
        (lineage_pb2, "Lineage"),
        (training_pb2, "Training"),
    )
]
METHODS = [method for service in SERVICES for method in service.methods]
# What is made at random must not reach those that would do as told to the group of all tests: a
# put with a few bytes more is also a good request to delete its group.
HARMLESS = [m for m in METHODS if m.name not in {"DeleteFeatureGroup", "UpdateFeatureGroup"}]
# What a client may be told about a request of its own making.
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
PUT = "/featurestore.v1.FeatureStoreRuntime/PutRecord"
GET = "/featurestore.v1.FeatureStoreRuntime/GetRecord"

Call = Callable[..., grpc.StatusCode]


@pytest.fixture(scope="module")
def attacked(new_server, weather) -> Iterator[Any]:
    """One server for all that is sent; it must be well at the end."""
    serving = new_server()
    with featurestore.connect(serving.address) as store:
        store.create_feature_group(weather)
        store.put("weather", _WELL)
        yield serving
        assert store.get("weather", "well") == _WELL, "the server did not survive"
        assert store.graph.verify().intact


@pytest.fixture(scope="module")
def guarded(loop, front, weather, tmp_path_factory) -> Iterator[tuple[Any, str]]:
    """A server with a guard, which looks into messages before they are answered, and a token.

    Tokens and policies make it look everywhere: at names, features, tags, and each entry.
    """
    home = tmp_path_factory.mktemp("guarded")
    any_resource = {"Resource": "*"}
    statements = [
        {"Effect": "Allow", "Action": "*", **any_resource},
        {
            "Effect": "Deny",
            "Action": "sagemaker:*",
            "Resource": "arn:aws:sagemaker:*:*:feature-group/*/feature/secret-*",
        },
        {
            "Effect": "Deny",
            "Action": "sagemaker:*",
            **any_resource,
            "Condition": {
                "StringLike": {"aws:ResourceTag/owner": "nobody*"},
                "ForAnyValue:StringEquals": {"aws:TagKeys": ["forbidden"]},
            },
        },
    ]
    with contextlib.closing(AccessDatabase(home)) as database:
        database.put_policy("all", json.dumps({"Statement": statements}))
        token = database.create_token("ada", ["all"]).text
    guard = Guard.open(home)
    serving = Serving(loop, home, installed(front), guard=guard)
    serving.store.create_feature_group(weather)
    serving.store.put("weather", _WELL)
    yield serving, token
    assert serving.store.get("weather", "well") == _WELL
    serving.stop()
    guard.close()


@pytest.fixture(scope="module")
def guarded_call(guarded) -> Iterator[Call]:
    """The same as `call`, with a token, behind a guard."""
    serving, token = guarded
    with grpc.insecure_channel(serving.address) as channel:
        metadata = [("authorization", f"Bearer {token}")]

        def send(method: str, *messages: bytes, streams: bool = False) -> grpc.StatusCode:
            options: dict[str, Any] = {"timeout": 20, "metadata": metadata}
            try:
                if streams:
                    list(channel.stream_stream(method)(iter(messages), **options))
                else:
                    channel.unary_unary(method)(messages[0], **options)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        yield send


@pytest.fixture(scope="module")
def call(attacked) -> Iterator[Call]:
    """Send bytes to a method and return the status of the answer."""
    with grpc.insecure_channel(attacked.address) as channel:

        def send(method: str, *messages: bytes, streams: bool = False) -> grpc.StatusCode:
            try:
                if streams:
                    list(channel.stream_stream(method)(iter(messages), timeout=20))
                else:
                    channel.unary_unary(method)(messages[0], timeout=20)
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        yield send


@pytest.fixture(autouse=True)
def no_faults_in_the_log(caplog):
    """An error in the server's log is a fault of the server."""
    caplog.set_level(logging.ERROR)
    yield
    assert [record.getMessage() for record in caplog.records] == []


# -- bytes ------------------------------------------------------------------------------------

_DAMAGED = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda data, cut, extra: data[:cut] + extra + data[cut:],
        st.just(
            runtime_pb2.PutRecordRequest(
                feature_group_name="weather",
                record=record_pb2.Record(
                    values=[
                        record_pb2.FeatureValue(
                            feature_name="origin", value=record_pb2.Value(string_value="JFK")
                        )
                    ]
                ),
            ).SerializeToString()
        ),
        st.integers(0, 40),
        st.binary(min_size=1, max_size=4),
    ),
)


@settings(max_examples=300)
@given(method=st.sampled_from(HARMLESS), data=_DAMAGED)
def test_bytes_that_are_no_message(call, method, data):
    assert _send(call, method, data) in ALLOWED


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_malformed_bytes_are_an_invalid_argument_of_every_method(call, guarded_call, method):
    if method.input_type.fields or method.client_streaming:
        assert _send(call, method, b"\xff\xff\xff") is grpc.StatusCode.INVALID_ARGUMENT
        assert _send(guarded_call, method, b"\xff\xff\xff") is grpc.StatusCode.INVALID_ARGUMENT


@settings(max_examples=100)
@given(method=st.sampled_from(HARMLESS), data=_DAMAGED)
def test_bytes_that_are_no_message_behind_a_guard(guarded_call, method, data):
    assert _send(guarded_call, method, data) in ALLOWED | {grpc.StatusCode.PERMISSION_DENIED}


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x02\xff\xfe",  # a group's name that is no UTF-8
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        b"\x12\x08\x0a\x06\x0a\x02\xc3\x28",  # a feature's name that is no UTF-8
        b"\x0b" * 200,  # groups of the old form, never closed
    ],
)
def test_invalid_utf8_and_lengths(call, data):
    assert call(PUT, data) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_broken_message_in_the_middle_of_a_stream(call, reading):
    good = _put(reading("before")).SerializeToString()

    status = call(
        "/featurestore.v1.FeatureStoreRuntime/StreamRecords", good, b"\xff\xff", good, streams=True
    )

    assert status is grpc.StatusCode.INVALID_ARGUMENT


# -- messages ---------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    ["weather", "origin", "hour", "temp", "wind", "JFK", "2013-01-01T06:00:00Z", "", "train"]
)
_TEXTS = st.one_of(_NAMES, st.text(max_size=8))
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=16),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_ENUM: st.integers(-1, 9),
}


@st.composite
def _messages(draw: Any, descriptor: Descriptor, depth: int = 0) -> Any:
    """A message with any fields set to anything."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE and depth > 4:
            continue
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).clear()
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            made = draw(_messages(field.message_type, depth + 1))
            if field.is_repeated:
                getattr(message, field.name).append(made)
            else:
                getattr(message, field.name).CopyFrom(made)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(_SCALARS[field.type], max_size=2)))
        else:
            setattr(message, field.name, draw(_SCALARS[field.type]))
    return message


@settings(max_examples=300)
@given(data=st.data(), method=st.sampled_from(HARMLESS))
def test_messages_of_anything(call, data, method):
    message = data.draw(_messages(method.input_type))

    assert _send(call, method, message.SerializeToString()) in ALLOWED


@settings(max_examples=200)
@given(data=st.data(), method=st.sampled_from(HARMLESS))
def test_messages_of_anything_behind_a_guard(guarded_call, data, method):
    message = data.draw(_messages(method.input_type))

    status = _send(guarded_call, method, message.SerializeToString())

    assert status in ALLOWED | {grpc.StatusCode.PERMISSION_DENIED}


_VALUES = _messages(record_pb2.Value.DESCRIPTOR)


@settings(max_examples=200)
@given(
    values=st.lists(
        st.tuples(st.sampled_from(["origin", "hour", "temp", "wind", "note", "other"]), _VALUES),
        max_size=7,
    )
)
def test_records_of_any_values(call, attacked, values):
    message = runtime_pb2.PutRecordRequest(feature_group_name="weather")
    for name, value in values:
        message.record.values.add(feature_name=name, value=value)

    status = call(PUT, message.SerializeToString())

    names = [name for name, _ in values]
    if len(set(names)) != len(names) or "other" in names or not {"origin", "hour"} <= set(names):
        assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert status in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


KINDS = {
    "string_value": record_pb2.Value(string_value="x"),
    "integral_value": record_pb2.Value(integral_value=2**62),
    "fractional_value": record_pb2.Value(fractional_value=0.5),
    "string_list": record_pb2.Value(string_list={"values": ["x"]}),
    "integral_list": record_pb2.Value(integral_list={"values": [1]}),
    "fractional_list": record_pb2.Value(fractional_list={"values": [1.0]}),
    "empty list": record_pb2.Value(string_list={}),
    "nan": record_pb2.Value(fractional_value=math.nan),
    "none": record_pb2.Value(),
}
TAKEN = {
    "origin": {"string_value"},
    "hour": set(),
    "temp": {"integral_value", "fractional_value", "nan", "none"},
    "wind": {"integral_value", "nan", "none"},
    "note": {"string_value", "nan", "none"},
}


@pytest.mark.parametrize("feature", TAKEN)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_value_for_each_type_of_feature(call, reading, feature, kind):
    message = _put({k: v for k, v in reading("kinds").items() if k != feature})
    message.record.values.add(feature_name=feature, value=KINDS[kind])

    expected = "OK" if kind in TAKEN[feature] else "INVALID_ARGUMENT"
    assert call(PUT, message.SerializeToString()).name == expected


def test_a_feature_that_is_given_twice(call, reading):
    for feature in ("origin", "hour", "temp"):
        message = _put(reading("twice"))
        again = next(v for v in message.record.values if v.feature_name == feature)
        message.record.values.append(again)
        assert call(PUT, message.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT


def test_records_and_identifiers_at_the_limits(call, attacked, reading):
    limit = 350 * 1024
    empty = _put(reading("large", note="")).record.ByteSize()
    overhead = 8  # lengths take more bytes the larger they are
    inside = _put(reading("large", note="x" * (limit - empty - overhead)))
    outside = _put(reading("large", note="x" * (limit - empty + 1)))

    assert inside.record.ByteSize() <= limit < outside.record.ByteSize()
    assert call(PUT, inside.SerializeToString()) is grpc.StatusCode.OK
    assert call(PUT, outside.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT
    for length, expected in ((2048, "OK"), (2049, "INVALID_ARGUMENT")):
        status = call(PUT, _put(reading("y" * length)).SerializeToString())
        assert status.name == expected


@pytest.mark.parametrize(
    ("letter", "length"), [("x", 9_000), ("é", 9_000), ("\x00", 9_000), ("%", 9_000), ("日", 2**21)]
)
def test_names_and_texts_of_any_length_are_refused_with_a_status(call, reading, length, letter):
    long = letter * length
    messages = {
        PUT: [
            _put(reading(long)),
            _put(reading() | {long: 1.0}),
            _put(reading() | {"hour": long}),
            _put(reading(temp=long)),
            _put(reading(), group=long),
        ],
        GET: [
            runtime_pb2.GetRecordRequest(feature_group_name=long),
            runtime_pb2.GetRecordRequest(
                feature_group_name="weather", record_identifier_value_as_string=long
            ),
            runtime_pb2.GetRecordRequest(
                feature_group_name="weather",
                record_identifier_value_as_string="well",
                feature_names=[long],
            ),
        ],
        "/featurestore.v1.FeatureStore/CreateFeatureGroup": [
            control_pb2.CreateFeatureGroupRequest(
                feature_group=control_pb2.FeatureGroup(feature_group_name=long)
            )
        ],
        "/lineage.v1.Lineage/DescribeEntity": [lineage_pb2.DescribeEntityRequest(uid=long)],
        "/training.v1.Training/DescribeTrainingJob": [
            training_pb2.DescribeTrainingJobRequest(training_job_name=long)
        ],
    }
    for method, requests in messages.items():
        for request in requests:
            status = call(method, request.SerializeToString())
            assert status in ALLOWED - {grpc.StatusCode.OK}, method


def test_the_error_of_a_long_text_keeps_its_class_and_both_ends(attacked, reading):
    with (
        featurestore.connect(attacked.address) as store,
        pytest.raises(featurestore.InvalidRecord) as caught,
    ):
        store.put("weather", reading() | {"日" * 100_000: 1.0})
    assert str(caught.value).startswith("weather.日")
    assert str(caught.value).endswith("no such feature in the group")
    assert caught.value.group == "weather"


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a-", "a/b", "../a", "a\x00b", "é"])
def test_names_that_break_the_rule(call, name):
    for field, value in (
        ("feature_group_name", name),
        ("record_identifier_feature_name", name),
        ("event_time_feature_name", name),
    ):
        group = control_pb2.FeatureGroup(
            feature_group_name="fine",
            record_identifier_feature_name="id",
            event_time_feature_name="at",
            feature_definitions=[
                control_pb2.FeatureDefinition(
                    feature_name="id", feature_type=control_pb2.FeatureType.STRING
                ),
                control_pb2.FeatureDefinition(
                    feature_name="at", feature_type=control_pb2.FeatureType.STRING
                ),
                control_pb2.FeatureDefinition(
                    feature_name=name, feature_type=control_pb2.FeatureType.STRING
                ),
            ],
            enable_online_store=True,
        )
        setattr(group, field, value)
        request = control_pb2.CreateFeatureGroupRequest(feature_group=group)
        status = call(
            "/featurestore.v1.FeatureStore/CreateFeatureGroup", request.SerializeToString()
        )
        assert status is grpc.StatusCode.INVALID_ARGUMENT


def test_fields_of_a_later_version_are_passed_over(call, attacked, reading):
    unknown = b"\x9a\x06\x03abc"  # field 99
    message = _put(reading("later")).SerializeToString() + unknown

    assert call(PUT, message) is grpc.StatusCode.OK
    with featurestore.connect(attacked.address) as store:
        assert store.get("weather", "later") == reading("later")


def test_unknown_methods_and_services(call):
    for method in ("/featurestore.v1.FeatureStoreRuntime/Unknown", "/no.Service/Method", "/x"):
        assert call(method, b"") is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer x", "Bearer flk_1_2", "Basic eDp5", "bearer " + "9" * 9000],
)
@pytest.mark.parametrize("method", ["PutRecord", "StreamRecords", "ListFeatureGroups"])
def test_what_is_no_token_is_told_so(guarded, method, value):
    serving, _ = guarded
    found = next(m for m in METHODS if m.name == method)
    path = f"/{found.containing_service.full_name}/{method}"
    options: dict[str, Any] = {"timeout": 20, "metadata": [("authorization", value)]}
    with grpc.insecure_channel(serving.address) as channel:
        if found.client_streaming:
            error = channel.stream_stream(path)(iter([b""]), **options).exception()
        else:
            error = channel.unary_unary(path).future(b"", **options).exception()
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", [b"Bearer \xff\xfe", b"Bearer flk_\xc3\xa9_x", b"\xe9"])
def test_a_token_of_any_bytes_does_no_harm(guarded, token):
    serving, _ = guarded
    with Connection(serving.address) as connection:
        connection.call(GET, message(b"\x0a\x01x"), extra=[(b"authorization", token)])
        assert connection.ended() in {"trailers", "reset", "goaway", "closed"}


# -- helpers ----------------------------------------------------------------------------------

_WELL = {"origin": "well", "hour": "2013-01-01T06:00:00Z"}


def _send(call: Call, method: Any, data: bytes) -> grpc.StatusCode:
    path = f"/{method.containing_service.full_name}/{method.name}"
    return call(path, data, streams=method.client_streaming)


def _put(record: dict[str, Any], group: str = "weather") -> Any:
    message = runtime_pb2.PutRecordRequest(feature_group_name=group)
    for name, value in record.items():
        kind = {str: "string_value", int: "integral_value", float: "fractional_value"}[type(value)]
        entry = message.record.values.add(feature_name=name)
        setattr(entry.value, kind, value)
    return message
