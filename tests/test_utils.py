"""What both stages share: log lines and time limits."""

import logging
import signal
import time
from collections.abc import Iterator

import pytest

from pipeline.utils import Stopped, TimeIsUp, configure_logger, time_limit


@pytest.fixture(autouse=True)
def log_handlers_are_restored() -> Iterator[None]:
    """configure_logger() replaces the handlers of the root logger."""
    handlers = logging.root.handlers[:]
    yield
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers


def test_whatever_a_message_has_in_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logger()
    logging.getLogger("pipeline").error("%s: rejected", "SKU\n2026-11-21 - INFO - \x1b[31mfine\u2028")
    assert capsys.readouterr().out.endswith(r" - SKU\n2026-11-21 - INFO - \x1b[31mfine\u2028: rejected" + "\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_block_and_is_the_callers_business_again_after_it(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"stopped by {number.name}"), time_limit(60):
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_that_is_reached_in_a_finalizer_is_not_lost() -> None:
    class Busy:
        def __del__(self) -> None:
            time.sleep(0.4)

    def let_go_of_it() -> None:
        Busy()
        time.sleep(60)

    with pytest.raises(TimeIsUp, match="not done in 0.2 s"), time_limit(0.2):
        let_go_of_it()


def test_a_block_that_is_not_done_in_time_is_ended_even_where_exceptions_are_swallowed() -> None:
    def stubborn() -> None:
        while True:
            try:
                time.sleep(60)
            except Exception:  # noqa: B902, S110 - as botocore does around a call
                pass

    with pytest.raises(TimeIsUp, match="not done in 0.2 s"), time_limit(0.2):
        stubborn()
