"""train_model as a whole process, on weeks of a thousand to ten million orders."""

import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.machine import peak_mib
from local.generate_orders import generate_week, to_csv
from local.s3_server import s3_client
from local.stages import ROOT
from pipeline.keys import dataset_key
from pipeline.training.data_contract import HOURS, ORDERS

SIZES = (1_000, 100_000, 10_000_000)


@dataclass(frozen=True)
class Run:
    """What a process took: wall and CPU time in seconds, and its peak memory in MiB."""

    name: str
    wall: float
    cpu: float
    peak: float


def imports() -> Run:
    """Measure the interpreter and the imports alone."""
    return _measure("no orders: the imports alone", ["-c", "import pipeline.train_model"], {})


def train(bucket: str, environment: dict[str, str], rows: int, *, bent: bool = False) -> Run:
    """Empty the bucket, train on two weeks of this many orders, and return the second run.

    So there is a week before to compare with, and a champion to beat, as on every Saturday but the first. Where hours
    are bent, as by a warehouse that is swamped beyond 120 orders, the boosted trees win, not the line.
    """
    client = s3_client(environment)
    for stored in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        client.delete_object(Bucket=bucket, Key=stored["Key"])
    command = ["-m", "pipeline.train_model", bucket]
    for seed, age in ((1, timedelta(days=7, hours=1)), (2, timedelta(hours=1))):
        body = _orders(seed, rows, bent)
        client.put_object(Bucket=bucket, Key=dataset_key(datetime.now(UTC) - age), Body=body)
        del body
        run = _measure(f"{rows:,} {'bent ' if bent else ''}orders", command, environment)
    return run


def _orders(seed: int, rows: int, bent: bool) -> bytes:
    orders = generate_week(seed=seed, rows=rows)
    if bent:
        orders[HOURS] = (orders[HOURS] + np.maximum(orders[ORDERS] - 120, 0) ** 2 / 300).round(3)
    return to_csv(orders)


def growth(smaller: Run, larger: Run, before: Run, times: int) -> float:
    """Return the exponent by which time grows with rows, without the time of imports."""
    return math.log((larger.wall - before.wall) / (smaller.wall - before.wall)) / math.log(times)


def _measure(name: str, command: list[str], environment: dict[str, str]) -> Run:
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log
        )
        peak = 0.0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            with suppress(OSError, StopIteration):  # the process may have ended
                peak = max(peak, peak_mib(process.pid))  # rusage of children would include this process's peak
            time.sleep(0.02)
        wall = time.perf_counter() - start
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{name}: exit code {process.returncode}\n{log.read()}")
    return Run(name, wall, usage.ru_utime + usage.ru_stime, peak)
