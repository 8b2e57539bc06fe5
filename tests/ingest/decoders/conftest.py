"""A schema registry process, and the wire format that its messages have."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest import Message, SchemaRegistry


class RegistryProcess:
    """A registry that runs; `stop` ends it, `call` speaks to it past the client under test."""

    def __init__(self, *options: str, scheme: str = "http") -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("registry_server.py")), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"{scheme}://127.0.0.1:{self._process.stdout.readline().strip()}"

    def call(self, path: str, body: object = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.loads(reply.read())

    def stop(self) -> None:
        self._process.communicate(timeout=20)


@contextlib.contextmanager
def running(*options: str, scheme: str = "http") -> Iterator[RegistryProcess]:
    process = RegistryProcess(*options, scheme=scheme)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="session")
def registry_process() -> Iterator[RegistryProcess]:
    """One registry for all tests; each takes subjects of its own."""
    with running() as process:
        yield process


@pytest.fixture
def run_registry() -> Callable[..., Any]:
    """Start a registry that a test may configure and stop."""
    return running


@pytest.fixture
def registry(registry_process: RegistryProcess) -> SchemaRegistry:
    """A client with an empty cache."""
    return SchemaRegistry(registry_process.url, retry_s=2.0)


def framed(number: int, data: bytes, indexes: bytes = b"") -> bytes:
    """Put the wire format's header before a message."""
    return b"\0" + number.to_bytes(4, "big") + indexes + data


@pytest.fixture
def wire() -> Callable[..., bytes]:
    """Put the wire format's header before a message."""
    return framed


@pytest.fixture
def message() -> Callable[..., Message]:
    """Make a message of a value."""

    def make(value: object, key: bytes | None = None) -> Message:
        return Message("0", 0, value, key)  # type: ignore[arg-type]

    return make
