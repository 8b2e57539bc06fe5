"""A lineage server on a thread of its own, as the product runs one."""

from __future__ import annotations

import asyncio
import threading

import grpc

from lineage import Graph, LineageService
from lineage.v1 import lineage_pb2_grpc


class Server:
    """Serves a graph until `stop`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.service = LineageService(graph, threads=4)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = grpc.aio.server()
        lineage_pb2_grpc.add_LineageServicer_to_server(self.service, server)
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._ready.set()
        await self._stopping.wait()
        await server.stop(None)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        self.service.close()
