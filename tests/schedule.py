"""Which files of tests come first, and which share a process, where several processes run.

A process runs whole files. Long ones come first, so that none is left over at the end while the
other processes have nothing to do; those that wait for most of their time, for brokers and for
drains, take turns with those that compute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from xdist.scheduler import LoadFileScheduling

__all__ = ["ByFile", "place"]

_LONG: Final = (
    "end_to_end/test_demo.py",
    "ingest/test_kafka.py",
    "end_to_end/test_kill_server.py",
    "server/test_drain.py",
    "featurestore/window/test_three_ways.py",
    "ingest/test_kill.py",
    "contracts/test_online_store.py",
    "ingest/test_fleet.py",
    "featurestore/test_spark.py",
    "end_to_end/test_redis_server.py",
    "properties/test_online_state_machine.py",
    "training/test_worlds.py",
    "featurestore/test_flush_kill.py",
    "ingest/test_faults.py",
    "end_to_end/test_command_line.py",
    "server/test_overload.py",
    "training/transforms/test_jobs.py",
    "training/algorithms/test_xgboost_distributed.py",
    "training/test_replay.py",
    "featurestore/test_backup.py",
    "ingest/test_remote.py",
    "featurestore/test_disk_full.py",
    "server/test_same_verbs.py",
    "lineage/test_postgres.py",
    "training/test_runner.py",
    "server/test_same_datasets.py",
    "training/test_orphans.py",
    "server/test_generated_client.py",
    "featurestore/test_damaged_home.py",
    "featureline/test_every_job.py",
    "training/test_feed.py",
    "docs/test_training_jobs_page.py",
    "featureline/test_benchmarks.py",
    "featurestore/test_offline_s3.py",
    "docs/test_batch_transform_page.py",
    "properties/test_offline_state_machine.py",
    "training/test_continue.py",
    "training/transforms/test_groups.py",
    "ingest/test_fleet_commands.py",
    "end_to_end/test_migrate_server.py",
)
_TESTS: Final = Path(__file__).parent
_PLACES: Final = {_TESTS / name: number for number, name in enumerate(_LONG)}
# What each process that needs it would start once more: its files go to one.
_TOGETHER: Final = {
    # Spark.
    "tests/docs/test_datasets_page.py": "tests/featurestore/test_spark.py",
    # Chromium.
    "tests/lineage/test_render_html.py": "tests/lineage/test_page.py",
    "tests/server/test_tables.py": "tests/lineage/test_page.py",
}


def place(path: Path) -> int:
    """Where a file stands in the order; all short ones come last, as they were."""
    return _PLACES.get(path, len(_PLACES))


class ByFile(LoadFileScheduling):
    """Whole files in the order of the tests; the files of one group as one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return _TOGETHER.get(file, file)
