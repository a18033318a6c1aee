"""The fast path: valid questions to the prediction route are answered before FastAPI sees them.

A FastAPI route costs four times as much as the estimate. All other requests, and all refusals, go on to FastAPI. Both
use the same schemas and the same count; property tests prove that their answers are equal.
"""

import time
from collections.abc import Iterable
from functools import lru_cache

from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE, OrderQuery, PredictionCounter
from pipeline.utils import request_headers

_VALIDATOR = OrderQuery.__pydantic_validator__  # model_validate_json without its options
CACHE_SIZE = 4096  # encoded answers


class FastPath:
    """Answers valid questions to the prediction route, and forwards all other requests."""

    def __init__(self, middleware: RequestMiddleware, counter: PredictionCounter) -> None:
        self._middleware = middleware
        self._counter = counter
        self._encode = lru_cache(CACHE_SIZE)(self._encode_answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_prediction = scope["type"] == "http" and scope["path"] == ROUTE and scope["method"] == "POST"
        if not is_prediction or self._middleware.is_full() or not _has_small_json(scope["headers"]):
            await self._middleware(scope, receive, send)
            return
        start = time.perf_counter()
        request_headers.set(scope["headers"])
        self._middleware.in_flight += 1
        try:
            message = await receive()
        finally:
            self._middleware.in_flight -= 1
        try:
            hours = self._predict(message)
        except Exception:  # uvicorn answers with 500
            self._middleware.record(scope, 500, time.perf_counter() - start)
            raise
        if hours is None:
            await self._middleware.forward(scope, _replay(message, receive), send, start)
            return
        head, body = self._encode(hours)
        await send(head)
        await send(body)
        self._middleware.record(scope, 200, time.perf_counter() - start)

    def _predict(self, message: Message) -> float | None:
        if message["type"] != "http.request" or message.get("more_body", False):
            return None
        body = message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:  # a chunked body has no Content-Length
            return None
        try:
            query = _VALIDATOR.validate_json(body)
        except ValidationError:
            return None
        return self._counter.predict(query)

    def _encode_answer(self, hours: float) -> tuple[Message, Message]:
        body = self._counter.estimate(hours).model_dump_json().encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        return (
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": body},
        )


def _has_small_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the headers announce JSON of a permitted size; the body is not read before this is known."""
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
    """Return a `receive` that repeats the message which the fast path has taken, and then goes on."""
    taken = [message]

    async def receive_again() -> Message:
        return taken.pop() if taken else await receive()

    return receive_again
