"""`featureline lineage`: questions to the lineage graph, one module per subject."""

from __future__ import annotations

import click

from featureline.cli.lineage import (
    ask,
    checks,
    columns,
    copying,
    export,
    find,
    gc,
    impact,
    log,
    mark,
    openlineage,
    walk,
    watch,
)

__all__ = ["lineage_commands"]


@click.group(name="lineage")
def lineage_commands() -> None:
    """Ask where something comes from and what it reaches.

    START, and A and B, are an entity's uid, another name of it, its name, a feature group, a
    training job, TYPE:NAME, the digest of a model or the fingerprint of a dataset, or the first 6
    or more characters of one. A name that stands for several is refused, and they are listed.
    """


for command in (
    walk.query,
    walk.show,
    export.export,
    export.imports,
    ask.paths,
    ask.ancestors,
    ask.diff,
    ask.explain,
    columns.columns,
    columns.features,
    columns.models,
    find.find,
    find.runs,
    mark.tag,
    impact.impact,
    impact.records,
    impact.replay,
    copying.copy,
    copying.use,
    copying.replay_spool,
    openlineage.emit_command,
    log.log,
    log.stats,
    watch.watch,
    checks.verify,
    checks.checkpoint,
    checks.prove,
    checks.salvage,
    checks.rebuild,
    gc.collect_garbage,
):
    lineage_commands.add_command(command)

export.imports.add_command(openlineage.import_command)
