"""The fast lane: the one hot route, answered in front of FastAPI.

A FastAPI route costs four times the model's answer. So a POST to the hot route with a valid body is answered here, and
everything else - every refusal, every other route, the documentation - goes to FastAPI as if there were no lane. The
request, the answer and the counting are FastAPI's own (`OrderQuery`, `PredictionCounter`); tests prove that both say
the same.
"""

import time
from collections.abc import Iterable
from functools import lru_cache

from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE, OrderQuery, PredictionCounter
from pipeline.utils import request_headers

_VALIDATOR = OrderQuery.__pydantic_validator__  # what model_validate_json calls, without its options
CACHE_SIZE = 4096  # answers, ready to be sent


class FastPath:
    """Answers a valid question itself, and hands everything else on."""

    def __init__(self, traffic: RequestMiddleware, estimates: PredictionCounter) -> None:
        self._traffic = traffic
        self._estimates = estimates
        self._remembered = lru_cache(CACHE_SIZE)(self._write)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_hot = scope["type"] == "http" and scope["path"] == ROUTE and scope["method"] == "POST"
        if not is_hot or self._traffic.is_full() or not _is_fit(scope["headers"]):
            await self._traffic(scope, receive, send)
            return
        start = time.perf_counter()
        request_headers.set(scope["headers"])
        self._traffic.in_flight += 1
        try:
            message = await receive()
        finally:
            self._traffic.in_flight -= 1
        try:
            hours = self._estimate(message)
        except Exception:  # uvicorn answers with 500
            self._traffic.record(scope, 500, time.perf_counter() - start)
            raise
        if hours is None:
            await self._traffic.forward(scope, _replay(message, receive), send, start)
            return
        head, body = self._remembered(hours)
        await send(head)
        await send(body)
        self._traffic.record(scope, 200, time.perf_counter() - start)

    def _estimate(self, message: Message) -> float | None:
        if message["type"] != "http.request" or message.get("more_body", False):
            return None
        try:
            query = _VALIDATOR.validate_json(message.get("body", b""))
        except ValidationError:
            return None
        return self._estimates.hours(query)

    def _write(self, hours: float) -> tuple[Message, Message]:
        body = self._estimates.describe(hours).model_dump_json().encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        return (
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": body},
        )


def _is_fit(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Is the body said to be JSON, and small? It is not read before this is known."""
    is_json = False
    for name, value in headers:
        if name == b"content-type":
            if value != b"application/json":
                return False
            is_json = True
        elif name == b"content-length" and (len(value) > 9 or int(value) > MAX_BODY_BYTES):
            return False
    return is_json


def _replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives the message which the lane has taken once more, then what follows it."""
    taken = [message]

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again
