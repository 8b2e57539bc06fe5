"""Bearer tokens: what a client shows, and what is kept of it.

A token reads `flk_<id>_<secret>`. The id finds it, the secret proves it; only a digest of the
secret is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

__all__ = ["Credential", "Token", "new_credential", "read_credential"]

_ID_BYTES: Final = 6
_SECRET_LETTERS: Final = string.ascii_letters + string.digits
_SECRET_LENGTH: Final = 43  # of 62 letters: 256 bits
_FORM: Final = re.compile(rf"flk_([0-9a-f]{{{_ID_BYTES * 2}}})_([A-Za-z0-9]{{{_SECRET_LENGTH}}})\Z")
_NO_DIGEST: Final = bytes(32)


class Credential(NamedTuple):
    """A token's id and secret, as its holder has them."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """The token, as it is shown."""
        return f"flk_{self.id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is kept of the secret.

        SHA-256 once, without salt: slow and salted hashes protect secrets that can be guessed. This
        one is 256 random bits, which no dictionary has and nobody can try.
        """
        return hashlib.sha256(self.secret.encode()).digest()


@final
@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token.

    Args:
        id: public; names it in lists and logs.
        principal: who holds it.
        policies: names; what it may do, and nothing else.
        tags: `aws:PrincipalTag/KEY` in conditions.
        created_us: µs since the epoch.
        expires_us: the first µs at which it is no longer valid, or None.
        revoked_us: when it was revoked, or None.
        last_used_us: start of the hour in which it was last used, or None.
        digest: of the secret.
    """

    id: str
    principal: str
    policies: tuple[str, ...]
    tags: Mapping[str, str]
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    last_used_us: int | None
    digest: bytes = field(repr=False)

    def state(self, now: int) -> str:
        """Return `active`, `expired` or `revoked` at a moment (µs)."""
        if self.revoked_us is not None:
            return "revoked"
        return "expired" if self.expires_us is not None and now >= self.expires_us else "active"


def new_credential() -> Credential:
    """Make a new id and secret."""
    secret = "".join(secrets.choice(_SECRET_LETTERS) for _ in range(_SECRET_LENGTH))
    return Credential(secrets.token_hex(_ID_BYTES), secret)


def read_credential(text: str) -> Credential | None:
    """Read a token's text; None when it has another form.

    >>> made = new_credential()
    >>> read_credential(made.text) == made
    True
    >>> read_credential("flk_nonsense") is None
    True
    """
    found = _FORM.match(text)
    return None if found is None else Credential(found[1], found[2])


def proves(credential: Credential, token: Token | None) -> bool:
    """Whether the secret is the token's, in a time that does not depend on how much of it fits."""
    # An unknown id takes as long as a wrong secret.
    kept = _NO_DIGEST if token is None else token.digest
    return hmac.compare_digest(credential.digest, kept) and token is not None
