"""The calls of datasets beside the plain build: plans, files, kept datasets, checks, the builder.

Spines and rows come in through a file, replies go out in pieces: a call holds little in memory
however large its data, and a client that reads slowly is waited for without holding a thread.
"""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing
from io import FileIO
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa

from featurestore import wire
from featurestore.builder import read_base
from featurestore.dataset import Dataset, fingerprint_of
from featurestore.digest import table_digest
from featurestore.embedded import EmbeddedStore
from featurestore.errors import InvalidRequest, InvalidSpine, StoreFull, StoreUnavailable
from featurestore.server.access import Access
from featurestore.server.answer import CALLER
from featurestore.server.heavy import Heavy, stepwise
from featurestore.server.scratch import Place
from featurestore.streamed import WrittenDataset
from featurestore.v1 import control_pb2, dataset_pb2
from featurestore.wire import dataset as wire_dataset

__all__ = ["DEFAULT_MEMORY_BYTES", "DatasetCalls"]

DEFAULT_MEMORY_BYTES: Final = 1 << 30
_PROGRESS_S: Final = 0.5


@final
class DatasetCalls:
    """Answers the calls of datasets on an embedded store.

    Args:
        store: what they work on.
        heavy: runs them.
        access: says which features of a kept dataset the caller may read; None: all.
        memory_bytes: what one build into a file may take.
    """

    def __init__(
        self, store: EmbeddedStore, heavy: Heavy, *, access: Access | None, memory_bytes: int
    ) -> None:
        self._store = store
        self._heavy = heavy
        self._access = access
        self._memory_bytes = memory_bytes

    async def explain(self, requests: AsyncIterator[Any]) -> Any:
        """Say what a build would read."""
        async with self._heavy.place() as place:
            spec, path = await _received(requests, place, "spec", "spine")

            def work() -> Any:
                plan = self._store.explain_dataset(
                    _spine(path).read_all(),
                    wire.selections_from(spec),
                    time=spec.time_column or "event_time",
                    as_of=wire.as_of_from(spec),
                )
                return wire_dataset.plan_message(plan)

            return await self._heavy.begin(work, place)

    async def write(self, requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Build a dataset into a file and send that."""
        async with self._heavy.place() as place:
            spec, path = await _received(requests, place, "spec", "spine")
            made = place.path / "dataset.parquet"
            gone = threading.Event()
            joined = 0

            def on_progress(rows: int) -> None:
                nonlocal joined
                joined = rows
                _go_on(gone)

            def work() -> WrittenDataset:
                _go_on(gone)
                asked = spec.memory_bytes or self._memory_bytes
                return self._store.write_dataset(
                    _spine(path),
                    wire.selections_from(spec),
                    made,
                    memory_limit=min(asked, self._memory_bytes),
                    time=spec.time_column or "event_time",
                    as_of=wire.as_of_from(spec),
                    spine_name=spec.spine_name,
                    on_progress=on_progress,
                )

            said = 0
            build = self._heavy.begin(work, place)
            try:
                while not build.done():
                    await asyncio.wait([build], timeout=_PROGRESS_S)
                    if joined > said:
                        said = joined
                        yield dataset_pb2.WriteDatasetResponse(rows_joined=said)
                written = build.result()
            finally:
                gone.set()
                build.cancel()
            manifest = json.dumps(dict(written.manifest))
            yield dataset_pb2.WriteDatasetResponse(manifest_json=manifest)
            async with aclosing(stepwise(_file_chunks(made))) as replies:
                async for chunk in replies:
                    yield dataset_pb2.WriteDatasetResponse(file=chunk)

    async def save(self, requests: AsyncIterator[Any]) -> Any:
        """Keep a dataset that a client has."""
        async with self._heavy.place() as place:
            text, path = await _received(requests, place, "manifest_json", "rows")

            def work() -> Any:
                manifest = wire_dataset.read_manifest(text)
                rows = _rows(path, "rows").read_all()
                self._store.save_dataset(_checked(Dataset(rows, manifest)))
                saved = self._store.describe_dataset(str(manifest["fingerprint"]))
                return dataset_pb2.SaveDatasetResponse(
                    dataset=wire_dataset.saved_message(saved, self._statistics(saved))
                )

            caller = CALLER.get()
            return await self._heavy.begin(_as(caller, work), place)

    def load(self, request: Any) -> AsyncGenerator[Any, None]:
        """Send a kept dataset."""

        def work() -> Dataset:
            saved = self._store.describe_dataset(request.fingerprint)
            self._check_readable(saved.manifest, saved.fingerprint, "featureline:ReadDataset")
            return self._store.load_dataset(saved.fingerprint)

        return self._sent(work)

    def rebuild(self, request: Any) -> AsyncGenerator[Any, None]:
        """Build a kept dataset again and send it."""

        def work() -> Dataset:
            saved = self._store.describe_dataset(request.fingerprint)
            self._check_readable(saved.manifest, saved.fingerprint, "featureline:RebuildDataset")
            return self._store.rebuild_dataset(saved.fingerprint)

        return self._sent(work)

    async def list(self) -> AsyncGenerator[Any, None]:
        """Send what is kept, the oldest first."""

        def steps() -> Generator[Any, None, None]:
            for saved in self._store.list_datasets():
                yield wire_dataset.saved_message(saved, self._statistics(saved))

        async with aclosing(stepwise(_each_as(CALLER.get(), steps()))) as replies:
            async for reply in replies:
                yield reply

    async def describe(self, request: Any) -> Any:
        """Describe a kept dataset."""

        def work() -> Any:
            saved = self._store.describe_dataset(request.fingerprint)
            if self._access is not None:
                self._access.check_dataset(
                    CALLER.get(), "featureline:DescribeDataset", saved.fingerprint
                )
            return dataset_pb2.DescribeDatasetResponse(
                dataset=wire_dataset.saved_message(saved, self._statistics(saved))
            )

        return await self._heavy.begin(_as(CALLER.get(), work))

    async def check(self, requests: AsyncIterator[Any]) -> Any:
        """Derive the values of a dataset again."""
        async with self._heavy.place() as place:
            spec, path = await _received(requests, place, "spec", "rows")

            def work() -> Any:
                manifest = wire_dataset.read_manifest(spec.manifest_json)
                dataset = Dataset(_rows(path, "rows").read_all(), manifest)
                _check_columns(dataset)
                rows = spec.rows if spec.HasField("rows") else None
                report = self._store.check_dataset(dataset, rows=rows, seed=spec.seed)
                return wire_dataset.check_message(report)

            return await self._heavy.begin(work, place)

    async def create(self, requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Run a builder and send its rows."""
        async with self._heavy.place() as place:
            spec, path = await _received(requests, place, "spec", "base")

            def work() -> Any:
                rows = read_base(_rows(path, "base").read_all()) if path is not None else None
                return self._store.run_builder(wire_dataset.options_from(spec), rows)

            built = await self._heavy.begin(work, place)
            yield wire_dataset.built_message(built)
            async with aclosing(stepwise(_table_chunks(built.table))) as replies:
                async for chunk in replies:
                    yield dataset_pb2.CreateDatasetResponse(rows=chunk)

    async def _sent(self, work: Callable[[], Dataset]) -> AsyncGenerator[Any, None]:
        dataset = await self._heavy.begin(_as(CALLER.get(), work))
        yield control_pb2.BuildDatasetResponse(dataset=wire.manifest_message(dataset))
        async with aclosing(stepwise(_table_chunks(dataset.table))) as replies:
            async for chunk in replies:
                yield control_pb2.BuildDatasetResponse(rows=chunk)

    def _check_readable(self, manifest: Any, fingerprint: str, action: str) -> None:
        if self._access is not None:
            features = wire_dataset.manifest_features(manifest, self._access.windowed())
            caller = CALLER.get()
            self._access.check_dataset(caller, action, fingerprint)
            self._access.check_features(
                caller,
                action,
                features,
                builds=action == "featureline:RebuildDataset",
            )

    def _statistics(self, saved: Any) -> dict[str, Any]:
        """Return the statistics of the columns that the caller may read."""
        hidden: set[str] = set()
        if self._access is not None:
            for selection in saved.manifest["selections"]:
                denied = self._access.hidden(
                    CALLER.get(), selection["group"], tuple(selection["features"])
                )
                hidden.update(selection["features"][name] for name in denied)
        return {name: facts for name, facts in saved.statistics.items() if name not in hidden}


def _go_on(gone: threading.Event) -> None:
    if gone.is_set():
        raise StoreUnavailable("the call was ended by its client")


def _as(caller: Any, work: Callable[[], Any]) -> Callable[[], Any]:
    """Let work know in its thread who is calling."""

    def known() -> Any:
        CALLER.set(caller)
        try:
            return work()
        finally:
            CALLER.set(None)

    return known


def _each_as(caller: Any, steps: Iterator[Any]) -> Generator[Any, None, None]:
    """The same for the steps of a generator, which may run in several threads."""
    while True:
        CALLER.set(caller)
        try:
            found = next(steps, None)
        finally:
            CALLER.set(None)
        if found is None:
            return
        yield found


async def _received(
    requests: AsyncIterator[Any], place: Place, spec_field: str, data_field: str
) -> tuple[Any, Path | None]:
    """Take a stream of one spec and many bytes; return the spec, and the file with the bytes.

    Raises:
        InvalidRequest: not one spec, first.
        StoreFull: there is no space for the bytes.
    """
    path = place.path / data_field
    spec: Any = None
    file: FileIO | None = None
    try:
        async for request in requests:
            kind = request.WhichOneof("part")
            if (kind == spec_field) != (spec is None):
                raise InvalidRequest(
                    f"expected {spec_field} in the first message and {data_field} in the others, "
                    f"got {kind or 'neither'}"
                )
            if kind == spec_field:
                spec = getattr(request, spec_field)
                continue
            # In the open, so that it is closed whoever goes: only the writes take time.
            file = file or path.open("wb", buffering=0)
            await asyncio.to_thread(_write, file, getattr(request, data_field))
    finally:
        if file is not None:
            file.close()
    if spec is None:
        raise InvalidRequest(f"expected {spec_field} in the first message, got no message")
    return spec, None if file is None else path


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"no space for the rows of the call: {error.strerror}") from error
        raise


def _spine(path: Path | None) -> pa.RecordBatchReader:
    if path is None:
        raise InvalidSpine("expected the spine as an Arrow IPC stream, got no bytes")
    return wire_dataset.mapped(path, "spine")


def _rows(path: Path | None, where: str) -> pa.RecordBatchReader:
    if path is None:
        raise InvalidRequest(f"{where}: expected one Arrow IPC stream, got no bytes")
    return wire_dataset.mapped(path, where)


def _check_columns(dataset: Dataset) -> None:
    """Check that rows from outside have the columns that their manifest speaks of.

    Raises:
        InvalidRequest: they do not.
    """
    manifest = dataset.manifest
    made = [name for one in manifest["selections"] for name in one["features"].values()]
    names = dataset.table.schema.names
    spine = [name for name in names if name not in made]
    expected = dict.fromkeys(spine, "spine") | {
        output: f"{one['group']}.{feature}"
        for one in manifest["selections"]
        for feature, output in one["features"].items()
    }
    if len(set(names)) != len(names) or dict(manifest["columns"]) != expected:
        raise InvalidRequest(
            f"dataset {dataset.fingerprint[:12]}: expected rows with the columns of its manifest, "
            f"{list(manifest['columns'])}, got {names}"
        )


def _checked(dataset: Dataset) -> Dataset:
    """Return a dataset from outside whose digests are those of its content; files have their names.

    Raises:
        InvalidRequest: it is not.
    """
    _check_columns(dataset)
    expected = fingerprint_of(dataset.manifest)
    if dataset.manifest["fingerprint"] != expected:
        raise InvalidRequest(
            f"dataset {dataset.fingerprint[:12]}: expected the fingerprint of its manifest, "
            f"{expected[:12]}; was it altered?"
        )
    if dataset.parent is None and table_digest(dataset.spine) != dataset.manifest["spine_digest"]:
        raise InvalidRequest(
            f"dataset {dataset.fingerprint[:12]}: its spine is not the one that its manifest names"
        )
    return dataset


def _file_chunks(path: Path) -> Generator[bytes, None, None]:
    with path.open("rb") as file:
        while chunk := file.read(wire.CHUNK_BYTES):
            yield chunk


def _table_chunks(table: pa.Table) -> Generator[bytes, None, None]:
    yield from wire_dataset.chunks_of(table)
