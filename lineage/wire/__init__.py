"""Lineage over gRPC: service, client, and what both turn values into."""
