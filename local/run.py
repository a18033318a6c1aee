"""make run: start S3, upload a week of orders, and run bodywork.yaml's DAG until the service answers.

The data on S3 stays. The next run adds a newer week and trains again.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import NoReturn

import yaml

from local import stages
from local.generate_orders import generate_week, share, to_csv
from local.s3_server import HOST, Ports, S3ServerError, s3_client, s3_server, stop
from pipeline.errors import TimeToDispatchError
from pipeline.keys import DATASETS, dataset_key, parse_dataset_key
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import checked_out_commit

MIN_FREE_BYTES = 1_000_000_000  # SeaweedFS needs them for its volumes
WHAT_TO_TRY = """
Try it:

    curl -s http://{address}/api/v0.1/time_to_dispatch \\
        -H 'Content-Type: application/json' -d '{{"product_code": "SKU001", "orders_placed": 112}}'

or look at http://{address}/docs. Ctrl-C stops everything.
"""
WEEK = timedelta(days=7)
MAX_WEEKS = 520
STOP_SECONDS = 15  # the service itself allows 10 s for requests in flight
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LocalRunError(Exception):
    """The run cannot go on; the message is printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C and return 0; return 1 if the service cannot run."""
    args = _parse(arguments)
    try:
        dag = stages.read_dag()
        if not dag[0][0].args:
            raise ValueError(f"{dag[0][0].name} has no argument (expected the bucket)")
    except (ValueError, TypeError, LookupError, OSError, yaml.YAMLError) as error:
        print(f"ERROR: bodywork.yaml: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return run_until_stopped(dag, stages.ROOT / ".s3data", Ports(), args.weeks, args.drift)


def run_until_stopped(dag: list[list[stages.Stage]], folder: Path, ports: Ports, weeks: int, drift: float) -> int:
    """Run the DAG on an S3 server with its data in `folder`; leave no process behind."""
    for sig in SIGNALS:
        signal.signal(sig, _interrupt)
    _forget_other_stores()
    try:
        _run(dag, folder, ports, weeks, drift)
    except KeyboardInterrupt:
        print(f"Stopped. The data of S3 stays in {folder.name}/ for the next run.", flush=True)
        return 0
    except (LocalRunError, S3ServerError, TimeToDispatchError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1


def _forget_other_stores() -> None:
    """Remove the user's AWS settings and proxies from the environment, so that nothing leaves this machine."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ |= {"NO_PROXY": "*", "no_proxy": "*"}


def _run(dag: list[list[stages.Stage]], folder: Path, ports: Ports, weeks: int, drift: float) -> NoReturn:
    bucket = dag[0][0].args[0]
    for stage in (stage for step in dag for stage in step if stage.service):
        _check_port(stage)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise LocalRunError(
            f"only {free / 1e9:.1f} GB of disk is free (at least {MIN_FREE_BYTES / 1e9:.0f} GB needed): free some space"
        )
    with ExitStack() as until_stopped:
        try:
            with _step(f"S3: SeaweedFS on {HOST}:{ports.s3}, its data in {folder.name}/"):
                environment = until_stopped.enter_context(s3_server(folder, bucket, ports))
            environment["GIT_COMMIT_HASH"] = checked_out_commit()
            _upload_weeks(bucket, environment, weeks, drift)
            services = []
            for stage in (stage for step in dag for stage in step):
                if stage.batch:
                    _run_batch(stage, environment)
                else:
                    services.append(_start_service(stage, environment, until_stopped))
            while all(service.poll() is None for service in services):
                time.sleep(0.2)
        finally:
            _ignore_signals()  # do not interrupt the clean-up
    raise LocalRunError("the service ended: see its log above")


def _upload_weeks(bucket: str, environment: dict[str, str], weeks: int, drift: float) -> None:
    store = ObjectStore(s3_client(environment), bucket)
    there = [dataset.timestamp for dataset in map(parse_dataset_key, store.keys(DATASETS)) if dataset]
    newest = next_timestamp(there, datetime.now(UTC))
    for number in range(weeks):
        timestamp = newest - WEEK * (weeks - 1 - number)
        if timestamp in there:
            continue
        key = dataset_key(timestamp)
        with _step(f"orders: {key}, generated"):
            orders = generate_week(seed=int(timestamp.timestamp()), drift=drift * (len(there) + number))
            store.put_new(key, to_csv(orders), "text/csv")


def next_timestamp(there: Sequence[datetime], now: datetime) -> datetime:
    """Return the next dataset's timestamp: last Friday at 23:00 UTC, or now if that one exists."""
    friday = (now - timedelta(days=(now.weekday() - 4) % 7)).replace(hour=23, minute=0, second=0, microsecond=0)
    if friday > now:
        friday -= WEEK
    return friday if not there or max(there) < friday else now.replace(microsecond=0)


def _run_batch(stage: stages.Stage, environment: dict[str, str]) -> None:
    with _step(f"stage {stage.name}", its_own_lines=True):
        code = stages.run_batch(stage, environment)
        if code:
            raise LocalRunError(f"stage {stage.name} ended with exit code {code}: see its log above")


def _start_service(
    stage: stages.Stage, environment: dict[str, str], until_stopped: ExitStack
) -> "subprocess.Popen[bytes]":
    assert stage.service is not None
    with _step(f"stage {stage.name} on {HOST}:{stage.service['port']}", its_own_lines=True):
        # the arguments of bodywork.yaml make it listen to the whole network, which a laptop must not
        process = stages.start(stage, environment, ["--host", HOST])
        until_stopped.callback(_stop_service, process, stage.service["port"])
        deadline = time.monotonic() + stage.service["max_startup_time_seconds"]
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LocalRunError(f"stage {stage.name} ended with exit code {process.returncode}: see its log above")
            with suppress(OSError), socket.create_connection((HOST, stage.service["port"]), timeout=1):
                break
            time.sleep(0.05)
        else:
            raise LocalRunError(
                f"stage {stage.name} did not open its port in {stage.service['max_startup_time_seconds']} s"
            )
    print(WHAT_TO_TRY.format(address=f"{HOST}:{stage.service['port']}"), flush=True)
    return process


def _stop_service(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Stop it by SIGINT, which skips the drain; or by SIGTERM while it does not handle SIGINT yet."""
    sig = signal.SIGTERM
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        sig = signal.SIGINT
    stop(process, sig, STOP_SECONDS)


def _check_port(stage: stages.Stage) -> None:
    assert stage.service is not None
    port = stage.service["port"]
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise LocalRunError(
            f"cannot open port {port} on {HOST}, which {stage.name} needs: {error.strerror}; stop what listens there"
        ) from error


@contextmanager
def _step(what: str, its_own_lines: bool = False) -> Iterator[None]:
    """Print what is done and how long it took: on one line, or around the lines of a stage."""
    start = time.monotonic()
    print(f"==> {what} ", end="\n" if its_own_lines else "... ", flush=True)
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{f'==> {what}: ' if its_own_lines else ''}done in {time.monotonic() - start:.1f} s", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the run; ignore further signals."""
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for sig in SIGNALS:
        signal.signal(sig, signal.SIG_IGN)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.run", description=__doc__)
    parser.add_argument("--weeks", type=_weeks, default=1, help="how many weeks to upload (default: %(default)s)")
    parser.add_argument(
        "--drift", type=share, default=0.0, help="share by which hours grow from week to week (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _weeks(text: str) -> int:
    if not 1 <= int(text) <= MAX_WEEKS:
        raise argparse.ArgumentTypeError(f"{text} is not a number of weeks (expected 1 to {MAX_WEEKS})")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
