"""What both stages and their commands share: the log's form, the limit on their time, the commit they are of."""

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
REQUEST_HEADERS = (b"traceparent", b"x-request-id")  # what a request may be known by, the first that it has
MAX_ID_LENGTH = 128  # characters
FEW = 10
INTERRUPTIONS = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)

request_headers: ContextVar[Sequence[tuple[bytes, bytes]]] = ContextVar("request_headers", default=())


def configure_logger(log_format: str = "text", level: int = logging.INFO) -> None:
    """Send every log record of the process to standard output, times in UTC, as text or as a line of JSON each.

    For instance: `2021-07-05 18:52:24,264 - INFO - train_model.main - Starting train-model stage.`

    A line about a request that came with `traceparent` or `X-Request-ID` has that at its end, or as `request`.
    """
    handler = logging.StreamHandler(sys.stdout)
    formatter: logging.Formatter = _JsonLines() if log_format == "json" else _TextLines(TEXT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("botocore").setLevel(logging.ERROR)  # what it warns of, with a traceback, is an error of ours


def checked_out_commit() -> str:
    """The short hash of this code's commit, like the one that Bodywork gives a stage; `unknown` where git has none."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "rev-parse", "--short", "HEAD"]
        folder = Path(__file__).parent
        return subprocess.check_output(command, cwd=folder, text=True, stderr=subprocess.DEVNULL).strip()
    return "unknown"


def request_id() -> str | None:
    """What the request that is being answered is known by; None if it did not say, or there is none."""
    headers = {name: value for name, value in request_headers.get() if name in REQUEST_HEADERS}
    known = next((headers[name] for name in REQUEST_HEADERS if name in headers), None)
    return known.decode("ascii", "backslashreplace")[:MAX_ID_LENGTH] if known else None


def printable(text: str) -> str:
    """The text with its control characters spelt out: what comes from the data breaks neither line nor terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def first_few(texts: Sequence[str], separator: str = ", ") -> str:
    """The first ten of them, and how many more there are: 500 product codes are no line that anybody reads."""
    more = len(texts) - FEW
    return separator.join(texts[:FEW]) + (f" and {more} more" if more > 0 else "")


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
    """What is being done must end now. No Exception: botocore takes those for a failed try, and tries again."""


class TimeIsUp(Interrupted):
    """The stage has used up its time."""


class Stopped(Interrupted):
    """A signal asks the stage to stop."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp, wherever the main thread is, if the block is not done in time; Stopped on SIGTERM or Ctrl-C."""

    def give_up(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            raise TimeIsUp(f"not done in {seconds:g} s")
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    handlers = {number: signal.signal(number, give_up) for number in INTERRUPTIONS}
    # again each second: where the interpreter was in a finalizer, the first one was lost
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in handlers.items():
            signal.signal(number, handler)
