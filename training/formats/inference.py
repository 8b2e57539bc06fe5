"""Inference: requests become Arrow tables, and tables of replies become what the caller accepts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import pyarrow as pa

from training.encoding import SIZE_KEY, is_list, is_number, is_sparse
from training.errors import InvalidData
from training.formats import ContentType, csv, jsonlines, recordio_protobuf
from training.formats.column import TENSOR_KEY
from training.formats.instance import instances_to_table
from training.formats.text import flattened, rows_to_csv, to_csv, to_json

__all__ = ["Accept", "decode_request", "encode_reply", "encode_request"]

_RETURNED: Final = ("uid", "metadata")
_ROLES: Final = ("uid", "metadata", "configuration")


@final
@dataclass(frozen=True)
class Accept:
    """What a caller takes as a reply.

    Attributes:
        content_type: of the reply.
        verbose: whether the caller asks for the fields that only some callers want.

    >>> Accept.parse("application/jsonlines; Verbose=TRUE")
    Accept(content_type='application/jsonlines', verbose=True)
    """

    content_type: str
    verbose: bool = False

    @classmethod
    def parse(cls, text: str | None, *, default: str = "application/json") -> Accept:
        """Read an `Accept` header; nothing and `*/*` mean the default.

        Of several types it is the one with the highest `q` that can be written, the first of those.

        Raises:
            InvalidData: none of them can be written.
        """
        offered = [ContentType.parse(part) for part in (text or "").split(",") if part.strip()]
        offered = offered or [ContentType(default)]
        offered.sort(key=lambda kind: -_quality(kind))
        for kind in offered:
            base = default if kind.base in ("*/*", "application/*") else kind.base
            if base in _REPLIES:
                return cls(base, kind.parameters.get("verbose", "").lower() == "true")
        raise InvalidData(
            f"Accept: {text!r} cannot be written; allowed are {', '.join(sorted(_REPLIES))}"
        )


def decode_request(body: bytes, content_type: str) -> pa.Table:
    r"""Read the rows of a request.

    CSV has no label and becomes columns `f0`, `f1` and so on, unless `label_size` says otherwise.
    JSON's `instances`, JSON lines and records become a column `features`, or one for each name; a
    `configuration` beside `instances` becomes a column of JSON text with the same in each row.

    Args:
        body: the request's.
        content_type: such as `text/csv`.

    Raises:
        InvalidData: the type cannot be read, or the body is not of it; the message names the row,
            line, instance or record.

    >>> body = b'{"instances":[{"features":[1.5,16]}]}'
    >>> decode_request(body, "application/json").to_pydict()
    {'features': [[1.5, 16.0]]}
    """
    kind = ContentType.parse(content_type)
    if kind.base not in _REQUESTS:
        raise InvalidData(
            f"content type {content_type!r} cannot be read; allowed are "
            f"{', '.join(sorted(_REQUESTS))}"
        )
    if not body.strip():
        raise InvalidData(f"expected a request of {kind.base}, got an empty body")
    try:
        return _REQUESTS[kind.base](body, kind.parameters)
    except pa.ArrowException as error:
        raise InvalidData(f"the request cannot be read as {kind}: {error}") from error


def encode_request(table: pa.Table, content_type: str) -> bytes:
    """Write rows as a request; the other side of `decode_request`.

    Raises:
        InvalidData: the type cannot be written, or a column cannot be in it.
    """
    kind = ContentType.parse(content_type)
    match kind.base:
        case "text/csv":
            return to_csv(flattened(table))
        case "application/json":
            return to_json({"instances": _instances(table)})
        case "application/jsonlines":
            return b"".join(to_json(instance) + b"\n" for instance in _instances(table))
        case "application/x-recordio-protobuf":
            return recordio_protobuf.encode(table)
    raise InvalidData(
        f"content type {content_type!r} cannot be written; allowed are "
        f"{', '.join(sorted(_REQUESTS))}"
    )


def encode_reply(
    replies: pa.Table,
    content_type: str,
    *,
    word: str = "predictions",
    request: pa.Table | None = None,
) -> bytes:
    """Write replies, one for each row of a request.

    JSON is `{"predictions":[{…}, …]}`, JSON lines are the objects alone. What is no finite number
    is null there. CSV has the columns as fields; a single column of lists has its numbers as
    fields, and a list among other columns is one field of JSON. Records have each column in their
    `label` under its name, as float32, and the request's `uid` and `metadata`.

    Args:
        replies: n rows, a column for each name in a reply.
        content_type: see `Accept`.
        word: what JSON calls the list: `predictions`, or what the algorithm says, such as `scores`.
        request: the n rows that are answered.

    Raises:
        InvalidData: the type cannot be written, or a column cannot be in it.

    >>> encode_reply(pa.table({"score": [0.5, None]}), "application/json", word="scores")
    b'{"scores":[{"score":0.5},{"score":null}]}'
    """
    base = ContentType.parse(content_type).base
    if base not in _REPLIES:
        raise InvalidData(
            f"content type {content_type!r} cannot be written; allowed are "
            f"{', '.join(sorted(_REPLIES))}"
        )
    return _REPLIES[base](replies, word, request)


def _csv_request(body: bytes, parameters: Mapping[str, str]) -> pa.Table:
    return csv.decode(body, {"label_size": "0", **parameters})


def _json_request(body: bytes, parameters: Mapping[str, str]) -> pa.Table:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise InvalidData(f"expected JSON: {error}") from error
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list) or not instances:
        raise InvalidData('expected {"instances":[…]} with one instance or more')
    shared = document.get("configuration")
    if shared is not None:
        instances = [
            {"configuration": shared, **instance} if isinstance(instance, dict) else instance
            for instance in instances
        ]

    def refuse(row: int, expected: str, got: str) -> InvalidData:
        return InvalidData(f"instance {row + 1}: expected {expected}, got {got}", instance=row + 1)

    return instances_to_table(instances, refuse)


def _lines_request(body: bytes, parameters: Mapping[str, str]) -> pa.Table:
    return jsonlines.decode(body)


def _records_request(body: bytes, parameters: Mapping[str, str]) -> pa.Table:
    return recordio_protobuf.decode(body)


_REQUESTS: Final[Mapping[str, Callable[[bytes, Mapping[str, str]], pa.Table]]] = {
    "text/csv": _csv_request,
    "application/json": _json_request,
    "application/jsonlines": _lines_request,
    "application/x-recordio-protobuf": _records_request,
}


def _instances(table: pa.Table) -> list[Any]:
    """Return rows as instances: vectors in the short form, sparse ones in the long form."""
    columns = {}
    for field in table.schema:
        values = table[field.name].to_pylist()
        if is_sparse(field.type):
            size = (field.metadata or {}).get(SIZE_KEY)
            if size is None:
                raise InvalidData(
                    f"column {field.name!r} is sparse, and its field has no "
                    f"{SIZE_KEY.decode()!r} in its metadata",
                    column=field.name,
                )
            values = [
                {"keys": row["indices"], "shape": [int(size)], "values": row["values"]}
                for row in values
            ]
        columns[field.name] = values
    rows = [
        {
            name: column[row]
            for name, column in columns.items()
            if name not in _ROLES or column[row] is not None
        }
        for row in range(len(table))
    ]
    if "features" in columns and is_sparse(table.schema.field("features").type):
        return [{"data": {"features": row.pop("features")}, **row} for row in rows]
    return rows


def _json_reply(replies: pa.Table, word: str, request: pa.Table | None) -> bytes:
    return to_json({word: replies.to_pylist()})


def _lines_reply(replies: pa.Table, word: str, request: pa.Table | None) -> bytes:
    return b"".join(to_json(reply) + b"\n" for reply in replies.to_pylist())


def _csv_reply(replies: pa.Table, word: str, request: pa.Table | None) -> bytes:
    if replies.num_columns == 1 and pa.types.is_fixed_size_list(replies.schema.field(0).type):
        return to_csv(flattened(replies))
    if replies.num_columns == 1 and is_list(replies.schema.field(0).type):
        return rows_to_csv(replies.column(0).to_pylist())
    return to_csv(replies)


def _records_reply(replies: pa.Table, word: str, request: pa.Table | None) -> bytes:
    fields, columns = [], []
    for field in replies.schema:
        numbers = field.type.value_type if is_list(field.type) else field.type
        if not is_number(numbers):
            raise InvalidData(
                f"reply {field.name!r} is {field.type}, and records hold numbers: accept "
                "application/jsonlines instead",
                column=field.name,
            )
        column = replies[field.name]
        if pa.types.is_null(field.type):
            column = column.cast(pa.float32())
        fields.append(pa.field(field.name, column.type, metadata={TENSOR_KEY: b"float32"}))
        columns.append(column)
    for name in _RETURNED:
        if request is not None and name in request.column_names:
            fields.append(pa.field(name, pa.string()))
            columns.append(request[name].cast(pa.string()))
    return recordio_protobuf.encode(pa.table(columns, schema=pa.schema(fields)))


_REPLIES: Final[Mapping[str, Callable[[pa.Table, str, pa.Table | None], bytes]]] = {
    "text/csv": _csv_reply,
    "application/json": _json_reply,
    "application/jsonlines": _lines_reply,
    "application/x-recordio-protobuf": _records_reply,
}


def _quality(kind: ContentType) -> float:
    try:
        return float(kind.parameters.get("q", "1"))
    except ValueError:
        return 0.0
