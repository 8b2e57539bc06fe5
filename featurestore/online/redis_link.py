"""Connections to Redis or Valkey: one server, or the nodes of a cluster.

Of the client library only connections, their pool and the protocol are used. Its own retries are
left aside: they would send a script again whose answer was lost, and so write a put twice.
"""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, final

from featurestore.errors import (
    FeatureStoreError,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
)
from featurestore.online.redis_url import RedisUrl

__all__ = ["Command", "Link", "Script", "connect", "explained", "information"]

Command = Sequence[Any]
_SLOTS: Final = 16384
_REDIRECTS: Final = 8
_TRY_AGAIN_S: Final = 0.05


class Script(NamedTuple):
    """A Lua script and the name by which a server keeps it."""

    text: bytes
    digest: bytes

    @classmethod
    def named(cls, name: str) -> Script:
        """Read a script from its file."""
        text = (Path(__file__).parent / "scripts" / f"{name}.lua").read_bytes()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def library() -> Any:
    """Return the client library.

    Raises:
        StoreUnavailable: it is not installed; the message names the extra.
    """
    try:
        import redis
    except ImportError as error:
        raise StoreUnavailable(
            "the online store is in Redis, but its client is not installed; "
            "pip install 'featureline[redis]'"
        ) from error
    return redis


class Link(ABC):
    """The way to the server that has a key. May be used from many threads.

    `is_cluster` says whether keys of one call must share a slot.
    """

    is_cluster: ClassVar[bool]

    def __init__(self, url: RedisUrl) -> None:
        self.url = url

    @abstractmethod
    def exchange(self, key: bytes, commands: Sequence[Command], *, again: bool) -> list[Any]:
        """Send commands to the server of a key, in one round trip; return their answers.

        An error that the server answers stands in its command's place.

        Args:
            key: decides the server; the keys of all commands share its slot.
            commands: what to send.
            again: try once more when the connection was lost; only for what may be done twice.

        Raises:
            StoreUnavailable: there was no answer.
        """

    @abstractmethod
    def gather(self, requests: Sequence[tuple[bytes, Command]]) -> list[Any]:
        """Send commands that may be done twice to the servers of their keys; return the answers.

        One round trip for each server. An error stands in its command's place, also when its
        server did not answer.

        Args:
            requests: keys, which decide the servers, and commands.
        """

    @abstractmethod
    def every(self, commands: Sequence[Command]) -> list[tuple[str, list[Any]]]:
        """Send commands to every primary; return `host:port` and answers of each."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def read(self, key: bytes, *commands: Command) -> list[Any]:
        """Send commands that may be done twice; raise what the server answers as an error."""
        return [self.checked(answer) for answer in self.exchange(key, commands, again=True)]

    def run(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[Any], *, again: bool
    ) -> Any:
        """Run a script, after a write with replicas wait for them; return its answer.

        A server that does not know the script gets its text.

        Raises:
            StoreUnavailable, StoreFull, StoreCorrupt: what the server or the connection said.
        """
        rest = (len(keys), *keys, *arguments)
        for command in (("EVALSHA", script.digest, *rest), ("EVAL", script.text, *rest)):
            commands: list[Command] = [command]
            if self.url.replicas and not again:
                commands.append(("WAIT", self.url.replicas, self.url.replica_timeout_ms))
            answers = self.exchange(keys[0], commands, again=again)
            if isinstance(answers[0], library().exceptions.NoScriptError):
                continue
            answer = self.checked(answers[0])
            if len(answers) > 1:
                self._check_replicas(self.checked(answers[1]))
            return answer
        raise StoreUnavailable(f"Redis at {self.url.where} does not keep scripts; try again")

    def write(self, key: bytes, *commands: Command) -> list[Any]:
        """Send commands that may be done twice and write; wait for replicas where asked."""
        sent = list(commands)
        if self.url.replicas:
            sent.append(("WAIT", self.url.replicas, self.url.replica_timeout_ms))
        answers = [self.checked(answer) for answer in self.exchange(key, sent, again=True)]
        if self.url.replicas:
            self._check_replicas(answers.pop())
        return answers

    def checked(self, answer: Any) -> Any:
        """Return an answer, or raise what it means when it is an error."""
        if isinstance(answer, FeatureStoreError):
            raise answer
        if isinstance(answer, Exception):
            raise explained(answer, self.url.where) from answer
        return answer

    def _check_replicas(self, have: int) -> None:
        if have < self.url.replicas:
            raise StoreUnavailable(
                f"Redis at {self.url.where}: the put is stored, but only {have} of the "
                f"{self.url.replicas} replicas asked for had it after "
                f"{self.url.replica_timeout_ms} ms; put again, or see to the replicas"
            )


def connect(url: RedisUrl) -> Link:
    """Make the link that a URL asks for; connections open when they are used."""
    return _Cluster(url) if url.cluster else _Server(url)


def explained(error: Exception, where: str, *, unsure: bool = False) -> FeatureStoreError:
    """Say what an error of the server or the connection means for the caller.

    Args:
        error: what was answered or raised.
        where: of the server.
        unsure: without an answer, what was sent may have been written.
    """
    errors = library().exceptions
    text = str(error)
    if isinstance(error, errors.OutOfMemoryError) or "OOM command" in text:
        return StoreFull(
            f"Redis at {where} has reached its maxmemory; nothing was written: flush the outbox, "
            f"delete records, or raise maxmemory, then put again"
        )
    if text.startswith("MISCONF"):
        if "No space left" in text or "AOF" in text:
            return StoreFull(
                f"Redis at {where} cannot write its append-only file; nothing was written: free "
                f"space on its disk, then put again ({text})"
            )
        return StoreUnavailable(f"Redis at {where} refuses writes: {text}")
    if isinstance(error, errors.ReadOnlyError):
        return StoreUnavailable(
            f"Redis at {where} is a replica and takes no writes; connect to its primary"
        )
    if isinstance(error, errors.AuthenticationError | errors.NoPermissionError):
        return StoreUnavailable(
            f"Redis at {where} refuses the login or the command ({text}); check user, password "
            f"and ACL"
        )
    if isinstance(error, errors.BusyLoadingError):
        return StoreUnavailable(f"Redis at {where} is still loading its data; try again")
    if text.startswith("WRONGTYPE"):
        return StoreCorrupt(
            f"Redis at {where}: a key of the online store holds something else ({text}); another "
            f"program writes to this database: give the store one of its own, restore a backup"
        )
    if isinstance(error, errors.ConnectionError | errors.TimeoutError | OSError):
        hint = ". A put under way may have been stored or not: put it again" if unsure else ""
        return StoreUnavailable(
            f"Redis at {where} does not answer: {text}; check that it runs and can be reached{hint}"
        )
    return StoreUnavailable(f"Redis at {where}: {text}")


@final
class _Node:
    """The pool of connections to one server."""

    def __init__(self, url: RedisUrl, host: str, port: int) -> None:
        redis = library()
        self.where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._errors = redis.exceptions
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": url.database,
            "username": url.username or None,
            "password": url.password or None,
            "socket_timeout": url.timeout_s,
            "socket_connect_timeout": url.timeout_s,
            "socket_keepalive": True,
            "protocol": 2,
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        }
        kind = redis.connection.Connection
        if url.tls:
            kind = redis.connection.SSLConnection
            options |= {
                "ssl_ca_certs": url.ca_certs or None,
                "ssl_certfile": url.certfile or None,
                "ssl_keyfile": url.keyfile or None,
            }
        self._pool = redis.connection.ConnectionPool(connection_class=kind, **options)

    def exchange(self, commands: Sequence[Command], *, again: bool) -> list[Any]:
        unsure = not again
        while True:
            try:
                return self._once(commands)
            except (self._errors.ConnectionError, self._errors.TimeoutError, OSError) as error:
                # Who did not answer in time would be waited for twice.
                if not again or isinstance(error, self._errors.TimeoutError):
                    raise explained(error, self.where, unsure=unsure) from error
                again = False

    def begin(self, commands: Sequence[Command]) -> Any:
        """Send commands that may be done twice; return what `end` takes.

        Raises:
            StoreUnavailable: the server does not answer in time.
        """
        try:
            return self._send(commands)
        except self._errors.TimeoutError as error:
            raise explained(error, self.where) from error
        except (self._errors.ConnectionError, OSError):
            return None

    def end(self, begun: Any, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to commands; they are sent again when their connection was lost.

        Raises:
            StoreUnavailable: there was no answer.
        """
        if begun is not None:
            try:
                return self._receive(begun, len(commands))
            except self._errors.TimeoutError as error:
                raise explained(error, self.where) from error
            except (self._errors.ConnectionError, OSError):
                pass
        return self.exchange(commands, again=True)

    def close(self) -> None:
        self._pool.disconnect()

    def _once(self, commands: Sequence[Command]) -> list[Any]:
        return self._receive(self._send(commands), len(commands))

    def _send(self, commands: Sequence[Command]) -> Any:
        connection = self._pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
        except BaseException:
            connection.disconnect()
            self._pool.release(connection)
            raise
        return connection

    def _receive(self, connection: Any, count: int) -> list[Any]:
        whole = False
        try:
            answers = []
            for _ in range(count):
                try:
                    answers.append(connection.read_response())
                except self._errors.ResponseError as error:
                    answers.append(error)
            whole = True
            return answers
        finally:
            if not whole:  # answers that nobody read would be taken for those of the next call
                connection.disconnect()
            self._pool.release(connection)


@final
class _Server(Link):
    is_cluster = False

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        self._node = _Node(url, *url.hosts[0])

    def exchange(self, key: bytes, commands: Sequence[Command], *, again: bool) -> list[Any]:
        return self._node.exchange(commands, again=again)

    def gather(self, requests: Sequence[tuple[bytes, Command]]) -> list[Any]:
        try:
            return self._node.exchange([command for _, command in requests], again=True)
        except FeatureStoreError as error:
            return [error] * len(requests)

    def every(self, commands: Sequence[Command]) -> list[tuple[str, list[Any]]]:
        return [(self._node.where, self._node.exchange(commands, again=True))]

    def close(self) -> None:
        self._node.close()


@final
class _Cluster(Link):
    """Sends each call to the primary of its key's slot, and follows slots that move.

    A server that answers MOVED, ASK or TRYAGAIN has done nothing, so the command may be sent
    again; a connection that was lost tells nothing.
    """

    is_cluster = True

    def __init__(self, url: RedisUrl) -> None:
        super().__init__(url)
        redis = library()
        self._errors = redis.exceptions
        self._slot_of: Callable[[bytes], int] = redis.crc.key_slot
        self._lock = threading.Lock()
        self._nodes: dict[tuple[str, int], _Node] = {}
        self._owners: list[tuple[str, int] | None] = [None] * _SLOTS

    def exchange(self, key: bytes, commands: Sequence[Command], *, again: bool) -> list[Any]:
        slot = self._slot_of(key)
        answers: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        place, asking = self._owner(slot), False
        for _ in range(_REDIRECTS):
            sent: list[Command] = [commands[index] for index in left]
            if asking:  # holds for one command each
                sent = [part for command in sent for part in (("ASKING",), command)]
            try:
                received = self._node(place).exchange(sent, again=again)
            except StoreUnavailable:
                self._forget()  # a failover may have given its slots to another
                raise
            if asking:
                received = received[1::2]
            redirect: Any = None
            waiting = []
            for index, answer in zip(left, received, strict=True):
                answers[index] = answer
                # MovedError is an AskError too.
                if isinstance(answer, self._errors.AskError | self._errors.TryAgainError):
                    redirect = answer
                    waiting.append(index)
            if not waiting:
                return answers
            left, asking = waiting, False
            if isinstance(redirect, self._errors.MovedError):
                self._forget()
                place = self._owner(slot)
            elif isinstance(redirect, self._errors.AskError):
                place, asking = (redirect.host, redirect.port), True
            else:
                time.sleep(_TRY_AGAIN_S)
        return answers

    def gather(self, requests: Sequence[tuple[bytes, Command]]) -> list[Any]:
        answers: list[Any] = [None] * len(requests)
        places: dict[tuple[str, int], list[int]] = {}
        for index, (key, _) in enumerate(requests):
            try:
                places.setdefault(self._owner(self._slot_of(key)), []).append(index)
            except StoreUnavailable as error:
                answers[index] = error
        sent = {
            place: [requests[index][1] for index in members] for place, members in places.items()
        }
        # All are asked before one is listened to.
        begun = {place: self._begin(place, commands) for place, commands in sent.items()}
        for place, members in places.items():
            received = self._end(place, begun[place], sent[place])
            for index, answer in zip(members, received, strict=True):
                answers[index] = answer
                if isinstance(answer, self._errors.AskError | self._errors.TryAgainError):
                    answers[index] = self._follow(*requests[index])
        return answers

    def _begin(self, place: tuple[str, int], commands: Sequence[Command]) -> Any:
        try:
            return self._node(place).begin(commands)
        except StoreUnavailable as error:
            return error

    def _end(self, place: tuple[str, int], begun: Any, commands: Sequence[Command]) -> list[Any]:
        try:
            if isinstance(begun, StoreUnavailable):
                raise begun
            return self._node(place).end(begun, commands)
        except StoreUnavailable as error:
            self._forget()  # a failover may have given its slots to another
            return [error] * len(commands)

    def _follow(self, key: bytes, command: Command) -> Any:
        """Send a command again whose slot moves."""
        try:
            return self.exchange(key, [command], again=True)[0]
        except StoreUnavailable as error:
            return error

    def every(self, commands: Sequence[Command]) -> list[tuple[str, list[Any]]]:
        self._forget()
        self._owner(0)
        places = sorted({place for place in self._owners if place is not None})
        return [
            (node.where, node.exchange(commands, again=True)) for node in map(self._node, places)
        ]

    def close(self) -> None:
        for node in list(self._nodes.values()):
            node.close()

    def _node(self, place: tuple[str, int]) -> _Node:
        with self._lock:
            node = self._nodes.get(place)
            if node is None:
                node = self._nodes[place] = _Node(self.url, *place)
            return node

    def _owner(self, slot: int) -> tuple[str, int]:
        place = self._owners[slot]
        if place is None:
            self._owners = self._ask_for_slots()
            place = self._owners[slot]
        if place is None:
            raise StoreUnavailable(
                f"the Redis cluster at {self.url.where} has no node for slot {slot}; see "
                f"`redis-cli --cluster check {self.url.where.split(',')[0]}`"
            )
        return place

    def _forget(self) -> None:
        self._owners = [None] * _SLOTS

    def _ask_for_slots(self) -> list[tuple[str, int] | None]:
        """Ask the start nodes, then those met since, who has which slot."""
        failure: FeatureStoreError | None = None
        for place in [*self.url.hosts, *list(self._nodes)]:
            try:
                (answer,) = self._node(place).exchange([("CLUSTER", "SLOTS")], again=True)
            except StoreUnavailable as error:
                failure = error
                continue
            if isinstance(answer, Exception):
                failure = StoreUnavailable(
                    f"Redis at {self._node(place).where} is no node of a cluster ({answer}); "
                    f"write redis:// for a single server"
                )
                continue
            owners: list[tuple[str, int] | None] = [None] * _SLOTS
            for first, last, primary, *_ in answer:
                # A node that does not know its own address leaves it empty.
                owner = ((primary[0] or b"").decode() or place[0], int(primary[1]))
                owners[first : last + 1] = [owner] * (last + 1 - first)
            return owners
        assert failure is not None
        raise failure


def information(lines: bytes) -> Mapping[str, str]:
    """Read the answer of INFO."""
    pairs = (line.partition(":") for line in lines.decode().splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
