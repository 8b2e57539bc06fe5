"""The demo: the main job on real data, run once as a user runs it, and interrupted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import featurestore
import training
from featureline.demo import FEATURES
from featureline.flights import Flights
from featurestore import Dataset
from tests.docs.pages import run_page

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def demo(featureline, tmp_path_factory):
    """The folder of one whole run on one thread, and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        [*featureline, "demo", "--out", str(out), "--threads", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=270)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode == 1 and "Kafka broker" in said and os.environ.get("CI") != "true":
        pytest.skip(said.strip())
    assert process.returncode == 0, said
    assert _alive(process.pid) == []
    return out, printed, said


@pytest.fixture(scope="module")
def figures(demo):
    return json.loads((demo[0] / "demo.json").read_text())


def test_the_figures(figures):
    assert figures["counts"]["weather"] == 26_115
    assert figures["counts"]["planes"] == 3_322
    assert figures["counts"]["arrivals"] == 327_346
    assert figures["dataset"]["rows"] == 336_776
    assert figures["dataset"]["features"] == 26
    check = figures["dataset"]["check"]
    assert check["passed"]
    assert (check["checked"], check["wrong"], check["future"]) == (336_776, 0, 0)
    counts = figures["counts"]
    assert 300_000 < counts["train"] + counts["validation"] <= 336_776
    assert figures["model"]["auc"] >= 0.745
    assert figures["model"]["auc"] > figures["model"]["baseline_auc"] + 0.05
    assert re.fullmatch("[0-9a-f]{64}", figures["model"]["digest"])


def test_what_was_put_is_read_back(figures):
    read = figures["read_back"]

    assert read["weather JFK"]["time_hour"] == "2013-12-30T23:00:00Z"
    assert read["planes N14228"] == {"built": 1999, "manufacturer": "BOEING", "seats": 149}
    assert len(read) == 5


def test_the_log_says_what_happened_and_the_result_is_where_it_says(demo, figures):
    out, printed, said = demo

    assert printed == "", "the figures come on stdout only when asked for"
    assert "\x1b" not in said, "no colours where nobody looks"
    assert "\r" not in said
    for words in (
        "26,115 messages stored, 0 refused",
        "read again: 0 stored",
        "0 wrong, 0 newer than their row",
        "log intact",
        figures["dataset"]["fingerprint"],
        figures["model"]["digest"],
        str(out / "demo.json"),
    ):
        assert words in said
    for made in ("demo.json", "lineage.html", "flights.parquet", "flights-train.parquet"):
        assert (out / made).stat().st_size > 0
    assert (out / "demo" / "server.log").read_text() == ""


def test_the_lineage_page_needs_no_network(demo):
    page = (demo[0] / "lineage.html").read_text()

    for name in ("TrainingJob", "DatasetBuild", "FeatureGroup", "Topic", "weather"):
        assert name in page
    loads = re.findall(
        r"""(?:src|href|action|poster|data)\s*=\s*["']?\s*(?:https?:)?//[^"'\s>]*"""
        r"""|url\(\s*["']?\s*(?:https?:)?//[^)]*\)|@import[^;]*|<(?:iframe|object|embed)[^>]*"""
        r"""|\b(?:fetch|importScripts|import)\s*\(|XMLHttpRequest|WebSocket""",
        page,
    )
    assert loads == []
    # The only address in it names a vocabulary and is never opened.
    assert set(re.findall(r"https?://[^\s\"'<>)]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_the_same_dataset_comes_of_more_threads(demo, figures):
    out = demo[0]

    with featurestore.open(out / "demo") as store:
        spine = Flights(threads=2).spine()
        rebuilt = store.dataset(spine, FEATURES, spine_name="flights", threads=2)

    assert rebuilt.fingerprint == figures["dataset"]["fingerprint"]
    assert rebuilt.versions == figures["dataset"]["versions"]
    written = Dataset.read(out / "flights.parquet")
    assert written.fingerprint == rebuilt.fingerprint
    assert written.table.equals(rebuilt.table)


def test_the_investigation_of_the_lineage_page(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A copy: the page corrects records.
    shutil.copytree(demo[0], tmp_path / "build")
    run_page("lineage", commands=13)


def test_the_home_stays_usable(demo, figures):
    with featurestore.open(demo[0] / "demo") as store:
        assert store.graph.verify().intact
        for group in ("weather", "carrier_route_stats", "planes"):
            assert store.verify(group).equal
        (model,) = [
            entity
            for entity in store.graph.find(type="Model")
            if entity.content_hash == figures["model"]["digest"]
        ]
        types = {entity.type for entity in store.graph.query(model, "ascendants").entities}
        assert {"Topic", "Ingest", "FeatureGroup", "FeatureGroupVersion", "DatasetBuild"} <= types
        assert {"DataSet", "Spine", "TrainingJob", "Image"} <= types
        loaded = training.load_model(figures["model"]["digest"], home=store)
        rows = Dataset.read(demo[0] / "flights-validation.parquet").table.slice(0, 100)
        assert len(loaded.predict(rows)) == 100


@pytest.mark.parametrize("how", ["the process", "its group", "kill -9"])
def test_an_interrupted_demo_leaves_no_process_behind(start, tmp_path, how):
    process = start("demo", "--out", tmp_path / "out", "--threads", "1")
    for line in process.stderr:
        if "Streaming the weather" in line:
            break
    deadline = time.monotonic() + 20
    while len(_alive(process.pid)) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(1.5)  # the broker is up by now, and the messages under way
    if process.poll() is not None:
        said = process.stderr.read()
        if "Kafka broker" in said and os.environ.get("CI") != "true":
            pytest.skip(said.strip())
        pytest.fail(said)
    assert len(_alive(process.pid)) >= 3, "the demo, its server and the broker"

    if how == "the process":
        process.send_signal(signal.SIGINT)
    elif how == "its group":  # as Ctrl-C on a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    said = process.stderr.read()

    assert process.wait(30) == (-signal.SIGKILL if how == "kill -9" else 130)
    assert "Traceback" not in said
    deadline = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [(pid, _command(pid)) for pid in _alive(process.pid)] == []


def _alive(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the command's name, which may hold anything: state, parent, group, session.
            state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append(int(folder.name))
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return "ended"
