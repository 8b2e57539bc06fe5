"""A server of training jobs in a thread of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from training import TrainingService
from training.v1 import training_pb2_grpc

__all__ = ["Served", "serve"]


class Served:
    """A server that runs; `end` shuts it down as `featureline serve` does."""

    def __init__(self, home: Path, port: int = 0, *, scripts: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port: int = self._run(self._start(home, port, scripts))

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    def end(self) -> None:
        """Stop it; a second time does nothing."""
        if self._thread.is_alive():
            self._run(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)
            self._loop.close()

    async def _start(self, home: Path, port: int, scripts: bool) -> int:
        self._server = grpc.aio.server()
        self.service = TrainingService(home, scripts=scripts)
        training_pb2_grpc.add_TrainingServicer_to_server(self.service, self._server)
        found: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return found

    async def _stop(self) -> None:
        self.service.end_streams()
        await self._server.stop(5)
        await asyncio.to_thread(self.service.close)

    def _run(self, work: object) -> object:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)  # type: ignore[arg-type]


@contextmanager
def serve(home: Path, port: int = 0, *, scripts: bool = False) -> Iterator[Served]:
    """Serve a home while the block runs."""
    served = Served(home, port, scripts=scripts)
    try:
        yield served
    finally:
        served.end()
