"""The graph of a server as a file or text of another tool's form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from lineage.errors import InvalidQuery, LineageError
from lineage.exports import Part, as_format, export_part, export_text
from lineage.result import LineageResult
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert
from lineage.wire.client.called import Called


class Exporting(Called):
    """The part of a client that exports."""

    def export(
        self,
        path: str | Path,
        format: str | None = None,
        *,
        of: LineageResult | None = None,
        as_of: int | datetime | None = None,
    ) -> str:
        """Write the graph of the server, or what a query found; see `Graph.export`.

        The server writes a whole graph, with columns, runs and tags, and sends it. What a query
        found is written here, without those.
        """
        form, target = as_format(format, Path(path)), Path(path)
        if of is not None:
            return export_part(Part(of), target, form)
        # It appears when it is whole: what stood there before stays until then.
        parts: dict[Path, Path] = {}
        try:
            with ExitStack() as opened:
                files: dict[str, BinaryIO] = {}
                for message in self._exported(form, as_of):
                    if message.file not in files:
                        place = target / _plain(message.file) if message.file else target
                        place.parent.mkdir(parents=True, exist_ok=True)
                        parts[place] = place.with_name(f".{place.name}.{os.getpid()}.part")
                        files[message.file] = opened.enter_context(parts[place].open("wb"))
                    files[message.file].write(message.content)
            for place, part in parts.items():
                part.replace(place)
        finally:
            for part in parts.values():
                with suppress(FileNotFoundError):
                    part.unlink()
        return form

    def export_text(
        self,
        format: str,
        *,
        of: LineageResult | None = None,
        as_of: int | datetime | None = None,
    ) -> str:
        """The graph of the server, or what a query found, as one text: see `export`.

        Raises:
            InvalidQuery: no such format, or one that is no text (`parquet`).
        """
        if of is not None:
            return export_text(Part(of), format)
        form = as_format(format)
        if form == "parquet":
            raise InvalidQuery("format: parquet is a folder of files; give a path to write it to")
        return b"".join(message.content for message in self._exported(form, as_of)).decode()

    def _exported(
        self, form: str, as_of: int | datetime | None
    ) -> Iterator[pb.ExportGraphResponse]:
        request = pb.ExportGraphRequest(format=form, as_of=convert.as_of_to_message(as_of))
        metadata = self._login.call_metadata()
        with self._explained(metadata):
            yield from self._stub.ExportGraph(request, metadata=metadata)


def _plain(name: str) -> str:
    """The name of a file, which leads nowhere else."""
    if Path(name).name != name:
        raise LineageError(f"the server named a file {name!r}, where a plain name was expected")
    return name
