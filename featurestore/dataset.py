"""Datasets: a spine with features as they were known, and everything needed to build it again."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import eventtime, parted, split
from featurestore.errors import InvalidRequest
from featurestore.offline.base import Snapshot
from featurestore.schema import FeatureGroup
from featurestore.spine import name_of, read_spine
from featurestore.split import Fold
from featurestore.statistics import describe
from featurestore.window import Windows

__all__ = [
    "METADATA_KEY",
    "Dataset",
    "FeatureSelection",
    "Keeper",
    "Resolved",
    "fingerprint_of",
    "moment_us",
    "name_of",
    "read_spine",
]

METADATA_KEY: Final = b"featureline.dataset"
# The members of a manifest that its fingerprint covers.
_NAMING: Final = ("rule_version", "spine_digest", "rows_digest", "time", "as_of", "selections")
_SELECTION: Final = re.compile(r"([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*\Z")


@final
@dataclass(frozen=True)
class FeatureSelection:
    """Features of one group in a dataset.

    Args:
        group: the feature group.
        features: their names; none: all but the record identifier and the event time.
        key: the spine column that holds the identifier; None: named as the record identifier.
        prefix: put before every feature's name; None: `group__`, only where names collide.
        lookback: how old a value may be; None: any age.
        version: the Delta table version to read; None: the newest.

    >>> FeatureSelection("weather")["temp", "wind"].features
    ('temp', 'wind')
    """

    group: str
    features: tuple[str, ...] = ()
    key: str | None = None
    prefix: str | None = None
    lookback: dt.timedelta | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        if self.lookback is not None and self.lookback < dt.timedelta(0):
            raise InvalidRequest(f"{self.group}: expected a lookback >= 0, got {self.lookback}")

    def __getitem__(self, features: str | tuple[str, ...]) -> FeatureSelection:
        return replace(self, features=(features,) if isinstance(features, str) else features)

    def with_key(self, column: str) -> FeatureSelection:
        """Take the identifier from another spine column."""
        return replace(self, key=column)

    def with_prefix(self, prefix: str) -> FeatureSelection:
        """Put a prefix before every feature's name."""
        return replace(self, prefix=prefix)

    def with_lookback(self, lookback: dt.timedelta) -> FeatureSelection:
        """See values no older than this."""
        return replace(self, lookback=lookback)

    @property
    def lookback_us(self) -> int | None:
        """The lookback in microseconds."""
        return None if self.lookback is None else self.lookback // dt.timedelta(microseconds=1)

    @classmethod
    def parse(cls, text: str) -> FeatureSelection:
        """Read `group` or `group[feature,feature]`.

        Raises:
            InvalidRequest: another form.

        >>> FeatureSelection.parse("weather[temp, wind]").features
        ('temp', 'wind')
        """
        found = _SELECTION.match(text.strip())
        if found is None:
            raise InvalidRequest(f"expected GROUP or GROUP[FEATURE,…], got {text!r}")
        names = found.group(2)
        features = tuple(name.strip() for name in names.split(",")) if names is not None else ()
        if names is not None and not all(features):
            raise InvalidRequest(f"expected GROUP or GROUP[FEATURE,…], got {text!r}")
        return cls(found.group(1), features)


@final
@dataclass(frozen=True)
class Resolved:
    """A selection with what it refers to.

    Args:
        selection: as asked.
        group: the feature group; of a windowed group what it reads as.
        snapshot: the table version; of a windowed group its source's.
        windows: the windowed group and its source; None: the selection is of a feature group.
    """

    selection: FeatureSelection
    group: FeatureGroup
    snapshot: Snapshot | None
    windows: Windows | None = None

    @property
    def table_group(self) -> str:
        """The feature group whose table is read."""
        return self.group.name if self.windows is None else self.windows.source.name

    @property
    def lookback_us(self) -> int | None:
        """How far back from its time a row may see, µs; None: any age."""
        if self.windows is None:
            return self.selection.lookback_us
        return self.windows.group.longest_us


class Keeper(Protocol):
    """A store that keeps datasets."""

    def save_dataset(self, dataset: Dataset) -> Path:
        """Keep a dataset; return its file."""


@final
@dataclass(frozen=True)
class Dataset:
    """The result of a point-in-time join.

    Args:
        table: the spine's columns, then the features; one row per spine row, in its order.
        manifest: JSON values that name how it was made: `fingerprint`, `spine_digest`,
            `rows_digest`, `rows`, `versions` (group → Delta version), `tables` (group → uri,
            version, content hash), `selections`, `time`, `keys`, `columns` (name → origin),
            `as_of`, `rule_version`, `proof` (group → rows matched and the youngest age seen).
        keeper: the store that built it; None for one that came from a file.
    """

    table: pa.Table
    manifest: Mapping[str, Any] = field(repr=False)
    keeper: Keeper | None = field(default=None, repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Names the content: equal spine, selections, rule and rows give an equal fingerprint."""
        return str((self.manifest.get("part") or self.manifest)["fingerprint"])

    @property
    def parent(self) -> str | None:
        """The fingerprint of the dataset that this is a part of; None for a whole one."""
        part = self.manifest.get("part")
        return None if part is None else str(part["parent"])

    @property
    def versions(self) -> dict[str, int | None]:
        """The Delta table version that was read of each group."""
        return dict(self.manifest["versions"])

    @property
    def features(self) -> tuple[str, ...]:
        """The feature columns of the table."""
        return tuple(name for name, origin in self.manifest["columns"].items() if origin != "spine")

    @property
    def spine(self) -> pa.Table:
        """The rows that were asked for: the columns that came with the spine."""
        return self.table.select(
            [name for name, origin in self.manifest["columns"].items() if origin == "spine"]
        )

    def __len__(self) -> int:
        return len(self.table)

    def save(self) -> Path:
        """Keep the dataset and its spine in the store that built it, a server's on the server.

        `store.load_dataset(fingerprint)` reads it again, `store.rebuild_dataset` builds it again.

        Returns:
            Its Parquet file; a server's is on the server's machine.

        Raises:
            InvalidRequest: no store built it, or it is only a part of a dataset.
        """
        if self.keeper is None:
            raise InvalidRequest(
                f"dataset {self.fingerprint[:12]}: no store built this value, so it has no "
                f"place to be saved in; use store.save_dataset(dataset) or dataset.write(path)"
            )
        return self.keeper.save_dataset(self)

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame; needs pandas."""
        return self.table.to_pandas()

    def to_polars(self) -> Any:
        """Return the rows as a Polars DataFrame, without a copy where the types allow it.

        Raises:
            InvalidRequest: Polars is not installed.
        """
        try:
            polars = importlib.import_module("polars")
        except ModuleNotFoundError:
            raise InvalidRequest("to_polars needs Polars: pip install polars") from None
        return polars.from_arrow(self.table)

    def reader(self, batch_rows: int = 65_536) -> pa.RecordBatchReader:
        """Return the rows as a stream of batches, in order, without copying them.

        Args:
            batch_rows: at most so many rows in a batch.
        """
        if batch_rows < 1:
            raise InvalidRequest(f"batch_rows: expected 1 or more, got {batch_rows}")
        return self.table.to_reader(max_chunksize=batch_rows)

    def filter(self, mask: Any) -> Dataset:
        """Return the rows where a boolean mask is true, as a part of this dataset.

        The part keeps the manifest, which still names the whole: `rows` and `rows_digest` tell
        that it is not it.
        """
        return replace(self, table=self.table.filter(mask))

    def statistics(self, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """Say of each column how many values and nulls it has, and how they lie.

        See `featurestore.statistics.describe`. The fingerprint does not depend on them.

        Args:
            columns: which; None: all.
        """
        return describe(self.table, columns)

    def split_by_time(
        self,
        parts: Mapping[str, float] = split.PARTS,
        *,
        cuts: Sequence[dt.datetime] = (),
        gap: dt.timedelta = dt.timedelta(0),
    ) -> dict[str, Dataset]:
        """Split into parts one after another in time: no row of a part is as late as a later part.

        Rows of one time stay together. Each part's `parent` is this dataset's fingerprint.

        Args:
            parts: in the order of time, name → about which share of the rows; they add up to 1.
            cuts: when the second and later parts begin, instead of the shares.
            gap: rows less than this after a cut are in no part; as long as what a label looks
                ahead, so that no label of an earlier part knows of a later one.

        Raises:
            InvalidRequest: shares, cuts or gap make no sense.
        """
        return split.split_by_time(self, parts, cuts=cuts, gap=gap)

    def split_by_group(
        self, column: str, parts: Mapping[str, float] = split.PARTS, *, seed: int = 0
    ) -> dict[str, Dataset]:
        """Split so that the rows of one value of a column are in one part.

        A hash of the value and the seed decides: neither the order of rows nor the other values
        matter, and a value stays in its part when the dataset grows. Nulls are one value.

        Args:
            column: such as the record identifier.
            parts: name → about which share of the values; they add up to 1.
            seed: another one gives another split.
        """
        return split.split_by_group(self, column, parts, seed=seed)

    def split_stratified(
        self,
        column: str,
        parts: Mapping[str, float] = split.PARTS,
        *,
        group: str | None = None,
        seed: int = 0,
    ) -> dict[str, Dataset]:
        """Split so that each value of a column has the same share in every part.

        Rows of one identifier and time stay together, and with `group` all rows of one value of
        that; then such a group counts as its most frequent value of the column.

        Args:
            column: such as the label.
            parts: name → which share of the rows; they add up to 1.
            group: a column whose values are not torn.
            seed: another one gives another split.
        """
        return split.split_stratified(self, column, parts, group=group, seed=seed)

    def folds_by_time(self, folds: int = 5, *, gap: dt.timedelta = dt.timedelta(0)) -> list[Fold]:
        """Make folds that train on the past: each tests on the time after what it trains on.

        Args:
            folds: how many; the time is cut into one piece more, of about as many rows each.
            gap: rows less than this before the test's first time are left out of the training.
        """
        return split.folds_by_time(self, folds, gap=gap)

    def folds_by_group(self, column: str, folds: int = 5, *, seed: int = 0) -> list[Fold]:
        """Make folds so that no value of a column is in both training and test of one.

        Every row is in one test. See `split_by_group` for what decides.

        Args:
            column: such as the record identifier.
            folds: how many.
            seed: another one gives other folds.
        """
        return split.folds_by_group(self, column, folds, seed=seed)

    def write(self, path: str | Path) -> Path:
        """Write a Parquet file that carries the manifest; it appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {**(self.table.schema.metadata or {}), METADATA_KEY: json.dumps(self.manifest)}
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            # One chunk a column: equal rows give equal bytes, however they came in.
            rows = self.table.replace_schema_metadata(metadata).combine_chunks()
            pq.write_table(rows, part, compression="zstd")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def read(cls, path: str | Path) -> Dataset:
        """Read what `write` or `write_dataset` wrote: a file, or a folder of them.

        Raises:
            InvalidRequest: the file is no Parquet file or carries no manifest.
        """
        try:
            table = parted.read(Path(path)) if Path(path).is_dir() else pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidRequest(f"{path} cannot be read as a dataset: {error}") from error
        metadata = dict(table.schema.metadata or {})
        manifest = metadata.pop(METADATA_KEY, None)
        if manifest is None:
            raise InvalidRequest(
                f"{path}: expected a dataset written by Featureline, got a plain file"
            )
        return cls(table.replace_schema_metadata(metadata or None), json.loads(manifest))

    @staticmethod
    def read_manifest(path: str | Path) -> dict[str, Any]:
        """Read the manifest of what `write` or `write_dataset` wrote, without the rows.

        Raises:
            InvalidRequest: the file is no Parquet file or carries no manifest.
        """
        try:
            folder = Path(path).is_dir()
            schema = parted.schema_of(Path(path)) if folder else pq.read_schema(path)
            metadata = schema.metadata or {}
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidRequest(f"{path} cannot be read as a dataset: {error}") from error
        if METADATA_KEY not in metadata:
            raise InvalidRequest(
                f"{path}: expected a dataset written by Featureline, got a plain file"
            )
        return dict(json.loads(metadata[METADATA_KEY]))


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """Return the digest of what names a dataset's content."""
    body = {name: manifest[name] for name in _NAMING}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def moment_us(as_of: dt.datetime | None) -> int | None:
    """Return an as-of time in µs; None stays None.

    Raises:
        InvalidRequest: it has no zone.
    """
    if as_of is None:
        return None
    try:
        return eventtime.to_us(as_of)
    except ValueError as error:
        raise InvalidRequest(f"as_of: {error}") from None
