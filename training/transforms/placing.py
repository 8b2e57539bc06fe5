"""Puts the answers of a transform job where they are wanted, each file whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import lineage

__all__ = ["folder_entity", "move_file"]


def move_file(source: Path, target: Path, job: str) -> None:
    """Move a file, into another file system too.

    Args:
        source: the file.
        target: where it belongs.
        job: whose file it is.
    """
    try:
        source.replace(target)
    except OSError:
        # Another file system: bring the bytes beside the target first.
        part = target.with_name(f".{target.name}.{job}.part")
        try:
            shutil.copyfile(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def folder_entity(folder: Path, files: Mapping[str, Path]) -> lineage.Entity:
    """Return the folder of the answers, as a job that reads it names it."""
    hashes = {name: lineage.file_digest(path) for name, path in files.items()}
    content = next(iter(hashes.values()), hashlib.sha256(b"").hexdigest())
    if len(hashes) > 1:
        listing = "".join(f"{name}\0{digest}\n" for name, digest in sorted(hashes.items()))
        content = hashlib.sha256(listing.encode()).hexdigest()
    return lineage.artifact(
        "DataSet",
        folder.absolute().as_uri(),
        content_hash=content,
        properties={
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files.values()),
        },
    )
