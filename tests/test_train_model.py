"""The stage train_model, over S3's wire protocol."""

import logging
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from local.generate_orders import generate_week, to_csv
from pipeline.errors import (
    ChampionInvalid,
    DatasetInvalid,
    NoDataset,
    TrainingRejected,
    WriteConflict,
)
from pipeline.keys import CHAMPION_KEY, dataset_key, format_version, manifest_key, model_key
from pipeline.manifest import Champion, Manifest
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.models import ModelRegistry
from pipeline.registry.object_store import ObjectStore
from pipeline.train_model import main, run
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT
from tests.conftest import (
    FRIDAY,
    NEXT_FRIDAY,
    NEXT_SATURDAY,
    NOW,
    THRESHOLDS,
    WEEK,
    Bucket,
    RunStage,
    free_port,
    train_week,
)

VERSION = format_version(NOW)
NEXT_VERSION = format_version(NEXT_SATURDAY)


def champion_of(bucket: Bucket) -> Champion:
    pointer = ChampionRegistry(bucket.store).read_champion()
    assert pointer is not None
    return pointer.champion


def manifest_of(bucket: Bucket, version: str = VERSION) -> Manifest:
    return ModelRegistry(bucket.store).read_manifest(version)


def train_next_week(bucket: Bucket, orders: pd.DataFrame) -> None:
    bucket.put(dataset_key(NEXT_FRIDAY), to_csv(orders))
    run(bucket.store, THRESHOLDS, NEXT_SATURDAY, "def5678")


def test_a_training_stores_a_version_and_promotes_it(trained_bucket: Bucket) -> None:
    assert {dataset_key(FRIDAY), model_key(VERSION), manifest_key(VERSION), CHAMPION_KEY} <= set(trained_bucket.keys())
    champion = champion_of(trained_bucket)
    assert (champion.version, champion.previous, champion.git_commit) == (VERSION, None, "abc1234")


def test_the_manifest_says_where_the_model_comes_from_and_why_it_was_let_in(
    trained_bucket: Bucket, week: pd.DataFrame
) -> None:
    manifest = manifest_of(trained_bucket)
    assert manifest.dataset.key == dataset_key(FRIDAY)
    assert manifest.dataset.rows == len(week)
    assert manifest.git_commit == "abc1234"
    assert manifest.chosen == "line_per_product"
    assert manifest.hold_out.measured_on.startswith("the fit without the hold-out")
    assert set(manifest.candidates) == {"line_per_product", "boosted_trees"}
    assert [verdict.gate for verdict in manifest.gates] == [
        "accuracy",
        "baseline",
        "champion",
        "behaviour",
        "behaviour_of_refit",
        "freshness",
    ]
    seen = week[week[PRODUCT] == "SKU003"]
    profile = manifest.products["SKU003"]
    assert (profile.rows, profile.orders_max, profile.hours_min) == (len(seen), seen[ORDERS].max(), seen[HOURS].min())


def test_the_same_week_trained_again_gives_the_same_model(trained_bucket: Bucket) -> None:
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    first, second = manifest_of(trained_bucket), manifest_of(trained_bucket, NEXT_VERSION)
    assert first.model == second.model


def test_a_newer_week_is_promoted_over_the_first_champion(trained_bucket: Bucket) -> None:
    before = trained_bucket.snapshot(f"models/{VERSION}/")
    train_next_week(trained_bucket, generate_week(seed=2))
    champion = champion_of(trained_bucket)
    assert (champion.version, champion.previous) == (NEXT_VERSION, VERSION)
    assert trained_bucket.snapshot(f"models/{VERSION}/") == before


def test_the_champions_error_on_the_new_week_is_kept_as_its_error_in_production(
    trained_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train_next_week(trained_bucket, generate_week(seed=2))
    manifest = manifest_of(trained_bucket, NEXT_VERSION)
    assert manifest.champion_version == VERSION
    assert manifest.production_error is not None
    week = generate_week(seed=2)
    served = ModelRegistry(trained_bucket.store).load(VERSION).estimator.predict(week)
    assert manifest.production_error.rmse == pytest.approx(np.sqrt(np.mean((served - week[HOURS]) ** 2)))
    assert f"Production error of {VERSION}" in caplog.text


def test_a_new_product_needs_no_edit(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2)
    orders.loc[orders.index[:200], PRODUCT] = "SKU-OF-THE-WEEK"
    orders.loc[orders.index[:200], HOURS] = 3.0 + 0.01 * orders.loc[orders.index[:200], ORDERS]
    train_next_week(trained_bucket, orders)
    assert "SKU-OF-THE-WEEK" in manifest_of(trained_bucket, NEXT_VERSION).products


def test_a_rare_product_is_named_and_served(
    bucket: Bucket, week: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    rare = pd.DataFrame({HOURS: [9.0], ORDERS: [50], PRODUCT: ["SKU-OF-THE-YEAR"]})
    bucket.put(dataset_key(FRIDAY), to_csv(pd.concat([week, rare])))
    run(bucket.store, THRESHOLDS, NOW, "abc1234")
    assert "Products with too few rows, estimated by the pooled fit: SKU-OF-THE-YEAR (off by " in caplog.text
    assert manifest_of(bucket).products["SKU-OF-THE-YEAR"].pooled
    assert "SKU-OF-THE-YEAR" in ChampionRegistry(bucket.store).load_champion().estimator.product_codes_


def shuffled(week: pd.DataFrame) -> pd.DataFrame:
    return week.assign(hours_to_dispatch=week[HOURS].sample(frac=1, random_state=1).to_numpy())


def falling(week: pd.DataFrame) -> pd.DataFrame:
    return week.assign(orders_placed=week[ORDERS].max() - week[ORDERS])


@pytest.mark.parametrize(
    ("spoil", "reasons"),
    [
        (lambda week: week.assign(hours_to_dispatch=4.0), ["baseline: hold-out RMSE 0.000 h is not below"]),
        (shuffled, ["accuracy: hold-out R2 "]),
        (falling, ["baseline: hold-out RMSE "]),
    ],
)
def test_a_week_that_teaches_nothing_true_is_rejected_with_every_reason(
    trained_bucket: Bucket,
    week: pd.DataFrame,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    reasons: list[str],
) -> None:
    before = trained_bucket.snapshot("models/")
    with pytest.raises(TrainingRejected) as caught:
        train_next_week(trained_bucket, spoil(week))
    assert all(reason in str(caught.value) for reason in reasons)
    assert f"see rejected/{NEXT_VERSION}/" in str(caught.value)
    assert trained_bucket.snapshot("models/") == before


def test_a_rejected_model_is_not_stored_but_why_is(trained_bucket: Bucket, week: pd.DataFrame) -> None:
    with pytest.raises(TrainingRejected):
        train_next_week(trained_bucket, shuffled(week))
    assert f"rejected/{NEXT_VERSION}/manifest.json" in trained_bucket.keys("rejected/")
    assert not [key for key in trained_bucket.keys("rejected/") if key.endswith(".joblib")]
    manifest = Manifest.model_validate_json(trained_bucket.get(f"rejected/{NEXT_VERSION}/manifest.json"))
    assert manifest.model is None
    assert {verdict.gate: verdict.outcome for verdict in manifest.gates}["accuracy"] == "reject"


def test_a_champion_of_the_same_week_is_compared_by_its_own_holdout_error(trained_bucket: Bucket) -> None:
    run(trained_bucket.store, THRESHOLDS, NOW + timedelta(hours=1), "def5678")
    holdout = manifest_of(trained_bucket).hold_out.candidate
    again = manifest_of(trained_bucket, format_version(NOW + timedelta(hours=1)))
    assert again.hold_out.champion == again.hold_out.candidate_where_champion_knows == holdout
    assert again.production_error is None


def test_a_model_that_is_worse_than_the_champion_is_rejected(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2)
    few = orders.groupby(PRODUCT).head(20)  # enough to train on, too few to do as well as the champion
    with pytest.raises(TrainingRejected, match="champion: hold-out RMSE .* is over 1.05 x the champion's"):
        train_next_week(trained_bucket, few)
    assert champion_of(trained_bucket).version == VERSION


def test_a_champion_that_no_longer_loads_is_replaced_with_a_warning(
    trained_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    trained_bucket.put(model_key(VERSION), b"damaged")
    train_next_week(trained_bucket, generate_week(seed=2))
    assert champion_of(trained_bucket).version == NEXT_VERSION
    assert "not compared with a champion: the champion cannot be loaded" in caplog.text
    champion_gate = manifest_of(trained_bucket, NEXT_VERSION).gates[2]
    assert (champion_gate.outcome, champion_gate.gate) == ("warn", "champion")
    assert "damaged or replaced" in champion_gate.reasons[0]


def test_a_champion_of_a_newer_manifest_format_is_replaced_with_a_warning(
    trained_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    trained_bucket.put(manifest_key(VERSION), b'{"format": 2}')
    train_week(trained_bucket, 1)
    assert champion_of(trained_bucket).version == NEXT_VERSION
    assert f"the champion cannot be loaded: {manifest_key(VERSION)} has manifest format 2" in caplog.text


def test_a_champion_whose_manifest_is_damaged_is_replaced_with_a_warning(
    trained_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    trained_bucket.put(manifest_key(VERSION), b"{")
    train_next_week(trained_bucket, generate_week(seed=2))
    assert champion_of(trained_bucket).version == NEXT_VERSION
    assert f"the champion cannot be loaded: {manifest_key(VERSION)} cannot be understood: " in caplog.text


@pytest.mark.parametrize(("rows", "compared"), [(3, False), (35, False), (70, True)])
def test_a_champion_that_knows_fewer_than_10_rows_of_the_hold_out_is_not_compared_with(
    trained_bucket: Bucket, rows: int, compared: bool
) -> None:
    orders = generate_week(seed=2)
    names = "new-" + orders[PRODUCT]
    names.iloc[:rows] = "SKU001"  # a fifth of them is in the hold-out
    hours = orders[HOURS].where(names != "SKU001", 0.5 + 0.03 * orders[ORDERS])
    train_next_week(trained_bucket, orders.assign(product_code=names, hours_to_dispatch=hours))
    assert champion_of(trained_bucket).version == NEXT_VERSION
    assert (manifest_of(trained_bucket, NEXT_VERSION).hold_out.champion is not None) == compared


@pytest.mark.parametrize("common", [0, 8, 40])
def test_a_week_of_nearly_nothing_but_rare_products_is_one_clear_line(
    bucket: Bucket, week: pd.DataFrame, common: int
) -> None:
    codes = ["SKU001"] * common + [f"order-{number}" for number in range(120 - common)]
    bucket.put(dataset_key(FRIDAY), to_csv(week.head(120).assign(product_code=codes)))
    with pytest.raises(DatasetInvalid, match=r"^only \d orders can be held out \(at least 10 needed\)"):
        run(bucket.store, THRESHOLDS, NOW, "abc1234")
    assert bucket.keys("models/") == []


def test_a_report_is_rendered_for_hours_too_small_to_plot(bucket: Bucket, week: pd.DataFrame) -> None:
    bucket.put(dataset_key(FRIDAY), to_csv(week.assign(hours_to_dispatch=week[ORDERS] * 5e-324)))
    with pytest.raises(TrainingRejected, match="baseline"):
        run(bucket.store, THRESHOLDS, NOW, "abc1234")


def test_a_champion_of_other_products_is_not_compared_with(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2)
    train_next_week(trained_bucket, orders.assign(product_code="new-" + orders[PRODUCT]))
    manifest = manifest_of(trained_bucket, NEXT_VERSION)
    assert manifest.gates[2].reasons == [
        "not compared with a champion: only 0 hold-out rows are of products the champion was trained on "
        "(at least 10 needed)"
    ]
    assert manifest.production_error is None


def test_a_champion_pointer_that_makes_no_sense_is_left_alone(trained_bucket: Bucket) -> None:
    trained_bucket.put(CHAMPION_KEY, b"{}")
    with pytest.raises(ChampionInvalid):
        train_next_week(trained_bucket, generate_week(seed=2))
    assert trained_bucket.get(CHAMPION_KEY) == b"{}"


def test_a_champion_pointer_that_leads_nowhere_is_reported_and_replaced(
    trained_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    trained_bucket.delete(manifest_key(VERSION))
    train_next_week(trained_bucket, generate_week(seed=2))
    assert (champion_of(trained_bucket).version, champion_of(trained_bucket).previous) == (NEXT_VERSION, VERSION)
    assert f"the champion cannot be loaded: there is no model {VERSION}" in caplog.text


def test_a_corrected_upload_is_not_compared_with_a_champion_of_the_same_week(
    trained_bucket: Bucket, week: pd.DataFrame
) -> None:
    corrected = week.assign(hours_to_dispatch=week[HOURS].where(week.index != 0, week[HOURS] + 0.01))
    trained_bucket.put(dataset_key(FRIDAY + timedelta(hours=1)), to_csv(corrected))
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "def5678")
    manifest = manifest_of(trained_bucket, NEXT_VERSION)
    assert champion_of(trained_bucket).version == NEXT_VERSION
    assert manifest.gates[2].reasons == [
        "not compared with a champion: the champion was trained on another upload of this week, "
        f"{dataset_key(FRIDAY)}, and there is no earlier champion"
    ]
    assert (manifest.production_error, manifest.previous_week) == (None, None)


def train_again(bucket: Bucket, orders: pd.DataFrame) -> str:
    """Train on another upload of the second week; the version that it would be."""
    bucket.put(dataset_key(NEXT_FRIDAY + timedelta(hours=1)), to_csv(orders))
    run(bucket.store, THRESHOLDS, NEXT_SATURDAY + timedelta(hours=2), "def5678")
    return format_version(NEXT_SATURDAY + timedelta(hours=2))


def test_a_corrected_upload_is_compared_with_the_champion_before(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2)
    train_next_week(trained_bucket, orders)
    version = train_again(trained_bucket, orders.head(900))
    manifest = manifest_of(trained_bucket, version)
    assert champion_of(trained_bucket).version == version
    assert (manifest.hold_out.compared_with, manifest.champion_version) == (VERSION, NEXT_VERSION)
    assert manifest.production_error is None
    before = manifest_of(trained_bucket, NEXT_VERSION)
    assert before.hold_out.compared_with == before.champion_version == VERSION


def test_a_correction_for_the_worse_is_refused(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2)
    train_next_week(trained_bucket, orders)
    few = orders.groupby(PRODUCT).head(20)
    with pytest.raises(TrainingRejected, match="champion: hold-out RMSE .* is over 1.05 x the champion's"):
        train_again(trained_bucket, few)
    assert champion_of(trained_bucket).version == NEXT_VERSION


def test_an_unreadable_earlier_champion_is_skipped(trained_bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    train_next_week(trained_bucket, generate_week(seed=2))
    trained_bucket.put(manifest_key(VERSION), b"{}")
    version = train_again(trained_bucket, generate_week(seed=2).head(900))
    assert f"Skipped the comparison with {VERSION}, an earlier champion: {manifest_key(VERSION)} " in caplog.text
    assert manifest_of(trained_bucket, version).gates[2].reasons[0].endswith("and there is no earlier champion")


def test_an_older_week_than_the_champions_gives_no_production_error(trained_bucket: Bucket) -> None:
    train_next_week(trained_bucket, generate_week(seed=2))
    trained_bucket.delete(dataset_key(NEXT_FRIDAY))  # a bad upload, say
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY + timedelta(hours=1), "def5678")
    manifest = manifest_of(trained_bucket, format_version(NEXT_SATURDAY + timedelta(hours=1)))
    assert (manifest.production_error, manifest.hold_out.compared_with) == (None, NEXT_VERSION)


@pytest.mark.parametrize("rows", [1, 3, 9, 10, 11, 12])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_new_product_of_whatever_number_of_orders_keeps_no_week_out(bucket: Bucket, rows: int, seed: int) -> None:
    week = generate_week(seed=seed)
    orders = np.random.default_rng(seed).integers(0, 200, rows)
    new = pd.DataFrame({HOURS: 60 + 0.01 * orders, ORDERS: orders, PRODUCT: "SKU-NEW"})
    bucket.put(dataset_key(FRIDAY), to_csv(pd.concat([week, new])))
    run(bucket.store, THRESHOLDS, NOW, "abc1234")
    manifest, estimator = manifest_of(bucket), ChampionRegistry(bucket.store).load_champion().estimator
    assert manifest.products["SKU-NEW"].pooled == (rows < 10)
    assert estimator.pooled_codes_ == list(manifest.pooled_error) == (["SKU-NEW"] if rows < 10 else [])
    assert all(40 < error < 60 for error in manifest.pooled_error.values())
    assert manifest.hold_out.candidate.rmse < 0.9


def test_the_error_in_production_is_measured_where_too_few_rows_of_the_hold_out_are_known(
    trained_bucket: Bucket,
) -> None:
    orders = generate_week(seed=2)
    names = "new-" + orders[PRODUCT]
    names.iloc[:35] = orders[PRODUCT].iloc[:35]
    train_next_week(trained_bucket, orders.assign(product_code=names))
    manifest = manifest_of(trained_bucket, NEXT_VERSION)
    assert manifest.hold_out.champion is None
    assert manifest.production_error is not None


def test_an_old_dataset_is_not_trained_on_for_ever(trained_bucket: Bucket) -> None:
    with pytest.raises(TrainingRejected, match=r"freshness: the newest dataset is 30\.4 days old, more than 30"):
        run(trained_bucket.store, THRESHOLDS, NOW + timedelta(days=30), "abc1234")


def test_without_a_dataset_nothing_is_trained(bucket: Bucket) -> None:
    bucket.put("datasets/readme.txt", b"")
    with pytest.raises(NoDataset, match="there is no dataset below datasets/"):
        run(bucket.store, THRESHOLDS, NOW, "abc1234")


def test_a_dataset_dated_ahead_is_named_and_ignored(trained_bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    trained_bucket.put(dataset_key(NOW + timedelta(hours=2)), b"not even a CSV")
    run(trained_bucket.store, THRESHOLDS, NOW, "abc1234")
    assert "Ignored datasets/time_to_dispatch_2026-11-21T10:00:00Z.csv: its date is more than one hour" in caplog.text


def test_the_newest_dataset_counts_even_when_it_is_broken(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), b"")
    with pytest.raises(DatasetInvalid, match="the file is empty"):
        run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")


class RacingStore(ObjectStore):
    """A store on which others move the champion pointer to these, one each time before this one does."""

    def __init__(self, bucket: Bucket, winners: list[bytes]) -> None:
        super().__init__(bucket.client, bucket.name)
        self._bucket_seen_by_others = bucket
        self.winners = winners

    def replace(self, key: str, body: bytes, content_type: str, etag: str) -> None:
        if self.winners:
            self._bucket_seen_by_others.put(key, self.winners.pop(0))
        super().replace(key, body, content_type, etag)


def winners(bucket: Bucket, races: int) -> list[bytes]:
    """The champion pointer, as others would write it anew."""
    champion = champion_of(bucket)
    return [champion.model_copy(update={"reason": f"race {n}"}).model_dump_json().encode() for n in range(races)]


@pytest.mark.parametrize("races", [1, 2])
def test_a_training_that_loses_a_race_judges_again_and_promotes(trained_bucket: Bucket, races: int) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    run(RacingStore(trained_bucket, winners(trained_bucket, races)), THRESHOLDS, NEXT_SATURDAY, "def5678")
    assert champion_of(trained_bucket).version == format_version(NEXT_SATURDAY + timedelta(seconds=races))


def test_a_training_that_loses_three_races_gives_up_and_says_so(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    with pytest.raises(WriteConflict, match="Z is stored, but other trainings replaced the champion 3 times"):
        run(RacingStore(trained_bucket, winners(trained_bucket, 3)), THRESHOLDS, NEXT_SATURDAY, "def5678")
    assert champion_of(trained_bucket).reason == "race 2"


def test_a_training_that_loses_against_a_better_champion_is_rejected(trained_bucket: Bucket) -> None:
    few = generate_week(seed=2).groupby(PRODUCT).head(20)
    pointer = trained_bucket.get(CHAMPION_KEY)
    trained_bucket.delete(CHAMPION_KEY)
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(few))

    class AnotherIsFirst(ObjectStore):
        def put_new(self, key: str, body: bytes, content_type: str) -> None:
            if key == CHAMPION_KEY:
                trained_bucket.put(CHAMPION_KEY, pointer)
            super().put_new(key, body, content_type)

    rejected = format_version(NEXT_SATURDAY + timedelta(seconds=1))  # the judgement before it has a version, too
    with pytest.raises(TrainingRejected, match=f"see rejected/{rejected}/report.html: champion: hold-out RMSE"):
        run(AnotherIsFirst(trained_bucket.client, trained_bucket.name), THRESHOLDS, NEXT_SATURDAY, "def5678")
    assert champion_of(trained_bucket).version == VERSION
    registry = ChampionRegistry(trained_bucket.store)
    assert (list(registry.models.versions()), list(registry.models.rejected_versions())) == (
        [VERSION, NEXT_VERSION],
        [rejected],
    )


def test_a_training_that_lost_a_race_is_compared_with_the_champion_that_won(trained_bucket: Bucket) -> None:
    first = trained_bucket.get(CHAMPION_KEY)
    train_next_week(trained_bucket, generate_week(seed=2))
    second = trained_bucket.get(CHAMPION_KEY)
    trained_bucket.put(CHAMPION_KEY, first)
    trained_bucket.put(dataset_key(NEXT_FRIDAY + WEEK), to_csv(generate_week(seed=3)))
    run(RacingStore(trained_bucket, [second]), THRESHOLDS, NEXT_SATURDAY + WEEK, "def5678")
    champion = champion_of(trained_bucket)
    assert champion.previous == NEXT_VERSION
    manifest, seen = manifest_of(trained_bucket, champion.version), generate_week(seed=3)
    assert manifest.champion_version == NEXT_VERSION
    assert manifest.production_error is not None
    served = ModelRegistry(trained_bucket.store).load(NEXT_VERSION).estimator.predict(seen)
    assert manifest.production_error.rmse == pytest.approx(np.sqrt(np.mean((served - seen[HOURS]) ** 2)))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bucket", "surplus"],
        ["bucket", "--reject-below", "high"],
        ["bucket", "--reject-below", "1.5"],
        ["bucket", "--warn-below", "nan"],
        ["bucket", "--max-dataset-age-days", "0"],
        ["bucket", "--max-dataset-age-days", "inf"],
        ["bucket", "--reject", "0.7"],
    ],
)
def test_bad_arguments_are_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        (None, "there is no dataset below datasets/"),
        (b"", "the file is empty"),
        (b"hours_to_dispatch,orders_placed,product_code\n", "0 rows, but at least 100 are needed"),
        (b"hours,orders_placed,product_code\n1,2,SKU001\n", "no column hours_to_dispatch"),
        (b"hours_to_dispatch,orders_placed,product_code\nfast,-1,\n", "1 of 1 rows have"),
        (b"\x89PNG\r\n\x1a\n\0\0", "the file is binary or UTF-16"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_is_one_clear_line_and_exit_code_1(
    trained_bucket: Bucket, dataset: bytes | None, problem: str, run_stage: RunStage
) -> None:
    trained_bucket.delete(dataset_key(FRIDAY))
    if dataset is not None:
        trained_bucket.put(dataset_key(NEXT_FRIDAY - 2 * WEEK), dataset)
    before = trained_bucket.snapshot("models/")
    code, (error,) = run_stage(main, [trained_bucket.name], trained_bucket.environment)
    assert code == 1
    assert error.startswith("Nothing was promoted: ")
    assert problem in error
    assert trained_bucket.snapshot("models/") == before


def test_a_bucket_that_is_not_there_is_one_clear_line_and_exit_code_1(
    moto_environment: dict[str, str], run_stage: RunStage
) -> None:
    code, (error,) = run_stage(main, ["no-such-bucket"], moto_environment)
    assert code == 1
    assert "NoSuchBucket" in error


def test_an_s3_that_is_not_there_is_one_clear_line_and_exit_code_1(
    moto_environment: dict[str, str], run_stage: RunStage
) -> None:
    nowhere = {**moto_environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    code, (error,) = run_stage(main, ["bucket"], nowhere)
    assert code == 1
    assert "Could not connect to the endpoint URL" in error


@pytest.mark.seaweedfs
def test_a_wrong_secret_is_one_clear_line_and_exit_code_1(seaweedfs_bucket: Bucket, run_stage: RunStage) -> None:
    environment = {**seaweedfs_bucket.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    code, (error,) = run_stage(main, [seaweedfs_bucket.name], environment)
    assert code == 1
    assert "SignatureDoesNotMatch" in error


def test_a_week_that_was_rolled_back_is_trained_on_again_and_not_promoted(
    trained_bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    train_next_week(trained_bucket, generate_week(seed=2))
    ChampionRegistry(trained_bucket.store).roll_back("the estimates are wrong", "abc1234")
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY + timedelta(hours=1), "fedcba9")
    again = format_version(NEXT_SATURDAY + timedelta(hours=1))
    assert champion_of(trained_bucket).version == VERSION
    assert manifest_of(trained_bucket, again).dataset.key == dataset_key(NEXT_FRIDAY)
    assert f"without promoting it: {NEXT_VERSION}, of the same week, was taken out by hand" in caplog.text


def test_a_week_that_was_rolled_back_and_mended_is_promoted(trained_bucket: Bucket) -> None:
    train_next_week(trained_bucket, generate_week(seed=2))
    ChampionRegistry(trained_bucket.store).roll_back("the estimates are wrong", "abc1234")
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=3)))
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY + timedelta(hours=1), "fedcba9")
    assert champion_of(trained_bucket).version == format_version(NEXT_SATURDAY + timedelta(hours=1))
