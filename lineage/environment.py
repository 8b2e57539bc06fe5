"""What a job ran on: Python, the installed packages, and the version of the code."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

from lineage.digest import file_digest
from lineage.entity import JSON

_DISTRIBUTION = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")


@cache
def environment_properties() -> dict[str, JSON]:
    """The properties that every job gets, found once per process.

    `python_version`; `environment_digest`, over Python and the names and versions of the
    installed packages and nothing of the host, so equal installations agree; `code_version`,
    the git commit checked out around the main script or the working folder, if any; and
    `code_digest`, the SHA-256 of the main script, if it is not an installed one.
    """
    found: dict[str, JSON] = {
        "python_version": platform.python_version(),
        "environment_digest": _environment_digest(),
    }
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Path(main).resolve() if main else None
    commit = _commit(script.parent if script else Path.cwd())
    if commit:
        found["code_version"] = commit
    if script and script.is_file() and not script.is_relative_to(sys.prefix):
        found["code_digest"] = file_digest(script)
    return found


def _environment_digest() -> str:
    """The folder names of the installed packages say name and version; no file is opened."""
    packages = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # a zip file, or a folder that is not there
            continue
        for name in names:
            found = _DISTRIBUTION.fullmatch(name)
            if found:
                normal = re.sub(r"[-_.]+", "-", found["name"]).lower()
                packages.add(f"{normal}=={found['version']}")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return hashlib.sha256("\n".join([python, *sorted(packages)]).encode()).hexdigest()


def _commit(folder: Path) -> str | None:
    """The commit checked out in the git repository around a folder, read from its files."""
    for around in (folder, *folder.parents):
        git = around / ".git"
        if git.is_file():  # a worktree or submodule: the file names the folder
            git = around / git.read_text("utf-8").removeprefix("gitdir:").strip()
        if (git / "HEAD").is_file():
            return _head_commit(git)
    return None


def _head_commit(git: Path) -> str | None:
    head = (git / "HEAD").read_text("utf-8").strip()
    if not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ")
    common = git / "commondir"
    shared = git / common.read_text("utf-8").strip() if common.is_file() else git
    for place in (git, shared):
        if (place / reference).is_file():
            return (place / reference).read_text("utf-8").strip()
    packed = shared / "packed-refs"
    lines = packed.read_text("utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {reference}")), None)
