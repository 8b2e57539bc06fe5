"""What a migration writes into a Redis store before anybody else uses it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Final, final

from featurestore.errors import StoreUnavailable
from featurestore.online import redis_wire as wire
from featurestore.online.redis import FILLING, RedisStore
from featurestore.online.redis_link import Command

__all__ = ["RedisFill"]

_GROUP: Final = struct.Struct(">I")
_OUTBOX_SLICE: Final = 500
_ALL: Final = b"\xff\xff\xff\xff\xff"  # behind every key


@final
class RedisFill:
    """Fills a store that was opened with `filling`. All of it may be done twice."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def begin(self, *, going_on: bool) -> bytes | None:
        """Take the store for the migration; return the last key that was copied before.

        Args:
            going_on: the source has noted all changes since what was copied; without it the copy
                begins anew.

        Raises:
            StoreUnavailable: the store has records that are in use.
        """
        link, key = self._store.link, self._store.keys.store
        ((state, copied),) = link.read(key, ("HMGET", key, "state", "copied"))
        groups = self._store.groups()
        if state != FILLING and (state is not None or groups):
            raise StoreUnavailable(
                f"{self._store.url.location} has records already; migrate to an empty place, for "
                f"example with ?namespace=NAME"
            )
        if going_on and state == FILLING:
            return copied if copied is None else bytes(copied)
        # What an earlier try has left; deleted records would come back otherwise.
        for group in groups:
            keys = self._store.keys.of_group(group)
            link.write(keys[0], ("UNLINK", *keys))
        link.write(key, ("HSET", key, "state", FILLING), ("HDEL", key, "copied"))
        return None

    def put(self, items: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write versions as they are stored, and remove those that are None; keys in order."""
        for prefix, members in groupby(sorted(items), key=lambda item: item[0][:4]):
            group = int(_GROUP.unpack(prefix)[0])
            self._store.register({group})
            values, index, *_ = self._store.keys.of_group(group)
            fields: list[bytes] = []
            scores: list[bytes] = []
            gone: list[bytes] = []
            for key, data in members:
                if data is None:
                    gone.append(key[4:])
                else:
                    fields += (key[4:], data)
                    scores += (b"0", key[4:])
            commands: list[Command] = []
            if fields:
                commands += [("HSET", values, *fields), ("ZADD", index, *scores)]
            if gone:
                commands += [("HDEL", values, *gone), ("ZREM", index, *gone)]
            self._store.link.write(values, *commands)

    def note(self, copied: bytes) -> None:
        """Remember up to which key all is copied."""
        key = self._store.keys.store
        self._store.link.write(key, ("HSET", key, "copied", copied))

    def note_all(self) -> None:
        """Remember that all is copied, but for changes."""
        self.note(_ALL)

    def put_positions(self, positions: Mapping[str, Mapping[str, int]]) -> None:
        """Write source positions."""
        for source, stored in positions.items():
            if stored:
                key = self._store.keys.positions(source)
                self._store.link.write(key, ("HSET", key, *wire.position_fields(stored)))

    def put_outbox(self, entries: Iterable[tuple[int, int, bytes]]) -> int:
        """Write waiting entries, by group and sequence, in the place of those there are.

        Returns:
            How many.
        """
        for group in self._store.groups():
            outbox = self._store.keys.of_group(group)[2]
            self._store.link.write(outbox, ("UNLINK", outbox))
        count = 0
        for group, members in groupby(entries, key=lambda entry: entry[0]):
            self._store.register({group})
            outbox = self._store.keys.of_group(group)[2]
            while part := list(islice(members, _OUTBOX_SLICE)):
                commands: Sequence[Command] = [
                    ("XADD", outbox, wire.stream_id(sequence), "e", data)
                    for _, sequence, data in part
                ]
                self._store.link.write(outbox, *commands)
                count += len(part)
        return count

    def set_floor(self, sequence: int) -> None:
        """Let every sequence that the store gives be greater than this one."""
        key = self._store.keys.store
        self._store.link.write(key, ("HSET", key, "floor", sequence))
