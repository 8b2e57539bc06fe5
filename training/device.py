"""Where a fit computes: `auto`, `cpu`, `cuda` or `cuda:N`."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from training.errors import DeviceUnavailable, InvalidJob

__all__ = [
    "CPU",
    "Device",
    "check_device",
    "cpu_computes_bf16",
    "cuda_device_count",
    "resolve_device",
]

_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_FORM = re.compile(r"auto|cpu|cuda(?::(\d+))?")


@final
@dataclass(frozen=True)
class Device:
    """A device that exists: the CPU, or one CUDA device by number."""

    kind: Literal["cpu", "cuda"] = "cpu"
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


CPU = Device()


def check_device(name: str) -> str:
    """Return the name when it is one of `auto`, `cpu`, `cuda`, `cuda:N`.

    Raises:
        InvalidJob: it is not.
    """
    if not _FORM.fullmatch(name):
        raise InvalidJob(
            f"device: expected auto, cpu, cuda or cuda:N, got {name!r}", field="device"
        )
    return name


def resolve_device(name: str) -> Device:
    """Find the device a job asks for; `auto` takes the first CUDA device, else the CPU.

    Raises:
        InvalidJob: the name has another form.
        DeviceUnavailable: a CUDA device was asked for and is not there.

    >>> str(resolve_device("cpu"))
    'cpu'
    """
    check_device(name)
    if name == "cpu":
        return CPU
    count = cuda_device_count()
    if name == "auto":
        return Device("cuda", 0) if count else CPU
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise DeviceUnavailable(
            f"device {name!r} was asked for and this machine has {count} CUDA devices; use auto or "
            "cpu",
            device=name,
        )
    return Device("cuda", index)


def cpu_computes_bf16() -> bool:
    """Whether the CPU says that it multiplies bf16 numbers itself; False where it says nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and not _BF16.isdisjoint(flags[1].split())


def cuda_device_count() -> int:
    """Count the CUDA devices this process may use, by the driver, without a deep-learning library.

    `CUDA_VISIBLE_DEVICES` is respected. Zero where there is no driver.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
