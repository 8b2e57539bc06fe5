"""`featureline dataset`: point-in-time datasets."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from featureline.cli.output import console, emit
from featureline.cli.store import common_options, open_any, open_embedded
from featurestore import Dataset, FeatureSelection, eventtime
from featurestore.check import check_dataset
from featurestore.dataset import Resolved
from featurestore.embedded import EmbeddedStore

__all__ = ["dataset"]


@click.group()
def dataset() -> None:
    """Build point-in-time datasets and check them."""


@dataset.command()
@click.option(
    "--spine",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Identifiers and times asked for: .parquet, .csv or .arrow.",
)
@click.option(
    "--features",
    "texts",
    required=True,
    multiple=True,
    metavar="GROUP[FEATURE,…]",
    help="Features of a group; without [], all of them. May be given several times.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The Parquet file to write.",
)
@click.option("--time", default="event_time", show_default=True, help="The spine's time column.")
@click.option(
    "--key", "keys", multiple=True, metavar="GROUP=COLUMN", help="Spine column of an identifier."
)
@click.option(
    "--prefix", "prefixes", multiple=True, metavar="GROUP=TEXT", help="Put before feature names."
)
@click.option(
    "--lookback", "lookbacks", multiple=True, metavar="GROUP=SECONDS", help="How old values may be."
)
@click.option("--as-of", metavar="TIME", help="Only what was written offline at or before it.")
@common_options
def build(
    spine: Path,
    texts: tuple[str, ...],
    out: Path,
    time: str,
    keys: tuple[str, ...],
    prefixes: tuple[str, ...],
    lookbacks: tuple[str, ...],
    as_of: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Join a spine with features as they were known at each row's time, into --out (Parquet).

    With --home the dataset is also kept there: `featureline train` takes its fingerprint.
    """
    selections = [FeatureSelection.parse(text) for text in texts]
    selections = _apply(selections, keys, "--key", lambda s, value: replace(s, key=value))
    selections = _apply(selections, prefixes, "--prefix", lambda s, value: replace(s, prefix=value))
    selections = _apply(selections, lookbacks, "--lookback", _with_lookback)
    with (
        open_any(home, connect) as store,
        console.status("building the dataset"),
    ):
        made = store.dataset(spine, selections, time=time, as_of=_moment(as_of))
        made.write(out)
        if isinstance(store, EmbeddedStore):
            store.keep_dataset(made)
    result = {
        "fingerprint": made.fingerprint,
        "rows": len(made),
        "versions": made.versions,
        "out": str(out),
    }
    versions = ", ".join(f"{name}@{version}" for name, version in made.versions.items())
    emit(
        result,
        as_json=as_json,
        text=f"{len(made):,} rows × {len(made.features)} features of {versions}\n"
        f"fingerprint {made.fingerprint}\n{out}",
    )


@dataset.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--rows", type=click.IntRange(min=1), help="How many rows, at random.  [default: all]"
)
@click.option("--seed", default=0, show_default=True, help="Of the choice of rows.")
@common_options
def check(
    file: Path,
    rows: int | None,
    seed: int,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Derive the values of the dataset FILE again, without the join's engine; exit 1 on a fault."""
    with open_embedded(home, connect, "dataset check") as store, console.status("checking"):
        made = Dataset.read(file)
        resolved: list[Resolved] = store.resolve_manifest(made.manifest)
        report = check_dataset(made, resolved, rows=rows, seed=seed)
    lines = [
        f"{'passed' if report.passed else 'FAILED'}: {report.values:,} values of "
        f"{report.checked:,} rows derived again, {report.wrong:,} wrong, "
        f"{report.future:,} from the future",
        *(f"  {example}" for example in report.examples),
    ]
    emit(report.to_json(), as_json=as_json, text="\n".join(lines))
    if not report.passed:
        sys.exit(1)


def _apply(
    selections: list[FeatureSelection], pairs: tuple[str, ...], option: str, change: Any
) -> list[FeatureSelection]:
    for pair in pairs:
        group, equals, value = pair.partition("=")
        if not equals or group not in {selection.group for selection in selections}:
            raise click.UsageError(
                f"{option}: expected GROUP=VALUE with a group of --features, got {pair!r}"
            )
        selections = [change(s, value) if s.group == group else s for s in selections]
    return selections


def _with_lookback(selection: FeatureSelection, seconds: str) -> FeatureSelection:
    try:
        return replace(selection, lookback=dt.timedelta(seconds=float(seconds)))
    except ValueError:
        raise click.UsageError(f"--lookback: expected seconds, got {seconds!r}") from None


def _moment(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        return eventtime.to_datetime(eventtime.parse_iso(text))
    except ValueError as error:
        raise click.UsageError(f"--as-of: {error}") from None
