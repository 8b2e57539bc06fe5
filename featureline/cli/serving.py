"""`featureline serve` and `featureline demo`: what runs by itself."""

from __future__ import annotations

from pathlib import Path

import click

from featureline import demo as demo_module
from featureline import server

__all__ = ["demo", "serve"]


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=".featureline",
    envvar="FEATURELINE_HOME",
    show_default=True,
    help="Folder of the stores.",
)
@click.option(
    "--grpc",
    "address",
    default="127.0.0.1:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one.",
)
@click.option(
    "--front",
    type=click.Choice(["auto", "grpc", "native"]),
    default="auto",
    show_default=True,
    help="What speaks gRPC.",
)
@click.option(
    "--flush-seconds",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="How often the outbox is moved into the Delta tables.",
)
def serve(home: Path, address: str, front: str, flush_seconds: float) -> None:
    """Serve the stores of a home over gRPC until SIGTERM or Ctrl-C.

    Prints one line of JSON when it accepts calls.
    """
    server.main_logging()
    server.serve(server.Settings(home, address, flush_seconds, front))


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="build",
    show_default=True,
    help="Folder for demo.json, the lineage page and the demo's home, which is made anew.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="For DuckDB; the figures do not depend on it.  [default: all cores]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON document.")
def demo(out: Path, threads: int | None, as_json: bool) -> None:
    """Run the main job on real data: flights in, a trained model out, and a graph that says how."""
    demo_module.run(out, threads=threads, as_json=as_json)
