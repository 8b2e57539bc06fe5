"""Arrow Flight: servers that go away, refuse, fail, or send something else than before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest import (
    FlightSource,
    IngestError,
    Message,
    PositionLost,
    SourceNotFound,
    SourceUnavailable,
)
from ingest.sources.flight import FLIGHT_TOKEN


def drained(source: FlightSource, stored: dict[str, int] | None = None) -> list[Message]:
    source.seek(lambda: dict(stored or {}))
    found: list[Message] = []
    try:
        while not (batch := source.poll(5, 60.0)).is_last:
            found += batch.messages
    finally:
        source.close()
    return found


@contextmanager
def serving(rows: int, port: str, token: str) -> Iterator[str]:
    script = Path(__file__).with_name("flight_server.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(rows), port, token], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


def test_endpoints_are_known_by_order_or_ticket(flight_server):
    by_order = drained(FlightSource(flight_server, path=["readings"]))
    by_ticket = drained(FlightSource(flight_server, command="readings", partition_by="ticket"))
    assert [message.value for message in by_order] == [message.value for message in by_ticket]
    assert [message.value["sequence"] for message in by_order] == list(range(40))
    assert list(dict.fromkeys(message.partition for message in by_order)) == ["0", "1"]
    assert all(message.partition.startswith("ticket-") for message in by_ticket)


def test_stream_that_breaks_off_goes_on_at_its_row(flight_server):
    messages = drained(FlightSource(flight_server, path=["flaky"]))
    assert [message.offset for message in messages] == list(range(20))


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("absent", SourceNotFound, "/absent: the server has no such flight: absent$"),
        ("denied", IngestError, "does not allow this read; check the token .*: readers only$"),
        ("broken", IngestError, "/broken: the server fails: the disk is on fire$"),
        ("naive", IngestError, "column 'time': expected timestamps with a zone"),
    ],
)
def test_what_the_server_refuses_is_told_apart(flight_server, path, error, message):
    with pytest.raises(error, match=message) as raised:
        drained(FlightSource(flight_server, path=[path]))
    assert type(raised.value) is error


def test_stream_that_has_become_shorter_has_lost_the_position(flight_server):
    with pytest.raises(PositionLost, match="stands at row 9, but the stream ends at 2"):
        drained(FlightSource(flight_server, path=["short"]), {"0": 9})


def test_server_that_restarts_is_waited_for_and_asked_for_its_token(tmp_path, monkeypatch):
    monkeypatch.delenv(FLIGHT_TOKEN, raising=False)
    (tmp_path / "token").write_text("s3cret\n")
    with serving(40, "0", "s3cret") as port:
        location = f"grpc+tcp://127.0.0.1:{port}"
        with pytest.raises(IngestError, match=r"does not know who asks.*: who are") as refused:
            drained(FlightSource(location, path=["readings"]))
        assert "s3cret" not in str(refused.value)
        monkeypatch.setenv(FLIGHT_TOKEN, "s3cret")
        assert len(drained(FlightSource(location, path=["readings"]))) == 40
        monkeypatch.setenv(FLIGHT_TOKEN, "wrong")
        source = FlightSource(location, path=["readings"], token_file=tmp_path / "token")
        source.seek(dict)
        found = list(source.poll(3, 60.0).messages)
    while (batch := source.poll(9, 0.0)).messages:  # what had come before the server went
        found += batch.messages
    assert not batch.is_last
    with serving(40, port, "s3cret"):
        while not (batch := source.poll(9, 60.0)).is_last:
            found += batch.messages
    assert [message.value["sequence"] for message in found] == list(range(40))
    source.close()


def test_server_that_is_away_for_long_is_unavailable():
    source = FlightSource("grpc+tcp://127.0.0.1:1", path=["x"], unavailable_timeout_s=0.2)
    with pytest.raises(SourceUnavailable, match=r"no Flight server answers at .* for \d s; check"):
        source.seek(dict)
    source.close()
    assert source.name == "flight:grpc+tcp://127.0.0.1:1/x"


def test_files_of_the_login_must_be_there(tmp_path):
    for option in ("token_file", "tls_roots"):
        source = FlightSource("grpc+tcp://127.0.0.1:1", path=["x"], **{option: tmp_path / "no"})
        with pytest.raises(IngestError, match="cannot read what logs in"):
            source.seek(dict)
    (tmp_path / "no").write_text("\n")
    with pytest.raises(IngestError, match="expected a token, got an empty file"):
        FlightSource("grpc+tcp://x:1", path=["x"], token_file=tmp_path / "no").seek(dict)


def test_location_must_be_one():
    with pytest.raises(IngestError, match="expected a location such as grpc"):
        FlightSource("localhost", path=["x"]).seek(dict)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "x"},
        {"path": ["x"], "command": "y"},
        {"path": ["x"], "partition_by": "name"},
        {"path": ["x"], "unavailable_timeout_s": 0.0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=r"expected"):
        FlightSource("grpc+tcp://127.0.0.1:1", **options)
