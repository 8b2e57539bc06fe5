"""How the processes of one fit find each other and exchange values: sockets of this machine.

The runner opens a port that the system chooses, hands its listener to the first process and tells
the others its number and a secret. So no port can be taken by another program meanwhile, and
nobody else is answered.
"""

from __future__ import annotations

import contextlib
import hmac
import pickle
import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, final

from training.errors import TrainingStopped
from training.world import HostLost, World

__all__ = ["Linked", "Meeting"]

_HOST: Final = "127.0.0.1"
_LENGTH: Final = struct.Struct(">Q")
_RANK: Final = struct.Struct(">I")
_SECRET_BYTES: Final = 32
_LOOK_S: Final = 0.1
_PATIENCE_S: Final = 5.0


@final
class Meeting:
    """Where the processes of a job will meet, opened by the runner; close it once they have begun.

    Args:
        size: how many will come.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._secret = secrets.token_hex(_SECRET_BYTES)
        self._listener = socket.create_server((_HOST, 0), backlog=size)

    @property
    def descriptor(self) -> int:
        """The listener, which the first process inherits."""
        return self._listener.fileno()

    def order(self, rank: int) -> dict[str, Any]:
        """Return what a process is told, as JSON values."""
        return {
            "rank": rank,
            "size": self._size,
            "port": self._listener.getsockname()[1],
            "secret": self._secret,
            "listener": self.descriptor if rank == 0 else None,
        }

    def close(self) -> None:
        """Leave it to the processes."""
        self._listener.close()


@final
class Linked(World):
    """A world of several processes: the first one is connected with each of the others."""

    address = _HOST

    def __init__(self, rank: int, size: int, peers: Mapping[int, socket.socket]) -> None:
        self.rank = rank
        self.size = size
        self._peers = dict(sorted(peers.items()))

    @classmethod
    def join(cls, order: Mapping[str, Any], should_stop: Callable[[], bool]) -> Self:
        """Meet the others, as a `Meeting` has told.

        Raises:
            TrainingStopped: that is wished before all are there.
            HostLost: the first process is gone.
        """
        rank, size, secret = order["rank"], order["size"], bytes.fromhex(order["secret"])
        if rank:
            first = socket.create_connection((_HOST, order["port"]))
            first.sendall(secret + _RANK.pack(rank))
            linked = cls(rank, size, {0: first})
        else:
            with socket.socket(fileno=order["listener"]) as listener:
                linked = cls(rank, size, _met(listener, size - 1, secret, should_stop))
        for peer in linked._peers.values():
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            linked._greet(should_stop)
        except OSError as error:
            linked.close()
            raise _lost(error) from error
        except TrainingStopped:
            linked.close()
            raise
        return linked

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in their order."""
        try:
            if self.rank:
                _send(self._peers[0], value)
                values: list[Any] = _receive(self._peers[0], 0)
                return values
            values = [value, *(_receive(peer, rank) for rank, peer in self._peers.items())]
            for peer in self._peers.values():
                _send(peer, values)
        except OSError as error:
            raise _lost(error) from error
        return values

    def close(self) -> None:
        """Part from the others."""
        for peer in self._peers.values():
            peer.close()

    def _greet(self, should_stop: Callable[[], bool]) -> None:
        """Wait until all are there: the first one tells the others."""
        if not self.rank:
            for peer in self._peers.values():
                _send(peer, None)
            return
        first = self._peers[0]
        first.settimeout(_LOOK_S)
        while True:
            _ask(should_stop)
            with contextlib.suppress(TimeoutError):
                first.recv(1, socket.MSG_PEEK)
                break
        first.settimeout(None)
        _receive(first, 0)


def _met(
    listener: socket.socket, others: int, secret: bytes, should_stop: Callable[[], bool]
) -> dict[int, socket.socket]:
    """Accept the other processes; who does not know the secret is sent away."""
    found: dict[int, socket.socket] = {}
    listener.settimeout(_LOOK_S)
    while len(found) < others:
        if should_stop():
            for peer in found.values():
                peer.close()
        _ask(should_stop)
        try:
            peer, _ = listener.accept()
        except TimeoutError:
            continue
        peer.settimeout(_PATIENCE_S)
        try:
            said = _exactly(peer, len(secret) + _RANK.size)
        except OSError:
            peer.close()
            continue
        rank = _RANK.unpack(said[len(secret) :])[0]
        if not hmac.compare_digest(said[: len(secret)], secret) or rank in found:
            peer.close()
            continue
        peer.settimeout(None)
        found[rank] = peer
    return found


def _lost(error: OSError) -> HostLost:
    return HostLost(f"this host cannot go on alone: {error}")


def _ask(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise TrainingStopped("stopped before all hosts had begun")


def _send(peer: socket.socket, value: Any) -> None:
    body = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    peer.sendall(_LENGTH.pack(len(body)))
    peer.sendall(body)


def _receive(peer: socket.socket, rank: int) -> Any:
    (length,) = _LENGTH.unpack(_exactly(peer, _LENGTH.size, rank))
    return pickle.loads(_exactly(peer, length, rank))


def _exactly(peer: socket.socket, size: int, rank: int | None = None) -> bytearray:
    held = bytearray(size)
    view, have = memoryview(held), 0
    while have < size:
        got = peer.recv_into(view[have:])
        if not got:
            who = "it" if rank is None else f"algo-{rank + 1}"
            raise ConnectionError(f"{who} has ended")
        have += got
    return held
