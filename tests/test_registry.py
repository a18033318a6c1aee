"""Versions and the champion pointer: what is believed, and what is not."""

import io
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from pipeline.errors import ChampionInvalid, ModelCorrupt, ModelIncompatible, ModelNotFound, NoChampion, WriteConflict
from pipeline.manifest import Champion, Manifest
from pipeline.names import CHAMPION_KEY, manifest_key, model_key, spell_version
from pipeline.registry import Registry, describe_model
from tests.conftest import NEXT_SATURDAY, NOW, Bucket

VERSION = spell_version(NOW)


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
        b'{"version": "time_to_dispatch_2026-11-21T08:00:00Z"}',
        b"\xff\xfe",
        b'{"version": "time_to_dispatch_2026-11-21T08:00:00Z", "previous": null, "reason": "", "git_commit": "",'
        b' "promoted_at": "0001-01-01T00:00:00+14:00"}',
    ],
)
def test_a_champion_pointer_that_makes_no_sense_is_named(bucket: Bucket, body: bytes) -> None:
    bucket.put(CHAMPION_KEY, body)
    with pytest.raises(ChampionInvalid, match="^models/champion.json: [^\n]+$"):
        Registry(bucket.store).load_champion()


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
    with pytest.raises(ModelCorrupt, match=f"{model_key(VERSION)}: .* it was damaged or replaced"):
        registry.load_champion()


def test_a_manifest_of_other_products_is_no_pair_with_its_model(trained_bucket: Bucket, registry: Registry) -> None:
    edit_manifest(trained_bucket, lambda manifest: manifest["products"].pop("SKU001"))
    with pytest.raises(ModelCorrupt, match=f"{model_key(VERSION)} knows other products than its manifest"):
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


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"no pickle", "cannot be unpickled"),
        (dump(LinearRegression()), "holds a LinearRegression, not a TimeToDispatchRegressor"),
    ],
)
def test_bytes_that_hold_no_model_of_ours_are_named(
    trained_bucket: Bucket, registry: Registry, body: bytes, problem: str
) -> None:
    replace_model(trained_bucket, body)
    with pytest.raises(ModelCorrupt, match=problem):
        registry.load_champion()


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
    other = spell_version(NOW + timedelta(days=7))
    edit_manifest(trained_bucket, lambda manifest: manifest.update(version=other))
    with pytest.raises(ModelCorrupt, match=f"it is the manifest of {other}"):
        registry.load_champion()


def test_a_version_whose_second_is_taken_gets_the_next_free_one(trained_bucket: Bucket, registry: Registry) -> None:
    before = trained_bucket.snapshot("models/")
    manifest = registry.load_champion().manifest
    trained_bucket.put(model_key(spell_version(NOW + timedelta(seconds=1))), b"of a training that was killed")
    version = registry.store(b"another model", manifest, no_report)
    assert version == spell_version(NOW + timedelta(seconds=2))
    assert registry.read_manifest(version).version == version
    assert before.items() <= trained_bucket.snapshot("models/").items()


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
    registry, version = Registry(two_weeks.store), spell_version(NEXT_SATURDAY)
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
