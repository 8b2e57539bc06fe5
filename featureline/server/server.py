"""Every service of one store on one port."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Final, cast, final

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from featureline.server.collector import HomeCollector, caller_name
from featureline.server.lasting import LastingServer
from featureline.server.listener import (
    check_address,
    choose_front,
    private_socket,
    server_credentials,
)
from featureline.server.settings import Tls
from featurestore.embedded import EmbeddedStore
from featurestore.server import (
    DEFAULT_LIMITS,
    DEFAULT_MEMORY_BYTES,
    Access,
    ControlService,
    Limits,
    NativeFront,
    Registrar,
    RuntimeService,
    WindowService,
    add_to_server,
    guarded_by,
)
from featurestore.throughput import Limiter
from featurestore.v1 import control_pb2, runtime_pb2, window_pb2
from lineage.v1 import lineage_pb2, lineage_pb2_grpc
from lineage.wire.service import LineageService
from training.service import TrainingService
from training.transforms.service import TransformService
from training.v1 import training_pb2, training_pb2_grpc, transform_pb2, transform_pb2_grpc

__all__ = ["Server"]

# Between a handler's end and the last byte of its reply.
_SEND_S: Final = 0.5
_QUIET_S: Final = 0.02
_log = logging.getLogger(__name__)


@final
class Server:
    """Every service of one store on one port; make and use it on one event loop.

    Args:
        store: the stores to serve; the caller closes them after `stop`.
        address: `host:port`; port 0 takes a free one.
        front: `grpc`, `native`, or `auto` for native where it is installed and there is no TLS.
        tls: None: plaintext.
        reuse_port: let other processes of this user listen on the same port.
        limits: what it takes before it refuses.
        guard: a `featurestore.auth.Guard`; None: anybody may call anything.
        metrics: counts what happens; None: nobody does.
        workers: processes that serve the home, and share the groups' throughput evenly.
        dataset_memory_bytes: what one build of a dataset into a file may take.
        scripts: whether callers' jobs may run programs of this machine.

    Raises:
        StoreUnavailable: the address cannot be listened on, the front is not installed, or the
            files of TLS cannot be used.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        address: str,
        *,
        front: str = "auto",
        tls: Tls | None = None,
        reuse_port: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        guard: Any = None,
        metrics: Any = None,
        workers: int = 1,
        dataset_memory_bytes: int = DEFAULT_MEMORY_BYTES,
        scripts: bool = False,
    ) -> None:
        is_native = choose_front(front, tls) == "native"
        # Behind the native front all callers share few connections: that front bounds each.
        options = limits.message_options() if is_native else limits.channel_options()
        self._server = LastingServer(
            [("grpc.so_reuseport", int(reuse_port and not is_native)), *options]
        )
        access = None if guard is None else Access(guard, store.registry)
        limiter = Limiter(
            share=1 / workers, on_throttled=None if metrics is None else metrics.throttled
        )
        runtime = RuntimeService(store, access=access, limiter=limiter)
        registrar: Any = Registrar(self._server, guard=guard, metrics=metrics)
        if access is not None:
            registrar = guarded_by(access, registrar)
        self._gate = registrar.gate
        self._control = ControlService(
            store, access=access, dataset_memory_bytes=dataset_memory_bytes
        )
        self._lane = add_to_server(
            registrar,
            runtime,
            self._control,
            WindowService(store),
            limits=limits,
            metrics=metrics,
        )
        self._lineage = LineageService(
            store.graph, collects=HomeCollector(store), caller=caller_name
        )
        lineage_pb2_grpc.add_LineageServicer_to_server(self._lineage, registrar)
        self._training = TrainingService(
            store, scripts=scripts, replayable=store, caller=caller_name
        )
        training_pb2_grpc.add_TrainingServicer_to_server(self._training, registrar)
        self._transforms = TransformService(store, scripts=scripts)
        transform_pb2_grpc.add_BatchTransformServicer_to_server(self._transforms, registrar)
        # The stubs know nothing of the module for asyncio.
        self._health: Any = getattr(health, "aio").HealthServicer()  # noqa: B009
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._names = [
            module.DESCRIPTOR.services_by_name[name].full_name
            for module, name in (
                (runtime_pb2, "FeatureStoreRuntime"),
                (control_pb2, "FeatureStore"),
                (window_pb2, "WindowedFeatures"),
                (lineage_pb2, "Lineage"),
                (training_pb2, "Training"),
                (transform_pb2, "BatchTransform"),
                (health_pb2, "Health"),
            )
        ]
        # It asks for a server of the library's own and only registers services with it.
        as_server = cast(Any, self._server)
        reflection.enable_server_reflection([*self._names, reflection.SERVICE_NAME], as_server)
        self._native: NativeFront | None = None
        self._behind: Path | None = None
        if not reuse_port:
            check_address(address)
        if is_native:
            port = self._listen_native(
                store.home,
                address,
                runtime,
                limits=limits,
                reuse_port=reuse_port,
                guard=guard,
                metrics=metrics,
            )
        elif tls is not None:
            port = self._server.listen(address, server_credentials(tls))
        else:
            port = self._server.listen(address)
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
        """Refuse new calls, let those in flight finish for so long, then end the services."""
        loop = asyncio.get_running_loop()
        until = loop.time() + drain_s

        def left_s() -> float:
            return max(0.0, until - loop.time())

        await self.refuse_health()
        self._gate.close()
        self._lineage.end_streams()
        self._training.end_streams()
        native = self._native
        drained = await asyncio.gather(
            self._gate.wait_empty(drain_s),
            *([] if native is None else [asyncio.to_thread(native.drain, drain_s)]),
        )
        if not all(drained):
            _log.warning("calls still in flight after %g s are ended", drain_s)
        await self._wait_quiet(min(_SEND_S, left_s()))
        await self._server.stop(min(_SEND_S, left_s()))
        if native is not None:
            await asyncio.to_thread(native.close)
        for close in (
            self._control.close,
            self._training.close,
            self._transforms.close,
            self._lineage.close,
            self._lane.close,
        ):
            try:
                await asyncio.wait_for(asyncio.to_thread(close), left_s() + _SEND_S)
            except TimeoutError:
                _log.warning("a service did not end within the %g s of the drain", drain_s)
        if self._behind is not None:
            self._behind.unlink(missing_ok=True)

    async def _wait_quiet(self, timeout_s: float) -> None:
        """Go on refusing while calls come in.

        What C-core has taken and not handed on when it stops ends with CANCELLED, which does not
        tell a client to call another server.
        """
        until = asyncio.get_running_loop().time() + timeout_s
        refused = -1
        while refused != self._gate.refused and asyncio.get_running_loop().time() < until:
            refused = self._gate.refused
            await asyncio.sleep(_QUIET_S)

    def _listen_native(
        self, home: Path, address: str, runtime: RuntimeService, **options: Any
    ) -> int:
        self._behind = private_socket(home)
        try:
            self._server.listen(f"unix:{self._behind}")
            self._native = NativeFront(address, runtime, behind=str(self._behind), **options)
        except BaseException:
            self._behind.unlink(missing_ok=True)
            raise
        return self._native.port
