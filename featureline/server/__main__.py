"""A worker under a supervisor, as a process.

Its only argument are its settings. The first line of its stdout says that it accepts calls, or why
it cannot.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from featureline import logs
from featureline.errors import EXPECTED_ERRORS
from featureline.server.settings import Settings
from featureline.server.worker import run_worker


def main() -> None:
    """Serve until told to end, or until the supervisor ends."""
    settings = Settings.from_json(sys.argv[1])
    logs.configure(settings.log_format)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    try:
        run_worker(settings, _report, shares_port=True)
    except EXPECTED_ERRORS as error:
        _report({"error": str(error)})
        sys.exit(1)


def _report(facts: Mapping[str, Any]) -> None:
    print(json.dumps(dict(facts)), flush=True)
    # The supervisor reads one line; whatever else somebody prints belongs into the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _end_with_supervisor() -> None:
    """End at once when the supervisor does: it holds the other end of our stdin."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
