"""Why a job's process failed, as one readable paragraph."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["explain", "oom_kills"]

_FRAME: Final = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<where>.+))?')
_ERROR: Final = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
_MESSAGE_LINES: Final = 3
_TRACEBACK: Final = "Traceback (most recent call last)"
_NO_SPACE: Final = ("No space left on device", "FileStream.Write incomplete")
"""Of the system, and of XGBoost, which ends the process with it."""
_HINTS: Final = (
    (
        re.compile(r"ModuleNotFoundError: No module named '([\w]+)"),
        "name {0} in a requirements.txt beside the program, or install it",
    ),
    (
        re.compile(r"KeyError: '(SM_CHANNEL_[^']+)'"),
        "give the job the channel that this variable names",
    ),
    (
        re.compile(r"FileNotFoundError: .*'(/opt/ml[^']*)'"),
        "look whether the job has {0}; where the system gives a process no mounts of its own "
        "(the log says so) take the folder from the SM_ variables, such as SM_MODEL_DIR and "
        "SM_CHANNEL_TRAIN",
    ),
    (
        re.compile(r"(?:CUDA|HIP) out of memory"),
        "the memory of the GPU is full: use smaller batches, or device cpu",
    ),
    (
        re.compile(r"^(?:\w+\.)*(?:_Array)?MemoryError\b"),
        "memory ran out: use less data at once or a machine with more",
    ),
    (
        re.compile(r"error: unrecognized arguments: (.+)"),
        "each hyperparameter becomes an argument of the program: let it accept them, or set none "
        "that it does not know",
    ),
    (
        re.compile(r"error: the following arguments are required: (.+)"),
        "set them as hyperparameters",
    ),
    (
        re.compile(r"(?:command not found|exec: .* not found|not found)$"),
        "the program or a command it uses is not on this machine",
    ),
)
_NO_REQUIREMENTS: Final = 71


def explain(
    status: int,
    lines: Sequence[str],
    *,
    folder: Path,
    out_of_memory: bool = False,
    said: str = "",
    last: int = 1,
) -> str:
    """Say why a process ended without completing.

    Args:
        status: its exit status, negative for a signal.
        lines: the end of its log.
        folder: the job's, on whose disk it wrote.
        out_of_memory: whether the kernel killed a process for lack of memory meanwhile.
        said: the process's own account; it is taken as it is.
        last: how many of its last lines to name where they are all there is to say.
    """
    if said:
        return said
    if status == _NO_REQUIREMENTS:
        return _sentences(
            f"requirements.txt could not be installed: {_pip_error(lines)}",
            "install what it names beforehand, or put wheels beside it",
        )
    error, place = _python_error(lines)
    spoken = [line.strip() for line in lines if line.strip()]
    final = spoken[-1] if spoken else ""
    named = f"its last line: {final}"
    if len(spoken) > 1 and last > 1:
        named = "its last lines: " + " | ".join(spoken[-last:])
    ended = _ended(status, out_of_memory)
    if any(words in line for line in lines[-50:] for words in _NO_SPACE):
        free = shutil.disk_usage(folder).free
        return _sentences(
            f"the disk of {folder} is full ({free / 1e9:.1f} GB free now)"
            + (f": {error}{place}" if error else ""),
            ended,
            "make room, or give the home another disk",
        )
    if status < 0:
        return f"{ended}; {named}" if final else ended
    if error:
        return _sentences(f"{error}{place}", ended, _hint(error))
    hint = _hint(final)
    if hint:
        return _sentences(final, ended, hint)
    return f"{ended}; {named}" if final else ended


def oom_kills() -> int:
    """Count the processes that the kernel has killed for lack of memory, as far as one can see."""
    count = 0
    for path, name in (
        (Path("/sys/fs/cgroup/memory.events"), "oom_kill"),
        (Path("/proc/vmstat"), "oom_kill"),
    ):
        try:
            text = path.read_text(encoding="ascii")
        except OSError:
            continue
        found = re.search(rf"^{name} (\d+)$", text, re.MULTILINE)
        count += int(found[1]) if found else 0
    return count


def _ended(status: int, out_of_memory: bool) -> str:
    if status >= 0:
        return f"the job's process ended with exit status {status}" + (
            " and without a model" if status == 0 else ""
        )
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "of an unknown kind"
    hint = ""
    if name == "SIGKILL":
        hint = (
            "; the system killed it because memory ran out: use less data at once, or a machine "
            "with more memory"
            if out_of_memory
            else "; the usual cause is that memory ran out"
        )
    elif name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE"):
        hint = "; a library crashed"
    return f"the job's process was ended by signal {name} ({-status}){hint}"


def _python_error(lines: Sequence[str]) -> tuple[str, str]:
    """Return the exception of the last traceback, and where in the user's code it comes from."""
    # A syntax error has a frame without the line above it.
    starts = [n for n, line in enumerate(lines) if _TRACEBACK in line]
    starts = starts or [n for n, line in enumerate(lines) if _FRAME.match(line)][:1]
    if not starts:
        return "", ""
    trace = lines[starts[-1] :]
    frames = [(n, frame) for n, line in enumerate(trace) if (frame := _FRAME.match(line))]
    if not frames:
        return "", ""
    # The exception is the first line that is not indented behind the frames; its message may
    # have more.
    behind = [n for n in range(frames[-1][0], len(trace)) if _ERROR.match(trace[n])]
    if not behind:
        return "", ""
    message = [line.strip() for line in trace[behind[0] : behind[0] + _MESSAGE_LINES]]
    error = " ".join(line for line in message if line)
    own = [
        frame
        for _, frame in frames
        if "site-packages" not in frame["file"] and "<frozen" not in frame["file"]
    ]
    if not own:
        return error, ""
    last = own[-1]
    where = f", in {last['where']}" if last["where"] and last["where"] != "<module>" else ""
    return error, f" ({Path(last['file']).name}, line {last['line']}{where})"


def _pip_error(lines: Sequence[str]) -> str:
    errors = [line.strip() for line in lines if "ERROR:" in line or "No module named pip" in line]
    return errors[-1].removeprefix("ERROR: ") if errors else "pip ended with an error"


def _hint(text: str) -> str:
    for pattern, hint in _HINTS:
        if found := pattern.search(text):
            return hint.format(*found.groups())
    return ""


def _sentences(*parts: str) -> str:
    return "; ".join(part.strip().rstrip(".;") for part in parts if part)
