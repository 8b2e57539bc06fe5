"""What the brokers refuse, as an error that says what to do."""

from __future__ import annotations

from typing import Final

from ingest.errors import IngestError, PositionLost, SourceDenied, SourceUnavailable
from ingest.sources.kafka_link import FaultKind, KafkaFault, LinkSettings

__all__ = ["lost", "refused", "unavailable"]

_DENIALS: Final = frozenset(
    {
        FaultKind.TLS,
        FaultKind.NO_LOGIN,
        FaultKind.MECHANISM,
        FaultKind.LOGIN,
        FaultKind.TOPIC_RIGHT,
        FaultKind.GROUP_RIGHT,
        FaultKind.CLUSTER_RIGHT,
    }
)


def unavailable(settings: LinkSettings, how_long: str) -> SourceUnavailable:
    """Make the error of brokers that do not answer."""
    return SourceUnavailable(
        f"no Kafka broker answers at {','.join(settings.servers)} {how_long}; check the address, "
        f"that the broker runs and advertises an address that can be reached from here, and that "
        f"topic {settings.topic!r} is still there"
    )


def lost(settings: LinkSettings, partition: int, position: int, end: int) -> PositionLost:
    """Make the error of a partition that ends before the stored position."""
    return PositionLost(
        f"{settings.topic} partition {partition}: the store stands at {position}, but the broker "
        f"has no more than {end}: the topic was made anew, or the broker lost what it had; read "
        f"it under another consumer group",
        partition=str(partition),
        position=position,
    )


def refused(settings: LinkSettings, fault: KafkaFault) -> IngestError:
    """Make the error of anything else that the brokers say no to."""
    security = settings.security
    topic, group = settings.topic, settings.group
    if security.username:
        login = f"check username and password of {security.username!r} for {security.mechanism}"
    else:
        login = f"check the token for {security.mechanism}"
    advice = {
        FaultKind.LOGIN: login,
        FaultKind.TOPIC_RIGHT: (
            f"allow this client the operation {fault.operation} on topic {topic!r}"
        ),
        FaultKind.GROUP_RIGHT: (
            f"allow this client the operation Read on group {group!r}, or use assignment='all', "
            f"which needs no group"
        ),
        FaultKind.CLUSTER_RIGHT: (
            f"allow this client the operation {fault.operation} on the cluster"
        ),
        FaultKind.CODEC: (
            "install what its compression needs: pip install 'featureline[compression]'"
        ),
        FaultKind.SETTING: "check client_settings against the library's names",
    }.get(fault.kind)
    error = SourceDenied if fault.kind in _DENIALS else IngestError
    return error(
        f"Kafka at {','.join(settings.servers)}, topic {topic!r}: {fault.kind.value}: {fault.text}"
        + (f"; {advice}" if advice else "")
    )
