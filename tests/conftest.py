"""What all tests share: how hard hypothesis tries, their order, and servers of Redis."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.schedule import ByFile, place

# Machines that are shared are slow at times: no deadline, and no complaint about slow data.
settings.register_profile(
    "default", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", settings.get_profile("default"), max_examples=100, derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")

# Read when a numeric library loads, so they are set first. The processes of tests share the cores:
# threads that spin while they wait would take them from one another. Jobs set their own.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Tests start hundreds of processes; without its bytecode on disk each compiles all of the product.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage neither while all modules load, nor later among what they hold for good."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long files first, where processes share the work."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    """Keep the order, and the files of one server together."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return ByFile(config, log)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A Redis process with an append-only file, which every answer is behind.

    Args:
        folder: for its files; made when absent.
        options: more of its settings.
    """

    def __init__(self, folder: Path, **options: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        settings: dict[str, object] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        } | {name.replace("_", "-"): value for name, value in options.items()}
        self._command = ["redis-server"]
        for name, value in settings.items():
            self._command += [f"--{name}", str(value)]
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        # A server with a password answers too, in its way.
        while not self.say("PING").startswith((b"+PONG", b"-NOAUTH")):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def say(self, *words: object) -> bytes:
        """Send one command, return the first bytes of the answer; nothing when it is not there."""
        text = b"".join(b"$%d\r\n%s\r\n" % (len(str(w)), str(w).encode()) for w in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                connection.sendall(b"*%d\r\n%s" % (len(words), text))
                return connection.recv(65536)
        except OSError:
            return b""

    def kill(self) -> None:
        """End it by kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop its clock."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


def require_redis() -> None:
    """Skip the test where Redis is not installed; fail it in CI."""
    for program in ("redis-server", "redis-cli"):
        if shutil.which(program) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{program} is not installed; apt-get install redis-server")
            pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server that all tests share, each with a namespace of its own."""
    require_redis()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Start a Redis server that the test may end, with settings of its own."""
    require_redis()
    started: list[RedisServer] = []

    def start(**options: object) -> RedisServer:
        server = RedisServer(tmp_path / f"redis-{len(started)}", **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """A cluster of three Redis servers that all tests share."""
    require_redis()
    folder = tmp_path_factory.mktemp("redis-cluster")
    nodes = [
        RedisServer(
            folder / str(number),
            cluster_enabled="yes",
            cluster_port=free_port(),
            cluster_node_timeout=2000,
            cluster_require_full_coverage="no",
        )
        for number in range(3)
    ]
    try:
        for node in nodes:
            node.start()
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        made = subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        deadline = time.monotonic() + 30
        while not all(b"cluster_state:ok" in node.say("CLUSTER", "INFO") for node in nodes):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> Callable[[], str]:
    """Make a URL of a store that no other test has, on the shared server."""
    return lambda: f"{redis_server.url}?namespace={uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def cluster_url(redis_cluster: list[RedisServer]) -> Callable[[], str]:
    """Make a URL of a store that no other test has, on the shared cluster."""
    places = ",".join(f"127.0.0.1:{node.port}" for node in redis_cluster)
    return lambda: f"redis+cluster://{places}?namespace={uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that all tests share; without one the test skips."""
    from tests.lineage.browser import browsing

    with browsing(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A Spark session on this machine, the active one; without Spark or Java the test skips."""
    missing = []
    if importlib.util.find_spec("pyspark") is None:
        missing.append("pyspark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        missing.append("Java 17 or later")
    if missing:
        text = f"{' and '.join(missing)}: not installed; the tests of engine='spark' need it"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    builder = importlib.import_module("pyspark.sql").SparkSession.builder.master("local[2]")
    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        # Small jobs end before the second compiler has begun.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.driver.host": "127.0.0.1",
        # Not that of the join, which must not depend on it.
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    # A machine whose name has no address can run Spark too.
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("SPARK_LOCAL_HOSTNAME", "localhost")
    broken = importlib.import_module("pyspark.errors").PySparkRuntimeError
    try:
        try:
            session = builder.getOrCreate()
        except broken:
            # Its launcher forks, and now and then gRPC's threads in this process break the child.
            session = builder.getOrCreate()
    except broken as error:
        pyspark = str(importlib.import_module("pyspark").__file__)
        submit = Path(pyspark).parent / "bin" / "spark-submit"
        ended = subprocess.run(
            [submit, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
        said = (ended.stdout + ended.stderr).decode(errors="replace")
        pytest.fail(f"Spark does not start ({error}); spark-submit --version says:\n{said[-3000:]}")
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()
    gc.collect()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Mount an empty file system of so many bytes."""
    mounted: list[Path] = []

    def mount(size_bytes: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or error
            pytest.skip(f"a small disk cannot be mounted here: {reason}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # Lazily: a store that a test leaves open is closed after this.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
