"""The redo log of a source: a batch over several slots of a cluster, whole or not at all.

A batch with a source position writes to its source's slot and to those of its groups, and no
script reaches several. So it takes three steps:

1. intend.lua, at the source: checks and moves the position, and keeps in the redo log what is to
   be written to each group. From here on the batch is stored, whoever dies.
2. put.lua, at each group: writes its part together with a mark that this batch was applied. A part
   that was applied is not applied again; it answers the outcomes of the first time.
3. settle.lua, at the source: empties the redo log.

A source has one batch in its redo log at most. Who finds one there, to put or to read the
position, first does steps 2 and 3 of it. So nobody sees a position whose records are missing, and
between two batches of a source nothing is left over. Batches of a source have rising numbers: a
client that slept through the steps of others finds a later mark and does nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final, final

from featurestore.errors import (
    FeatureStoreError,
    PositionConflict,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from featurestore.online import redis_wire as wire
from featurestore.online.base import Batch, Outcome, Write
from featurestore.online.redis_link import Link, Script

__all__ = ["RedoLog", "StaleBatch"]

_INTEND: Final = Script.named("intend")
_SETTLE: Final = Script.named("settle")
_TRIES: Final = 20
Apply = Callable[[int, bytes, str, bytes, bytes], list[Outcome]]


@final
class StaleBatch(Exception):
    """A later batch of the source was applied to the group; nothing was written."""


@final
class RedoLog:
    """The redo logs of a store's sources.

    Args:
        link: to the cluster.
        keys: the store's.
        apply: writes a group's part: group, part, source, number and name of the batch.
        on_step: called before each step; for tests of faults.
    """

    def __init__(
        self, link: Link, keys: wire.Keys, apply: Apply, on_step: Callable[[str], None]
    ) -> None:
        self._link = link
        self._keys = keys
        self._apply = apply
        self._on_step = on_step

    def put(self, batch: Batch) -> list[Outcome] | FeatureStoreError:
        """Store a batch with a position; return its outcomes or its PositionConflict.

        Raises:
            StoreFull: nothing was written.
            StoreUnavailable: the batch is stored or will be, or was not begun: read the position.
        """
        assert batch.position is not None
        source = batch.position.source
        parts: dict[int, list[int]] = {}
        for index, write in enumerate(batch.writes):
            parts.setdefault(write.group, []).append(index)
        name = uuid.uuid4().hex.encode()
        packed = {
            group: _pack([batch.writes[index] for index in members])
            for group, members in parts.items()
        }
        begun = self._begin(batch, name, packed)
        if isinstance(begun, FeatureStoreError):
            return begun
        outcomes = [Outcome.APPLIED] * len(batch.writes)
        for group, members in parts.items():
            self._on_step(f"apply {group}")
            applied = self._apply_begun(group, packed[group], source, begun, name)
            for index, outcome in zip(members, applied, strict=True):
                outcomes[index] = outcome
        if parts:
            self._on_step("settle")
            self._settle(source, name)
        return outcomes

    def positions(self, source: str) -> dict[str, int]:
        """Return a source's positions, after the batch that waits in its redo log, if any."""
        positions, redo = self._keys.positions(source), self._keys.redo(source)
        while True:
            flat, waits = self._link.read(positions, ("HGETALL", positions), ("EXISTS", redo))
            if not waits:
                return wire.stored_positions(flat)
            self.replay(source)

    def replay(self, source: str) -> None:
        """Finish the batch in a source's redo log, if there is one."""
        redo = self._keys.redo(source)
        (flat,) = self._link.read(redo, ("HGETALL", redo))
        log = dict(zip(flat[::2], flat[1::2], strict=True))
        if not log:
            return
        name, number = log.pop(b"name"), log.pop(b"number")
        for group, data in sorted(log.items()):
            self._on_step(f"replay {group.decode()}")
            try:
                self._apply(int(group), data, source, number, name)
            except StaleBatch as error:
                (waits,) = self._link.read(redo, ("HGET", redo, "name"))
                if waits != name:
                    return  # others finished it and went on
                raise StoreCorrupt(
                    f"source {source}: the redo log is older than what was applied of it; a "
                    f"failover lost acknowledged writes: restore a backup, or start the source "
                    f"under another name from its earliest position"
                ) from error
        self._on_step("settle")
        self._settle(source, name)

    def _begin(
        self, batch: Batch, name: bytes, packed: dict[int, bytes]
    ) -> bytes | FeatureStoreError:
        """Do step 1; return the batch's number, or its PositionConflict."""
        assert batch.position is not None
        source = batch.position.source
        keys = (
            self._keys.positions(source),
            self._keys.redo(source),
            self._keys.number(source),
        )
        arguments: list[object] = [name, len(batch.position.partitions)]
        for part in batch.position.partitions:
            arguments += (part.partition.encode(), part.start, part.next)
        for group, data in packed.items():
            arguments += (group, data)
        for _ in range(_TRIES):
            self._on_step("intend")
            said, *rest = self._link.run(_INTEND, keys, arguments, again=False)
            if said == b"begun":
                return bytes(rest[0])
            if said == b"conflict":
                try:
                    batch.position.advance(wire.stored_positions(rest))
                except PositionConflict as conflict:
                    return conflict
            self.replay(source)
        raise StoreUnavailable(
            f"source {source}: other clients put from it all the time; nothing was written: see "
            f"that one consumer has it, then read the stored position and go on from there"
        )

    def _apply_begun(
        self, group: int, data: bytes, source: str, number: bytes, name: bytes
    ) -> list[Outcome]:
        try:
            return self._apply(group, data, source, number, name)
        except StaleBatch as error:
            raise StoreUnavailable(
                f"source {source}: another client took over while this batch was stored; read the "
                f"stored position and go on from there"
            ) from error
        except StoreFull as error:
            raise StoreUnavailable(
                f"source {source}: the batch waits in its redo log, because a node of the cluster "
                f"is full; free space, read the stored position and go on from there ({error})"
            ) from error

    def _settle(self, source: str, name: bytes) -> None:
        self._link.run(_SETTLE, (self._keys.redo(source),), (name,), again=True)


def _pack(writes: list[Write]) -> bytes:
    return wire.pack_batches([Batch(writes)]).data
