"""The stage serve_model as a process: what it does to its clients when it starts, drains and stops."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from pipeline.keys import CHAMPION_KEY, format_version, manifest_key, model_key
from pipeline.serve_model import main
from pipeline.serving.schemas import ROUTE
from tests.conftest import DRAIN_SECONDS, NOW, Bucket, RunStage, Service

VERSION = format_version(NOW)
BODY = json.dumps({"product_code": "SKU001", "orders_placed": 112})


def ask(connection: http.client.HTTPConnection, method: str = "POST", route: str = ROUTE) -> http.client.HTTPResponse:
    """Send one request and read its whole answer; the connection stays as it is."""
    body = BODY if method == "POST" else None
    connection.request(method, route, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer


def wait_until_draining(service: Service) -> None:
    with closing(service.connect()) as connection:
        while ask(connection, "GET", "/readyz").status != 503:
            time.sleep(0.01)


def test_a_drain_loses_no_request_and_ends_with_exit_code_0(service: Service) -> None:
    kept, new = service.connect(), service.connect()
    assert ask(kept).getheader("Connection") is None
    half_sent = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    headers = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}"
    half_sent.sendall(f"POST {ROUTE} HTTP/1.1\r\n{headers}\r\n\r\n{BODY[:10]}".encode())

    service.process.send_signal(signal.SIGTERM)
    wait_until_draining(service)
    last_on_kept = ask(kept)
    assert (last_on_kept.status, last_on_kept.getheader("Connection")) == (200, "close")
    on_a_new_one = ask(new)
    assert (on_a_new_one.status, on_a_new_one.getheader("Connection")) == (200, "close")
    while service.is_open():
        time.sleep(0.05)
    half_sent.sendall(BODY[10:].encode())
    assert half_sent.recv(1000).startswith(b"HTTP/1.1 200 OK")
    half_sent.close()
    assert service.process.wait(30) == 0


def test_ctrl_c_skips_the_drain_and_is_exit_code_0(service: Service) -> None:
    started = time.monotonic()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(30) == 0
    assert time.monotonic() - started < DRAIN_SECONDS


def test_a_second_signal_ends_the_drain(service: Service) -> None:
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    wait_until_draining(service)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0
    assert time.monotonic() - started < DRAIN_SECONDS


def test_a_port_in_use_is_one_clear_line(trained_bucket: Bucket, run_stage: RunStage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [trained_bucket.name, "--host=127.0.0.1", f"--port={port}"]
        code, (error,) = run_stage(main, arguments, trained_bucket.environment)
    assert code == 1
    assert error.startswith(f"Cannot listen on 127.0.0.1 port {port}: Address already in use")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(lambda bucket: bucket.delete(CHAMPION_KEY), "no model was ever promoted", id="no champion"),
        pytest.param(
            lambda bucket: bucket.put(CHAMPION_KEY, b"{"),
            "models/champion.json cannot be understood: ",
            id="broken pointer",
        ),
        pytest.param(lambda bucket: bucket.delete(manifest_key(VERSION)), "there is no model", id="dangling pointer"),
        pytest.param(lambda bucket: bucket.delete(model_key(VERSION)), "model.joblib is missing", id="missing model"),
        pytest.param(lambda bucket: bucket.put(model_key(VERSION), b""), "0 bytes with sha256", id="empty model"),
    ],
)
def test_without_a_good_model_it_does_not_start_and_says_why_in_one_line(
    trained_bucket: Bucket, spoil: Callable[[Bucket], None], problem: str, run_stage: RunStage
) -> None:
    spoil(trained_bucket)
    code, (error,) = run_stage(main, [trained_bucket.name], trained_bucket.environment)
    assert code == 1
    assert error.startswith("No model to serve: ")
    assert problem in error


@pytest.mark.parametrize(
    "arguments",
    [[], ["bucket", "--port", "65536"], ["bucket", "--port", "http"], ["bucket", "--drain-seconds", "-1"]],
)
def test_bad_arguments_are_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
