"""`featureline dataset sources`: which offsets a dataset's rows came from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from ingest.origin import dataset_origins

__all__ = ["sources"]


@click.command()
@click.argument("fingerprint")
@common_options
def sources(fingerprint: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Name topics, partitions and offsets that the rows of a dataset came from.

    They are a superset: everything that was stored before the table versions that the dataset
    read were committed. Rows that clients put themselves have no offsets.
    """
    with open_any(home, connect) as store:
        found = dataset_origins(store, fingerprint)
    lines = [
        f"{one.group} ← {', '.join(one.inputs)} partition {one.partition}: "
        f"offsets {one.start:,} to {one.next:,}{'' if one.is_recorded else ', not recorded'}"
        for one in found
    ]
    text = "\n".join(lines) or "no offsets: nothing of it was ingested"
    emit([asdict(one) for one in found], as_json=as_json, text=text)
