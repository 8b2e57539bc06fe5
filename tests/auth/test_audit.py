"""The audit log: whole lines from many writers, bounded files."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore import StoreFull
from featurestore.auth import AuditLog

ROOT = Path(__file__).parents[2]
LINE = {
    "time_us": 1_500_000,
    "request_id": "r1",
    "principal": "ada",
    "token": "t",
    "address": "10.0.0.7",
    "action": "sagemaker:DeleteFeatureGroup",
    "resource": "arn:x",
    "outcome": "OK",
}
WRITER = """
import sys, pathlib
from featurestore.auth import AuditLog
log = AuditLog(pathlib.Path(sys.argv[1]), max_bytes=int(sys.argv[3]), kept=50)
for number in range(500):
    log.write(time_us=number, request_id=f"{sys.argv[2]}-{number}", principal="ada", token="t",
              address="", action="a" * (number % 200), resource="r" * (number % 150), outcome="OK")
"""


def lines_of(folder):
    found = []
    for file in folder.glob("audit.log*"):
        if not file.name.endswith(".lock"):
            found += file.read_text().splitlines()
    return [json.loads(line) for line in found]


def test_a_line_says_who_did_what(tmp_path):
    AuditLog(tmp_path / "audit.log").write(**LINE)
    assert lines_of(tmp_path) == [
        {"time": "1970-01-01T00:00:01.500000Z"} | {k: LINE[k] for k in LINE if k != "time_us"}
    ]
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("max_bytes", [10**9, 20_000])
def test_the_lines_of_four_processes_do_not_mix_and_none_is_lost(tmp_path, max_bytes):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "audit.log"), str(n), str(max_bytes)],
            cwd=ROOT,
        )
        for n in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    found = lines_of(tmp_path)
    assert sorted(line["request_id"] for line in found) == sorted(
        f"{writer}-{number}" for writer in range(4) for number in range(500)
    )
    assert len(list(tmp_path.glob("audit.log.*[0-9]"))) > 3 or max_bytes > 20_000


def test_old_files_go_when_there_are_too_many(tmp_path):
    log = AuditLog(tmp_path / "audit.log", max_bytes=1_000, kept=3)
    for number in range(100):
        log.write(**LINE | {"request_id": str(number)})
    files = sorted(file.name for file in tmp_path.glob("audit.log*") if "lock" not in file.name)
    assert files == ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]
    kept = sorted(int(line["request_id"]) for line in lines_of(tmp_path))
    assert kept == list(range(kept[0], 100))


def test_a_log_that_was_moved_away_is_made_again(tmp_path):
    log = AuditLog(tmp_path / "audit.log")
    log.write(**LINE)
    (tmp_path / "audit.log").rename(tmp_path / "audit.log.old")
    log.write(**LINE)
    assert len((tmp_path / "audit.log").read_text().splitlines()) == 1


def test_text_from_a_request_cannot_forge_a_line_or_fill_the_disk(tmp_path):
    AuditLog(tmp_path / "audit.log").write(
        **LINE | {"resource": 'x"}\n{"principal": "root"}', "action": "y" * 1_000_000}
    )
    [line] = lines_of(tmp_path)
    assert line["principal"] == "ada"
    assert (tmp_path / "audit.log").stat().st_size < 2_000


def test_after_a_line_that_was_cut_off_the_next_begins_anew(tmp_path, monkeypatch):
    log = AuditLog(tmp_path / "audit.log")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:20]))
        with pytest.raises(StoreFull, match="cut off"):
            log.write(**LINE)
    log.write(**LINE)
    first, second = (tmp_path / "audit.log").read_text().splitlines()
    assert len(first) == 20
    assert json.loads(second)["principal"] == "ada"


def test_a_full_disk_is_an_error_and_not_silence(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    log = AuditLog(tmp_path / "audit.log")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreFull, match="a line of the log is lost"):
            log.write(**LINE)
