"""A local copy of the Parquet files of tables on object stores, bounded in size.

A file of a Delta table is written once and never changed, and its name is unique: a copy under
its name is exact for ever.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pa_fs

__all__ = ["FileCache", "file_system"]

DEFAULT_BYTES: Final = 20 << 30
_AT_ONCE: Final = 8
_CONNECT_S: Final = 5.0
_REQUEST_S: Final = 60.0
_CHUNK: Final = 8 << 20
# A file that was asked for within this time may be about to be read, by any process.
_IN_USE_S: Final = 3600.0


def file_system(uri: str, options: Mapping[str, str] | None) -> Any:
    """Open the folder of a table as an Arrow file system, with the options that the table has.

    By Arrow's own S3 client: that of delta-rs lets no other thread run while it waits for a file.
    """
    given = options or {}
    if not uri.startswith("s3://"):
        return pa_fs.SubTreeFileSystem(uri, pa_fs.LocalFileSystem())
    endpoint = urlsplit(given.get("aws_endpoint_url", ""))
    server = pa_fs.S3FileSystem(
        access_key=given.get("aws_access_key_id"),
        secret_key=given.get("aws_secret_access_key"),
        session_token=given.get("aws_session_token"),
        region=given.get("aws_region", given.get("aws_default_region")),
        scheme=endpoint.scheme or None,
        endpoint_override=endpoint.netloc or None,
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
    )
    return pa_fs.SubTreeFileSystem(uri.removeprefix("s3://"), server)


@final
class FileCache:
    """Files of tables on object stores, in a folder that many processes may share.

    Args:
        folder: made when absent.
        size_bytes: when more is kept, files that were not used for the longest go, but none that
            was asked for within the last hour.
    """

    def __init__(self, folder: Path, *, size_bytes: int = DEFAULT_BYTES) -> None:
        self._folder = folder
        self._size_bytes = size_bytes

    def fetch(self, uri: str, names: Sequence[str], options: Mapping[str, str] | None) -> list[str]:
        """Return local paths of files of a table, in their order; only absent ones are read.

        Args:
            uri: of the table.
            names: paths of the files in the table, as its log has them.
            options: storage options.

        Raises:
            FileNotFoundError: the table has lost a file.
            OSError: the object store cannot be reached, or the disk is full.
        """
        place = self._folder / hashlib.sha256(uri.encode()).hexdigest()[:32]
        paths = [place / unquote(name) for name in names]
        absent = []
        for name, path in zip(names, paths, strict=True):
            try:
                os.utime(path)  # asked for now
            except FileNotFoundError:
                absent.append((unquote(name), path))
        if absent:
            source = file_system(uri, options)
            with ThreadPoolExecutor(min(_AT_ONCE, len(absent))) as pool:
                list(pool.map(lambda pair: _copy(source, *pair), absent))
            self._shrink()
        return [str(path) for path in paths]

    def forget(self, uri: str, names: Sequence[str]) -> None:
        """Remove the copies of files of a table, as far as there are any."""
        place = self._folder / hashlib.sha256(uri.encode()).hexdigest()[:32]
        for name in names:
            (place / unquote(name)).unlink(missing_ok=True)

    def _shrink(self) -> None:
        kept = sorted(self._files(), key=lambda entry: entry[1].st_mtime)
        total = sum(stat.st_size for _, stat in kept)
        unused_before = time.time() - _IN_USE_S
        for path, stat in kept:
            if total <= self._size_bytes or stat.st_mtime > unused_before:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = Path(folder, name)
                try:
                    yield path, path.stat()
                except FileNotFoundError:
                    continue  # another process was faster


def _copy(source: Any, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with source.open_input_file(name) as remote, part.open("wb") as local:
            shutil.copyfileobj(remote, local, _CHUNK)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
