"""The HTTP listener for operators: /metrics, /healthz and /readyz."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

from featureline.pages import Pages
from featurestore.server.snapshot import STALE_S, Snapshot, page

__all__ = ["Probe", "readiness"]

_log = logging.getLogger(__name__)
_CACHE_S: Final = 0.2


def readiness(
    snapshots: Sequence[Snapshot], *, workers: int = 1, draining: bool = False
) -> dict[str, Any]:
    """Say whether a server should get calls, and what each check found.

    Args:
        snapshots: the latest of every worker of the run, also of those that are gone.
        workers: how many there should be; one that lives is enough.
        draining: the server is ending.

    Returns:
        `{"ready": bool, "workers": int, "checks": {name: {"ok": bool, "detail": str}}}`. A check
        of a store holds when it holds in every living worker.

    >>> readiness([], draining=True)["checks"]["draining"]
    {'ok': False, 'detail': 'the server is shutting down'}
    """
    living = [snapshot for snapshot in snapshots if snapshot.age_s() <= STALE_S]
    problems: dict[str, str] = {"draining": "the server is shutting down" if draining else ""}
    if living:
        problems["workers"] = ""
    elif snapshots:
        age = min(snapshot.age_s() for snapshot in snapshots)
        problems["workers"] = (
            f"no worker has looked at its stores for {age:.0f} s, expected every second: it is "
            f"gone, or a store does not answer"
        )
    else:
        problems["workers"] = "no worker has started yet"
    for snapshot in living:
        for name, problem in snapshot.checks.items():
            if problem or name not in problems:
                problems[name] = problem
    checks = {
        name: {"ok": not problem, "detail": problem or "ok"} for name, problem in problems.items()
    }
    checks["workers"]["detail"] = problems["workers"] or f"{len(living)} of {workers} report"
    return {
        "ready": not any(problems.values()),
        "workers": len(living),
        "checks": checks,
    }


@final
class Probe:
    """Serves the pages on a port of its own, in threads, apart from the calls.

    /metrics has what `featurestore.server.snapshot.page` writes. /healthz answers 200 while the
    process lives. /readyz answers 200, or 503 when the server should get no calls; its JSON body
    names each check. There is no access control: listen where only operators reach.

    Args:
        address: `host:port`; port 0 takes a free one.
        read: returns the latest snapshot of every worker: `Reports.read`, or of one worker in this
            process `lambda: [monitor.snapshot()]`.
        workers: how many there should be.
        home: where `featureline top` finds the address; None: nowhere.

    Raises:
        StoreUnavailable: the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        read: Callable[[], Sequence[Snapshot]],
        *,
        workers: int = 1,
        home: Path | None = None,
    ) -> None:
        self._draining = False
        self._workers = workers
        self._read = read
        self._latest: tuple[float, Sequence[Snapshot]] = (-_CACHE_S, ())
        self._lock = threading.Lock()
        self._pages = Pages(address, self.answer)
        self.port = self._pages.port
        self.address = self._pages.address
        self._note = None if home is None else home / "run" / f"probe-{os.getpid()}.json"

    def start(self) -> None:
        """Answer from now on."""
        self._pages.start()
        if self._note is not None:
            try:
                self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._note.write_text(json.dumps({"metrics": self.address}), encoding="utf-8")
            except OSError as error:
                _log.warning("featureline top will not find this server by its home: %s", error)

    def drain(self) -> None:
        """Say that no more calls are wanted; /metrics and /healthz go on."""
        self._draining = True

    def stop(self) -> None:
        """End; may be called twice, and before `start`."""
        self._pages.stop()
        if self._note is not None:
            self._note.unlink(missing_ok=True)

    def answer(self, path: str, accept: str) -> tuple[int, bytes, str]:
        """Return status, body and content type of a page."""
        if path == "/metrics":
            body, content_type = page(self._snapshots(), accept)
            return 200, body, content_type
        if path == "/healthz":
            return 200, _json({"alive": True, "pid": os.getpid()}), "application/json"
        if path == "/readyz":
            found = readiness(self._snapshots(), workers=self._workers, draining=self._draining)
            return 200 if found["ready"] else 503, _json(found), "application/json"
        pages = "/metrics, /healthz or /readyz"
        return 404, f"no such page: expected {pages}\n".encode(), "text/plain; charset=utf-8"

    def _snapshots(self) -> Sequence[Snapshot]:
        # Many who ask at once share one look.
        with self._lock:
            read_at, snapshots = self._latest
            if time.monotonic() - read_at >= _CACHE_S:
                snapshots = self._read()
                self._latest = (time.monotonic(), snapshots)
            return snapshots


def _json(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
