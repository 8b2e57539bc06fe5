"""What a job ran on: Python, the installed packages, and the version of the code."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lineage.digest import file_digest
from lineage.entity import JSON, Entity, artifact, derived_uid

_MAX_DIFF_BYTES = 64 * 1024
_MAX_UNTRACKED = 50
_GIT_TIMEOUT_S = 5.0
# The difference that the properties of this process name by its digest.
_DIFF: list[bytes] = []

_DISTRIBUTION = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")


@cache
def environment_properties() -> dict[str, JSON]:
    """The properties that every job gets, found once per process.

    `python_version`; `environment_digest`, over Python and the names and versions of the
    installed packages and nothing of the host, so equal installations agree; `code_version`,
    the git commit checked out around the main script or the working folder, if any;
    `code_repository`, where that was cloned from, without a login; `code_dirty`, whether tracked
    files differ from the commit, with the SHA-256 of the difference as `code_diff_digest`, and
    `code_untracked`, files that git does not know, at most 50; and `code_digest`, the SHA-256 of
    the main script, if it is not an installed one.
    """
    found: dict[str, JSON] = {
        "python_version": platform.python_version(),
        "environment_digest": _environment_digest(),
    }
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Path(main).resolve() if main else None
    if script and script.is_relative_to(sys.prefix):
        script = None  # an installed command: the code is where it was called
    repository = _repository(script.parent if script else Path.cwd())
    if repository is not None:
        found.update(_code(*repository))
    if script and script.is_file():
        found["code_digest"] = file_digest(script)
    return found


@cache
def environment_artifacts() -> tuple[Entity, ...]:
    """What the properties name by digest, each recorded once in a graph: see `Recorder`.

    The installed packages as an `Environment`, and the difference of the working tree from the
    commit as a `CodeDiff`, as far as its first 64 KiB.
    """
    properties = environment_properties()
    digest = str(properties["environment_digest"])
    packages: dict[str, JSON] = {
        name: version for name, _, version in (one.partition("==") for one in _packages())
    }
    found = [
        artifact(
            "Environment",
            _environment_uri(digest),
            content_hash=digest,
            name=f"environment {digest[:12]}",
            properties={"python_version": platform.python_version(), "packages": packages},
        )
    ]
    diff = properties.get("code_diff_digest")
    if diff:
        commit = str(properties["code_version"])
        found.append(
            artifact(
                "CodeDiff",
                _diff_uri(commit),
                content_hash=str(diff),
                name=f"changes on {commit[:12]}",
                properties={"commit": commit, "code_diff": _diff_text(), "digest": diff},
            )
        )
    return tuple(found)


def named_artifacts(properties: Mapping[str, object]) -> list[str]:
    """The uids of what the properties of a job name by digest: see `environment_artifacts`."""
    digest, diff = properties.get("environment_digest"), properties.get("code_diff_digest")
    found = []
    if isinstance(digest, str) and digest:
        found.append(artifact("Environment", _environment_uri(digest), content_hash=digest))
    if isinstance(diff, str) and diff:
        commit = str(properties.get("code_version"))
        found.append(artifact("CodeDiff", _diff_uri(commit), content_hash=diff))
    return [derived_uid(one) for one in found]


def _environment_uri(digest: str) -> str:
    return f"environment:{digest}"


def _diff_uri(commit: str) -> str:
    return f"code:{commit}"


def _environment_digest() -> str:
    """Over Python and what is installed."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return hashlib.sha256("\n".join([python, *_packages()]).encode()).hexdigest()


@cache
def _packages() -> tuple[str, ...]:
    """Name and version of each; the names of their folders say them, and no file is opened."""
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
    return tuple(sorted(packages))


def _code(root: Path, git: Path) -> dict[str, JSON]:
    """What a git repository says of the code in it."""
    commit = _head_commit(git)
    if not commit:
        return {}
    found: dict[str, JSON] = {"code_version": commit}
    remote = _remote(git)
    if remote:
        found["code_repository"] = remote
    diff = _git(root, "diff", "HEAD", "--no-color", "--no-ext-diff", "--full-index")
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    if diff is None or untracked is None:
        return found  # git is not installed, or takes too long
    found["code_dirty"] = bool(diff)
    if diff:
        _DIFF.append(diff)
        found["code_diff_digest"] = hashlib.sha256(diff).hexdigest()
    names = [name.decode(errors="backslashreplace") for name in untracked.split(b"\0") if name]
    if names:
        found["code_untracked"] = sorted(names)[:_MAX_UNTRACKED]
    return found


def _diff_text() -> str:
    text = _DIFF[-1][:_MAX_DIFF_BYTES].decode(errors="backslashreplace")
    cut = len(_DIFF[-1]) - _MAX_DIFF_BYTES
    return f"{text}\n[{cut} bytes more]" if cut > 0 else text


def _git(root: Path, *arguments: str) -> bytes | None:
    """The output of a git command that only reads; None when there is no answer in time."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _remote(git: Path) -> str | None:
    """The url that the repository was cloned from, without user and password."""
    common = git / "commondir"
    shared = git / common.read_text("utf-8").strip() if common.is_file() else git
    try:
        text = (shared / "config").read_text("utf-8", errors="replace")
    except OSError:
        return None
    section = re.search(r'^\[remote "origin"\]\n((?:[^\[].*\n?)*)', text, re.MULTILINE)
    url = section and re.search(r"^\s*url\s*=\s*(\S+)", section[1], re.MULTILINE)
    return re.sub(r"(?<=://)[^/@]*@", "", url[1]) if url else None


def _repository(folder: Path) -> tuple[Path, Path] | None:
    """The working tree and the git folder around a folder."""
    for around in (folder, *folder.parents):
        git = around / ".git"
        if git.is_file():  # a worktree or submodule: the file names the folder
            git = around / git.read_text("utf-8").removeprefix("gitdir:").strip()
        if (git / "HEAD").is_file():
            return around, git
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
