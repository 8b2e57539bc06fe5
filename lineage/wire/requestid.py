"""The id of a call: its client makes it, and the logs of both ends name it."""

from __future__ import annotations

import itertools
import os
import secrets
from contextvars import ContextVar
from typing import Final

__all__ = ["REQUEST_ID_KEY", "new_request_id", "request_id"]

REQUEST_ID_KEY: Final = "x-request-id"
"""The metadata key by which a client names its call."""

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Set in the context of a call that is answered; threads of `asyncio.to_thread` inherit it."""

_process: Final = secrets.token_hex(4)
_numbers: Final = itertools.count(1)


def new_request_id() -> str:
    """Return an id that no other call of any process has.

    Cheap enough for every call: random once, counted from there.

    >>> new_request_id() != new_request_id()
    True
    """
    return f"{_process}-{os.getpid():x}-{next(_numbers):x}"  # a fork inherits the random part
