"""Every error a caller can catch.

FeatureStoreError
├── InvalidRequest            INVALID_ARGUMENT     (also a ValueError)
│   ├── InvalidFeatureGroup   INVALID_ARGUMENT     a definition breaks a rule
│   ├── InvalidRecord         INVALID_ARGUMENT     a record does not fit its group
│   └── InvalidSpine          INVALID_ARGUMENT     a spine cannot be joined as asked
├── FeatureGroupNotFound      NOT_FOUND            (also a LookupError)
├── FeatureNotFound           NOT_FOUND            (also a LookupError)
├── RecordNotFound            NOT_FOUND            (also a LookupError)
├── DatasetNotFound           NOT_FOUND            (also a LookupError)
├── FeatureGroupExists        ALREADY_EXISTS
├── RecordConflict            FAILED_PRECONDITION  the stored record is newer than the update
├── DatasetChanged            FAILED_PRECONDITION  an input of a dataset is gone or not the same
├── PositionConflict          ABORTED              read the stored position, go on from there
├── Throttled                 RESOURCE_EXHAUSTED   nothing was done; retry after `retry_after_s`
├── Overloaded                RESOURCE_EXHAUSTED   nothing was done; retry after `retry_after_s`
├── Unauthenticated           UNAUTHENTICATED      send a valid token
├── AccessDenied              PERMISSION_DENIED    no policy allows it, or one denies it
├── StoreFull                 RESOURCE_EXHAUSTED   nothing was written; free space, then retry
├── StoreUnavailable          UNAVAILABLE          retry with backoff
├── StoreCorrupt              DATA_LOSS            restore or rebuild before going on
└── InternalError             INTERNAL             a fault of the server; its log has the traceback

The same class is raised embedded and over gRPC: the server sends the class name and the facts as
trailing metadata, the client raises it again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

__all__ = [
    "AccessDenied",
    "DatasetChanged",
    "DatasetNotFound",
    "FeatureGroupExists",
    "FeatureGroupNotFound",
    "FeatureNotFound",
    "FeatureStoreError",
    "InternalError",
    "InvalidFeatureGroup",
    "InvalidRecord",
    "InvalidRequest",
    "InvalidSpine",
    "Overloaded",
    "PositionConflict",
    "RecordConflict",
    "RecordNotFound",
    "StoreCorrupt",
    "StoreFull",
    "StoreUnavailable",
    "Throttled",
    "Unauthenticated",
    "nearest",
]


_MAX_COMPARED: Final = 200


class FeatureStoreError(Exception):
    """Base of all errors of the feature store.

    `code` is the gRPC status by name. `facts` are the error's attributes as JSON values: what
    crosses the wire beside the message. Errors of a call to a server have the fact `request_id`:
    its logs name the call by it.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts: dict[str, object] = facts

    def __getattr__(self, name: str) -> object:
        # Facts read as attributes: `error.feature`, `error.stored`.
        facts: dict[str, object] = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.facts))


class InvalidRequest(FeatureStoreError, ValueError):
    """A request breaks a rule that no retry can mend."""

    code = "INVALID_ARGUMENT"


class InvalidFeatureGroup(InvalidRequest):
    """A feature group's definition breaks a rule."""


class InvalidRecord(InvalidRequest):
    """A record does not fit its feature group.

    Facts: `group`, `feature` (or None), `expected`, `got`; `index` when the record was one of a
    batch.
    """


class InvalidSpine(InvalidRequest):
    """A spine cannot be joined as asked: a column is missing or has the wrong type."""


class FeatureGroupNotFound(FeatureStoreError, LookupError):
    """No feature group has this name. Fact: `group`."""

    code = "NOT_FOUND"

    @classmethod
    def named(cls, name: str, known: Iterable[str] = ()) -> FeatureGroupNotFound:
        """Build the error for one name, with the nearest known name as a hint."""
        return cls(f"feature group {name!r} does not exist{nearest(name, known)}", group=name)


class FeatureNotFound(FeatureStoreError, LookupError):
    """The feature group has no feature of this name. Facts: `group`, `feature`."""

    code = "NOT_FOUND"

    @classmethod
    def named(cls, group: str, feature: str, known: Iterable[str] = ()) -> FeatureNotFound:
        """Build the error for one name, with the nearest known name as a hint."""
        return cls(
            f"feature group {group!r} has no feature {feature!r}{nearest(feature, known)}",
            group=group,
            feature=feature,
        )


class DatasetNotFound(FeatureStoreError, LookupError):
    """No dataset has this fingerprint. Fact: `fingerprint`."""

    code = "NOT_FOUND"


class DatasetChanged(FeatureStoreError):
    """A dataset cannot be built again. Facts: `fingerprint`, `input` (what is gone or changed)."""

    code = "FAILED_PRECONDITION"


class RecordNotFound(FeatureStoreError, LookupError):
    """There is no readable record to update. Facts: `group`, `identifier`."""

    code = "NOT_FOUND"


class RecordConflict(FeatureStoreError):
    """An update's event time is older than the stored record's. Facts: `group`, `identifier`."""

    code = "FAILED_PRECONDITION"


class Throttled(FeatureStoreError):
    """The group's provisioned throughput is used up; nothing was done.

    Facts: `group`, `retry_after_s`.
    """

    code = "RESOURCE_EXHAUSTED"


class Overloaded(FeatureStoreError):
    """The server has more work waiting than it takes; nothing was done. Fact: `retry_after_s`."""

    code = "RESOURCE_EXHAUSTED"


class Unauthenticated(FeatureStoreError):
    """The call carries no token, or one that is unknown, expired or revoked."""

    code = "UNAUTHENTICATED"


class AccessDenied(FeatureStoreError):
    """The caller may not do this. Facts: `principal`, `action`, `resource`, `statement`."""

    code = "PERMISSION_DENIED"


class FeatureGroupExists(FeatureStoreError):
    """A feature group of this name exists already. Fact: `group`."""

    code = "ALREADY_EXISTS"


class PositionConflict(FeatureStoreError):
    """A batch does not start where its source's stored position stands; nothing was written.

    Facts: `source`, `stored` (partition → next position).
    """

    code = "ABORTED"


class StoreFull(FeatureStoreError):
    """The disk or the store's size limit is reached; nothing of the call was written."""

    code = "RESOURCE_EXHAUSTED"


class StoreUnavailable(FeatureStoreError):
    """The store cannot be reached or is closed."""

    code = "UNAVAILABLE"


class StoreCorrupt(FeatureStoreError):
    """A store's file is damaged or belongs to another program."""

    code = "DATA_LOSS"


class InternalError(FeatureStoreError):
    """A fault inside the server that is not the caller's."""

    code = "INTERNAL"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint `; did you mean 'x'?` with the nearest known name, or an empty string.

    >>> nearest("wether", ["weather", "planes"])
    "; did you mean 'weather'?"
    """
    if len(name) > _MAX_COMPARED:  # comparing takes time with the length
        return ""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def _rebuild(
    cls: type[FeatureStoreError], message: str, facts: Mapping[str, object]
) -> FeatureStoreError:
    return cls(message, **facts)
