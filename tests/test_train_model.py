"""The stage train_model, over S3's wire protocol."""

import json
import logging

import pandas as pd
import pytest

from local.generate_orders import generate_week, to_csv
from pipeline.errors import TimeToDispatchError
from pipeline.manifest import Champion, Manifest
from pipeline.names import CHAMPION_KEY, dataset_key, manifest_key, model_key
from pipeline.registry import Registry
from pipeline.train_model import run
from tests.conftest import FRIDAY, NOW, THRESHOLDS, Bucket


def champion_of(bucket: Bucket) -> Champion:
    pointer = Registry(bucket.store).read_champion()
    assert pointer is not None
    return pointer.champion


def manifest_of(bucket: Bucket, version: str) -> Manifest:
    return Manifest.model_validate_json(bucket.get(manifest_key(version)))


def test_a_training_stores_a_version_and_promotes_it(bucket: Bucket, week_csv: bytes) -> None:
    bucket.put(dataset_key(FRIDAY), week_csv)
    run(bucket.store, THRESHOLDS, NOW, "abc1234")
    version = "time_to_dispatch_2026-11-21T08:00:00Z"
    assert bucket.keys() == sorted([dataset_key(FRIDAY), model_key(version), manifest_key(version), CHAMPION_KEY])
    assert champion_of(bucket).version == version
    assert champion_of(bucket).previous is None
    assert champion_of(bucket).git_commit == "abc1234"
