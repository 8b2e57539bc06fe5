"""What a settings file can name: kinds of sources and formats, and what makes each of them.

Another kind is one more entry of a table: its keys, and the function that gets their values.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from featurestore import InvalidRequest
from ingest.decode import Decoder, RowDecoder
from ingest.decoders import FORMATS as MESSAGE_FORMATS
from ingest.decoders import decoder_from
from ingest.fleet.keys import Key
from ingest.source import Source
from ingest.sources.changes import DeltaChanges
from ingest.sources.files import FileSource
from ingest.sources.flight import FlightSource
from ingest.sources.kafka import CLIENTS, KafkaSource, kafka_source
from ingest.sources.kafka_security import MECHANISMS, PROTOCOLS, KafkaSecurity
from ingest.sources.query import QuerySource

__all__ = ["FORMATS", "SOURCES", "FormatKind", "SourceKind", "kafka_security"]

Values = Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of source.

    Args:
        keys: of its table, beside `kind`.
        build: makes one of the table's values.
        is_shared: whether several workers share the input out among themselves, given the values.
        format: of its messages where the pipeline names none.
        aside: the values of a source that is looked into beside the pipeline and takes nothing
            away from it.
        tells_ends: whether the source knows where its partitions end.
        identity: which keys say what is read, and for whom: two pipelines that agree in all of
            them would take each other's messages away.
    """

    keys: Mapping[str, Key]
    build: Callable[[Values], Source]
    is_shared: Callable[[Values], bool]
    format: str
    aside: Callable[[Values], Values] = dict
    tells_ends: bool = False
    identity: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class FormatKind:
    """A kind of format.

    Args:
        keys: of its table, beside `kind`.
        build: makes a decoder of the table's values and the mapping feature → field.
    """

    keys: Mapping[str, Key]
    build: Callable[[Values, Mapping[str, str]], Decoder]


def _kafka(values: Values) -> Source:
    given = dict(values)
    security = given.pop("security", None)
    if security is None:
        return kafka_source(**given)
    return KafkaSource(**given, security=kafka_security(security))


def kafka_security(values: Values) -> KafkaSecurity:
    """Read the table `security` of a Kafka source.

    Raises:
        InvalidRequest: a choice is unknown, or what belongs together is not together.
    """
    given = dict(values)
    for name in ("ca", "certificate", "key", "token_file"):
        if name in given:
            given[name] = Path(given[name])
    return KafkaSecurity(**given)


def _files(values: Values) -> Source:
    return FileSource(**values)


def _changes(values: Values) -> Source:
    given = dict(values)
    since = given.pop("starting_time", None)
    if since is not None:
        given["starting_time"] = dt.datetime.fromisoformat(since)
    return DeltaChanges(**given)


def _query(values: Values) -> Source:
    given = dict(values)
    file = given.pop("sql_file", None)
    if (file is None) == ("sql" not in given):
        raise InvalidRequest("sql: expected it or sql_file, and not both")
    if file is not None:
        given["sql"] = Path(file).read_text(encoding="utf-8")
    return QuerySource(**given)


def _flight(values: Values) -> Source:
    return FlightSource(**values)


def _alone(values: Values) -> bool:
    return False


_KAFKA_SECURITY: Final[Mapping[str, Key]] = {
    "protocol": Key(choices=PROTOCOLS),
    "ca": Key("path"),
    "certificate": Key("path"),
    "key": Key("path"),
    "key_password": Key(secret=True),
    "check_hostname": Key("truth"),
    "mechanism": Key(choices=MECHANISMS),
    "username": Key(),
    "password": Key(secret=True),
    "token_file": Key("path"),
}

SOURCES: Final[dict[str, SourceKind]] = {
    "kafka": SourceKind(
        {
            "bootstrap": Key(required=True),
            "topic": Key(required=True),
            "consumer_group": Key(),
            "client": Key(choices=CLIENTS),
            "assignment": Key(choices=("group", "all")),
            "max_poll_interval_s": Key("number", minimum=1),
            "session_timeout_s": Key("number", minimum=1),
            "heartbeat_interval_s": Key("number", minimum=0.1),
            "unavailable_timeout_s": Key("number", minimum=0),
            "on_gap": Key(choices=("fail", "skip")),
            "max_buffer_bytes": Key("whole", minimum=1),
            "security": Key("settings", keys=_KAFKA_SECURITY),
        },
        _kafka,
        is_shared=lambda values: values.get("assignment", "group") == "group",
        format="json",
        aside=lambda values: {**values, "assignment": "all"},
        tells_ends=True,
        identity=("bootstrap", "topic", "consumer_group"),
    ),
    "files": SourceKind(
        {
            "path": Key("path", required=True),
            "watch": Key("truth"),
            "pattern": Key(),
            "settle_s": Key("number", minimum=0),
            "index": Key("path"),
            "on_unreadable": Key(choices=("fail", "skip")),
        },
        _files,
        is_shared=_alone,
        format="auto",
    ),
    "changes": SourceKind(
        {
            "uri": Key(required=True),
            "storage_options": Key("settings"),
            "starting_version": Key("whole", minimum=0),
            "starting_time": Key(),
            "on_rewrite": Key(choices=("fail", "skip")),
            "identifier": Key(),
            "look_s": Key("number", minimum=0.1),
        },
        _changes,
        is_shared=_alone,
        format="auto",
    ),
    "query": SourceKind(
        {
            "sql": Key(),
            "sql_file": Key("path"),
            "order_by": Key("texts"),
            "increasing": Key(),
            "database": Key("path"),
            "parameters": Key("settings"),
            "memory_limit": Key(),
            "threads": Key("whole", minimum=1),
            "look_s": Key("number", minimum=0),
            "settle_s": Key("number", minimum=0),
        },
        _query,
        is_shared=_alone,
        format="auto",
    ),
    "flight": SourceKind(
        {
            "location": Key(required=True),
            "path": Key("texts"),
            "command": Key(),
            "partition_by": Key(choices=("order", "ticket")),
            "tls_roots": Key("path"),
            "token_file": Key("path"),
            "call_timeout_s": Key("number", minimum=0.1),
            "unavailable_timeout_s": Key("number", minimum=0.1),
        },
        _flight,
        is_shared=_alone,
        format="auto",
    ),
}

_REGISTRY: Final[Mapping[str, Key]] = {
    "registry": Key(),
    "registry_login_file": Key("path"),
    "registry_login_env": Key(),
    "registry_token_file": Key("path"),
    "registry_token_env": Key(),
    "registry_ca": Key("path"),
    "registry_certificate": Key("path"),
    "registry_retry_s": Key("number", minimum=0),
}
_MESSAGES: Final[Mapping[str, Key]] = {
    **_REGISTRY,
    "schema": Key("path"),
    "reader_schema": Key("path"),
    "single_object": Key("truth"),
    "message": Key(),
    "header": Key("texts"),
    "delimiter": Key(),
    "quote": Key(),
    "null_text": Key(),
    "event_time": Key(choices=("source", "envelope")),
    "event_time_field": Key(),
    "unwrapped": Key("truth"),
    "types": Key("settings"),
    "times": Key(choices=("text", "seconds")),
    "value_compression": Key(choices=("gzip", "zstd", "lz4", "snappy")),
    "max_value_bytes": Key("whole", minimum=1),
}


def _message_format(name: str) -> FormatKind:
    return FormatKind(
        _MESSAGES, lambda values, mapping: decoder_from(name, mapping=mapping, **values)
    )


FORMATS: Final[dict[str, FormatKind]] = {
    **{name: _message_format(name) for name in MESSAGE_FORMATS},
    "rows": FormatKind({}, lambda values, mapping: RowDecoder(mapping)),
}
