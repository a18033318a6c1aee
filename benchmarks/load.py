"""A load client for loopback, limited in time, which checks every answer."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

HOST = "127.0.0.1"


@dataclass
class Outcome:
    """The counts of a run; latencies in seconds, from the moment when a request should have been sent."""

    seconds: float = 0.0
    answers: int = 0
    failures: int = 0
    latencies: list[float] = field(default_factory=list)


def closed_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Outcome:
    """Closed loop: send each connection's next request after its last answer. It measures the highest rate."""
    return uvloop.run(_closed_loop(port, requests, connections, seconds))


def open_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float, rate: float) -> Outcome:
    """Open loop: send `rate` requests a second, whatever the server does. Waiting for a connection counts."""
    return uvloop.run(_open_loop(port, requests, connections, seconds, rate))


class _Connection(asyncio.Protocol):
    """A connection with one request at a time; an answer is complete when its body has the announced length."""

    def __init__(self, client: "_Client") -> None:
        self._client = client
        self._received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # TCP has no other
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        head, blank, body = received.partition(b"\r\n\r\n")
        if blank:
            start = head.index(b"content-length: ") + 16
            end = head.find(b"\r\n", start)
            if len(body) == int(head[start:] if end < 0 else head[start:end]):
                self._received = b""
                self._client.answered(self, received.startswith(b"HTTP/1.1 200"))
                return
        self._received = received

    def connection_lost(self, error: Exception | None) -> None:
        self._client.lost()


class _Client:
    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self.outcome = Outcome()
        self.stopping = False

    def send(self, connection: _Connection) -> None:
        connection.transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)

    def answered(self, connection: _Connection, well: bool) -> None:
        self.outcome.answers += well
        self.outcome.failures += not well
        if not self.stopping:
            self.send(connection)

    def lost(self) -> None:
        self.outcome.failures += not self.stopping


class _PacedClient(_Client):
    def __init__(self, requests: Sequence[bytes]) -> None:
        super().__init__(requests)
        self.due: deque[float] = deque()
        self.free: list[_Connection] = []
        self._sent: dict[_Connection, float] = {}

    def answered(self, connection: _Connection, well: bool) -> None:
        self.outcome.answers += well
        self.outcome.failures += not well
        self.outcome.latencies.append(time.perf_counter() - self._sent.pop(connection))
        self.free.append(connection)
        self.send_what_is_due()

    def send_what_is_due(self) -> None:
        while self.due and self.free:
            connection = self.free.pop()
            self._sent[connection] = self.due.popleft()
            self.send(connection)


async def _closed_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Outcome:
    client = _Client(requests)
    open_ones = await _connect(client, port, connections)
    start = time.perf_counter()
    for connection in open_ones:
        client.send(connection)
    await asyncio.sleep(seconds)
    client.outcome.seconds = time.perf_counter() - start
    client.stopping = True
    outcome = Outcome(client.outcome.seconds, client.outcome.answers, client.outcome.failures)
    await asyncio.sleep(0.1)
    _close(open_ones)
    return outcome


async def _open_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float, rate: float) -> Outcome:
    client = _PacedClient(requests)
    client.free = await _connect(client, port, connections)
    open_ones = list(client.free)
    start = time.perf_counter()
    for number in range(int(seconds * rate)):
        due = start + number / rate
        while due > time.perf_counter():
            await asyncio.sleep(0)  # a timer is too coarse, and the client has its own core
        client.due.append(due)
        client.send_what_is_due()
        if number % 100 == 99:
            await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    client.outcome.seconds = time.perf_counter() - start
    client.outcome.failures += int(seconds * rate) - client.outcome.answers - client.outcome.failures
    client.stopping = True
    _close(open_ones)
    return client.outcome


async def _connect(client: _Client, port: int, connections: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: _Connection(client), HOST, port) for _ in range(connections)]
    return [connection for _, connection in pairs]


def _close(connections: Sequence[_Connection]) -> None:
    for connection in connections:
        connection.transport.close()
