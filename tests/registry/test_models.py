"""Versions and the champion pointer: what is believed, and what is not."""

import io
import json
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from pipeline.errors import (
    ChampionInvalid,
    ModelCorrupt,
    ModelIncompatible,
    ModelNotFound,
    NoChampion,
    PromotionRefused,
    PromotionUnknown,
    StoreUnreachable,
    WriteConflict,
)
from pipeline.estimator import TimeToDispatchRegressor
from pipeline.keys import (
    CHAMPION_KEY,
    HISTORY,
    DatasetKey,
    dataset_key,
    format_version,
    manifest_key,
    model_key,
    parse_dataset_key,
    rejected_manifest_key,
)
from pipeline.manifest import BY_HAND, Champion, Manifest
from pipeline.registry.models import ChampionPointer, Registry, describe_model
from pipeline.registry.object_store import ObjectStore
from pipeline.training.data_contract import HOURS
from tests.conftest import FRIDAY, NEXT_FRIDAY, NEXT_SATURDAY, NOW, Bucket, raise_it

VERSION = format_version(NOW)
NEXT_VERSION = format_version(NEXT_SATURDAY)


@pytest.fixture
def registry(trained_bucket: Bucket) -> Registry:
    return Registry(trained_bucket.store)


def edit_manifest(bucket: Bucket, edit: Callable[[dict[str, Any]], None], version: str = VERSION) -> None:
    manifest = json.loads(bucket.get(manifest_key(version)))
    edit(manifest)
    bucket.put(manifest_key(version), json.dumps(manifest).encode())


def replace_model(bucket: Bucket, body: bytes) -> None:
    """Put other bytes in the place of the model, with a manifest that describes them."""
    bucket.put(model_key(VERSION), body)
    edit_manifest(bucket, lambda manifest: manifest.update(model=describe_model(body).model_dump()))


def dump(value: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


def no_report(manifest: Manifest) -> bytes:
    return b""


def report(manifest: Manifest) -> bytes:
    return f"{manifest.version} by {manifest.git_commit}".encode()


def reject(registry: Registry, manifest: Manifest, git_commit: str = "abc1234") -> str:
    return registry.store_rejected(manifest.model_copy(update={"git_commit": git_commit}), report)


def store_again(bucket: Bucket, git_commit: str) -> str:
    """Store the second week's model once more, as another deployment does."""
    registry = Registry(bucket.store)
    manifest = registry.read_manifest(NEXT_VERSION).model_copy(update={"git_commit": git_commit})
    return registry.store(bucket.get(model_key(NEXT_VERSION)), manifest, report)


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


def test_the_champion_that_was_promoted_is_the_one_that_is_loaded(trained_bucket: Bucket, registry: Registry) -> None:
    model = registry.load_champion()
    assert model.manifest.version == VERSION
    assert np.isfinite(model.estimator.predict_encoded(np.zeros((1, 2)))).all()


def test_an_empty_registry_has_no_champion(bucket: Bucket) -> None:
    assert Registry(bucket.store).read_champion() is None
    with pytest.raises(NoChampion, match="no model was ever promoted, train one first"):
        Registry(bucket.store).load_champion()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"version": "../../x", "previous": null, "promoted_at": "2026-11-21T08:00:00Z", "reason": "",'
        b' "git_commit": ""}',
        b"\xff\xfe",
        b'{"version": "time_to_dispatch_2026-11-21T08:00:00Z", "previous": null, "reason": "", "git_commit": "",'
        b' "promoted_at": "0001-01-01T00:00:00+14:00"}',
    ],
)
def test_a_champion_pointer_that_makes_no_sense_is_named(bucket: Bucket, body: bytes) -> None:
    bucket.put(CHAMPION_KEY, body)
    with pytest.raises(ChampionInvalid, match="^models/champion.json: [^\n]+$"):
        Registry(bucket.store).load_champion()


def test_every_fault_of_a_record_is_named_with_its_field(trained_bucket: Bucket, registry: Registry) -> None:
    trained_bucket.put(CHAMPION_KEY, b'{"version": "%s", "previous": null, "reason": ""}' % VERSION.encode())
    said = "models/champion.json: promoted_at: Field required; git_commit: Field required"
    with pytest.raises(ChampionInvalid, match=f"^{said}$"):
        registry.read_champion()
    edit_manifest(trained_bucket, lambda manifest: manifest["libraries"].pop("numpy"))
    with pytest.raises(ModelCorrupt, match=f"^{manifest_key(VERSION)}: libraries.numpy: Field required$"):
        registry.read_manifest(VERSION)


def test_a_champion_pointer_that_leads_nowhere_is_named(trained_bucket: Bucket, registry: Registry) -> None:
    trained_bucket.delete(manifest_key(VERSION))
    with pytest.raises(ModelNotFound, match=f"there is no model {VERSION}: models/{VERSION}/manifest.json is missing"):
        registry.load_champion()


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
    trained_bucket: Bucket, registry: Registry, spoil: Callable[[bytes], bytes]
) -> None:
    trained_bucket.put(model_key(VERSION), spoil(trained_bucket.get(model_key(VERSION))))
    digest = r"[0-9a-f]{12}\.\.\."
    said = f"{model_key(VERSION)}: \\d+ bytes with sha256 {digest}, the manifest says \\d+ bytes with {digest}: it was"
    with pytest.raises(ModelCorrupt, match=f"^{said} damaged or replaced$"):
        registry.load_champion()


def test_a_manifest_of_other_products_is_no_pair_with_its_model(trained_bucket: Bucket, registry: Registry) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest["products"].pop("SKU001"))
    with pytest.raises(ModelCorrupt, match=f"{model_key(VERSION)} knows other products than its manifest"):
        registry.load_champion()


def test_a_rejected_trainings_manifest_describes_no_model(trained_bucket: Bucket, registry: Registry) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest.update(model=None))
    said = f"^{manifest_key(VERSION)} is of a rejected training, there is no model$"
    with pytest.raises(ModelNotFound, match=said):
        registry.load_champion()


def test_a_missing_model_is_named(trained_bucket: Bucket, registry: Registry) -> None:
    trained_bucket.delete(model_key(VERSION))
    with pytest.raises(ModelNotFound, match=f"{model_key(VERSION)} is missing"):
        registry.load_champion()


@pytest.mark.parametrize(
    ("library", "theirs"),
    [("scikit_learn", "1.6.1"), ("numpy", "1.26.4"), ("joblib", "1.4.2"), ("python", "3.9.18")],
)
def test_a_model_of_other_libraries_is_never_unpickled(
    trained_bucket: Bucket, registry: Registry, library: str, theirs: str
) -> None:
    replace_model(trained_bucket, pickle.dumps(Malicious()))
    edit_manifest(trained_bucket, lambda manifest: manifest["libraries"].update({library: theirs}))
    expected = f"made with {library.replace('_', '-')} {'3.9' if library == 'python' else theirs} \\(here "
    with pytest.raises(ModelIncompatible, match=expected):
        registry.load_champion()


def test_every_library_that_differs_is_named(trained_bucket: Bucket, registry: Registry) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest["libraries"].update(numpy="1.0", joblib="2.0"))
    said = r"made with numpy 1\.0 \(here [^)]+\), joblib 2\.0 \(here [^)]+\): train again with these versions$"
    with pytest.raises(ModelIncompatible, match=f"^{model_key(VERSION)}: {said}"):
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
    trained_bucket: Bucket, registry: Registry, body: bytes, problem: str
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


def test_a_model_is_not_refused_for_a_warning_that_is_none_of_its_versions(
    trained_bucket: Bucket, registry: Registry
) -> None:
    replace_model(trained_bucket, dump(Deprecated(registry.load_champion().estimator)))
    with pytest.warns(DeprecationWarning, match="another one next year"):
        assert registry.load_champion().manifest.version == VERSION


def test_a_model_of_another_scikit_learn_than_its_manifest_says_is_refused(
    trained_bucket: Bucket, registry: Registry, week: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
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


def test_a_record_is_laid_out_for_people(trained_bucket: Bucket, registry: Registry) -> None:
    pointer = pointer_of(trained_bucket)
    registry.promote(pointer.champion, pointer)
    body = trained_bucket.get(CHAMPION_KEY).decode()
    assert body == json.dumps(json.loads(body), indent=2) + "\n"


def test_an_unfitted_model_is_as_good_as_none(trained_bucket: Bucket, registry: Registry) -> None:
    replace_model(trained_bucket, dump(type(registry.load_champion().estimator)(LinearRegression())))
    with pytest.raises(ModelCorrupt, match="cannot be unpickled: AttributeError"):
        registry.load_champion()


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"version": 1}'])
def test_a_manifest_that_makes_no_sense_is_named(trained_bucket: Bucket, registry: Registry, body: bytes) -> None:
    trained_bucket.put(manifest_key(VERSION), body)
    with pytest.raises(ModelCorrupt, match=f"^{manifest_key(VERSION)}: [^\n]+$"):
        registry.load_champion()


def test_another_versions_manifest_is_not_believed(trained_bucket: Bucket, registry: Registry) -> None:
    other = format_version(NOW + timedelta(days=7))
    edit_manifest(trained_bucket, lambda manifest: manifest.update(version=other))
    with pytest.raises(ModelCorrupt, match=f"it is the manifest of {other}"):
        registry.load_champion()


def test_a_version_whose_second_is_taken_gets_the_next_free_one(trained_bucket: Bucket, registry: Registry) -> None:
    before = trained_bucket.snapshot("models/")
    manifest = registry.load_champion().manifest
    trained_bucket.put(model_key(format_version(NOW + timedelta(seconds=1))), b"of a training that was killed")
    version = registry.store(b"another model", manifest, no_report)
    assert version == format_version(NOW + timedelta(seconds=2))
    assert registry.read_manifest(version).version == version
    assert before.items() <= trained_bucket.snapshot("models/").items()


def test_where_no_second_is_free_the_version_is_not_stored(trained_bucket: Bucket, registry: Registry) -> None:
    manifest = registry.load_champion().manifest
    for second in range(60):
        trained_bucket.put(model_key(format_version(NOW + timedelta(seconds=second))), b"")
    said = f"^no version is free in the 60 seconds after {VERSION}$"
    with pytest.raises(WriteConflict, match=said):
        registry.store(b"another model", manifest, no_report)
    with pytest.raises(WriteConflict, match=said):
        reject(registry, manifest)


def test_a_rejected_version_gets_a_second_that_no_stored_version_has(
    trained_bucket: Bucket, registry: Registry
) -> None:
    manifest = registry.load_champion().manifest
    versions = [reject(registry, manifest, commit) for commit in ("abc1234", "def5678")]
    assert versions == [format_version(NOW + timedelta(seconds=seconds)) for seconds in (1, 2)]
    assert [registry.read_rejected(version).version for version in versions] == versions
    reports = [trained_bucket.get(f"rejected/{version}/report.html").decode() for version in versions]
    assert reports == [f"{versions[0]} by abc1234", f"{versions[1]} by def5678"]


@pytest.mark.seaweedfs
def test_trainings_of_the_same_second_get_a_version_each(trained_bucket: Bucket, seaweedfs_bucket: Bucket) -> None:
    manifest = Registry(trained_bucket.store).load_champion().manifest
    registry = Registry(seaweedfs_bucket.store)
    with ThreadPoolExecutor(4) as pool:
        bodies = [b"one", b"two", b"three", b"four"]
        versions = list(pool.map(lambda body: registry.store(body, manifest, no_report), bodies))
    assert len(set(versions)) == 4
    models = {version: seaweedfs_bucket.get(model_key(version)) for version in versions}
    assert sorted(models.values()) == [b"four", b"one", b"three", b"two"]


def test_a_promotion_after_another_ones_is_refused(trained_bucket: Bucket, registry: Registry) -> None:
    read_before = registry.read_champion()
    assert read_before is not None
    theirs, mine = (
        Champion(version=VERSION, previous=None, promoted_at=NOW, reason=reason, git_commit="abc1234")
        for reason in ("theirs", "mine")
    )
    registry.promote(theirs, read_before)
    with pytest.raises(WriteConflict):
        registry.promote(mine, read_before)
    after = registry.read_champion()
    assert after is not None
    assert after.champion.reason == "theirs"


def test_a_first_promotion_after_another_first_one_is_refused(trained_bucket: Bucket, registry: Registry) -> None:
    mine = Champion(version=VERSION, previous=None, promoted_at=NOW, reason="mine", git_commit="abc1234")
    with pytest.raises(WriteConflict):
        registry.promote(mine, None)


def made_elsewhere(bucket: Bucket, version: str) -> None:
    edit_manifest(bucket, lambda manifest: manifest["libraries"].update(scikit_learn="99.0"), version)


def test_where_the_champion_is_of_other_libraries_the_one_before_it_is_served_and_told(two_weeks: Bucket) -> None:
    told: list[str] = []
    registry, version = Registry(two_weeks.store), format_version(NEXT_SATURDAY)
    assert registry.load_servable(lambda problem: told.append(str(problem))).manifest.version == version
    assert told == []
    made_elsewhere(two_weeks, version)
    assert registry.load_servable(lambda problem: told.append(str(problem))).manifest.version == VERSION
    assert "made with scikit-learn 99.0" in told[0]


def test_what_was_taken_out_by_hand_is_not_served_where_the_champion_is_of_other_libraries(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    made_elsewhere(two_weeks, VERSION)
    with pytest.raises(ModelIncompatible):
        registry.load_servable(lambda problem: None)


def test_a_first_champion_of_other_libraries_is_refused(trained_bucket: Bucket, registry: Registry) -> None:
    made_elsewhere(trained_bucket, VERSION)
    with pytest.raises(ModelIncompatible):
        registry.load_servable(lambda problem: None)


def week_of(bucket: Bucket, key: str) -> tuple[DatasetKey, str]:
    """A dataset's parsed key and its ETag."""
    parsed = parse_dataset_key(key)
    assert parsed is not None
    return parsed, bucket.store.get(key).etag


def pointer_of(bucket: Bucket) -> ChampionPointer:
    pointer = Registry(bucket.store).read_champion()
    assert pointer is not None
    return pointer


def test_an_s3_that_does_not_answer_a_promotion_leaves_it_unknown(trained_bucket: Bucket) -> None:
    class Silent(ObjectStore):
        def replace(self, key: str, body: bytes, content_type: str, etag: str) -> None:
            raise StoreUnreachable("replacing the champion: no answer in time")

    pointer = pointer_of(trained_bucket)
    with pytest.raises(PromotionUnknown, match="^replacing the champion: no answer in time$"):
        Registry(Silent(trained_bucket.client, trained_bucket.name)).promote(pointer.champion, pointer)


def test_the_trainings_of_a_week_are_those_of_its_very_bytes(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    trained_at = {VERSION: dataset_key(FRIDAY), NEXT_VERSION: dataset_key(NEXT_FRIDAY)}
    for version, key in trained_at.items():
        assert registry.trained_on(*week_of(two_weeks, key), raise_it) == [version]
        assert registry.rejected_on(*week_of(two_weeks, key), raise_it) == []
    (first, _), (second, etag) = (week_of(two_weeks, key) for key in trained_at.values())
    assert registry.trained_on(first, etag, raise_it) == []  # other bytes under the same key
    assert registry.trained_on(second, "another", raise_it) == []


def test_every_training_of_a_week_is_found_in_the_order_of_time(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    manifest, commits = registry.read_manifest(NEXT_VERSION), ("c1", "c2")
    stored = [NEXT_VERSION, *(store_again(two_weeks, commit) for commit in commits)]
    rejected = [reject(registry, manifest, commit) for commit in commits]
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.trained_on(*week, raise_it) == stored == sorted(stored)
    assert registry.rejected_on(*week, raise_it) == rejected == sorted(rejected)
    damaged: list[str] = []
    two_weeks.put(manifest_key(stored[0]), b"{}")
    two_weeks.put(rejected_manifest_key(rejected[0]), b"{}")
    assert registry.trained_on(*week, lambda problem: damaged.append(str(problem))) == stored[1:]
    assert registry.rejected_on(*week, lambda problem: damaged.append(str(problem))) == rejected[1:]
    assert [line.split("/")[:2] for line in damaged] == [["models", stored[0]], ["rejected", rejected[0]]]


def test_a_week_dated_up_to_an_hour_ahead_of_its_training_is_found(trained_bucket: Bucket, registry: Registry) -> None:
    for minutes, found in ((60, [VERSION]), (61, [])):  # by a local clock, say; no training takes what is further ahead
        ahead = dataset_key(NOW + timedelta(minutes=minutes))
        trained_bucket.put(ahead, trained_bucket.get(dataset_key(FRIDAY)))
        edit_manifest(trained_bucket, lambda manifest: manifest["dataset"].update(key=ahead))  # noqa: B023
        assert registry.trained_on(*week_of(trained_bucket, ahead), raise_it) == found


def test_what_was_taken_out_by_hand_is_the_last_champion_of_the_week(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.taken_out(*week, None, raise_it) is None
    assert registry.taken_out(*week, pointer_of(two_weeks), raise_it) is None  # it is served
    again, never_served = (store_again(two_weeks, commit) for commit in ("c1", "c2"))
    registry.promote_version(again, "the same", "abc1234")
    assert registry.taken_out(*week, pointer_of(two_weeks), raise_it) is None
    registry.promote_version(VERSION, "the estimates are wrong", "abc1234")
    assert registry.taken_out(*week, pointer_of(two_weeks), raise_it) == again < never_served
    first = week_of(two_weeks, dataset_key(FRIDAY))
    assert registry.taken_out(*first, pointer_of(two_weeks), raise_it) is None


def test_what_a_training_replaced_was_not_taken_out(two_weeks: Bucket) -> None:
    week = week_of(two_weeks, dataset_key(FRIDAY))
    assert Registry(two_weeks.store).taken_out(*week, pointer_of(two_weeks), raise_it) is None


def test_what_of_the_week_was_never_served_was_not_taken_out(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    for key in two_weeks.keys(HISTORY):
        two_weeks.delete(key)
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.taken_out(*week, pointer_of(two_weeks), raise_it) is None


def test_what_cannot_be_read_on_the_way_to_what_was_taken_out_is_told(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    damaged = store_again(two_weeks, "c1")
    two_weeks.put(manifest_key(damaged), b"{}")
    two_weeks.put(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json", b"{}")
    told: list[str] = []
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.taken_out(*week, pointer_of(two_weeks), lambda problem: told.append(str(problem))) == NEXT_VERSION
    assert told[0].startswith(f"{manifest_key(damaged)}: version: Field required; ")
    assert told[1].startswith(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json: version: Field required; ")


def test_what_was_trained_and_promoted_since_a_moment_is_read_and_nothing_before_it(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    assert [one.version for one in registry.trainings(raise_it)] == [VERSION, NEXT_VERSION]
    assert [one.version for one in registry.trainings(raise_it, since=NEXT_SATURDAY)] == [NEXT_VERSION]
    two_weeks.put(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json", b"{}")
    two_weeks.put(manifest_key(VERSION), b"{}")
    told: list[str] = []
    registry.trainings(lambda problem: told.append(str(problem)))
    registry.champions(lambda problem: told.append(str(problem)), since=NOW)
    assert [line.split(": ")[0] for line in told] == [
        manifest_key(VERSION),
        f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json",
    ]
    assert registry.trainings(raise_it, since=NEXT_SATURDAY)
    told.clear()
    registry.champions(lambda problem: told.append(str(problem)), since=NOW + timedelta(days=1))  # that very second
    assert len(told) == 1
    tomorrow = pointer_of(two_weeks).champion.promoted_at + timedelta(days=1)
    assert [one.version for one in registry.champions(raise_it, since=tomorrow)] == [NEXT_VERSION]


def test_a_rollback_finds_another_model_behind_any_number_of_the_same(two_weeks: Bucket) -> None:
    registry = Registry(two_weeks.store)
    again, once_more = (store_again(two_weeks, commit) for commit in ("c1", "c2"))
    for version in (again, NEXT_VERSION, again, once_more):  # to and fro, by hand
        registry.promote_version(version, "which is it?", "abc1234")
    two_weeks.put(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json", b"{}")
    champion = registry.roll_back("the estimates are wrong", "def5678")
    assert (champion.version, champion.previous) == (VERSION, once_more)
    assert (champion.reason, champion.git_commit) == (f"rolled back {BY_HAND} the estimates are wrong", "def5678")


def test_a_champion_alone_is_not_rolled_back_whether_its_manifest_can_be_read_or_not(
    trained_bucket: Bucket, registry: Registry
) -> None:
    for manifest in (trained_bucket.get(manifest_key(VERSION)), b"{}"):
        trained_bucket.put(manifest_key(VERSION), manifest)
        with pytest.raises(PromotionRefused, match=f"^there is no model to go back to: .* before {VERSION}$"):
            registry.roll_back("", "")
