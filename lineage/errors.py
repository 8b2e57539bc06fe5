"""Every error a caller of the lineage package can catch.

LineageError
├── InvalidEntity        INVALID_ARGUMENT     (also a ValueError)
├── InvalidAssociation   INVALID_ARGUMENT     (also a ValueError)
├── InvalidQuery         INVALID_ARGUMENT     (also a ValueError)
├── InvalidEvent         INVALID_ARGUMENT     (also a ValueError) no event of OpenLineage
├── EntityNotFound       NOT_FOUND            (also a LookupError)
├── EntityConflict       FAILED_PRECONDITION  the uid stands for something else
├── InvalidLog           FAILED_PRECONDITION  events do not follow each other
├── NotALineageFile      FAILED_PRECONDITION  the path holds another kind of file
├── InvalidImport        INVALID_ARGUMENT     (also a ValueError)
├── InvalidProof         INVALID_ARGUMENT     (also a ValueError)
├── InvalidLogin         INVALID_ARGUMENT     (also a ValueError)
├── Unauthenticated      UNAUTHENTICATED      show a token that the server knows
├── AccessDenied         PERMISSION_DENIED    a policy must allow it
├── StoreClosed          FAILED_PRECONDITION  the graph was closed
├── StoreUnavailable     UNAVAILABLE          retry with backoff
├── StoreCorrupt         DATA_LOSS            restore from a backup
└── RecordingFailed      ABORTED              the job stops: its lineage cannot be written
"""

from __future__ import annotations

from typing import ClassVar


class LineageError(Exception):
    """Base of every error of this package; `code` is its gRPC status by name.

    `request_id` names the call in the server's logs, where the error came from a server.
    """

    code: ClassVar[str] = "INTERNAL"
    request_id: str = ""


class InvalidEntity(LineageError, ValueError):
    """An entity has a field that lineage cannot keep; the text names the field."""

    code = "INVALID_ARGUMENT"


class InvalidAssociation(LineageError, ValueError):
    """An association has an unknown type, equal ends, or two experiment entities as ends."""

    code = "INVALID_ARGUMENT"


class InvalidQuery(LineageError, ValueError):
    """A query asks for a direction, depth, kind or size that does not exist."""

    code = "INVALID_ARGUMENT"


class InvalidEvent(LineageError, ValueError):
    """An event of OpenLineage cannot be taken.

    Args:
        where: path of the field, such as `run.runId`; empty for the whole.
        expected: what should be there.
        got: what is.
        advice: what to do about it.
    """

    code = "INVALID_ARGUMENT"

    def __init__(self, where: str, expected: str, got: str, advice: str = "") -> None:
        place = f"{where}: " if where else ""
        super().__init__(f"{place}expected {expected}, got {got}{f'; {advice}' if advice else ''}")
        self.where = where
        self.expected = expected
        self.got = got


class InvalidImport(LineageError, ValueError):
    """A file or store to import from holds something else; the text says where and what."""

    code = "INVALID_ARGUMENT"


class InvalidProof(LineageError, ValueError):
    """A checkpoint, proof or key is something else, or does not hold; the text says which."""

    code = "INVALID_ARGUMENT"


class InvalidLogin(LineageError, ValueError):
    """A token or the files of TLS cannot be used; the text says which and why."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(LineageError):
    """The call carries no token, or one that is unknown, expired or revoked."""

    code = "UNAUTHENTICATED"


class AccessDenied(LineageError):
    """The caller may not do this.

    `principal` is who calls, `action` and `resource` what was asked, `statement` the policy
    statement that denies it, or None where none allows it.
    """

    code = "PERMISSION_DENIED"
    principal: str = ""
    action: str = ""
    resource: str = ""
    statement: str | None = None


class EntityNotFound(LineageError, LookupError):
    """No entity has this uid; `nearest` is the most similar uid there is, or None."""

    code = "NOT_FOUND"

    def __init__(self, uid: str, *, nearest: str | None = None) -> None:
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        super().__init__(f"entity {uid!r} does not exist{hint}")
        self.uid = uid
        self.nearest = nearest


class EntityConflict(LineageError):
    """The uid already stands for something else; entities keep kind and identity for good."""

    code = "FAILED_PRECONDITION"

    def __init__(self, uid: str, reason: str) -> None:
        super().__init__(f"entity {uid!r}: {reason}")
        self.uid = uid


class InvalidLog(LineageError):
    """Events do not follow the log that is to take them; the text names the first."""

    code = "FAILED_PRECONDITION"


class NotALineageFile(LineageError):
    """The path exists and holds something that this package did not write, or a newer form."""

    code = "FAILED_PRECONDITION"

    def __init__(self, path: str, found: str, remedy: str) -> None:
        super().__init__(f"{path}: expected a lineage file, found {found}; {remedy}")
        self.path = path


class StoreClosed(LineageError):
    """The graph was closed; open it again with `lineage.open`."""

    code = "FAILED_PRECONDITION"

    def __init__(self) -> None:
        super().__init__("the lineage graph is closed; open it again with lineage.open(path)")


class StoreUnavailable(LineageError):
    """The store cannot be read or written now (disk full, no permission, locked, server away)."""

    code = "UNAVAILABLE"


class StoreCorrupt(LineageError):
    """The store's file is damaged; `path` names it."""

    code = "DATA_LOSS"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path}: the lineage file is damaged ({reason}); stop its writers, keep a copy of "
            f"the file, and restore it from a backup"
        )
        self.path = path


class RecordingFailed(LineageError):
    """A job could not record its lineage, so it fails; the cause is chained.

    The message names the job and the step that was not recorded.
    """

    code = "ABORTED"
