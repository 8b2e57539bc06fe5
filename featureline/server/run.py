"""Starting a server from the command line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from featureline.server.settings import Settings
from featureline.server.supervisor import Supervisor
from featureline.server.worker import run_worker

__all__ = ["main_logging", "serve"]


def serve(settings: Settings) -> None:
    """Run a server until SIGTERM or SIGINT, then let calls in flight finish.

    Prints one line of JSON on stdout when it accepts calls. A second signal ends it at once.

    Raises:
        FeatureStoreError: the home or the address cannot be opened.
    """

    def print_ready(facts: Mapping[str, Any]) -> None:
        about = {"workers": settings.workers, "pid": os.getpid()}
        print(json.dumps({"ready": True, **facts, **about}), flush=True)

    if settings.workers == 1:
        run_worker(settings, print_ready)
    else:
        asyncio.run(Supervisor(settings).run(print_ready))


def main_logging(level: int = logging.INFO) -> None:
    """Log to stderr, one line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
