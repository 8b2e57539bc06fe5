"""`featureline lineage verify|checkpoint|prove|salvage|rebuild`: whether all is as it was."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import lineage
from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit, progress
from featureline.cli.store import common_options, open_any
from featurestore.errors import InvalidRequest, StoreUnavailable
from lineage import Graph, LineageClient, LogReport, SQLiteStore

__all__ = ["checkpoint", "home_folder", "home_graph", "prove", "rebuild", "salvage", "verify"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--against", type=_FILE, help="Checkpoints kept elsewhere, as --out wrote them.")
@click.option("--public-key", type=_FILE, help="The key that must have signed those of --against.")
@click.option("--projections", is_flag=True, help="Also compare the graph with what the log says.")
@common_options
def verify(
    against: Path | None,
    public_key: Path | None,
    projections: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Check that nothing in the lineage was altered; exit code 1 and what it is when something was.

    The hash chain and the checkpoints are recomputed from the log, and the file is looked through
    for damage. Who could rewrite all of these is caught only by a checkpoint kept elsewhere.
    """
    if public_key is not None and against is None:
        raise click.UsageError("--public-key is for --against")
    kept = [] if against is None else lineage.read_checkpoints(against)
    if public_key is not None:
        for one in kept:
            one.check_signature(public_key)
    if connect is not None:
        with open_any(home, connect) as store:
            report = store.graph.verify(projections=projections, against=kept)
        _tell(report, as_json=as_json)
        return
    try:
        with home_graph(home) as graph:
            file = graph.store.path if isinstance(graph.store, SQLiteStore) else None
            report = graph.verify(projections=projections, against=kept)
    except lineage.StoreCorrupt as error:
        _tell_damage(Path(error.path), as_json=as_json)
    else:
        if file is not None and report.intact and lineage.examine(file).is_damaged:
            _tell_damage(file, as_json=as_json)
        _tell(report, as_json=as_json)


@click.command()
@click.option(
    "--sign",
    type=_FILE,
    metavar="KEYFILE",
    help="Sign it with a private Ed25519 key in PEM, such as erasure.key of a home.",
)
@click.option("--out", type=_FILE, metavar="FILE", help="Write it there, to keep it elsewhere.")
@click.option("--all", "every", is_flag=True, help="All that there are, for a closer --against.")
@common_options
def checkpoint(
    sign: Path | None,
    out: Path | None,
    every: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Make a checkpoint: one hash that stands for the whole log as it is now.

    Keep it where nobody who can write to the home can write too: `verify --against` and proofs are
    only worth as much as the place where the checkpoint was kept.
    """
    with _graph(home, connect) as graph:
        made = graph.checkpoint()
        if sign is not None:
            made = made.signed(sign)
            if isinstance(graph, Graph):
                graph.store.add_checkpoint(made)
        several = graph.checkpoints() if every else [made]
    document: Any = [one.to_json() for one in several] if every else made.to_json()
    if out is not None:
        _write(out, document)
    text = f"event {made.sequence:,}: root {made.root.hex()}" + (", signed" if sign else "")
    emit(document, as_json=as_json, text=text + ("" if out is None else f"\n  kept in {out}"))


@click.command()
@click.argument("what")
@click.option("--checkpoint", "kept", type=_FILE, help="Prove it against this one.")
@click.option("--event", is_flag=True, help="WHAT is the sequence of an event.")
@click.option("--out", type=_FILE, metavar="PROOF.json", help="Write the proof there.")
@common_options
def prove(
    what: str,
    kept: Path | None,
    event: bool,
    out: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Prove that WHAT, an artifact or any other entity, is in the log that a checkpoint stands for.

    The proof is checked without this program, by examples/check_lineage_proof.py.
    """
    if event and not what.isdecimal():
        raise click.UsageError(f"--event: expected the sequence of an event, got {what!r}")
    against = None if kept is None else lineage.read_checkpoints(kept)[-1]
    with _graph(home, connect) as graph:
        proof = graph.prove(int(what) if event else find_start(graph, what), against)
    document = proof.to_json()
    if out is not None:
        _write(out, document)
    name = proof.entity or f"event {proof.event.sequence}"
    text = (
        f"{name}: recorded {proof.recorded.isoformat()} by {proof.event.actor}\n"
        f"  {proof.event.kind}, event {proof.event.sequence:,}, belongs to the root "
        f"{proof.checkpoint.root.hex()} of checkpoint {proof.checkpoint.sequence:,}"
    )
    emit(document, as_json=as_json, text=text + ("" if out is None else f"\n  kept in {out}"))


@click.command()
@click.option("--out", type=_FILE, required=True, metavar="FILE", help="A new file.")
@click.option("--file", type=_FILE, help="The damaged file.  [default: lineage.db of the home]")
@common_options
def salvage(
    out: Path, file: Path | None, home: Path | None, connect: str | None, as_json: bool
) -> None:
    """Copy the log of a damaged lineage file up to the damage into a new one; say what is lost.

    The chain of the new file is whole. Stop the processes of the home first; nothing is written to
    the damaged file. To use the new one, put it in the place of the old one.
    """
    _home_only(connect, "lineage salvage")
    with progress("salvage", None, "events") as tick:
        saved = lineage.salvage(file or home_folder(home) / "lineage.db", out, on_progress=tick)
    body = {
        "events": saved.events,
        "lost": saved.lost,
        "checkpoints": saved.checkpoints,
        "out": str(out),
        "damage": saved.damage.to_json(),
    }
    text = f"{saved.damage.to_text()}\n{saved.events:,} events saved in {out}, {saved.lost:,} lost"
    emit(body, as_json=as_json, text=text)


@click.command()
@common_options
def rebuild(home: Path | None, connect: str | None, as_json: bool) -> None:
    """Project the graph anew from the log alone, which mends a graph that differs from it."""
    with _graph(home, connect) as graph:
        events = graph.rebuild()
    emit({"events": events}, as_json=as_json, text=f"the graph was made anew of {events:,} events")


@contextmanager
def _graph(home: Path | None, connect: str | None) -> Iterator[Graph | LineageClient]:
    if connect is None:
        with home_graph(home) as graph:
            yield graph
    else:
        with open_any(home, connect) as store:
            yield store.graph


@contextmanager
def home_graph(home: Path | None) -> Iterator[Graph]:
    """Open the lineage of a home that exists, without its other stores, which need not be whole."""
    with lineage.open_home(home_folder(home)) as graph:
        yield graph


def home_folder(home: Path | None) -> Path:
    """Return the folder that --home names.

    Raises:
        InvalidRequest: there is none: to check what is not there is a mistake.
    """
    folder = (home or Path(os.environ.get("FEATURELINE_HOME") or ".featureline")).resolve()
    if not folder.is_dir():
        raise InvalidRequest(f"{folder}: expected a home, and there is no such folder")
    return folder


def _home_only(connect: str | None, what: str) -> None:
    if connect is not None:
        raise click.UsageError(
            f"{what} works on the files of a home; use --home, on the machine that has them"
        )


def _write(out: Path, document: Any) -> None:
    try:
        out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(f"--out {out}: {error.strerror}") from error


def _tell(report: LogReport, *, as_json: bool) -> None:
    body = {
        "intact": report.intact,
        "events": report.events,
        "first_altered": report.first_altered,
        "reason": report.reason,
        "checkpoints": report.checkpoints,
    }
    compared = f"; {report.checkpoints:,} checkpoints match" if report.checkpoints else ""
    text = (
        f"intact: {report.events:,} events, the hash chain is unbroken{compared}"
        if report.intact
        else f"ALTERED: event {report.first_altered}: {report.reason}"
    )
    emit(body, as_json=as_json, text=text)
    if not report.intact:
        sys.exit(1)


def _tell_damage(file: Path, *, as_json: bool) -> None:
    damage = lineage.examine(file)
    body = {
        "intact": False,
        "events": damage.readable,
        "first_altered": damage.first_damaged,
        "reason": damage.findings[0] if damage.findings else "it could not be read a moment ago",
        "damage": damage.to_json(),
    }
    remedy = (
        "\n  featureline lineage salvage --out FILE saves the log up to there"
        if damage.first_damaged is not None
        else "\n  featureline lineage salvage --out FILE makes a whole file of it"
    )
    emit(body, as_json=as_json, text=damage.to_text() + remedy)
    sys.exit(1)
