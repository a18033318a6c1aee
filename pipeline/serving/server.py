"""uvicorn with a drain on SIGTERM, and with limits for slow clients.

Both use uvicorn's internals. Its version is pinned, and tests check the behaviour that is needed here.
"""

import logging
import signal
import socket
import sys
import time
from types import FrameType

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.serving.app import Lifecycle

KEEP_ALIVE_SECONDS = 75  # above the 60 s idle time-out of an AWS load balancer, so that it closes first
IN_FLIGHT_SECONDS = 10  # for requests that are in flight when the drain ends
CLIENT_SECONDS = 10  # for a client to send a whole request, or to read an answer
MAX_HEAD_BYTES = 16 * 1024  # of request line, headers and chunk framing; the parser itself has no limit
MAX_HEADERS = 100  # a short header takes 20 times its bytes in memory
TICKS_PER_SECOND = 10  # of uvicorn

log = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1 only, which drops a client with endless headers."""

    _read = b""  # the bytes that are parsed now
    _head_bytes = 0  # bytes of the current request outside its body

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; drop a client whose head is too large."""
        self._read = data
        self._head_bytes += len(data)
        HttpToolsProtocol.data_received(self, data)  # super() is slower, and every request comes here
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and not cycle.more_body:  # the request is complete
            self._head_bytes = 0
        elif self._head_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, which has its own limit."""
        self._head_bytes -= len(body)
        HttpToolsProtocol.on_body(self, body)

    def _unsupported_upgrade_warning(self) -> None:
        """Go on in HTTP/1.1 as if there were no `Upgrade` header: Java's clients ask for h2c with their first request.

        The parser takes the rest for the other protocol. So a new parser gets the head again, without that header, and
        then the rest: a body, and later requests.
        """
        upgrade = sys.exc_info()[1]
        assert upgrade is not None
        rest = self._read[upgrade.args[0] :]
        kept = [header for header in self.headers if header[0] not in (b"upgrade", b"connection", b"http2-settings")]
        lines = [f"{self.scope['method']} / HTTP/1.1".encode(), *(b": ".join(header) for header in kept), b"", b""]
        self.parser = httptools.HttpRequestParser(_Resumed(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.cycle.more_body = True
        try:
            self.parser.feed_data(b"\r\n".join(lines))
            self.parser.feed_data(rest)
        except httptools.HttpParserUpgrade:
            self._read = rest
            self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def keeps_us_waiting(self) -> bool:
        """Whether the client must send or read something now; uvicorn itself would wait for ever."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return True
        if self.cycle is None:  # before the first request
            return True  # type: ignore[unreachable] # uvicorn's type leaves out the None that it starts with
        if self.cycle.response_complete:
            return self.timeout_keep_alive_task is None  # armed between two requests only
        return self.cycle.more_body or self.flow.write_paused


class _Resumed:
    """The callbacks of a parser that gets a head for the second time: they skip that head."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self._in_known_head = True
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if not self._in_known_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._in_known_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_known_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._in_known_head:
            self._protocol.on_headers_complete()
        self._in_known_head = False


class DrainingServer(uvicorn.Server):
    """A server that drains on SIGTERM: not ready, but still answering with `Connection: close`; then it shuts down.

    Clients learn to leave, and load balancers have time to notice. Ctrl-C, or a second signal, skips the drain. At any
    time, a client that is silent or slow for CLIENT_SECONDS is dropped.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                log_config=None,  # the process has its own log format
                access_log=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
            )
        )
        self.config.load()  # the drain changes its result, and may start before uvicorn loads it
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self._drain_ends: float | None = None
        self._waiting: dict[
            BoundedProtocol, tuple[object, float]
        ] = {}  # the request of each slow client, and since when

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain, or end it. The signal is not raised again after the shutdown, so the exit code is 0."""
        if self.should_exit:
            self.force_exit = True
        elif sig == signal.SIGTERM and self._drain_ends is None:
            self._start_drain()
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """End the drain in time; uvicorn calls this ten times a second."""
        if self._drain_ends is not None and time.monotonic() >= self._drain_ends:
            self.should_exit = True
        if counter % TICKS_PER_SECOND == 0:
            self._drop_slow_clients(time.monotonic())
        return await super().on_tick(counter)

    def _drop_slow_clients(self, now: float) -> None:
        """Check every connection once a second, so that quick requests cost nothing."""
        waiting: dict[BoundedProtocol, tuple[object, float]] = {}
        for connection in self.server_state.connections:
            assert isinstance(connection, BoundedProtocol)
            if connection.keeps_us_waiting():
                cycle, since = self._waiting.get(connection, (None, now))
                waiting[connection] = (connection.cycle, since if cycle is connection.cycle else now)
        self._waiting = waiting
        for connection, (_, since) in waiting.items():
            if now - since >= CLIENT_SECONDS:
                connection.transport.abort()

    def _start_drain(self) -> None:
        log.info("Received SIGTERM: draining for %g s, then finishing requests in flight.", self._drain_seconds)
        self._drain_ends = time.monotonic() + self._drain_seconds
        self._lifecycle.draining = True
        close = (b"connection", b"close")
        self.config.encoded_headers.append(close)  # uvicorn makes its default headers from these once a second
        self.server_state.default_headers = [*self.server_state.default_headers, close]


def listen(host: str, port: int) -> socket.socket:
    """Open the port; OSError if it cannot be opened."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)
