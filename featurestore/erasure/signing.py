"""The key that signs a home's reports of erasures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any, Final, final

from featurestore.errors import InvalidRequest, StoreCorrupt, StoreUnavailable

__all__ = ["PRIVATE", "PUBLIC", "SigningKey", "public_key_of"]

PRIVATE: Final = "erasure.key"
PUBLIC: Final = "erasure.pub"
_HASHING: Final = b"featureline erasure: hashes of identifiers"


@final
class SigningKey:
    """An Ed25519 key in a home, made at its first use.

    `erasure.key` can be read by its owner only; `erasure.pub` is for whoever checks reports.

    Args:
        home: the home folder.

    Raises:
        StoreUnavailable: the package `cryptography` is absent, or the file cannot be made.
        StoreCorrupt: the file holds something else.
    """

    def __init__(self, home: Path) -> None:
        path = home / PRIVATE
        ed25519, serialization = _ed25519(), _serialization()
        try:
            if not path.exists():
                _make(path, _private_pem(ed25519.Ed25519PrivateKey.generate()))
            pem = path.read_bytes()
            self._key: Any = serialization.load_pem_private_key(pem, password=None)
            if not isinstance(self._key, ed25519.Ed25519PrivateKey):
                raise ValueError("another kind of key")
            if not (home / PUBLIC).exists():
                _make(home / PUBLIC, self.public_pem, mode=0o644)
        except OSError as error:
            raise StoreUnavailable(f"the key {path} of erasures: {error.strerror}") from error
        except ValueError as error:
            raise StoreCorrupt(f"{path}: expected an Ed25519 key in PEM, got {error}") from error

    def sign(self, data: bytes) -> bytes:
        """Return the signature of bytes."""
        return bytes(self._key.sign(data))

    def keyed_hash(self, data: bytes) -> str:
        """Return a hash that only who has the key can compute, in hex (HMAC-SHA-256)."""
        secret = hashlib.sha256(_HASHING + self._key.private_bytes_raw()).digest()
        return hmac.new(secret, data, hashlib.sha256).hexdigest()

    @property
    def public(self) -> bytes:
        """The public key's 32 bytes."""
        return bytes(self._key.public_key().public_bytes_raw())

    @property
    def public_pem(self) -> bytes:
        """The public key as `erasure.pub` has it."""
        serialization = _serialization()
        return bytes(
            self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )


def public_key_of(path: Path) -> bytes:
    """Read the public key's 32 bytes from a file as `erasure.pub`.

    Raises:
        InvalidRequest: the file cannot be read, or holds something else.
    """
    try:
        key: Any = _serialization().load_pem_public_key(path.read_bytes())
        if not isinstance(key, _ed25519().Ed25519PublicKey):
            raise ValueError("another kind of key")
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(
            f"{path}: expected a public Ed25519 key in PEM, as erasure.pub of a home ({error})"
        ) from error
    return bytes(key.public_bytes_raw())


def is_signed(data: bytes, signature: bytes, public: bytes) -> bool:
    """Whether a signature of bytes is that of a public key."""
    from cryptography.exceptions import InvalidSignature

    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def to_text(data: bytes) -> str:
    """Write a key or signature as text."""
    return base64.b64encode(data).decode()


def from_text(text: object) -> bytes:
    """Read what `to_text` wrote; nothing where it is something else."""
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        return b""


def _private_pem(key: Any) -> bytes:
    serialization = _serialization()
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _make(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file whole, durably, and never over one that another process made meanwhile."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return
    finally:
        part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise StoreUnavailable(
            "erasures are signed with the package cryptography: pip install "
            "'featureline[encryption]'"
        ) from error
    return ed25519


def _serialization() -> Any:
    _ed25519()  # says which package is absent
    from cryptography.hazmat.primitives import serialization

    return serialization
