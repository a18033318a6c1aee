"""The HTTP routes.

pydantic validates the bytes of a body. FastAPI's way, through Python objects, would answer 500 to NaN, Infinity and
half surrogate pairs, and 400 to bytes that are not UTF-8.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import fastapi_swagger
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.routing import Route

from pipeline.serving.fast_path import FastPath
from pipeline.serving.metrics import CONTENT_TYPE, ServiceMetrics
from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import MAX_BODY_BYTES, ROUTE, DispatchEstimate, OrderQuery, PredictionCounter

SWAGGER_FILES = Path(fastapi_swagger.__file__).parent / "resources"


class ValidationErrorDetail(BaseModel):
    """One fault of a request, and its place."""

    type: str
    loc: list[str | int]
    msg: str
    input: Any = None
    ctx: dict[str, Any] | None = None


class ValidationErrors(BaseModel):
    """Every fault of a refused request."""

    detail: list[ValidationErrorDetail]


class ErrorMessage(BaseModel):
    """Why a request was not read: its size, or too many others."""

    detail: str


SHED: dict[int | str, dict[str, Any]] = {
    503: {
        "model": ErrorMessage,
        "description": "too many requests are unfinished",
        "headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
    }
}


class Health(BaseModel):
    """A replica's state, and the model that it serves."""

    status: Literal["alive", "ready", "draining"]
    model_version: str


class Lifecycle:
    """Whether the replica is draining: the server sets it, routes and metrics show it."""

    def __init__(self) -> None:
        self.draining = False


def create_app(predictor: Predictor, lifecycle: Lifecycle, log_requests: bool = False) -> FastPath:
    """Return the service for one model.

    FastPath answers valid predictions. All other requests pass RequestMiddleware, which counts and bounds them, to
    FastAPI's routes. Both are outside of FastAPI, whose own layers cost more than the answer.
    """
    metrics = ServiceMetrics(predictor.manifest)
    metrics.draining.set_function(lambda: float(lifecycle.draining))
    counter = PredictionCounter(predictor, metrics)
    api = create_api(predictor, lifecycle, metrics, counter)
    routes = [route.path for route in api.routes if isinstance(route, Route)]
    return FastPath(RequestMiddleware(api, metrics, routes, log_requests), counter)


def create_api(
    predictor: Predictor, lifecycle: Lifecycle, metrics: ServiceMetrics, counter: PredictionCounter
) -> FastAPI:
    """Return FastAPI's app: every route and every refusal."""
    app = FastAPI(
        title="Time to dispatch",
        version="0.1",
        description="How many hours an order of spare parts would take to dispatch. The model served is "
        f"`{predictor.version}`; it knows the products {', '.join(predictor.product_codes)}. "
        "The server itself answers 400 to requests that are not HTTP.",
        docs_url=None,  # served below, from files in a package
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _refuse(metrics))
    app.add_exception_handler(413, _refuse_size(metrics))

    @app.post(
        ROUTE,
        responses={
            413: {"model": ErrorMessage, "description": "the body is too large"},
            422: {"model": ValidationErrors},
            500: {"description": "a fault of the service", "content": {"text/plain": {}}},
            **SHED,
        },
        openapi_extra={"requestBody": _describe_body(predictor)},
    )
    async def time_to_dispatch(query: Annotated[OrderQuery, Depends(_read_query)]) -> DispatchEstimate:
        """Estimate how many hours the order would take to dispatch."""
        hours = counter.predict(query)
        if hours is None:
            raise RequestValidationError([_unknown_product(query.product_code)])
        return counter.estimate(hours)

    @app.get("/livez")
    async def livez() -> Health:
        """Answer 200 while the process runs."""
        return Health(status="alive", model_version=predictor.version)

    @app.get("/readyz", responses={503: {"model": Health, "description": "draining"}})
    async def readyz(response: Response) -> Health:
        """Answer 200 if new requests may be sent here, and 503 while the replica drains."""
        response.status_code = 503 if lifecycle.draining else 200
        return Health(status="draining" if lifecycle.draining else "ready", model_version=predictor.version)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus_metrics() -> Response:
        """Return the metrics in Prometheus's text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(  # relative addresses work behind any prefix
            openapi_url="./openapi.json",
            title=app.title,
            swagger_js_url="./swagger/swagger-ui-bundle.js",
            swagger_css_url="./swagger/swagger-ui.css",
            swagger_favicon_url="./swagger/favicon-32x32.png",
        )

    app.mount("/swagger", StaticFiles(directory=SWAGGER_FILES))
    return app


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
        "msg": "The model was not trained on this product, GET /openapi.json lists those that it knows",
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


def _describe_body(predictor: Predictor) -> dict[str, Any]:
    """Return the description of the body for OpenAPI, with the products of the served model."""
    schema = OrderQuery.model_json_schema()
    schema["properties"]["product_code"]["enum"] = predictor.product_codes
    example = {"product_code": predictor.product_codes[0], "orders_placed": 112}
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
