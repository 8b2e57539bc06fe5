"""A dataset's file that a server sends in pieces."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from featurestore.dataset import Dataset
from featurestore.errors import InternalError
from featurestore.streamed import WrittenDataset

__all__ = ["ArrivingFile"]


@final
class ArrivingFile:
    """Takes the replies to WriteDataset; the file appears whole or not at all.

    Args:
        path: where; its folder is made when absent.
        on_progress: called with the number of rows joined so far.
    """

    def __init__(self, path: Path, on_progress: Callable[[int], None] | None) -> None:
        self._path = path
        self._on_progress = on_progress
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._manifest: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def take(self, reply: Any) -> None:
        """Take one reply: a piece of the file, its manifest, or how far the join is."""
        kind = reply.WhichOneof("part")
        if kind == "file":
            self._file.write(reply.file)
        elif kind == "manifest_json":
            self._manifest = json.loads(reply.manifest_json)
        elif self._on_progress is not None:
            self._on_progress(reply.rows_joined)

    def finish(self) -> WrittenDataset:
        """Put the file in its place.

        Raises:
            InternalError: it is another than was announced.
        """
        self._file.close()
        if Dataset.read_manifest(self._part) != self._manifest:
            raise InternalError(f"{self._path}: the server sent another file than it announced")
        self._part.replace(self._path)
        return WrittenDataset(self._path, self._manifest)
