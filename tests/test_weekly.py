"""When the weekly run deploys, and when it leaves the service alone."""

import json
from datetime import timedelta

import pytest

from local.generate_orders import generate_week, to_csv
from operations.weekly import trained_on, why_not
from pipeline.errors import TrainingRejected
from pipeline.names import CHAMPION_KEY, MODELS, DatasetKey, dataset_key, manifest_key, parse_dataset_key, spell_version
from pipeline.registry import Registry
from pipeline.train_model import run
from tests.conftest import FRIDAY, NEXT_FRIDAY, NEXT_SATURDAY, NOW, THRESHOLDS, Bucket

VERSION = spell_version(NOW)


def dataset(key: str) -> DatasetKey:
    found = parse_dataset_key(key)
    assert found is not None
    return found


def test_a_week_that_nobody_trained_on_waits(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    assert why_not(trained_bucket.store, dataset(dataset_key(NEXT_FRIDAY)), lambda: {VERSION}) is None


def test_a_week_whose_model_is_served_does_not_wait(trained_bucket: Bucket) -> None:
    reason = why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: {VERSION})
    assert reason == f"{dataset_key(FRIDAY)} was trained on, {VERSION} is served"


@pytest.mark.parametrize("served", [{"time_to_dispatch_2026-11-14T08:00:00Z"}, {VERSION, "nothing"}, set()])
def test_a_week_whose_model_was_promoted_and_not_rolled_out_waits(trained_bucket: Bucket, served: set[str]) -> None:
    assert why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: served) is None


def test_a_week_whose_model_was_stored_and_not_promoted_waits(trained_bucket: Bucket) -> None:
    trained_bucket.delete(CHAMPION_KEY)
    assert why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: {"nothing"}) is None


def test_a_week_whose_model_was_rolled_back_does_not_wait(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    Registry(trained_bucket.store).roll_back("wrong", "abc1234")
    reason = why_not(trained_bucket.store, dataset(dataset_key(NEXT_FRIDAY)), lambda: {VERSION})
    assert reason == f"{dataset_key(NEXT_FRIDAY)} was trained on, and {spell_version(NEXT_SATURDAY)} was replaced since"


def test_a_week_that_was_rejected_does_not_wait(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2).assign(hours_to_dispatch=4.0)
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(orders))
    with pytest.raises(TrainingRejected):
        run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    reason = why_not(trained_bucket.store, dataset(dataset_key(NEXT_FRIDAY)), lambda: {VERSION})
    assert reason == f"{dataset_key(NEXT_FRIDAY)} was rejected, see rejected/{spell_version(NEXT_SATURDAY)}/"


def test_the_same_key_with_other_bytes_is_another_week(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(FRIDAY), to_csv(generate_week(seed=2)))
    assert trained_on(trained_bucket.store, dataset(dataset_key(FRIDAY)), MODELS) == []


def test_a_week_dated_a_little_ahead_of_its_training_is_found(trained_bucket: Bucket) -> None:
    ahead = NOW + timedelta(minutes=30)  # by a local clock, say
    record = json.loads(trained_bucket.get(manifest_key(VERSION)))
    trained_bucket.put(dataset_key(ahead), trained_bucket.get(dataset_key(FRIDAY)))
    record["dataset"]["key"] = dataset_key(ahead)
    trained_bucket.put(manifest_key(VERSION), json.dumps(record).encode())
    assert trained_on(trained_bucket.store, dataset(dataset_key(ahead)), MODELS) == [VERSION]


def test_a_manifest_that_makes_no_sense_is_left_out(trained_bucket: Bucket) -> None:
    trained_bucket.put(manifest_key(VERSION), b"{}")
    assert trained_on(trained_bucket.store, dataset(dataset_key(FRIDAY)), MODELS) == []
