"""Decoders of messages: Avro, Protobuf, JSON with schema, CSV, Debezium, and compressed ones."""
