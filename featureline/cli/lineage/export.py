"""`featureline lineage export`: the graph around something, as a file for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.options import walk_options
from featureline.cli.lineage.walk import answer, result_json
from featureline.cli.output import emit
from featureline.cli.store import common_options

__all__ = ["export"]


@click.command()
@walk_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "mermaid", "dot", "json"]),
    help="By default the ending of --out decides.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: stdout.")
@common_options
def export(
    start: str,
    options: dict[str, Any],
    form: str | None,
    out: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Write the graph around START as an HTML page, Mermaid, DOT or JSON."""
    endings = {".html": "html", ".htm": "html", ".mmd": "mermaid", ".md": "mermaid", ".dot": "dot"}
    form = form or (endings.get(out.suffix.lower(), "json") if out is not None else "mermaid")
    result = answer(start, options, home, connect)
    if form == "html":
        text = result.to_html(title=f"Lineage of {start}")
    elif form == "mermaid":
        text = result.to_mermaid()
    elif form == "dot":
        text = result.to_dot()
    else:
        text = json.dumps(result_json(result), indent=2, default=str)
    if out is None:
        click.echo(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    body = {"out": str(out), "format": form, "entities": len(result)}
    emit(body, as_json=as_json, text=f"{len(result)} entities as {form}: {out}")
