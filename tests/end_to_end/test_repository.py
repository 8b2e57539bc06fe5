"""The repository as somebody clones it: help for every command, and nothing of one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import featureline
from featureline.cli import cli

ROOT = Path(__file__).parents[2]
# Written in two parts, so that this file does not find itself.
MACHINE_PATHS = ("/" + "work/", "/" + "root/", "/" + "home/", "/" + "Users/")


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_command_has_help(command, path):
    ended = command(*path, "--help")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Usage: featureline")
    assert len(ended.out.splitlines()) > 4, "a sentence that says what it is for"
    assert command(*path, "-h").out == ended.out


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_command_and_option_is_explained(path):
    found: click.Command = cli
    for name in path:
        assert isinstance(found, click.Group)
        found = found.commands[name]

    assert found.help
    assert found.help[0].isupper()
    unexplained = {
        option.name
        for option in found.params
        if isinstance(option, click.Option) and not option.help
    }
    assert unexplained == set()


def test_the_commands_of_the_contract_are_there():
    words = {" ".join(path) for path in commands(cli)}

    assert words >= {
        "serve",
        *(f"group {verb}" for verb in ("create", "describe", "list", "update", "delete")),
        *("put", "get", "delete", "records", "flush", "verify"),
        *("ingest kafka", "ingest files", "dataset build", "dataset check"),
        *("train", "predict", "jobs list", "jobs describe", "jobs logs", "jobs stop"),
        *("lineage query", "lineage show", "lineage export", "lineage verify"),
        "demo",
    }


def test_every_command_but_the_long_running_ones_takes_a_home_a_server_and_json():
    for path in commands(cli):
        found: click.Command = cli
        for name in path:
            assert isinstance(found, click.Group)
            found = found.commands[name]
        if isinstance(found, click.Group) or path[0] in ("serve", "demo"):
            continue
        options = {option.name for option in found.params}
        if path == ("ingest", "run"):  # it runs on, and says so in lines of JSON
            continue
        assert "as_json" in options, path
        if path[0] == "ingest" and "file" in options:  # the settings file says which store
            continue
        if path == ("key", "new"):  # a file for any home
            continue
        assert "home" in options, path
        # Who may do what is said where the home is; `top` connects to the page of the metrics.
        if path[0] not in ("token", "policy", "top"):
            assert "connect" in options, path


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lists_its_targets():
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = set(re.findall(r"^  ([a-z-]+)  +\S", listed, re.M))

    assert targets >= {
        *("setup", "proto", "format", "lint", "types", "layers"),
        *("test", "docs", "bench", "check", "demo"),
    }
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert targets <= made


def tracked() -> list[Path]:
    """The files of the repository: those of git, and those that git would take."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no repository of git: {error}")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine():
    found = [
        f"{file.relative_to(ROOT)}: {path}"
        for file in tracked()
        if ROOT / "docker" not in file.parents  # the paths there are those of the images
        for path in MACHINE_PATHS
        if path.encode() in file.read_bytes()
    ]

    assert found == []


def test_no_file_is_left_unfinished():
    marks = [mark.encode() for mark in ("TO" + "DO", "FIX" + "ME", "X" + "XX")]
    found = [
        f"{file.relative_to(ROOT)}: {mark.decode()}"
        for file in tracked()
        if file.suffix in {".py", ".proto", ".toml", ".sql", ".md"} or file.name == "Makefile"
        for mark in marks
        if re.search(rb"\b" + mark + rb"\b", file.read_bytes())
    ]

    assert found == []


def test_the_command_is_installed_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert featureline.__doc__
    assert project["scripts"] == {"featureline": "featureline.cli:main"}


def test_the_protocol_folder_is_no_package():
    # The distribution proto-plus installs a module `proto`, which ours would hide.
    assert list((ROOT / "proto").rglob("*.py")) == []
    assert {path.suffix for path in (ROOT / "proto").rglob("*") if path.is_file()} == {".proto"}
