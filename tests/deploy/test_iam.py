"""deploy/iam's policies, enforced by an IAM: each role can do its work, and nothing else."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from local.generate_orders import generate_week, to_csv
from pipeline.errors import ObjectNotFound, StoreRefused
from pipeline.keys import dataset_key, format_version, manifest_key, parse_dataset_key, rejected_manifest_key
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.models import ModelRegistry
from pipeline.train_model import run
from tests.conftest import FRIDAY, NEXT_FRIDAY, NEXT_SATURDAY, NOW, THRESHOLDS, Bucket, free_port

POLICIES = Path(__file__).parents[2] / "deploy/iam"
BUCKET = "time-to-dispatch"
OPEN_CALLS = 18  # how many calls moto lets pass without a policy: those that make the users below


@pytest.fixture(scope="module")
def roles() -> Iterator[dict[str, Bucket]]:
    """The bucket as each role sees it, on an S3 that asks an IAM."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }
    server = subprocess.Popen(
        [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(OPEN_CALLS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        calls = OPEN_CALLS
        iam = boto3.Session("first", "first", region_name="us-east-1").client("iam", endpoint_url=address)
        everybody = {}
        for role in ("data-engineering", "train-model", "serve-model", "weekly-run", "on-call", "everything"):
            while True:
                try:
                    iam.create_user(UserName=role)
                    break
                except BotoCoreError:  # not up yet
                    time.sleep(0.1)
            policy = POLICIES / f"{role}.json"
            document = policy.read_text() if policy.exists() else json.dumps(ALLOW_ALL)
            iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=document)
            key = iam.create_access_key(UserName=role)["AccessKey"]
            calls -= 3
            credentials = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
            everybody[role] = Bucket({**environment, **credentials}, BUCKET)
        assert calls == 0
        everybody["everything"].client.create_bucket(Bucket=BUCKET)
        yield everybody
    finally:
        server.kill()
        server.wait()


ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def test_the_three_roles_together_get_a_model_served(roles: dict[str, Bucket], week_csv: bytes) -> None:
    with pytest.raises(ObjectNotFound):
        roles["train-model"].store.get("models/champion.json")
    roles["data-engineering"].put(dataset_key(FRIDAY), week_csv)
    run(roles["train-model"].store, THRESHOLDS, NOW, "abc1234")
    assert ChampionRegistry(roles["serve-model"].store).load_champion().manifest.dataset.key == dataset_key(FRIDAY)


def test_the_on_call_role_can_roll_back(roles: dict[str, Bucket], trained_objects: dict[str, bytes]) -> None:
    for key, body in trained_objects.items():
        roles["everything"].put(key, body)
    roles["data-engineering"].put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    run(roles["train-model"].store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    moved = ChampionRegistry(roles["on-call"].store).roll_back("by hand", "abc1234")
    assert (moved.version, moved.previous) == (format_version(NOW), format_version(NEXT_SATURDAY))


def test_the_weekly_run_sees_which_weeks_were_trained_on(
    roles: dict[str, Bucket], week_csv: bytes, trained_objects: dict[str, bytes]
) -> None:
    version = format_version(NOW)
    roles["everything"].put(dataset_key(FRIDAY), week_csv)
    roles["everything"].put(rejected_manifest_key(version), trained_objects[manifest_key(version)])
    dataset = parse_dataset_key(dataset_key(FRIDAY))
    assert dataset is not None
    store = roles["weekly-run"].store
    etag = store.get(dataset.key).etag
    assert ModelRegistry(store).rejected_on(dataset, etag) == [version]


@pytest.mark.parametrize(
    ("role", "prefix"),
    [
        ("data-engineering", "models/"),
        ("data-engineering", "rejected/"),
        ("train-model", "datasets/"),
        ("train-model", "elsewhere/"),
        ("serve-model", "datasets/"),
        ("serve-model", "models/"),
        ("serve-model", "rejected/"),
        ("weekly-run", "datasets/"),
        ("weekly-run", "models/"),
        ("weekly-run", "rejected/"),
        ("on-call", "datasets/"),
        ("on-call", "models/"),
        ("on-call", "rejected/"),
    ],
)
def test_a_role_writes_nothing_that_is_not_its_own(roles: dict[str, Bucket], role: str, prefix: str) -> None:
    with pytest.raises(StoreRefused, match="AccessDenied"):
        roles[role].store.put_new(f"{prefix}x", b"", "text/plain")
    assert roles["everything"].keys(f"{prefix}x") == []


@pytest.mark.parametrize(
    ("role", "prefix"),
    [
        ("data-engineering", "datasets/"),
        ("data-engineering", "models/"),
        ("train-model", "elsewhere/"),
        ("serve-model", "datasets/"),
        ("serve-model", "rejected/"),
        ("weekly-run", "elsewhere/"),
        ("on-call", "datasets/"),
    ],
)
def test_a_role_reads_nothing_that_is_not_its_own(roles: dict[str, Bucket], role: str, prefix: str) -> None:
    roles["everything"].put(f"{prefix}there", b"")
    with pytest.raises(StoreRefused, match="AccessDenied"):
        roles[role].store.get(f"{prefix}there")


@pytest.mark.parametrize("role", ["data-engineering", "train-model", "serve-model", "weekly-run", "on-call"])
def test_no_role_deletes(roles: dict[str, Bucket], role: str) -> None:
    for prefix in ("datasets/", "models/", "rejected/"):
        roles["everything"].put(f"{prefix}kept", b"")
        with pytest.raises(roles[role].client.exceptions.ClientError, match="AccessDenied"):
            roles[role].delete(f"{prefix}kept")
