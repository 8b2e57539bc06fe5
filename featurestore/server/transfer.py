"""Loads and backfills over gRPC: rows stream in, progress streams out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.ipc

from featurestore.embedded import EmbeddedStore
from featurestore.errors import InvalidRequest
from featurestore.loaded import Progress
from featurestore.server.answer import answer
from featurestore.v1 import transfer_pb2
from featurestore.wire import transfer as wire_transfer

__all__ = ["backfill", "load_rows"]

_TELL_S: Final = 0.5
_FOLDER: Final = "loads"


async def load_rows(
    store: EmbeddedStore, requests: AsyncIterator[Any], context: Any
) -> AsyncIterator[Any]:
    """Take the rows of a load into a file, then load them, telling how far that is."""
    with _received(store.home / _FOLDER) as path:
        spec: Any = None
        end: int | None = None
        with path.open("wb") as file:
            async for request in requests:
                part = request.WhichOneof("part")
                if part == "spec":
                    # A second one is refused below: the rows go where the first check was made.
                    spec = request.spec if spec is None else False
                elif part == "end":
                    end = request.end
                elif spec is None:
                    break  # nobody has looked at the caller's rights yet
                elif part == "rows":
                    await asyncio.to_thread(file.write, request.rows)

        def load(tell: Progress) -> Any:
            if not spec:
                raise InvalidRequest("expected the load's spec in one message, the first one")
            if end is None:
                raise InvalidRequest(
                    f"{spec.feature_group_name}: the rows ended without their last message; "
                    f"nothing was stored"
                )
            with pa.memory_map(str(path)) as source:
                return store.load(
                    spec.feature_group_name,
                    _reader(source, spec, end),
                    key=spec.key,
                    source=spec.source,
                    on_progress=tell,
                )

        def work(tell: Progress) -> Any:
            try:
                return load(tell)
            finally:
                path.unlink(missing_ok=True)  # before the caller is told how it ended

        async for step, rows in _running(context, work, "LoadRows"):
            if step:
                progress = wire_transfer.progress_message(step, rows)
                yield transfer_pb2.LoadRowsResponse(progress=progress)
            else:
                for message in wire_transfer.load_result_messages(rows):
                    yield message


async def backfill(store: EmbeddedStore, request: Any, context: Any) -> AsyncIterator[Any]:
    """Bring a group's offline rows online, telling how far that is."""
    name = request.feature_group_name

    def work(tell: Progress) -> Any:
        verb = store.rebuild_online if request.rebuild else store.backfill
        return verb(name, on_progress=tell)

    async for step, rows in _running(context, work, "Backfill"):
        if step:
            progress = wire_transfer.progress_message(step, rows)
            yield transfer_pb2.BackfillResponse(progress=progress)
        else:
            yield wire_transfer.backfill_result_message(rows)


async def _running(
    context: Any, work: Callable[[Progress], Any], method: str
) -> AsyncIterator[tuple[str, Any]]:
    """Do some work in a thread; give its progress now and then, and "" with the result.

    Work whose caller has gone comes to its end all the same.
    """
    latest: list[tuple[str, int]] = []

    def tell(step: str, rows: int) -> None:
        latest[:] = [(step, rows)]

    running = asyncio.ensure_future(asyncio.to_thread(work, tell))
    told: list[tuple[str, int]] = []
    while not running.done():
        await asyncio.wait({running}, timeout=_TELL_S)
        if latest and latest != told:
            told = latest.copy()
            yield told[0]

    async def result() -> Any:
        return await running

    yield "", await answer(context, result, method)


def _reader(source: Any, spec: Any, end: int) -> pa.RecordBatchReader | pa.Table:
    if source.size() == 0:
        return pa.table({})
    try:
        reader = pa.ipc.open_stream(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidRequest(
            f"{spec.feature_group_name}: expected one Arrow IPC stream: {error}"
        ) from error
    if reader.schema.names != list(spec.feature_names):
        # The spec is what the caller's rights were looked at for.
        raise InvalidRequest(
            f"{spec.feature_group_name}: expected rows with the columns "
            f"{list(spec.feature_names)} that the spec names, got {reader.schema.names}"
        )

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in reader:
            rows += len(batch)
            yield batch
        if rows != end:
            raise InvalidRequest(
                f"{spec.feature_group_name}: expected {end} rows, got {rows}; nothing was stored"
            )

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@contextmanager
def _received(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.received"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
