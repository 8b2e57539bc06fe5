"""The command `featureline`: its groups, and how its errors end."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

import click

from featureline.cli import (
    access,
    auditing,
    backup,
    catalogue,
    datasets,
    deadletter,
    erasure,
    fleet,
    groups,
    ingestion,
    jobs,
    lineage,
    migrate,
    origins,
    preview,
    records,
    serving,
    tables,
    top,
    train,
    transfer,
    transform,
    windows,
)
from featureline.errors import EXPECTED_ERRORS

__all__ = ["cli", "main"]

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("featureline"), prog_name="featureline")
def cli() -> None:
    """A self-hosted feature store with lineage and a training layer."""


ingestion.ingest.add_command(preview.preview_command)
for command in (
    serving.serve,
    serving.demo,
    groups.group,
    catalogue.feature,
    catalogue.search,
    windows.window,
    records.put,
    records.get,
    records.delete,
    records.records,
    records.flush,
    records.verify,
    erasure.erase,
    transfer.load,
    ingestion.ingest,
    deadletter.deadletter,
    datasets.dataset,
    train.train,
    transform.transform,
    jobs.predict,
    jobs.jobs,
    lineage.lineage_commands,
    top.top,
    backup.backup,
    backup.restore,
    backup.key,
    migrate.migrate,
    access.token,
    access.policy,
):
    cli.add_command(command)


groups.group.add_command(transfer.backfill)
groups.group.add_command(transfer.rebuild)
datasets.dataset.add_command(origins.sources)
for command in (*fleet.COMMANDS, tables.changes, tables.query, tables.flight):
    ingestion.ingest.add_command(command)
ingestion.ingest.add_command(auditing.audit)


def main() -> None:
    """Run the command line: exit code 0, 1 for an error, 2 for wrong usage."""
    try:
        code = cli.main(prog_name="featureline", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except EXPECTED_ERRORS as error:
        click.echo(f"featureline: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output is gone; point stdout elsewhere so that exit does not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"featureline: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
