"""Augmented manifests on their way to a job: their lines shared out, what they refer to linked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, final

from training.errors import InvalidData
from training.formats.manifest import Entry, is_reference, path_of, read_entries, refused_line
from training.formats.recordio.framing import framed
from training.jobs.channel import Channel
from training.jobs.delivery import SourceFile, link

__all__ = ["Augmented"]

_FILES: Final = "files"


@final
@dataclass(frozen=True)
class Augmented:
    """The lines of a manifest, and the files they refer to.

    Attributes:
        manifest: the file.
        entries: its lines, with the channel's attributes alone.
        files: those that the lines refer to, in the order of the lines, each once.
    """

    manifest: Path
    entries: tuple[Entry, ...]
    files: tuple[SourceFile, ...]

    @classmethod
    def read(cls, channel: Channel, manifest: Path) -> Augmented:
        """Read a channel's manifest.

        A file is called as it was, in the folder `files`; one of several of a name has a number
        behind it.

        Raises:
            InvalidData: a line lacks an attribute or refers to what is not there; the message has
                the manifest and the line.
        """
        try:
            entries = read_entries(manifest, channel.attributes)
            named: dict[Path, str] = {}
            taken: set[str] = set()
            for entry in entries:
                for name in filter(is_reference, channel.attributes):
                    path = _referred(entry, name, manifest.parent)
                    if path not in named:
                        named[path] = _free(path.name, taken)
        except InvalidData as error:
            raise _in(manifest, channel, error) from error
        except OSError as error:
            raise InvalidData(
                f"{channel.channel_name}: manifest {manifest} cannot be read: "
                f"{error.strerror or error}",
                channel=channel.channel_name,
                path=str(manifest),
            ) from error
        kept = [
            Entry(entry.number, {name: entry.values[name] for name in channel.attributes})
            for entry in entries
        ]
        files = [SourceFile(path, f"{_FILES}/{name}") for path, name in named.items()]
        return cls(manifest, tuple(kept), tuple(files))

    @property
    def sources(self) -> list[SourceFile]:
        """The manifest and the files, as the lineage names them."""
        return [SourceFile(self.manifest, self.manifest.name), *self.files]

    @property
    def name(self) -> str:
        """What the manifest is called in the job's folder, where it is plain text."""
        return self.manifest.name.removesuffix(".gz")

    def deliver(
        self,
        entries: Sequence[Entry],
        target: Path,
        *,
        channel: Channel,
        input_mode: str,
        copies: bool,
    ) -> Augmented:
        """Write lines as a manifest of their own beside the files they refer to.

        Its references are relative to its folder.

        Args:
            entries: some of the lines, in any order; with none the folder is empty.
            target: the folder.
            channel: what they are for.
            input_mode: File or FastFile; see `training.jobs.delivery.deliver`.
            copies: likewise.

        Returns:
            what was written, whose lines keep their numbers.

        Raises:
            InvalidData: a file cannot be read.
        """
        target.mkdir(parents=True, exist_ok=True)
        names = {file.path: file.name for file in self.files}
        written: dict[str, SourceFile] = {}
        lines = []
        for entry in entries:
            values = dict(entry.values)
            for attribute in filter(is_reference, channel.attributes):
                path = _referred(entry, attribute, self.manifest.parent)
                name = names[path]
                values[attribute] = name
                if name in written:
                    continue
                to = target / name
                to.parent.mkdir(exist_ok=True)
                try:
                    link(path, to, input_mode=input_mode, copies=copies)
                except OSError as error:
                    problem = f"{attribute!r}: {str(path)!r} cannot be read: {error.strerror}"
                    refused = refused_line(entry.number, problem)
                    raise _in(self.manifest, channel, refused) from error
                written[name] = SourceFile(to, name)
            lines.append(Entry(entry.number, values))
        manifest = target / self.name
        if lines:
            text = "".join(json.dumps(e.values, ensure_ascii=False) + "\n" for e in lines)
            manifest.write_text(text, encoding="utf-8")
        return Augmented(manifest, tuple(lines), tuple(written.values()))

    def line(self, entry: Entry, channel: Channel) -> bytes:
        """Return what a pipe brings of a line: its attributes, in frames where they are wrapped.

        Raises:
            InvalidData: a file cannot be read.
        """
        folder = self.manifest.parent
        pieces = entry.pieces(channel.attributes, lambda uri: path_of(uri, folder).read_bytes())
        return framed(pieces) if channel.is_wrapped else b"".join(pieces)


def _referred(entry: Entry, attribute: str, folder: Path) -> Path:
    uri = entry.reference(attribute)
    try:
        path = path_of(uri, folder)
    except OSError as error:
        raise refused_line(
            entry.number, f"{attribute!r}: {uri!r} cannot be read: {error}"
        ) from error
    if not path.is_file():
        raise refused_line(entry.number, f"{attribute!r}: {uri!r} is no file")
    return path


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no other file has."""
    path, number, free = PurePosixPath(name), 1, name
    while free in taken:
        number += 1
        free = f"{path.stem}-{number}{path.suffix}"
    taken.add(free)
    return free


def _in(manifest: Path, channel: Channel, error: InvalidData) -> InvalidData:
    facts = {**error.facts, "channel": channel.channel_name, "path": str(manifest)}
    return InvalidData(f"{channel.channel_name}: {manifest.name!r}: {error.message}", **facts)
