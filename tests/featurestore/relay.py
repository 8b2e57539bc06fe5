"""A port that leads to a server elsewhere, as a process: to kill it is an outage of the network.

It is no thread of the test, since delta-rs may wait for an answer without letting other threads
run. Arguments: own port, port of the server on this machine, and where given a text: what a client
sends that holds it goes no further, and `held` is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: bytes = b""
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            if held and held in data:
                print("held", flush=True)
                await asyncio.Event().wait()
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(own: int, target: int, held: bytes) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(reader, back, held), carry(to, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", own)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), "".join(sys.argv[3:]).encode()))
