"""When the weekly run deploys, when it leaves the service alone, and when it believes that it deployed."""

import json
import logging
import os
import shlex
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.generate_orders import generate_week, to_csv
from operations import service, weekly
from operations.cluster import ROOT, Project, read_project
from operations.weekly import why_not
from pipeline.errors import TrainingRejected
from pipeline.keys import CHAMPION_KEY, DatasetKey, dataset_key, format_version, parse_dataset_key
from pipeline.registry.champion import ChampionRegistry
from pipeline.train_model import run
from tests.conftest import FRIDAY, NEXT_FRIDAY, NEXT_SATURDAY, NOW, THRESHOLDS, Bucket

VERSION = format_version(NOW)


def dataset(key: str) -> DatasetKey:
    found = parse_dataset_key(key)
    assert found is not None
    return found


def test_a_week_without_a_training_is_deployed(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    assert why_not(trained_bucket.store, dataset(dataset_key(NEXT_FRIDAY)), lambda: {VERSION}) is None


def test_a_week_whose_model_is_served_needs_no_deployment(trained_bucket: Bucket) -> None:
    reason = why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: {VERSION})
    assert reason == f"the model of {dataset_key(FRIDAY)}, {VERSION}, is served already"


@pytest.mark.parametrize("served", [{"time_to_dispatch_2026-11-14T08:00:00Z"}, {VERSION, "nothing"}, set()])
def test_a_week_whose_model_was_promoted_but_not_rolled_out_is_deployed(
    trained_bucket: Bucket, served: set[str]
) -> None:
    assert why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: served) is None


def test_a_week_whose_model_was_stored_but_not_promoted_is_deployed(trained_bucket: Bucket) -> None:
    trained_bucket.delete(CHAMPION_KEY)
    assert why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: {"nothing"}) is None


def test_a_week_whose_model_was_rolled_back_is_not_deployed_again(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    ChampionRegistry(trained_bucket.store).roll_back("wrong", "abc1234")
    reason = why_not(trained_bucket.store, dataset(dataset_key(NEXT_FRIDAY)), lambda: {VERSION})
    taken_out = format_version(NEXT_SATURDAY)
    assert reason == f"the model of {dataset_key(NEXT_FRIDAY)}, {taken_out}, was taken out by hand"


def test_an_older_week_whose_champion_was_replaced_by_a_training_is_deployed(trained_bucket: Bucket) -> None:
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(generate_week(seed=2)))
    run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    trained_bucket.delete(dataset_key(NEXT_FRIDAY))  # it was wrong, though the gates let it in
    assert why_not(trained_bucket.store, dataset(dataset_key(FRIDAY)), lambda: {format_version(NEXT_SATURDAY)}) is None


def test_a_rejected_week_fails_each_run(trained_bucket: Bucket) -> None:
    orders = generate_week(seed=2).assign(hours_to_dispatch=4.0)
    trained_bucket.put(dataset_key(NEXT_FRIDAY), to_csv(orders))
    with pytest.raises(TrainingRejected):
        run(trained_bucket.store, THRESHOLDS, NEXT_SATURDAY, "abc1234")
    said = f"{dataset_key(NEXT_FRIDAY)} was rejected, see rejected/{format_version(NEXT_SATURDAY)}/"
    with pytest.raises(TrainingRejected, match=said):
        why_not(trained_bucket.store, dataset(dataset_key(NEXT_FRIDAY)), lambda: {VERSION})


TAG = "deploy-0123456789ab"


class Run:
    """A weekly run, by a Bodywork and a Kubernetes that are told what to do, beside a real bucket."""

    def __init__(self, bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch
        project = replace(read_project(), bucket=bucket.name)
        monkeypatch.setattr(weekly, "read_project", lambda: project)
        monkeypatch.setattr(weekly, "ROLLED_OUT_SECONDS", 0)
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("BODYWORK_PYTHON", str(folder / "kubernetes"))
        self.bodywork("exit 1")
        self.deployment = deployed()
        self.answers = [{VERSION}]

    def bodywork(self, does: str) -> None:
        """What the command `bodywork` does."""
        self._command("bodywork", does)

    def __call__(self) -> int:
        """Run; the exit code."""
        listed = json.dumps({"items": [self.deployment] if self.deployment else []})
        self._command("kubernetes", f"echo {shlex.quote(listed)}")
        self._monkeypatch.setattr(weekly, "served", self._serve)
        return weekly.main(["https://example.com/a.git", TAG])

    def _serve(self, project: Project) -> set[str]:
        """The next of the answers, and the last of them for ever."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _command(self, name: str, does: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)


def deployed() -> dict[str, Any]:
    """The Deployment after a good roll-out of TAG."""
    labels = {"git-branch": TAG, "git-commit-hash": "0123456"}
    spec: dict[str, Any] = {}
    for patch in service.patches(ROOT / "deploy/cluster"):
        spec |= patch["spec"]["template"]["spec"]
    return {
        "metadata": {"generation": 3},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": labels}, "spec": spec}},
        "status": {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 3},
    }


@pytest.fixture
def weekly_run(trained_bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A weekly run while the first week's model is the champion, and was rolled out or not."""
    handler, handlers = signal.getsignal(signal.SIGTERM), logging.root.handlers[:]
    yield Run(trained_bucket, tmp_path, monkeypatch)
    signal.signal(signal.SIGTERM, handler)
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers


def test_a_run_with_nothing_to_do_ends_well_and_calls_no_bodywork(
    weekly_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weekly_run() == 0
    assert (
        f"Nothing to do: the model of {dataset_key(FRIDAY)}, {VERSION}, is served already." in capsys.readouterr().out
    )


def test_a_run_that_cannot_ask_s3_deploys_nothing(
    weekly_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert weekly_run() == 1
    assert "Nothing was deployed: " in capsys.readouterr().out


def test_a_run_that_deploys_ends_well_when_the_service_answers_with_the_weeks_model(
    weekly_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    weekly_run.bodywork(f'test "$*" = "create deployment https://example.com/a.git --branch={TAG}"')
    weekly_run.answers = [{"nothing"}, {VERSION}]
    assert weekly_run() == 0
    assert f"Deployed: the service answers with {VERSION}." in capsys.readouterr().out


def test_a_bodywork_that_fails_is_the_runs_failure(weekly_run: Run) -> None:
    weekly_run.answers = [{"nothing"}]
    weekly_run.bodywork("exit 3")
    assert weekly_run() == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"deployment": None}, "there is no deployment serve-model"),
        ({"deployment": {**deployed(), "status": {}}}, "serve-model is not rolled out"),
        ({"deployment": {**deployed(), "spec": {"template": {"metadata": {}}}}}, "serve-model has git-commit-hash"),
        ({"answers": [{"nothing"}]}, f"the service answers with nothing, not {VERSION}"),
    ],
)
def test_a_bodywork_that_says_that_all_is_well_is_not_believed(
    weekly_run: Run, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weekly_run.bodywork("exit 0")
    weekly_run.answers = [{"nothing"}, {VERSION}]
    vars(weekly_run).update(change)
    assert weekly_run() == 1
    assert f"Not deployed after 0 s: {said}" in capsys.readouterr().out


def test_a_run_after_which_no_model_of_the_week_was_promoted_failed(
    weekly_run: Run, trained_bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = dataset_key(FRIDAY + timedelta(hours=1))
    trained_bucket.put(newer, to_csv(generate_week(seed=2)))
    weekly_run.bodywork("exit 0")
    assert weekly_run() == 1
    assert f"promoted no model of {newer}: see its log above" in capsys.readouterr().out
