"""Messages of loads and backfills: plain functions that the client and the server share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.ipc

from featurestore.errors import FeatureStoreError, InvalidRequest
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.store import WriteError
from featurestore.v1 import transfer_pb2

__all__ = [
    "LoadRequests",
    "backfill_result_message",
    "load_result_messages",
    "progress_message",
    "read_backfill",
    "read_load",
]

_CHUNK_BYTES: Final = 1 << 20
_ERRORS: Final = 500


@final
class LoadRequests:
    """The messages of a load, made as they are sent.

    gRPC swallows what fails while it asks for the next message: `failure` has it then, and the
    last message, without which a server stores nothing, is not sent.

    Args:
        group: the feature group.
        batches: the rows, all with the same columns.
        key: of the load.
        source: uri of where the rows came from.
    """

    def __init__(
        self, group: str, batches: Iterator[pa.RecordBatch], *, key: str, source: str
    ) -> None:
        self._spec = transfer_pb2.LoadSpec(feature_group_name=group, key=key, source=source)
        self._batches = batches
        self.failure: FeatureStoreError | None = None

    def __iter__(self) -> Iterator[transfer_pb2.LoadRowsRequest]:
        try:
            yield from self._messages()
        except FeatureStoreError as error:
            self.failure = error

    def _messages(self) -> Iterator[transfer_pb2.LoadRowsRequest]:
        first = next(self._batches, None)
        self._spec.feature_names.extend([] if first is None else first.schema.names)
        yield transfer_pb2.LoadRowsRequest(spec=self._spec)
        sent = 0
        if first is not None:
            sink = _Sink()
            with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), first.schema) as writer:
                for batch in _with(first, self._batches):
                    if batch.schema != first.schema:
                        raise InvalidRequest(
                            f"{self._spec.feature_group_name}: expected rows with the same columns "
                            f"throughout, got {batch.schema.names} of other names or types after "
                            f"row {sent}; load them one after another"
                        )
                    sent += len(batch)
                    writer.write_batch(batch)
                    yield from map(_rows_message, sink.taken(_CHUNK_BYTES))
            yield from map(_rows_message, sink.taken(1))
        yield transfer_pb2.LoadRowsRequest(end=sent)


def progress_message(step: str, rows: int) -> transfer_pb2.TransferProgress:
    """Write how far some work is."""
    return transfer_pb2.TransferProgress(step=step, rows=rows)


def load_result_messages(result: LoadResult) -> Iterator[transfer_pb2.LoadRowsResponse]:
    """Write the result of a load: the refused rows in parts, then the rest."""
    for start in range(0, len(result.errors), _ERRORS):
        message = transfer_pb2.LoadRowsResponse()
        for error in result.errors[start : start + _ERRORS]:
            message.errors.errors.add(index=error.index, code=error.code, message=error.message)
        yield message
    yield transfer_pb2.LoadRowsResponse(
        result=transfer_pb2.LoadRowsResponse.Result(
            rows=result.rows, already=result.already, table_version=_written(result.version)
        )
    )


def read_load(
    group: str, key: str, responses: Iterable[Any], on_progress: Progress | None
) -> LoadResult:
    """Read the replies to a load."""
    errors: list[WriteError] = []
    for response in responses:
        part = response.WhichOneof("part")
        if part == "progress" and on_progress is not None:
            on_progress(response.progress.step, response.progress.rows)
        elif part == "errors":
            errors += [WriteError(e.index, e.code, e.message) for e in response.errors.errors]
        elif part == "result":
            found = response.result
            return LoadResult(
                group, key, found.rows, errors, found.already, _read(found.table_version)
            )
    raise _cut_short(group)


def backfill_result_message(report: BackfillReport) -> transfer_pb2.BackfillResponse:
    """Write the result of a backfill."""
    return transfer_pb2.BackfillResponse(
        result=transfer_pb2.BackfillResponse.Result(
            table_version=_written(report.version),
            identifiers=report.identifiers,
            written=report.written,
            removed=report.removed,
            resumed=report.resumed,
            was_empty=report.was_empty,
        )
    )


def read_backfill(
    group: str, responses: Iterable[Any], on_progress: Progress | None
) -> BackfillReport:
    """Read the replies to a backfill."""
    for response in responses:
        part = response.WhichOneof("part")
        if part == "progress" and on_progress is not None:
            on_progress(response.progress.step, response.progress.rows)
        elif part == "result":
            found = response.result
            return BackfillReport(
                group,
                _read(found.table_version),
                found.identifiers,
                found.written,
                found.removed,
                found.resumed,
                found.was_empty,
            )
    raise _cut_short(group)


@final
class _Sink:
    """A file that gives away what is written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def flush(self) -> None:
        """Do nothing: it is in memory."""

    def close(self) -> None:
        """Do nothing: what is left is taken afterwards."""

    def taken(self, at_least: int) -> Sequence[bytes]:
        """Return what was written, in chunks, if it is so much."""
        if self._size < at_least:
            return ()
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        return [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]


def _with(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def _rows_message(chunk: bytes) -> transfer_pb2.LoadRowsRequest:
    return transfer_pb2.LoadRowsRequest(rows=chunk)


def _written(version: int | None) -> int:
    return -1 if version is None else version


def _read(version: int) -> int | None:
    return None if version < 0 else version


def _cut_short(group: str) -> InvalidRequest:
    return InvalidRequest(f"{group}: the server's reply ended without a result; try again")
