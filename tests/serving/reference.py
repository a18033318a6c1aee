"""The prediction route by FastAPI alone: a second implementation, which the fast path is compared with."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import to_json

from pipeline.serving.app import Lifecycle, create_api
from pipeline.serving.metrics import ServiceMetrics
from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE, DispatchEstimate, OrderQuery, PredictionCounter


def create_reference(predictor: Predictor) -> RequestMiddleware:
    """Return a service that answers predictions by FastAPI, and everything else as the real one does."""
    metrics = ServiceMetrics(predictor.manifest)
    counter = PredictionCounter(predictor, metrics)
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    api.add_exception_handler(RequestValidationError, _refuse(metrics))
    api.add_exception_handler(413, _refuse_size(metrics))

    @api.post(ROUTE)
    async def time_to_dispatch(query: Annotated[OrderQuery, Depends(_read_query)]) -> DispatchEstimate:
        hours = counter.predict(query)
        if hours is None:
            raise RequestValidationError([_unknown_product(query.product_code)])
        return counter.estimate(hours)

    api.mount("/", create_api(predictor, Lifecycle(), metrics))
    return RequestMiddleware(api, metrics, {ROUTE, "/livez"}, log_requests=False)


async def _read_query(request: Request) -> OrderQuery:
    length = request.headers.get("content-length", "0").strip()
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise _too_large()
    content_type = request.headers.get("content-type", "")
    if not _is_json(content_type):
        fault = {
            "type": "content_type",
            "loc": ("header", "content-type"),
            "msg": "Content-Type should be application/json",
            "input": content_type,
        }
        raise RequestValidationError([fault])
    try:
        return OrderQuery.model_validate_json(await _read_body(request))
    except ValidationError as error:
        raise RequestValidationError([_fault(found) for found in error.errors(include_url=False)]) from error


def _is_json(content_type: str) -> bool:
    media_type = content_type.split(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


async def _read_body(request: Request) -> bytes:
    """Read the whole body; 413 as soon as it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body is over {MAX_BODY_BYTES} bytes")


def _fault(found: Any) -> dict[str, Any]:
    """Return a fault in FastAPI's form, with the input only if it was readable as JSON."""
    if found["type"] == "json_invalid":
        return {"type": "json_invalid", "loc": ("body",), "msg": found["msg"]}
    return {**found, "loc": ("body", *found["loc"])}


def _unknown_product(product_code: str) -> dict[str, Any]:
    return {
        "type": "unknown_product",
        "loc": ("body", "product_code"),
        "msg": "The model was not trained on this product; GET /openapi.json lists the products that it knows",
        "input": product_code,
    }


def _refuse(metrics: ServiceMetrics) -> Any:
    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = error.errors()
        metrics.count_refusal(faults[0]["type"], faults[0].get("input"))
        return Response(to_json({"detail": faults}, inf_nan_mode="strings"), 422, media_type="application/json")

    return refuse


def _refuse_size(metrics: ServiceMetrics) -> Any:
    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        metrics.count_refusal("too_large", None)
        return await http_exception_handler(request, error)

    return refuse
