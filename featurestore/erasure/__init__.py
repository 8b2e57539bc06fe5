"""Erasure: an identifier leaves every store, and a signed report says so."""

from featurestore.erasure.eraser import Eraser
from featurestore.erasure.holder import Holder
from featurestore.erasure.report import ErasureReport, identifier_hash, verify_report
from featurestore.erasure.signing import SigningKey

__all__ = [
    "Eraser",
    "ErasureReport",
    "Holder",
    "SigningKey",
    "identifier_hash",
    "verify_report",
]
