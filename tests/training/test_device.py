from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import training
from training.device import CPU, Device, cuda_device_count, resolve_device
from training.errors import DeviceUnavailable, InvalidJob


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == CPU
    assert str(CPU) == "cpu"


def test_auto_takes_cuda_where_it_is() -> None:
    expected = Device("cuda", 0) if cuda_device_count() else CPU
    assert resolve_device("auto") == expected


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match="'cuda:99' was asked for and this machine has"):
        resolve_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "CPU"])
def test_another_word_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(InvalidJob, match="expected auto, cpu, cuda or cuda:N"):
        resolve_device(name)


def test_no_device_needs_torch() -> None:
    code = (
        "import sys; from training.device import resolve_device; resolve_device('auto');"
        "assert 'torch' not in sys.modules"
    )
    root = Path(training.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
