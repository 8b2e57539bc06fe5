"""Fits in several processes: each algorithm finds what it finds in one."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.errors import TrainingStopped
from training.jobs.link import Linked, Meeting
from training.world import HostLost, World

pytest.importorskip("torch")
pytest.importorskip("xgboost")

from tests.training.world_process import FITS, fit, in_processes  # noqa: E402

# Bins of histograms depend on which rows are together, and so do the centres that are merged.
_TOLERANCE = {"xgboost": 0.02}


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    spread = in_processes(tmp_path)
    for (name, more), (answers, metrics) in zip(FITS, spread, strict=True):
        alone, alone_metrics = fit(name, more)
        assert set(metrics) == set(alone_metrics), name
        if name == "kmeans":
            assert metrics["train:msd"] == pytest.approx(alone_metrics["train:msd"], rel=0.03)
            continue
        expected, got = np.array(alone, np.float64), np.array(answers, np.float64)
        tolerance = _TOLERANCE.get(name, 1e-4)
        np.testing.assert_allclose(got, expected, atol=tolerance, err_msg=f"{name} {more}")
