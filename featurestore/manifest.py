"""The manifest of a backup: what it holds, and the digest of every file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple, final

from featurestore.archive import FileEntry
from featurestore.errors import InvalidRequest, StoreCorrupt

__all__ = ["MANIFEST", "BackedUpTable", "Manifest"]

MANIFEST: Final = "backup.json"
_FORM: Final = "featureline-backup-1"


class BackedUpTable(NamedTuple):
    """One Delta table of a backup.

    Args:
        group: the feature group's name.
        folder: its folder under `offline`.
        version: the Delta version that was taken.
        sequence: of the last entry that was flushed into it.
    """

    group: str
    folder: str
    version: int
    sequence: int


@final
@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Args:
        version: of Featureline, that made it.
        began: every record acknowledged before is in it.
        finished: when it was whole.
        store_id: the online store's name; None when that was not covered.
        sequence: the online store's running number.
        tables: the offline tables.
        files: every file but the manifest.
        not_covered: what a restore will lack, one sentence each.
        left_out: entries of the home that belong to no store.
    """

    version: str
    began: dt.datetime
    finished: dt.datetime
    store_id: str | None
    sequence: int | None
    tables: tuple[BackedUpTable, ...]
    files: tuple[FileEntry, ...]
    not_covered: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(entry.size for entry in self.files)

    def to_json(self) -> dict[str, Any]:
        """Write the manifest as JSON values."""
        return {
            "form": _FORM,
            "version": self.version,
            "began": self.began.isoformat(),
            "finished": self.finished.isoformat(),
            "store_id": self.store_id,
            "sequence": self.sequence,
            "tables": [table._asdict() for table in self.tables],
            "files": [entry._asdict() for entry in self.files],
            "not_covered": list(self.not_covered),
            "left_out": list(self.left_out),
        }

    def to_bytes(self) -> bytes:
        """Write the manifest as a file, with a digest of itself."""
        body = self.to_json()
        return json.dumps(body | {"digest": _digest(body)}, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a backup.

        Raises:
            InvalidRequest: the folder holds no whole backup, or one of another form.
            StoreCorrupt: the manifest was altered.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise InvalidRequest(
                f"{folder} holds no whole backup: expected {MANIFEST} in it, which is written last"
            )
        try:
            body = json.loads(path.read_bytes())
            digest = body.pop("digest")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise _altered(path) from error
        if body.get("form") != _FORM:
            raise InvalidRequest(
                f"{path}: expected the form {_FORM}, got {body.get('form')!r}; restore it with the "
                f"version of Featureline that wrote it ({body.get('version')})"
            )
        if digest != _digest(body):
            raise _altered(path)
        files = tuple(FileEntry(**entry) for entry in body["files"])
        for entry in files:
            parts = PurePosixPath(entry.path)
            if parts.is_absolute() or ".." in parts.parts:
                raise _altered(path)
        return cls(
            version=body["version"],
            began=dt.datetime.fromisoformat(body["began"]),
            finished=dt.datetime.fromisoformat(body["finished"]),
            store_id=body["store_id"],
            sequence=body["sequence"],
            tables=tuple(BackedUpTable(**table) for table in body["tables"]),
            files=files,
            not_covered=tuple(body["not_covered"]),
            left_out=tuple(body["left_out"]),
        )


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _altered(path: Path) -> StoreCorrupt:
    return StoreCorrupt(f"{path} was altered: its digest does not fit; take another backup")
