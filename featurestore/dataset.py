"""Datasets: a spine with features as they were known, and everything needed to build it again."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import eventtime, numpyview, parted, pointintime, split
from featurestore.digest import TableDigest
from featurestore.errors import InternalError, InvalidRequest
from featurestore.offline.base import Snapshot
from featurestore.schema import FeatureGroup
from featurestore.spine import name_of, read_spine
from featurestore.split import Fold
from featurestore.statistics import describe
from featurestore.window import WINDOW_RULE_VERSION, Windows
from featurestore.window.history import window_join
from featurestore.workers import Workers

__all__ = [
    "METADATA_KEY",
    "Dataset",
    "FeatureSelection",
    "Keeper",
    "Proof",
    "Resolved",
    "build",
    "describe_build",
    "fingerprint_of",
    "join",
    "moment_us",
    "name_of",
    "output_names",
    "read_spine",
]

Proof = dict[str, int | None]
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


def build(
    spine: pa.Table,
    resolved: Sequence[Resolved],
    *,
    time: str,
    as_of_us: int | None = None,
    threads: int | None = None,
) -> Dataset:
    """Join a spine with feature groups as they were known at each row's time.

    Args:
        spine: n rows with the time column and one key column per selection.
        resolved: the selections; their order is the order of the columns.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        threads: how many the joins share; None: one for each processor. The result does not depend
            on it.

    Raises:
        InvalidSpine: a column is missing, has the wrong type, or a time is null.
        FeatureNotFound: a selection names no feature of its group.
        StoreUnavailable, StoreCorrupt: a file of a group's table is gone or cannot be read.

    """
    names = output_names(spine.schema.names, resolved)
    digest = TableDigest(len(spine))
    with ThreadPoolExecutor(1, "digest") as beside, Workers(threads) as workers:
        # Hashing takes a processor while the join is on one thread: it does not wait for the end.
        hashed = beside.submit(digest.add_columns, spine)
        table, proof = join(spine, resolved, names, time=time, as_of_us=as_of_us, workers=workers)
        hashed.result()
    spine_digest = digest.hexdigest()
    digest.add_columns(table.drop_columns(spine.schema.names))
    manifest = describe_build(
        spine.schema.names,
        resolved,
        names,
        time=time,
        as_of_us=as_of_us,
        rows=len(table),
        spine_digest=spine_digest,
        rows_digest=digest.hexdigest(),
        proof=proof,
    )
    return Dataset(table, manifest)


def join(
    spine: pa.Table,
    resolved: Sequence[Resolved],
    names: Sequence[Mapping[str, str]],
    *,
    time: str,
    as_of_us: int | None,
    workers: Workers | None = None,
    connection: Any | None = None,
    held_bytes: int | None = None,
) -> tuple[pa.Table, list[Proof]]:
    """Join rows of a spine with each selection; see `build`.

    Args:
        spine: n rows.
        resolved: the selections.
        names: of each selection, feature → column.
        time: the spine's time column.
        as_of_us: only records written offline at or before it count; None: all.
        workers: the selections' joins share them; None: all is done in the calling thread.
        connection: from `pointintime.connect`, where memory is short: then it joins the selections,
            one after another.
        held_bytes: see `window_join`.

    Returns:
        n rows, and of each selection how many of them saw a record and how old the youngest was.
    """
    times = pointintime.spine_times(spine, time)
    asked = [
        pa.table({"key": pointintime.spine_keys(spine, _key(entry), entry.group), "time": times})
        for entry in resolved
    ]
    joined: dict[int, pa.Table] = {}

    def narrow(number: int) -> None:
        entry = resolved[number]
        with _named(entry.group.name):
            joined[number] = pointintime.as_of_join(
                asked[number],
                entry.snapshot,
                entry.group,
                list(names[number]),
                lookback_us=entry.selection.lookback_us,
                as_of_us=as_of_us,
                connection=connection,
                workers=workers,
            )

    def windowed(number: int, connection: Any) -> None:
        entry = resolved[number]
        assert entry.windows is not None
        with _named(entry.group.name):
            joined[number] = window_join(
                asked[number],
                entry.snapshot,
                entry.windows,
                list(names[number]),
                as_of_us=as_of_us,
                connection=connection,
                held_bytes=held_bytes,
            )

    jobs = [partial(narrow, n) for n, entry in enumerate(resolved) if entry.windows is None]
    if workers is None or connection is not None:
        for job in jobs:
            job()
    else:
        workers.together(jobs)
    # DuckDB shares the processors among the parts of one query, so these come one by one.
    windows = [n for n, entry in enumerate(resolved) if entry.windows is not None]
    if windows:
        with (
            nullcontext(connection)
            if connection is not None
            else pointintime.connect(threads=None if workers is None else workers.threads) as opened
        ):
            for number in windows:
                windowed(number, opened)
    columns: dict[str, Any] = dict(zip(spine.schema.names, spine.columns, strict=True))
    proof = []
    for number, (entry, chosen) in enumerate(zip(resolved, names, strict=True)):
        proof.append(_prove(entry.group.name, times, joined[number]["_event_time"]))
        for feature, output in chosen.items():
            columns[output] = joined[number][feature]
    return pa.table(columns), proof


def _key(entry: Resolved) -> str:
    return entry.selection.key or entry.group.record_identifier


@contextmanager
def _named(group: str) -> Iterator[None]:
    """Say of an error which group's join it ended, where its message does not."""
    try:
        yield
    except Exception as error:
        if group not in str(error):
            error.add_note(f"while the feature group {group!r} was joined")
        raise


def describe_build(
    spine_names: Sequence[str],
    resolved: Sequence[Resolved],
    names: Sequence[Mapping[str, str]],
    *,
    time: str,
    as_of_us: int | None,
    rows: int,
    spine_digest: str,
    rows_digest: str,
    proof: Sequence[Proof],
) -> dict[str, Any]:
    """Make the manifest of a dataset; see `Dataset` for what is in it."""
    body: dict[str, Any] = {
        "rule_version": pointintime.RULE_VERSION,
        "spine_digest": spine_digest,
        "rows_digest": rows_digest,
        "time": time,
        "as_of": None if as_of_us is None else eventtime.format_iso(as_of_us),
        "selections": [
            {
                "group": entry.group.name,
                "features": dict(chosen),
                "key": entry.selection.key or entry.group.record_identifier,
                "prefix": entry.selection.prefix,
                "lookback_us": entry.selection.lookback_us,
                **_windows_body(entry.windows),
            }
            for entry, chosen in zip(resolved, names, strict=True)
        ],
    }
    # Version numbers and uris are named beside the fingerprint, not in it: a table that came to
    # the same content by other commits gives the same dataset.
    fingerprint = fingerprint_of(body)
    origins = dict.fromkeys(spine_names, "spine")
    proofs: dict[str, list[Proof]] = {}
    for entry, chosen, seen in zip(resolved, names, proof, strict=True):
        proofs.setdefault(entry.group.name, []).append(seen)
        for feature, output in chosen.items():
            origins[output] = f"{entry.group.name}.{feature}"
    return {
        "fingerprint": fingerprint,
        **body,
        "rows": rows,
        "versions": {
            entry.group.name: entry.snapshot.version if entry.snapshot else None
            for entry in resolved
        },
        "tables": {
            entry.group.name: {
                "uri": entry.snapshot.uri,
                "version": entry.snapshot.version,
                "content_hash": entry.snapshot.content_hash,
            }
            for entry in resolved
            if entry.snapshot is not None
        },
        "keys": sorted({e.selection.key or e.group.record_identifier for e in resolved}),
        "columns": origins,
        "proof": proofs,
    }


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """Return the digest of what names a dataset's content."""
    body = {name: manifest[name] for name in _NAMING}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _windows_body(windows: Windows | None) -> dict[str, Any]:
    if windows is None:
        return {}
    return {"windows": windows.group.to_json(), "window_rule_version": WINDOW_RULE_VERSION}


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


def output_names(spine_names: Sequence[str], resolved: Sequence[Resolved]) -> list[dict[str, str]]:
    """Choose each selected feature's column: its own name, or `group__feature` on a clash.

    Returns:
        For each selection, feature → column.

    Raises:
        InvalidRequest: no selection, a feature twice, or two columns of one name.
        FeatureNotFound: a selection names no feature of its group.
    """
    if not resolved:
        raise InvalidRequest("expected at least one selection of features, got none")
    wanted: list[list[str]] = []
    for entry in resolved:
        group = entry.group
        features = list(entry.selection.features) or [
            name
            for name in group.feature_names
            if name not in (group.record_identifier, group.event_time)
        ]
        for name in features:
            group.feature_type(name)
        if len(set(features)) != len(features):
            raise InvalidRequest(f"{group.name}: a feature is selected twice in {features}")
        wanted.append(features)
    plain = [
        name
        for entry, features in zip(resolved, wanted, strict=True)
        if entry.selection.prefix is None
        for name in features
    ]
    clashing = {name for name in plain if plain.count(name) > 1 or name in spine_names}
    taken = set(spine_names)
    names: list[dict[str, str]] = []
    for entry, features in zip(resolved, wanted, strict=True):
        prefix = entry.selection.prefix
        chosen = {}
        for name in features:
            output = name
            if prefix is not None:
                output = prefix + name
            elif name in clashing:
                output = f"{entry.group.name}__{name}"
            if output in taken:
                raise InvalidRequest(
                    f"two columns of the dataset would be called {output!r}; give the selection "
                    f"of {entry.group.name!r} a prefix"
                )
            taken.add(output)
            chosen[name] = output
        names.append(chosen)
    return names


def _prove(group: str, times: pa.Array, event_times: pa.ChunkedArray) -> Proof:
    """Check on the result that no value is newer than its row."""
    # One chunk: the join has put them together.
    known = event_times.combine_chunks()
    matched = numpyview.booleans(known.is_valid())
    # Without the nulls, which would make doubles of the times and round them.
    seen = numpyview.int64(known.drop_null().cast(pa.int64()))
    ages = numpyview.int64(times.cast(pa.int64()))[matched] - seen
    if len(ages) and ages.min() < 0:
        raise InternalError(f"{group}: the join saw a value newer than its row; please report it")
    return {
        "matched": int(matched.sum()),
        "youngest_us": int(ages.min()) if len(ages) else None,
    }
