"""Quality of an algorithm beside a reference on the same splits, written into its page."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from tests.benchmarks.harness import Size, machine

__all__ = ["BEGIN", "END", "Row", "median_seconds", "peak_mb", "write"]

BEGIN: Final = "<!-- measured: made by `python -m tests.benchmarks.quality` -->"
END: Final = "<!-- end of measured -->"


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of one case, ours beside the reference's.

    Args:
        case: the data and the setting, such as `digits, k=10, 5 seeds`.
        measure: what was measured and its unit, such as `msd, median` or `rows/s`.
        ours: our value.
        reference: who the reference is, such as `scikit-learn 1.9 KMeans`.
        reference_value: its value in the same run; None where it has none here.
        bar: the limit our value must keep; None: a figure without a bar.
        sense: on which side of the bar.
        seconds: what ours took, median.
        reference_seconds: what the reference took, median.
    """

    case: str
    measure: str
    ours: float
    reference: str
    reference_value: float | None = None
    bar: float | None = None
    sense: Literal["<=", ">="] = ">="
    seconds: float | None = None
    reference_seconds: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is kept."""
        if self.bar is None:
            return None
        return bool(self.ours >= self.bar if self.sense == ">=" else self.ours <= self.bar)


def median_seconds(work: Callable[[], Any], *, repeats: int = 3) -> tuple[float, Any]:
    """Return the median seconds of some runs, and what the last one returned."""
    times, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return statistics.median(times), result


def peak_mb() -> float:
    """Return the most memory this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(name: str, rows: Sequence[Row], *, page: Path, figures: Path) -> None:
    """Write rows as the table in an algorithm's page, and as JSON."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page}: expected the lines {BEGIN!r} and {END!r} around the table")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = "\n".join(_table(rows))
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
    figures.mkdir(parents=True, exist_ok=True)
    body = [asdict(row) | {"met": row.met, "machine": machine(Size.FULL)} for row in rows]
    (figures / f"quality-{name}.json").write_text(json.dumps(body, indent=1) + "\n")


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| case | measure | ours | reference | its value | bar | met | seconds: ours, reference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        bar = "" if row.bar is None else f"{row.sense} {_number(row.bar)}"
        seconds = ", ".join(_number(s) for s in (row.seconds, row.reference_seconds) if s)
        lines.append(
            f"| {row.case} | {row.measure} | {_number(row.ours)} | {row.reference} | "
            f"{_number(row.reference_value)} | {bar} | {met} | {seconds} |"
        )
    lines.append("")
    where = machine(Size.FULL)
    lines.append(
        f"Measured on {where['cores']} cores of {where['cpu']}, Python {where['python']}, at load "
        f"{where['load']}."
    )
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"
