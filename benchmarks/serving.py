"""The service beside faster and slower servers: each on one core, the load on another, in turns."""

import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import HOST, Outcome, closed_loop, open_loop
from benchmarks.machine import cores, descriptors, peak_mib, resident_mib
from local.s3_server import stop
from pipeline.serving.schemas import ROUTE

CONNECTIONS = 64
PRODUCTS = ("SKU001", "SKU002", "SKU003", "SKU004", "SKU005")
NOT_WHOLE = 20  # one in this many requests has a number of orders outside the table
LATENCY_SECONDS = 10.0
IDLE_CONNECTIONS = 1_000
CROWD = 1_000  # clients that ask without a pause, each on its own connection
DESCRIPTORS = 2_000


@dataclass
class Subject:
    """A running server, and its requests per second in each turn."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    rates: list[float]

    @property
    def rate(self) -> float:
        """The median of all turns."""
        return statistics.median(self.rates)


def requests() -> list[bytes]:
    """Return a hundred orders of known products; one in twenty is outside the table of estimates."""
    orders = [number * 2 + (0.5 if number % NOT_WHOLE == 0 else 0) for number in range(100)]
    return [request(code, placed) for code, placed in zip(itertools.cycle(PRODUCTS), orders, strict=False)]


def request(product_code: str, orders_placed: float) -> bytes:
    """Return one request as bytes."""
    body = json.dumps({"product_code": product_code, "orders_placed": orders_placed})
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode()


@contextmanager
def subjects(bucket: str, environment: dict[str, str]) -> Iterator[dict[str, Subject]]:
    """Start the service, a plain FastAPI route and a bare ASGI function, each on the first core."""
    stock = ["-m", "uvicorn", "--no-access-log", "--log-level=warning", "--lifespan=off", "--timeout-keep-alive=75"]
    stock.append(f"--host={HOST}")
    commands = {
        "service": ["-m", "pipeline.serve_model", bucket, f"--host={HOST}", "--port={}"],
        "FastAPI constant": [*stock, "--port={}", "benchmarks.constant:app"],
        "bare ASGI": [*stock, "--port={}", "benchmarks.bare:app"],
    }
    with ExitStack() as until_done:
        running = {}
        for name, command in commands.items():
            process, port, _ = start(command, environment)
            until_done.callback(stop, process, signal.SIGINT, 15)
            running[name] = Subject(name, process, port, [])
        yield running


def start(command: Sequence[str], environment: dict[str, str]) -> tuple["subprocess.Popen[bytes]", int, float]:
    """Start a server on the first core; return the process, its port, and the seconds until its first answer."""
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    pinned = ["taskset", "-c", str(cores()[0]), sys.executable, *(part.format(port) for part in command)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        pinned, env={**os.environ, **environment}, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL
    )
    while process.poll() is None and time.perf_counter() - begun < 60:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=60) as connection:
            connection.sendall(request("SKU001", 112))
            if connection.recv(12) == b"HTTP/1.1 200":
                return process, port, time.perf_counter() - begun
        time.sleep(0.005)
    process.kill()
    raise SystemExit(f"{' '.join(pinned)}: no answer, exit code {process.wait()}")


def seconds_to_first_answer(bucket: str, environment: dict[str, str]) -> float:
    """Return the seconds from the start of the process to an estimate."""
    process, _, seconds = start(["-m", "pipeline.serve_model", bucket, f"--host={HOST}", "--port={}"], environment)
    stop(process, signal.SIGINT, 15)
    return seconds


def take_turns(running: dict[str, Subject], turns: int, seconds: float) -> None:
    """Load the servers in turns, so that other load on the machine affects all of them."""
    os.sched_setaffinity(0, {cores()[1]})
    for subject in list(running.values()) * (turns + 1):
        outcome = closed_loop(subject.port, requests(), CONNECTIONS, seconds)
        if outcome.failures:
            raise SystemExit(f"{subject.name}: {outcome.failures} of {outcome.answers} requests failed under load")
        subject.rates.append(outcome.answers / outcome.seconds)
    for subject in running.values():
        del subject.rates[0]  # the first turn warms up


def ratio(subject: Subject, other: Subject) -> float:
    """Return the median ratio of requests per second to those of another server in the same turn."""
    return statistics.median(one / two for one, two in zip(subject.rates, other.rates, strict=True))


def rate_beside_idle_connections(subject: Subject, turns: int, seconds: float) -> float:
    """Return the ratio of requests per second with and without this many idle connections, in turns."""
    rates: list[float] = []
    for number in range(2 * turns):
        with ExitStack() as until_done:
            for _ in range(IDLE_CONNECTIONS * (number % 2)):
                connection = until_done.enter_context(socket.create_connection((HOST, subject.port)))
                connection.sendall(request("SKU001", 1))
                connection.recv(1000)
            outcome = closed_loop(subject.port, requests(), CONNECTIONS, seconds)
        rates.append(outcome.answers / outcome.seconds)
    return statistics.median(beside / without for without, beside in zip(rates[::2], rates[1::2], strict=True))


def rate_of_a_crowd(subject: Subject, seconds: float) -> float:
    """Measure requests per second when clients ask far more than can be answered."""
    outcome = closed_loop(subject.port, requests(), CROWD, seconds)
    if outcome.failures:
        raise SystemExit(f"{subject.name}: {outcome.failures} of {outcome.answers} requests failed under a crowd")
    return outcome.answers / outcome.seconds


def latencies(subject: Subject) -> dict[str, float]:
    """Return latencies in ms by percentile, at half of the highest rate."""
    outcome = open_loop(subject.port, requests(), CONNECTIONS, LATENCY_SECONDS, subject.rate / 2)
    if outcome.failures:
        raise SystemExit(f"{subject.name}: {outcome.failures} of {outcome.answers} requests failed at half load")
    _check_pace(subject, outcome, subject.rate / 2)
    ordered = sorted(outcome.latencies)
    return {f"p{share:g}": ordered[int(len(ordered) * share / 100)] * 1e3 for share in (50, 99, 99.9)}


def soak(subject: Subject, seconds: float) -> tuple[float, int, int]:
    """Load at 80 % for this long; return the growth in MiB and descriptors, and the failures."""
    open_loop(subject.port, requests(), CONNECTIONS, min(20.0, seconds), subject.rate * 0.8)
    before = resident_mib(subject.process.pid), descriptors(subject.process.pid)
    failures = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        outcome = open_loop(subject.port, requests(), CONNECTIONS, min(20.0, seconds), subject.rate * 0.8)
        failures += outcome.failures
        _check_pace(subject, outcome, subject.rate * 0.8)
    time.sleep(0.5)
    grown = resident_mib(subject.process.pid) - before[0]
    return grown, descriptors(subject.process.pid) - before[1], failures


def _check_pace(subject: Subject, outcome: Outcome, rate: float) -> None:
    """Raise an error if the load was lower than intended, for instance since the client's core was busy."""
    reached = outcome.answers / outcome.seconds / rate
    if reached < 0.95:
        raise SystemExit(f"{subject.name}: only {reached:.0%} of {rate:,.0f} requests a second were sent")


def peak(subject: Subject) -> float:
    """Return the server's peak memory in MiB."""
    return peak_mib(subject.process.pid)
