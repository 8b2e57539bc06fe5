"""The server process: the stores of one home behind gRPC, with health and reflection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

import featurestore
from featurestore import wire
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.errors import FeatureStoreError, StoreUnavailable
from featurestore.server import (
    ControlService,
    NativeFront,
    Registrar,
    RuntimeService,
    add_to_server,
    native_is_available,
)
from featurestore.v1 import control_pb2, runtime_pb2
from lineage.service import LineageService
from lineage.v1 import lineage_pb2, lineage_pb2_grpc
from training.service import TrainingService
from training.v1 import training_pb2, training_pb2_grpc

__all__ = ["Server", "Settings", "serve"]

_log = logging.getLogger(__name__)
DRAIN_S: Final = 10.0
_MAX_PORT: Final = 65_535
# The path of a Unix socket has room for about a hundred bytes.
_MAX_SOCKET_FOLDER_BYTES: Final = 70


@final
@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Args:
        home: folder of the stores.
        grpc: `host:port`; port 0 takes a free one.
        flush_s: how often the outbox is moved into the Delta tables, seconds.
        front: what speaks gRPC: `grpc`, `native`, or `auto` for native where it is installed.
    """

    home: Path
    grpc: str
    flush_s: float = 30.0
    front: str = "auto"


def serve(settings: Settings) -> None:
    """Run a server until SIGTERM or SIGINT, then let calls in flight finish.

    Prints one line of JSON on stdout when it accepts calls.

    Raises:
        FeatureStoreError: the home or the address cannot be opened.
    """
    with open_store(settings.home) as store:
        asyncio.run(_serve(settings, store))


async def _serve(settings: Settings, store: EmbeddedStore) -> None:
    server = Server(store, settings.grpc, front=settings.front)
    await server.start()
    ready = {
        "ready": True,
        "grpc": server.address,
        "http": None,
        "front": server.front,
        "workers": 1,
        "pid": os.getpid(),
    }
    print(json.dumps(ready), flush=True)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    flusher = asyncio.create_task(_flush_regularly(store, settings.flush_s))
    await stop.wait()
    await server.refuse_health()
    flusher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flusher
    await server.stop(DRAIN_S)


@final
class Server:
    """Every service of one store on one port; make and use it on one event loop.

    Args:
        store: the stores to serve; the caller closes them after `stop`.
        address: `host:port`; port 0 takes a free one.
        front: `grpc`, `native`, or `auto` for native where it is installed.

    Raises:
        StoreUnavailable: the address cannot be listened on, or the front is not installed.
    """

    def __init__(self, store: EmbeddedStore, address: str, *, front: str = "auto") -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", wire.MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", wire.MAX_MESSAGE_BYTES),
            ]
        )
        runtime = RuntimeService(store)
        registrar = Registrar(self._server)
        self._lane = add_to_server(registrar, runtime, ControlService(store))
        self._lineage = LineageService(store.graph)
        lineage_pb2_grpc.add_LineageServicer_to_server(self._lineage, registrar)
        self._training = TrainingService(store)
        training_pb2_grpc.add_TrainingServicer_to_server(self._training, registrar)
        # The stubs know nothing of the module for asyncio.
        self._health: Any = getattr(health, "aio").HealthServicer()  # noqa: B009
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = [
            module.DESCRIPTOR.services_by_name[name].full_name
            for module, name in (
                (runtime_pb2, "FeatureStoreRuntime"),
                (control_pb2, "FeatureStore"),
                (lineage_pb2, "Lineage"),
                (training_pb2, "Training"),
                (health_pb2, "Health"),
            )
        ]
        reflection.enable_server_reflection([*self._names, reflection.SERVICE_NAME], self._server)
        self._native: NativeFront | None = None
        self._behind: Path | None = None
        port = self._listen(runtime, store.home, address, front)
        self.address = f"{address.rpartition(':')[0]}:{port}"

    @property
    def front(self) -> str:
        """What speaks gRPC: `native` or `grpc`."""
        return "grpc" if self._native is None else "native"

    async def start(self) -> None:
        """Accept calls, and say so to health checks."""
        await self._server.start()
        if self._native is not None:
            self._native.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def refuse_health(self) -> None:
        """Tell health checks that no more calls are wanted."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, drain_s: float) -> None:
        """Let calls in flight finish for so long, then end the rest and the services."""
        await self.refuse_health()
        if self._native is not None:
            await asyncio.to_thread(self._native.drain)
        await self._server.stop(drain_s)
        if self._native is not None:
            await asyncio.to_thread(self._native.close)
        await asyncio.to_thread(self._training.close)
        await asyncio.to_thread(self._lineage.close)
        self._lane.close()
        if self._behind is not None:
            self._behind.unlink(missing_ok=True)

    def _listen(self, runtime: RuntimeService, home: Path, address: str, front: str) -> int:
        _check_address(address)
        if front == "grpc" or (front == "auto" and not native_is_available()):
            return int(self._server.add_insecure_port(address))
        self._behind = _private_socket(home)
        try:
            self._server.add_insecure_port(f"unix:{self._behind}")
            self._native = NativeFront(address, runtime, behind=str(self._behind))
        except BaseException:
            self._behind.unlink(missing_ok=True)
            raise
        return self._native.port


def _private_socket(home: Path) -> Path:
    """Choose the Unix socket of the server behind the native front; no other user reaches it."""
    folder = home / "run"
    if len(os.fsencode(folder)) > _MAX_SOCKET_FOLDER_BYTES:
        folder = Path(tempfile.gettempdir()) / f"featureline-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StoreUnavailable(f"{folder} belongs to another user; choose a home of your own")
    for socket_file in folder.glob("*.sock"):
        # A server that was killed leaves its socket; the first word of the name is its process.
        if not Path(f"/proc/{socket_file.name.split('-')[0]}").exists() and Path("/proc").exists():
            socket_file.unlink(missing_ok=True)
    return folder / f"{os.getpid()}-{secrets.token_hex(4)}.sock"


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
        raise StoreUnavailable(
            f"--grpc: expected HOST:PORT with a port from 0 to {_MAX_PORT}, got {address!r}"
        )
    try:
        # gRPC does not tell why it could not; the system does.
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot listen on {address}: {error.strerror}; choose another address, or port 0 for "
            f"a free port"
        ) from error


async def _flush_regularly(store: EmbeddedStore, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            # Shielded: a flush that has begun is finished before the store is closed.
            await asyncio.shield(asyncio.to_thread(_flush_pending, store))
        except FeatureStoreError as error:
            _log.warning("flush: %s; trying again in %g s", error, every_s)


def _flush_pending(store: EmbeddedStore) -> None:
    if not store.online.outbox.pending():
        return
    for description in store.list_feature_groups():
        name = description.group.name
        try:
            store.flush(name)
        except featurestore.FeatureGroupNotFound:
            continue  # deleted meanwhile


def main_logging(level: int = logging.INFO) -> None:
    """Log to stderr, one line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
