"""A Flight server of readings, for the tests; prints its port, and serves until it is killed.

Arguments: the number of rows, the port (0: any), and the token that it asks for (or nothing).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import flight

BATCH = 7


def readings(first: int, count: int) -> pa.Table:
    """Return the readings that the fixture `reading` makes."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "station": pa.array([n % 7 for n in numbers], pa.int64()),
            "time": [
                f"2024-01-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z" for n in numbers
            ],
            "sequence": pa.array(numbers, pa.int64()),
            "temp": [n / 4 for n in numbers],
        }
    )


class Server(flight.FlightServerBase):
    """Serves flights by the name of their path."""

    def __init__(self, rows: int, port: int, token: str) -> None:
        super().__init__(
            f"grpc+tcp://127.0.0.1:{port}", middleware={"login": _Login(token)} if token else None
        )
        self._rows = rows
        self._times_asked = 0

    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """Answer by the first part of the path, or the command."""
        name = descriptor.command or descriptor.path[0]
        if name == b"absent":
            raise KeyError("absent")
        if name == b"denied":
            raise flight.FlightUnauthorizedError("readers only")
        tickets = [name + b" 0", name + b" 1"] if name == b"readings" else [name + b" 0"]
        endpoints = [flight.FlightEndpoint(ticket, []) for ticket in tickets]
        schema = readings(0, 0).schema
        if name == b"naive":
            schema = pa.schema([("time", pa.timestamp("us"))])
        return flight.FlightInfo(schema, descriptor, endpoints, -1, -1)

    def do_get(
        self, context: flight.ServerCallContext, ticket: flight.Ticket
    ) -> flight.FlightDataStream:
        """Send half of the readings for each endpoint."""
        name, _, number = ticket.ticket.decode().partition(" ")
        half = self._rows // 2
        table = readings(int(number) * half, half)
        if name == "empty":
            table = table.slice(0, 0)
        if name == "short":
            table = table.slice(0, 2)
        batches = table.to_batches(max_chunksize=BATCH)
        if name == "flaky":
            self._times_asked += 1
            batches = _interrupted(batches, self._times_asked)
        if name == "broken":
            batches = _broken(batches)
        return flight.GeneratorStream(table.schema, batches)


class _Login(flight.ServerMiddlewareFactory):
    def __init__(self, token: str) -> None:
        self._token = token

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str]]) -> None:
        if headers.get("authorization") != [f"Bearer {self._token}"]:
            raise flight.FlightUnauthenticatedError("who are you?")


def _interrupted(batches: list[pa.RecordBatch], times: int) -> Iterator[pa.RecordBatch]:
    """Go away in the first two streams, a batch later each time."""
    for number, batch in enumerate(batches):
        if number == times and times < 3:
            raise flight.FlightUnavailableError("back soon")
        yield batch


def _broken(batches: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield batches[0]
    raise RuntimeError("the disk is on fire")


def main() -> None:
    """Serve."""
    rows, port, token = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    server = Server(rows, port, token)
    print(server.port, flush=True)
    server.serve()


if __name__ == "__main__":
    main()
