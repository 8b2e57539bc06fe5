"""The signed report of an erasure, which says of identifiers only a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from featurestore.erasure.signing import SigningKey, from_text, is_signed, to_text
from featurestore.errors import InvalidRequest

__all__ = ["FORM", "ErasureReport", "identifier_hash", "verify_report"]

FORM: Final = "featureline-erasure-1"
_SEALS: Final = ("digest", "public_key", "signature")


@final
@dataclass(frozen=True)
class ErasureReport:
    """What an erasure did, signed.

    Args:
        document: the report as JSON values: what was done, then `digest` (SHA-256 of the rest as
            canonical JSON), `public_key` and `signature` (Ed25519 of that JSON, both base64).
    """

    document: Mapping[str, Any]

    @property
    def erasure(self) -> str:
        """The name of the erasure; its report and its lineage have it."""
        return str(self.document["erasure"])

    @property
    def is_found(self) -> bool:
        """Whether anything was held of any of the identifiers."""
        return bool(self.document["found"])

    @property
    def rows(self) -> int:
        """Rows that left the newest version of the offline table."""
        return int(self.document["offline"]["rows"])

    @property
    def datasets(self) -> list[dict[str, Any]]:
        """The datasets that hold the record, or were built from versions that held it."""
        return list(self.document["datasets"])

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models trained on them."""
        return list(self.document["models"])

    @property
    def not_reached(self) -> list[str]:
        """What the erasure could not look into or does not reach."""
        return list(self.document["not_reached"])

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return dict(self.document)


def signed(body: Mapping[str, Any], key: SigningKey) -> ErasureReport:
    """Sign what an erasure did."""
    data = _canonical(body)
    return ErasureReport(
        {
            **body,
            "digest": hashlib.sha256(data).hexdigest(),
            "public_key": to_text(key.public),
            "signature": to_text(key.sign(data)),
        }
    )


def verify_report(document: Mapping[str, Any], *, public_key: bytes | None = None) -> ErasureReport:
    """Check that a report is as it was signed.

    Args:
        document: the report's JSON.
        public_key: 32 bytes, from who signs; None: the key that the report itself names, which
            shows that nothing was altered, and not who signed.

    Returns:
        The report.

    Raises:
        InvalidRequest: it is no report, was altered, or another key signed it.
    """
    if not isinstance(document, Mapping) or document.get("form") != FORM:
        raise InvalidRequest(f"expected a report of an erasure, of the form {FORM!r}")
    body = {name: value for name, value in document.items() if name not in _SEALS}
    data = _canonical(body)
    named = from_text(document.get("public_key"))
    if hashlib.sha256(data).hexdigest() != document.get("digest"):
        raise InvalidRequest("the report was altered: its digest is not that of its content")
    if public_key is not None and named != public_key:
        raise InvalidRequest(
            "the report was signed with another key than the given one: it is not this home's, or "
            "was signed anew by somebody else"
        )
    if not is_signed(data, from_text(document.get("signature")), public_key or named):
        raise InvalidRequest("the report was altered: its signature is not that of its content")
    return ErasureReport(dict(document))


def identifier_hash(key: SigningKey, group: str, identifier: str) -> str:
    """Return the hash that stands for an identifier in reports and in lineage.

    It is keyed by the home's signing key: who has the home can tell whether a report is about an
    identifier, and who has only the report cannot try identifiers.
    """
    return key.keyed_hash(f"{group}\0{identifier}".encode())


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
