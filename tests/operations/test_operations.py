"""What make deploy, rollback and status decide, by a kubectl that says what it was told; make e2e asks a real one."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from operations import deploy, rollback, service, status
from operations.cluster import (
    ROOT,
    OperationError,
    check_context,
    check_namespace,
    check_rights,
    exit_code,
    read_project,
)
from operations.service import Replica
from pipeline.errors import StoreUnreachable
from pipeline.keys import CHAMPION_KEY
from pipeline.registry.champion import ROLL_REPLICAS
from pipeline.registry.object_store import ObjectStore
from tests.conftest import Bucket

PROJECT = read_project()
FOLDER = ROOT / "deploy/cluster"
VERSION, NEXT_VERSION = "time_to_dispatch_2026-11-21T08:00:00Z", "time_to_dispatch_2026-11-28T08:00:00Z"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAG = f"deploy-{COMMIT[:12]}"

KUBECTL = """#!{python}
import json, pathlib, sys
folder, said = pathlib.Path(__file__).parent, " ".join(sys.argv[1:])
with (folder / "calls").open("a") as calls:
    print(said, file=calls)
for words, out, error in json.loads((folder / "answers.json").read_text()):
    if said.startswith(words):
        print(out)
        sys.exit(error)
sys.exit(f"error: this kubectl was not told about: {{said}}")
"""


class Kubectl:
    """A kubectl in the path: `tell` it what it answers, and look at what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.answers = folder / "answers.json"
        self._calls = folder / "calls"
        self._told: list[tuple[str, str, str | None]] = []
        command = folder / "kubectl"
        command.write_text(KUBECTL.format(python=sys.executable))
        command.chmod(0o755)

    def tell(self, words: str, answer: Any = "", error: str | None = None) -> None:
        """Answer a call that begins with these words; what was told last comes first."""
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self._told.insert(0, (words, text, error))
        self.answers.write_text(json.dumps(self._told))

    def calls(self, words: str = "") -> list[str]:
        """The calls that began with these words."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if line.startswith(words)]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """A kubectl that knows a service of two ready replicas."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CONTEXT", "here")
    monkeypatch.setenv("KUBECONFIG", "somebody's")
    kubectl = Kubectl(folder)
    kubectl.tell("config view --minify --flatten --raw", "current-context: here")
    kubectl.tell("config current-context", "here")
    kubectl.tell("get namespace/", {"status": {"phase": "Active"}})
    kubectl.tell("get deployment/serve-model", deployment())
    kubectl.tell("get pods", {"items": [pod("a"), pod("b")]})
    kubectl.tell("rollout")
    kubectl.tell("exec", answer_of_replica())
    kubectl.tell("create -f - --validate=false", "true\n" * 7)  # as many as make rollback asks for
    return kubectl


def deployment(revision: int = 7, **changes: Any) -> dict[str, Any]:
    labels = {"git-branch": TAG, "git-commit-hash": COMMIT[:7]}
    template = {"metadata": {"labels": labels, "annotations": {"last-updated": "2026-11-21T08:00:00"}}, "spec": {}}
    counts = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "observedGeneration": 3}
    return {
        "metadata": {"generation": 3, "annotations": {"deployment.kubernetes.io/revision": str(revision)}},
        "spec": {"replicas": 2, "template": template},
        "status": counts | changes,
    }


def pod(name: str, ready: bool = True, template: str = "good", crashes: int = 0) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"pod-template-hash": template}},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"restartCount": crashes}],
        },
    }


def answer_of_replica(version: str = VERSION) -> dict[str, Any]:
    estimate = {"est_hours_to_dispatch": 4.5, "model_version": version}
    return {"commit": COMMIT, "status": "ready", "model_version": version, "order": {}, "estimate": estimate}


@pytest.mark.parametrize(
    ("wanted", "required", "said"),
    [
        (None, True, "CONTEXT is not set: name the cluster, for instance the current one: CONTEXT=here"),
        ("there", True, "the current context is here, but CONTEXT says there"),
        ("there", False, "the current context is here, but CONTEXT says there"),
    ],
)
def test_no_cluster_but_the_one_that_is_meant_is_touched(
    wanted: str | None, required: bool, said: str, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTEXT")
    if wanted:
        monkeypatch.setenv("CONTEXT", wanted)
    with pytest.raises(OperationError, match=said):
        check_context(required=required)


def test_every_command_goes_to_the_cluster_that_was_checked_whatever_is_current_later(kubectl: Kubectl) -> None:
    assert check_context(required=True) == "here"
    assert Path(os.environ["KUBECONFIG"]).read_text() == "current-context: here\n"


def test_a_terminating_namespace_is_refused_and_a_missing_one_is_reported(kubectl: Kubectl) -> None:
    assert check_namespace("time-to-dispatch")
    kubectl.tell("get namespace/", "")
    assert not check_namespace("time-to-dispatch")
    kubectl.tell("get namespace/", {"status": {"phase": "Terminating"}})
    with pytest.raises(OperationError, match="is Terminating"):
        check_namespace("time-to-dispatch")


def test_each_right_that_is_not_there_is_named(kubectl: Kubectl) -> None:
    kubectl.tell("create -f - --validate=false", "true\nfalse\nfalse\n")
    with pytest.raises(OperationError, match="^your account may not list pods, get pods/log in namespace x: "):
        check_rights("x", {"pods": "get list", "pods/log": "get"})
    with pytest.raises(OperationError, match="your account may not list pods, get pods/log in the whole cluster"):
        check_rights("", {"pods": "get list", "pods/log": "get"})


@pytest.mark.usefixtures("handlers_restored")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_one_line_and_exit_code_1(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def operation() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    assert exit_code(operation) == 1
    assert capsys.readouterr().err == f"ERROR: interrupted by {number.name}\n"


def test_the_replica_set_that_serves_is_the_one_of_most_ready_pods(kubectl: Kubectl) -> None:
    new = [pod(name, ready=False, template="new") for name in "cde"]
    kubectl.tell("get pods", {"items": [pod("a"), pod("b"), pod("f", template="new"), *new]})
    assert service.serving_replica_set(PROJECT) == "serve-model-good"
    kubectl.tell("get pods", {"items": new})
    assert service.serving_replica_set(PROJECT) is None


def test_a_pod_that_crashed_twice_is_given_up_and_one_that_crashed_once_is_not(kubectl: Kubectl) -> None:
    kubectl.tell("get pods", {"items": [pod("a"), pod("b", crashes=1), pod("c", crashes=2)]})
    assert service.crashed_pods(PROJECT) == {"c"}


def replica_set(revision: int) -> dict[str, Any]:
    return {"metadata": {"annotations": {"deployment.kubernetes.io/revision": str(revision)}}}


def test_a_roll_out_is_taken_back_to_the_revision_that_served(kubectl: Kubectl) -> None:
    kubectl.tell("get replicaset/serve-model-good", replica_set(6))
    said = service.take_back(PROJECT, "serve-model-good", {"a", "b"})
    assert said == "2 replicas go on as they were"
    (undo,) = kubectl.calls("rollout undo")
    assert undo.endswith("--to-revision=6")


def test_the_roll_out_of_another_deployment_is_left_to_it(kubectl: Kubectl) -> None:
    kubectl.tell("get replicaset/serve-model-good", replica_set(6))
    said = service.take_back(PROJECT, "serve-model-good", {"a", "b"}, "deploy-ffffffffffff")
    assert said == f"another deployment is rolling out {TAG}, which was not touched"
    assert kubectl.calls("rollout undo") == []


def test_a_roll_out_that_bodywork_has_undone_is_not_undone_again(kubectl: Kubectl) -> None:
    kubectl.tell("get replicaset/serve-model-good", replica_set(7))
    assert service.take_back(PROJECT, "serve-model-good", {"a", "b"}) == "2 replicas go on as they were"
    assert kubectl.calls("rollout undo") == []


def test_where_nothing_ran_before_no_broken_replica_is_left(kubectl: Kubectl) -> None:
    kubectl.tell("scale")
    assert service.take_back(PROJECT, None, set()) == "there was no replica before, and the new ones were removed"
    assert kubectl.calls("scale") == ["scale deployment/serve-model -n time-to-dispatch --replicas=0"]


@pytest.mark.parametrize("good", [None, "serve-model-gone"])
def test_an_unknown_previous_replica_set_is_not_guessed(good: str | None, kubectl: Kubectl) -> None:
    kubectl.tell("get replicaset/serve-model-gone", "")
    assert "is unknown or gone; 2 replicas are ready" in service.take_back(PROJECT, good, {"a"})
    assert kubectl.calls("rollout") == kubectl.calls("scale") == []


def test_without_a_deployment_there_is_nothing_to_take_back(kubectl: Kubectl) -> None:
    kubectl.tell("get deployment/serve-model", "")
    assert service.take_back(PROJECT, "serve-model-good", {"a"}) == "the service does not exist"


def test_a_patch_that_keeps_replicas_from_starting_is_undone(kubectl: Kubectl) -> None:
    kubectl.tell("get replicaset/serve-model-good", replica_set(6))
    kubectl.tell("patch deployment serve-model")
    kubectl.tell("rollout status", "", "error: timed out waiting for the condition")
    said = r"do not start with the patch of deploy/cluster \(.*timed out.*\): the roll-out could not be undone"
    with pytest.raises(OperationError, match=said):
        service.prepare(PROJECT, FOLDER)
    assert len(kubectl.calls("rollout undo")) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit": "f" * 40}, "a runs commit fffffff, expected 0123456"),
        ({"model_version": NEXT_VERSION}, f"a serves {NEXT_VERSION}, expected {VERSION}"),
        ({"status": "draining"}, "a is draining"),
        ({"estimate": {"est_hours_to_dispatch": -1, "model_version": VERSION}}, "the Service answered"),
        ({"estimate": {"est_hours_to_dispatch": 1, "model_version": NEXT_VERSION}}, "the Service answered"),
    ],
)
def test_a_replica_that_differs_from_the_deployment_is_named(change: dict[str, Any], said: str) -> None:
    replica = Replica(pod="a", **answer_of_replica())
    service.check_replicas([replica], commit=COMMIT, version=VERSION)
    with pytest.raises(OperationError, match=said):
        service.check_replicas([replica, replace(replica, **change)], commit=COMMIT, version=VERSION)
    with pytest.raises(OperationError, match="no replica is ready"):
        service.check_replicas([])


@pytest.mark.parametrize(
    "change",
    [{"updatedReplicas": 1}, {"readyReplicas": 1}, {"replicas": 3}, {"observedGeneration": 2}],
)
def test_a_deployment_with_an_old_or_unready_replica_is_not_rolled_out(change: dict[str, int]) -> None:
    assert service.is_rolled_out(deployment())
    assert not service.is_rolled_out(deployment(**change))


def test_a_replica_removed_by_the_autoscaler_is_skipped_and_a_silent_one_is_an_error(
    kubectl: Kubectl,
) -> None:
    kubectl.tell("exec -i -n time-to-dispatch b", "", "error: pods b not found")
    with pytest.raises(OperationError, match="pods b not found"):
        service.ask_replicas(PROJECT)
    asked = iter([["a", "b"], ["a"]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "ready_pods", lambda project: next(asked))
        assert [replica.pod for replica in service.ask_replicas(PROJECT)] == ["a"]


def test_another_commit_and_a_patch_that_is_gone_are_found_in_the_deployment() -> None:
    found = deployment()
    with pytest.raises(OperationError, match=r"lost these patched fields: .*\.containers"):
        service.check_deployment(PROJECT, found, FOLDER, TAG)
    for patch in service.patches(FOLDER):
        found["spec"]["template"]["spec"] |= patch["spec"]["template"]["spec"]
    service.check_deployment(PROJECT, found, FOLDER, TAG)
    with pytest.raises(OperationError, match="serve-model has git-commit-hash 0123456, expected ffffffffffff"):
        service.check_deployment(PROJECT, found, FOLDER, "deploy-ffffffffffff")
    found["spec"]["template"]["metadata"]["labels"]["git-branch"] = "main"
    with pytest.raises(OperationError, match="serve-model has git-branch main"):
        service.check_deployment(PROJECT, found, FOLDER, TAG)


def test_bodywork_that_deployed_nothing_and_says_that_all_is_well_is_not_believed(kubectl: Kubectl) -> None:
    before = service.last_updated(deployment())
    with pytest.raises(OperationError, match="exit code 0 but deployed nothing"):
        deploy.verify(PROJECT, FOLDER, COMMIT, TAG, before)


@pytest.fixture
def handlers_restored() -> Iterator[None]:
    """This process takes its signals afterwards as it did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


PROMOTED = "2026-11-21 08:00:00,000 - INFO - train_model.run - Promoted time_to_dispatch_2026 instead of no model."
BODYWORK = """#!{python}
import signal, sys, time
try:
    {does}
except KeyboardInterrupt:
    print("2026-11-21 08:00:00 - ERROR - workflow_execution.run - took it back")
    sys.exit(1)
"""


@pytest.fixture
def run_bodywork(kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Deploys by a Bodywork that does this."""

    def run(does: str) -> None:
        path = tmp_path / "python-of-bodywork"
        path.write_text(BODYWORK.format(python=sys.executable, does=does))
        path.chmod(0o755)
        monkeypatch.setenv("BODYWORK_PYTHON", str(path))
        kubectl.tell("get replicaset/serve-model-good", replica_set(7))
        kubectl.tell("get events", {"items": []})
        deploy._run_bodywork(PROJECT, "https://example.com/a.git", TAG)

    return run


def test_the_first_reason_of_bodywork_is_reported(run_bodywork: Callable[[str], None]) -> None:
    line = "2026-11-21 08:00:00 - ERROR - workflow_execution.run_workflow - {}"
    does = f"print({line.format('first reason')!r}); print({line.format('second')!r}); sys.exit(1)"
    with pytest.raises(OperationError) as error:
        run_bodywork(does)
    assert str(error.value) == "Bodywork ended with exit code 1, 2 replicas go on as they were: first reason"


def test_a_failed_roll_out_names_the_model_that_was_promoted_before(run_bodywork: Callable[[str], None]) -> None:
    with pytest.raises(
        OperationError, match="time_to_dispatch_2026, which the training promoted before, remains the champion"
    ):
        run_bodywork(f"print({PROMOTED!r}); sys.exit(1)")


def test_a_bodywork_that_exits_with_0_raises_nothing(run_bodywork: Callable[[str], None]) -> None:
    run_bodywork("print('done')")


def test_a_replica_that_crashes_again_and_again_ends_bodywork(
    run_bodywork: Callable[[str], None], kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    crashing = {"items": [pod("a"), pod("b"), pod("c", ready=False, template="new", crashes=2)]}
    answers = json.dumps([("get pods", json.dumps(crashing), None)])
    does = f"open({str(kubectl.answers)!r}, 'w').write({answers!r}); time.sleep(60)"
    with pytest.raises(OperationError, match="took it back"):
        run_bodywork(does)
    assert "c crashes again and again: interrupting Bodywork" in capsys.readouterr().out


@pytest.mark.usefixtures("handlers_restored")
def test_an_interrupted_deployment_lets_bodywork_take_it_back(
    run_bodywork: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    does = f"import os; print('begun', flush=True); os.kill({os.getpid()}, signal.SIGTERM); time.sleep(60)"
    assert exit_code(lambda: run_bodywork(does)) == 1
    output = capsys.readouterr()
    assert "interrupted by SIGTERM: undoing the roll-out" in output.out
    assert output.err.endswith(", 2 replicas go on as they were: interrupted by SIGTERM\n")


@pytest.mark.usefixtures("handlers_restored")
def test_an_interruption_is_reported_even_if_bodywork_exits_with_0(
    run_bodywork: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    does = f"""import os
    try:
        os.kill({os.getpid()}, signal.SIGTERM); time.sleep(60)
    except KeyboardInterrupt:
        print({PROMOTED!r}); sys.exit(0)"""
    assert exit_code(lambda: run_bodywork(does)) == 1
    said = capsys.readouterr().err
    assert (
        "2 replicas go on as they were: interrupted by SIGTERM; time_to_dispatch_2026, which the training promoted"
        in said
    )


def test_the_objects_of_an_examples_account_are_refused() -> None:
    with pytest.raises(OperationError, match="deploy/eks/kustomization.yaml names account 111122223333"):
        deploy._check_kind_of_cluster(PROJECT, ROOT / "deploy/eks")


def test_objects_that_would_take_the_accounts_roles_away_are_refused(kubectl: Kubectl) -> None:
    kubectl.tell("get serviceaccount/bodywork-stage", {"metadata": {}})
    deploy._check_kind_of_cluster(PROJECT, FOLDER)
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::444455556666:role/time-to-dispatch-train-model"}
    kubectl.tell("get serviceaccount/bodywork-stage", {"metadata": {"annotations": role}})
    with pytest.raises(OperationError, match="run make deploy with CLUSTER=deploy/eks"):
        deploy._check_kind_of_cluster(PROJECT, FOLDER)


def test_a_second_deployment_waits_for_the_training_of_the_first_up_to_a_limit(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAIT_SECONDS", "0")
    kubectl.tell("get job/train-model", {"metadata": {"name": "train-model"}})
    with pytest.raises(OperationError, match="another deployment is still running: job train-model"):
        deploy._wait_for_others(PROJECT)
    kubectl.tell("get job/train-model", "")
    kubectl.tell("get jobs", {"items": [{"metadata": {"name": "weekly-1"}, "status": {"active": 1}}]})
    with pytest.raises(OperationError, match="another deployment is still running: job weekly-1"):
        deploy._wait_for_others(PROJECT)
    kubectl.tell("get jobs", {"items": [{"metadata": {"name": "weekly-1"}, "status": {"succeeded": 1}}]})
    deploy._wait_for_others(PROJECT)


def test_a_missing_secret_is_named_with_the_command_that_creates_it(kubectl: Kubectl) -> None:
    for namespace in ("time-to-dispatch", "bodywork-deployment-jobs"):
        kubectl.tell("get secret/git", {"data": {"GIT_TOKEN": "eA=="}})
        deploy._check_secrets(PROJECT)
        kubectl.tell(f"get secret/git -n {namespace}", "")
        with pytest.raises(OperationError, match=f"lacks GIT_TOKEN.*kubectl -n {namespace} create secret generic git"):
            deploy._check_secrets(PROJECT)


@pytest.fixture
def roll_back(
    kubectl: Kubectl, two_weeks: Bucket, monkeypatch: pytest.MonkeyPatch, handlers_restored: None
) -> Callable[[], int]:
    """make rollback, with this bucket for the project's."""
    monkeypatch.setattr(rollback, "read_project", lambda: replace(PROJECT, bucket=two_weeks.name))
    return rollback.main


def test_rollback_serves_the_model_before_in_every_replica(
    roll_back: Callable[[], int], two_weeks: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert roll_back() == 0
    assert json.loads(two_weeks.get(CHAMPION_KEY))["version"] == VERSION
    assert f"2 replicas serve {VERSION}" in capsys.readouterr().out


def test_rollback_moves_no_pointer_where_the_replicas_could_not_follow(
    roll_back: Callable[[], int], two_weeks: Bucket, kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.tell("create -f - --validate=false", "true\n" * 6 + "false\n")
    assert roll_back() == 1
    assert "your account may not create pods/exec in namespace time-to-dispatch" in capsys.readouterr().err
    kubectl.tell("create -f - --validate=false", "true\n" * 7)
    kubectl.tell("get deployment/serve-model", "")
    assert roll_back() == 1
    assert "there is no deployment serve-model" in capsys.readouterr().err
    assert json.loads(two_weeks.get(CHAMPION_KEY))["version"] == NEXT_VERSION


def test_rollback_of_which_s3_does_not_say_whether_it_was_done_says_how_to_look(
    roll_back: Callable[[], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_answer(*what: object) -> None:
        raise StoreUnreachable("replacing s3://bucket/models/champion.json: no answer")

    monkeypatch.setattr(ObjectStore, "replace", lose_the_answer)
    assert roll_back() == 1
    said = capsys.readouterr().err
    assert "no answer. The champion may have changed. Before you roll back again" in said
    assert " list" in said


def test_rollback_that_stops_half_way_says_how_to_go_on(
    roll_back: Callable[[], int], kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.tell("exec", answer_of_replica(NEXT_VERSION))
    assert roll_back() == 1
    said = capsys.readouterr().err
    assert f"{VERSION} is the champion, but not every replica serves it" in said
    assert f"To continue, run: {ROLL_REPLICAS}" in said


def test_status_shows_each_replica_the_last_runs_and_the_next(
    kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    created = "2026-11-20T23:30:00Z"
    job = {"metadata": {"name": "weekly-1", "creationTimestamp": created}, "status": {"failed": 1}}
    weekly = {"metadata": {"name": "weekly"}, "spec": {"schedule": "30 23 * * 5", "timeZone": "Europe/London"}}
    paused = {"metadata": {"name": "paused"}, "spec": {"schedule": "0 0 * * *", "suspend": True}}
    kubectl.tell("get pods", {"items": [pod("a"), pod("b", ready=False)]})
    kubectl.tell("exec -i -n time-to-dispatch b", "", "error: container not found")
    kubectl.tell("get jobs", {"items": [job]})
    kubectl.tell("get cronjobs", {"items": [weekly, paused]})
    kubectl.tell("logs", "2026-11-20 23:31:00,000 - ERROR - weekly.main - Nothing was deployed: S3 is down")
    status._status()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"serve-model in here: 2 of 2 replicas ready, 2 up to date, tag {TAG}"
    assert lines[1].startswith(f"  a  {COMMIT[:7]}  {VERSION}  ")
    assert lines[2] == "  b  does not answer: kubectl exec -i -n time-to-dispatch: error: container not found"
    assert lines[3] == f"  run weekly-1  {created}  failed  Nothing was deployed: S3 is down"
    assert lines[4].startswith("  next weekly  ")
    assert "T23:30:00+" in lines[4]
    assert lines[5].startswith("  next paused  ")
    assert lines[5].endswith("T00:00:00+00:00, suspended")


def test_status_of_nothing_is_an_error(kubectl: Kubectl) -> None:
    kubectl.tell("get deployment/serve-model", "")
    with pytest.raises(OperationError, match="there is no deployment serve-model in namespace time-to-dispatch"):
        status._status()
