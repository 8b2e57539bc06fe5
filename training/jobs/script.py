"""Script mode: the user's own program and where its source comes from."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self, final

from training.errors import nearest
from training.jobs.delivery import unpack_archive
from training.jobs.environment import split_hyperparameters
from training.jobs.shape import invalid

__all__ = ["SCRIPT", "Script", "copy_source", "kept_source", "script_hyperparameters"]

SCRIPT: Final = "script"
"""The algorithm name of jobs that run the user's own program."""

_PROGRAM: Final = "sagemaker_program"
_DIRECTORY: Final = "sagemaker_submit_directory"
_LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".venv")


@final
@dataclass(frozen=True)
class Script:
    """A program and the hyperparameters it is given.

    Attributes:
        program: below the source: a `.py` file, a command, or the name of a package.
        source: a folder, a `tar.gz`, or a file that is the whole source.
        hyperparameters: those of the program, decoded.
    """

    program: str
    source: Path
    hyperparameters: Mapping[str, Any]

    @classmethod
    def of(cls, hyperparameters: Mapping[str, str]) -> Self:
        """Find the program that a job's hyperparameters name, and look whether it is there.

        Raises:
            InvalidJob: none is named, or it is not in its source.
        """
        user, _, consumed = split_hyperparameters(hyperparameters)
        program, directory = consumed.get(_PROGRAM), consumed.get(_DIRECTORY)
        if not isinstance(program, str) or not program:
            raise invalid(
                f"a job of algorithm {SCRIPT!r} names its program, such as train.py", _PROGRAM
            )
        if not isinstance(directory, str) or not directory:
            raise invalid(
                "expected the folder or tar.gz that the program is in, and none is given",
                _DIRECTORY,
            )
        source = Path(directory.removeprefix("file://")).absolute()
        if not source.exists():
            hint = "; copy it to this machine" if "://" in directory else ""
            raise invalid(f"{directory!r} does not exist{hint}", _DIRECTORY)
        script = cls(program, source, user)
        script._check()
        return script

    def place(self, code: Path) -> None:
        """Bring the source into a job's code folder.

        Raises:
            InvalidData: the archive cannot be unpacked.
        """
        if self.source.is_dir():
            copy_source(self.source, code)
        elif self._is_archive:
            unpack_archive(self.source, code, channel=_DIRECTORY)
        else:
            shutil.copy2(self.source, code / self.program)

    @property
    def _is_archive(self) -> bool:
        return self.source.is_file() and tarfile.is_tarfile(self.source)

    def _check(self) -> None:
        """Refuse a program that its source lacks: the job would end with the same words later."""
        if PurePosixPath(self.program).is_absolute() or ".." in Path(self.program).parts:
            raise invalid(f"expected a path below {_DIRECTORY}, got {self.program!r}", _PROGRAM)
        if self.source.is_dir():
            names = [path.name for path in self.source.iterdir()]
            # A folder with setup.py is a package; `program` is then the module to run.
            found = (self.source / self.program).exists() or "setup.py" in names
        elif self._is_archive:
            with tarfile.open(self.source) as tar:
                names = [str(PurePosixPath(name)) for name in tar.getnames()]
            found = self.program in names or "setup.py" in names
        else:
            names = [self.source.name]
            found = self.program == self.source.name
        if not found:
            raise invalid(
                f"{self.program!r} is not in {self.source}{nearest(self.program, names)}; it has "
                f"{', '.join(sorted(names)[:20]) or 'nothing'}",
                _PROGRAM,
            )


def copy_source(source: Path, target: Path) -> None:
    """Copy a folder of source, but for what tools leave in it."""
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=_LEFT_OUT)


def script_hyperparameters(program: Path, source: Path | None = None) -> dict[str, str]:
    """Return the hyperparameters that make a program a job's, as SageMaker names them.

    Args:
        program: the script; below `source` where that is given.
        source: the folder or `tar.gz` it needs; None: the script alone.

    >>> script_hyperparameters(Path("/code/train.py"))["sagemaker_program"]
    'train.py'
    """
    if source is None:
        return {_PROGRAM: program.name, _DIRECTORY: str(program.absolute())}
    inside = program
    if source.is_dir() and program.absolute().is_relative_to(source.absolute()):
        inside = program.absolute().relative_to(source.absolute())
    return {_PROGRAM: inside.as_posix(), _DIRECTORY: str(source.absolute())}


def kept_source(hyperparameters: Mapping[str, str], code: Path) -> dict[str, str]:
    """Return the hyperparameters of a job that runs the source which another one has kept.

    Args:
        hyperparameters: of the other job.
        code: its folder of the source; when that is gone, the source is taken from where it was.
    """
    kept = {_DIRECTORY: str(code)} if code.is_dir() and any(code.iterdir()) else {}
    return dict(hyperparameters) | kept
