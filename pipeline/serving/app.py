"""The HTTP routes, except the prediction route, which FastAPI only describes: see fast_path.py."""

from pathlib import Path
from typing import Any, Literal

import fastapi_swagger
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.routing import Route

from pipeline.serving.fast_path import FastPath
from pipeline.serving.metrics import CONTENT_TYPE, ServiceMetrics
from pipeline.serving.middleware import RequestMiddleware
from pipeline.serving.predictor import Predictor
from pipeline.serving.schemas import ROUTE, DispatchEstimate, OrderQuery, PredictionCounter

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
    """The reason for a 413 or 503."""

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

    FastPath answers predictions. All other requests pass RequestMiddleware, which counts and bounds them, to FastAPI's
    routes. Both are outside of FastAPI, whose own layers cost more than the answer.
    """
    metrics = ServiceMetrics(predictor.manifest)
    metrics.draining.set_function(lambda: float(lifecycle.draining))
    counter = PredictionCounter(predictor, metrics)
    api = create_api(predictor, lifecycle, metrics)
    routes = [route.path for route in api.routes if isinstance(route, Route)]
    return FastPath(RequestMiddleware(api, metrics, routes, log_requests), counter, metrics)


def create_api(predictor: Predictor, lifecycle: Lifecycle, metrics: ServiceMetrics) -> FastAPI:
    """Return FastAPI's app: health, metrics and documentation, and the description of the prediction route."""
    app = FastAPI(
        title="Time to dispatch",
        version="0.1",
        description="How many hours an order of spare parts would take to dispatch. The model served is "
        f"`{predictor.version}`; it knows the products {', '.join(predictor.product_codes)}. "
        "The server itself answers 400 to requests that are not HTTP.",
        docs_url=None,  # served below, from files in a package
        redoc_url=None,
    )

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
    async def time_to_dispatch() -> DispatchEstimate:
        """Estimate how many hours the order would take to dispatch."""
        raise NotImplementedError  # described here, answered by FastPath

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


def _describe_body(predictor: Predictor) -> dict[str, Any]:
    """Return the description of the body for OpenAPI, with the products of the served model."""
    schema = OrderQuery.model_json_schema()
    schema["properties"]["product_code"]["enum"] = predictor.product_codes
    example = {"product_code": predictor.product_codes[0], "orders_placed": 112}
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}
