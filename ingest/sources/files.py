"""Files as a source: Parquet, Arrow, CSV and JSON lines; one file, a folder, or one that grows."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO, Final, Literal, final

import lineage
from featurestore import PartitionPosition
from ingest.errors import IngestError, SourceChanged, SourceNotFound, SourceUnavailable
from ingest.source import Batch, Message, Source, StoredPositions
from ingest.sources.folder import FileIndex, Folder, Known, Stamp
from ingest.sources.formats import (
    HAS_COLUMNS,
    Row,
    Rows,
    columns_of,
    kind_of,
    read_rows,
    readable,
)

__all__ = ["FileSource"]

_log = logging.getLogger(__name__)

_MAX_FILES: Final = 256  # of one batch
_HEADERS: Final = 64  # of a folder that grows are read at the beginning
# A look at a folder of many files takes its time: it shall not take more than a tenth of all time.
_LOOK_SHARE: Final = 10


@final
class FileSource(Source):
    """Reads the rows of one file, or of all files under a folder in order of name.

    A partition is a file by its uri and content, the position in it is the row, counted from 0:
    what was stored is not stored again, by whichever path it is read, and a load that was killed
    goes on at its row. A file whose content changed is another file, and is loaded whole.

    Parquet (`.parquet`) and Arrow IPC (`.arrow`, `.feather`) give typed rows; timestamps need a
    zone and are floored to microseconds. CSV (`.csv`, with a header, RFC 4180, UTF-8) gives text,
    where an empty field is null; the feature group says what a text must be. JSON lines (`.jsonl`,
    `.ndjson`, `.json`) give bytes for a `JsonDecoder`. CSV and JSON lines may be compressed
    (`.gz`). Below a folder, names that begin with `.` or `_` are left out.

    **With `watch`** the folder is looked at again and again, and each new file is read once it is
    whole: a file's size and time must not have changed for `settle_s`. Writers that write under
    another name (`.part-7.tmp`) and rename never meet that doubt. A file that changes after it was
    read is read as another file, and the log says so; one that is replaced or removed while it is
    read is read to its end. Files of another kind than the first are left out, with a warning.

    Args:
        path: a file or a folder.
        watch: go on with files that come later, for ever.
        pattern: shell pattern of names (`*.parquet`) or, with a `/` in it, of paths below the
            folder. It also tells the kind of file while a watched folder is still empty.
        settle_s: see above.
        look_s: time between two looks at a watched folder, and more if it takes long to look; 0:
            look at every poll.
        index: file that keeps the digests of files that were read, so that a restart opens only
            what is new. It may be deleted at any time. None: what is known ends with the source.
        on_unreadable: what to do about a damaged file in a watched folder: end the run, or leave
            the file out with an error in the log until it changes.
        unavailable_timeout_s: how long a watched folder may be away, as when a mount is.

    Raises:
        ValueError: an option is out of range.

    Cost: each file is read once more for its digest; going on at row n of a CSV or JSON-lines
    file reads over n rows, Parquet and Arrow skip batches. Watching takes a stat for each file and
    look, and about 1 KB of memory for each file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        watch: bool = False,
        pattern: str | None = None,
        settle_s: float = 2.0,
        look_s: float = 1.0,
        index: str | Path | None = None,
        on_unreadable: Literal["fail", "skip"] = "fail",
        unavailable_timeout_s: float = 60.0,
    ) -> None:
        for what, seconds in (
            ("settle_s", settle_s),
            ("look_s", look_s),
            ("unavailable_timeout_s", unavailable_timeout_s),
        ):
            if not seconds >= 0:
                raise ValueError(f"{what}: expected 0 seconds or more, got {seconds}")
        if on_unreadable not in ("fail", "skip"):
            raise ValueError(f"on_unreadable: expected 'fail' or 'skip', got {on_unreadable!r}")
        self.path = Path(path)
        self.watch = watch
        self.pattern = pattern
        self.on_unreadable = on_unreadable
        self._settle_s = settle_s
        self._look_s = look_s
        self._unavailable_timeout_s = unavailable_timeout_s
        self._index_path = None if index is None else Path(index)
        self._index: FileIndex | None = None
        self._folder: Folder | None = None
        self._kind: str | None = None
        self._next_look = 0.0
        self._seen_at = 0.0
        # What was there when reading began and has not been handed out yet; those that may still
        # be being written are known by their path only.
        self._expected: set[str] = set()
        self._waiting: deque[Path] = deque()
        self._position: dict[str, int] = {}
        self._partitions: dict[Path, str] = {}
        self._left_out: set[Path] = set()
        self._reading: _Reading | None = None
        self._error: IngestError | None = None
        self._inputs: dict[str, lineage.Entity] = {}

    @property
    def name(self) -> str:
        """`files`: one name for all, so that a file is known by whichever path it is reached."""
        return "files"

    def inputs(self) -> Sequence[lineage.Entity]:
        """Name each file that gave rows, by uri and SHA-256."""
        return tuple(self._inputs.values())

    def seek(self, stored: StoredPositions) -> None:
        """Find the files and go on in each where the store stands.

        Raises:
            SourceNotFound: there is no such file, or no file of a known kind in the folder.
            IngestError: the folder holds several kinds, or a file cannot be read.
        """
        self.close()
        if self._index is None and (self.watch or self._index_path is not None):
            self._index = FileIndex(self._index_path)
        self._position = dict(stored())
        if self.watch:
            self._begin_watching()
        else:
            files = self._files()
            self._kind = kind_of(files[0])
            self.columns = self._columns_of(files)
            self._waiting.extend(files)

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next rows; only a watched folder is waited for.

        Small files share a batch: it has a stretch for each.

        Raises:
            SourceChanged: the file was written to while it was read, and is not watched.
            SourceNotFound: a file was removed before it was read, and is not watched.
            SourceUnavailable: the watched folder has been away for `unavailable_timeout_s`.
            IngestError: the file is damaged.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        deadline = time.monotonic() + timeout_s
        while True:
            batch = self._gather(max_records)
            if batch.messages or not self.watch:
                return batch
            if not self._look():
                pause_s = min(self._next_look, deadline) - time.monotonic()
                if pause_s > 0:
                    time.sleep(pause_s)
            if not self._waiting and time.monotonic() >= deadline:
                return Batch(is_caught_up=not self._expected)

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Do nothing: files have no tools of their own."""

    def close(self) -> None:
        """Close the file that is being read."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None
        self._error = None
        self._waiting.clear()

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if not self.path.is_dir():
            raise SourceNotFound(f"{self.path}: no such file or folder")
        found = sorted(
            Path(path) for path, _ in Folder(self.path, self.pattern, self._settle_s).listed()
        )
        kinds = {kind_of(path): path for path in found}
        if not kinds:
            like = "" if self.pattern is None else f" named {self.pattern!r}"
            raise SourceNotFound(f"{self.path}: no files{like} in the folder")
        if len(kinds) > 1:
            examples = ", ".join(str(path.name) for path in kinds.values())
            raise IngestError(
                f"{self.path}: expected files of one kind, got {sorted(kinds)} ({examples}); "
                f"load each kind from a folder of its own, or name one with a pattern"
            )
        return found

    def _columns_of(self, files: Sequence[Path]) -> Sequence[str] | None:
        if self._kind not in HAS_COLUMNS:
            return None
        columns: dict[str, None] = {}
        for path in files:
            try:
                with readable(path):
                    columns.update(dict.fromkeys(columns_of(path, self._kind)))
            except IngestError as error:
                if not self.watch or not (
                    isinstance(error, SourceNotFound) or self.on_unreadable == "skip"
                ):
                    raise
        return tuple(columns)

    def _begin_watching(self) -> None:
        if not self.path.is_dir():
            what = "a folder to watch, got a file" if self.path.exists() else "a folder, got none"
            raise SourceNotFound(f"{self.path}: expected {what}")
        self._folder = Folder(self.path, self.pattern, self._settle_s)
        self._seen_at = time.monotonic()
        self._next_look = 0.0
        self._look()
        self._expected = {str(path) for path in self._waiting} | self._folder.settling
        if self._kind is None:
            self._kind = self._kind_to_come()
        # New columns are refused record by record, as they come: here only what is worth it early.
        some = list(self._waiting)
        if len(some) > 2 * _HEADERS:
            some = some[:_HEADERS] + some[-_HEADERS:]
        self.columns = self._columns_of(some)

    def _kind_to_come(self) -> str:
        assert self._folder is not None
        names = sorted(self._folder.settling) or ([self.pattern] if self.pattern else [])
        for name in names:
            try:
                return kind_of(PurePath(name))
            except IngestError:
                continue
        raise IngestError(
            f"{self.path}: expected a pattern, since the folder is empty and does not tell of "
            f"which kind its files will be; give one such as '*.parquet'"
        )

    def _look(self) -> bool:
        """Look at the watched folder, if it is time; whether there is anything new."""
        assert self._folder is not None
        began = time.monotonic()
        if began < self._next_look:
            return False
        try:
            found = self._folder.look()
        except SourceNotFound as error:
            away_s = began - self._seen_at
            if away_s > self._unavailable_timeout_s:
                raise SourceUnavailable(
                    f"{self.path}: the folder has been away for {away_s:.0f} s; check that it is "
                    f"mounted, then start again"
                ) from error
            _log.warning("%s: the folder is away, looking again", self.path)
            self._next_look = began + self._look_s
            return False
        self._seen_at = time.monotonic()
        took_s = self._seen_at - began
        self._next_look = self._seen_at
        if self._look_s:
            self._next_look += max(self._look_s, _LOOK_SHARE * took_s)
        # What is neither waiting nor settling any more is gone.
        self._expected &= {str(path) for path in found} | self._folder.settling
        fresh = [path for path in found if self._is_meant(path)]
        self._waiting.extend(fresh)
        return bool(fresh)

    def _is_meant(self, path: Path) -> bool:
        try:
            kind = kind_of(path)
        except IngestError as error:
            kind, why = "", str(error)
        else:
            self._kind = self._kind or kind
            why = f"{path}: expected a file of the kind {self._kind!r}, got {kind!r}"
        if kind == self._kind:
            return True
        self._expected.discard(str(path))
        if path not in self._left_out:
            self._left_out.add(path)
            _log.warning("left out: %s; give a pattern that tells the files to read", why)
        return False

    def _gather(self, max_records: int) -> Batch:
        messages: list[Message] = []
        stretches: list[PartitionPosition] = []
        size = 0
        while len(messages) < max_records and len(stretches) < _MAX_FILES:
            if self._reading is None and not self._waiting:
                break
            try:
                reading = self._reading or self._open(self._waiting[0])
                if reading is None:
                    self._waiting.popleft()
                    continue
                self._reading = reading
                rows = reading.take(max_records - len(messages))
            except IngestError as error:
                if not self._survives(error):
                    if not messages:
                        raise
                    self._error = error  # after what was read before it
                    break
                continue
            if not rows:
                self._finish(reading)
                continue
            label, start = reading.partition, reading.position
            reading.position = rows[-1][0] + 1
            self._inputs[label] = reading.artifact
            stretches.append(PartitionPosition(label, start, reading.position))
            messages += [Message(label, row, value, fault=fault) for row, value, fault in rows]
            size += sum(len(value) for _, value, _ in rows if isinstance(value, bytes))
        is_done = self._reading is None and not self._waiting and self._error is None
        return Batch(
            messages,
            tuple(stretches),
            size,
            is_caught_up=is_done and not self._expected if self.watch else is_done,
            is_last=is_done and not self.watch and not messages,
        )

    def _open(self, path: Path) -> _Reading | None:
        """Open a file where the store stands; None when all of it is stored."""
        assert self._kind is not None
        with readable(path):
            reading = _Reading(path, self._kind, self._index)
        before = self._partitions.get(path)
        if before is not None and before != reading.partition:
            _log.warning("%s has changed since it was read: it is read as another file", path)
        if self.watch:
            self._partitions[path] = reading.partition
        reading.begin(self._position.get(reading.partition, 0))
        if reading.is_stored:
            reading.close()
            self._expected.discard(str(path))
            return None
        return reading

    def _finish(self, reading: _Reading) -> None:
        if self._index is not None:
            known = Known(reading.digest, reading.position)
            self._index.note(reading.path, reading.stamp, known)
        self._position[reading.partition] = reading.position
        self._let_go(reading.path)

    def _let_go(self, path: Path) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None
        self._expected.discard(str(path))
        if self._waiting and self._waiting[0] == path:
            self._waiting.popleft()

    def _survives(self, error: IngestError) -> bool:
        """Whether reading goes on with the next file."""
        if not self.watch:
            return False
        assert self._folder is not None
        path = self._waiting[0]
        if isinstance(error, SourceChanged):
            _log.warning("%s", error)
            is_expected = str(path) in self._expected
            self._folder.forget(path)
            self._let_go(path)
            if is_expected:
                self._expected.add(str(path))
            return True
        if isinstance(error, SourceNotFound):
            _log.warning("%s was removed before it was read", path)
        elif self.on_unreadable == "skip":
            _log.error("left out: %s", error)
        else:
            return False
        self._let_go(path)
        return True


@final
class _Reading:
    """One file that is being read: where it stands, and that it stays what it was.

    The file is opened once, for the digest and for the rows: what becomes of its name does not
    matter to it.
    """

    def __init__(self, path: Path, kind: str, index: FileIndex | None) -> None:
        self.path = path
        self.position = 0
        self._kind = kind
        self._file = path.open("rb")
        self._copy: BinaryIO | None = None
        self._rows: Rows | None = None
        try:
            self.stamp = self._looks()
            known = None if index is None else index.find(path, self.stamp)
            if known is None:
                digest = hashlib.file_digest(self._file, "sha256").hexdigest()
                known = Known(digest)
                if index is not None:
                    index.note(path, self.stamp, known)
        except OSError:
            self._file.close()
            raise
        self.digest = known.digest
        self._end = known.end
        uri = path.resolve().as_uri()
        self.partition = f"{uri}#sha256={self.digest}"
        self.artifact = lineage.artifact("DataSet", uri, content_hash=f"sha256:{self.digest}")

    @property
    def is_stored(self) -> bool:
        """Whether nothing is left to read, as far as an index tells."""
        return self._end is not None and self.position >= self._end

    def begin(self, position: int) -> None:
        self.position = position
        self._file.seek(0)
        # Readers close what they read at its end; the file's stamp is asked for after that.
        self._copy = os.fdopen(os.dup(self._file.fileno()), "rb")
        self._rows = read_rows(self._copy, self.path, self._kind, position)

    def take(self, limit: int) -> list[Row]:
        assert self._rows is not None
        with readable(self.path):
            rows = list(islice(self._rows, limit))
            looks = self._looks()
        if (looks.size, looks.mtime_ns) != (self.stamp.size, self.stamp.mtime_ns):
            raise SourceChanged(
                f"{self.path}: the file changed while it was read, at about row "
                f"{self.position}; rows before it are stored. Write files elsewhere and "
                f"rename them into place, then load again"
            )
        return rows

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()
        if self._copy is not None:
            self._copy.close()
        self._file.close()

    def _looks(self) -> Stamp:
        return Stamp.of(os.fstat(self._file.fileno()))
