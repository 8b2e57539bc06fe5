"""The grpc.aio load generator: reads orders as lines of JSON, answers each with its times."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from featurestore.wire import MAX_MESSAGE_BYTES


async def main() -> None:
    """Serve orders until standard input ends."""
    messages: dict[str, list[bytes]] = {}
    # Reading blocks the loop, which has nothing else to do between two orders.
    for line in sys.stdin:
        order = json.loads(line)
        file = order["messages"]
        if file not in messages:
            lines = Path(file).read_text(encoding="ascii").split("\n")
            messages[file] = [bytes.fromhex(text) for text in lines]
        print(json.dumps(await _run(order, messages[file])), flush=True)


async def _run(order: dict[str, Any], messages: list[bytes]) -> dict[str, Any]:
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    async with grpc.aio.insecure_channel(order["address"], options=options) as channel:
        call = channel.unary_unary(order["method"], _as_is, _as_is)
        turns = itertools.cycle(messages)
        await _call_for(order["warm_up_s"], call, turns, order["in_flight"])
        gc.collect()
        began = time.perf_counter()
        milliseconds = await _call_for(order["seconds"], call, turns, order["in_flight"])
        return {"seconds": time.perf_counter() - began, "milliseconds": milliseconds}


def _as_is(message: bytes) -> bytes:
    return message


async def _call_for(
    seconds: float, call: Any, messages: Iterator[bytes], in_flight: int
) -> list[float]:
    """Keep so many calls under way; return how long each took, in ms."""
    times: list[float] = []
    clock = time.perf_counter
    end = clock() + seconds

    async def caller() -> None:
        began = clock()
        while began < end:
            await call(next(messages))
            now = clock()
            times.append((now - began) * 1000)
            began = now

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return times


if __name__ == "__main__":
    asyncio.run(main())
