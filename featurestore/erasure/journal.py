"""The journal of an erasure: what was asked for and how far it came, through a kill.

HOME/erasures/<erasure>.journal.json     while it is under way: it has the identifiers in clear
HOME/erasures/<erasure>.report.json      afterwards
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, final

from featurestore.errors import StoreCorrupt, StoreUnavailable

__all__ = ["Erasure", "Journal"]

_JOURNAL: Final = ".journal.json"
_REPORT: Final = ".report.json"


@final
@dataclass
class Erasure:
    """An erasure under way. It changes as it goes on, and is written before each next step.

    Args:
        erasure: its name.
        group: the feature group.
        number: the group's.
        identifiers: as texts.
        reason: why, as the caller said.
        by: who asked for it.
        datasets: `keep` or `delete`.
        requested_us: when it was asked for: event times up to then are erased.
        done: steps that are over.
        facts: what the steps have found and done, by step.
    """

    erasure: str
    group: str
    number: int
    identifiers: list[str]
    reason: str
    by: str
    datasets: str
    requested_us: int
    done: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@final
class Journal:
    """The journals and reports of a home.

    Args:
        home: the home folder.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "erasures"

    def write(self, erasure: Erasure) -> None:
        """Make the state of an erasure durable."""
        self._write(self._path(erasure.erasure, _JOURNAL), asdict(erasure), mode=0o600)

    def unfinished(self) -> list[Erasure]:
        """Return the erasures that are not over, the oldest first.

        Raises:
            StoreCorrupt: a journal was altered.
        """
        found = []
        for path in self.folder.glob(f"*{_JOURNAL}"):
            data = path.read_bytes()
            if not data.strip(b"\0"):
                path.unlink()  # a kill in `forget`: it is over
                continue
            try:
                found.append(Erasure(**json.loads(data)))
            except (TypeError, ValueError) as error:
                raise StoreCorrupt(
                    f"{path}: expected the journal of an erasure, got {error}; restore it, or "
                    f"move it away and erase again"
                ) from error
        return sorted(found, key=lambda erasure: (erasure.requested_us, erasure.erasure))

    def report(self, erasure: str) -> dict[str, Any] | None:
        """Return the report of an erasure, None while there is none."""
        try:
            document: dict[str, Any] = json.loads(self._path(erasure, _REPORT).read_bytes())
        except FileNotFoundError:
            return None
        return document

    def keep_report(self, erasure: str, document: dict[str, Any]) -> None:
        """Make a report durable."""
        self._write(self._path(erasure, _REPORT), document, mode=0o644)

    def forget(self, erasure: str) -> None:
        """Remove the journal of an erasure that is over; the report stays."""
        path = self._path(erasure, _JOURNAL)
        size = path.stat().st_size
        with path.open("r+b") as file:  # the identifiers are in it
            file.write(b"\0" * size)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        _part(path).unlink(missing_ok=True)  # what a kill in `write` left
        _sync(self.folder)

    def _path(self, erasure: str, kind: str) -> Path:
        return self.folder / f"{erasure}{kind}"

    def _write(self, path: Path, document: dict[str, Any], *, mode: int) -> None:
        part = _part(path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            _sync(self.folder)
        except OSError as error:
            raise StoreUnavailable(
                f"the journal of erasures {path}: {error.strerror}; the erasure goes on with the "
                f"next `featureline erase`, once it can be written"
            ) from error


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
