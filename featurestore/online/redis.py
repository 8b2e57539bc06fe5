"""The online store on Redis or Valkey, one server or a cluster, shared by many machines.

**Where things lie.** A feature group is one shard: its values, index, outbox and state are four
keys with one hash tag, so one slot has them, and put.lua writes them in one atomic step. The tag
ends in a shard's number, which is always 0: the flusher skips what is in the Delta table by *one*
sequence for each group, which is right only while nothing appears in the outbox with a lower
sequence than one that was read. With a counter in the group's slot, given out by the script that
also appends, the order of sequences is the order of appearance, and there is nothing to wait for
or to merge. Several shards would need an application for each in the Delta tables; the limit of
one is a server's core for each group (see docs/redis.md).

**Sequences** count for each group. Each client asks for one above all it has seen (a logical
clock), so its own puts also rise from group to group. All clients begin at the store's floor:
where the store that was migrated from stood.

**Single server.** One put() is one call of put.lua over all its groups and sources: stored whole
or not at all.

**Cluster.** A batch without a position is one call for each of its groups. A client that dies, or
a node that fails, between two of them leaves a part of an unacknowledged batch stored; put again.
A batch with a position goes through a redo log beside its source (redis_redo.py), and is stored
whole once it has begun.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, final

from featurestore import codec
from featurestore.codec import OutboxEntry, StoredValue
from featurestore.errors import (
    FeatureStoreError,
    InvalidRequest,
    PositionConflict,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from featurestore.online import redis_wire as wire
from featurestore.online.base import Batch, Erased, OnlineStore, Outcome, Usage
from featurestore.online.redis_check import check_facts, check_servers
from featurestore.online.redis_link import Command, Script, connect, information
from featurestore.online.redis_redo import RedoLog, StaleBatch
from featurestore.online.redis_url import RedisUrl
from featurestore.outbox import Outbox

__all__ = ["RedisStore"]

FORMAT: Final = b"featureline-redis-1"
READY: Final = b"ready"
FILLING: Final = b"filling"  # a migration into this store has not ended
MAX_CALL_BYTES: Final = 256 << 20  # a server takes 512 MiB at most in one piece
_GET_CHUNK: Final = 5_000
_COUNTED_GROUPS: Final = 500
_SCAN_CHUNK: Final = 1_000
_SCAN_BYTES: Final = 8 << 20
_READ_CHUNK: Final = 5_000
_ERASE: Final = Script.named("erase")
_PUT: Final = Script.named("put")
_SCAN: Final = Script.named("scan")


@final
class RedisStore(OnlineStore):
    """An online store in a Redis or Valkey database.

    Args:
        url: as `featurestore.online.RedisUrl` reads it.
        store_id: the store that is expected there; it is made under this name when there is none.
            By default any, or a new name.
        filling: open it although a migration into it has not ended; only for the migration.
        on_step: called before each step of a batch over several slots; for tests of faults.

    Raises:
        StoreUnavailable: it cannot be reached, is a replica, evicts or is less durable than the
            URL accepts, holds another store, or the client library is absent.
        StoreCorrupt: the database belongs to another program.
        InvalidRequest: the URL has another form.
    """

    reads_block: ClassVar[bool] = True

    def __init__(
        self,
        url: str | RedisUrl,
        *,
        store_id: str | None = None,
        filling: bool = False,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.url = RedisUrl.parse(url) if isinstance(url, str) else url
        self.keys = wire.Keys(self.url.namespace)
        self.link = connect(self.url)
        self._outbox = _RedisOutbox(self)
        self._known_groups: set[int] = set()
        self._open = True
        try:
            check_servers(self.link)
            self._refuse_foreign()
            self._id, self._floor = self._identify(store_id, filling)
            self.clock = self._floor
        except BaseException:
            self.link.close()
            raise
        self._redo = RedoLog(self.link, self.keys, self._apply, on_step)

    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """See OnlineStore.put.

        Over several slots of a cluster, StoreUnavailable may mean that a part was written.
        """
        self.check_open()
        if not batches:
            return []
        self.register({write.group for batch in batches for write in batch.writes})
        if self.link.is_cluster:
            return self._put_over_slots(batches)
        return self._put_at_once(batches)

    def get(self, group: int, identifiers: Sequence[bytes]) -> list[StoredValue | None]:
        """See OnlineStore.get."""
        self.check_open()
        if not identifiers:
            return []
        values = self.keys.of_group(group)[0]
        keys = [codec.record_key(group, identifier) for identifier in identifiers]
        return _values(keys, self.link.read(values, *_get_commands(values, keys)))

    def get_many(
        self, wanted: Sequence[tuple[int, Sequence[bytes]]]
    ) -> list[Sequence[StoredValue | None] | FeatureStoreError]:
        """See OnlineStore.get_many; one round trip for each server that has one of the groups."""
        requests: list[tuple[bytes, Command]] = []
        keys_of: list[list[bytes]] = []
        for group, identifiers in wanted:
            values = self.keys.of_group(group)[0]
            keys_of.append([codec.record_key(group, identifier) for identifier in identifiers])
            requests += [(values, command) for command in _get_commands(values, keys_of[-1])]
        try:
            self.check_open()
            answers = iter(self.link.gather(requests))
        except StoreUnavailable as error:
            return [error] * len(wanted)
        found: list[Sequence[StoredValue | None] | FeatureStoreError] = []
        for keys in keys_of:
            parts = [next(answers) for _ in range(0, len(keys), _GET_CHUNK)]
            try:
                found.append(_values(keys, [self.link.checked(part) for part in parts]))
            except FeatureStoreError as error:
                found.append(error)
        return found

    def scan(
        self, group: int, *, after: bytes | None, limit: int
    ) -> list[tuple[bytes, StoredValue]]:
        """See OnlineStore.scan."""
        self.check_open()
        values, index, *_ = self.keys.of_group(group)
        prefix = codec.group_prefix(group)
        begin = b"-" if after is None else b"(" + after[len(prefix) :]
        found: list[tuple[bytes, StoredValue]] = []
        while len(found) < limit:
            # In slices: a server answers nobody else while it runs a script.
            wanted = min(limit - len(found), _SCAN_CHUNK)
            flat = self.link.run(_SCAN, (values, index), (begin, wanted, _SCAN_BYTES), again=True)
            if not flat:
                break
            for field, data in zip(flat[::2], flat[1::2], strict=True):
                key = prefix + field
                found.append((key, codec.decode_value(key, data)))
            begin = b"(" + flat[-2]
        return found

    def erase(self, group: int, identifier: bytes, *, through_us: int) -> Erased:
        """See OnlineStore.erase.

        The server's append-only file has the record until it is rewritten.
        """
        self.check_open()
        self.register({group})
        values, index, *_ = self.keys.of_group(group)
        key = codec.record_key(group, identifier)[4:]
        mark = codec.erased_key(group, identifier, self._id)[4:]
        # The same again changes nothing, so a lost answer costs only what it said.
        found, time = self.link.run(
            _ERASE, (values, index), (key, mark, wire.pack_time(through_us)), again=True
        )
        return Erased(bool(found), wire.unpack_time(time))

    def erased_through(self, group: int, identifiers: Sequence[bytes]) -> list[int | None]:
        """See OnlineStore.erased_through."""
        self.check_open()
        if not identifiers:
            return []
        values = self.keys.of_group(group)[0]
        marks = [codec.erased_key(group, each, self._id) for each in identifiers]
        found = _values(marks, self.link.read(values, *_get_commands(values, marks)))
        return [None if erased is None else erased.event_time_us for erased in found]

    def drop(self, group: int) -> None:
        """See OnlineStore.drop.

        The keys go in one step; the server frees their memory in the background. The state stays:
        its sequence must not begin again.
        """
        self.check_open()
        values, index, outbox, _ = self.keys.of_group(group)
        self.link.write(values, ("UNLINK", values, index, outbox))

    def source_position(self, source: str) -> dict[str, int]:
        """See OnlineStore.source_position.

        Finishes a batch of the source that a killed client has begun.
        """
        self.check_open()
        return self._redo.positions(source)

    def last_sequence(self, group: int) -> int:
        """See OnlineStore.last_sequence."""
        self.check_open()
        state = self.keys.of_group(group)[3]
        (stored,) = self.link.read(state, ("HGET", state, "sequence"))
        return max(self._floor, 0 if stored is None else wire.unpack_sequence(stored))

    @property
    def outbox(self) -> Outbox:
        """See OnlineStore.outbox."""
        return self._outbox

    @property
    def store_id(self) -> str:
        """See OnlineStore.store_id."""
        return self._id

    def usage(self) -> Usage:
        """See OnlineStore.usage.

        The bytes are the servers', whatever else they hold; `limit_bytes` is their `maxmemory`.
        Of a cluster it is what is used plus the room on its fullest node, since any put may go
        there. Records are counted while there are few groups.

        Raises:
            StoreUnavailable: also when a server became one that would not be opened.
        """
        self.check_open()
        used = 0
        rooms: list[int] = []
        for where, (answer,) in self.link.every([("INFO",)]):
            facts = information(self.link.checked(answer))
            check_facts(where, self.url.durability, facts)
            used += int(facts["used_memory"])
            limit = int(facts.get("maxmemory", "0"))
            if limit:
                rooms.append(limit - int(facts["used_memory"]))
        records = None
        groups = self.groups()
        if len(groups) <= _COUNTED_GROUPS:
            keys = [self.keys.of_group(group)[0] for group in groups]
            counts = self.link.gather([(key, ("HLEN", key)) for key in keys])
            records = sum(int(self.link.checked(count)) for count in counts)
        return Usage(records, used, limit_bytes=used + min(rooms) if rooms else None)

    def close(self) -> None:
        """See OnlineStore.close."""
        if self._open:
            self._open = False
            self.link.close()

    def check_open(self) -> None:
        """Raise StoreUnavailable when the store is closed."""
        if not self._open:
            raise StoreUnavailable("the online store is closed")

    def register(self, groups: set[int]) -> None:
        """Note groups as ones that have keys, before they have.

        Raises:
            StoreFull, StoreUnavailable: nothing was written.
        """
        new = groups - self._known_groups
        if new:
            self.link.write(self.keys.store, ("SADD", self.keys.groups, *sorted(new)))
            self._known_groups |= new

    def make_ready(self) -> None:
        """Open the store for use: what was migrated into it is all there."""
        self.link.write(self.keys.store, ("HSET", self.keys.store, "state", READY))

    def groups(self) -> list[int]:
        """Return the numbers of all groups that ever had a record."""
        (numbers,) = self.link.read(self.keys.store, ("SMEMBERS", self.keys.groups))
        return sorted(map(int, numbers))

    def _put_at_once(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        packed = wire.pack_batches(batches)
        keys = [key for group in packed.groups for key in self.keys.of_group(group)]
        keys += [self.keys.positions(source) for source in packed.sources]
        if not keys:
            return [[] for _ in batches]
        answers = self._run_put(keys, len(packed.groups), packed.data)
        settled: list[list[Outcome] | FeatureStoreError] = []
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, bytes):
                settled.append(wire.read_outcomes(answer))
            else:
                settled.append(_conflict(batch, answer))
        return settled

    def _put_over_slots(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """Store batches in their order; neighbours without a position go together."""
        answers: list[list[Outcome] | FeatureStoreError] = [[] for _ in batches]
        run: list[int] = []
        stored = False
        try:
            for index, batch in enumerate(batches):
                if batch.position is None:
                    run.append(index)
                    continue
                stored |= self._put_run(batches, run, answers, stored=stored)
                run = []
                answers[index] = self._redo.put(batch)
                stored |= not isinstance(answers[index], FeatureStoreError)
            self._put_run(batches, run, answers, stored=stored)
        except StoreFull as error:
            if stored:
                raise _partly(error) from error
            raise
        return answers

    def _put_run(
        self,
        batches: Sequence[Batch],
        run: Sequence[int],
        answers: list[list[Outcome] | FeatureStoreError],
        *,
        stored: bool,
    ) -> bool:
        """Store batches without positions, one call for each group; return whether there were."""
        places: dict[int, list[tuple[int, int]]] = {}
        for index in run:
            outcomes = [Outcome.APPLIED] * len(batches[index].writes)
            answers[index] = outcomes
            for at, write in enumerate(batches[index].writes):
                places.setdefault(write.group, []).append((index, at))
        for group, members in places.items():
            writes = [batches[index].writes[at] for index, at in members]
            packed = wire.pack_batches([Batch(writes)])
            try:
                (digits,) = self._run_put(self.keys.of_group(group), 1, packed.data)
            except StoreFull as error:
                if stored:
                    raise _partly(error) from error
                raise
            stored = True
            for (index, at), outcome in zip(members, wire.read_outcomes(digits), strict=True):
                answer = answers[index]
                assert isinstance(answer, list)
                answer[at] = outcome
        return bool(places)

    def _apply(
        self, group: int, data: bytes, source: str, number: bytes, name: bytes
    ) -> list[Outcome]:
        """Apply the part of a redo log's batch that is one group's, once whoever tries."""
        marker = b"source:" + source.encode()
        answers = self._run_put(self.keys.of_group(group), 1, data, marker, number, name)
        return wire.read_outcomes(answers[0])

    def _run_put(
        self, keys: Sequence[bytes], groups: int, data: bytes, *marker: bytes
    ) -> list[Any]:
        if len(data) > MAX_CALL_BYTES:
            raise InvalidRequest(
                f"a put of {len(data)} bytes: expected at most {MAX_CALL_BYTES} in one step of "
                f"Redis; put in smaller batches"
            )
        arguments = (groups, wire.pack_sequence(self.clock), data, self._id, *marker)
        answers: list[Any]
        top, *answers = self.link.run(_PUT, keys, arguments, again=False)
        if top == b"stale":
            raise StaleBatch
        self.see(wire.unpack_sequence(top))
        return answers

    def see(self, sequence: int) -> None:
        """Let later puts of this client have greater sequences than one that it has seen."""
        # A race of two threads may set the clock back by a little: each put is still given a
        # sequence above its group's last.
        self.clock = max(self.clock, sequence)

    def _refuse_foreign(self) -> None:
        # Sizes first: a store that is being made has its mark before any other key.
        sizes = [self.link.checked(answers[0]) for _, answers in self.link.every([("DBSIZE",)])]
        form = self._form()
        if form is None and any(sizes):
            raise StoreCorrupt(
                f"{self.url.location} belongs to another program: it has {sum(sizes)} keys and "
                f"none of an online store; choose another database or server"
            )
        if form is None:
            self.link.write(wire.FORMAT_KEY, ("SET", wire.FORMAT_KEY, FORMAT, "NX"))
            form = self._form()
        if form != FORMAT:
            raise StoreCorrupt(
                f"{self.url.location} has the form {(form or b'').decode(errors='replace')!r}, "
                f"this version reads {FORMAT.decode()!r}; open it with the version that wrote it"
            )

    def _form(self) -> bytes | None:
        (form,) = self.link.read(wire.FORMAT_KEY, ("GET", wire.FORMAT_KEY))
        return form if form is None else bytes(form)

    def _identify(self, expected: str | None, filling: bool) -> tuple[str, int]:
        """Return the store's name and floor; make it when it is not there."""
        key = self.keys.store
        chosen = expected or uuid.uuid4().hex
        _, (found, state, floor) = self.link.write(
            key,
            ("HSETNX", key, "store_id", chosen),
            ("HMGET", key, "store_id", "state", "floor"),
        )
        name = bytes(found).decode()
        if expected is not None and name != expected:
            raise StoreUnavailable(
                f"{self.url.location} is the online store of another home ({name}, this home has "
                f"{expected}); give this one a namespace of its own: ?namespace=NAME"
            )
        if state == FILLING and not filling:
            raise StoreUnavailable(
                f"a migration into {self.url.location} has not ended; run `featureline migrate` "
                f"again to finish it"
            )
        return name, int(floor or 0)


def _get_commands(values: bytes, keys: Sequence[bytes]) -> list[Command]:
    return [
        ("HMGET", values, *(key[4:] for key in keys[start : start + _GET_CHUNK]))
        for start in range(0, len(keys), _GET_CHUNK)
    ]


def _values(keys: Sequence[bytes], answers: Sequence[Any]) -> list[StoredValue | None]:
    return [
        None if data is None else codec.decode_value(key, data)
        for key, data in zip(keys, (data for part in answers for data in part), strict=True)
    ]


def _conflict(batch: Batch, flat: Sequence[bytes]) -> FeatureStoreError:
    assert batch.position is not None
    try:
        batch.position.advance(wire.stored_positions(flat))
    except PositionConflict as conflict:
        return conflict
    return StoreCorrupt("a stored source position and a batch's do not agree on their conflict")


def _partly(error: StoreFull) -> StoreUnavailable:
    return StoreUnavailable(
        f"a node of the cluster is full, and other parts of the put are stored already; free "
        f"space, then put again ({error})"
    )


@final
class _RedisOutbox(Outbox):
    """A stream for each group; an entry's ID is its sequence."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def read(self, group: int, *, after: int, limit: int) -> Sequence[OutboxEntry]:
        self._store.check_open()
        key = self._store.keys.of_group(group)[2]
        entries: list[OutboxEntry] = []
        while len(entries) < limit:
            wanted = min(limit - len(entries), _READ_CHUNK)
            begin = f"({wire.stream_id(after)}"
            (found,) = self._store.link.read(key, ("XRANGE", key, begin, "+", "COUNT", wanted))
            for name, fields in found:
                after = wire.read_stream_id(name)
                entries.append(codec.decode_outbox(codec.outbox_key(group, after), fields[1]))
            if len(found) < wanted:
                break
        if entries:
            self._store.see(after)
        return entries

    def remove(self, group: int, *, through: int) -> int:
        self._store.check_open()
        key = self._store.keys.of_group(group)[2]
        # When the answer is lost and it is sent again, only the count of the second try is right.
        first = wire.stream_id(through + 1)
        return int(self._store.link.write(key, ("XTRIM", key, "MINID", first))[0])

    def pending(self, group: int | None = None, *, limit: int | None = None) -> int:
        self._store.check_open()
        groups = self._store.groups() if group is None else [group]
        keys = [self._store.keys.of_group(number)[2] for number in groups]
        counts = self._store.link.gather([(key, ("XLEN", key)) for key in keys])
        return sum(int(self._store.link.checked(count)) for count in counts)
