"""A spine that executors read: its rows numbered, its times and keys as the join wants them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import eventtime
from featurestore.dataset import Resolved
from featurestore.errors import InternalError, InvalidSpine
from featurestore.feature import FeatureType
from featurestore.pointintime import spine_keys, spine_times
from featurestore.spark.join import quoted
from featurestore.spark.session import read_parquet
from featurestore.spine import check_names, is_query, spine_batches

__all__ = ["Facts", "SpineFiles", "facts", "is_frame", "key_of", "numbered", "spine_files"]

_ISO: Final = (
    r"\A([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:[.]([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))\z"
)
_DAY_US: Final = 86_400_000_000
# Arrow takes whole numbers for doubles as far as each of them is one.
_EXACT: Final = 2**53


@final
@dataclass(frozen=True)
class SpineFiles:
    """Parquet files of one schema.

    Args:
        files: in order.
        rows: of each.
        schema: of all, dictionaries decoded.
    """

    files: tuple[str, ...]
    rows: tuple[int, ...]
    schema: pa.Schema


class Facts(NamedTuple):
    """What the join needs to know of a spine before it begins.

    Args:
        rows: of the spine.
        earliest_us: its first time; None without rows.
        latest_us: its last time.
    """

    rows: int
    earliest_us: int | None
    latest_us: int | None


def is_frame(spine: object) -> bool:
    """Whether a spine is a Spark DataFrame."""
    try:
        frame = importlib.import_module("pyspark.sql").DataFrame
    except ModuleNotFoundError:
        return False
    return isinstance(spine, frame)


def spine_files(spine: object, folder: Path) -> SpineFiles:
    """Give a spine as Parquet files that the executors can read.

    Parquet files, and folders of them, are taken as they are. A Spark DataFrame is written by its
    executors, in the order in which they would give its rows; what is in this process, or in a
    file of another form, is written by it.

    Args:
        spine: a Spark DataFrame; one or more paths; or any other spine.
        folder: that the executors can read, for what has to be written.

    Raises:
        InvalidSpine: no such file, files of different columns, or a type that Spark does not carry.
    """
    if is_frame(spine):
        target = folder / "spine"
        spine.write.parquet(str(target))  # type: ignore[attr-defined]
        return _described(sorted(target.glob("part-*.parquet")))
    if isinstance(spine, Sequence) and not isinstance(spine, str):
        return _described([file for path in spine for file in _files_of(Path(path))])
    if isinstance(spine, str | Path) and not is_query(spine):
        path = Path(spine)
        if path.is_dir() or path.suffix.lower() == ".parquet":
            return _described(_files_of(path))
    target = folder / "spine.parquet"
    with spine_batches(spine) as reader:
        schema = pa.schema([field.with_type(_plain(field.type)) for field in reader.schema])
        _refuse_types(schema)
        with pq.ParquetWriter(target, schema) as writer:
            for batch in reader:
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
    return SpineFiles((str(target),), (pq.read_metadata(target).num_rows,), schema)


def numbered(spark: Any, spine: SpineFiles, time: str) -> Any:
    """Read a spine: each row's number from 0, its time, and its columns.

    They are called `_row`, `_time` (µs; null: not a time), `c0`, `c1` and so on. A row's place in
    its file gives its number, which costs no pass over them.

    Raises:
        InvalidSpine: no such time column, or one of another type.
    """
    spine_times(spine.schema.empty_table(), time)
    frame = read_parquet(spark, spine.files)
    # Spark names files by uris, with one or three slashes.
    uris = {re.sub(r"\Afile:/+", "/", uri) for uri in frame.inputFiles()}
    starts = _starts(spine)
    try:
        begins = pa.table(
            {"uri": list(uris), "begins": pa.array([starts[unquote(u)] for u in uris], pa.int64())}
        )
    except KeyError as error:
        raise InternalError(f"Spark reads a spine file {error} that was not named") from None
    # Only of the files themselves, and of no view, Spark tells where a row lies.
    named = frame.selectExpr(
        "regexp_replace(_metadata.file_path, '^file:/+', '/') AS _uri",
        "_metadata.row_index AS _index",
        *(f"{quoted(name)} AS c{number}" for number, name in enumerate(spine.schema.names)),
    )
    place = spine.schema.get_field_index(time)
    moment = _micros(f"c{place}", spine.schema.field(place).type)
    kept = ", ".join(f"c{number}" for number in range(len(spine.schema)))
    return spark.sql(
        f"SELECT /*+ BROADCAST(b) */ b.begins + n._index AS _row, n._time, {kept} "
        f"FROM {{named}} n JOIN {{begins}} b ON n._uri = b.uri",
        named=named.selectExpr("*", f"{moment} AS _time"),
        begins=spark.createDataFrame(begins),
    )


def key_of(spine: SpineFiles, entry: Resolved) -> str:
    """Write a selection's key as SQL, in the type of the record identifier.

    Raises:
        InvalidSpine: no such column, or one of another type.
    """
    column = entry.selection.key or entry.group.record_identifier
    spine_keys(spine.schema.empty_table(), column, entry.group)
    value = f"c{spine.schema.get_field_index(column)}"
    kind = entry.group.types[entry.group.record_identifier]
    if kind is FeatureType.INTEGRAL:
        return f"try_cast({value} AS BIGINT)"
    if kind is FeatureType.FRACTIONAL:
        # As records have it: -0.0 and 0.0 name the same identifier.
        return f"CAST({value} AS DOUBLE) + 0.0D"
    return value


def facts(
    spark: Any, frame: Any, spine: SpineFiles, time: str, resolved: Iterable[Resolved]
) -> Facts:
    """Look through a spine's times and keys once.

    Raises:
        InvalidSpine: a time is null or none, or a key is out of its type's range.
    """
    keys = {
        entry.selection.key or entry.group.record_identifier: entry
        for entry in resolved
        if entry.group.types[entry.group.record_identifier] is not FeatureType.STRING
    }
    bad = ["CASE WHEN _time IS NULL THEN _row END"]
    for column, entry in keys.items():
        number = spine.schema.get_field_index(column)
        kind = spine.schema.field(number).type
        fails = "false"
        if pa.types.is_integer(kind):
            whole = entry.group.types[entry.group.record_identifier] is FeatureType.INTEGRAL
            fails = (
                f"c{number} IS NOT NULL AND try_cast(c{number} AS BIGINT) IS NULL"
                if whole
                else f"c{number} NOT BETWEEN {-_EXACT} AND {_EXACT}"
            )
        bad.append(f"CASE WHEN {fails} THEN _row END")
    first = ", ".join(f"min({sql}) AS bad{number}" for number, sql in enumerate(bad))
    (found,) = spark.sql(
        f"SELECT count(*) AS n, min(_time) AS earliest, max(_time) AS latest, {first} "
        f"FROM {{spine}}",
        spine=frame,
    ).collect()
    if found["n"] != sum(spine.rows):
        raise InternalError(
            f"Spark read {found['n']} of the spine's {sum(spine.rows)} rows; please report it"
        )
    for number, column in enumerate([time, *keys]):
        row = found[f"bad{number}"]
        if row is not None:
            place = spine.schema.get_field_index(column)
            (value,) = frame.where(f"_row = {row}").select(f"c{place}").first()
            raise InvalidSpine(_complaint(column, row, value, keys.get(column) if number else None))
    return Facts(found["n"], found["earliest"], found["latest"])


def _complaint(column: str, row: int, value: object, entry: Resolved | None) -> str:
    where = f"spine column {column!r}, row {row}"
    if entry is not None:
        kind = entry.group.types[entry.group.record_identifier]
        return f"{where}: expected a value that {kind.value} holds exactly, got {value}"
    if value is None:
        return f"{where}: expected a time, got null"
    try:
        eventtime.parse_iso(str(value))
    except ValueError as error:
        return f"{where}: {error}"
    raise InternalError(f"{where}: Spark does not read the time {value!r}; please report it")


def _micros(value: str, kind: pa.DataType) -> str:
    """Write a time column as SQL of µs since the epoch, as `spine_times` reads it."""
    if pa.types.is_timestamp(kind):
        if kind.unit == "ns":  # read as numbers; floored, before the epoch too
            return f"({value} - pmod({value}, 1000L)) div 1000L"
        return f"unix_micros({value})"

    def part(number: int) -> str:
        return f"regexp_extract({value}, r'{_ISO}', {number})"

    def whole(number: int) -> str:
        return f"coalesce(try_cast({part(number)} AS BIGINT), 0L)"

    clock = f"({whole(2)} * 60 + {whole(3)}) * 60 + {whole(4)}"
    fraction = f"CAST(rpad(substr({part(5)}, 1, 6), 6, '0') AS BIGINT)"
    zone = f"({whole(7)} * 60 + {whole(8)}) * if({part(6)} = '-', -1, 1)"
    us = (
        f"CAST(unix_date(try_cast({part(1)} AS DATE)) AS BIGINT) * {_DAY_US}L "
        f"+ ({clock} - {zone} * 60) * 1000000L + {fraction}"
    )
    real = (
        f"{whole(2)} < 24 AND {whole(3)} < 60 AND {whole(4)} < 60 "
        f"AND {whole(7)} < 24 AND {whole(8)} < 60 "
        f"AND {us} BETWEEN {eventtime.MIN_US}L AND {eventtime.MAX_US}L"
    )
    return f"CASE WHEN {value} RLIKE r'{_ISO}' AND {real} THEN {us} END"


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise InvalidSpine(f"spine file {path} does not exist")
    if path.is_file():
        return [path]
    found = sorted(
        file
        for file in path.rglob("*.parquet")
        if not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
    )
    if not found:
        raise InvalidSpine(f"spine folder {path}: expected .parquet files, there are none")
    for file in found:
        folders = file.relative_to(path).parts[:-1]
        if any("=" in folder for folder in folders):
            raise InvalidSpine(
                f"spine folder {path}: expected all columns in the files, got the partition "
                f"{'/'.join(folders)}; give it as a Spark DataFrame"
            )
    return found


def _described(files: Sequence[Path]) -> SpineFiles:
    """Read the footers of a spine's files."""
    rows = []
    first: pa.Schema | None = None
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                rows.append(opened.metadata.num_rows)
                found = opened.schema_arrow.remove_metadata()
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidSpine(f"spine file {file} cannot be read: {error}") from error
        schema = pa.schema([pa.field(f.name, _plain(f.type)) for f in found])
        first = first or schema
        if not schema.equals(first):
            raise InvalidSpine(
                f"spine file {file}: expected the columns of {files[0]}, "
                f"{_listed(first)}; got {_listed(schema)}"
            )
    if first is None:
        raise InvalidSpine("expected at least one spine file, got none")
    check_names(first.names)
    _refuse_types(first)
    return SpineFiles(tuple(str(file.absolute()) for file in files), tuple(rows), first)


def _starts(spine: SpineFiles) -> dict[str, int]:
    starts: dict[str, int] = {}
    begins = 0
    for file, rows in zip(spine.files, spine.rows, strict=True):
        if file in starts:
            raise InvalidSpine(f"spine file {file}: expected each file once, got it twice")
        starts[file] = begins
        begins += rows
    return starts


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _refuse_types(schema: pa.Schema) -> None:
    for field in schema:
        if not _is_carried(field.type):
            raise InvalidSpine(
                f"spine column {field.name!r}: expected a type that Spark carries, got "
                f"{field.type}; cast the column, or leave it out"
            )


def _is_carried(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return not pa.types.is_nested(kind.value_type) and _is_carried(kind.value_type)
    if pa.types.is_decimal(kind):
        return bool(kind.precision <= 38)
    plain = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_float32,
        pa.types.is_float64,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_date32,
        pa.types.is_timestamp,
    )
    return any(check(kind) for check in plain)
