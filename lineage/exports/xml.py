"""Text that XML can hold."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

# XML 1.0 section 2.2 has no way to write these at all.
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def text(value: str) -> str:
    """Escaped for the inside of an element; what XML cannot write becomes U+FFFD."""
    return escape(_IMPOSSIBLE.sub("\ufffd", value), {"\r": "&#13;"})


def attribute(value: str) -> str:
    """Escaped and quoted as the value of an attribute."""
    return quoteattr(_IMPOSSIBLE.sub("\ufffd", value))
