"""`featureline load`, `group backfill` and `group rebuild`: many rows at once."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from featureline.cli.output import emit, steps
from featureline.cli.store import common_options, open_any
from featurestore import BackfillReport

__all__ = ["backfill", "load", "rebuild"]

_SHOWN = 20


@click.command()
@click.argument("group")
@click.argument(
    "files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@click.option("--key", required=True, help="Names this load; with the same key it is done once.")
@common_options
def load(
    group: str,
    files: tuple[Path, ...],
    key: str,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Load the rows of FILE… (.parquet, .csv, .arrow, or a folder of such) into GROUP at once.

    They go straight into the offline table, the latest ones online. The same key again finishes
    what a killed load has left and adds nothing twice. Refused rows are named and the others are
    stored; then the exit code is 1.
    """
    data = files[0] if len(files) == 1 else list(files)
    with open_any(home, connect) as store, steps(f"{group} ← {files[0].name}") as tell:
        result = store.load(group, data, key=key, on_progress=tell)
    again = " (by an earlier load with this key)" if result.already else ""
    lines = [f"{group}: {result.rows:,} stored{again}, {len(result.errors):,} refused"]
    lines += [f"  {error.message}" for error in result.errors[:_SHOWN]]
    if len(result.errors) > _SHOWN:
        lines.append(f"  … and {len(result.errors) - _SHOWN:,} more")
    emit(result.to_json(), as_json=as_json, text="\n".join(lines))
    if result.errors:
        sys.exit(1)


@click.command()
@click.argument("name")
@common_options
def backfill(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Bring online what the offline table of NAME has, where nothing or something older is.

    A killed backfill goes on where it stopped. Others may put, flush and read meanwhile.
    """
    with open_any(home, connect) as store, steps(f"backfill of {name}") as tell:
        report = store.backfill(name, on_progress=tell)
    emit(report.to_json(), as_json=as_json, text=_said(report))


@click.command()
@click.argument("name")
@common_options
def rebuild(name: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Make the online store of NAME anew from its offline table, after loss or damage.

    Every version online that was flushed gives way to the offline one, and what the offline table
    does not know is hidden. What waited in a lost outbox is lost. All deletes count as soft ones.
    """
    with open_any(home, connect) as store, steps(f"rebuild of {name}") as tell:
        report = store.rebuild_online(name, on_progress=tell)
    text = _said(report)
    if report.removed:
        text += f"; {report.removed:,} records hidden that are not offline"
    if report.was_empty:
        text += (
            "\nThe online store had nothing of the group. What was put but not flushed before it "
            "was lost is lost."
        )
    emit(report.to_json(), as_json=as_json, text=text)


def _said(report: BackfillReport) -> str:
    if report.version is None:
        return f"{report.group}: nothing was ever written to the offline table"
    went_on = ", going on where an earlier run stopped" if report.resumed else ""
    return (
        f"{report.group}: {report.identifiers:,} identifiers of version {report.version} compared, "
        f"{report.written:,} brought online{went_on}"
    )
