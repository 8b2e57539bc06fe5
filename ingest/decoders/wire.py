"""The wire format of a schema registry: each message begins with the id of its schema.

A zero byte, then the id as four bytes, big end first; what follows is the format's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar, final

from ingest.errors import SchemaNotFound, Undecodable
from ingest.registry import MISSING_S, RegisteredSchema, SchemaRegistry

__all__ = ["HEADER_BYTES", "WireSchemas"]

HEADER_BYTES: Final = 5
_MAX_UNUSABLE: Final = 1000

Compiled = TypeVar("Compiled")


@final
class WireSchemas(Generic[Compiled]):
    """What a decoder made of each schema, by the first five bytes of the messages that have it.

    Args:
        registry: where schemas are.
        kind: `AVRO`, `PROTOBUF` or `JSON`.
        compile: makes what the decoder needs of a schema and of those it builds on. A ValueError
            says that it is no such schema.
    """

    def __init__(
        self,
        registry: SchemaRegistry,
        kind: str,
        compile: Callable[[RegisteredSchema, Sequence[tuple[str, RegisteredSchema]]], Compiled],
    ) -> None:
        self.registry = registry
        self._kind = kind
        self._compile = compile
        self._compiled: dict[bytes, Compiled] = {}
        self._names: dict[bytes, str] = {}
        self._unusable: dict[bytes, tuple[float, Undecodable]] = {}
        self.get = self._compiled.get

    def learn(self, value: bytes) -> Compiled:
        """Return what was made of a message's schema, asking the registry for a new one.

        Raises:
            Undecodable: the message names no schema, one that the registry does not have, or one
                of another kind or that cannot be used.
            RegistryUnavailable, RegistryRefused: as for `SchemaRegistry.schema`.
        """
        head = value[:HEADER_BYTES]
        if head[:1] != b"\0":
            raise Undecodable(
                "byte 0",
                expected="0x00, which begins a message with a schema id",
                got=f"0x{head[0]:02x}" if head else "the end",
            )
        if len(head) < HEADER_BYTES:
            raise Undecodable(
                "bytes 1 to 4", expected="a schema id", got=f"the end after {len(head)} bytes"
            )
        known = self._compiled.get(head)
        if known is not None:
            return known
        until, refusal = self._unusable.get(head, (0.0, None))
        if refusal is not None and time.monotonic() < until:
            raise Undecodable(refusal.where, expected=refusal.expected, got=refusal.got)
        try:
            compiled = self._new(head)
        except Undecodable as refusal:
            if len(self._unusable) >= _MAX_UNUSABLE:
                self._unusable.clear()
            self._unusable[head] = (time.monotonic() + MISSING_S, refusal)
            raise
        self._compiled[head] = compiled
        return compiled

    def name_of(self, value: object) -> str | None:
        """Name a message's schema, with its subject where that is known; nobody is asked."""
        if not isinstance(value, bytes) or len(value) < HEADER_BYTES or value[0]:
            return None
        head = value[:HEADER_BYTES]
        return self._names.get(head) or f"schema {int.from_bytes(head[1:], 'big')}"

    def _new(self, head: bytes) -> Compiled:
        number = int.from_bytes(head[1:], "big", signed=True)
        if number < 1:
            # Registries do not even read such an id, and answer as to a wrong path.
            raise Undecodable("schema id", expected="a positive number", got=str(number))
        try:
            schema = self.registry.schema(number)
        except SchemaNotFound:
            raise Undecodable(
                "schema id", expected=f"one that {self.registry.url} has", got=str(number)
            ) from None
        self._names[head] = str(schema)
        if schema.kind != self._kind:
            raise Undecodable(str(schema), expected=f"a schema of {self._kind}", got=schema.kind)
        try:
            return self._compile(schema, self.registry.referenced(schema))
        except (ValueError, SchemaNotFound) as error:
            raise Undecodable(
                str(schema), expected=f"a schema of {self._kind} that can be used", got=str(error)
            ) from error
