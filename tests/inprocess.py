"""The command `featureline` as a user runs it, in the test's own process: a second sooner."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest import mock

from featureline.cli import main

__all__ = ["Ended", "run_command"]


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*arguments: object, text: str = "", **variables: str) -> Ended:
    """Run the command line, also through what `main` makes of errors.

    Args:
        arguments: behind `featureline`.
        text: on stdin.
        variables: of the environment, beside what is there.
    """
    out, err = io.StringIO(), io.StringIO()
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    environment = {"NO_COLOR": "1", "COLUMNS": "200", **variables}
    with (
        mock.patch.object(sys, "argv", ["featureline", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", stdin),
        mock.patch.dict(os.environ, environment),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())
