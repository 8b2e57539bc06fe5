"""The lineage graph of a server, over gRPC, in the words of `Graph`."""

from lineage.wire.client.client import LineageClient, connect

__all__ = ["LineageClient", "connect"]
