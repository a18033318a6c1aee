"""The prediction route. FastAPI only describes it, since a FastAPI route costs four times as much as the estimate."""

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from pipeline.serving.metrics import ServiceMetrics
from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE, OrderQuery, PredictionCounter
from pipeline.utils import request_headers

_VALIDATOR = OrderQuery.__pydantic_validator__  # model_validate_json without its options
CACHE_SIZE = 4096  # encoded answers
UNKNOWN_PRODUCT = "The model was not trained on this product; GET /openapi.json lists the products that it knows"


class Refused(Exception):
    """A question with faults, or a body that is too large."""

    def __init__(self, status: int, reason: str, value: object, detail: object) -> None:
        super().__init__(status, reason, value, detail)
        self.status, self.reason, self.value, self.detail = status, reason, value, detail


class FastPath:
    """Answers the prediction route, and forwards all other requests."""

    def __init__(self, middleware: RequestMiddleware, counter: PredictionCounter, metrics: ServiceMetrics) -> None:
        self._middleware = middleware
        self._counter = counter
        self._metrics = metrics
        self._encode = lru_cache(CACHE_SIZE)(self._encode_answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_prediction = scope["type"] == "http" and scope["path"] == ROUTE and scope["method"] == "POST"
        if not is_prediction or self._middleware.is_full():
            await self._middleware(scope, receive, send)
            return
        start = time.perf_counter()
        request_headers.set(scope["headers"])
        self._middleware.in_flight += 1
        try:
            head, body = self._encode(self._predict(await self._read(scope["headers"], receive)))
            status = 200
        except Refused as refusal:
            self._metrics.count_refusal(refusal.reason, refusal.value)
            status = refusal.status
            head, body = _message(status, to_json({"detail": refusal.detail}, inf_nan_mode="strings"))
        except ClientDisconnect:
            self._middleware.record_disconnect(scope, start)
            return
        except Exception:  # uvicorn answers with 500
            self._middleware.record(scope, 500, time.perf_counter() - start)
            raise
        finally:
            self._middleware.in_flight -= 1
        await send(head)
        await send(body)
        self._middleware.record(scope, status, time.perf_counter() - start)

    async def _read(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> bytes:
        """Read the body; refuse it by its headers before it is read, if possible."""
        content_type = b""
        for name, value in headers:
            if name == b"content-type":
                content_type = content_type or value
            elif name == b"content-length" and (not value.strip().isdigit() or int(value) > MAX_BODY_BYTES):
                raise _too_large()
        if content_type != b"application/json" and not _is_json(content_type.decode("latin-1")):
            raise _invalid(
                [
                    {
                        "type": "content_type",
                        "loc": ("header", "content-type"),
                        "msg": "Content-Type should be application/json",
                        "input": content_type.decode("latin-1"),
                    }
                ]
            )
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                raise _too_large()
        return body

    def _predict(self, body: bytes) -> float:
        try:
            query = _VALIDATOR.validate_json(body)
        except ValidationError as error:
            raise _invalid([_fault(found) for found in error.errors(include_url=False)]) from error
        hours = self._counter.predict(query)
        if hours is None:
            raise _invalid(
                [
                    {
                        "type": "unknown_product",
                        "loc": ("body", "product_code"),
                        "msg": UNKNOWN_PRODUCT,
                        "input": query.product_code,
                    }
                ]
            )
        return hours

    def _encode_answer(self, hours: float) -> tuple[Message, Message]:
        return _message(200, self._counter.estimate(hours).model_dump_json().encode())


def _message(status: int, body: bytes) -> tuple[Message, Message]:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    return (
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


def _is_json(content_type: str) -> bool:
    media_type = content_type.split(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _too_large() -> Refused:
    return Refused(413, "too_large", None, f"the body is over {MAX_BODY_BYTES} bytes")


def _invalid(faults: list[dict[str, Any]]) -> Refused:
    return Refused(422, faults[0]["type"], faults[0].get("input"), faults)


def _fault(found: Any) -> dict[str, Any]:
    """Return a fault in FastAPI's form, with the input only if it was readable as JSON."""
    if found["type"] == "json_invalid":
        return {"type": "json_invalid", "loc": ("body",), "msg": found["msg"]}
    return {**found, "loc": ("body", *found["loc"])}
