"""Rules for what a request may ask of a feature group, and the errors of what it may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from featurestore import eventtime
from featurestore.errors import FeatureStoreError, InvalidRecord, InvalidRequest
from featurestore.online import Write
from featurestore.registry import Registered, named
from featurestore.schema import FeatureGroup, Store
from featurestore.store import WriteError

__all__ = [
    "check_readable",
    "readable",
    "refused_delete",
    "target_stores",
    "targets",
    "write_error",
]


def readable(groups: Mapping[str, Registered], name: str, features: Sequence[str]) -> Registered:
    """Return a group whose records can be read online, with the asked features known.

    Raises:
        FeatureGroupNotFound, FeatureNotFound: what the request names does not exist.
        InvalidRequest: the group has no online store.
    """
    entry = named(groups, name)
    check_readable(entry.group, features)
    return entry


def check_readable(group: FeatureGroup, features: Sequence[str]) -> None:
    """Check that a group's records can be read online, and has the asked features.

    Raises:
        FeatureNotFound: the group lacks a feature.
        InvalidRequest: the group has no online store.
    """
    if not group.online:
        raise InvalidRequest(
            f"{group.name}: the group has no online store to read from; build a dataset instead"
        )
    for feature in features:
        group.feature_type(feature)


def targets(group: FeatureGroup, stores: tuple[str, ...] | None) -> tuple[bool, bool]:
    """Return whether a write goes to the online and to the offline store.

    Raises:
        InvalidRecord: one of them is not enabled for the group, or has another name.
    """
    if stores is None:
        return group.online, group.offline
    wanted = target_stores(group.name, stores)
    for store, has in ((Store.ONLINE, group.online), (Store.OFFLINE, group.offline)):
        if store in wanted and not has:
            raise InvalidRecord(
                f"{group.name}: target store {store.value} is not enabled for the group",
                group=group.name,
            )
    return Store.ONLINE in wanted, Store.OFFLINE in wanted


def target_stores(group: str, stores: Sequence[str]) -> set[Store]:
    """Read the stores a record shall go to.

    Raises:
        InvalidRecord: none, or another name than the two.
    """
    try:
        wanted = {Store(store) for store in stores}
    except ValueError:
        wanted = set()
    if not wanted:
        raise InvalidRecord(
            f"{group}: target stores: expected one or both of "
            f"{', '.join(store.value for store in Store)}, got {tuple(stores)!r}",
            group=group,
        )
    return wanted


def write_error(index: int, total: int, error: FeatureStoreError) -> WriteError:
    """Say which record of a batch was refused and why."""
    return WriteError(
        index, type(error).__name__, f"{error.message} (record {index + 1} of {total})"
    )


def refused_delete(entry: Registered, write: Write) -> InvalidRecord:
    """Build the error of a hard delete that is not later than the stored record."""
    return InvalidRecord(
        f"{entry.group.name}: a hard delete of {write.identifier.decode()!r} must have a later "
        f"event time than the stored record, got {eventtime.format_iso(write.event_time_us)}",
        group=entry.group.name,
        feature=entry.group.event_time,
    )
