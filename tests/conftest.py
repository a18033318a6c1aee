"""What the tests share: S3 servers, weeks of orders, fitted models, and stages started as Bodywork starts them."""

import http.client
import logging
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings
from moto.server import ThreadedMotoServer

from local import stages
from local.generate_orders import generate_week, to_csv
from local.s3_server import GRPC_OFFSET, Ports, s3_client, s3_server
from pipeline.keys import dataset_key
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.models import LoadedModel
from pipeline.registry.object_store import ObjectStore
from pipeline.serving.predictor import Predictor
from pipeline.train_model import run as train
from pipeline.training.challenger import Thresholds

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)  # the Saturday morning after the week below
FRIDAY = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
NEXT_FRIDAY, NEXT_SATURDAY = FRIDAY + WEEK, NOW + WEEK
THRESHOLDS = Thresholds(reject_below=0.8, warn_below=0.9, max_dataset_age_days=30)

DRAIN_SECONDS = 3.0
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - [A-Z]+ - \w+\.\w+ - .")
RunStage = Callable[[Callable[[Sequence[str]], int], Sequence[str], dict[str, str]], tuple[int, list[str]]]

settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("default")


class Bucket:
    """A bucket of a running S3 server, and what a client of it needs."""

    def __init__(self, environment: dict[str, str], name: str) -> None:
        self.name = name
        self.environment = environment
        self.client = s3_client(environment)
        self.store = ObjectStore(self.client, name, attempts=1)

    def put(self, key: str, body: bytes) -> None:
        """Write an object, whatever is there."""
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """Read an object."""
        return self.store.get(key).body

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with a prefix."""
        return list(self.store.keys(prefix))

    def snapshot(self, prefix: str) -> dict[str, bytes]:
        """All objects below a prefix."""
        return {key: self.get(key) for key in self.keys(prefix)}


@pytest.fixture(scope="session")
def moto_environment() -> Iterator[dict[str, str]]:
    """moto's S3, over HTTP; what a client needs to reach it."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "any-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_MAX_ATTEMPTS": "1",
    }
    server.stop()


@pytest.fixture
def bucket(moto_environment: dict[str, str]) -> Bucket:
    """An empty bucket on moto's S3."""
    bucket = Bucket(moto_environment, f"bucket-{uuid.uuid4()}")
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket


@pytest.fixture(scope="session")
def seaweedfs_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """SeaweedFS's S3; what a client needs to reach it."""
    with s3_server(tmp_path_factory.mktemp("seaweedfs"), "first", free_ports()) as environment:
        yield environment


@pytest.fixture
def seaweedfs_bucket(seaweedfs_environment: dict[str, str]) -> Bucket:
    """An empty bucket on SeaweedFS."""
    bucket = Bucket(seaweedfs_environment, f"bucket-{uuid.uuid4()}")
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket


@pytest.fixture(scope="session")
def week() -> pd.DataFrame:
    """A week of orders, as generated; a test that changes it takes a copy."""
    return generate_week(seed=1)


@pytest.fixture
def week_csv(week: pd.DataFrame) -> bytes:
    """The same week as the data team stores it."""
    return to_csv(week)


@pytest.fixture(scope="session")
def trained_objects(moto_environment: dict[str, str], week: pd.DataFrame) -> dict[str, bytes]:
    """All objects of a bucket after a first training."""
    bucket = Bucket(moto_environment, f"bucket-{uuid.uuid4()}")
    bucket.client.create_bucket(Bucket=bucket.name)
    bucket.put(dataset_key(FRIDAY), to_csv(week))
    train(bucket.store, THRESHOLDS, NOW, "abc1234")
    return bucket.snapshot("")


@pytest.fixture
def trained_bucket(bucket: Bucket, trained_objects: dict[str, bytes]) -> Bucket:
    """A bucket with a dataset and the champion that was trained on it."""
    for key, body in trained_objects.items():
        bucket.put(key, body)
    return bucket


@pytest.fixture(scope="session")
def two_trainings(moto_environment: dict[str, str], trained_objects: dict[str, bytes]) -> dict[str, bytes]:
    """All objects of a bucket after two trainings."""
    bucket = Bucket(moto_environment, f"bucket-{uuid.uuid4()}")
    bucket.client.create_bucket(Bucket=bucket.name)
    for key, body in trained_objects.items():
        bucket.put(key, body)
    train_week(bucket, 1)
    return bucket.snapshot("")


@pytest.fixture
def two_weeks(bucket: Bucket, two_trainings: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of its own with two trainings, and a shell whose environment leads to it."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_COMMIT_HASH", "c0ffee1")
    for key, body in two_trainings.items():
        bucket.put(key, body)
    return bucket


@pytest.fixture(scope="session")
def champion(moto_environment: dict[str, str], trained_objects: dict[str, bytes]) -> LoadedModel:
    """The model that the week gave, loaded from S3."""
    bucket = Bucket(moto_environment, f"bucket-{uuid.uuid4()}")
    bucket.client.create_bucket(Bucket=bucket.name)
    for key, body in trained_objects.items():
        bucket.put(key, body)
    return ChampionRegistry(bucket.store).load_champion()


@pytest.fixture(scope="session")
def predictor(champion: LoadedModel) -> Predictor:
    """Its answers."""
    return Predictor(champion.estimator, champion.manifest)


@dataclass
class Service:
    """A running serve_model."""

    process: "subprocess.Popen[bytes]"
    port: int

    def connect(self) -> http.client.HTTPConnection:
        """A connection, not opened yet."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def is_open(self) -> bool:
        """Does it take connections?"""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True


@pytest.fixture
def service(trained_bucket: Bucket) -> Iterator[Service]:
    """The stage serve_model as a process, on a model trained a moment ago."""
    port = free_port()
    arguments = [trained_bucket.name, "--host=127.0.0.1", f"--port={port}", f"--drain-seconds={DRAIN_SECONDS}"]
    stage = replace(stages.read_dag()[1][0], args=arguments)
    service = Service(stages.start(stage, trained_bucket.environment), port)
    try:
        while not service.is_open():
            assert service.process.poll() is None
            time.sleep(0.05)
        yield service
    finally:
        service.process.kill()
        service.process.wait()


@pytest.fixture
def run_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[RunStage]:
    """Runs a stage's main() in this process: its exit code, and the messages of its ERROR lines."""

    def run(
        main: Callable[[Sequence[str]], int], arguments: Sequence[str], environment: dict[str, str]
    ) -> tuple[int, list[str]]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = main(arguments)
        lines = capsys.readouterr().out.splitlines()
        assert all(LOG_LINE.match(line) for line in lines)
        return code, [line.split(" - ", 3)[3] for line in lines if " - ERROR - " in line]

    handlers = logging.root.handlers[:]
    yield run
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test can reach anybody's real S3."""
    for name in list(os.environ):
        if name.startswith("AWS_") and not name.endswith("CA_BUNDLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def train_week(bucket: Bucket, number: int) -> None:
    """Store the week that comes so many after the first, and train on it the morning after."""
    bucket.put(dataset_key(FRIDAY + number * WEEK), to_csv(generate_week(seed=1 + number)))
    train(bucket.store, THRESHOLDS, NOW + number * WEEK, "abc1234")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def free_ports() -> Ports:
    """Ports for one more SeaweedFS, below those that the system gives out by itself."""
    found: list[int] = []
    candidate = 10_000 + uuid.uuid4().int % 10_000
    while len(found) < len(vars(Ports())):
        candidate += 1
        if is_free(candidate) and is_free(candidate + GRPC_OFFSET):
            found.append(candidate)
    return Ports(*found)


def is_free(port: int) -> bool:
    """Does nothing listen on this port?"""
    try:
        socket.create_server(("", port)).close()  # on any address
    except OSError:
        return False
    return True
