"""Restore of a home from a backup, with every file checked against its digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from featurestore.archive import Copier, altered, digest_of, explained, whole_folder
from featurestore.errors import StoreCorrupt
from featurestore.manifest import Manifest
from featurestore.provenance import record_home_restore

__all__ = ["check_backup", "restore_backup"]

Progress = Callable[[int, int], None]


def check_backup(source: Path, *, on_progress: Progress = lambda done, total: None) -> Manifest:
    """Check every file of a backup against its digest; restore nothing.

    Raises:
        InvalidRequest: the folder holds no whole backup.
        StoreCorrupt: a file is missing or was altered.
    """
    manifest = Manifest.read(source)
    done = 0
    with explained(f"the backup {source}"):
        for entry in manifest.files:
            path = _existing(source, entry.path)
            found = digest_of(path, entry.path)
            if found != entry:
                raise altered(path, entry, found)
            done += entry.size
            on_progress(done, manifest.size_bytes)
    return manifest


def restore_backup(
    source: Path, home: Path, *, on_progress: Progress = lambda done, total: None
) -> Manifest:
    """Make a home from a backup.

    The store keeps its identity: the entries of the restored outbox that are in the restored
    tables already are known by it. So never go on with the old home beside the new one, where both
    write into one place.

    Args:
        source: the backup's folder.
        home: a folder that does not exist or is empty.
        on_progress: told the bytes done and the bytes there are in all.

    Raises:
        InvalidRequest: the source holds no whole backup, or the home holds something.
        StoreCorrupt: a file is missing or was altered; the home is not made.
        StoreFull: the disk is full; the home is not made.
        lineage.LineageError: it cannot be recorded in the lineage that the backup has; the home is
            not made.
    """
    manifest = Manifest.read(source)
    done = 0

    def add(size: int) -> None:
        nonlocal done
        done += size
        on_progress(done, manifest.size_bytes)

    with whole_folder(home, "the home") as folder:
        copier = Copier(folder, add)
        for entry in manifest.files:
            copier.copy(_existing(source, entry.path), entry.path, expected=entry)
        # The home goes on with the lineage of the backup.
        record_home_restore(folder, source, manifest)
    return manifest


def _existing(source: Path, name: str) -> Path:
    path = source / name
    if not path.is_file():
        raise StoreCorrupt(f"{path} is missing from the backup; take another backup")
    return path
