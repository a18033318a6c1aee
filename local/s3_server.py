"""Run SeaweedFS, a real S3 server, on loopback, with credentials and without telemetry."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOST = "127.0.0.1"
ACCESS_KEY = "time-to-dispatch"
SECRET_KEY = "not-a-secret-only-on-loopback"
START_SECONDS = 30
GRPC_OFFSET = 10_000  # each port of SeaweedFS has a second one this much higher


class S3ServerError(Exception):
    """The S3 server did not start."""


@dataclass(frozen=True)
class Ports:
    """The ports of SeaweedFS's parts; each also needs the port GRPC_OFFSET higher."""

    s3: int = 8333
    filer: int = 8888
    master: int = 9333
    volume: int = 9340
    admin: int = 9350  # not 23646, its default: the second port, 33646, is in the range of outgoing connections


@contextmanager
def s3_server(folder: Path, bucket: str, ports: Ports) -> Iterator[dict[str, str]]:
    """Run the server with one bucket, and yield the environment for a client; S3ServerError if it does not start.

    The data stays in the folder for the next time.
    """
    for port in vars(ports).values():
        _check_free(port)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": f"http://{HOST}:{ports.s3}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    log_path = folder / "seaweedfs.log"
    command: list[str | Path] = [
        Path(sys.executable).with_name("weed"),
        "-logtostderr=true",
        "mini",
        f"-dir={folder}",
        f"-bucket={bucket}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-s3.port={ports.s3}",
        f"-filer.port={ports.filer}",
        f"-master.port={ports.master}",
        f"-volume.port={ports.volume}",
        f"-admin.port={ports.admin}",
        "-master.telemetry=false",
        "-s3.autoCreateBucket=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    process: subprocess.Popen[bytes] | None = None
    try:
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
            )
        _wait_until_it_answers(process, environment, bucket, log_path)
        yield environment
    finally:
        if process:
            stop(process, signal.SIGTERM, 10)
        for port in vars(ports).values():  # SeaweedFS does not remove its sockets
            for number in (port, port + GRPC_OFFSET):
                for socket_file in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    socket_file.unlink(missing_ok=True)


def stop(process: "subprocess.Popen[bytes]", sig: signal.Signals, seconds: float) -> int:
    """Send a signal to a process, kill it after `seconds`, and return its exit code."""
    process.send_signal(sig)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def s3_client(environment: dict[str, str], config: Config | None = None) -> "S3Client":
    """Return a boto3 client with the environment that s3_server() yielded."""
    session = boto3.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    return session.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], config=config)


def _check_free(port: int) -> None:
    for number in (port, port + GRPC_OFFSET):
        try:
            socket.create_server(("", number)).close()  # on any address, as SeaweedFS does
        except OSError as error:
            raise S3ServerError(
                f"cannot open port {number}, which the S3 server needs: {error.strerror}; stop what listens there"
            ) from error


def _wait_until_it_answers(
    process: "subprocess.Popen[bytes]", environment: dict[str, str], bucket: str, log_path: Path
) -> None:
    """Wait until an object can be written: SeaweedFS answers before it can store anything."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5)
    client = s3_client(environment, config)
    problem: Exception | None = None
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.put_object(Bucket=bucket, Key=".ready", Body=b"")
            client.delete_object(Bucket=bucket, Key=".ready")
            return
        except (BotoCoreError, ClientError) as error:
            problem = error
            time.sleep(0.1)
    ended = process.poll() is not None
    said = f"exit code {process.returncode}, {_last_line(log_path)}" if ended else str(problem)
    raise S3ServerError(f"SeaweedFS did not start, see {log_path}: {said}")


def _last_line(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
