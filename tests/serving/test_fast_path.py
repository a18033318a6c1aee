"""The fast path beside a reference by FastAPI: both give the same answers and counts, whatever a client sends."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from hypothesis import given, settings, strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from pipeline.serving.app import Lifecycle, create_app
from pipeline.serving.fast_path import FastPath
from pipeline.serving.metrics import ServiceMetrics
from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE, PredictionCounter
from pipeline.serving.server import DrainingServer, listen
from tests.serving.reference import create_reference

PRODUCTS = ("SKU001", "SKU003", "SKU-OF-NOBODY", "", "SKU001\0", "\u212a")
PAUSE = 0.005  # seconds between the pieces of a request, for the server to read the one before
UPGRADE = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAA"]
LAST = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"  # so that all is read which comes before it


@dataclass
class Pair:
    """The ports of two servers of the same model: the service, and the reference."""

    service: int
    reference: int


@pytest.fixture(scope="module")
def pair(predictor: Predictor) -> Iterator[Pair]:
    lifecycle = Lifecycle()
    servers, threads, ports = [], [], []
    for app in (create_app(predictor, lifecycle), create_reference(predictor)):
        listener = listen("127.0.0.1", 0)
        server = DrainingServer(app, lifecycle, drain_seconds=0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        ports.append(listener.getsockname()[1])
        servers.append(server)
        threads.append(thread)
        thread.start()
    yield Pair(*ports)
    for server, thread in zip(servers, threads, strict=True):
        server.should_exit = True
        thread.join()


def exchange(port: int, pieces: list[bytes]) -> bytes:
    """Send the pieces, each by itself, and read to the end."""
    received = b""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(PAUSE)
                connection.sendall(piece)
            while data := connection.recv(65536):
                received += data
        except ConnectionError:  # it was closed on what it took for nonsense
            pass
    return re.sub(rb"date: [^\r]+", b"date: now", received)


orders = st.one_of(
    st.integers(-2, 400),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.just([]),
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "product_code": st.one_of(st.sampled_from(PRODUCTS), st.text(max_size=8), st.none(), st.integers()),
        "orders_placed": orders,
        "note": st.text(max_size=5),
    },
)
valid = st.builds(
    lambda code, placed: {"product_code": code, "orders_placed": placed},
    st.sampled_from(("SKU001", "SKU005")),
    st.one_of(st.integers(0, 250), st.floats(0, 1e300), st.integers(0, 10**30)),
)
texts = st.one_of(valid, valid, objects).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
broken = st.builds(lambda text, cut, tail: text[:cut] + tail, texts, st.integers(0, 60), st.binary(max_size=3))
huge = st.one_of(st.integers(MAX_BODY_BYTES - 60, MAX_BODY_BYTES + 60), st.just(300_000)).map(
    lambda size: b'{"product_code": "SKU001", "orders_placed": 7}'.ljust(size)
)
by_hand = st.sampled_from(
    [
        b"",
        b"\xef\xbb\xbf{}",
        b'{"product_code": "SKU001", "orders_placed": NaN}',
        b'{"product_code": "SKU001", "orders_placed": -0.0}',
        b'{"product_code": "SKU001", "orders_placed": 1e400}',
        b'{"product_code": "\\ud800", "orders_placed": 1}',
        b'{"product_code": "SKU001", "orders_placed": 1, "orders_placed": 2}',
        b'{"product_code": "SKU001", "orders_placed": ' + b"9" * 5000 + b"}",
        b"[" * 5000,
    ]
)
bodies = st.one_of(texts, texts, broken, huge, by_hand, st.binary(max_size=20))
content_types = st.sampled_from(
    ["application/json"] * 8
    + ["application/json; charset=utf-8", "APPLICATION/JSON", "application/geo+json", "text/plain", "", None]
)
targets = st.sampled_from(
    [ROUTE] * 10 + [ROUTE + "?x=1", ROUTE + "/", ROUTE.replace("time", "%74ime"), "/livez", "/nowhere", "*"]
)
blanks = st.sampled_from([""] * 9 + [" ", "\t "])
versions = st.sampled_from(["1.1"] * 10 + ["1.0"])
lies = st.sampled_from([0] * 20 + [-1, 1, 5])  # of a body's length; what follows is taken for the rest
methods = st.sampled_from(["POST"] * 10 + ["GET", "HEAD", "PUT", "OPTIONS", "BREW"])


@st.composite
def requests(draw: st.DrawFn, honest: bool = False) -> list[bytes]:
    """One request's pieces: whole, in two pieces, chunked, or not as long as it says, and then short and in one.

    What comes after a body that is not as long as it says is nonsense. uvicorn refuses it when it reads it, be the
    answers before it written or not: which it is depends on the time between two reads, so there must be one.
    """
    body, content_type = draw(bodies), draw(content_types)
    honest = honest or len(body) > 1_000
    lie = 0 if honest else draw(lies)
    lines = [f"{draw(methods)} {draw(targets)} HTTP/{draw(versions)}", "Host: x"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if draw(st.integers(0, 19)) == 0:
        lines.append(f"Content-Type: {draw(content_types)}")
    if draw(st.integers(0, 9)) == 0:
        lines.append("Expect: 100-continue")
    if draw(st.integers(0, 9)) == 0:
        lines += UPGRADE
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(body)))
        chunks = [chunk for chunk in (body[:at], body[at:]) if chunk]
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    elif honest or draw(st.integers(0, 19)):
        lines.append(f"Content-Length: {max(len(body) + lie, 0)}{draw(blanks)}")
    else:
        lie = len(body)
    head = "\r\n".join([*lines, "", ""]).encode()
    if not lie and draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(body)))
        return [head + body[:at], body[at:]]
    return [head + body]


def test_a_chunked_body_over_the_limit_is_refused_although_it_arrives_at_once(pair: Pair) -> None:
    body = b'{"product_code": "SKU001", "orders_placed": 7}'.ljust(MAX_BODY_BYTES + 1)
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) + LAST.encode()
    assert exchange(pair.service, [request]).startswith(b"HTTP/1.1 413 ")
    assert_same_answer(pair, [request])


def assert_same_answer(pair: Pair, pieces: list[bytes]) -> None:
    assert exchange(pair.service, pieces) == exchange(pair.reference, pieces)


@settings(max_examples=300)
@given(request=requests())
def test_fast_path_and_fastapi_give_the_same_answer_to_any_request(pair: Pair, request: list[bytes]) -> None:
    assert_same_answer(pair, [*request[:-1], request[-1] + LAST.encode()])


@pytest.mark.parametrize("tail", [b"", b" ", b"x", b"{}"])
def test_a_body_is_validated_only_once_it_is_complete(pair: Pair, tail: bytes) -> None:
    body = b'{"product_code": "SKU001", "orders_placed": 7}'
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with_length = f"{head}Content-Length: {len(body + tail)}\r\n\r\n".encode() + body
    chunk = b"%x\r\n%b\r\n"
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk % (len(body), body)
    rest = (chunk % (len(tail), tail) if tail else b"") + b"0\r\n\r\n"
    for pieces in ([with_length, tail + LAST.encode()], [chunked, rest + LAST.encode()]):
        assert_same_answer(pair, pieces)


@settings(max_examples=30)
@given(several=st.lists(requests(honest=True), min_size=2, max_size=5))
def test_fast_path_and_fastapi_give_the_same_answers_to_pipelined_requests(
    pair: Pair, several: list[list[bytes]]
) -> None:
    pipelined = b"".join(piece for request in several for piece in request)
    assert_same_answer(pair, [pipelined + LAST.encode()])


@settings(max_examples=100)
@given(body=bodies)
def test_fast_path_and_fastapi_count_the_same(predictor: Predictor, body: bytes) -> None:
    counted = []
    for app in (create_app(predictor, Lifecycle()), create_reference(predictor)):
        client = TestClient(app)
        client.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
        text = client.get("/metrics").text
        own = re.compile("_created|_age_|duration_seconds_(bucket|sum)")
        counted.append([line for line in text.splitlines() if not own.search(line)])
    assert counted[0] == counted[1]


def test_a_question_never_reaches_fastapi(predictor: Predictor) -> None:
    metrics = ServiceMetrics(predictor.manifest)

    async def unreachable(scope: object, receive: object, send: object) -> None:
        raise AssertionError("the fast path did not answer")

    middleware = RequestMiddleware(unreachable, metrics, {ROUTE}, log_requests=False)
    client = TestClient(FastPath(middleware, PredictionCounter(predictor, metrics), metrics))
    answer = client.post(ROUTE, json={"product_code": "SKU001", "orders_placed": 112.5})
    assert answer.status_code == 200
    assert set(answer.json()) == {"est_hours_to_dispatch", "model_version"}
    assert client.post(ROUTE, json={}).status_code == 422


def test_a_client_that_leaves_before_its_body_is_complete_is_counted_as_disconnected_only(predictor: Predictor) -> None:
    app = create_app(predictor, Lifecycle())
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError("nobody is there to read an answer")

    headers = [(b"content-type", b"application/json"), (b"content-length", b"40")]
    scope = {"type": "http", "method": "POST", "path": ROUTE, "raw_path": ROUTE.encode(), "headers": headers}
    asyncio.run(app(scope, receive, send))
    text = TestClient(app).get("/metrics").text
    assert "disconnected_requests_total 1.0" in text
    assert f'route="{ROUTE}"' not in text


def test_a_fault_of_the_model_is_counted_by_both(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*query: object) -> float:
        raise RuntimeError("a fault")

    monkeypatch.setattr(predictor, "hours", fail)
    for app in (create_app(predictor, Lifecycle()), create_reference(predictor)):
        client = TestClient(app, raise_server_exceptions=False)
        assert client.post(ROUTE, json={"product_code": "SKU001", "orders_placed": 1}).status_code == 500
        counted = f'http_requests_total{{method="POST",route="{ROUTE}",status="500"}} 1.0'
        assert counted in client.get("/metrics").text


def test_a_refusal_is_timed_from_its_head_on(pair: Pair) -> None:
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    before = seconds_spent(pair.service)
    with closing(socket.create_connection(("127.0.0.1", pair.service), timeout=30)) as connection:
        connection.sendall(head.encode())
        time.sleep(0.3)
        connection.sendall(b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")
    assert seconds_spent(pair.service) - before >= 0.25


def seconds_spent(port: int) -> float:
    text = exchange(port, [b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]).decode()
    found = re.search(r"^http_request_duration_seconds_sum (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])
