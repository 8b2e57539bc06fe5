"""Programs that name /opt/ml: the job's folder is there, or they are told that it is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.training.programs import program_maker
from training import train
from training.jobs import mounting

LITERAL = """\
import json, os

host = json.load(open("/opt/ml/input/config/resourceconfig.json"))["current_host"]
rows = open("/opt/ml/input/data/train/rows.csv").read()
os.makedirs("/opt/ml/output/data", exist_ok=True)
open(f"/opt/ml/output/data/{host}", "w").write(rows)
open(f"/opt/ml/model/{host}", "w").write(rows)
open(f"/opt/ml/checkpoints/{host}", "w").write(rows)
assert os.path.samefile("/opt/ml/model", os.environ["SM_MODEL_DIR"])
"""


def works(folder: Path) -> bool:
    return mounting.binding(folder, folder)[0] is not None


def test_a_program_that_names_opt_ml_finds_its_job_there(home: Path, tmp_path: Path) -> None:
    if not works(tmp_path):
        pytest.skip("this system gives a process no mounts of its own")
    before = os.listdir("/opt") if os.path.isdir("/opt") else None
    result = train(home, program_maker(tmp_path)(LITERAL, "literal-1", hosts=2)).check()
    assert result.model is not None
    folder = home / "jobs" / "literal-1"
    for host in ("algo-1", "algo-2"):
        assert (result.model / host).read_text() == "1,2\n"
        assert (folder / "checkpoints" / host).read_text() == "1,2\n"
        assert (folder / "output" / "data" / host).read_text() == "1,2\n"
    # Only the programs saw it.
    assert (os.listdir("/opt") if os.path.isdir("/opt") else None) == before


def test_where_that_is_not_allowed_a_program_that_names_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(libc: Any, source: str) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(mounting, "_bind", refuse)
    (tmp_path / "train.py").write_text("open('model', 'w')")
    assert mounting.binding(tmp_path, tmp_path) == (None, "")
    (tmp_path / "train.py").write_text(LITERAL)
    act, warning = mounting.binding(tmp_path, tmp_path)
    assert act is None
    assert "/opt/ml is not this job's folder" in warning
    assert "(Operation not permitted)" in warning
    assert "SM_MODEL_DIR" in warning
