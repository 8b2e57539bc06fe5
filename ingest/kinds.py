"""What a settings file can name: kinds of sources and formats, and what makes each of them.

Another kind is one more entry of a table: its keys, and the function that gets their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from ingest.decode import Decoder, JsonDecoder, RowDecoder
from ingest.keys import Key
from ingest.source import Source
from ingest.sources.files import FileSource
from ingest.sources.kafka import KafkaSource

__all__ = ["FORMATS", "SOURCES", "FormatKind", "SourceKind"]

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
    return KafkaSource(**values)


def _files(values: Values) -> Source:
    return FileSource(values["path"])


_KAFKA_SECURITY: Final[Mapping[str, Key]] = {
    "security_protocol": Key(choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")),
    "sasl_mechanism": Key(choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI")),
    "sasl_plain_username": Key(),
    "sasl_plain_password": Key(secret=True),
    "ssl_cafile": Key("path"),
    "ssl_certfile": Key("path"),
    "ssl_keyfile": Key("path"),
    "ssl_password": Key(secret=True),
    "ssl_check_hostname": Key("truth"),
}

SOURCES: Final[dict[str, SourceKind]] = {
    "kafka": SourceKind(
        {
            "bootstrap": Key(required=True),
            "topic": Key(required=True),
            "consumer_group": Key(),
            "assignment": Key(choices=("group", "all")),
            "max_poll_interval_s": Key("number", minimum=1),
            "session_timeout_s": Key("number", minimum=1),
            "heartbeat_interval_s": Key("number", minimum=0.1),
            "unavailable_timeout_s": Key("number", minimum=0),
            "on_gap": Key(choices=("fail", "skip")),
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
        {"path": Key("path", required=True)},
        _files,
        is_shared=lambda values: False,
        format="auto",
    ),
}

FORMATS: Final[dict[str, FormatKind]] = {
    "json": FormatKind({}, lambda values, mapping: JsonDecoder(mapping)),
    "rows": FormatKind({}, lambda values, mapping: RowDecoder(mapping)),
}
