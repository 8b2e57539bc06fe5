"""Anything a program handles, as an artifact that is known again by its content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from lineage.digest import file_digest, folder_digest
from lineage.entity import JSON, End, Entity, artifact
from lineage.errors import InvalidEntity

_ITEMS_AT_ONCE = 65_536


def as_artifact(value: object, *, type: str = "DataSet", name: str = "") -> End:
    """The artifact that a value stands for.

    Args:
        value: an entity or a uid (as it is); a path of a file or folder, which is read for its
            digest; a uri; or a table or array in memory (Arrow, pandas, Polars, NumPy), known
            again wherever equal values appear (of a table, see `TableDigest`).
        type: of the artifact.
        name: of the artifact; by default the last part of its path, or what it is.

    Raises:
        InvalidEntity: there is nothing at the path, or the value is none of these.

    >>> import pyarrow as pa
    >>> one, same = as_artifact(pa.table({"x": [1]})), as_artifact(pa.table({"x": [1]}))
    >>> one.content_hash == same.content_hash, one.name
    (True, '1 × 1 table')
    """
    if isinstance(value, Entity):
        return value
    if isinstance(value, str) and value.startswith("urn:"):
        return value
    if isinstance(value, str) and "://" in value and not value.startswith("file://"):
        return artifact(type, value, name=name)
    if isinstance(value, str | os.PathLike):
        return _of_path(Path(str(value).removeprefix("file://")), type, name)
    found = _in_memory(value)
    if found is None:
        raise InvalidEntity(
            f"lineage of a {_type_of(value)}: expected an entity, a uid, a path, a uri, or a table "
            f"or array in memory; record what it was made from instead"
        )
    what, digest, properties = found
    return artifact(
        type,
        f"memory:{digest[:32]}",
        content_hash=digest,
        name=name or what,
        properties=properties,
    )


def is_content(value: object) -> bool:
    """Whether a value is data by itself: an artifact, a path that exists, a table, an array."""
    if isinstance(value, Entity):
        return value.kind.value == "Artifact"
    if isinstance(value, os.PathLike):
        return os.path.exists(value)
    if hasattr(value, "__arrow_c_stream__"):
        # What has no length may be read once only, and that is not for us to do.
        return hasattr(type(value), "__len__")
    return _is_array(value)


def as_content(value: object) -> Entity | None:
    """The artifact of a value that is data by itself; None where its content cannot be told."""
    if not is_content(value):
        return None
    try:
        found = as_artifact(value)
    except InvalidEntity:
        return None
    return found if isinstance(found, Entity) else None


def _of_path(path: Path, type: str, name: str) -> Entity:
    try:
        digest = folder_digest(path) if path.is_dir() else file_digest(path)
    except FileNotFoundError:
        raise InvalidEntity(
            f"{path}: there is no such file or folder; name what was read or written, or record "
            f"an artifact without content by lineage.artifact(type, uri)"
        ) from None
    files = path.rglob("*") if path.is_dir() else (path,)
    size = sum(file.stat().st_size for file in files if file.is_file())
    properties: dict[str, JSON] = {"bytes": size} if path.exists() else {}
    uri = path.resolve().as_uri()
    return artifact(type, uri, content_hash=digest, name=name, properties=properties)


def _in_memory(value: object) -> tuple[str, str, dict[str, JSON]] | None:
    """What a value is, its digest and its shape."""
    if hasattr(value, "__arrow_c_stream__"):
        return _of_table(value)
    if _is_array(value):
        array: Any = value
        import numpy

        plain = numpy.ascontiguousarray(array)
        if plain.dtype.hasobject:
            return None
        total = hashlib.sha256(f"{plain.dtype.str} {plain.shape}".encode())
        flat = plain.reshape(-1)
        for first in range(0, flat.size, _ITEMS_AT_ONCE):
            total.update(_told_apart(flat[first : first + _ITEMS_AT_ONCE]).tobytes())
        shape = " × ".join(map(str, plain.shape)) or "1"
        return f"{shape} array", total.hexdigest(), {"dtype": str(plain.dtype)}
    return None


def _of_table(value: object) -> tuple[str, str, dict[str, JSON]] | None:
    # They take longer to import than most functions that are tracked take.
    import pyarrow

    from lineage.capture import values

    try:
        reader: Any = pyarrow.RecordBatchReader.from_stream(value)
    except (pyarrow.ArrowException, TypeError, ValueError):
        return None  # one column, or values that Arrow has no type for
    total = values.TableDigest(reader.schema)
    for batch in reader:
        total.add(batch)
    columns = len(reader.schema)
    rows = total.rows
    return f"{rows:,} × {columns} table", total.hexdigest(), {"rows": rows, "columns": columns}


def _told_apart(items: Any) -> Any:
    """Items of an array, of which those that are equal have equal bytes."""
    if items.dtype.kind not in "fc":
        return items
    from lineage.capture import values  # as above

    if items.dtype.kind == "c":
        items = items.view(items.real.dtype)
    return values.without_bits_that_do_not_count(items)


def _is_array(value: object) -> bool:
    return hasattr(value, "__array_interface__") and hasattr(value, "dtype")


def _type_of(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
