"""The choice of a decoder by plain values: what formats take, and what does not go together."""

from __future__ import annotations

import gzip
import json

import pytest

from featurestore import InvalidRequest
from ingest import Message, decoder_from
from ingest.decoders.protoc import compile_protos

AVRO = json.dumps(
    {"type": "record", "name": "R", "fields": [{"name": "temp", "type": "int"}]}
)  # fmt: skip
ENVELOPE = json.dumps(
    {
        "type": "record",
        "name": "E",
        "fields": [
            {"name": "op", "type": "string"},
            {"name": "after", "type": json.loads(AVRO)},
            {"name": "ts_ms", "type": "long"},
        ],
    }
)
PLACE = 'syntax = "proto3"; message Place { string city = 1; }'
READING = (
    'syntax = "proto3"; import "common/place.proto"; '
    'message Reading { int32 temp = 1; Place place = 2; }'
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("schemas")
    (tmp_path / "common").mkdir()
    for name, text in {
        "r.avsc": AVRO,
        "e.avsc": ENVELOPE,
        "r.json": '{"properties": {"temp": {"type": "integer"}}}',
        "r.proto": READING,
        "common/place.proto": PLACE,
        "login": "reader:secret\n",
    }.items():
        (tmp_path / name).write_text(text)
    descriptors = compile_protos(READING, {"common/place.proto": PLACE})
    (tmp_path / "r.desc").write_bytes(descriptors)
    (tmp_path / "latin").write_bytes(b"\xff")
    return tmp_path


@pytest.mark.parametrize(
    ("format", "options", "value"),
    [
        ("json", {}, b'{"temp": 7}'),
        ("json-schema", {"schema": "r.json"}, b'{"temp": 7}'),
        ("avro", {"schema": "r.avsc"}, b"\x0e"),
        ("avro", {"schema": "r.avsc", "reader_schema": "r.avsc", "times": "seconds"}, b"\x0e"),
        ("protobuf", {"schema": "r.proto", "message": "Reading"}, b"\x08\x07"),
        ("protobuf", {"schema": "r.desc", "message": "Reading"}, b"\x08\x07"),
        ("csv", {"header": ["temp", "note"], "delimiter": "\\t", "null_text": "-"}, b"7\t-"),
        ("csv", {"header": ["temp", "note"], "quote": ""}, b'7,"'),
        ("debezium", {"event_time": "envelope"}, b'{"op":"c","after":{"temp":7},"ts_ms":1}'),
        ("debezium-avro", {"schema": "e.avsc", "times": "text"}, b"\x02c\x0e\x02"),
    ],
)
def test_each_format_is_read(files, format, options, value):
    options = {
        name: files / text if name.endswith("schema") else text for name, text in options.items()
    }
    for compression in (None, "gzip"):
        decoder = decoder_from(
            format, mapping={"t": "temp"}, value_compression=compression, **options
        )
        sent = gzip.compress(value) if compression else value
        assert decoder.decode(Message("0", 0, sent)) in ({"t": 7}, {"t": "7"})


@pytest.mark.parametrize(
    ("format", "options", "text"),
    [
        ("avor", {}, r"format: expected one of .*, got 'avor'; did you mean 'avro'\?"),
        ("json", {"registry": "http://r"}, "registry: goes with format json-schema, avro, prot"),
        ("json", {"schema": "r.json"}, "schema: goes with format json-schema, avro, protobuf or"),
        ("csv", {}, "header: expected the columns' names for format csv, got none"),
        ("csv", {"header": ["a"], "times": "text"}, "times: goes with format avro, protobuf"),
        ("csv", {"header": ["a", "a"]}, "csv header: expected each column once, got 'a' twice"),
        ("json", {"header": ["a"]}, "header: goes with format csv, got format 'json'"),
        ("avro", {"delimiter": ";"}, "delimiter: goes with format csv"),
        ("avro", {"quote": ""}, "quote: goes with format csv"),
        ("avro", {"null_text": ""}, "null_text: goes with format csv"),
        ("avro", {}, r"format avro: expected a registry \(its URL\) or a schema \(a file\), got"),
        ("avro", {"schema": "r.avsc", "registry": "http://r"}, "registry, schema: expected one"),
        ("avro", {"registry": "http://r", "single_object": True}, "single_object: goes with sch"),
        ("avro", {"schema": "r.avsc", "message": "M"}, "message: goes with format protobuf"),
        ("avro", {"schema": "none"}, r"schema: .*none cannot be read: No such file"),
        ("avro", {"schema": "latin"}, r"schema: .*latin: expected text in UTF-8"),
        ("avro", {"schema": "r.proto"}, "avro: expected a schema, got"),
        ("avro", {"schema": "r.avsc", "times": "days"}, "times: expected 'text' or 'seconds'"),
        ("json-schema", {"schema": "r.proto"}, "json-schema: expected a schema in JSON"),
        ("json-schema", {"schema": "r.json", "reader_schema": "r.json"}, "reader_schema: goes wi"),
        ("protobuf", {"schema": "r.desc"}, "message: expected the full name of the Protobuf mes"),
        ("protobuf", {"schema": "r.desc", "message": "X"}, "the descriptors have no message 'X'"),
        ("protobuf", {"schema": "r.avsc", "message": "X"}, "expected a descriptor set, as protoc"),
        ("avro", {"event_time": "source", "schema": "r.avsc"}, "event_time: goes with format deb"),
        ("avro", {"unwrapped": True, "schema": "r.avsc"}, "unwrapped: goes with format debezium "),
        ("debezium", {"event_time": "now"}, "event_time: expected 'source', 'envelope' or None"),
        ("debezium", {"registry": "http://r"}, "registry: goes with format"),
        ("debezium-avro", {}, "format debezium-avro: expected a registry"),
        ("debezium-avro", {"schema": "e.avsc", "types": {"a": "b"}}, "types: goes with format deb"),
        ("avro", {"registry": "registry:8081"}, "registry: expected http://HOST:PORT"),
        ("avro", {"schema": "r.avsc", "registry_ca": "x"}, "registry_ca: goes with registry, whi"),
        ("json", {"registry_retry_s": 1}, "registry_retry_s: goes with registry"),
        ("json", {"value_compression": "bzip2"}, "compression: expected one of gzip, zstd, lz4"),
        ("json", {"max_value_bytes": 5}, "max_value_bytes: goes with value_compression"),
    ],
)
def test_what_does_not_go_together_is_told(files, format, options, text):
    options = {
        name: files / value if name.endswith("schema") else value for name, value in options.items()
    }
    with pytest.raises(InvalidRequest, match=text):
        decoder_from(format, **options)


def test_secrets_come_from_files_and_the_environment(files, monkeypatch):
    def registry(**options):
        return decoder_from("avro", registry="http://r", **options)._readers.registry

    def header(**options):
        return registry(**options)._headers.get("Authorization")

    monkeypatch.setenv("REGISTRY_TOKEN", "secret")
    assert header(registry_login_file=files / "login") == "Basic cmVhZGVyOnNlY3JldA=="
    assert header(registry_token_env="REGISTRY_TOKEN") == "Bearer secret"
    assert header(registry_retry_s=5.0) is None
    for options, text in [
        ({"registry_token_env": "NOT_SET"}, "registry_token_env: the environment has no variable"),
        ({"registry_login_file": "none"}, "registry_login_file: none cannot be read"),
        ({"registry_login_file": "a", "registry_login_env": "b"}, "expected one of them, got both"),
        ({"registry_login_env": "REGISTRY_TOKEN"}, "registry login: expected USER:PASSWORD"),
    ]:
        with pytest.raises(InvalidRequest, match=text) as refusal:
            registry(**options)
        assert "secret" not in str(refusal.value)
