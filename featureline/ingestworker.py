"""The process of one worker of `featureline ingest run`: little more than the pipeline itself.

Its one argument is the form of the lines it logs.
"""

from __future__ import annotations

import logging
import signal
import sys

from featureline import logs
from ingest.fleet.worker import serve

__all__ = ["main"]


def main() -> int:
    """Be the worker; return the exit code of the process."""
    logs.configure(sys.argv[1], level=logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the fleet's
    with open(0, "rb", buffering=0) as requests, open(1, "wb", buffering=0) as replies:
        return serve(requests, replies)


if __name__ == "__main__":
    sys.exit(main())
