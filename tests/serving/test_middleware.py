"""The middleware's log lines about requests."""

import json
import logging
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from pipeline.serving.app import Lifecycle, create_app
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import ROUTE
from pipeline.utils import configure_logger

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ORDER = {"product_code": "SKU-OF-THE-WEEK", "orders_placed": 112}


@pytest.fixture(autouse=True)
def log_handlers_are_restored() -> Iterator[None]:
    """configure_logger() replaces the handlers of the root logger."""
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


def test_a_requests_line_has_its_id_and_nothing_from_its_body(
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
