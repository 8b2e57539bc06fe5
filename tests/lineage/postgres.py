"""A PostgreSQL server of the tests' own, in a folder that goes with it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_USER = "postgres"


def programs() -> Path | None:
    """The folder of initdb and postgres, the newest there is."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return None if there is None else Path(there).parent


def require_postgres() -> Path:
    """Skip a test where PostgreSQL is not installed; CI has it."""
    folder = programs()
    if folder is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL is not installed; apt-get install postgresql")
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    return folder


class PostgresServer:
    """A cluster that listens on a Unix socket in its folder, and nowhere else.

    Args:
        options: settings, such as `fsync=off`.
    """

    def __init__(self, *options: str) -> None:
        self._programs = require_postgres()
        self.folder = Path(tempfile.mkdtemp(prefix="featureline-postgres-"))
        # The server refuses to run as root.
        self._user = _USER if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user, self._user)
        self._data = self.folder / "data"
        self._options = options
        self._names = itertools.count()
        self._run(
            "initdb", "--pgdata", self._data, "--auth=trust", f"--username={_USER}", "--no-sync"
        )
        self.start()

    @property
    def url(self) -> str:
        """Of the database, with the default schema."""
        return f"postgresql://{_USER}@/postgres?host={self.folder}"

    def new_url(self) -> str:
        """Of the database, with a schema that nobody has."""
        return f"{self.url}&schema=s{os.getpid()}_{next(self._names)}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        import psycopg

        settings = [f"unix_socket_directories={self.folder}", "listen_addresses=", *self._options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self._programs / "postgres"),
                    *("-D", str(self._data)),
                    *(part for setting in settings for part in ("-c", setting)),
                ],
                user=self._user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, sign: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts connections, SIGQUIT leaves it to recover like a crash."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        self.process.wait(60)

    def close(self) -> None:
        """End the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            user=self._user,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
