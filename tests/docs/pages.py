"""The worked examples of a page of docs/, run one after another, as a reader would."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from featureline.cli.main import cli

__all__ = ["page", "run_examples", "run_page"]

_DOCS = Path(__file__).parents[2] / "docs"
_STEP = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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


def run_page(name: str, *, commands: int) -> None:
    """Run the Python and the commands of a page in their order, in the current folder.

    Args:
        name: of the page.
        commands: how many it has, so that none is missed.
    """
    path = page(name)
    text = path.read_text(encoding="utf-8")
    known: dict[str, object] = {"__name__": f"{name}-page"}
    ran = 0
    for step in _STEP.finditer(text):
        line = text.count("\n", 0, step.start(2))
        if step.group(1) == "python":
            exec(compile("\n" * line + step.group(2), str(path), "exec"), known)
            continue
        for command in step.group(2).splitlines():
            program, *arguments = shlex.split(command, comments=True)
            said = re.search(r"# exit code (\d)", command)
            assert program == "featureline", f"{path}:{line}: {command}"
            result = CliRunner().invoke(cli, arguments)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            expected = int(said[1]) if said else 0
            assert result.exit_code == expected, f"{path}: {command}\n{result.output}"
            ran += 1
    assert ran == commands, f"{path.name} has {ran} commands"
