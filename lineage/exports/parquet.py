"""Parquet files of a graph, for DuckDB and other engines of analytics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from lineage.change import facets_to_json, to_json
from lineage.entity import Entity
from lineage.exports.part import Part

_ROWS = 10_000


def write_parquet(part: Part, folder: Path) -> None:
    """`entities.parquet`, `associations.parquet` and `columns.parquet` in a folder.

    Properties and facets are JSON text. The folder is made when absent; files of these
    names in it are replaced.
    """
    import pyarrow  # takes longer to import than most exports take

    text = pyarrow.string()
    time = pyarrow.timestamp("us", tz="UTC")
    entities = {
        "uid": text, "kind": text, "type": text, "name": text, "source_uri": text,
        "content_hash": text, "version": pyarrow.int32(), "state": text, "properties": text,
        "facets": text, "created": time, "modified": time,
    }  # fmt: skip
    associations = {"source": text, "destination": text, "type": text}
    columns = {
        "source": text, "source_column": text, "destination": text, "column": text, "by": text,
        "type": text, "subtype": text, "description": text, "masking": pyarrow.bool_(),
        "properties": text,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "entities.parquet", entities, (_row(one) for one in part.entities()))
    _write(
        folder / "associations.parquet",
        associations,
        (
            {"source": tie.source.uid, "destination": tie.destination.uid, "type": tie.type.value}
            for tie in part.ties()
        ),
    )
    _write(folder / "columns.parquet", columns, _columns(part))


def _row(entity: Entity) -> Mapping[str, Any]:
    return vars(entity) | {
        "kind": entity.kind.value,
        "properties": to_json(entity.properties),
        "facets": to_json(facets_to_json(entity.facets)),
    }


def _columns(part: Part) -> Iterator[Mapping[str, Any]]:
    for said in part.columns():
        for edge in said.edges:
            yield vars(edge) | {
                "source": str(edge.source),
                "destination": str(said.destination),
                "by": said.by,
                "properties": to_json(edge.properties),
            }


def _write(path: Path, fields: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(list(fields.items()))
    waiting = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(islice(waiting, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
