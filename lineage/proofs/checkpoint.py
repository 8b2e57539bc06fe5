"""Checkpoints: what the whole log came to at one event, to be kept where nobody can alter it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from lineage.errors import InvalidProof, StoreUnavailable
from lineage.proofs.merkle import Frontier, parts

EVERY: Final = 4096
"""A store makes a checkpoint by itself at every so many events."""

_FORM: Final = "featureline-lineage-checkpoint-1"


@final
@dataclass(frozen=True)
class Checkpoint:
    """The Merkle root of the log up to one event.

    Who keeps a checkpoint elsewhere notices when somebody rewrites the log, also one who
    rewrites every later event, the head and the checkpoints of the store with it.

    Args:
        sequence: of the last event that counts.
        root: of the tree over the hashes of the events up to it.
        head: hash of that event.
        time_us: when it was made, UTC microseconds.
        frontier: what the tree can be continued from: see `merkle.Frontier.packed`; empty in one
            that was read from a file.
        public_key: whose signature it is, 32 bytes; empty without one.
        signature: Ed25519 over `signed_bytes`; empty without one.
    """

    sequence: int
    root: bytes
    head: bytes
    time_us: int
    frontier: bytes = b""
    public_key: bytes = b""
    signature: bytes = b""

    @property
    def signed_bytes(self) -> bytes:
        """What a signature is made of: everything but the signature, as canonical JSON."""
        fields = {
            "form": _FORM,
            "head": self.head.hex(),
            "root": self.root.hex(),
            "sequence": self.sequence,
            "time_us": self.time_us,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        fields: dict[str, Any] = json.loads(self.signed_bytes)
        if self.signature:
            fields["public_key"] = base64.b64encode(self.public_key).decode()
            fields["signature"] = base64.b64encode(self.signature).decode()
        return fields

    @classmethod
    def from_json(cls, fields: object) -> Checkpoint:
        """Read what `to_json` wrote.

        Raises:
            InvalidProof: it is something else.
        """
        try:
            if not isinstance(fields, Mapping) or fields["form"] != _FORM:
                raise ValueError("another form")
            made = cls(
                int(fields["sequence"]),
                _hash(fields["root"]),
                _hash(fields["head"]),
                int(fields["time_us"]),
                public_key=base64.b64decode(fields.get("public_key", ""), validate=True),
                signature=base64.b64decode(fields.get("signature", ""), validate=True),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidProof(
                f"expected a checkpoint of the form {_FORM!r}, got something else ({error})"
            ) from error
        return made

    def signed(self, key: Path) -> Checkpoint:
        """The checkpoint with the signature of a private key.

        Args:
            key: file with an Ed25519 key in PEM, such as `erasure.key` of a home.

        Raises:
            InvalidProof: the file cannot be read, or holds something else.
            StoreUnavailable: the package `cryptography` is absent.
        """
        serialization, ed25519 = _cryptography()
        try:
            private: Any = serialization.load_pem_private_key(key.read_bytes(), password=None)
        except OSError as error:
            raise InvalidProof(
                f"{key}: {error.strerror}; make a key with: openssl genpkey -algorithm ed25519 "
                f"-out {key}"
            ) from error
        except (ValueError, TypeError) as error:
            raise InvalidProof(
                f"{key}: expected a private Ed25519 key in PEM without a password ({error})"
            ) from error
        if not isinstance(private, ed25519.Ed25519PrivateKey):
            raise InvalidProof(f"{key}: expected an Ed25519 key, got another kind")
        return replace(
            self,
            public_key=bytes(private.public_key().public_bytes_raw()),
            signature=bytes(private.sign(self.signed_bytes)),
        )

    def check_signature(self, public: Path | None = None) -> None:
        """Check the signature.

        Args:
            public: file with the public key that must have signed, in PEM; None: the key that
                the checkpoint itself names, which does not say whose it is.

        Raises:
            InvalidProof: there is no signature, it is of another key, or of something else.
            StoreUnavailable: the package `cryptography` is absent.
        """
        serialization, ed25519 = _cryptography()
        from cryptography.exceptions import InvalidSignature

        if not self.signature:
            raise InvalidProof(f"checkpoint {self.sequence} is not signed")
        if public is not None:
            try:
                wanted: Any = serialization.load_pem_public_key(public.read_bytes())
                is_same = bytes(wanted.public_bytes_raw()) == self.public_key
            except OSError as error:
                raise InvalidProof(f"{public}: {error.strerror}") from error
            except (ValueError, AttributeError) as error:
                raise InvalidProof(f"{public}: expected a public Ed25519 key in PEM") from error
            if not is_same:
                raise InvalidProof(
                    f"checkpoint {self.sequence} was signed with another key than that of {public}"
                )
        try:
            key = ed25519.Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(self.signature, self.signed_bytes)
        except (InvalidSignature, ValueError) as error:
            raise InvalidProof(
                f"checkpoint {self.sequence} was altered: its signature is not of what it says"
            ) from error


def read_checkpoints(path: Path) -> list[Checkpoint]:
    """The checkpoints of a file: one, or a list of them; in order of sequence.

    Raises:
        InvalidProof: the file cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidProof(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidProof(f"{path}: expected checkpoints as JSON ({error})") from error
    if isinstance(document, Mapping) and "checkpoint" in document:  # a proof names its own
        document = document["checkpoint"]
    several = document if isinstance(document, list) else [document]
    try:
        return sorted(map(Checkpoint.from_json, several), key=lambda made: made.sequence)
    except InvalidProof as error:
        raise InvalidProof(f"{path}: {error}") from error


def make_checkpoint(
    before: Checkpoint | None,
    sequence: int,
    time_us: int,
    hashes: Callable[[int, int], Sequence[bytes]],
) -> Checkpoint:
    """The checkpoint at an event, continued from an earlier one.

    Args:
        before: of the same log, at most at `sequence`; None: from the first event.
        sequence: of the event, at least 1.
        time_us: to note.
        hashes: reads the hashes of the events behind one up to another.

    Cost: two hashes for each event since; about 2 s for the first million.
    """
    # One that was altered is not gone on from: the log is the truth.
    if before is not None and not _is_sound(before):
        before = None
    tree = Frontier() if before is None else Frontier(before.sequence, before.frontier)
    head = b"" if before is None else before.head
    for start, end in parts(tree.size, sequence):
        read = hashes(start, end)
        tree.extend(read)
        head = read[-1]
    return Checkpoint(sequence, tree.root, head, time_us, tree.packed)


def _is_sound(known: Checkpoint) -> bool:
    is_long_enough = len(known.frontier) == len(known.root) * known.sequence.bit_count()
    return is_long_enough and Frontier(known.sequence, known.frontier).root == known.root


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != 32:
        raise ValueError("a hash has 64 hex digits")
    return value


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise StoreUnavailable(
            "checkpoints are signed with the package cryptography: pip install "
            "'featureline[encryption]'"
        ) from error
    return serialization, ed25519
