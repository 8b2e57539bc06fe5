"""Garbage of the home that is served, collected for callers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection as Several
from typing import final

import lineage
from featureline.collecting import collect, plan_collection
from featurestore.embedded import EmbeddedStore
from featurestore.errors import InvalidRequest
from featurestore.server.answer import CALLER
from lineage.collection import KINDS, Collection, Collects

__all__ = ["HomeCollector", "caller_name"]


def caller_name() -> str | None:
    """The principal whose call is answered; None while nobody is asked who they are."""
    caller = CALLER.get()
    return None if caller is None else str(caller.principal)


@final
class HomeCollector(Collects):
    """Collects the garbage of one home; the caller of the call is recorded with what went.

    Args:
        store: the home.
    """

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    def __call__(
        self, *, apply: bool, keep: Several[str], older_than: dt.timedelta, kinds: Several[str]
    ) -> Collection:
        """Say what may go, or delete it; see `lineage.collection.Collects`."""

        def plan() -> Collection:
            return plan_collection(
                self._store, keep=keep, older_than=older_than, kinds=kinds or KINDS
            )

        try:
            if not apply:
                return plan()
            return collect(self._store, plan, older_than=older_than, by=caller_name())
        except InvalidRequest as error:
            raise lineage.InvalidQuery(str(error)) from error
