"""Every metric of a job, as an Arrow stream in its folder.

The stream is written while the job runs and may be read at any time: rows that are not whole yet,
or were cut off by a crash, are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import pyarrow as pa

__all__ = ["METRIC_SCHEMA", "MetricReader", "MetricWriter", "last_values", "read_metrics"]

METRIC_SCHEMA: Final = pa.schema(
    {
        "job": pa.string(),
        "host": pa.string(),
        "step": pa.int64(),
        "epoch": pa.int64(),
        "name": pa.string(),
        "value": pa.float64(),
        "time": pa.timestamp("us", "UTC"),
    }
)
_FLUSH_S: Final = 0.5
_FLUSH_ROWS: Final = 4096
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""How Arrow ends a stream."""


@final
class MetricWriter:
    """Appends a job's metrics; what is added can be read half a second later.

    Args:
        path: of the stream.
        job: the job's name.
        every_s: how often to write, in seconds.
        goes_on: keep the rows of a stream that is there; else it is replaced.
    """

    def __init__(
        self, path: Path, job: str, *, every_s: float = _FLUSH_S, goes_on: bool = False
    ) -> None:
        self._job = job
        self._every_s = every_s
        end = _whole_bytes(path) if goes_on else 0
        self._file = path.open("r+b" if end else "wb")
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._file.write(METRIC_SCHEMA.serialize())
            self._file.flush()
        self._rows: list[dict[str, Any]] = []
        self._flushed = time.monotonic()

    def add(
        self,
        name: str,
        value: float,
        *,
        host: str,
        micros: int,
        step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        """Add one value.

        Args:
            name: of the metric.
            value: of it.
            host: that reported it.
            micros: when, in microseconds since 1970.
            step: of the fit, where known.
            epoch: of the fit, where known.
        """
        self._rows.append(
            {
                "job": self._job,
                "host": host,
                "step": step,
                "epoch": epoch,
                "name": name,
                "value": value,
                "time": micros,
            }
        )
        if len(self._rows) >= _FLUSH_ROWS:
            self.flush()

    def flush(self, *, due: bool = False) -> None:
        """Write what was added; with `due` only when that was not done for a while."""
        now = time.monotonic()
        if not self._rows or (due and now < self._flushed + self._every_s):
            return
        self._file.write(pa.RecordBatch.from_pylist(self._rows, METRIC_SCHEMA).serialize())
        self._file.flush()
        self._rows.clear()
        self._flushed = now

    def close(self) -> None:
        """Write the rest and end the stream."""
        self.flush()
        self._file.write(_END)
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_metrics(path: Path) -> pa.Table:
    """Return what a stream has so far, in the order of writing; no rows when there is none."""
    with MetricReader(path) as reader:
        return pa.Table.from_batches(reader.read(), METRIC_SCHEMA)


def last_values(path: Path) -> list[tuple[str, float, int]]:
    """Return the last value of each metric in a stream: name, value, microseconds since 1970."""
    found: dict[str, tuple[str, float, int]] = {}
    with MetricReader(path) as reader:
        for batch in reader.read():
            times = batch["time"].cast(pa.int64())
            columns = (column.to_pylist() for column in (batch["name"], batch["value"], times))
            found |= {row[0]: row for row in zip(*columns, strict=True)}
    return list(found.values())


@final
class MetricReader:
    """Reads a stream on while it is written; it holds one batch at a time.

    Args:
        path: of the stream, which may come later.
        offset: how many rows to leave out.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._left_out = offset
        self._file: pa.NativeFile | None = None
        self._schema: pa.Schema | None = None
        self.offset = 0

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are whole by now and were not yielded yet.

        `offset` tells behind each batch how many rows the stream had up to there.
        """
        if self._file is None:
            if not self._path.is_file():
                return
            self._file = pa.OSFile(str(self._path), "rb")
        while (message := self._next()) is not None:
            if self._schema is None:
                self._schema = pa.ipc.read_schema(message)
                continue
            batch = pa.ipc.read_record_batch(message, self._schema)
            before, self.offset = self.offset, self.offset + len(batch)
            if self.offset > self._left_out:
                yield batch.slice(max(0, self._left_out - before))

    @property
    def whole_bytes(self) -> int:
        """How many bytes of the stream have been read: all messages up to there are whole."""
        return 0 if self._file is None else int(self._file.tell())

    def _next(self) -> pa.Message | None:
        assert self._file is not None
        begin = self._file.tell()
        try:
            return pa.ipc.read_message(self._file)
        except (EOFError, pa.ArrowInvalid, OSError):
            # The end, or a batch that is not whole yet.
            self._file.seek(begin)
            return None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _whole_bytes(path: Path) -> int:
    """Return the size of a stream without its end, and without a batch that was cut off."""
    with MetricReader(path) as reader:
        for _ in reader.read():
            pass
        return reader.whole_bytes
