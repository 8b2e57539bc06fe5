"""Broker and registry to feature group: Avro, Protobuf, Debezium, compressed batches."""

from __future__ import annotations

import io
import json
import zlib

import fastavro
import pytest
from kafka import KafkaProducer

from featureline.cli.main import cli
from featurestore import FeatureGroup, feature_definitions
from ingest import (
    AvroDecoder,
    DebeziumDecoder,
    Pipeline,
    ProtobufDecoder,
    RegistryUnavailable,
    SchemaRegistry,
    decoder_from,
)

pytestmark = pytest.mark.kafka

STATION = {"name": "station", "type": "long"}
TIME = {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}}
SEQUENCE = {"name": "sequence", "type": "int"}
TEMP = {"name": "temp", "type": ["null", "double"], "default": None}
OLD = {"type": "record", "name": "Reading", "fields": [STATION, TIME, SEQUENCE]}
NEW = {**OLD, "fields": [*OLD["fields"], TEMP]}


def avro(schema, value):
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(schema), value)
    return data.getvalue()


def reading(sequence, **rest):
    time = 1_704_067_200_000 + 1000 * sequence
    return {"station": sequence % 7, "time": time, "sequence": sequence, **rest}


def test_avro_of_two_versions_of_a_schema(
    registry, wire, store, stored, source, new_topic, produce, dead_letters
):
    old = registry.register("e2e-avro-value", json.dumps(OLD))
    new = registry.register("e2e-avro-value", json.dumps(NEW))
    topic = new_topic()
    produce(topic, [wire(old, avro(OLD, reading(n))) for n in range(20)])
    produce(topic, [wire(new, avro(NEW, reading(n, temp=n / 4))) for n in range(20, 40)])
    produce(topic, [wire(new, b"\x02"), wire(60_000, b""), b"{}"])
    decoder = AvroDecoder(registry=registry)
    pipeline = Pipeline(
        source(topic), store, "readings", decoder=decoder, dead_letters=dead_letters
    )
    report = pipeline.run(until_caught_up=True)
    assert (report.written, report.refused) == (40, 3)
    assert stored() == list(range(40))
    assert store.get("readings", 4)["temp"] == 39 / 4
    assert store.get("readings", 4)["time"] == "2024-01-01T00:00:39Z"
    reasons = [letter.reason for letter in dead_letters.read()]
    assert f"schema {new} (e2e-avro-value version 2)" in reasons[0]
    assert "schema id: expected one that http://" in reasons[1]
    assert "byte 0: expected 0x00" in reasons[2]


def test_a_registry_that_is_away_stops_the_run_and_puts_nothing_aside(
    run_registry, wire, store, stored, source, new_topic, produce, dead_letters
):
    topic = new_topic()
    with run_registry() as process:
        registry = SchemaRegistry(process.url)
        number = registry.register("e2e-away-value", json.dumps(OLD))
    produce(topic, [wire(number, avro(OLD, reading(n))) for n in range(5)])

    def run(url):
        decoder = AvroDecoder(registry=SchemaRegistry(url, retry_s=0.1))
        pipeline = Pipeline(
            source(topic), store, "readings", decoder=decoder, dead_letters=dead_letters
        )
        return pipeline.run(until_caught_up=True)

    with pytest.raises(RegistryUnavailable):
        run(process.url)
    assert list(dead_letters.read()) == []
    with run_registry() as process:  # back, with what it had
        assert SchemaRegistry(process.url).register("e2e-away-value", json.dumps(OLD)) == number
        assert run(process.url).written == 5
    assert stored() == list(range(5))


def test_protobuf(registry, wire, store, stored, source, new_topic, produce):
    text = """syntax = "proto3";
    import "google/protobuf/timestamp.proto";
    message Unused {}
    message Reading {
      int64 station = 1; google.protobuf.Timestamp time = 2; int32 sequence = 3; double temp = 4;
    }"""
    number = registry.register("e2e-protobuf-value", text, kind="PROTOBUF")
    # Written by hand: field numbers and varints, so that no generated code is between.
    values = [
        b"\x08" + bytes([n]) + b"\x12\x06\x08" + _varint(1_704_067_200 + n) + b"\x18" + bytes([n])
        for n in range(20)
    ]
    topic = new_topic()
    produce(topic, [wire(number, value, b"\x02\x02") for value in values])
    decoder = ProtobufDecoder(registry=registry)
    report = Pipeline(source(topic), store, "readings", decoder=decoder).run(until_caught_up=True)
    assert (report.written, report.refused) == (20, 0)
    assert stored() == list(range(20))
    assert store.get("readings", 9) == {
        "station": 9,
        "time": "2024-01-01T00:00:09Z",
        "sequence": 9,
        "temp": 0.0,
    }


def _varint(number):
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def test_debezium_changes_end_as_the_table_does(store, source, new_topic, produce, dead_letters):
    store.create_feature_group(
        FeatureGroup(
            "items",
            record_identifier="id",
            event_time="changed",
            features=feature_definitions(
                [("id", "Integral"), ("changed", "Fractional"), ("price", "Fractional")]
            ),
        )
    )
    columns = [
        {"field": "id", "type": "int32"},
        {
            "field": "price",
            "type": "bytes",
            "name": "org.apache.kafka.connect.data.Decimal",
            "parameters": {"scale": "2"},
        },
    ]
    schema = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": columns}]}

    def change(op, second, before=None, after=None):
        source = {"ts_ms": (1_704_067_200 + second) * 1000}
        payload = {"before": before, "after": after, "source": source, "op": op, "ts_ms": 1}
        return json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode()

    topic = new_topic()
    first, second = {"id": 1, "price": "AN4="}, {"id": 2, "price": "AN4="}
    with KafkaProducer(bootstrap_servers=source(topic).bootstrap) as producer:
        for key, value in [
            (1, change("r", 0, after=first)),
            (2, change("c", 1, after=second)),
            (1, change("u", 2, before=first, after={"id": 1, "price": "AA=="})),
            (2, change("d", 3, before=second)),
            (2, None),
            (3, change("c", 4, after={"id": 3, "price": "Aw=="})),
            (3, change("d", 5)),
            (4, change("t", 6)),
        ]:
            producer.send(topic, value, key=json.dumps({"id": key}).encode(), partition=0)
    decoder = DebeziumDecoder(event_time="source", event_time_field="changed", times="seconds")
    pipeline = Pipeline(source(topic), store, "items", decoder=decoder, dead_letters=dead_letters)
    report = pipeline.run(until_caught_up=True)
    assert (report.read, report.written, report.refused) == (8, 6, 1)
    assert store.get("items", 1) == {"id": 1, "changed": 1_704_067_202.0, "price": 0.0}
    assert store.get("items", 2) is None
    assert store.get("items", 3) is None
    assert ["truncated" in letter.reason for letter in dead_letters.read()] == [True]


@pytest.mark.parametrize("batches", ["gzip", "lz4", "snappy", "zstd"])
def test_batches_that_kafka_compressed_and_values_that_the_producer_did(
    batches, broker, store, stored, source, new_topic, reading
):
    topic = new_topic()
    with KafkaProducer(bootstrap_servers=broker, compression_type=batches) as producer:
        for n in range(50):
            producer.send(topic, zlib.compress(json.dumps(reading(n)).encode()), partition=0)
    decoder = decoder_from("json", value_compression="gzip")
    report = Pipeline(source(topic), store, "readings", decoder=decoder).run(until_caught_up=True)
    assert (report.written, report.refused) == (50, 0)
    assert stored() == list(range(50))


def test_the_command(registry, registry_process, wire, broker, store, new_topic, produce, tmp_path):
    number = registry.register("e2e-command-value", json.dumps(NEW))
    topic = new_topic()
    produce(topic, [wire(number, avro(NEW, reading(n, temp=1.5))) for n in range(5)])
    store.close()
    command = ["ingest", "kafka", "--bootstrap", broker, "--topic", topic, "--group", "readings"]
    command += ["--assignment", "all", "--until-caught-up", "--home", str(tmp_path / "home")]
    command += ["--json"]
    from click.testing import CliRunner

    done = CliRunner().invoke(
        cli, [*command, "--format", "avro", "--registry", registry_process.url]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["written"] == 5
    for wrong, text in [
        (["--format", "avro"], "expected a registry"),
        (["--format", "csv"], "header: expected the columns"),
        (["--header", "a"], "header: goes with format csv"),
        (["--format", "debezium", "--type", "a"], "--type: expected COLUMN=TYPE, got 'a'"),
    ]:
        refused = CliRunner().invoke(cli, [*command, *wrong])
        assert refused.exit_code == 2
        assert text in refused.stderr
