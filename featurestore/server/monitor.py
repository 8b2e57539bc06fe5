"""Looking at the stores regularly: gauges for the metrics page, checks for readiness."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from featurestore import record
from featurestore.embedded import EmbeddedStore
from featurestore.errors import FeatureStoreError
from featurestore.registry import Registered
from featurestore.server.metrics import Metrics
from featurestore.server.snapshot import Reports, Snapshot

__all__ = ["MIN_FREE_BYTES", "Monitor"]

MIN_FREE_BYTES: Final = 64 << 20
COUNTED: Final = 20_000
_EVERY_S: Final = 1.0
_STORE_EVERY_S: Final = 3.0
_GROUPS_AT_ONCE: Final = 200
_NO_GROUP: Final = 0
_STATM: Final = Path("/proc/self/statm")
_log = logging.getLogger(__name__)


@final
class Monitor:
    """A thread that samples the stores of a worker, and writes its counts where others sum them.

    Once a second it makes the checks and writes the counts; every three seconds it looks at the
    outbox and the sizes. One look is bounded, however much waits and however many groups there are.

    Args:
        metrics: what the worker counts; gauges go there too.
        store: the stores; opened by the caller, and closed after `stop`.
        reports: where to write snapshots; None: the page is made in this process.
        min_free_bytes: a disk with less is not ready.
        now_us: the clock, µs since the epoch.
    """

    def __init__(
        self,
        metrics: Metrics,
        store: EmbeddedStore,
        *,
        reports: Reports | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        now_us: Callable[[], int] = record.now_us,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._reports = reports
        self._min_free_bytes = min_free_bytes
        self._now_us = now_us
        self._checks: dict[str, str] = {}
        self._checked = time.monotonic()
        self._group_turn = 0
        self._report_fails = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Make the first checks, then go on in the background."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """End, with one last report; the caller still has the store open."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._report()

    def snapshot(self) -> Snapshot:
        """Return the counts as they are now, with the latest checks; taken when these were made."""
        return replace(self._metrics.snapshot(checks=self._checks), taken=self._checked)

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(_EVERY_S):
            try:
                due = time.monotonic() - looked >= _STORE_EVERY_S
                if due:
                    looked = time.monotonic()
                self._look(store_too=due)
            except Exception:  # noqa: BLE001  # the thread's outermost frame: it must go on
                _log.exception("looking at the stores failed")

    def _look(self, *, store_too: bool = True) -> None:
        self._checks = self.check()
        self._checked = time.monotonic()
        self._look_at_process()
        if store_too and not self._checks["online"] and not self._checks["registry"]:
            try:
                self.look_at_store()
            except (FeatureStoreError, OSError) as error:
                _log.warning("looking at the store: %s", error)
        self._report()

    def _report(self) -> None:
        if self._reports is None:
            return
        try:
            self._reports.write(self.snapshot())
            self._report_fails = False
        except OSError as error:
            if not self._report_fails:  # once, not every second
                _log.warning("the counts of this worker cannot be told: %s", error)
            self._report_fails = True

    def check(self) -> dict[str, str]:
        """Return by name what is wrong, or an empty text: `online`, `registry`, `disk`."""
        return {
            "online": _problem(self._check_online),
            "registry": _problem(self._store.registry.current),
            "disk": _problem(self._check_disk),
        }

    def look_at_store(self) -> None:
        """Set the gauges of the outbox and the online store."""
        groups = self._store.registry.list()
        self._metrics.forget_groups({entry.group.name: entry for entry in groups})
        # Some groups at a time, in turn.
        first = self._group_turn if self._group_turn < len(groups) else 0
        self._group_turn = first + _GROUPS_AT_ONCE
        self._look_at_outbox(groups[first : first + _GROUPS_AT_ONCE], of=len(groups))
        usage = self._store.online.usage()
        gauge = self._metrics.gauge
        gauge("featureline_online_records", usage.records)
        gauge("featureline_online_used_bytes", usage.used_bytes)
        gauge("featureline_online_file_bytes", usage.file_bytes)
        gauge("featureline_online_limit_bytes", usage.limit_bytes)
        gauge("featureline_online_readers", usage.readers)
        gauge("featureline_disk_free_bytes", shutil.disk_usage(self._store.home).free)

    def _look_at_outbox(self, groups: list[Registered], *, of: int) -> None:
        outbox = self._store.online.outbox
        waiting = outbox.pending()
        self._metrics.gauge("featureline_outbox_records", waiting)
        now = self._now_us()
        counts: dict[str, int] = {}
        ages: dict[str, float] = {}
        for entry in groups:
            name = entry.group.name
            oldest = outbox.read(entry.number, after=0, limit=1) if waiting else ()
            ages[name] = max(0.0, (now - oldest[0].invocation_us) / 1e6) if oldest else 0.0
            counts[name] = outbox.pending(entry.number, limit=COUNTED) if oldest else 0
        capped = [name for name, count in counts.items() if count == COUNTED]
        if len(capped) == 1 and of == len(groups):
            # What the other groups have is known: the rest is this one's.
            others = sum(counts.values()) - COUNTED
            counts[capped[0]] = max(COUNTED, waiting - others)
        for name, count in counts.items():
            self._metrics.outbox(name, count, ages[name])

    def _look_at_process(self) -> None:
        worker = str(os.getpid())
        self._metrics.counter("featureline_worker_cpu_seconds_total", time.process_time(), worker)
        if _STATM.exists():
            pages = int(_STATM.read_text(encoding="ascii").split()[1])
            resident = pages * os.sysconf("SC_PAGE_SIZE")
            self._metrics.gauge("featureline_worker_resident_bytes", resident, worker)

    def _check_online(self) -> None:
        self._store.online.get(_NO_GROUP, [b"readiness"])
        usage = self._store.online.usage()
        folder = self._store.home / "online"
        if usage.file_bytes is not None and not folder.is_dir():
            # What is mapped still answers, but nobody will find it again.
            raise OSError(f"the folder {folder} is gone: restore a backup")
        if usage.used_bytes is not None and usage.limit_bytes is not None:
            left = usage.limit_bytes - usage.used_bytes
            # A transaction needs some room for the pages it changes.
            if left < min(self._min_free_bytes, usage.limit_bytes // 10):
                raise OSError(
                    f"{left:,} bytes are left below its size limit of {usage.limit_bytes:,}: flush "
                    f"the outbox, delete records, or raise the limit"
                )

    def _check_disk(self) -> None:
        home = self._store.home
        if not home.is_dir():
            raise OSError(f"the home {home} is gone")
        if not os.access(home, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OSError(f"the home {home} cannot be written")
        free = shutil.disk_usage(home).free
        if free < self._min_free_bytes:
            raise OSError(
                f"the disk of {home} has {free:,} bytes free, expected at least "
                f"{self._min_free_bytes:,}: free space"
            )


def _problem(check: Callable[[], object]) -> str:
    try:
        check()
    except (FeatureStoreError, OSError) as error:
        return str(error) or type(error).__name__
    return ""
