"""Where a home is, and the store of it."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from featurestore.embedded.store import EmbeddedStore
from featurestore.errors import StoreUnavailable
from featurestore.online import open_online

__all__ = ["open_store"]

_UNTAKEN_BY_DELTA: Final = re.compile(r"[\[\]\\^|]|%[0-9A-Fa-f]{2}")


def open_store(home: str | Path | None = None, *, online: str | None = None) -> EmbeddedStore:
    """Open the store in a home folder, making it when absent.

    Several processes may have one home open at once. A home remembers its online store, so that
    `online` need be given only once, and again when the login changes.

    Args:
        home: default `$FEATURELINE_HOME`, else `./.featureline`.
        online: URL of the online store in Redis or Valkey (`redis://…`, `rediss://…` or
            `redis+cluster://…`, see `featurestore.online.RedisUrl`); default
            `$FEATURELINE_ONLINE`, else the one that the home remembers, at first LMDB in it.

    Raises:
        StoreCorrupt: a file in the folder is damaged or belongs to another program.
        StoreUnavailable: the folder cannot be opened, or the Delta library cannot take its name;
            the home has another online store, or that one cannot be reached.
        InvalidRequest: the URL has another form.
    """
    chosen = Path(home or os.environ.get("FEATURELINE_HOME") or ".featureline").resolve()
    untaken = _UNTAKEN_BY_DELTA.search(str(chosen))
    if untaken is not None:
        raise StoreUnavailable(
            f"the home {chosen} cannot be opened: the Delta library takes no {untaken.group()!r} "
            f"in a path; choose another folder"
        )
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"the home {chosen} cannot be opened: {error.strerror}; choose a folder this process "
            f"may write to"
        ) from error
    url = online or os.environ.get("FEATURELINE_ONLINE") or None
    with ExitStack() as opened:
        engine = None if url is None else opened.enter_context(closing(open_online(chosen, url)))
        store = EmbeddedStore(chosen, online=engine)
        opened.pop_all()
    return store
