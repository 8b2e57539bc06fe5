"""Backfill and rebuild: what the offline table has, brought online.

Identifiers are taken in order, and after each slice the last one is noted in the home, so that a
killed run goes on behind it. What was settled before stays right meanwhile: puts and loads take
their own rows online.
"""

from __future__ import annotations

import shutil
from typing import Final

from featurestore.errors import InvalidRequest
from featurestore.journal import Journal
from featurestore.latest import latest_versions, slice_rows
from featurestore.load import FOLDER
from featurestore.loaded import BackfillReport, Progress
from featurestore.settle import Stores, remove_unknown, settle

__all__ = ["backfill", "rebuild_online"]

_UNKNOWN_ROW_BYTES: Final = 1_000


def backfill(stores: Stores, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
    """Bring what is newer offline online; see FeatureStore.backfill."""
    return _run(stores, group, "backfill", on_progress)


def rebuild_online(
    stores: Stores, group: str, *, on_progress: Progress | None = None
) -> BackfillReport:
    """Make the online store of a group from its offline table; see FeatureStore.rebuild_online."""
    return _run(stores, group, "rebuild", on_progress)


def _run(stores: Stores, group: str, verb: str, on_progress: Progress | None) -> BackfillReport:
    tell = on_progress or (lambda step, rows: None)
    entry = stores.registry.get(group)
    if not (entry.group.online and entry.group.offline):
        raise InvalidRequest(f"{group}: only a group with both stores has a {verb}")
    number = entry.number
    table = stores.table(entry)
    journal = Journal(stores.home / FOLDER / f"{verb}-{number}.json")
    spill = stores.home / FOLDER / f"{verb}-{number}.spilled"
    with stores.flusher.settling(number):
        noted = journal.read()
        resumed = noted.get("store_id") == stores.online.store_id
        if not resumed:
            noted = {
                "store_id": stores.online.store_id,
                "last": None,
                "identifiers": 0,
                "written": 0,
                "was_empty": not stores.online.scan(number, after=None, limit=1),
            }
        with stores.appending(entry) as (_, mark):
            snapshot = table.scan()
        # Behind its first mark a rebuild finds what it has written itself.
        noted["mark"] = mark = noted.get("mark", mark) if verb == "rebuild" else mark
        if snapshot is None:
            return BackfillReport(group, None, was_empty=noted["was_empty"])
        entry = stores.registry.get(group)
        journal.write(noted)
        stores.on_step("noted")
        rows = sum(known.rows or 0 for known in snapshot.statistics)
        size = sum(known.size_bytes for known in snapshot.statistics)
        try:
            for batch in latest_versions(
                entry.group,
                snapshot.files,
                snapshot.columns,
                spill=spill,
                slice_rows=slice_rows(rows, 4 * size or _UNKNOWN_ROW_BYTES * rows),
                after=noted["last"],
            ):
                noted["written"] += settle(
                    stores, entry, batch, mark=mark, replace=verb == "rebuild"
                )
                noted["identifiers"] += len(batch)
                noted["last"] = batch.column(entry.group.record_identifier)[-1].as_py()
                stores.on_step("settled")
                journal.write(noted)
                tell("online", noted["identifiers"])
            removed = remove_unknown(stores, entry, mark=mark) if verb == "rebuild" else 0
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        journal.remove()
    return BackfillReport(
        group,
        snapshot.version,
        noted["identifiers"],
        noted["written"],
        removed,
        resumed,
        noted["was_empty"],
    )
