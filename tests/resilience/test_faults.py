"""What the stages do when S3 fails them, a signal comes, or they are killed.

A proxy spoils one call after another on its way to a real S3 server. `make test` tries each of a training's writes, and
two moments to be killed at; `make faults` every fault at every call, and a hundred moments.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Self

import pytest
import yaml

from local import stages
from local.generate_orders import generate_week, to_csv
from pipeline import serve_model, train_model
from pipeline.errors import PromotionUnknown, StoreUnreachable
from pipeline.keys import dataset_key
from pipeline.registry import object_store
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.object_store import ObjectStore
from pipeline.train_model import run as train
from tests.conftest import FRIDAY, NEXT_FRIDAY, NEXT_SATURDAY, THRESHOLDS, Bucket, RunStage
from tests.resilience.fault_proxy import FAULTS, fault_proxy

pytestmark = pytest.mark.seaweedfs

NEXT_WEEK = dataset_key(NEXT_FRIDAY)
CALLS_OF_SERVING = 3  # champion, manifest, model
NewBucket = Callable[[], Bucket]
Meeting = Callable[[NewBucket, str, int, pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tries, sooner."""
    monkeypatch.setattr(object_store, "READ_SECONDS", 2)
    monkeypatch.setattr(object_store, "MIN_WAIT_SECONDS", 0.01)


@pytest.fixture
def new_bucket(seaweedfs_bucket: Bucket, trained_objects: dict[str, bytes]) -> NewBucket:
    """Makes the bucket one with a champion, and a newer week that nobody trained on: SeaweedFS has room for few."""

    def make() -> Bucket:
        bucket = seaweedfs_bucket
        for key in bucket.keys():
            bucket.delete(key)
        for key, body in trained_objects.items():
            bucket.put(key, body)
        bucket.put(NEXT_WEEK, to_csv(generate_week(seed=2)))
        return bucket

    return make


def through(address: str, bucket: Bucket, attempts: int, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(attempts))
    return ObjectStore.connect(bucket.name)


def calls_of_training(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> int:
    with fault_proxy(bucket.environment["AWS_ENDPOINT_URL"]) as proxy:
        train(through(proxy.address, bucket, 1, monkeypatch), THRESHOLDS, NEXT_SATURDAY, "def5678")
        return proxy.calls


def expect_a_whole_champion(bucket: Bucket, new: str = NEXT_WEEK) -> str:
    """Whatever happened: what is served is complete, and the old model or one of the new week. Its dataset."""
    model = ChampionRegistry(bucket.store).load_champion()
    assert model.manifest.dataset.key in (dataset_key(FRIDAY), new)
    return model.manifest.dataset.key


def train_past_one_fault(new_bucket: NewBucket, fault: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = new_bucket()
    with fault_proxy(bucket.environment["AWS_ENDPOINT_URL"], fault, call, call) as proxy:
        train(through(proxy.address, bucket, 2, monkeypatch), THRESHOLDS, NEXT_SATURDAY, "def5678")
    assert expect_a_whole_champion(bucket) == NEXT_WEEK


def train_while_s3_fails(new_bucket: NewBucket, fault: str, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one call on, every one is spoiled; then S3 is itself again."""
    bucket = new_bucket()
    with fault_proxy(bucket.environment["AWS_ENDPOINT_URL"], fault, call) as proxy:
        try:
            train(through(proxy.address, bucket, 1, monkeypatch), THRESHOLDS, NEXT_SATURDAY, "def5678")
        except StoreUnreachable as error:
            assert f"s3://{bucket.name}/" in str(error)
            assert "(tried for " in str(error)
            lost = isinstance(error, PromotionUnknown)
        else:
            assert fault in ("late", "cut", "flip")
            assert fault == "late" or not proxy.bodies_spoiled  # the empty answers of writes cannot be
            lost = True
    if expect_a_whole_champion(bucket) == NEXT_WEEK:
        assert lost
    train(bucket.store, THRESHOLDS, NEXT_SATURDAY, "def5678")
    assert expect_a_whole_champion(bucket) == NEXT_WEEK


def test_after_a_failed_write_of_s3_at_any_moment_the_next_training_succeeds(
    new_bucket: NewBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of_training(new_bucket(), monkeypatch)
    for last, fault in ((7, "500"), (6, "refuse"), (5, "reset"), (2, "503 SlowDown"), (1, "reset")):  # the writes
        train_while_s3_fails(new_bucket, fault, calls - last, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("meet", [train_past_one_fault, train_while_s3_fails])
def test_a_training_loses_nothing_by_any_fault_at_any_call_or_from_any_call_on(
    new_bucket: NewBucket, meet: Meeting, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in range(calls_of_training(new_bucket(), monkeypatch)):
        meet(new_bucket, fault, call, monkeypatch)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_is_loaded_past_any_fault_at_any_call(
    new_bucket: NewBucket, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket()
    served = ChampionRegistry(bucket.store).load_champion().manifest
    for call in range(CALLS_OF_SERVING):
        with fault_proxy(bucket.environment["AWS_ENDPOINT_URL"], fault, call, call) as proxy:
            assert ChampionRegistry(through(proxy.address, bucket, 2, monkeypatch)).load_champion().manifest == served
            retried = fault != "late"
            assert proxy.calls == CALLS_OF_SERVING + retried


@pytest.mark.parametrize("call", range(CALLS_OF_SERVING))
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "late"])
def test_an_incomplete_model_is_not_served_and_the_error_says_what_failed(
    new_bucket: NewBucket, fault: str, call: int, run_stage: RunStage
) -> None:
    bucket = new_bucket()
    with fault_proxy(bucket.environment["AWS_ENDPOINT_URL"], fault, call) as proxy:
        environment = {**bucket.environment, "AWS_ENDPOINT_URL": proxy.address, "AWS_MAX_ATTEMPTS": "1"}
        code, (error,) = run_stage(serve_model.main, [bucket.name], environment)
    assert code == 1
    assert error.startswith(f"No model to serve: reading s3://{bucket.name}/models/")
    assert "(tried for " in error


def test_the_stages_give_up_before_bodywork_ends_them() -> None:
    config = yaml.safe_load((stages.ROOT / "bodywork.yaml").read_text())["stages"]
    assert train_model.RUN_SECONDS < config["train_model"]["batch"]["max_completion_time_seconds"]
    assert serve_model.START_SECONDS < config["serve_model"]["service"]["max_startup_time_seconds"]


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Hypothesis has itself called at each collection, and an alarm that comes in there is lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    ("stage", "limit", "said"),
    [(train_model, "RUN_SECONDS", "Nothing was promoted: "), (serve_model, "START_SECONDS", "No model to serve: ")],
)
def test_a_stage_that_is_out_of_time_says_where(
    new_bucket: NewBucket,
    run_stage: RunStage,
    monkeypatch: pytest.MonkeyPatch,
    stage: ModuleType,
    limit: str,
    said: str,
) -> None:
    bucket = new_bucket()
    monkeypatch.setattr(stage, limit, 0.4)
    with fault_proxy(bucket.environment["AWS_ENDPOINT_URL"], "hang") as proxy:
        environment = {**bucket.environment, "AWS_ENDPOINT_URL": proxy.address}
        code, (error,) = run_stage(stage.main, [bucket.name], environment)
    assert code == 1
    assert error.startswith(said)
    assert ": not done in 0.4 s (tried for 0." in error


@pytest.mark.parametrize(
    ("place", "sig", "code", "level", "said"),
    [
        (0, signal.SIGINT, 1, "ERROR", "Nothing was promoted: "),
        (1, signal.SIGTERM, 0, "INFO", "Stopped before the port was opened: "),
    ],
)
def test_a_signal_while_s3_is_waited_for_ends_a_stage_with_one_line(
    place: int,
    sig: signal.Signals,
    code: int,
    level: str,
    said: str,
    moto_environment: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_s3:
        environment = {**moto_environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent_s3.getsockname()[1]}"}
        process = stages.start(replace(stages.read_dag()[place][0], args=["bucket"]), environment)
        connection, _ = silent_s3.accept()
        with connection:
            connection.recv(1)
            process.send_signal(sig)
            assert process.wait(30) == code
    output = capfd.readouterr()
    assert output.err == ""
    last = output.out.splitlines()[-1]
    assert f" - {level} - " in last
    assert f" - {said}reading s3://bucket/models/champion.json: stopped by {sig.name} (tried for " in last


# Trains once for each line that it reads, in a process of its own (forked: the imports take longer than a training),
# which is killed after the line's number of seconds; says how each ended.
FORK = """
import os, signal, sys, threading
from pipeline.train_model import main

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(main(sys.argv[1:]))
    killer = threading.Timer(float(line), os.kill, (child, signal.SIGKILL))
    killer.start()
    _, status = os.waitpid(child, 0)
    killer.cancel()
    killer.join()
    print("ENDED", os.waitstatus_to_exitcode(status), flush=True)
"""


class Trainings:
    """The stage train_model, again and again."""

    def __init__(self, bucket: Bucket) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORK, bucket.name, "--max-dataset-age-days=36500"],
            cwd=stages.ROOT,
            env={**os.environ, **bucket.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, seconds: float = 60) -> int:
        """Train for so many seconds, and no longer; the exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        ended = next(line for line in self._process.stdout if line.startswith("ENDED "))
        return int(ended.split()[1])

    def run_to_the_end(self) -> float:
        """Train, which must succeed; how many seconds it took."""
        start = time.monotonic()
        assert self.run() == 0
        return time.monotonic() - start

    def __enter__(self) -> Self:
        """Nothing has run yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """No process is left."""
        with self._process as process:
            process.kill()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moments", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_after_a_training_killed_at_any_moment_the_next_one_succeeds(new_bucket: NewBucket, moments: int) -> None:
    bucket = new_bucket()
    week = dataset_key(datetime.now(UTC))  # the stage goes by the clock
    with Trainings(bucket) as trainings:
        whole = trainings.run_to_the_end()
        killed, tried = 0, 0
        while killed < moments:  # one that ended before its moment is tried again
            bucket.put(week, to_csv(generate_week(seed=10 + tried)))
            killed += trainings.run(whole * (killed + 0.5) / moments) == -signal.SIGKILL
            tried += 1
            expect_a_whole_champion(bucket, week)
            whole = trainings.run_to_the_end()
            assert expect_a_whole_champion(bucket, week) == week
