"""The worked examples of a page of docs/, run one after another, as a reader would."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["page", "run_examples"]

_DOCS = Path(__file__).parents[2] / "docs"
_EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> Path:
    """Return the page of a name."""
    return _DOCS / f"{name}.md"


def run_examples(
    name: str,
    *,
    expected: int,
    names: dict[str, object] | None = None,
    only: Callable[[str], bool] = lambda code: True,
) -> None:
    """Run the Python of a page in the current folder; what it leaves open as `store` is closed.

    Args:
        name: of the page.
        expected: how many examples the page has, so that none is missed.
        names: what the page takes for given.
        only: which examples are run.
    """
    path = page(name)
    text = path.read_text(encoding="utf-8")
    blocks = list(_EXAMPLE.finditer(text))
    assert len(blocks) == expected, f"{path.name} has {len(blocks)} examples"
    known: dict[str, object] = {"__name__": f"{name}-page", **(names or {})}
    try:
        for block in blocks:
            if only(block.group(1)):
                # The page's own line numbers, in case an example fails.
                code = "\n" * text.count("\n", 0, block.start(1)) + block.group(1)
                exec(compile(code, str(path), "exec"), known)
    finally:
        close = getattr(known.get("store"), "close", None)
        if close is not None:
            close()
