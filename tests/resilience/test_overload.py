"""What the service does to clients that are too many, too slow, too large or gone."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from pipeline.serving import middleware, server as server_module
from pipeline.serving.app import Lifecycle, create_app
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import ROUTE
from pipeline.serving.server import MAX_HEAD_BYTES, MAX_HEADERS, DrainingServer, listen

BODY = b'{"product_code": "SKU001", "orders_placed": 112}'
HEAD = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n".encode()
CAP = 5
SECONDS = 2.0


@pytest.fixture
def port(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(middleware, "MAX_IN_FLIGHT", CAP)
    monkeypatch.setattr(server_module, "CLIENT_SECONDS", SECONDS)
    lifecycle = Lifecycle()
    listener = listen("127.0.0.1", 0)
    server = DrainingServer(create_app(predictor, lifecycle), lifecycle, drain_seconds=0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    port = listener.getsockname()[1]
    thread.start()
    yield port
    server.should_exit = True
    thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def ask(port: int, request: bytes) -> bytes:
    """One answer, whole, to one request on a connection of its own."""
    with closing(connect(port)) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(65536)
            assert data, f"closed after {received!r}"
            received += data
        return received


def metric(port: int, name: str) -> float:
    with closing(connect(port)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_beyond_the_cap_a_request_is_shed_at_once_and_health_is_still_answered(port: int) -> None:
    with ExitStack() as half_sent:
        for _ in range(CAP):
            half_sent.enter_context(closing(connect(port))).sendall(HEAD % len(BODY) + BODY[:10])
        while metric(port, "http_requests_in_flight") <= CAP:  # those, and this one
            time.sleep(0.01)
        shed = ask(port, HEAD % len(BODY) + BODY)
        assert shed.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in shed
        assert ask(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert ask(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert metric(port, "shed_requests_total") == 1
    while metric(port, "http_requests_in_flight") > 1:
        time.sleep(0.01)
    assert ask(port, HEAD % len(BODY) + BODY).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_leaves_in_the_middle_is_counted_and_leaves_nothing_behind(port: int) -> None:
    for _ in range(CAP + 1):
        with closing(connect(port)) as connection:
            connection.sendall(HEAD % len(BODY) + BODY[:10])
    while metric(port, "disconnected_requests_total") < CAP + 1:
        time.sleep(0.01)
    assert metric(port, "http_requests_in_flight") == 1  # this one


def test_a_body_said_to_be_too_large_is_refused_before_it_is_sent(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.sendall((HEAD % 10**9).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([b""], id="nothing"),
        pytest.param([b"POST / HT"], id="half a head"),
        pytest.param([HEAD % len(BODY), BODY[:10]], id="half a body"),
        pytest.param([b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /li"], id="half a second request"),
    ],
)
def test_a_client_that_keeps_the_server_waiting_is_dropped(port: int, sent: list[bytes]) -> None:
    with closing(connect(port)) as connection:
        for number, piece in enumerate(sent):
            connection.sendall(piece)
            if b"livez" in piece and number == 0:  # a second request begins when the first one is answered
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert ask(port, HEAD % len(BODY) + BODY).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("whole", [b"", HEAD % 16_000], ids=["its head", "its body"])
def test_a_client_that_drips_its_request_is_dropped_too(port: int, whole: bytes) -> None:
    start = time.monotonic()
    with closing(connect(port)) as connection:
        connection.sendall(whole or b"POST /")
        with pytest.raises(ConnectionError):
            drip(connection)
    assert time.monotonic() - start >= SECONDS  # it was not refused for what it sent


def drip(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"x")
        time.sleep(0.1)


TOO_LARGE = HEAD % 20_000
CHUNKED = HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("before", "status"),
    [
        pytest.param(b"", None, id="of a first request"),
        pytest.param(TOO_LARGE, b"413", id="after an answer that came before the body"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n0\r\n", None, id="behind a body in chunks"),
    ],
)
def test_headers_without_end_are_cut_off(port: int, before: bytes, status: bytes | None) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(before)
        if status:
            assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)
            connection.sendall(b"x" * 20_000)
        if not before.endswith(b"0\r\n"):
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
        sent = 0
        with suppress(ConnectionError):
            while sent < 1_000 * MAX_HEAD_BYTES:
                sent += connection.send(b"X: " + b"x" * 1020 + b"\r\n")
    assert sent < 1_000 * MAX_HEAD_BYTES  # the system's own buffers hold a part of it


def test_a_body_behind_its_refusal_may_be_sent_to_its_end(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(HEAD % 500_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        connection.sendall(b"x" * 500_000 + HEAD % len(BODY) + BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_kept_connection_may_be_silent_between_requests(port: int) -> None:
    with closing(connect(port)) as connection:
        for _ in range(2):
            connection.sendall(HEAD % len(BODY) + BODY)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(SECONDS + 1.5)


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n\r\n"
WISH = (HEAD % len(BODY)).replace(b"\r\n\r\n", b"\r\n" + H2C)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([WISH + BODY], id="at once"),
        pytest.param([WISH, BODY], id="body later"),
        pytest.param([WISH[:50], WISH[50:] + BODY[:5], BODY[5:]], id="in pieces"),
        pytest.param([WISH + BODY + WISH + BODY, WISH, BODY], id="pipelined"),
        pytest.param([CHUNKED[:-2] + H2C + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)], id="in chunks"),
    ],
)
def test_a_client_that_asks_for_http_2_is_answered_in_http_1(port: int, pieces: list[bytes]) -> None:
    requests = b"".join(pieces).count(b"POST")
    with closing(connect(port)) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.1)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == requests + 1
    assert received.count(b"est_hours_to_dispatch") == requests


def test_nonsense_behind_the_wish_for_http_2_is_refused(port: int) -> None:
    assert ask(port, (WISH + BODY).replace(b"POST", b"GET ") + b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 ")
    with closing(connect(port)) as connection:
        connection.sendall(WISH + BODY + b"nonsense\r\n\r\n")
        assert b" 400 " in b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_client_that_takes_no_answer_is_dropped(port: int) -> None:
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", port))
        with pytest.raises(ConnectionError):
            ask_without_end(connection)
    assert ask(port, HEAD % len(BODY) + BODY).startswith(b"HTTP/1.1 200 ")


def ask_without_end(connection: socket.socket) -> None:
    for _ in range(1_000):
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
    while True:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)


def test_a_request_with_more_headers_than_anybody_needs_is_cut_off(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1))
        with suppress(ConnectionError):
            assert connection.recv(1) == b""
