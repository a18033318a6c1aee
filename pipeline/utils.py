"""What both stages share: the log format, the time limit, and the commit that they run."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

from pythonjsonlogger.json import JsonFormatter

TEXT = "%(asctime)s - %(levelname)s - %(module)s.%(funcName)s - %(message)s"
LOG_FORMATS = ("text", "json")
REQUEST_HEADERS = (b"traceparent", b"x-request-id")  # the first one that is present identifies the request
MAX_ID_LENGTH = 128  # characters
MAX_LISTED = 10  # items of a list in a log line
INTERRUPTIONS = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)

request_headers: ContextVar[Sequence[tuple[bytes, bytes]]] = ContextVar("request_headers", default=())


def configure_logger(log_format: str = "text", level: int = logging.INFO) -> None:
    """Write every log record of the process to standard output, with times in UTC, as text or as one line of JSON.

    Example: `2021-07-05 18:52:24,264 - INFO - train_model.main - Starting train-model stage.`

    Text lines about a request end with its `traceparent` or `X-Request-ID`; JSON lines have it in the field `request`.
    """
    handler = logging.StreamHandler(sys.stdout)
    formatter: logging.Formatter = _JsonLines() if log_format == "json" else _TextLines(TEXT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("botocore").setLevel(logging.ERROR)  # its warnings have tracebacks; our own errors say the same


def checked_out_commit() -> str:
    """Return the short hash of the checked-out commit, as Bodywork gives it to a stage; `unknown` without git."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "rev-parse", "--short", "HEAD"]
        folder = Path(__file__).parent
        return subprocess.check_output(command, cwd=folder, text=True, stderr=subprocess.DEVNULL).strip()
    return "unknown"


def request_id() -> str | None:
    """Return the ID of the request that is being answered; None outside of requests and for those without an ID."""
    headers = {name: value for name, value in request_headers.get() if name in REQUEST_HEADERS}
    known = next((headers[name] for name in REQUEST_HEADERS if name in headers), None)
    return known.decode("ascii", "backslashreplace")[:MAX_ID_LENGTH] if known else None


def printable(text: str) -> str:
    """Return the text with its control characters escaped, so that data cannot break a line or a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def first_few(texts: Sequence[str], separator: str = ", ") -> str:
    """Join the first ten texts, and say how many more there are."""
    more = len(texts) - MAX_LISTED
    return separator.join(texts[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


class _TextLines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        request = request_id()
        record.message = printable(record.message)
        return super().formatMessage(record) + (f" - request {request}" if request else "")


class _JsonLines(JsonFormatter):
    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "module": "module", "funcName": "function"}
        super().__init__([*names, "message"], rename_fields=names)

    def process_log_record(self, log_data: dict[str, object]) -> dict[str, object]:
        request = request_id()
        return log_data | ({"request": request} if request else {})


class Interrupted(BaseException):
    """The stage must end now. It is not an Exception: botocore would take that for a failed try, and try again."""


class TimeIsUp(Interrupted):
    """The stage has reached its time limit."""


class Stopped(Interrupted):
    """A signal asked the stage to stop."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the main thread if the block is not done in time, and Stopped on SIGTERM or Ctrl-C."""

    def give_up(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            raise TimeIsUp(f"not done in {seconds:g} s")
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    handlers = {number: signal.signal(number, give_up) for number in INTERRUPTIONS}
    # repeated each second: Python discards an exception that is raised in a finalizer
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in handlers.items():
            signal.signal(number, handler)
