"""Constant load on the service; every answer counts, and no request is retried.

    python -m e2e.load http://127.0.0.1:30080 [--kept 8] [--new 4] [--slow 4] [--example 2]

It runs until SIGTERM or the end of its standard input, and then prints its counts as JSON. A request fails if it is
refused, reset, late, or answered with another status than 200 or in another form. Only the example client retries,
once; it fails if it gets no estimate.
"""

import argparse
import http.client
import json
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

from e2e.example_client import ROUTE, hours_to_dispatch

BODY = b'{"product_code": "SKU001", "orders_placed": 112}'
TIMEOUT_SECONDS = 10
KEPT_PAUSE = 0.03  # seconds between two requests on a kept connection
NEW_PAUSE = 0.1  # seconds between two requests of a client that opens a connection for each
IN_FLIGHT_SECONDS = 1.0  # how long a slow client takes to send its request
FAILURES_KEPT = 20
CLIENTS = {"kept": 8, "new": 4, "slow": 4, "example": 2}  # how many of each kind


class Tally:
    """The counts of all clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.answers_by_kind: Counter[str] = Counter()
        self.failed = 0
        self.failures: list[str] = []
        self.versions: dict[str, dict[str, float]] = {}
        self.slowest = 0.0  # seconds that an answer took, of a request that was sent at once

    def answered(self, kind: str, seconds: float, version: str | None = None) -> None:
        """Count a valid answer and the version that gave it, which the example client does not know."""
        with self._lock:
            self.answers_by_kind[kind] += 1
            self.slowest = max(self.slowest, seconds if kind != "slow" else 0.0)
            if version is None:
                return
            self.requests += 1
            now = time.time()
            seen = self.versions.setdefault(version, {"answers": 0, "first": now, "last": now})
            seen["answers"] += 1
            seen["last"] = now

    def failure(self, what: str) -> None:
        """Count a request that failed."""
        with self._lock:
            self.requests += 1
            self.failed += 1
            if len(self.failures) < FAILURES_KEPT:
                self.failures.append(f"{time.time():.1f} {what}")


class Client(threading.Thread):
    """A client that sends, waits for the answer, pauses, and sends again."""

    def __init__(self, kind: str, address: str, tally: Tally, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self._kind = kind
        self._address = address
        self._tally = tally
        self._stopped = stopped
        self._pause = {"kept": KEPT_PAUSE, "new": NEW_PAUSE, "slow": 0.0}[kind]

    def run(self) -> None:
        """Run until stopped; replace a failed connection and count its request as failed."""
        connection = None
        while not self._stopped.is_set():
            connection = connection or http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
            start = time.monotonic()
            try:
                self._send(connection)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self._tally.failure(f"{self._kind}: status {answer.status}")
                else:
                    found = json.loads(body)
                    assert set(found) == {"est_hours_to_dispatch", "model_version"}
                    self._tally.answered(self._kind, time.monotonic() - start, found["model_version"])
                keep = self._kind != "new" and not answer.will_close
            except (OSError, http.client.HTTPException, ValueError, AssertionError) as error:
                self._tally.failure(f"{self._kind}: {type(error).__name__}: {error}")
                keep = False
            if not keep:
                with suppress(OSError):
                    connection.close()
                connection = None
            self._stopped.wait(self._pause)

    def _send(self, connection: http.client.HTTPConnection) -> None:
        connection.putrequest("POST", ROUTE)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(BODY)))
        if self._kind == "slow":
            connection.endheaders(BODY[:10])
            time.sleep(IN_FLIGHT_SECONDS)
            connection.send(BODY[10:])
        else:
            connection.endheaders(BODY)


class ExampleClient(threading.Thread):
    """The client of docs/how-to/call-the-api.md."""

    def __init__(self, url: str, tally: Tally, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._tally = tally
        self._stopped = stopped

    def run(self) -> None:
        """Run until stopped."""
        while not self._stopped.is_set():
            start = time.monotonic()
            if hours_to_dispatch(self._url, "SKU001", 112) is None:
                self._tally.failure("example: no estimate")
            else:
                self._tally.answered("example", time.monotonic() - start)
            self._stopped.wait(KEPT_PAUSE)


def main() -> None:
    """Run all clients until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m e2e.load", description=__doc__)
    parser.add_argument("url")
    for kind, number in CLIENTS.items():
        parser.add_argument(f"--{kind}", type=int, default=number, help=f"{kind} clients (default: %(default)s)")
    args = parser.parse_args()
    tally, stopped = Tally(), threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda number, frame: stopped.set())

    def stop_at_end_of_input() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    clients: list[threading.Thread] = [
        Client(kind, urlsplit(args.url).netloc, tally, stopped)
        for kind in CLIENTS.keys() - {"example"}
        for _ in range(getattr(args, kind))
    ]
    clients += [ExampleClient(args.url, tally, stopped) for _ in range(args.example)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seen = ("requests", "failed", "failures", "versions", "slowest", "answers_by_kind")
    print(json.dumps({name: getattr(tally, name) for name in seen}))


if __name__ == "__main__":
    main()
