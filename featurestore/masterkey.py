"""The key that wraps the data keys: where it comes from, and what it seals; see `encryption`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from featurestore.errors import InvalidRequest, StoreCorrupt, StoreUnavailable

__all__ = [
    "GROUP",
    "KEYS_FILE",
    "KEY_BYTES",
    "MASTER_KEY",
    "MASTER_KEY_FILE",
    "NONCE_BYTES",
    "MasterKey",
    "aead",
    "invalid_tag",
]

KEYS_FILE: Final = "keys.db"
MASTER_KEY_FILE: Final = "FEATURELINE_MASTER_KEY_FILE"
MASTER_KEY: Final = "FEATURELINE_MASTER_KEY"
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
GROUP: Final = struct.Struct(">I")


@final
@dataclass(frozen=True, slots=True, repr=False)
class MasterKey:
    """The key that wraps the data keys.

    Args:
        key: 32 bytes.
        source: where it came from, for messages.

    Raises:
        InvalidRequest: it has another length.
    """

    key: bytes
    source: str

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise InvalidRequest(
                f"{self.source}: expected a master key of {KEY_BYTES} bytes in base64, got "
                f"{len(self.key)} bytes; make one with `featureline key new FILE`"
            )

    @classmethod
    def generate(cls, path: Path) -> MasterKey:
        """Make a new key and write it into a new file that only its owner can read.

        Raises:
            InvalidRequest: the file exists.
            StoreUnavailable: it cannot be written.
        """
        key = os.urandom(KEY_BYTES)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InvalidRequest(
                f"{path} exists; a master key is never overwritten, choose another file"
            ) from error
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return cls(key, str(path))

    @classmethod
    def from_file(cls, path: Path) -> MasterKey:
        """Read a key from a file: base64 of 32 bytes, readable by its owner only.

        Raises:
            StoreUnavailable: the file cannot be read, or others may read it.
            InvalidRequest: it holds something else.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & 0o077:
                    raise StoreUnavailable(
                        f"{path}: others than its owner have rights on the master key (mode "
                        f"{mode & 0o777:04o}); run `chmod 600 {path}`, and rotate the key if it "
                        f"may have been read"
                    )
                text = file.read(4096)
        except OSError as error:
            raise StoreUnavailable(
                f"{path}: the master key cannot be read: {error.strerror}; check {MASTER_KEY_FILE}"
            ) from error
        return cls(_decode(text, str(path)), str(path))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> MasterKey | None:
        """Read the key that the environment names; None when it names none.

        Raises:
            InvalidRequest: it names two, or one that is not base64 of 32 bytes.
            StoreUnavailable: the file cannot be read, or others may read it.
        """
        path, text = environ.get(MASTER_KEY_FILE), environ.get(MASTER_KEY)
        if path and text:
            raise InvalidRequest(f"{MASTER_KEY_FILE} and {MASTER_KEY} are both set; keep one")
        if path:
            return cls.from_file(Path(path))
        if text:
            return cls(_decode(text.encode(), MASTER_KEY), MASTER_KEY)
        return None

    @property
    def fingerprint(self) -> str:
        """Names the key without telling it: 16 hexadecimal digits."""
        digest = hmac.digest(self.key, b"featureline master key", hashlib.sha256)
        return digest[:8].hex()

    def wrap(self, data_key: bytes, group_number: int, version: int) -> bytes:
        """Encrypt a data key for one group and version."""
        nonce = os.urandom(NONCE_BYTES)
        place = _place(group_number, version)
        return nonce + bytes(aead(self.key).encrypt(nonce, data_key, place))

    def unwrap(self, wrapped: bytes, group_number: int, version: int) -> bytes:
        """Decrypt a data key.

        Raises:
            StoreCorrupt: it was altered, or wrapped for another group, version or master key.
        """
        nonce, rest = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return bytes(aead(self.key).decrypt(nonce, rest, _place(group_number, version)))
        except (invalid_tag(), ValueError) as error:
            raise StoreCorrupt(
                f"{KEYS_FILE}: the data key of group {group_number}, version {version}, does not "
                f"open with the master key {self.fingerprint}; restore {KEYS_FILE} from a backup"
            ) from error


def aead(key: bytes) -> Any:
    """Return AES-256-GCM with a key.

    Raises:
        StoreUnavailable: the extra `encryption` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise StoreUnavailable(
            "encryption at rest needs the package cryptography: pip install "
            "'featureline[encryption]'"
        ) from error
    return AESGCM(key)


def invalid_tag() -> type[Exception]:
    """Return what AES-GCM raises for bytes that were altered."""
    from cryptography.exceptions import InvalidTag

    return InvalidTag


def _decode(text: bytes, source: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            f"{source}: expected a master key of {KEY_BYTES} bytes in base64; make one with "
            f"`featureline key new FILE`"
        ) from error


def _place(group_number: int, version: int) -> bytes:
    return b"featureline data key" + GROUP.pack(group_number) + GROUP.pack(version)
