"""The middleware: it counts, times, limits and, if asked to, logs requests; the fast path reports its own."""

import logging
import time
from collections.abc import Collection

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.metrics import ServiceMetrics
from pipeline.serving.schemas import ROUTE
from pipeline.utils import request_headers

MAX_IN_FLIGHT = 1_000  # unfinished requests, which wait for their body or for a file: about 40 kB each
NEVER_SHED = frozenset({"/livez", "/readyz", "/metrics"})
RETRY_AFTER_SECONDS = 1
OVERLOADED = b'{"detail":"too many requests in flight, try again later"}'

log = logging.getLogger(__name__)


class RequestMiddleware:
    """Counts, times and limits all requests; the fast path reports to it what it answers itself."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics, routes: Collection[str], log_requests: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = frozenset(routes)
        self._log_requests = log_requests
        self.in_flight = 0
        metrics.in_flight.set_function(lambda: self.in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer 503 if too many are unfinished."""
        if scope["type"] == "http":
            await self.forward(scope, receive, send, time.perf_counter())
        else:
            await self._app(scope, receive, send)

    async def forward(self, scope: Scope, receive: Receive, send: Send, start: float) -> None:
        """Forward a request that began at `start`, by time.perf_counter()."""
        status = 500  # unless the app answers

        async def record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request_headers.set(scope["headers"])
        app = self._shed if self.is_full() and scope["path"] not in NEVER_SHED else self._app
        disconnected = False
        self.in_flight += 1
        try:
            await app(scope, receive, record_status)
        except ClientDisconnect:  # the client left during its request
            disconnected = True
        finally:
            self.in_flight -= 1
            if disconnected:
                self.record_disconnect(scope, start)
            else:
                self.record(scope, status, time.perf_counter() - start)

    def is_full(self) -> bool:
        """Whether the limit of unfinished requests is reached."""
        return self.in_flight >= MAX_IN_FLIGHT

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer and its duration."""
        path = scope["path"]
        route = path if path in self._routes else "other"
        self._metrics.count_request(route, scope["method"], status)
        if path == ROUTE and scope["method"] == "POST" and status != 503:
            self._metrics.request_seconds.observe(seconds)
        if self._log_requests:
            self.log_request(scope, status, seconds)

    def record_disconnect(self, scope: Scope, start: float) -> None:
        """Count a request whose client left."""
        self._metrics.disconnected.inc()
        if self._log_requests:
            self.log_request(scope, "disconnected", time.perf_counter() - start)

    def log_request(self, scope: Scope, outcome: int | str, seconds: float) -> None:
        """Log a line about a request."""
        address = scope["raw_path"].decode("ascii", "backslashreplace")
        log.info("%s %.200s: %s in %.3f ms", scope["method"], address, outcome, seconds * 1e3)

    async def _shed(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.shed.inc()
        headers = [
            (b"content-length", b"%d" % len(OVERLOADED)),
            (b"content-type", b"application/json"),
            (b"retry-after", b"%d" % RETRY_AFTER_SECONDS),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": OVERLOADED})
