"""Which rows of a channel each process of a fit gets, and that all encode them alike."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, final

import numpy as np

from training.algorithm import Algorithm
from training.data import Dataset
from training.errors import InvalidData, TrainingError
from training.formats.joined import Joined
from training.inputs import Input, Inputs
from training.jobs.channel import Channel
from training.jobs.folder import JobFolder, host_names
from training.jobs.reading import ChannelData
from training.streaming import Stream
from training.world import World

__all__ = ["Reading", "agreed", "part_of"]

Read = Callable[[JobFolder, Channel, Dataset | Stream | None], ChannelData]

_SHARDED: Final = "ShardedByS3Key"
_WHOLE: Final = "whole"


@final
class Reading:
    """Reads channels as the algorithm wants them in several processes.

    An algorithm that computes steps together is given all rows in each process: those of a
    channel that is sharded come from all hosts' folders, in the order one host would have read
    them. One that has rows of its own in each process is given its host's files where the channel
    is sharded, else its part of the rows.

    Args:
        algorithm: what fits.
        world: the processes.
        folder: of this host.
        root: of the job.
        read: reads a channel from a host's folder, encoded like another dataset.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        world: World,
        folder: JobFolder,
        root: JobFolder,
        read: Read,
    ) -> None:
        self._algorithm = algorithm
        self._world = world
        self._folder = folder
        self._root = root
        self._read = read
        self.files: dict[str, Joined] = {}
        """By channel, the files whose rows this process has as they are."""

    def rows(self, channel: Channel, *, like: Dataset | None = None) -> Dataset:
        """Read what this process fits on or measures by.

        Args:
            channel: which.
            like: the training data, for the other channels.

        Raises:
            InvalidData: there are fewer rows than processes, or the hosts' files do not fit
                together.
        """
        world, is_sharded = self._world, channel.distribution == _SHARDED
        if world.size == 1 or self._algorithm.hosts != "rows":
            return self.whole(channel, like=like)
        if not is_sharded or not all(self._order(channel, rank) for rank in range(world.size)):
            # With fewer files than hosts their rows are shared out.
            return part_of(self._whole(channel, like).dataset, world.rank, world.size)
        found = _everywhere(world, lambda: self._kept(channel, self._folder, like))
        if like is not None:
            return found
        inputs = agreed(world.gather(found.inputs), channel)
        if inputs == found.inputs:
            return found
        return self._kept(channel, self._folder, replace(found, inputs=inputs))

    def whole(self, channel: Channel, *, like: Dataset | Stream | None = None) -> Dataset:
        """Read all rows of a channel, whatever its distribution."""
        found = self._whole(channel, like)
        self.files[channel.channel_name] = found.joined
        return found.dataset

    def _kept(self, channel: Channel, folder: JobFolder, like: Dataset | Stream | None) -> Dataset:
        found = self._read(folder, channel, like)
        self.files[channel.channel_name] = found.joined
        return found.dataset

    def _whole(self, channel: Channel, like: Dataset | Stream | None) -> ChannelData:
        if self._world.size == 1 or channel.distribution != _SHARDED:
            return self._read(self._folder, channel, like)
        view = JobFolder(self._folder.root / "input" / _WHOLE)
        name = channel.channel_name
        target = view.channel(name)
        target.mkdir(parents=True, exist_ok=True)
        for rank in range(self._world.size):
            source = self._host(rank).channel(name)
            for file in sorted(file for file in source.rglob("*") if file.is_file()):
                link = target / file.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(file.resolve())
        order = _in_turns([self._order(channel, rank) for rank in range(self._world.size)])
        if channel.is_augmented:
            # Each host has a manifest of its own lines.
            [(manifest, _)] = self._listed(channel, 0)
            shares = [
                (self._host(rank).channel(name) / manifest).read_bytes().splitlines()
                for rank in range(self._world.size)
            ]
            (target / manifest).unlink()
            (target / manifest).write_bytes(b"\n".join(_in_turns(shares)) + b"\n")
            order = [[manifest, order]]
        view.listing(name).parent.mkdir(parents=True, exist_ok=True)
        view.listing(name).write_text(json.dumps(order), encoding="utf-8")
        return self._read(view, channel, like)

    def _order(self, channel: Channel, rank: int) -> list[Any]:
        """Return a host's files, or its lines of an augmented manifest, in the order it reads."""
        listed = self._listed(channel, rank)
        return list(listed[0][1]) if channel.is_augmented else listed

    def _listed(self, channel: Channel, rank: int) -> list[Any]:
        path = self._host(rank).listing(channel.channel_name)
        return list(json.loads(path.read_text(encoding="utf-8")))

    def _host(self, rank: int) -> JobFolder:
        return self._root.host(host_names(self._world.size)[rank])


def _in_turns(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """Put what was dealt out to the hosts together as it was before."""
    turns = itertools.zip_longest(*shares)
    return [one for turn in turns for one in turn if one is not None]


def part_of(data: Dataset, rank: int, size: int) -> Dataset:
    """Return one of nearly equal parts of a dataset, of whole queries where rows have some.

    Raises:
        InvalidData: there are fewer rows or queries than parts.

    >>> import pyarrow as pa
    >>> data = Dataset.of(pa.table({"label": [0.0, 1.0, 2.0], "x": [1, 2, 3]}))
    >>> part_of(data, 0, 2).labels().tolist(), part_of(data, 1, 2).labels().tolist()
    ([0.0], [1.0, 2.0])
    """
    units: Any = np.arange(len(data))
    if data.groups is not None:
        data = data.take(np.argsort(data.groups, kind="stable"))
        units = np.unique(np.asarray(data.groups), return_inverse=True)[1]
    total = int(units[-1]) + 1
    if total < size:
        what = "rows" if data.groups is None else "queries"
        raise InvalidData(
            f"{data.channel}: {size} hosts need as many {what}, and there are {total}; set "
            "InstanceCount to fewer",
            channel=data.channel,
        )
    low, high = total * rank // size, total * (rank + 1) // size
    return data.take(np.flatnonzero((units >= low) & (units < high)))


def agreed(found: Sequence[Inputs], channel: Channel) -> Inputs:
    """Return one encoding for the rows of all hosts: every host's words, the widest vectors.

    Raises:
        InvalidData: the hosts' files have other columns, or columns of another kind.
    """
    name = channel.channel_name
    columns = []
    for each in itertools.zip_longest(*(inputs.columns for inputs in found)):
        first = each[0]
        for host, other in enumerate(each[1:], start=2):
            alike = first is not None and other is not None
            if not alike or (first.name, first.kind) != (other.name, other.kind):
                raise InvalidData(
                    f"{name}: the files of algo-1 and algo-{host} do not fit together: expected "
                    f"{_shown(first)}, got {_shown(other)}; give all files the same columns",
                    channel=name,
                )
            if first.kind == "vector" and first.size != other.size:
                raise InvalidData(
                    f"{name}: column {first.name!r} has {first.size} numbers on algo-1 and "
                    f"{other.size} on algo-{host}; a vector has the same number in every row",
                    channel=name,
                    column=first.name,
                )
        words = {word for one in each for word in one.categories}
        widest = max(one.size for one in each)
        columns.append(Input(first.name, first.kind, tuple(sorted(words)), widest))
    return Inputs(tuple(columns))


def _shown(column: Input | None) -> str:
    return "no column" if column is None else f"column {column.name!r} of kind {column.kind}"


def _everywhere(world: World, read: Callable[[], Dataset]) -> Dataset:
    """Read in all processes; what one of them is refused is refused by all."""
    data: Dataset | None = None
    refused: TrainingError | None = None
    try:
        data = read()
    except TrainingError as error:
        refused = error
    for each in world.gather(refused):
        if each is not None:
            raise each
    assert data is not None
    return data
