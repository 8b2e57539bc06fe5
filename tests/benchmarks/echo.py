"""The baseline of all calls: a grpc.aio server whose one method takes and gives empty messages."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any, Final

import grpc

__all__ = ["METHOD"]

METHOD: Final = "/benchmark.Echo/Empty"


async def _empty(request: bytes, context: Any) -> bytes:
    return request


async def main() -> None:
    """Serve until SIGTERM; print the address when ready."""
    server = grpc.aio.server()
    _, service, method = METHOD.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(_empty)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc": f"127.0.0.1:{port}"}), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(1.0)


if __name__ == "__main__":
    asyncio.run(main())
