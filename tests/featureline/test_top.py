from __future__ import annotations

import http.server
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from featureline.cli import cli
from featureline.cli.top import view
from featureline.ingesting import pipelines_of_home
from featureline.probe import Probe
from featureline.top import Figures, Page, address_of_home, fetch, figures, quantile
from featurestore import FeatureGroup, InvalidRequest, StoreUnavailable, feature_definitions
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.server.metrics import Metrics
from featurestore.server.monitor import Monitor
from featurestore.server.snapshot import page
from ingest.fleet.control import Control
from ingest.fleet.progress import PartitionStatus, PipelineStatus, State

ROOT = Path(__file__).parents[2]
INFINITE = float("inf")
FEATURELINE = [sys.executable, "-m", "featureline"]


class Watched:
    """A store with a metrics page, and calls that we count ourselves."""

    def __init__(self, home: Path, address: str = "127.0.0.1:0") -> None:
        self.store: EmbeddedStore = open_store(home)
        self.metrics = Metrics(front="native", version="1.0")
        self.monitor = Monitor(self.metrics, self.store)
        self.monitor.start()
        self.probe = Probe(address, lambda: [self.monitor.snapshot()], home=home)
        self.probe.start()
        self._calling = threading.Event()
        self._caller = threading.Thread(target=self._call)

    def call_steadily(self) -> None:
        self._caller.start()

    def _call(self) -> None:
        while not self._calling.wait(0.01):
            self.metrics.answered("GetRecord", "OK", 0.0004, count=9)
            self.metrics.answered("GetRecord", "NOT_FOUND", 0.0004)
            self.metrics.batch("read", 10)
            self.metrics.answered("PutRecord", "OK", 0.004, count=5)
            self.metrics.commit(0.0025, 5)

    def stop(self) -> None:
        self._calling.set()
        if self._caller.is_alive():
            self._caller.join()
        self.monitor.stop()
        self.probe.stop()
        self.store.close()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    started: list[Watched] = []

    def start(address: str = "127.0.0.1:0") -> Watched:
        started.append(Watched(tmp_path / "home", address))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def page_of(metrics: Metrics, at: float, **readiness: Any) -> Page:
    return Page.parse(page([metrics.snapshot()])[0].decode(), at=at, readiness=readiness)


def drawn(frame: Figures | None, width: int, **options: Any) -> str:
    console = Console(width=width, color_system=None, force_terminal=False, emoji=False)
    with console.capture() as capture:
        console.print(view(frame, "127.0.0.1:9464", width=width, **options))
    return capture.get()


@pytest.fixture
def busy() -> Figures:
    """Two looks, two seconds apart, at a server with a bit of everything."""
    metrics = Metrics(front="native", version="1.0")
    metrics.answered("GetRecord", "OK", 9.0, count=1_000)  # long ago: in no figure
    metrics.answered("DeleteRecord", "OK", 0.001)
    before = page_of(metrics, 100.0)
    metrics.answered("GetRecord", "OK", 0.0002, count=19_800)
    metrics.answered("GetRecord", "NOT_FOUND", 0.0002, count=100)
    metrics.answered("GetRecord", "INTERNAL", 0.15, count=100)
    metrics.answered("PutRecord", "OK", 0.004, count=400)
    for _ in range(20):
        metrics.commit(0.0025, 20)
        metrics.batch("write", 20)
    metrics.batch("read", 64)
    metrics.queue(31)
    metrics.shed("deadline", 6)
    metrics.throttled("weather", 2)
    metrics.swept(10)
    metrics.flushed("weather", 1_200, 0.3)
    metrics.flush_failed("planes")
    metrics.outbox("weather", 12_004, 8.25)
    metrics.outbox("planes", 3, 61.0)
    metrics.outbox("idle", 0, 0.0)
    metrics.gauge("featureline_outbox_records", 12_007)
    metrics.gauge("featureline_online_records", 1_204_000)
    metrics.gauge("featureline_online_used_bytes", 1.5 * 2**30)
    metrics.gauge("featureline_online_limit_bytes", 64 * 2**30)
    metrics.gauge("featureline_online_readers", 14)
    metrics.gauge("featureline_disk_free_bytes", 61 * 2**30)
    metrics.counter("featureline_worker_cpu_seconds_total", 7.0, "4242")
    metrics.gauge("featureline_worker_resident_bytes", 181 << 20, "4242")
    full = {"ok": False, "detail": "the disk is full"}
    return figures(before, page_of(metrics, 102.0, ready=False, checks={"disk": full}))


def test_pipelines_of_fleets_on_the_home_are_shown_the_worst_first(
    busy: Figures, tmp_path: Path
) -> None:
    weather = PipelineStatus(
        "weather",
        "weather",
        State.RUNNING,
        refused=3,
        messages_per_s=(1500.0, None),
        partitions=[PartitionStatus("0", 5, 1_205, 1_200, 2.5)],
    )
    planes = PipelineStatus("planes", "planes", State.FAILED)
    body = {"pipelines": [weather.to_json(), planes.to_json()]}
    control = Control(tmp_path / "ingest" / "fleet")
    control.tell(body)
    assert pipelines_of_home(tmp_path) == []
    with control.held():
        found = pipelines_of_home(tmp_path)
    assert [one.to_json() for one in found] == json.loads(json.dumps(body))["pipelines"]

    lines = drawn(busy, 120, pipelines=found).splitlines()
    (head,) = (number for number, line in enumerate(lines) if line.startswith("INGEST"))
    assert lines[head].split() == [
        "INGEST",
        "state",
        "lag",
        "lag",
        "s",
        "messages/s",
        "refused",
        "restarts",
    ]
    assert lines[head + 1].split() == ["planes", "failed", "–", "–", "–", "0", "0"]
    assert lines[head + 2].split() == ["weather", "running", "1,200", "2.5", "1,500", "3", "0"]
    assert "INGEST" not in drawn(busy, 120)


# -- figures ----------------------------------------------------------------------------------


def test_figures_are_the_difference_of_two_looks(busy: Figures) -> None:
    assert busy.interval_s == 2
    assert busy.calls_per_s == 10_200
    assert busy.errors == {"NOT_FOUND": 50, "INTERNAL": 50}
    assert busy.shed == {"deadline": 3}
    assert busy.throttled == {"weather": 1}
    assert busy.queue_depth == 31
    get, put, delete = busy.methods
    assert (get.method, get.calls_per_s, get.errors_per_s) == ("GetRecord", 10_000, 100)
    assert get.p50_ms == pytest.approx(0.2, abs=0.1)
    assert get.p99_ms == pytest.approx(0.3, abs=0.1)
    assert put.p50_ms == pytest.approx(4, abs=1)
    assert (delete.method, delete.calls_per_s, delete.p50_ms) == ("DeleteRecord", 0, None)
    assert busy.commits_per_s == 10
    assert busy.commit_writes == 20
    assert (busy.read_batch, busy.write_batch) == (64, 20)
    assert [group.group for group in busy.groups] == ["planes", "weather", "idle"]
    assert busy.groups[1].flushed_per_s == 600
    assert busy.flush_failures == 1
    assert busy.swept_per_s == 5
    assert busy.online["records"] == 1_204_000
    assert [(worker.pid, worker.resident_bytes) for worker in busy.workers] == [(4242, 181 << 20)]
    assert busy.problems == {"disk": "the disk is full"}
    assert json.loads(json.dumps(busy.to_json()))["methods"][0]["method"] == "GetRecord"


def test_a_restart_between_two_looks_gives_no_rates() -> None:
    old, new = Metrics(), Metrics()
    old.answered("GetRecord", "OK", 0.001, count=50)
    new.answered("GetRecord", "OK", 0.001, count=70)
    new.counter("featureline_start_time_seconds", 1.0)
    assert figures(page_of(old, 1.0), page_of(new, 2.0)).calls_per_s == 0


def test_a_server_that_never_did_anything_has_figures() -> None:
    metrics = Metrics()
    frame = figures(page_of(metrics, 1.0), page_of(metrics, 2.0))
    assert (frame.calls_per_s, frame.methods, frame.commit_writes) == (0, (), None)
    assert "no calls yet" in drawn(frame, 80)


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [(1.0, 0), (2.0, 10), (INFINITE, 10)], 1.5),
        (0.99, [(1.0, 100), (2.0, 100), (INFINITE, 100)], 0.99),
        (0.99, [(1.0, 50), (2.0, 100), (INFINITE, 100)], 1.98),
        (1.0, [(1.0, 50), (2.0, 100), (INFINITE, 100)], 2.0),
        (0.5, [(1.0, 0), (2.0, 0), (INFINITE, 10)], 2.0),  # above all bounds: the last one
        (0.0, [(1.0, 0), (2.0, 10), (INFINITE, 10)], 1.0),
        (0.5, [(1.0, 0), (INFINITE, 0)], None),
        (0.5, [], None),
    ],
)
def test_quantiles(
    share: float, buckets: list[tuple[float, float]], expected: float | None
) -> None:
    assert quantile(share, buckets) == expected


# -- the view ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_frame_fits_the_terminal_and_shows_every_figure(busy: Figures, width: int) -> None:
    text = drawn(busy, width, history=[5.0, 9.0, 10.0] * 20)
    assert max(len(line) for line in text.splitlines()) <= width
    for figure in ("10,200 calls/s", "10,000", "12,004", "1,204,000 records", "4242 ", "181 MB"):
        assert figure in text, figure
    assert "disk: the disk is full" in text
    if width >= 80:
        assert "NOT READY" in text
        assert "1 failed since start" in text
        assert "10.0/s · 20.0 writes each" in text


def test_long_lists_are_cut_to_the_height_of_the_terminal(busy: Figures) -> None:
    groups = tuple(replace(busy.groups[0], group=f"group-{number}") for number in range(100))
    for width, height in ((80, 30), (80, 24), (120, 24), (120, 40)):
        text = drawn(replace(busy, groups=groups), width, height=height)
        assert height - 3 <= len(text.splitlines()) <= height, text
        assert re.search(r"… and \d+ more groups", text)


def test_a_lost_server_is_shown_with_its_last_figures(busy: Figures) -> None:
    lost = ("127.0.0.1:9464 does not answer: Connection refused", time.time())
    text = drawn(busy, 80, lost=lost)
    assert "NO ANSWER" in text
    assert "does not answer: Connection refused; looking again" in text
    assert "10,200 calls/s" in text
    assert "NO ANSWER" in drawn(None, 80, lost=lost)
    assert "looking …" in drawn(None, 80)


# -- the command ------------------------------------------------------------------------------


def test_once_prints_one_plain_frame(watch: Callable[..., Watched], weather: FeatureGroup) -> None:
    watched = watch()
    watched.store.create_feature_group(weather)
    watched.store.put("weather", {"origin": "JFK", "hour": "2013-01-01T06:00:00Z"})
    watched.monitor.look_at_store()
    watched.call_steadily()
    result = CliRunner().invoke(
        cli, ["top", "--metrics", watched.probe.address, "--once", "--interval", "0.4"]
    )
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "READY" in result.stdout
    assert re.search(r"GetRecord +[\d,.]+ +0\.\d\d +0\.\d\d", result.stdout)
    assert re.search(r"weather +1 ", result.stdout)


def test_json_is_one_document(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.call_steadily()
    result = CliRunner().invoke(
        cli, ["top", "--connect", watched.probe.address, "--json", "--interval", "0.4"]
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["metrics"] == watched.probe.address
    assert body["ready"] is True
    rates = {method["method"]: method["calls_per_s"] for method in body["methods"]}
    assert 200 < rates["GetRecord"] < 1_100
    assert rates["GetRecord"] == pytest.approx(2 * rates["PutRecord"], rel=0.3)
    assert body["read_batch"] == 10
    assert body["commit_writes"] == 5


def test_a_server_is_found_by_its_home(watch: Callable[..., Watched], tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(StoreUnavailable, match="no server with a metrics page runs on the home"):
        address_of_home(home)
    watched = watch()
    (home / "run" / "probe-999999999.json").write_text('{"metrics": "127.0.0.1:1"}')  # killed
    assert address_of_home(home) == watched.probe.address
    result = CliRunner().invoke(cli, ["top", "--home", str(home), "--interval", "0.2"])
    assert result.exit_code == 0, result.output  # no terminal: one frame
    assert watched.probe.address in result.stdout


def test_nobody_or_somebody_else_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StoreUnavailable, match=f"{address} does not answer: Connection refused"):
        fetch(address)
    with pytest.raises(InvalidRequest, match="expected HOST:PORT of a server's --metrics"):
        fetch("localhost")

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'<html>"{ hello</html>')

        def log_message(self, *args: object) -> None:
            pass

    other = http.server.HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=other.serve_forever, args=(0.05,))
    thread.start()
    try:
        with pytest.raises(StoreUnavailable, match="answers, but not with a metrics page; give"):
            fetch(f"127.0.0.1:{other.server_address[1]}")
    finally:
        other.shutdown()
        thread.join()
        other.server_close()


class Terminal:
    """`featureline top` in a terminal of its own."""

    def __init__(self, address: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*FEATURELINE, "top", "--metrics", address, "--interval", "0.2"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(theirs)
        self.text = ""

    def wait_for(self, wanted: str) -> None:
        """Read on from here until a text is shown."""
        self.text = ""
        limit = time.monotonic() + 20
        while wanted not in self.text:
            assert time.monotonic() < limit, self.text
            if select.select([self._ours], [], [], 0.2)[0]:
                self.text += re.sub(r"\x1b\[[\d;?]*\w", "", os.read(self._ours, 65_536).decode())

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        limit = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < limit:
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self._ours, 65_536).decode()
                except OSError:  # its end of the terminal is closed
                    break
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def test_the_live_view_survives_a_server_that_goes_away(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.call_steadily()
    terminal = Terminal(watched.probe.address)
    try:
        terminal.wait_for("READY")
        terminal.wait_for("GetRecord")
        address = watched.probe.address
        watched.stop()
        terminal.wait_for("NO ANSWER")
        assert terminal.process.poll() is None
        watch(address)
        terminal.wait_for("  READY")
        assert terminal.interrupt() == 0
        assert "Traceback" not in terminal.text
    finally:
        terminal.close()


@pytest.fixture
def weather() -> FeatureGroup:
    return FeatureGroup(
        "weather",
        record_identifier="origin",
        event_time="hour",
        features=feature_definitions([("origin", "String"), ("hour", "String")]),
    )
