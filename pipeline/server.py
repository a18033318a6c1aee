"""uvicorn with a drain: what a load balancer needs between "stop" and "gone"."""

import logging
import signal
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pipeline.api import Lifecycle

KEEP_ALIVE_SECONDS = 75  # above the 60 s idle time-out of an AWS load balancer, so that it closes first
IN_FLIGHT_SECONDS = 10  # what is in flight when the drain ends may take this much longer

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """On SIGTERM: not ready at once, but go on answering, with `Connection: close`; then shut down in order.

    The clients that keep connections open are told to leave, and the load balancers have time to notice. Ctrl-C, or
    a second signal, skips the drain.
    """

    def __init__(self, app: FastAPI, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,  # the process has one log format
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
            )
        )
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self._drain_ends: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain, or end it. The signal is not raised again after the shutdown: the exit code is 0."""
        if self.should_exit:
            self.force_exit = True
        elif sig == signal.SIGTERM and self._drain_ends is None:
            self._start_drain()
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether the drain is over."""
        if self._drain_ends is not None and time.monotonic() >= self._drain_ends:
            self.should_exit = True
        return await super().on_tick(counter)

    def _start_drain(self) -> None:
        log.info("SIGTERM: draining for %g s, then finishing what is in flight.", self._drain_seconds)
        self._drain_ends = time.monotonic() + self._drain_seconds
        self._lifecycle.draining = True
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)  # what uvicorn makes its default headers of, once a second
        self.server_state.default_headers = [*self.server_state.default_headers, close]


def listen(host: str, port: int) -> socket.socket:
    """Open the port; an OSError says why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)
