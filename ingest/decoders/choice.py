"""The choice of a decoder by plain values, as a command line or a settings file has them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from featurestore import InvalidRequest
from featurestore.errors import nearest
from ingest.decode import Decoder, JsonDecoder
from ingest.decoders.avro import AvroDecoder
from ingest.decoders.compressed import MAX_BYTES, CompressedDecoder
from ingest.decoders.csv import CsvDecoder
from ingest.decoders.debezium import DebeziumDecoder
from ingest.decoders.jsonschema import JsonSchemaDecoder
from ingest.decoders.protobuf import ProtobufDecoder
from ingest.decoders.protoc import compile_protos
from ingest.registry import SchemaRegistry

__all__ = ["FORMATS", "decoder_from"]

_NO_MAPPING: Final[Mapping[str, str]] = MappingProxyType({})
_DEBEZIUM: Final = ("event_time", "event_time_field", "unwrapped", "times")
_TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "json": (),
    "json-schema": ("registry", "schema"),
    "avro": ("registry", "schema", "reader_schema", "single_object", "times"),
    "protobuf": ("registry", "schema", "message", "times"),
    "csv": ("header", "delimiter", "quote", "null_text"),
    "debezium": (*_DEBEZIUM, "types"),
    "debezium-avro": (*_DEBEZIUM, "registry", "schema"),
}
FORMATS: Final = tuple(_TAKEN)
_IMPORT: Final = re.compile(r'(?:^|;)\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"\s*;', re.MULTILINE)


def decoder_from(
    format: str = "json",
    *,
    mapping: Mapping[str, str] = _NO_MAPPING,
    registry: str | None = None,
    registry_login_file: str | Path | None = None,
    registry_login_env: str | None = None,
    registry_token_file: str | Path | None = None,
    registry_token_env: str | None = None,
    registry_ca: str | Path | None = None,
    registry_certificate: str | Path | None = None,
    registry_retry_s: float | None = None,
    schema: str | Path | None = None,
    reader_schema: str | Path | None = None,
    single_object: bool = False,
    message: str | None = None,
    header: Sequence[str] | None = None,
    delimiter: str | None = None,
    quote: str | None = None,
    null_text: str | None = None,
    event_time: str | None = None,
    event_time_field: str | None = None,
    unwrapped: bool = False,
    types: Mapping[str, str] = _NO_MAPPING,
    times: str | None = None,
    value_compression: str | None = None,
    max_value_bytes: int | None = None,
) -> Decoder:
    r"""Make the decoder that plain values describe. What is None is left to the decoder.

    Args:
        format: one of `FORMATS`.
        mapping: feature name → field.
        registry: URL of a schema registry.
        registry_login_file: file with USER:PASSWORD for it.
        registry_login_env: environment variable with USER:PASSWORD.
        registry_token_file: file with a bearer token for it.
        registry_token_env: environment variable with a bearer token.
        registry_ca: file of certificates (PEM) to trust.
        registry_certificate: file of this client's certificate and key (PEM).
        registry_retry_s: how long to wait for a registry that is away.
        schema: file of the schema, in place of a registry: Avro or JSON Schema as JSON, a
            `.proto` file with those it imports beside it, or a descriptor set.
        reader_schema: file of the Avro schema that records shall have.
        single_object: Avro messages begin with their schema's fingerprint.
        message: full name of the Protobuf message.
        header: columns of CSV, in order.
        delimiter: of CSV; a tab may be written `\t`.
        quote: of CSV; empty: no field is quoted.
        null_text: of CSV.
        event_time: of Debezium, `source` or `envelope`.
        event_time_field: of Debezium, the field that is made of it.
        unwrapped: of Debezium, events were flattened.
        types: of Debezium, column → type.
        times: `text` or `seconds`.
        value_compression: what the producer compressed values with.
        max_value_bytes: how large a value may be when decompressed.

    Raises:
        InvalidRequest: no such format, a value that does not go with it, a needed one that is
            missing, or a file that cannot be read or is none.
        IngestError: the format's library is not installed; the message names the extra.

    >>> decoder_from("csv", header=["station", "temp"], delimiter=";").header
    ('station', 'temp')
    >>> decoder_from("avro", header=["station"])
    Traceback (most recent call last):
    featurestore.errors.InvalidRequest: header: goes with format csv, got format 'avro'
    """
    given: dict[str, Any] = {
        "registry": registry,
        "schema": schema,
        "reader_schema": reader_schema,
        "single_object": single_object or None,
        "message": message,
        "header": header,
        "delimiter": delimiter,
        "quote": quote,
        "null_text": null_text,
        "event_time": event_time,
        "event_time_field": event_time_field,
        "unwrapped": unwrapped or None,
        "types": types or None,
        "times": times,
    }
    given = {name: value for name, value in given.items() if value is not None}
    of_registry = {
        "registry_login_file": registry_login_file,
        "registry_login_env": registry_login_env,
        "registry_token_file": registry_token_file,
        "registry_token_env": registry_token_env,
        "registry_ca": registry_ca,
        "registry_certificate": registry_certificate,
        "registry_retry_s": registry_retry_s,
    }
    _check(format, given, of_registry)
    if value_compression is None and max_value_bytes is not None:
        raise InvalidRequest("max_value_bytes: goes with value_compression, which is not given")
    try:
        if registry is not None:
            given["registry"] = SchemaRegistry(registry, **_access(of_registry))
        decoder = _MAKE[format](dict(mapping), given)
        if value_compression is None:
            return decoder
        return CompressedDecoder(
            decoder,
            value_compression,  # type: ignore[arg-type]  # the decoder checks it
            max_bytes=MAX_BYTES if max_value_bytes is None else max_value_bytes,
        )
    except InvalidRequest:
        raise
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _check(format: str, given: Mapping[str, Any], of_registry: Mapping[str, Any]) -> None:
    """Refuse what does not go together, before any file is read."""
    taken = _TAKEN.get(format)
    if taken is None:
        raise InvalidRequest(
            f"format: expected one of {', '.join(FORMATS)}, got {format!r}"
            f"{nearest(format, FORMATS)}"
        )
    for name in given:
        if name not in taken:
            takers = [other for other, names in _TAKEN.items() if name in names]
            raise InvalidRequest(f"{name}: goes with format {_or(takers)}, got format {format!r}")
    if "registry" not in given:
        for name, value in of_registry.items():
            if value is not None:
                raise InvalidRequest(f"{name}: goes with registry, which is not given")
    if "registry" in taken and not given.keys() & {"registry", "schema"}:
        raise InvalidRequest(
            f"format {format}: expected a registry (its URL) or a schema (a file), got neither"
        )
    if "registry" in given and "schema" in given:
        raise InvalidRequest(
            "registry, schema: expected one of them, got both: a registry has the schemas"
        )
    if "single_object" in given and "registry" in given:
        raise InvalidRequest(
            "single_object: goes with schema, got registry: its messages begin with a schema id"
        )
    if format == "protobuf" and "schema" in given and "message" not in given:
        raise InvalidRequest(
            "message: expected the full name of the Protobuf message, such as weather.v1.Reading"
        )
    if format == "csv" and "header" not in given:
        raise InvalidRequest("header: expected the columns' names for format csv, got none")


def _access(values: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a registry asks of its clients."""
    access: dict[str, Any] = {}
    for name in ("login", "token"):
        secret = _secret(
            f"registry_{name}", values[f"registry_{name}_file"], values[f"registry_{name}_env"]
        )
        if secret is not None:
            access[name] = secret
    if values["registry_ca"] is not None:
        access["ca_file"] = str(values["registry_ca"])
    if values["registry_certificate"] is not None:
        access["certificate_file"] = str(values["registry_certificate"])
    if values["registry_retry_s"] is not None:
        access["retry_s"] = values["registry_retry_s"]
    return access


def _secret(name: str, file: str | Path | None, variable: str | None) -> str | None:
    if file is not None and variable is not None:
        raise InvalidRequest(f"{name}_file, {name}_env: expected one of them, got both")
    if file is not None:
        return _text(f"{name}_file", file).rstrip("\r\n")
    if variable is None:
        return None
    secret = os.environ.get(variable)
    if not secret:
        raise InvalidRequest(f"{name}_env: the environment has no variable {variable!r}")
    return secret


def _json(mapping: Mapping[str, str], given: Mapping[str, Any]) -> Decoder:
    return JsonDecoder(mapping)


def _json_schema(mapping: Mapping[str, str], given: dict[str, Any]) -> Decoder:
    if "schema" in given:
        given["schema"] = _text("schema", given["schema"])
    return JsonSchemaDecoder(mapping, **given)


def _avro(mapping: Mapping[str, str], given: dict[str, Any]) -> Decoder:
    for name in ("schema", "reader_schema"):
        if name in given:
            given[name] = _text(name, given[name])
    return AvroDecoder(mapping, **given)


def _protobuf(mapping: Mapping[str, str], given: dict[str, Any]) -> Decoder:
    schema = given.pop("schema", None)
    if schema is not None:
        file = Path(schema)
        if file.suffix == ".proto":
            others: dict[str, str] = {}
            text = _text("schema", file)
            _collect_imports(text, file.parent, others)
            given["descriptors"] = compile_protos(text, others)
        else:
            given["descriptors"] = _bytes("schema", file)
    return ProtobufDecoder(mapping, **given)


def _collect_imports(text: str, folder: Path, found: dict[str, str]) -> None:
    for name in _IMPORT.findall(text):
        if name not in found and (folder / name).is_file():
            found[name] = _text("schema", folder / name)
            _collect_imports(found[name], folder, found)


def _csv(mapping: Mapping[str, str], given: dict[str, Any]) -> Decoder:
    if given.get("quote") == "":
        given["quote"] = None
    if given.get("delimiter") == r"\t":
        given["delimiter"] = "\t"
    return CsvDecoder(mapping, **given)


def _debezium(mapping: Mapping[str, str], given: dict[str, Any]) -> Decoder:
    return DebeziumDecoder(mapping, **given)


def _debezium_avro(mapping: Mapping[str, str], given: dict[str, Any]) -> Decoder:
    of_avro: dict[str, Any] = {
        name: given.pop(name) for name in ("registry", "schema") if name in given
    }
    if "times" in given:
        of_avro["times"] = given["times"]
    return DebeziumDecoder(mapping, inner=_avro({}, of_avro), **given)


_MAKE: Final[Mapping[str, Callable[[Mapping[str, str], dict[str, Any]], Decoder]]] = {
    "json": _json,
    "json-schema": _json_schema,
    "avro": _avro,
    "protobuf": _protobuf,
    "csv": _csv,
    "debezium": _debezium,
    "debezium-avro": _debezium_avro,
}


def _text(name: str, file: str | Path) -> str:
    try:
        return _bytes(name, file).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name}: {file}: expected text in UTF-8: {error}") from None


def _bytes(name: str, file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{name}: {file} cannot be read: {error.strerror}") from error


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
