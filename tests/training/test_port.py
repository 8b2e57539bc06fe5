"""The port that the processes of a program meet at."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from training.jobs import port
from training.jobs.port import free_port


def test_it_is_free_and_none_that_the_system_gives_out() -> None:
    given_out = port._given_out_from()
    if given_out <= port._LOWEST:
        pytest.skip("this system gives out nearly all ports")
    for _ in range(20):
        number = free_port()
        assert port._LOWEST <= number < given_out
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", number))
            listener.listen()
            assert not port._is_free(number)


@pytest.mark.parametrize("told", ["1024\t65535\n", None, "nonsense"])
def test_it_is_free_wherever_the_system_gives_ports_out_from(
    told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "range"
    if told is not None:
        known.write_text(told)
    monkeypatch.setattr(port, "_RANGE", known)
    assert port._is_free(free_port())
