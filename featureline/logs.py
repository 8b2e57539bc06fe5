"""What a server logs: lines for people or JSON, with the request's id, and no floods."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
import threading
from collections.abc import Hashable
from types import TracebackType
from typing import IO, Final, final

from featurestore.server.flood import Flood
from lineage.wire.requestid import request_id

__all__ = ["FORMATS", "JsonLines", "LogHandler", "configure"]

FORMATS: Final = ("text", "json")
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(
    form: str = "text",
    *,
    level: int = logging.INFO,
    stream: IO[str] | None = None,
    flood: Flood | None = None,
) -> LogHandler:
    """Log to stderr, one line an event, in place of what logged before; also warnings and crashes.

    Of warnings and errors that are alike only a few in ten seconds are shown; "… and N more like
    it" says how many were not.

    Args:
        form: `text` or `json`; see `JsonLines` for what a line has.
        level: the least that is shown.
        stream: in place of stderr.
        flood: what is a few.

    Returns:
        The handler; `close` it to show what is held back, as the end of the process does.
    """
    handler = LogHandler(sys.stderr if stream is None else stream, flood or Flood())
    handler.setFormatter(JsonLines() if form == "json" else _TextLines(_TEXT))
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
        former.close()
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    threading.excepthook = _log_thread_crash
    return handler


@final
class JsonLines(logging.Formatter):
    """One JSON object per line.

    Always: `time` (UTC), `level`, `logger`, `message`, `pid`. Where there is one: `request_id`;
    `exception` with the traceback; and the facts of the event, from `extra={"facts": {...}}`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        moment = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if request := request_id.get():
            line["request_id"] = request
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line |= {name: value for name, value in facts.items() if name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        # ASCII: other line ends of Unicode, and text that is none, stay within the line.
        return json.dumps(line, default=str)


@final
class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        request = request_id.get()
        if not request:
            return text
        # Into the first line: a traceback may follow.
        first, newline, rest = text.partition("\n")
        return f"{first} [{request}]{newline}{rest}"


@final
class LogHandler(logging.Handler):
    """Writes lines, and holds back what floods.

    Alike are events of one logger, level and message before its arguments are filled in, and of
    one kind of exception.

    Args:
        stream: where to.
        flood: how many alike are shown.
    """

    def __init__(self, stream: IO[str], flood: Flood) -> None:
        super().__init__()
        self._stream = stream
        self._flood = flood
        self._timer: threading.Timer | None = None
        self._closed_for_good = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event, or count it."""
        try:
            if record.levelno < logging.WARNING:
                self._write(record)
                return
            kind = (
                record.name,
                record.levelno,
                str(record.msg),
                record.exc_info[0] if record.exc_info else None,
            )
            held = self._flood.admit(kind)
            if held is None:
                self._tell_later()
                return
            if held:
                self._tell(kind, held)
            self._write(record)
        except Exception:  # noqa: BLE001  # logging's own rule: a log never fails its caller
            self.handleError(record)

    def close(self) -> None:
        """Say how many were held back, and end."""
        self.acquire()
        try:
            self._closed_for_good = True
            if self._timer is not None:
                self._timer.cancel()
            self._tell_held()
        finally:
            self.release()
        super().close()

    def _write(self, record: logging.LogRecord) -> None:
        self._stream.write(self.format(record) + "\n")
        self._stream.flush()

    def _tell_later(self) -> None:
        """Make sure that the count is told also when nothing more comes."""
        if self._timer is not None or self._closed_for_good:
            return
        self._timer = threading.Timer(self._flood.window_s, self._on_time)
        self._timer.daemon = True
        self._timer.start()

    def _on_time(self) -> None:
        self.acquire()
        try:
            self._timer = None
            if not self._closed_for_good:
                self._tell_held()
        finally:
            self.release()

    def _tell_held(self) -> None:
        for kind, count in self._flood.held().items():
            self._tell(kind, count)

    def _tell(self, kind: Hashable, count: int) -> None:
        assert isinstance(kind, tuple)
        name, level, message, _ = kind
        more = logging.LogRecord(
            name,
            level,
            "",
            0,
            "… and %s more like it: %s",
            (f"{count:,}", message),
            None,
        )
        more.facts = {"held_back": count}
        self._write(more)


def _log_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("featureline").critical(
        "the process ends by an error", exc_info=(kind, error, trace)
    )


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is None or issubclass(crash.exc_type, SystemExit):
        return
    name = crash.thread.name if crash.thread is not None else "?"
    logging.getLogger("featureline").critical(
        "thread %s ends by an error",
        name,
        exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback),
    )
