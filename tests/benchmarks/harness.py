"""Figures: a value beside its baseline, measured in turns, with the machine they come from."""

from __future__ import annotations

import enum
import gc
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, final

from rich.console import Console
from rich.table import Table

__all__ = [
    "Bar",
    "BenchmarkSkipped",
    "Figure",
    "Size",
    "compare",
    "cores",
    "interleave",
    "machine",
    "note",
    "print_table",
    "write_figures",
]

Sample = TypeVar("Sample")
_FEW: Final = 4
_WIDE: Final = 160


class Size(enum.StrEnum):
    """How much a benchmark does: see that it works, a minute and a half, the sizes of the bars."""

    TINY = "tiny"
    DEFAULT = "default"
    FULL = "full"


class BenchmarkSkipped(RuntimeError):
    """The benchmark needs what is not here; the message says what."""


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """A limit that a figure should keep.

    Args:
        of: what is limited: the ratio to the baseline, or the value itself.
        sense: on which side of the limit it should be.
        limit: as a ratio, or in the figure's unit.

    >>> str(Bar("ratio", ">=", 0.7)), Bar("ratio", ">=", 0.7).is_met(value=3.0, ratio=0.9)
    ('ratio >= 0.7', True)
    """

    of: Literal["ratio", "value"]
    sense: Literal["<=", ">="]
    limit: float

    def is_met(self, *, value: float, ratio: float) -> bool:
        """Whether a figure keeps it."""
        measured = value if self.of == "value" else ratio
        return measured >= self.limit if self.sense == ">=" else measured <= self.limit

    def __str__(self) -> str:
        return f"{self.of} {self.sense} {self.limit:,.9g}"


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside its baseline.

    Args:
        name: what was measured, with its size.
        value: median of the runs.
        unit: of both values.
        baseline: what it is compared with.
        baseline_value: median of the baseline's runs.
        spread: of the runs' ratios: the middle half, or of few runs the extremes.
        bar: the limit it should keep; None: there is none for this.
    """

    name: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    spread: tuple[float, float]
    bar: Bar | None

    @property
    def ratio(self) -> float:
        """Value by baseline value: above 1 is better for rates, worse for durations."""
        return self.value / self.baseline_value

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is kept; None without a bar."""
        return None if self.bar is None else self.bar.is_met(value=self.value, ratio=self.ratio)

    def to_json(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        """Write it with the machine it was measured on."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "baseline_value": self.baseline_value,
            "ratio": self.ratio,
            "bar": None if self.bar is None else str(self.bar),
            "met": self.is_met,
            "machine": dict(machine),
        }


def compare(
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    baseline: str,
    baseline_values: Sequence[float],
    bar: Bar | None = None,
) -> Figure:
    """Make a figure of n runs of a subject and of its baseline that were made in turns.

    >>> figure = compare("get", "ms", [2, 3, 9], baseline="echo", baseline_values=[2, 2, 3])
    >>> figure.value, figure.baseline_value, figure.ratio, figure.spread
    (3, 2, 1.5, (1.0, 3.0))
    """
    ratios = [value / base for value, base in zip(values, baseline_values, strict=True)]
    spread = (min(ratios), max(ratios))
    if len(ratios) >= _FEW:
        quarters = statistics.quantiles(ratios, n=4)
        spread = (quarters[0], quarters[2])
    return Figure(
        name,
        statistics.median(values),
        unit,
        baseline,
        statistics.median(baseline_values),
        spread,
        bar,
    )


def interleave(
    subjects: Mapping[str, Callable[[], Sample]], *, repeats: int
) -> dict[str, list[Sample]]:
    """Run subjects A B A B …, so that a slow spell of the machine meets them alike.

    Returns:
        `repeats` samples of each, in order: the n-th of all belong together.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, subject in subjects.items():
            gc.collect()
            samples[name].append(subject())
    return samples


def machine(size: Size, **more: Any) -> dict[str, Any]:
    """Describe where figures come from; `load` is the load average of the last minute."""
    return {
        "cores": cores(),
        "cpu": _cpu_model(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "size": size.value,
        **more,
    }


def cores() -> int:
    """Count the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def note(text: str) -> None:
    """Say on stderr what is being done."""
    print(f"  {text}", file=sys.stderr, flush=True)


def print_table(name: str, figures: Sequence[Figure], machine: Mapping[str, Any]) -> None:
    """Print one table on stdout."""
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    table = Table(title=f"{name} ({described})", title_justify="left", box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("baseline")
    table.add_column("its value", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("spread", no_wrap=True)
    table.add_column("bar", no_wrap=True)
    table.add_column("met")
    for figure in figures:
        low, high = figure.spread
        table.add_row(
            figure.name,
            f"{_shown(figure.value)} {figure.unit}",
            figure.baseline,
            f"{_shown(figure.baseline_value)} {figure.unit}",
            _shown(figure.ratio),
            f"{_shown(low)}–{_shown(high)}",
            str(figure.bar or ""),
            {True: "yes", False: "NO", None: ""}[figure.is_met],
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    console.print(table)
    console.print()


def write_figures(path: Path, figures: Sequence[Figure], machine: Mapping[str, Any]) -> None:
    """Write figures as a JSON list; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    body = [figure.to_json(machine) for figure in figures]
    part.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


@cache
def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _shown(number: float) -> str:
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 100 else f"{number:.3g}"
