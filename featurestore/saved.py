"""Saved datasets: files of a home, named by their content."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.ipc

from featurestore.dataset import Dataset
from featurestore.digest import table_digest
from featurestore.errors import DatasetChanged, DatasetNotFound, InvalidRequest, StoreCorrupt
from featurestore.statistics import describe

__all__ = ["SavedDataset", "SavedDatasets"]

_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}")
_SHOWN: Final = 12


@final
@dataclass(frozen=True)
class SavedDataset:
    """One dataset of a home, without its rows.

    Args:
        fingerprint: names its content.
        path: its Parquet file.
        manifest: see `Dataset`.
        statistics: column → what `featurestore.statistics.describe` says of it.
        saved: when it was.
        size_bytes: of the Parquet file.
    """

    fingerprint: str
    path: Path
    manifest: Mapping[str, Any]
    statistics: Mapping[str, Any]
    saved: dt.datetime
    size_bytes: int

    @property
    def features(self) -> dict[str, str]:
        """The feature columns, with the group and feature each comes from."""
        columns = self.manifest["columns"]
        return {name: origin for name, origin in columns.items() if origin != "spine"}

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "fingerprint": self.fingerprint,
            "rows": self.manifest["rows"],
            "versions": self.manifest["versions"],
            "as_of": self.manifest["as_of"],
            "features": self.features,
            "spine_digest": self.manifest["spine_digest"],
            "saved": self.saved.isoformat(),
            "size_bytes": self.size_bytes,
            "path": str(self.path),
            "statistics": self.statistics,
        }


@final
class SavedDatasets:
    """The datasets of a home.

    `datasets/<fingerprint>.parquet` has the rows with their manifest, the `.json` beside it the
    statistics, `spines/<digest>.arrow` the spine, which several datasets may share.

    Args:
        folder: `artifacts` of the home; made by the first save.
    """

    def __init__(self, folder: Path) -> None:
        self._datasets = folder / "datasets"
        self._spines = folder / "spines"

    def save(self, dataset: Dataset, *, now: dt.datetime) -> Path:
        """Keep a dataset, its spine and its statistics; nothing is written twice.

        The file with the rows is written last: where it is, the others are.

        Args:
            dataset: a whole one.
            now: the time to note.

        Raises:
            InvalidRequest: it is a part of a dataset, or was altered since it was built.
        """
        manifest = dataset.manifest
        path = self._path(dataset.fingerprint)
        about = path.with_suffix(".json")
        spine = self._spine_path(str(manifest["spine_digest"]))
        if dataset.parent is None and path.exists() and about.exists() and spine.exists():
            return path
        if (
            dataset.parent is not None
            or len(dataset) != manifest["rows"]
            or table_digest(dataset.table) != (manifest["rows_digest"])
        ):
            raise InvalidRequest(
                f"dataset {dataset.fingerprint[:_SHOWN]}: expected the {manifest['rows']} rows it "
                f"was built with, got {len(dataset)} other ones; write a part with "
                f"dataset.write(path)"
            )
        if not spine.exists():
            _write_spine(dataset.spine, spine)
        if not about.exists():
            body = {"saved": now.isoformat(), "statistics": describe(dataset.table)}
            _write_whole(about, json.dumps(body, indent=1).encode() + b"\n")
        return path if path.exists() else dataset.write(path)

    def list(self) -> list[SavedDataset]:
        """Return the saved datasets, the oldest first."""
        found = [self._read(path) for path in self._datasets.glob("*.parquet")]
        return sorted(found, key=lambda one: (one.saved, one.fingerprint))

    def remove(self, fingerprint: str) -> None:
        """Delete a dataset, and its spine when no other dataset has it.

        Raises:
            DatasetNotFound: see `find`.
        """
        found = self.find(fingerprint)
        digest = str(found.manifest["spine_digest"])
        others = (one for one in self.list() if one.fingerprint != found.fingerprint)
        if all(str(one.manifest["spine_digest"]) != digest for one in others):
            self._spine_path(digest).unlink(missing_ok=True)
        found.path.with_suffix(".json").unlink(missing_ok=True)
        found.path.unlink()  # last: where it is, the others are looked for

    def find(self, fingerprint: str) -> SavedDataset:
        """Return the dataset of a fingerprint, or of its first characters, four or more.

        Raises:
            DatasetNotFound: none, or more than one, begins so.
            InvalidRequest: it is no fingerprint.
        """
        if not _PREFIX.fullmatch(fingerprint):
            raise InvalidRequest(
                f"expected a dataset's fingerprint or 4 or more of its first characters (0-9, "
                f"a-f), got {fingerprint!r}"
            )
        paths = sorted(self._datasets.glob(f"{fingerprint}*.parquet"))
        if len(paths) != 1:
            known = ", ".join(path.stem[:_SHOWN] for path in paths)
            why = f"more than one begins so: {known}" if paths else "see `featureline dataset list`"
            raise DatasetNotFound(
                f"dataset {fingerprint!r} is not saved in {self._datasets.parent}; {why}"
                if not paths
                else f"dataset {fingerprint!r}: {why}",
                fingerprint=fingerprint,
            )
        return self._read(paths[0])

    def load(self, fingerprint: str) -> Dataset:
        """Read a dataset's rows, checked against their digest.

        Raises:
            DatasetNotFound: see `find`.
            StoreCorrupt: the file was altered.
        """
        found = self.find(fingerprint)
        dataset = Dataset.read(found.path)
        if table_digest(dataset.table) != dataset.manifest["rows_digest"]:
            raise StoreCorrupt(
                f"{found.path} was altered: its rows do not have the digest it names; build it "
                f"again with store.rebuild_dataset"
            )
        return dataset

    def spine(self, manifest: Mapping[str, Any]) -> pa.Table:
        """Read the spine that a dataset was built from.

        Raises:
            DatasetChanged: it is not there, or was altered.
        """
        digest = str(manifest["spine_digest"])
        path = self._spine_path(digest)
        try:
            with pa.OSFile(str(path)) as file:
                spine = pa.ipc.open_file(file).read_all()
        except FileNotFoundError:
            raise _changed(manifest, "spine", f"its spine {path} is gone") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise _changed(manifest, "spine", f"its spine {path}: {error}") from error
        if table_digest(spine) != digest:
            raise _changed(manifest, "spine", f"its spine {path} was altered")
        return spine

    def _path(self, fingerprint: str) -> Path:
        return self._datasets / f"{fingerprint}.parquet"

    def _spine_path(self, digest: str) -> Path:
        return self._spines / f"{digest}.arrow"

    def _read(self, path: Path) -> SavedDataset:
        manifest = Dataset.read_manifest(path)
        written = path.stat()
        saved = dt.datetime.fromtimestamp(written.st_mtime, dt.UTC)
        about: dict[str, Any] = {}
        beside = path.with_suffix(".json")
        if beside.exists():
            about = json.loads(beside.read_bytes())
            saved = dt.datetime.fromisoformat(about["saved"])
        return SavedDataset(
            path.stem, path, manifest, about.get("statistics", {}), saved, written.st_size
        )


def _changed(manifest: Mapping[str, Any], what: str, why: str) -> DatasetChanged:
    fingerprint = str(manifest["fingerprint"])
    return DatasetChanged(
        f"dataset {fingerprint[:_SHOWN]} cannot be built again: {why}",
        fingerprint=fingerprint,
        input=what,
    )


def _write_spine(spine: pa.Table, path: Path) -> None:
    # Arrow's own format gives every type back as it was, so that the digest stays.
    rows = spine.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
    with pa.ipc.new_file(sink, rows.schema, options=options) as writer:
        writer.write_table(rows)
    _write_whole(path, sink.getvalue())


def _write_whole(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
