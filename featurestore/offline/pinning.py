"""Versions of a table that stay readable however old they are: which can, and what they need."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final

from featurestore.errors import InvalidRequest
from featurestore.offline.delta import DeltaOfflineTable

__all__ = ["age_of_log", "age_of_oldest", "readable"]

_LOG_FILE: Final = re.compile(r"(\d{20})(\.json|\.checkpoint.*\.parquet)")


def readable(table: DeltaOfflineTable, versions: Iterable[int]) -> list[int]:
    """Leave out versions that cannot be read any more.

    Raises:
        StoreUnavailable: the table cannot be read.
    """
    found = []
    for version in versions:
        try:
            table.scan(version=version)
        except InvalidRequest:
            continue
        found.append(version)
    return found


def age_of_log(table: DeltaOfflineTable, version: int) -> dt.timedelta:
    """Say how old the oldest file of the log is that a version needs to be read.

    Those are its commit, and the commits before it back to a checkpoint.

    Raises:
        OSError: the log cannot be read.
    """
    files = []
    checkpoint = 0
    for name, modified in table.log_files():
        match = _LOG_FILE.fullmatch(name)
        if match is None or int(match[1]) > version:
            continue
        files.append((int(match[1]), modified))
        if match[2] != ".json":
            checkpoint = max(checkpoint, int(match[1]))
    now = dt.datetime.now(dt.UTC)
    return now - min((at for number, at in files if number >= checkpoint), default=now)


def age_of_oldest(table: DeltaOfflineTable) -> dt.timedelta:
    """Say how old the oldest file of the log is.

    Raises:
        OSError: the log cannot be read.
    """
    now = dt.datetime.now(dt.UTC)
    times = (at for name, at in table.log_files() if _LOG_FILE.fullmatch(name))
    return now - min(times, default=now)
