"""What a soak run found: figures, some with a bar, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

__all__ = ["Figure", "machine", "print_table", "write_figures"]


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a run.

    Args:
        name: what was counted or measured.
        value: how much.
        unit: of what.
        most: the bar: it must not be more; None: it is only told.
        least: the bar: it must not be less.
    """

    name: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.most is None and self.least is None:
            return None
        high = self.most is None or self.value <= self.most
        return high and (self.least is None or self.value >= self.least)

    @property
    def bar(self) -> str:
        """The bar in words."""
        parts = [
            f"{sign} {_shown(bound)}"
            for sign, bound in (("≥", self.least), ("≤", self.most))
            if bound is not None
        ]
        return ", ".join(parts)


def machine() -> dict[str, Any]:
    """Describe where figures come from."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def print_table(figures: dict[str, Sequence[Figure]]) -> None:
    """Print one table of all runs, as Markdown."""
    print("| run | figure | value | bar | met |")
    print("| --- | --- | ---: | --- | --- |")
    for run, found in figures.items():
        for figure in found:
            met = {True: "yes", False: "NO", None: ""}[figure.is_met]
            value = f"{_shown(figure.value)} {figure.unit}".strip()
            print(f"| {run} | {figure.name} | {value} | {figure.bar} | {met} |")


def write_figures(path: Path, figures: Sequence[Figure], seconds: float) -> None:
    """Write the figures of one run; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    where = machine() | {"seconds": round(seconds)}
    body = [
        {
            "name": figure.name,
            "value": figure.value,
            "unit": figure.unit,
            "bar": figure.bar or None,
            "met": figure.is_met,
            "machine": where,
        }
        for figure in figures
    ]
    part = path.with_suffix(".part")
    part.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _shown(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.2f}"
