"""`featureline dataset sources`: which offsets a dataset's rows came from."""

from __future__ import annotations

from pathlib import Path

import click

from featureline.cli.output import emit_table
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
    rows = [
        {
            "group": one.group,
            "input": ", ".join(one.inputs),
            "partition": one.partition,
            "start": one.start,
            "next": one.next,
            "recorded": one.is_recorded if as_json else "yes" if one.is_recorded else "no",
            "source": one.source,
        }
        for one in found
    ]
    columns = ("group", "input", "partition", "start", "next", "recorded")
    emit_table(rows, columns, as_json=as_json, empty="no offsets: nothing of it was ingested")
