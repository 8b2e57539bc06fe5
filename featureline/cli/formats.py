"""The options that say how messages are written, for the commands that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from featurestore import FeatureStore, InvalidRequest
from ingest import Decoder
from ingest.decode import with_tombstones
from ingest.decoders import FORMATS, decoder_from

__all__ = [
    "FORMAT_OPTIONS",
    "decoder_of",
    "format_options",
    "format_settings",
    "is_default",
]

_TOMBSTONES = ("tombstones", "tombstone_key")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OPTIONS = (
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        default="json",
        show_default=True,
        help="How messages are written.",
    ),
    click.option("--registry", metavar="URL", help="Schema registry (Confluent's interface)."),
    click.option("--registry-login-file", type=_FILE, help="File with USER:PASSWORD for it."),
    click.option("--registry-login-env", metavar="NAME", help="Variable with USER:PASSWORD."),
    click.option("--registry-token-file", type=_FILE, help="File with a bearer token for it."),
    click.option("--registry-token-env", metavar="NAME", help="Variable with a bearer token."),
    click.option("--registry-ca", type=_FILE, help="Certificates (PEM) to trust."),
    click.option("--registry-certificate", type=_FILE, help="Own certificate and key (PEM)."),
    click.option(
        "--schema",
        type=_FILE,
        help="In place of a registry: .avsc, JSON Schema, .proto or a descriptor set.",
    ),
    click.option("--reader-schema", type=_FILE, help="Avro: the schema records shall have."),
    click.option("--single-object", is_flag=True, help="Avro: a fingerprint begins messages."),
    click.option("--message", metavar="NAME", help="Protobuf: full name of the message."),
    click.option("--header", metavar="NAMES", help="CSV: columns, separated by commas."),
    click.option("--delimiter", metavar="CHARACTER", help="CSV: between fields.  [default: ,]"),
    click.option("--quote", metavar="CHARACTER", help="CSV: around fields; '' for none."),
    click.option("--null-text", metavar="TEXT", help="CSV: what stands for null.  [default: '']"),
    click.option(
        "--event-time",
        type=click.Choice(["source", "envelope"]),
        help="Debezium: whose clock dates a change.  [default: a column]",
    ),
    click.option(
        "--event-time-field",
        metavar="NAME",
        help="Debezium: the field made of it.  [default: event_time]",
    ),
    click.option("--unwrapped", is_flag=True, help="Debezium: events are flattened."),
    click.option(
        "--type",
        "types",
        multiple=True,
        metavar="COLUMN=TYPE",
        help="Debezium: a column's type, where messages have no schema.",
    ),
    click.option(
        "--times",
        type=click.Choice(["text", "seconds"]),
        help="Points in time as ISO-8601 text or as Unix seconds.  [default: text]",
    ),
    click.option(
        "--value-compression",
        type=click.Choice(["gzip", "zstd", "lz4", "snappy"]),
        help="What producers compressed values with, beside Kafka's own compression.",
    ),
    click.option(
        "--max-value-bytes",
        type=click.IntRange(min=1),
        help="How large a value may be when decompressed.  [default: 16 MiB]",
    ),
    click.option(
        "--tombstones",
        type=click.Choice(["refuse", "skip", "delete"]),
        default="refuse",
        show_default=True,
        help="What a message without a value does.",
    ),
    click.option(
        "--tombstone-key",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How the keys of tombstones are written.",
    ),
)


def format_options(command: Any) -> Any:
    """Give a command the options that `decoder_of` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


FORMAT_OPTIONS = frozenset(option.name for option in format_options(click.Command("")).params)
"""Names of the arguments that `format_options` gives."""


def format_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options say of the format, as a table `format` of a settings file.

    Raises:
        click.UsageError: a type is not written as COLUMN=TYPE.
    """
    values = {
        name: value
        for name, value in options.items()
        if value not in (None, (), False) and name not in _TOMBSTONES
    }
    kind = values.pop("format")
    header = values.pop("header", None)
    if header is not None:
        values["header"] = [name.strip() for name in header.split(",")]
    types = {}
    for text in values.pop("types", ()):
        column, found, of = text.partition("=")
        if not found:
            raise click.UsageError(f"--type: expected COLUMN=TYPE, got {text!r}")
        types[column] = of
    if types:
        values["types"] = types
    paths = {name: str(value) for name, value in values.items() if isinstance(value, Path)}
    return {"kind": kind, **values, **paths}


def is_default(options: Mapping[str, Any]) -> bool:
    """Whether messages are JSON and tombstones refused, as without any of the options."""
    return format_settings(options) == {"kind": "json"} and options["tombstones"] == "refuse"


def decoder_of(
    options: Mapping[str, Any], mapping: Mapping[str, str], store: FeatureStore, group: str
) -> Decoder:
    """Make the decoder that the options describe.

    Args:
        options: of `format_options`.
        mapping: feature → field.
        store: has the group.
        group: whose record identifier the keys of tombstones give.

    Raises:
        click.UsageError: they do not go together.
        IngestError: a library is not installed.
    """
    values = format_settings(options)
    try:
        decoder = decoder_from(values.pop("kind"), mapping=mapping, **values)
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from error
    if options["tombstones"] == "refuse":
        return decoder
    identifier = store.describe_feature_group(group).record_identifier
    return with_tombstones(
        decoder, options["tombstones"], identifier=identifier, key=options["tombstone_key"]
    )
