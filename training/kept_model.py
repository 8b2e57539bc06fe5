"""A model on its way to a client: the files of its folder in pieces, and their folder again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Final, Self, final

from training.errors import InternalError, InvalidJob
from training.v1 import training_pb2 as pb

__all__ = ["ArrivingModel", "LeavingModel"]

_PIECE_BYTES: Final = 1 << 20


@final
class LeavingModel:
    """A model that waits in a folder of its own until it is sent.

    Args:
        folders: where that folder is made.
    """

    def __init__(self, folders: Path) -> None:
        folders.mkdir(parents=True, exist_ok=True)
        self._place = Path(tempfile.mkdtemp(prefix="kept-", dir=folders))
        self.folder: Final = self._place / "model"
        self._pieces = self._read()

    def next(self) -> pb.ReplayModelResponse | None:
        """The next piece; None at the end."""
        return next(self._pieces, None)

    def remove(self) -> None:
        """Remove the files; idempotent."""
        shutil.rmtree(self._place, ignore_errors=True)

    def _read(self) -> Iterator[pb.ReplayModelResponse]:
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file():
                continue
            name = path.relative_to(self.folder).as_posix()
            with path.open("rb") as file:
                # Of an empty file, too: it is there.
                content = file.read(_PIECE_BYTES)
                yield _piece(name, content)
                while content := file.read(_PIECE_BYTES):
                    yield _piece(name, content)


@final
class ArrivingModel:
    """A model that is written as it comes; the folder is there when all of it is.

    Args:
        folder: a new one.

    Raises:
        InvalidJob: the folder exists.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists():
            raise InvalidJob(f"{folder}: exists; name a new folder for the model", field="keep")
        self._folder = folder
        self._part: Path | None = None
        self._name = ""
        self._file: BinaryIO | None = None

    def write(self, piece: pb.ReplayModelResponse.File) -> None:
        """Take the next piece.

        Raises:
            InternalError: its name leads out of the folder.
        """
        if self._part is None:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._part = Path(tempfile.mkdtemp(prefix=".kept-", dir=self._folder.parent))
        if self._file is None or piece.path != self._name:
            self._end()
            path = self._part / _inside(piece.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._name, self._file = piece.path, path.open("wb")
        self._file.write(piece.content)

    def finish(self) -> None:
        """Put the folder in its place; without any piece there is none."""
        self._end()
        if self._part is not None:
            self._part.chmod(0o755)
            self._part.rename(self._folder)
            self._part = None

    def _end(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        if self._part is not None:
            shutil.rmtree(self._part, ignore_errors=True)


def _piece(name: str, content: bytes) -> pb.ReplayModelResponse:
    return pb.ReplayModelResponse(file=pb.ReplayModelResponse.File(path=name, content=content))


def _inside(name: str) -> PurePosixPath:
    """The name of a file, which leads to no other folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise InternalError(
            f"the server named a file of the model {name!r}, where one inside of its folder was "
            f"expected"
        )
    return path
