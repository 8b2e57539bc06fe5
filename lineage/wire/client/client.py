"""The lineage graph of a server, over gRPC, in the words of `Graph`."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

import grpc

from lineage.v1 import lineage_pb2_grpc
from lineage.wire import convert
from lineage.wire.channel import ClientTls, Login
from lineage.wire.client.asking import Asking
from lineage.wire.client.exporting import Exporting
from lineage.wire.client.keeping import Keeping
from lineage.wire.client.looking import Looking
from lineage.wire.client.recording import Recording
from lineage.wire.client.telling import Telling
from lineage.wire.client.walking import Walking


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    plaintext_token: bool = False,
    timeout_s: float = 30.0,
) -> LineageClient:
    """The lineage graph of the server at `target` (`host:port`).

    Connects with the first call.

    Args:
        target: address of the server.
        token: as `featureline token create` printed it; None: `$FEATURELINE_TOKEN`, if set.
        tls: None: as `$FEATURELINE_TLS_CA`, `_CERT` and `_KEY` say, else plaintext.
        plaintext_token: send the token in plaintext to other machines, too; see
            `featurestore.connect`.
        timeout_s: for each call, in seconds.

    Raises:
        InvalidLogin: the token or the files of TLS cannot be used, or the token would travel to
            another machine in clear text.
    """
    options = [
        ("grpc.max_send_message_length", convert.MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", -1),
    ]
    login = Login.of(token, tls, plaintext_token=plaintext_token)
    return LineageClient(
        login.channel(target, options), target=target, login=login, timeout_s=timeout_s
    )


@final
class LineageClient(Recording, Looking, Walking, Asking, Keeping, Exporting, Telling):
    """A lineage graph somewhere else: record, look up, walk, ask, verify.

    The methods promise what those of `Graph` of the same name do, and raise the same
    errors. When no server answers, that is StoreUnavailable.

    Args:
        channel: closed by `close`.
        target: where it leads, for messages.
        login: what made the channel, and each call carries.
        timeout_s: for each call, in seconds.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        target: str,
        login: Login,
        timeout_s: float,
    ) -> None:
        self._channel = channel
        self._target = target
        self._timeout_s = timeout_s
        self._login = login
        self._stub = lineage_pb2_grpc.LineageStub(channel)

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
