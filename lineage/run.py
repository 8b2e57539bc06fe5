"""Runs: the single executions of a job, of which the job's entity shows the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from lineage.entity import JSON, End, check_storable, plain_json
from lineage.errors import InvalidEntity

_MAX_TIME_US = 2**63 - 1


@final
@dataclass(frozen=True)
class Run:
    """One execution of a job: an attempt, with its own times, state and outcome.

    Recorded again under the same uid it is merged: what is given replaces, what is empty
    stays, and properties are merged by name.

    Args:
        uid: names the run, such as a UUID.
        entity: the job; as read back, its uid.
        state: such as InProgress, Completed, Failed.
        started_us: UTC microseconds, or None when unknown.
        ended_us: UTC microseconds, or None while it runs.
        properties: parameters, metrics, code and environment of this execution.

    Raises:
        InvalidEntity: a field is missing, too long, or not JSON.
    """

    uid: str
    entity: End
    state: str = ""
    started_us: int | None = None
    ended_us: int | None = None
    properties: Mapping[str, JSON] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, value, limit in (("uid", self.uid, 512), ("state", self.state, 64)):
            if not isinstance(value, str) or len(value) > limit or not (value or name == "state"):
                raise InvalidEntity(
                    f"run {self.uid!r:.100}: {name}: expected text of at most {limit} characters, "
                    f"got {value!r:.200}"
                )
            check_storable(value, f"run {self.uid!a:.100}: {name}")
        for name in ("started_us", "ended_us"):
            time = getattr(self, name)
            if time is not None and (isinstance(time, bool) or not isinstance(time, int)):
                raise InvalidEntity(
                    f"run {self.uid!r}: {name}: expected microseconds or None, got {time!r}"
                )
            if time is not None and not -_MAX_TIME_US <= time <= _MAX_TIME_US:
                raise InvalidEntity(
                    f"run {self.uid!r}: {name}: expected at most 2^63 - 1 microseconds, got one "
                    f"of {time.bit_length()} bits"
                )
        where = f"run {self.uid!r}: properties"
        object.__setattr__(self, "properties", plain_json(self.properties, where))


def merged_run(known: Run | None, later: Run) -> Run:
    """The run after one more thing was said of it."""
    if known is None:
        return later
    return Run(
        later.uid,
        known.entity,
        later.state or known.state,
        known.started_us if later.started_us is None else later.started_us,
        known.ended_us if later.ended_us is None else later.ended_us,
        {**known.properties, **later.properties},
    )
