"""A proxy between a client of S3 and a real S3 server, which spoils calls on their way."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("refuse", "reset", "hang", "500", "503 SlowDown", "cut", "flip", "late")
HANG_SECONDS = 4.0  # longer than a client of these tests waits
LATE_SECONDS = 0.3  # shorter than that
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultProxy(ThreadingHTTPServer):
    """Passes every call on to the S3 server at `target`, and spoils those from number `first` to `last`, from 0 on.

    refuse: the connection is reset, nothing is passed on; reset: the call is passed on, its answer is lost;
    hang: no answer within the client's time; 500, 503: that answer, nothing is passed on; cut: half of the answer's
    body; flip: one byte of it is another; late: the answer, later.
    """

    daemon_threads = True

    def __init__(self, target: str, fault: str, first: int, last: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target.removeprefix("http://")
        self.fault = fault
        self.spoiled = range(first, last + 1)
        self.calls = 0
        self.bodies_spoiled = 0  # cut or flipped: an empty one cannot be
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where a client finds it."""
        return f"http://127.0.0.1:{self.server_port}"

    def next_fault(self) -> str | None:
        """Count a call; what shall happen to it."""
        with self._lock:
            self.calls += 1
            return self.fault if self.calls - 1 in self.spoiled else None

    def shutdown_request(self, request: Any) -> None:
        """Close a connection without the ceremony that would hide a reset."""
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that gave up: some faults are for that."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        """Pass a call on, or spoil it."""
        fault = self.server.next_fault()
        body = self._read_body()
        if fault == "refuse":
            self._reset()
        elif fault == "hang":
            time.sleep(HANG_SECONDS)
            self.close_connection = True
        elif fault == "500":
            self._answer(500, {}, b"")
        elif fault == "503 SlowDown":
            self._answer(503, {}, SLOW_DOWN)
        else:
            status, headers, answer = self._forward(body)
            if fault == "reset":
                self._reset()
                return
            if fault == "late":
                time.sleep(LATE_SECONDS)
            self.server.bodies_spoiled += bool(fault in ("cut", "flip") and answer)
            if fault == "flip" and answer:
                middle = len(answer) // 2
                answer = answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1 :]
            self._answer(status, headers, answer, len(answer) // 2 if fault == "cut" and answer else None)

    do_PUT = do_GET  # noqa: N815 - the base class's name

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _read_body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection(self.server.target, timeout=30)) as connection:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, only: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:only])
        self.close_connection = only is not None

    def _reset(self) -> None:
        """End the connection by a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


@contextmanager
def fault_proxy(target: str, fault: str = "none", first: int = 0, last: int = 10**9) -> Iterator[FaultProxy]:
    """Run the proxy."""
    with FaultProxy(target, fault, first, last) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
