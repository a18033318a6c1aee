"""The lines that the stages write."""

import json
import logging
import signal
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from pipeline.serving.app import Lifecycle, create_app
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import ROUTE
from pipeline.utils import Stopped, TimeIsUp, configure_logger, time_limit

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ORDER = {"product_code": "SKU-OF-THE-WEEK", "orders_placed": 112}


@pytest.fixture(autouse=True)
def the_other_tests_logs_stay_as_they_are() -> Iterator[None]:
    """Puts back what a process has only once."""
    handlers = logging.root.handlers[:]
    yield
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers


def lines_of(
    capsys: pytest.CaptureFixture[str], predictor: Predictor, log_format: str, log_requests: bool
) -> list[str]:
    configure_logger(log_format)
    client = TestClient(create_app(predictor, Lifecycle(), log_requests))
    client.post(ROUTE, json=ORDER, headers={"traceparent": TRACE, "X-Request-ID": "second"})
    client.post(ROUTE, json={**ORDER, "product_code": "SKU001"}, headers={"X-Request-ID": "call-7"})
    return [line for line in capsys.readouterr().out.splitlines() if ROUTE in line and "middleware" in line]


def test_requests_are_not_logged_unless_asked_for(capsys: pytest.CaptureFixture[str], predictor: Predictor) -> None:
    assert lines_of(capsys, predictor, "text", log_requests=False) == []


def test_a_requests_line_says_what_it_is_known_by_and_nothing_of_its_body(
    capsys: pytest.CaptureFixture[str], predictor: Predictor
) -> None:
    refused, answered = lines_of(capsys, predictor, "text", log_requests=True)
    assert f"POST {ROUTE}: 422 in " in refused
    assert refused.endswith(f" - request {TRACE}")
    assert f"POST {ROUTE}: 200 in " in answered
    assert answered.endswith(" - request call-7")
    assert "SKU" not in refused + answered


def test_json_lines_have_the_same_in_fields(capsys: pytest.CaptureFixture[str], predictor: Predictor) -> None:
    refused, answered = (json.loads(line) for line in lines_of(capsys, predictor, "json", log_requests=True))
    assert set(answered) == {"time", "level", "module", "function", "message", "request"}
    assert (refused["request"], answered["request"]) == (TRACE, "call-7")
    assert (answered["level"], answered["module"], answered["function"]) == ("INFO", "middleware", "log_request")


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
