"""The champion pointer and its history."""

import json
from datetime import timedelta

import numpy as np
import pytest

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
from pipeline.keys import (
    CHAMPION_KEY,
    HISTORY,
    dataset_key,
    format_version,
    manifest_key,
)
from pipeline.manifest import BY_HAND, Champion
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.object_store import ObjectStore
from tests.conftest import FRIDAY, NEXT_FRIDAY, NEXT_SATURDAY, NOW, Bucket
from tests.registry.helpers import (
    NEXT_VERSION,
    VERSION,
    edit_manifest,
    made_elsewhere,
    pointer_of,
    store_again,
    week_of,
)


def test_the_champion_that_was_promoted_is_the_one_that_is_loaded(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    model = registry.load_champion()
    assert model.manifest.version == VERSION
    assert np.isfinite(model.estimator.predict_encoded(np.zeros((1, 2)))).all()


def test_an_empty_registry_has_no_champion(bucket: Bucket) -> None:
    assert ChampionRegistry(bucket.store).read_champion() is None
    with pytest.raises(NoChampion, match="no model was ever promoted, train one first"):
        ChampionRegistry(bucket.store).load_champion()


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
    with pytest.raises(ChampionInvalid, match="^models/champion.json cannot be understood: [^\n]+$"):
        ChampionRegistry(bucket.store).load_champion()


def test_every_fault_of_a_record_is_named_with_its_field(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    trained_bucket.put(CHAMPION_KEY, b'{"version": "%s", "previous": null, "reason": ""}' % VERSION.encode())
    said = "models/champion.json cannot be understood: promoted_at: Field required; git_commit: Field required"
    with pytest.raises(ChampionInvalid, match=f"^{said}$"):
        registry.read_champion()
    edit_manifest(trained_bucket, lambda manifest: manifest["libraries"].pop("numpy"))
    with pytest.raises(
        ModelCorrupt, match=f"^{manifest_key(VERSION)} cannot be understood: libraries.numpy: Field required$"
    ):
        registry.models.read_manifest(VERSION)


def test_a_champion_pointer_that_leads_nowhere_is_named(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    trained_bucket.delete(manifest_key(VERSION))
    with pytest.raises(ModelNotFound, match=f"there is no model {VERSION}: models/{VERSION}/manifest.json is missing"):
        registry.load_champion()


def test_a_record_is_laid_out_for_people(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    pointer = pointer_of(trained_bucket)
    registry.promote(pointer.champion, pointer)
    body = trained_bucket.get(CHAMPION_KEY).decode()
    assert body == json.dumps(json.loads(body), indent=2) + "\n"


def test_a_promotion_after_another_ones_is_refused(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
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


def test_a_first_promotion_after_another_first_one_is_refused(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    mine = Champion(version=VERSION, previous=None, promoted_at=NOW, reason="mine", git_commit="abc1234")
    with pytest.raises(WriteConflict):
        registry.promote(mine, None)


def test_a_champion_of_other_libraries_is_replaced_by_the_previous_one_with_a_warning(
    two_weeks: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    registry, version = ChampionRegistry(two_weeks.store), format_version(NEXT_SATURDAY)
    assert registry.load_servable().manifest.version == version
    assert caplog.messages == []
    made_elsewhere(two_weeks, version)
    assert registry.load_servable().manifest.version == VERSION
    (warning,) = caplog.messages
    assert warning.startswith("Cannot load the champion; serving the previous one: ")
    assert "made with other libraries, scikit-learn 99.0" in warning


def test_a_champion_of_a_newer_manifest_format_is_replaced_by_the_previous_one_with_a_warning(
    two_weeks: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    two_weeks.put(manifest_key(NEXT_VERSION), b'{"format": 2}')
    registry = ChampionRegistry(two_weeks.store)
    assert registry.load_servable().manifest.version == VERSION
    (warning,) = caplog.messages
    assert "Cannot load the champion; serving the previous one: " in warning
    assert "has manifest format 2" in warning


def test_a_version_of_a_newer_manifest_format_is_not_promoted(two_weeks: Bucket) -> None:
    registry = ChampionRegistry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    two_weeks.put(manifest_key(NEXT_VERSION), b'{"format": 2}')
    with pytest.raises(ModelIncompatible, match="has manifest format 2"):
        registry.promote_version(NEXT_VERSION, "again", "abc1234")


def test_a_champion_taken_out_by_hand_is_not_served_in_place_of_one_of_other_libraries(two_weeks: Bucket) -> None:
    registry = ChampionRegistry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    made_elsewhere(two_weeks, VERSION)
    with pytest.raises(ModelIncompatible):
        registry.load_servable()


def test_a_first_champion_of_other_libraries_is_refused(trained_bucket: Bucket, registry: ChampionRegistry) -> None:
    made_elsewhere(trained_bucket, VERSION)
    with pytest.raises(ModelIncompatible):
        registry.load_servable()


def test_an_s3_that_does_not_answer_a_promotion_leaves_it_unknown(trained_bucket: Bucket) -> None:
    class Silent(ObjectStore):
        def replace(self, key: str, body: bytes, content_type: str, etag: str) -> None:
            raise StoreUnreachable("replacing the champion: no answer in time")

    pointer = pointer_of(trained_bucket)
    with pytest.raises(PromotionUnknown, match="^replacing the champion: no answer in time$"):
        ChampionRegistry(Silent(trained_bucket.client, trained_bucket.name)).promote(pointer.champion, pointer)


def test_the_model_taken_out_is_the_last_champion_of_the_week(two_weeks: Bucket) -> None:
    registry = ChampionRegistry(two_weeks.store)
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.taken_out(*week, None) is None
    assert registry.taken_out(*week, pointer_of(two_weeks)) is None  # it is served
    again, never_served = (store_again(two_weeks, commit) for commit in ("c1", "c2"))
    registry.promote_version(again, "the same", "abc1234")
    assert registry.taken_out(*week, pointer_of(two_weeks)) is None
    registry.promote_version(VERSION, "the estimates are wrong", "abc1234")
    assert registry.taken_out(*week, pointer_of(two_weeks)) == again < never_served
    first = week_of(two_weeks, dataset_key(FRIDAY))
    assert registry.taken_out(*first, pointer_of(two_weeks)) is None


def test_a_champion_replaced_by_a_training_was_not_taken_out(two_weeks: Bucket) -> None:
    week = week_of(two_weeks, dataset_key(FRIDAY))
    assert ChampionRegistry(two_weeks.store).taken_out(*week, pointer_of(two_weeks)) is None


def test_a_model_that_was_never_served_was_not_taken_out(two_weeks: Bucket) -> None:
    registry = ChampionRegistry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    for key in two_weeks.keys(HISTORY):
        two_weeks.delete(key)
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.taken_out(*week, pointer_of(two_weeks)) is None


def test_an_unreadable_record_is_logged_while_a_model_taken_out_is_looked_for(
    two_weeks: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ChampionRegistry(two_weeks.store)
    registry.roll_back("the estimates are wrong", "abc1234")
    damaged = store_again(two_weeks, "c1")
    two_weeks.put(manifest_key(damaged), b"{}")
    two_weeks.put(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json", b"{}")
    week = week_of(two_weeks, dataset_key(NEXT_FRIDAY))
    assert registry.taken_out(*week, pointer_of(two_weeks)) == NEXT_VERSION
    training, champion = caplog.messages
    assert f"{manifest_key(damaged)} cannot be understood: version: Field required; " in training
    assert f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json cannot be understood: version: Field" in champion


def test_only_what_was_trained_or_promoted_since_a_moment_is_read(
    two_weeks: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ChampionRegistry(two_weeks.store)
    assert [one.version for one in registry.models.trainings()] == [VERSION, NEXT_VERSION]
    assert [one.version for one in registry.models.trainings(since=NEXT_SATURDAY)] == [NEXT_VERSION]
    two_weeks.put(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json", b"{}")
    two_weeks.put(manifest_key(VERSION), b"{}")
    registry.models.trainings()
    registry.champions(since=NOW)
    training, champion = caplog.messages
    assert manifest_key(VERSION) in training
    assert f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json" in champion
    caplog.clear()
    assert registry.models.trainings(since=NEXT_SATURDAY)
    assert caplog.messages == []
    registry.champions(since=NOW + timedelta(days=1))  # the second of that record
    assert len(caplog.messages) == 1
    caplog.clear()
    tomorrow = pointer_of(two_weeks).champion.promoted_at + timedelta(days=1)
    assert [one.version for one in registry.champions(since=tomorrow)] == [NEXT_VERSION]
    assert caplog.messages == []


def test_a_rollback_finds_another_model_behind_any_number_of_the_same(two_weeks: Bucket) -> None:
    registry = ChampionRegistry(two_weeks.store)
    again, once_more = (store_again(two_weeks, commit) for commit in ("c1", "c2"))
    for version in (again, NEXT_VERSION, again, once_more):  # to and fro, by hand
        registry.promote_version(version, "which is it?", "abc1234")
    two_weeks.put(f"{HISTORY}2026-11-22T08:00:00Z-0123456789ab.json", b"{}")
    champion = registry.roll_back("the estimates are wrong", "def5678")
    assert (champion.version, champion.previous) == (VERSION, once_more)
    assert (champion.reason, champion.git_commit) == (f"rolled back {BY_HAND} the estimates are wrong", "def5678")


def test_a_champion_alone_is_not_rolled_back_whether_its_manifest_can_be_read_or_not(
    trained_bucket: Bucket, registry: ChampionRegistry
) -> None:
    for manifest in (trained_bucket.get(manifest_key(VERSION)), b"{}"):
        trained_bucket.put(manifest_key(VERSION), manifest)
        with pytest.raises(
            PromotionRefused,
            match=f"^there is no other model to go back to: every champion so far is the model of {VERSION}$",
        ):
            registry.roll_back("", "")
