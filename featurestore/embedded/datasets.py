"""Datasets of one home: built, kept and checked, each build with its lineage."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

import pyarrow as pa

import lineage
from featurestore import builderquery, eventtime
from featurestore import engine as engines
from featurestore.asof import read_as_of
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport, check_dataset
from featurestore.dataset import Dataset, FeatureSelection, Keeper, Resolved, moment_us
from featurestore.embedded.reads import Reader
from featurestore.embedded.resolve import Resolver
from featurestore.engine import Engine, check_engine
from featurestore.plan import DatasetPlan, explain
from featurestore.provenance import record_builder, record_dataset
from featurestore.rebuild import rebuild
from featurestore.registry import Registry
from featurestore.saved import SavedDataset, SavedDatasets
from featurestore.spine import is_query, name_of, read_spine
from featurestore.store import selections
from featurestore.streamed import WrittenDataset
from featurestore.windowed import WindowedGroups

__all__ = ["Datasets"]


@final
class Datasets:
    """The verbs of datasets in one home.

    Args:
        registry: of the home.
        resolver: finds what selections refer to.
        saved: the datasets that the home keeps.
        reader: reads the online store.
        windowed: the windowed groups of the home.
        keeper: the store that datasets from here are saved in.
        graph: opens the lineage graph of the home.
        now: the clock, µs since the epoch.
    """

    def __init__(
        self,
        registry: Registry,
        resolver: Resolver,
        saved: SavedDatasets,
        *,
        reader: Reader,
        windowed: WindowedGroups,
        keeper: Keeper,
        graph: Callable[[], lineage.Graph],
        now: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._resolver = resolver
        self._saved = saved
        self._reader = reader
        self._windowed = windowed
        self._keeper = keeper
        self._graph = graph
        self._now = now

    def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
        threads: int | None = None,
        engine: Engine = "duckdb",
        spark: Any | None = None,
    ) -> Dataset:
        """See EmbeddedStore.dataset."""
        check_engine(engine, spark, threads=threads)
        rows, resolved = self._read_and_resolve(spine, features, engine)
        dataset = engines.build(
            rows,
            resolved,
            engine=engine,
            time=time,
            as_of_us=moment_us(as_of),
            threads=threads,
            session=spark,
        )
        name = spine_name or name_of(spine)
        return self._recorded(dataset, resolved, name, rebuilt=False)

    def get_as_of(
        self,
        group: str,
        identifiers: Iterable[object],
        times: Iterable[object],
        *,
        features: Sequence[str] = (),
        lookback: dt.timedelta | None = None,
    ) -> pa.Table:
        """See FeatureStore.get_as_of."""
        groups = self._registry.current()
        entry = groups.get(group)
        return read_as_of(
            FeatureSelection(group, tuple(features), lookback=lookback),
            identifiers,
            times,
            schema_of=lambda: (
                self._windowed.get(group).windows.schema if entry is None else entry.group
            ),
            stored=None
            if entry is None or not entry.group.online
            else partial(self._reader.stored, entry),
            resolved=lambda asked: self._resolver.selections([asked])[0],
        )

    def explain(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
    ) -> DatasetPlan:
        """See FeatureStore.explain_dataset."""
        resolved = self._resolver.selections(selections(features))
        return explain(read_spine(spine), resolved, time=time, as_of_us=moment_us(as_of))

    def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """See FeatureStore.run_builder."""
        built, resolved = builderquery.build(options, rows, self._resolver.plain)
        uid = record_builder(self._graph(), built.manifest, resolved)
        return replace(built, manifest={**built.manifest, "lineage": {"uid": uid}})

    def write(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        path: str | Path,
        *,
        memory_limit: int | str | None = None,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
        threads: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        engine: Engine = "duckdb",
        spark: Any | None = None,
    ) -> WrittenDataset:
        """See EmbeddedStore.write_dataset."""
        check_engine(
            engine, spark, memory_limit=memory_limit, threads=threads, on_progress=on_progress
        )
        resolved = self._resolver.selections(selections(features), engine)
        name = spine_name or name_of(spine)
        return engines.write(
            spine,
            resolved,
            Path(path),
            engine=engine,
            time=time,
            as_of_us=moment_us(as_of),
            recorded=lambda manifest: self._with_lineage(manifest, resolved, name, rebuilt=False),
            memory_limit=memory_limit,
            threads=threads,
            on_progress=on_progress,
            session=spark,
        )

    def save(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        return self._saved.save(dataset, now=eventtime.to_datetime(self._now()))

    def load(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        return replace(self._saved.load(fingerprint), keeper=self._keeper)

    def rebuild(
        self,
        fingerprint: str,
        *,
        threads: int | None = None,
        engine: Engine = "duckdb",
        spark: Any | None = None,
    ) -> Dataset:
        """See EmbeddedStore.rebuild_dataset."""
        manifest = self._saved.find(fingerprint).manifest
        dataset, resolved = rebuild(
            manifest,
            self._saved.spine(manifest),
            partial(self._resolver.manifest, engine=engine),
            threads=threads,
            engine=engine,
            session=spark,
        )
        name = str(manifest.get("lineage", {}).get("spine", ""))
        return self._recorded(dataset, resolved, name, rebuilt=True)

    def all(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        return self._saved.list()

    def describe(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        return self._saved.find(fingerprint)

    def check(self, dataset: Dataset, *, rows: int | None = None, seed: int = 0) -> CheckReport:
        """See FeatureStore.check_dataset."""
        resolved = self._resolver.manifest(dataset.manifest)
        return check_dataset(dataset, resolved, rows=rows, seed=seed)

    def _read_and_resolve(
        self, spine: object, features: Iterable[FeatureSelection | str], engine: Engine
    ) -> tuple[pa.Table, list[Resolved]]:
        """Read a spine and find what selections refer to; beside each other where it is a file."""
        if is_query(spine) or not isinstance(spine, str | Path):
            return read_spine(spine), self._resolver.selections(selections(features), engine)
        with ThreadPoolExecutor(1, "spine") as beside:
            reading = beside.submit(read_spine, spine)
            try:
                resolved = self._resolver.selections(selections(features), engine)
            except Exception:
                reading.result()  # of two errors, that of the spine is told
                raise
            return reading.result(), resolved

    def _recorded(
        self, dataset: Dataset, resolved: list[Resolved], spine_name: str, *, rebuilt: bool
    ) -> Dataset:
        manifest = self._with_lineage(dataset.manifest, resolved, spine_name, rebuilt=rebuilt)
        return replace(dataset, manifest=manifest, keeper=self._keeper)

    def _with_lineage(
        self,
        manifest: Mapping[str, Any],
        resolved: list[Resolved],
        spine_name: str,
        *,
        rebuilt: bool,
    ) -> dict[str, Any]:
        uid = record_dataset(
            self._graph(), manifest, resolved, spine_name=spine_name, rebuilt=rebuilt
        )
        source = {"spine": spine_name} if spine_name else {}
        return {**manifest, "lineage": {"uid": uid, **source}}
