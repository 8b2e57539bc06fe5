"""A script's process: `python -m training.jobs.launch FOLDER EVENTS`.

The same talk with the runner as `training.jobs.main` has: two lines on standard input, then it
stays open and its end means that the runner is gone. This process imports little but the standard
library; it starts the user's program, hands a SIGTERM on to it and ends as the program did.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.jobs.mounting import binding

__all__ = ["command", "install_requirements", "main"]

_ORPHANED: Final = 70
_NO_REQUIREMENTS: Final = 71
_GO: Final = "go"
_SHELL: Final = "/bin/sh"


def main(arguments: Sequence[str]) -> int:
    """Run one job's program and return its exit status; a signal that ended it ends this too."""
    root, events = Path(arguments[0]), int(arguments[1])
    stopping = threading.Event()
    children: list[subprocess.Popen[bytes]] = []

    def stop(number: int, frame: Any) -> None:
        stopping.set()
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(sys.stdin.readline())
    if sys.stdin.readline().strip() != _GO:
        return 0
    threading.Thread(target=_watch_runner, daemon=True).start()
    code = root / "code"
    python, variables = sys.executable, _variables(code, order)
    if (code / "requirements.txt").is_file():
        python = str(_environment(root))
        variables["PATH"] = os.pathsep.join([str(Path(python).parent), variables.get("PATH", "")])
        if not _install(python, code, variables):
            return _NO_REQUIREMENTS
    with contextlib.suppress(OSError), os.fdopen(events, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(["ready", order["device"]]) + "\n")
    if stopping.is_set():
        return 0
    bind, warning = binding(root, code)
    if warning:
        print(warning, flush=True)
    child = subprocess.Popen(
        command(code, order["program"], order["arguments"], python),
        cwd=code,
        env=variables,
        stdin=subprocess.DEVNULL,
        # The child has one thread and does nothing else before it is the program.
        preexec_fn=bind,
    )
    children.append(child)
    if stopping.is_set():
        child.terminate()
    status = child.wait()
    if status < 0:
        _end_by(-status)
    return status


def command(code: Path, program: str, arguments: Sequence[str], python: str) -> list[str]:
    """Return what to run: a Python file, a package where there is a setup.py, else a command."""
    path = code / program
    if program.endswith(".py") and path.is_file():
        return [python, program, *arguments]
    if (code / "setup.py").is_file() and not path.is_file():
        module = program.removesuffix(".py").replace("/", ".")
        return [python, "-m", module, *arguments]
    path.chmod(path.stat().st_mode | 0o111)
    # By the shell: it also runs a file that does not say by what.
    return [_SHELL, "-c", 'exec "$0" "$@"', f"./{program}", *arguments]


def install_requirements(root: Path, code: Path) -> Path | None:
    """Install what `code/requirements.txt` names into an environment below `root`.

    Returns:
        the folder of its packages; None where pip could not install them: its output says why.
    """
    python = _environment(root)
    if not _install(str(python), code, os.environ):
        return None
    return next((root / "environment" / "lib").glob("python*/site-packages"))


def _variables(code: Path, order: Mapping[str, Any]) -> dict[str, str]:
    path = [str(code), *([order["pythonpath"]] if order["pythonpath"] else [])]
    return dict(os.environ) | {
        "PYTHONPATH": os.pathsep.join(path),
        # A log that is followed shows a line when it is printed.
        "PYTHONUNBUFFERED": "1",
    }


def _environment(root: Path) -> Path:
    """Make an environment of the job's own, in which the packages that are here are there too."""
    folder = root / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = next((folder / "lib").glob("python*/site-packages"))
    here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "outer.pth").write_text("\n".join(here) + "\n", encoding="utf-8")
    return python


def _install(python: str, code: Path, variables: Mapping[str, str]) -> bool:
    """Install requirements.txt; what is there already stays as it is."""
    words = ["-m", "pip", "--python", python, "install", "--disable-pip-version-check", "--quiet"]
    pip = subprocess.run(
        [sys.executable, *words, "-r", "requirements.txt"],
        cwd=code,
        env=dict(variables, PIP_NO_INPUT="1"),
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return pip.returncode == 0


def _watch_runner() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # Nobody would collect a model or hear of an error. The program is in this process's group.
    os.killpg(0, signal.SIGKILL)
    os._exit(_ORPHANED)


def _end_by(number: int) -> None:
    """End as the program did, so that the runner sees the signal itself."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
