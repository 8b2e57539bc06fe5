"""A folder of files with digests that is there whole, or not at all.

It is written beside its place as `NAME.partial`, every file synced and its digest taken from the
bytes as they pass, and takes its name at the end. What is left of one that was killed is cleared
by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, final

from featurestore.errors import InvalidRequest, StoreCorrupt, StoreFull, StoreUnavailable

__all__ = ["Copier", "FileEntry", "chunks_of", "digest_of", "explained", "whole_folder"]

CHUNK_BYTES: Final = 1 << 20
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileEntry(NamedTuple):
    """One file of an archive.

    Args:
        path: from the archive's root, with `/`.
        size: bytes.
        sha256: hexadecimal digest.
    """

    path: str
    size: int
    sha256: str


@contextmanager
def whole_folder(destination: Path, what: str) -> Iterator[Path]:
    """Give a folder to fill; it takes the destination's name when the context ends well.

    Args:
        destination: a folder that does not exist or is empty.
        what: names the folder in errors: `the backup`.

    Raises:
        InvalidRequest: the destination holds something.
        StoreUnavailable: another process fills it, or it cannot be made.
        StoreFull: the disk is full; what was written is removed.
    """
    _refuse_taken(destination, what)
    partial = destination.with_name(f"{destination.name}.partial")
    with explained(f"{what} {destination}"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        lock = _claim(partial)
        try:
            _clear(partial)
            yield partial
            for folder, _, _ in os.walk(partial):
                _sync(Path(folder))
            _refuse_taken(destination, what)
            partial.rename(destination)
            _sync(destination.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(lock)


@final
class Copier:
    """Writes files into a folder and remembers their digests.

    Args:
        root: the folder.
        on_bytes: told how many bytes more were written.
    """

    def __init__(self, root: Path, on_bytes: Callable[[int], None]) -> None:
        self.root = root
        self.entries: list[FileEntry] = []
        self._on_bytes = on_bytes

    def copy(self, source: Path, name: str, *, expected: FileEntry | None = None) -> None:
        """Copy a file as long as it is now, with its rights.

        Args:
            source: the file; it may grow meanwhile.
            name: its path under the root, with `/`.
            expected: what it must be.

        Raises:
            StoreCorrupt: it is not what was expected.
        """
        with source.open("rb") as file:
            status = os.fstat(file.fileno())
            self.write(name, chunks_of(file.fileno(), status.st_size), mode=status.st_mode)
        if expected is not None and self.entries[-1] != expected:
            raise altered(source, expected, self.entries[-1])

    def write(self, name: str, chunks: Iterable[bytes], *, mode: int = 0o644) -> None:
        """Write a file from chunks; one of this name is replaced."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode & 0o777 | 0o200)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                digest.update(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
                size += len(chunk)
                self._on_bytes(len(chunk))
            os.fchmod(file.fileno(), mode & 0o777)
            os.fsync(file.fileno())
        self.entries.append(FileEntry(name, size, digest.hexdigest()))

    def add(self, name: str) -> None:
        """Take in a file that something else wrote under the root."""
        path = self.root / name
        _sync(path)
        entry = digest_of(path, name)
        self.entries.append(entry)
        self._on_bytes(entry.size)


def digest_of(path: Path, name: str) -> FileEntry:
    """Read a file and take its digest."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(name, size, digest.hexdigest())


def chunks_of(descriptor: int, size: int) -> Iterator[bytes]:
    """Read up to `size` bytes of a file."""
    while size > 0 and (chunk := os.read(descriptor, min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def altered(path: Path, expected: FileEntry, got: FileEntry) -> StoreCorrupt:
    """Build the error of a file that is not what the manifest says."""
    return StoreCorrupt(
        f"{path} was altered: expected {expected.size:,} bytes with SHA-256 {expected.sha256}, "
        f"got {got.size:,} with {got.sha256}; take another backup"
    )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the system raises into this package's errors."""
    try:
        yield
    except OSError as error:
        where = f"{what}: {error.filename or ''}".rstrip(": ")
        if error.errno in _FULL:
            raise StoreFull(
                f"{where}: no space left; what was written is removed, free space and try again"
            ) from error
        raise StoreUnavailable(f"{where}: {error.strerror or error}") from error


def _refuse_taken(destination: Path, what: str) -> None:
    if destination.is_mount():
        raise InvalidRequest(f"{what} {destination}: a mounted disk; name a folder in it")
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise InvalidRequest(
            f"{what} {destination}: expected a folder that does not exist or is empty; nothing "
            f"is written over it, choose another"
        )


def _claim(partial: Path) -> int:
    """Make the folder and hold it against other processes."""
    while True:
        partial.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreUnavailable(
                f"{partial} is being written by another process; wait for it, or choose another "
                f"folder"
            ) from error
        # Its holder may have renamed or removed it between our two steps.
        if partial.exists() and os.path.samestat(partial.stat(), os.fstat(lock)):
            return lock
        os.close(lock)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
