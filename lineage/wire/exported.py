"""A whole graph in another tool's form, on its way to a client: written first, then sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, final

from lineage.errors import StoreUnavailable
from lineage.exports import as_format
from lineage.graph import Graph
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert

_CHUNK_BYTES: Final = 1 << 20


@final
class Exported:
    """The files of an export, in a folder that goes at the end.

    Args:
        graph: what is exported.
        request: how.

    Raises:
        InvalidQuery: no such format, or more than a page or picture can show.
        StoreUnavailable: the graph cannot be read, or the temporary folder takes no more.
    """

    def __init__(self, graph: Graph, request: pb.ExportGraphRequest) -> None:
        form = as_format(request.format)
        as_of = convert.as_of_from_message(request.as_of)
        self._folder = TemporaryDirectory(prefix="featureline-export-")
        try:
            path = Path(self._folder.name, "graph")
            graph.export(path, form, as_of=as_of)
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            self._messages = self._read(files, is_one=not path.is_dir())
        except OSError as error:
            self.close()
            raise StoreUnavailable(
                f"the server cannot write the export in {self._folder.name}: {error.strerror}"
            ) from error
        except BaseException:
            self.close()
            raise

    def next(self) -> pb.ExportGraphResponse | None:
        """The next message, or None at the end."""
        return next(self._messages, None)

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    @staticmethod
    def _read(files: list[Path], *, is_one: bool) -> Iterator[pb.ExportGraphResponse]:
        for path in files:
            name = "" if is_one else path.name
            with path.open("rb") as file:
                # Of an empty file, too: it is there.
                content = file.read(_CHUNK_BYTES)
                yield pb.ExportGraphResponse(file=name, content=content)
                while content := file.read(_CHUNK_BYTES):
                    yield pb.ExportGraphResponse(file=name, content=content)
