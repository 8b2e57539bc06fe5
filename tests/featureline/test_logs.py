from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from featureline.logs import LogHandler, configure
from featurestore.server.flood import Flood
from lineage.wire.requestid import new_request_id, request_id

ROOT = Path(__file__).parents[2]
Start = Callable[..., io.StringIO]


@pytest.fixture
def start() -> Iterator[Start]:
    """Configure logging into a text, and put everything back."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook)
    root.handlers = []
    made: list[LogHandler] = []

    def begin(form: str, **options: object) -> io.StringIO:
        stream = io.StringIO()
        made.append(configure(form, stream=stream, **options))  # type: ignore[arg-type]
        return stream

    yield begin
    for handler in made:
        handler.close()
    logging.captureWarnings(False)
    root.handlers, root.level, sys.excepthook, threading.excepthook = before


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


log = logging.getLogger("featurestore.server.test")


def test_a_json_line_has_time_level_logger_message_and_process(start: Start) -> None:
    stream = start("json")
    log.info("flushed %d records", 17, extra={"facts": {"group": "weather", "level": "no"}})
    (line,) = lines(stream)
    assert str(line.pop("time")).endswith("Z")
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "INFO",
        "logger": "featurestore.server.test",
        "message": "flushed 17 records",
        "group": "weather",
    }


def test_every_event_is_one_line_whatever_it_holds(start: Start) -> None:
    stream = start("json")
    log.info("one\ntwo \u2028 “%s”", object)
    try:
        raise ValueError("a\nb")
    except ValueError:
        log.exception("it failed")
    first, second = lines(stream)
    assert str(first["message"]).startswith("one\ntwo")
    assert "ValueError: a\nb" in str(second["exception"])
    assert second["level"] == "ERROR"


def test_the_id_of_the_request_is_in_the_line_of_its_context_only(start: Start) -> None:
    for form in ("json", "text"):
        stream = start(form)
        token = request_id.set("abc-1")
        log.info("within")
        request_id.reset(token)
        log.info("without")
        within, without = stream.getvalue().splitlines()
        assert "abc-1" in within
        assert "abc-1" not in without
        if form == "json":
            assert json.loads(within)["request_id"] == "abc-1"
            assert "request_id" not in json.loads(without)


def test_text_lines_are_for_people(start: Start) -> None:
    stream = start("text")
    request_id.set("")
    log.warning("the disk is %s", "full")
    line = stream.getvalue()
    assert line.endswith(" WARNING featurestore.server.test: the disk is full\n")
    assert "{" not in line


def test_configuring_again_replaces_what_logged_before(start: Start) -> None:
    former = start("text")
    stream = start("json", level=logging.WARNING)
    log.info("not shown")
    log.warning("shown")
    assert former.getvalue() == ""
    assert [line["message"] for line in lines(stream)] == ["shown"]


def test_a_flood_is_held_back_and_counted(start: Start) -> None:
    now = 0.0
    stream = start("json", flood=Flood(burst=3, window_s=10, clock=lambda: now))
    for number in range(500):
        log.error("call %d failed", number)
    log.error("something else")
    now = 11.0
    log.error("call %d failed", 500)
    messages = [line["message"] for line in lines(stream)]
    assert messages == [
        "call 0 failed",
        "call 1 failed",
        "call 2 failed",
        "something else",
        "… and 497 more like it: call %d failed",
        "call 500 failed",
    ]
    assert lines(stream)[4]["held_back"] == 497


def test_what_was_held_back_is_told_when_nothing_more_comes_and_at_the_end(start: Start) -> None:
    stream = start("text", flood=Flood(burst=1, window_s=0.05))
    for _ in range(3):
        log.warning("full")
    limit = time.monotonic() + 10
    while "… and 2 more like it: full" not in stream.getvalue():
        assert time.monotonic() < limit
        time.sleep(0.01)
    stream = start("text", flood=Flood(burst=1, window_s=60))
    for _ in range(3):
        log.warning("full")
    handler = logging.getLogger().handlers[0]
    handler.close()
    assert "… and 2 more like it: full" in stream.getvalue()


def test_infos_are_not_held_back(start: Start) -> None:
    stream = start("json", flood=Flood(burst=1))
    for _ in range(20):
        log.info("accepts calls")
    assert len(lines(stream)) == 20


def test_errors_of_other_kinds_are_not_held_back_together(start: Start) -> None:
    stream = start("json", flood=Flood(burst=1))
    for kind in (ValueError, OSError, ValueError):
        try:
            raise kind("x")
        except (ValueError, OSError):
            log.exception("%s failed", "GetRecord")
    assert len(lines(stream)) == 2


def test_warnings_of_libraries_are_lines(start: Start) -> None:
    stream = start("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", UserWarning, stacklevel=1)
    (line,) = lines(stream)
    assert line["logger"] == "py.warnings"
    assert "UserWarning: old" in str(line["message"])


def test_request_ids_differ() -> None:
    assert len({new_request_id() for _ in range(1_000)}) == 1_000


CRASHING = """
import logging, threading
from featureline.logs import configure
configure("json")
thread = threading.Thread(target=lambda: 1 / 0, name="writes")
thread.start()
thread.join()
for number in range(100):
    logging.getLogger("a").warning("again %d", number)
raise RuntimeError("the end")
"""


def test_crashes_are_lines_and_the_end_tells_what_was_held_back() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASHING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    found = [json.loads(line) for line in ended.stderr.splitlines()]
    messages = [line["message"] for line in found]
    assert messages[0] == "thread writes ends by an error"
    assert "ZeroDivisionError" in found[0]["exception"]
    assert messages[1:6] == [f"again {number}" for number in range(5)]
    assert messages[6:] == ["the process ends by an error", "… and 95 more like it: again %d"]
    assert "RuntimeError: the end" in found[6]["exception"]
    assert len({line["pid"] for line in found}) == 1
