"""Versions: how they are stored, and what is verified before one is loaded."""

import io
import json
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from pipeline.errors import (
    ModelCorrupt,
    ModelIncompatible,
    ModelNotFound,
    WriteConflict,
)
from pipeline.estimator import TimeToDispatchRegressor
from pipeline.keys import (
    dataset_key,
    format_version,
    manifest_key,
    model_key,
    rejected_manifest_key,
)
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.models import describe_model
from pipeline.training.data_contract import HOURS
from tests.conftest import FRIDAY, NEXT_FRIDAY, NOW, Bucket
from tests.registry.helpers import (
    NEXT_VERSION,
    VERSION,
    edit_manifest,
    no_report,
    reject,
    store_again,
    week_of,
)


def replace_model(bucket: Bucket, body: bytes) -> None:
    """Put other bytes in the place of the model, with a manifest that describes them."""
    bucket.put(model_key(VERSION), body)
    edit_manifest(bucket, lambda manifest: manifest.update(model=describe_model(body).model_dump()))


def dump(value: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


def raise_two_lines() -> None:
    raise ValueError("one line,\n  and another")


class Raising:
    """A pickle that cannot be loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (raise_two_lines, ())


class Malicious:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the pickle was loaded",))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda body: b"", id="empty"),
        pytest.param(lambda body: body[:-1], id="truncated"),
        pytest.param(lambda body: body[:-1] + bytes([body[-1] ^ 1]), id="one bit flipped"),
        pytest.param(lambda body: pickle.dumps(Malicious()), id="malicious"),
    ],
)
def test_bytes_that_the_manifest_does_not_describe_are_never_unpickled(
    trained_bucket: Bucket, registry: ChampionRegistry, spoil: Callable[[bytes], bytes]
) -> None:
    trained_bucket.put(model_key(VERSION), spoil(trained_bucket.get(model_key(VERSION))))
    digest = r"[0-9a-f]{12}\.\.\."
    size = f"\\d+ bytes with sha256 {digest}"
    with pytest.raises(
        ModelCorrupt, match=f"^{model_key(VERSION)} was damaged or replaced: it has {size}, its .* {size}$"
    ):
        registry.load_champion()


def test_a_manifest_of_other_products_than_its_model_is_refused(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest["products"].pop("SKU001"))
    with pytest.raises(ModelCorrupt, match=f"{model_key(VERSION)} and its manifest name different products"):
        registry.load_champion()


def test_a_rejected_trainings_manifest_describes_no_model(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest.update(model=None))
    said = f"^{manifest_key(VERSION)} belongs to a rejected training, which stores no model$"
    with pytest.raises(ModelNotFound, match=said):
        registry.load_champion()


def test_a_missing_model_is_named(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    trained_bucket.delete(model_key(VERSION))
    with pytest.raises(ModelNotFound, match=f"{model_key(VERSION)} is missing"):
        registry.load_champion()


@pytest.mark.parametrize(
    ("library", "theirs"),
    [("scikit_learn", "1.6.1"), ("numpy", "1.26.4"), ("joblib", "1.4.2"), ("python", "3.9.18")],
)
def test_a_model_of_other_libraries_is_never_unpickled(
    trained_bucket: Bucket, registry: ChampionRegistry, library: str, theirs: str
) -> None:
    replace_model(trained_bucket, pickle.dumps(Malicious()))
    edit_manifest(trained_bucket, lambda manifest: manifest["libraries"].update({library: theirs}))
    found = f"{library.replace('_', '-')} {'3.9' if library == 'python' else theirs}"
    with pytest.raises(ModelIncompatible, match=f"was made with other libraries, {found} \\(here "):
        registry.load_champion()


def test_every_library_that_differs_is_named(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest["libraries"].update(numpy="1.0", joblib="2.0"))
    libraries = r"numpy 1\.0 \(here [^)]+\), joblib 2\.0 \(here [^)]+\)"
    with pytest.raises(
        ModelIncompatible, match=f"^{model_key(VERSION)} was made with other libraries, {libraries}: train"
    ):
        registry.load_champion()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"no pickle", "cannot be unpickled"),
        (dump(Raising()), "cannot be unpickled: ValueError: one line, and another$"),
        (dump(LinearRegression()), "holds a LinearRegression, not a TimeToDispatchRegressor"),
    ],
)
def test_bytes_that_hold_no_model_of_ours_are_named(
    trained_bucket: Bucket, registry: ChampionRegistry, body: bytes, problem: str
) -> None:
    replace_model(trained_bucket, body)
    with pytest.raises(ModelCorrupt, match=f"^{model_key(VERSION)} {problem}"):
        registry.load_champion()


class Deprecated:
    """A pickle whose loading warns of something that is no fault of the model."""

    def __init__(self, estimator: TimeToDispatchRegressor) -> None:
        self.estimator = estimator

    def __reduce__(self) -> tuple[Any, ...]:
        return (build_with_a_warning, (self.estimator,))


def build_with_a_warning(estimator: TimeToDispatchRegressor) -> TimeToDispatchRegressor:
    warnings.warn("a library will be another one next year", DeprecationWarning, stacklevel=1)
    return estimator


def test_a_deprecation_warning_does_not_refuse_a_model(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    replace_model(trained_bucket, dump(Deprecated(registry.load_champion().estimator)))
    with pytest.warns(DeprecationWarning, match="another one next year"):
        assert registry.load_champion().manifest.version == VERSION


def test_a_model_of_another_scikit_learn_than_its_manifest_says_is_refused(
    trained_bucket: Bucket, registry: ChampionRegistry, week: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = TimeToDispatchRegressor(LinearRegression()).fit(week, week[HOURS].to_numpy())
    monkeypatch.setattr("sklearn.base.__version__", "1.0.0")
    body = dump(estimator)
    monkeypatch.undo()
    replace_model(trained_bucket, body)
    said = "cannot be unpickled: InconsistentVersionWarning: .* from version 1.0.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ModelCorrupt, match=said):
            registry.load_champion()


def test_an_unfitted_model_is_refused(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    replace_model(trained_bucket, dump(type(registry.load_champion().estimator)(LinearRegression())))
    with pytest.raises(ModelCorrupt, match="cannot be unpickled: AttributeError"):
        registry.load_champion()


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"version": 1}'])
def test_a_manifest_that_makes_no_sense_is_named(
    trained_bucket: Bucket, registry: ChampionRegistry, body: bytes
) -> None:
    trained_bucket.put(manifest_key(VERSION), body)
    with pytest.raises(ModelCorrupt, match=f"^{manifest_key(VERSION)} cannot be understood: [^\n]+$"):
        registry.load_champion()


def test_another_versions_manifest_is_not_believed(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    other = format_version(NOW + timedelta(days=7))
    edit_manifest(trained_bucket, lambda manifest: manifest.update(version=other))
    with pytest.raises(ModelCorrupt, match=f"is the manifest of another version, {other}"):
        registry.load_champion()


def test_a_version_whose_second_is_taken_gets_the_next_free_one(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    before = trained_bucket.snapshot("models/")
    manifest = registry.load_champion().manifest
    trained_bucket.put(model_key(format_version(NOW + timedelta(seconds=1))), b"of a training that was killed")
    version = registry.models.store(b"another model", manifest, no_report)
    assert version == format_version(NOW + timedelta(seconds=2))
    assert registry.models.read_manifest(version).version == version
    assert before.items() <= trained_bucket.snapshot("models/").items()


def test_where_no_second_is_free_the_version_is_not_stored(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    manifest = registry.load_champion().manifest
    for second in range(60):
        trained_bucket.put(model_key(format_version(NOW + timedelta(seconds=second))), b"")
    said = f"^every version of the 60 s after {VERSION} exists already$"
    with pytest.raises(WriteConflict, match=said):
        registry.models.store(b"another model", manifest, no_report)
    with pytest.raises(WriteConflict, match=said):
        reject(registry, manifest)


def test_a_rejected_version_gets_a_second_that_no_stored_version_has(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    manifest = registry.load_champion().manifest
    versions = [reject(registry, manifest, commit) for commit in ("abc1234", "def5678")]
    assert versions == [format_version(NOW + timedelta(seconds=seconds)) for seconds in (1, 2)]
    assert [registry.models.read_rejected(version).version for version in versions] == versions
    reports = [trained_bucket.get(f"rejected/{version}/report.html").decode() for version in versions]
    assert reports == [f"{versions[0]} by abc1234", f"{versions[1]} by def5678"]


@pytest.mark.seaweedfs
def test_trainings_of_the_same_second_get_a_version_each(trained_bucket: Bucket, seaweedfs_bucket: Bucket) -> None:
    manifest = ChampionRegistry(trained_bucket.store).load_champion().manifest
    registry = ChampionRegistry(seaweedfs_bucket.store)
    with ThreadPoolExecutor(4) as pool:
        bodies = [b"one", b"two", b"three", b"four"]
        versions = list(pool.map(lambda body: registry.models.store(body, manifest, no_report), bodies))
    assert len(set(versions)) == 4
    models = {version: seaweedfs_bucket.get(model_key(version)) for version in versions}
    assert sorted(models.values()) == [b"four", b"one", b"three", b"two"]


def test_the_trainings_of_a_week_are_those_of_exactly_its_bytes(two_weeks: Bucket) -> None:
    registry = ChampionRegistry(two_weeks.store)
    trained_at = {VERSION: dataset_key(FRIDAY), NEXT_VERSION: dataset_key(NEXT_FRIDAY)}
    for version, key in trained_at.items():
        assert registry.models.trained_on(*week_of(two_weeks, key)) == [version]
        assert registry.models.rejected_on(*week_of(two_weeks, key)) == []
    (first, _), (second, etag) = (week_of(two_weeks, key) for key in trained_at.values())
    assert registry.models.trained_on(first, etag) == []  # other bytes under the same key
    assert registry.models.trained_on(second, "another") == []


def test_every_training_of_a_week_is_found_oldest_first(two_weeks: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    registry = ChampionRegistry(two_weeks.store)
    manifest, commits = registry.models.read_manifest(NEXT_VERSION), ("c1", "c2")
    stored = [NEXT_VERSION, *(store_again(two_weeks, commit) for commit in commits)]
    rejected = [reject(registry, manifest, commit) for commit in commits]
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.models.trained_on(*week) == stored == sorted(stored)
    assert registry.models.rejected_on(*week) == rejected == sorted(rejected)
    two_weeks.put(manifest_key(stored[0]), b"{}")
    two_weeks.put(rejected_manifest_key(rejected[0]), b"{}")
    assert registry.models.trained_on(*week) == stored[1:]
    assert registry.models.rejected_on(*week) == rejected[1:]
    assert [line.split(": ")[0] for line in caplog.messages] == [
        f"Skipped the training {version}" for version in (stored[0], rejected[0])
    ]


def test_a_week_dated_up_to_an_hour_ahead_of_its_training_is_found(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    for minutes, found in ((60, [VERSION]), (61, [])):  # by a local clock, say; no training takes what is further ahead
        ahead = dataset_key(NOW + timedelta(minutes=minutes))
        trained_bucket.put(ahead, trained_bucket.get(dataset_key(FRIDAY)))
        edit_manifest(trained_bucket, lambda manifest: manifest["dataset"].update(key=ahead))  # noqa: B023
        assert registry.models.trained_on(*week_of(trained_bucket, ahead)) == found


def test_a_manifest_says_that_it_has_format_1(trained_bucket: Bucket) -> None:
    assert json.loads(trained_bucket.get(manifest_key(VERSION)))["format"] == 1


def test_a_manifest_from_before_0_1_0_is_read(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    error = {"rmse": 1.0, "mae": 0.5, "r2": 0.9}

    def make_it_old(manifest: dict[str, Any]) -> None:
        del manifest["format"], manifest["holdout_error"]
        manifest["promised_error"] = error

    edit_manifest(trained_bucket, make_it_old)
    manifest = registry.load_champion().manifest
    assert manifest.format == 1
    assert manifest.holdout_error is not None
    assert manifest.holdout_error.model_dump() == error


def test_unknown_gates_unknown_fields_and_missing_optional_fields_are_read(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    coverage = {"gate": "coverage", "outcome": "pass", "reasons": [], "figures": {}}

    def make_it_another(manifest: dict[str, Any]) -> None:
        manifest["gates"].append(coverage)
        manifest["approval"] = {"reason": "a field that this version does not know"}
        for name in ("champion_version", "production_error", "holdout_error", "pooled_error", "previous_week"):
            del manifest[name]
        for name in ("rows_champion_knows", "candidate_where_champion_knows", "champion", "compared_with"):
            del manifest["hold_out"][name]
        del manifest["dataset"]["version_id"]

    edit_manifest(trained_bucket, make_it_another)
    assert registry.load_champion().manifest.gates[-1].gate == "coverage"


def test_a_manifest_of_a_newer_format_is_named_whatever_else_it_has(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    trained_bucket.put(manifest_key(VERSION), b'{"format": 2, "model": "in another form"}')
    said = (
        f"^{manifest_key(VERSION)} has manifest format 2, and this code reads formats up to 1: use the code that wrote"
    )
    with pytest.raises(ModelIncompatible, match=said):
        registry.load_champion()
