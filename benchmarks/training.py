"""The stage train_model as a whole process, on weeks of a thousand to ten million orders."""

import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from local.generate_orders import generate_week, to_csv
from local.s3_server import s3_client
from local.stages import ROOT
from pipeline.names import dataset_key
from pipeline.orders import HOURS, ORDERS

SIZES = (1_000, 100_000, 10_000_000)


@dataclass(frozen=True)
class Run:
    """What a process took: seconds by the clock and of the processors, and its most memory in MiB."""

    name: str
    wall: float
    cpu: float
    peak: float


def imports() -> Run:
    """What the stage takes before it does anything: an interpreter and its imports."""
    return _measure("no orders: the imports alone", ["-c", "import pipeline.train_model"], {})[0]


def train(bucket: str, environment: dict[str, str], rows: int, *, bent: bool = False) -> Run:
    """Upload a week of so many orders, newer than all before, and run the stage on it.

    Bent: the hours rise ever faster above 120 orders, which no line follows, so that the boosted trees are chosen.
    """
    client = s3_client(environment)
    for stored in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        client.delete_object(Bucket=bucket, Key=stored["Key"])
    orders = generate_week(seed=1, rows=rows)
    if bent:
        orders[HOURS] += np.maximum(orders[ORDERS] - 120, 0) ** 2 / 300
    client.put_object(Bucket=bucket, Key=dataset_key(datetime.now(UTC) - timedelta(hours=1)), Body=to_csv(orders))
    run, log = _measure(f"{rows:,} orders", ["-m", "pipeline.train_model", bucket], environment)
    chosen = "boosted_trees" if bent else "line_per_product"
    if f"Chose {chosen}" not in log:
        raise SystemExit(f"{run.name}: {chosen} was not chosen\n{log}")
    return replace(run, name=f"{run.name}, {chosen}")


def growth(smaller: Run, larger: Run, before: Run, times: int) -> float:
    """The exponent of the time that comes with the rows; what any training takes, its imports, is taken off."""
    return math.log((larger.wall - before.wall) / (smaller.wall - before.wall)) / math.log(times)


def _measure(name: str, command: list[str], environment: dict[str, str]) -> tuple[Run, str]:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    log = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{name}: exit code {os.waitstatus_to_exitcode(status)}\n{log}")
    return Run(name, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), log
