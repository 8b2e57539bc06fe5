"""Channels of the clients: how large messages may be, what is tried again, who calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from featurestore.errors import (
    InvalidRequest,
)
from lineage.errors import InvalidLogin
from lineage.wire.channel import ClientTls, Login

__all__ = ["CHANNEL_OPTIONS", "MAX_MESSAGE_BYTES", "login", "open_channel"]

MAX_MESSAGE_BYTES: Final = 64 << 20
# Reads are tried again while the server restarts. Puts are not: a put whose reply was lost may
# have been stored, and a second one would be a second record offline. What the server refused for
# load was not stored, and is tried again when the server says so.
_RETRIED: Final = [
    {"service": "featurestore.v1.FeatureStoreRuntime", "method": method}
    for method in ("GetRecord", "BatchGetRecord", "ListRecords", "GetSourcePosition")
] + [
    {"service": "featurestore.v1.FeatureStore", "method": method}
    for method in (
        "DescribeFeatureGroup",
        "ListFeatureGroups",
        "DescribeFeatureMetadata",
        "Search",
        "DescribeDataset",
        "ListTableVersions",
        "GetRecordsAsOf",
    )
]
_RETRIED_ON_LOAD: Final = [
    {"service": "featurestore.v1.FeatureStoreRuntime", "method": method}
    for method in ("PutRecord", "BatchWriteRecord", "UpdateRecord", "DeleteRecord")
]
_RETRY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
}
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": _RETRIED,
                        "retryPolicy": _RETRY
                        | {
                            # A server that ends may leave a call as CANCELLED.
                            "retryableStatusCodes": [
                                "UNAVAILABLE",
                                "RESOURCE_EXHAUSTED",
                                "CANCELLED",
                            ]
                        },
                    },
                    {
                        "name": _RETRIED_ON_LOAD,
                        "retryPolicy": _RETRY | {"retryableStatusCodes": ["RESOURCE_EXHAUSTED"]},
                    },
                ]
            }
        ),
    ),
)


def login(token: str | None, tls: ClientTls | None, *, plaintext_token: bool = False) -> Login:
    """Return how a client shows who it is: as given, else as the environment says.

    Raises:
        InvalidRequest: the token or the files of TLS cannot be used.
    """
    try:
        return Login.of(token, tls, plaintext_token=plaintext_token)
    except InvalidLogin as error:
        raise InvalidRequest(str(error)) from error


def open_channel(make: Callable[[str, Sequence[tuple[str, Any]]], Any], target: str) -> Any:
    """Make a channel by one of the methods of a `Login`.

    Raises:
        InvalidRequest: the files of TLS cannot be used, or the token would travel in clear text.
    """
    try:
        return make(target, CHANNEL_OPTIONS)
    except InvalidLogin as error:
        raise InvalidRequest(str(error)) from error
