"""An upgrade from the previous version and back: both versions read what the other one stored."""

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from e2e.previous_version import HistoryMissing, check_out, run_code, train
from local.generate_orders import generate_week, to_csv
from local.stages import ROOT
from pipeline.keys import dataset_key
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.models import LoadedModel
from pipeline.train_model import run
from tests.conftest import NEXT_FRIDAY, NEXT_SATURDAY, THRESHOLDS, WEEK, Bucket

ASK = """
import json, sys
import pandas as pd
from pipeline.object_store import ObjectStore
from pipeline.registry import Registry
model = Registry(ObjectStore.connect(sys.argv[1])).load_champion()
orders = pd.DataFrame({"product_code": model.estimator.product_codes_, "orders_placed": 112.0})
print(json.dumps([model.manifest.version, model.estimator.predict(orders).tolist()]))
"""


def estimates_at_112_orders(model: LoadedModel) -> list[float]:
    places = np.arange(len(model.estimator.product_codes_), dtype=np.float64)
    hours: list[float] = model.estimator.predict_encoded(
        np.column_stack([places, np.full(places.shape, 112.0)])
    ).tolist()
    return hours


@pytest.fixture(scope="session")
def previous_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the previous version."""
    folder = tmp_path_factory.mktemp("previous-version")
    try:
        check_out(ROOT, folder)
    except HistoryMissing as error:
        shallow = ["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]
        if subprocess.check_output(shallow, text=True).strip() == "true":
            pytest.skip(str(error))
        raise
    return folder


def test_a_champion_of_the_previous_version_is_loaded_and_estimates_the_same(
    bucket: Bucket, previous_version: Path
) -> None:
    bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=1)))
    code = (
        "from datetime import datetime; from pipeline.object_store import ObjectStore; "
        "from pipeline.train_model import run; from pipeline.training import Thresholds; import sys; "
        "run(ObjectStore.connect(sys.argv[1]), Thresholds(0.8, 0.9, 30), datetime.fromisoformat(sys.argv[2]), 'old')"
    )
    run_code(previous_version, code, bucket.name, NEXT_SATURDAY.isoformat(), environment=bucket.environment)
    version, hours = json.loads(run_code(previous_version, ASK, bucket.name, environment=bucket.environment))
    model = ChampionRegistry(bucket.store).load_servable()
    assert model.manifest.version == version
    assert model.manifest.holdout_error is None
    assert estimates_at_112_orders(model) == hours


def test_a_new_model_is_compared_with_the_champion_of_the_previous_version_and_replaces_it(
    bucket: Bucket, previous_version: Path
) -> None:
    now = datetime.now(UTC)  # the stage goes by the clock
    bucket.put(dataset_key(now - WEEK), to_csv(generate_week(seed=1)))
    train(previous_version, bucket.name, bucket.environment)
    before = ChampionRegistry(bucket.store).load_champion().manifest.version
    bucket.put(dataset_key(now), to_csv(generate_week(seed=2)))
    run(bucket.store, THRESHOLDS, now + timedelta(minutes=1), "new")  # versions have a resolution of 1 s
    after = ChampionRegistry(bucket.store).load_champion().manifest
    assert after.version != before
    assert after.champion_version == after.hold_out.compared_with == before


def test_the_previous_version_loads_a_champion_of_this_one_after_a_roll_back(
    bucket: Bucket, previous_version: Path
) -> None:
    bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=1)))
    run(bucket.store, THRESHOLDS, NEXT_SATURDAY, "new")
    version, hours = json.loads(run_code(previous_version, ASK, bucket.name, environment=bucket.environment))
    model = ChampionRegistry(bucket.store).load_champion()
    assert version == model.manifest.version
    assert estimates_at_112_orders(model) == hours


def test_after_a_roll_back_the_previous_version_trains_on_from_a_champion_of_this_one(
    bucket: Bucket, previous_version: Path
) -> None:
    now = datetime.now(UTC)  # the stage goes by the clock
    for week in (1, 0):
        bucket.put(dataset_key(now - week * WEEK), to_csv(generate_week(seed=1 + week)))
        if week:
            run(bucket.store, THRESHOLDS, now - week * WEEK, "new")
    before = ChampionRegistry(bucket.store).load_champion().manifest.version
    train(previous_version, bucket.name, bucket.environment)
    after = ChampionRegistry(bucket.store).load_champion().manifest
    assert after.champion_version == before != after.version
    assert after.holdout_error is not None  # which the previous version calls promised_error
