"""python -m pipeline.registry, over S3's wire protocol: what the engineer on call types."""

import json
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from local import stages
from local.generate_orders import generate_week, to_csv
from pipeline.errors import TrainingRejected
from pipeline.keys import CHAMPION_KEY, HISTORY, dataset_key, manifest_key, model_key
from pipeline.registry.__main__ import main
from pipeline.registry.champion import ROLL_REPLICAS, ChampionRegistry
from pipeline.train_model import run as train
from tests.conftest import FRIDAY, NOW, THRESHOLDS, WEEK, Bucket, train_week

FIRST, SECOND, THIRD = (f"time_to_dispatch_2026-{day}T08:00:00Z" for day in ("11-21", "11-28", "12-05"))


def champion_of(bucket: Bucket) -> dict[str, str | None]:
    champion: dict[str, str | None] = json.loads(bucket.get(CHAMPION_KEY))
    return champion


def said(capsys: pytest.CaptureFixture[str]) -> object:
    return json.loads(capsys.readouterr().out)


def test_rollback_makes_the_previous_champion_the_champion(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([two_weeks.name, "rollback", "--reason", "too  slow\non SKU003"]) == 0
    champion = champion_of(two_weeks)
    assert set(champion) == {"version", "previous", "promoted_at", "reason", "git_commit"}
    assert (champion["version"], champion["previous"]) == (FIRST, SECOND)
    assert (champion["reason"], champion["git_commit"]) == ("rolled back by hand: too slow on SKU003", "c0ffee1")
    output = capsys.readouterr().out
    assert FIRST in output
    assert SECOND in output
    assert ROLL_REPLICAS in output


def made_by_other_libraries(bucket: Bucket, version: str) -> None:
    manifest = json.loads(bucket.get(manifest_key(version)))
    manifest["libraries"]["numpy"] = "1.26.4"
    bucket.put(manifest_key(version), json.dumps(manifest).encode())


def test_a_laptop_with_other_libraries_rolls_back_to_a_model_of_those_that_serve(two_weeks: Bucket) -> None:
    for version in (FIRST, SECOND):
        made_by_other_libraries(two_weeks, version)
    assert main([two_weeks.name, "rollback"]) == 0
    assert champion_of(two_weeks)["version"] == FIRST


def test_no_machine_rolls_back_to_a_model_of_neither_its_own_libraries_nor_those_that_serve(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    made_by_other_libraries(two_weeks, FIRST)
    assert_refused(two_weeks, capsys, ["rollback"], "made with other libraries, numpy 1.26.4 (here ")


def test_rollback_skips_the_same_model_of_another_deployment(two_weeks: Bucket) -> None:
    for hour in (1, 2):
        train(two_weeks.store, THRESHOLDS, NOW + WEEK + timedelta(hours=hour), "def5678")
    assert champion_of(two_weeks)["previous"] != FIRST
    last = champion_of(two_weeks)["version"]
    assert main([two_weeks.name, "rollback"]) == 0
    assert champion_of(two_weeks)["version"] == FIRST
    assert main([two_weeks.name, "rollback"]) == 0
    assert champion_of(two_weeks)["version"] == last


@pytest.mark.parametrize("damage", [b"{}", None])
def test_a_champion_without_a_manifest_can_be_rolled_back(two_weeks: Bucket, damage: bytes | None) -> None:
    if damage:
        two_weeks.put(manifest_key(SECOND), damage)
    else:
        two_weeks.delete(manifest_key(SECOND))
    assert main([two_weeks.name, "rollback"]) == 0
    assert champion_of(two_weeks)["version"] == FIRST


def test_a_second_rollback_cancels_the_first(two_weeks: Bucket) -> None:
    assert main([two_weeks.name, "rollback"]) == 0
    assert main([two_weeks.name, "rollback"]) == 0
    assert champion_of(two_weeks)["version"] == SECOND


def test_promote_goes_further_back(two_weeks: Bucket) -> None:
    train_week(two_weeks, 2)
    assert champion_of(two_weeks)["version"] == THIRD
    assert main([two_weeks.name, "promote", FIRST]) == 0
    assert (champion_of(two_weeks)["version"], champion_of(two_weeks)["previous"]) == (FIRST, THIRD)


def test_promote_makes_a_champion_where_the_pointer_was_lost(two_weeks: Bucket) -> None:
    two_weeks.delete(CHAMPION_KEY)
    assert main([two_weeks.name, "promote", SECOND]) == 0
    assert (champion_of(two_weeks)["version"], champion_of(two_weeks)["previous"]) == (SECOND, None)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["promote", "time_to_dispatch_2020-01-01T00:00:00Z"], "there is no model time_to_dispatch_2020-01-01"),
        (["promote", "../../x"], "invalid version '../../x'"),
        (["promote", ""], "invalid version ''"),
        (["promote", SECOND], "is already the champion"),
        (["show", "time_to_dispatch_2020-01-01T00:00:00Z"], "there is no model time_to_dispatch_2020-01-01"),
        (["show", "champion"], "invalid version 'champion'"),
    ],
)
def test_a_wrong_version_is_one_line_and_changes_nothing(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str], command: list[str], complaint: str
) -> None:
    assert_refused(two_weeks, capsys, command, complaint)


def test_a_registry_of_one_has_nothing_to_go_back_to(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    for key in two_weeks.keys(f"models/{SECOND}/"):
        two_weeks.delete(key)
    first = ChampionRegistry(two_weeks.store).champions()[0]
    two_weeks.put(CHAMPION_KEY, first.model_dump_json().encode())
    complaint = f"there is no other model to go back to: every champion so far is the model of {FIRST}"
    assert_refused(two_weeks, capsys, ["rollback"], complaint)


def test_an_empty_registry_has_nothing_to_go_back_to(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    for key in two_weeks.keys("models/"):
        two_weeks.delete(key)
    assert_refused(two_weeks, capsys, ["rollback"], "no model was ever promoted")
    assert main([two_weeks.name, "list", "--json"]) == 0
    assert said(capsys) == []
    assert main([two_weeks.name, "history", "--json"]) == 0
    history = said(capsys)
    assert isinstance(history, dict)
    assert (history["weeks"], history["champions"]) == ([], [])


def test_a_damaged_champion_pointer_is_a_warning_and_everything_else_is_shown(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    main([two_weeks.name, "rollback"])
    two_weeks.put(CHAMPION_KEY, b"{")
    capsys.readouterr()
    for command, expected in (("list", SECOND), ("history", FIRST)):
        assert main([two_weeks.name, command]) == 0
        output = capsys.readouterr()
        assert output.err.startswith(f"WARNING: Skipped the champion: {CHAMPION_KEY} cannot be understood: ")
        assert expected in output.out
    assert_refused(two_weeks, capsys, ["rollback"], CHAMPION_KEY)
    assert_refused(two_weeks, capsys, ["promote", FIRST], CHAMPION_KEY)


@pytest.mark.parametrize("broken", ["damaged", "without a model", "with a manifest that is none"])
def test_a_broken_target_is_not_promoted(two_weeks: Bucket, capsys: pytest.CaptureFixture[str], broken: str) -> None:
    if broken == "damaged":
        two_weeks.put(model_key(FIRST), two_weeks.get(model_key(FIRST))[:-1] + b"?")
    elif broken == "without a model":
        two_weeks.delete(model_key(FIRST))
    else:
        two_weeks.put(manifest_key(FIRST), b"{}")
    assert_refused(two_weeks, capsys, ["rollback"], FIRST)
    assert_refused(two_weeks, capsys, ["promote", FIRST], FIRST)


def test_a_rejected_version_is_shown_and_not_promoted(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    two_weeks.put(dataset_key(FRIDAY + 2 * WEEK), to_csv(generate_week(seed=3).assign(hours_to_dispatch=1.0)))
    with pytest.raises(TrainingRejected):
        train(two_weeks.store, THRESHOLDS, NOW + 2 * WEEK, "abc1234")
    assert main([two_weeks.name, "list", "--json"]) == 0
    states = [(entry["version"], entry["state"]) for entry in said(capsys)]  # type: ignore[attr-defined] # a list
    assert states == [(FIRST, "previous"), (SECOND, "champion"), (THIRD, "rejected")]
    assert main([two_weeks.name, "show", THIRD]) == 0
    assert "reject; hold-out RMSE" in capsys.readouterr().out
    assert_refused(two_weeks, capsys, ["promote", THIRD], f"there is no model {THIRD}")


@pytest.mark.seaweedfs
def test_of_two_rollbacks_at_the_same_time_the_slower_one_is_refused(seaweedfs_bucket: Bucket) -> None:
    for number in range(2):
        train_week(seaweedfs_bucket, number)
    environment = {**os.environ, **seaweedfs_bucket.environment}
    command = [sys.executable, "-m", "pipeline.registry", seaweedfs_bucket.name, "rollback"]

    def roll_back(reason: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, "--reason", reason], cwd=stages.ROOT, env=environment, capture_output=True, text=True
        )

    with ThreadPoolExecutor() as pool:
        done = list(pool.map(roll_back, ["the first of two", "the second of two"]))
    swaps = [process for process in done if process.returncode == 0]
    champions = ChampionRegistry(seaweedfs_bucket.store).champions()
    # whoever came late either lost the swap and was told, or read the other's pointer and rolled that one back
    assert len(champions) == 2 + len(swaps)
    assert all(
        "ERROR: another writer changed the champion at the same time" in one.stderr for one in done if one not in swaps
    )
    assert champions[-1].version == (FIRST if len(swaps) == 1 else SECOND)


def test_list_names_every_version_its_week_and_its_error(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    two_weeks.put(manifest_key(FIRST), b"{}")
    assert main([two_weeks.name, "list"]) == 0
    header, first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["version", "state", "week that ended"]
    assert first[:2] == [FIRST, "previous"]
    assert manifest_key(FIRST) in first[2]
    assert second[:3] == [SECOND, "champion", "2026-11-27T23:00:00+00:00"]
    assert 0.6 < float(second[4]) < 0.9  # the noise of a generated week is 0.75 h


def test_the_columns_of_a_list_are_aligned_in_a_terminal(two_weeks: Bucket) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pipeline.registry", two_weeks.name, "list"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    subprocess.run(command, cwd=stages.ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, check=True)
    os.close(theirs)
    table = os.read(ours, 100_000).decode()
    os.close(ours)
    header, *rows = table.splitlines()
    assert header.startswith("version ")
    assert [row.index("2026-11-2", len(SECOND)) for row in rows] == [header.index("week that ended")] * 2
    assert rows[-1].startswith(f"{SECOND}  champion  ")


def test_show_says_where_a_version_came_from(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([two_weeks.name, "show", SECOND, "--json"]) == 0
    assert said(capsys) == json.loads(two_weeks.get(manifest_key(SECOND)))
    assert main([two_weeks.name, "show", SECOND]) == 0
    output = capsys.readouterr().out
    assert f"champion then\t{FIRST}" in output
    assert "gate champion\tpass" in output


def test_history_keeps_every_champion_with_its_reason(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    main([two_weeks.name, "rollback", "--reason", "page at night"])
    main([two_weeks.name, "promote", SECOND, "--reason", "false alarm"])
    capsys.readouterr()
    assert main([two_weeks.name, "history", "--json"]) == 0
    history = said(capsys)
    assert isinstance(history, dict)
    assert [(one["version"], one["reason"]) for one in history["champions"]] == [
        (FIRST, f"trained on {dataset_key(FRIDAY)}"),
        (SECOND, f"trained on {dataset_key(FRIDAY + WEEK)}"),
        (FIRST, "rolled back by hand: page at night"),
        (SECOND, "promoted by hand: false alarm"),
    ]


def test_the_list_has_a_champion_whose_manifest_is_lost(two_weeks: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    two_weeks.delete(manifest_key(SECOND))
    assert main([two_weeks.name, "list", "--json"]) == 0
    listed = said(capsys)
    assert isinstance(listed, list)
    assert [(entry["version"], entry["state"]) for entry in listed] == [(FIRST, "previous"), (SECOND, "champion")]
    assert listed[1]["problem"] == f"there is no model {SECOND}: {manifest_key(SECOND)} is missing"


def test_control_characters_of_a_product_do_not_reach_the_terminal(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = two_weeks.get(manifest_key(SECOND)).replace(b'"SKU001"', rb'"\u001b[2J\u0007SKU001"')
    two_weeks.put(manifest_key(SECOND), manifest)
    assert main([two_weeks.name, "show", SECOND]) == 0
    output = capsys.readouterr().out
    assert r"\x1b[2J\x07SKU001 (" in output
    assert "\x1b" not in output


def test_a_blank_reason_becomes_no_reason_given(two_weeks: Bucket) -> None:
    assert main([two_weeks.name, "rollback", "--reason", "  "]) == 0
    assert champion_of(two_weeks)["reason"] == "rolled back by hand: no reason given"


def test_a_target_of_other_libraries_is_named_even_where_the_champion_is_lost(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    made_by_other_libraries(two_weeks, FIRST)
    two_weeks.delete(manifest_key(SECOND))
    assert_refused(
        two_weeks, capsys, ["rollback"], f"{model_key(FIRST)} was made with other libraries, numpy 1.26.4 (here "
    )


def test_history_gives_each_columns_drift_with_the_thresholds_and_their_source(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(two_weeks.get(manifest_key(SECOND)))
    assert main([two_weeks.name, "history", "--json"]) == 0
    history = said(capsys)
    assert isinstance(history, dict)
    assert [week["drift"] for week in history["weeks"]] == [None, manifest["previous_week"]["drift"]]
    assert (history["drift_thresholds"]["moderate"], history["drift_thresholds"]["major"]) == (0.1, 0.25)
    assert main([two_weeks.name, "history"]) == 0
    output = capsys.readouterr().out
    psi = manifest["previous_week"]["drift"]["hours_to_dispatch"]["psi"]
    assert f"hours_to_dispatch {psi:.3f} stable; orders_placed " in output
    assert "\tno week before\n" in output
    assert "moderate from 0.1, major from 0.25 (Siddiqi, Credit Risk Scorecards, 2006)" in output


def test_history_shows_the_holdout_error_and_the_error_in_production_a_week_later(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (json.loads(two_weeks.get(manifest_key(version))) for version in (FIRST, SECOND))
    assert main([two_weeks.name, "history", "--json"]) == 0
    history = said(capsys)
    assert isinstance(history, dict)
    assert [week["holdout_rmse"] for week in history["weeks"]] == [
        first["hold_out"]["candidate"]["rmse"],
        second["hold_out"]["candidate"]["rmse"],
    ]
    holdout = first["hold_out"]["candidate"]["rmse"]
    observed = {"version": FIRST, "holdout_rmse": holdout, "rmse": second["production_error"]["rmse"]}
    assert [week["observed"] for week in history["weeks"]] == [[], [observed]]
    assert main([two_weeks.name, "history"]) == 0
    assert f"\t{observed['rmse']:.3f} by {FIRST} (hold-out {holdout:.3f})\t" in capsys.readouterr().out


def test_a_pointer_that_was_kept_but_not_replaced_counts_once(two_weeks: Bucket) -> None:
    pointer = ChampionRegistry(two_weeks.store).read_champion()
    assert pointer is not None
    body = two_weeks.get(CHAMPION_KEY)
    main([two_weeks.name, "rollback"])
    two_weeks.put(CHAMPION_KEY, body)  # as if the rollback had died before its swap
    assert len(two_weeks.keys(HISTORY)) == 2
    assert [one.version for one in ChampionRegistry(two_weeks.store).champions()] == [FIRST, SECOND]


def test_an_s3_that_cannot_be_reached_is_one_line(
    two_weeks: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert main([two_weeks.name, "rollback"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_that_restarts_the_replicas_names_bodyworks_deployment() -> None:
    services = [stage for step in stages.read_dag() for stage in step if stage.service]
    assert ROLL_REPLICAS.endswith(f"deployment/{services[0].name.replace('_', '-')}")
    assert "--namespace time-to-dispatch " in ROLL_REPLICAS
    assert "\n  name: time-to-dispatch\n" in (stages.ROOT / "bodywork.yaml").read_text()


def assert_refused(bucket: Bucket, capsys: pytest.CaptureFixture[str], command: list[str], complaint: str) -> None:
    before = bucket.snapshot("models/")
    capsys.readouterr()
    assert main([bucket.name, *command]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("ERROR: ")
    assert output.err.count("\n") == 1
    assert complaint in output.err
    assert bucket.snapshot("models/") == before


def test_history_has_a_week_once_however_often_it_was_trained_on(
    two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    two_weeks.put(dataset_key(FRIDAY + 2 * WEEK), to_csv(generate_week(seed=3).assign(hours_to_dispatch=1.0)))
    for hour in range(2):
        with pytest.raises(TrainingRejected):
            train(two_weeks.store, THRESHOLDS, NOW + 2 * WEEK + timedelta(hours=hour), "abc1234")
    two_weeks.put(dataset_key(FRIDAY + 2 * WEEK), to_csv(generate_week(seed=3)))  # mended under the same key
    train(two_weeks.store, THRESHOLDS, NOW + 2 * WEEK + timedelta(hours=2), "abc1234")
    assert main([two_weeks.name, "history", "--json"]) == 0
    weeks = json.loads(capsys.readouterr().out)["weeks"]
    assert [(week["dataset"], week["trainings"], week["accepted"]) for week in weeks] == [
        (dataset_key(FRIDAY), 1, True),
        (dataset_key(FRIDAY + WEEK), 1, True),
        (dataset_key(FRIDAY + 2 * WEEK), 2, False),
        (dataset_key(FRIDAY + 2 * WEEK), 1, True),
    ]
    assert [[seen["version"] for seen in week["observed"]] for week in weeks] == [[], [FIRST], [SECOND], [SECOND]]
