"""What is in deploy/: the image's tag, the shim as a process, and Kubernetes objects by Kubernetes's own schemas."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from operations.cluster import ROOT, read_project
from operations.image import INPUTS, derive_tag
from operations.service import missing, patches

BIN = Path(sys.executable).parent
KUBERNETES = "1.35"
CLUSTERS = ("deploy/cluster", "deploy/eks")


def documents(folder: str) -> list[tuple[str, dict[str, Any]]]:
    """Every Kubernetes object in a folder's files, with the name of its file."""
    found = []
    for path in sorted((ROOT / folder).glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if "kind" in document and document["kind"] not in ("Kustomization", "ClusterConfig", "List"):
                found.append((path.name, document))
    return found


def schedule() -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/schedule.yaml").read_text())["items"]
    return items


def validate(objects: list[dict[str, Any]], tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    path = tmp_path / "objects.yaml"
    path.write_text("\n---\n".join(json.dumps(item) for item in objects))
    return subprocess.run(
        [BIN / "kubernetes-validate", "--strict", "-k", KUBERNETES, path], capture_output=True, text=True, check=False
    )


def test_bodywork_yaml_names_the_image_that_its_inputs_give() -> None:
    assert read_project().image.partition(":")[2] == derive_tag()


@pytest.mark.parametrize("name", INPUTS)
def test_each_input_changes_the_images_tag(name: str, tmp_path: Path) -> None:
    for each in INPUTS:
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_bytes((ROOT / each).read_bytes())
    assert derive_tag(tmp_path) == derive_tag()
    (tmp_path / name).write_bytes((ROOT / name).read_bytes() + b"\n")
    assert derive_tag(tmp_path) != derive_tag()


def test_every_file_that_the_dockerfile_copies_is_an_input() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    copied = [name for line in lines for name in line.split()[1:-1]]
    assert sorted(copied) == sorted(set(INPUTS) - {"deploy/Dockerfile"})


def test_the_dockerfile_pleases_hadolint() -> None:
    done = subprocess.run([BIN / "hadolint", ROOT / "deploy/Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_bodywork_finds_a_stage_that_is_not_there(tmp_path: Path) -> None:
    text = (ROOT / "bodywork.yaml").read_text().replace(">> serve_model", ">> serve_modle")
    (tmp_path / "bodywork.yaml").write_text(text)
    command: list[str | Path] = [ROOT / ".venv-bodywork/bin/bodywork", "validate"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "serve_modle" in done.stdout


def test_every_object_is_valid_by_kubernetes_schemas(tmp_path: Path) -> None:
    objects = [document for folder in CLUSTERS for _, document in documents(folder)] + schedule()
    done = validate(objects, tmp_path)
    assert len(objects) > 10
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Couldn't find schema" not in done.stdout + done.stderr


def test_a_field_that_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    cronjob = schedule()[0]
    cronjob["spec"]["timezone"] = cronjob["spec"].pop("timeZone")
    assert validate([cronjob], tmp_path).returncode != 0


def merged(found: Any, patch: Any) -> Any:
    """What Kubernetes makes of an object and a patch: the items of a list are one where their key is the same."""
    if isinstance(patch, dict):
        return {**found, **{key: merged(found[key], value) if key in found else value for key, value in patch.items()}}
    if isinstance(patch, list) and patch and isinstance(patch[0], dict):
        items = list(found)
        for item in patch:
            key = next(key for key in ("mountPath", "name", "topologyKey") if key in item)
            place = next((place for place, other in enumerate(items) if other.get(key) == item[key]), None)
            items[slice(place, place + 1) if place is not None else slice(len(items), None)] = [
                merged(items[place], item) if place is not None else item
            ]
        return items
    return patch


def patched(folder: str) -> dict[str, Any]:
    """Bodywork's Deployment with what this project adds to it on this kind of cluster."""
    template = {
        "metadata": {"labels": {"stage": "serve-model"}, "annotations": {"last-updated": "now"}},
        "spec": {"containers": [{"name": "bodywork", "image": "x", "env": [{"name": "GIT_TOKEN", "value": "x"}]}]},
    }
    deployment: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "serve-model"},
        "spec": {"selector": {"matchLabels": {"stage": "serve-model"}}, "template": template},
    }
    for patch in patches(ROOT / folder):
        deployment = merged(deployment, patch)
    return deployment


@pytest.mark.parametrize("folder", CLUSTERS)
def test_the_patched_deployment_is_valid_and_complete(folder: str, tmp_path: Path) -> None:
    deployment = patched(folder)
    done = validate([deployment], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [fault for patch in patches(ROOT / folder) for fault in missing(patch, deployment)] == []
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert "GIT_TOKEN" in {variable["name"] for variable in container["env"]}


def test_on_eks_the_service_has_its_own_role_and_token() -> None:
    template = patched("deploy/eks")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert template["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == container["name"]
    assert template["spec"]["automountServiceAccountToken"] is False
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    (token,) = (volume for volume in template["spec"]["volumes"] if volume["name"] == "serve-model-token")
    (source,) = token["projected"]["sources"]
    trusted = json.loads((ROOT / "deploy/eks/trust-serve-model.json").read_text())
    assert source["serviceAccountToken"]["audience"] in json.dumps(trusted)
    assert environment["AWS_ROLE_ARN"].endswith(":role/time-to-dispatch-serve-model")
    assert environment["AWS_WEB_IDENTITY_TOKEN_FILE"] in [
        f"{mount['mountPath']}/{source['serviceAccountToken']['path']}" for mount in container["volumeMounts"]
    ]


def test_a_token_of_another_audience_is_found() -> None:
    deployment = patched("deploy/eks")
    (token,) = (v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "serve-model-token")
    token["projected"] = {"sources": [{"serviceAccountToken": {"audience": "sts.amazonaws.com", "path": "token"}}]}
    faults = [fault for patch in patches(ROOT / "deploy/eks") for fault in missing(patch, deployment)]
    place = ".spec.template.spec.volumes[serve-model-token].projected.sources[0].serviceAccountToken"
    assert faults == [f"{place}.audience", f"{place}.expirationSeconds"]


def test_on_eks_each_account_that_gets_a_role_is_one_that_is_there() -> None:
    accounts = {item["metadata"]["name"] for _, item in documents("deploy/cluster") if item["kind"] == "ServiceAccount"}
    kustomization = yaml.safe_load((ROOT / "deploy/eks/kustomization.yaml").read_text())
    assert {patch["target"]["name"] for patch in kustomization["patches"]} == accounts
    for patch in kustomization["patches"]:
        ((operation),) = yaml.safe_load(patch["patch"])
        assert (operation["op"], operation["path"]) == ("add", "/metadata/annotations")
        assert set(operation["value"]) == {"eks.amazonaws.com/role-arn"}


def test_the_weekly_run_is_half_an_hour_after_fridays_upload_and_again_on_saturday_morning() -> None:
    weekly, second_chance = schedule()
    for cronjob, when in ((weekly, "30 23 * * 5"), (second_chance, "30 8 * * 6")):
        assert cronjob["spec"]["schedule"] == when
        assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
        assert cronjob["spec"]["startingDeadlineSeconds"] > 0
        assert cronjob["spec"]["timeZone"]


def test_the_autoscalers_minimum_equals_the_replicas_of_bodywork_yaml() -> None:
    (scaler,) = (item for _, item in documents("deploy/cluster") if item["kind"] == "HorizontalPodAutoscaler")
    assert scaler["spec"]["minReplicas"] == read_project().replicas


def test_the_grace_period_is_longer_than_drain_and_requests_in_flight() -> None:
    (patch,) = patches(ROOT / "deploy/cluster")
    assert patch["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 5 + 10


def test_no_role_writes_secrets_or_reads_those_of_the_whole_cluster() -> None:
    for name, role in documents("deploy/cluster"):
        for rule in role.get("rules", []):
            if "secrets" in rule["resources"]:
                assert role["kind"] == "Role", name
                assert rule["verbs"] == ["list"], name


def test_a_missing_or_changed_field_is_named_by_its_place() -> None:
    wanted = {"spec": {"containers": [{"name": "a", "limits": {"memory": "1Gi"}}], "grace": 30}}
    assert missing(wanted, wanted | {"more": 1}) == []
    assert missing(wanted, {"spec": {"containers": [{"name": "b"}, {"name": "a"}], "grace": 20}}) == [
        ".spec.containers[a].limits",
        ".spec.grace",
    ]


FAKE_BODYWORK = """
import subprocess, sys
def cli_app():
    if sys.argv[1] == "alone":
        print("ready", flush=True)
        import time
        time.sleep(60)
    code = subprocess.run([sys.executable, "-c", CHILD]).returncode
    print("child ended with", code, flush=True)
    sys.exit(code)
CHILD = '''
import os, signal, sys, time
def end(*args):  # os.write: a signal may come while print() is at work
    os.write(1, b"child drained\\\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.write(1, b"ready\\\\n")
time.sleep(60)
'''
"""


@pytest.mark.parametrize(
    ("what", "code", "last_words"), [("stage", 0, ["child drained", "child ended with 0"]), ("alone", 143, [])]
)
def test_the_shim_passes_sigterm_on_to_its_child_and_ends_without_one(
    what: str, code: int, last_words: list[str], tmp_path: Path
) -> None:
    package = tmp_path / "bodywork/cli"
    package.mkdir(parents=True)
    (package / "cli.py").write_text(FAKE_BODYWORK)
    (package / "terminal.py").write_text("class console: pass")
    (tmp_path / "bodywork/workflow_execution.py").touch()
    (tmp_path / "bodywork/k8s").mkdir()
    (tmp_path / "bodywork/k8s/__init__.py").write_text("create_job = update_deployment = None")
    (tmp_path / "kubernetes.py").write_text("client = None")
    (tmp_path / "bodywork/k8s/batch_jobs.py").write_text("_get_job_status = None")
    (tmp_path / "bodywork/k8s/deployments.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command: list[str | Path] = [sys.executable, ROOT / "deploy/bodywork", what]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().splitlines() == last_words
        assert process.wait() == code


def test_the_shim_ends_the_real_bodywork_during_its_clone(tmp_path: Path) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\ntouch cloning\nexec sleep 60\n")
    git.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    python = ROOT / ".venv-bodywork/bin/python"
    command: list[str | Path] = [python, ROOT / "deploy/bodywork", "stage", "https://example.com/a.git", "serve_model"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    while not (tmp_path / "cloning").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 1


# Waits for a Job by Bodywork's own code, as the shim has mended it, at the API server of the first argument.
WAIT_FOR_JOB = f"""
import runpy, sys
from kubernetes import client
runpy.run_path("{ROOT / "deploy/bodywork"}", run_name="loaded")
from bodywork.k8s import batch_jobs
client.Configuration.set_default(client.Configuration(host=sys.argv[1]))
job = client.V1Job(metadata=client.V1ObjectMeta(name="train-model", namespace="time-to-dispatch"))
print(batch_jobs.monitor_jobs_to_completion([job], polling_freq_seconds=0, wait_before_start_seconds=0))
"""


class ApiServer(http.server.BaseHTTPRequestHandler):
    """What the API servers of these tests have in common."""

    def answer(self, content: object) -> None:
        """Answer with this, as JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class JobInTheMaking(ApiServer):
    """An API server whose one Job says, each time it is asked, the next of what a real one says in its life."""

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        """List the Job, or its pod."""
        items: list[dict[str, Any]] = [{"metadata": {"name": "train-model-x7"}, "status": {"conditions": []}}]
        if self.path.startswith("/apis/batch/v1/namespaces/time-to-dispatch/jobs"):
            items = [{"metadata": {"name": "train-model"}, "status": self.statuses.pop(0)}]
        self.answer({"items": items})

    statuses: ClassVar[list[dict[str, int]]] = [{"active": 1}, {}, {"ready": 0}, {"succeeded": 1}]


def test_the_shim_makes_bodywork_wait_for_a_job_that_is_between_active_and_succeeded() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), JobInTheMaking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        python, address = ROOT / ".venv-bodywork/bin/python", f"http://127.0.0.1:{server.server_port}"
        waited = subprocess.run([python, "-c", WAIT_FOR_JOB, address], capture_output=True, text=True, check=False)
        server.shutdown()
    assert waited.stdout.splitlines()[-1:] == ["True"], waited.stderr
    assert JobInTheMaking.statuses == []


# Updates a Deployment by Bodywork's own code, as the shim has mended it, at the API server of the first argument.
UPDATE = f"""
import runpy, sys
from kubernetes import client
runpy.run_path("{ROOT / "deploy/bodywork"}", run_name="loaded")
from bodywork import k8s
client.Configuration.set_default(client.Configuration(host=sys.argv[1]))
stage = ("time-to-dispatch", "serve_model", "time-to-dispatch", "https://example.com/a.git", "0123456")
k8s.update_deployment(k8s.configure_service_stage_deployment(*stage, replicas=2))
"""


class ScaledOut(ApiServer):
    """An API server with one Deployment, which remembers how it was patched."""

    replicas: ClassVar[int]
    patch: ClassVar[dict[str, Any]]

    def do_GET(self) -> None:  # noqa: N802 - the library's name
        """List the Deployment."""
        template: dict[str, Any] = {"metadata": {}, "spec": {"containers": []}}
        spec = {"replicas": self.replicas, "selector": {}, "template": template}
        self.answer({"items": [{"metadata": {"name": "serve-model"}, "spec": spec}]})

    def do_PATCH(self) -> None:  # noqa: N802 - the library's name
        """Remember it."""
        type(self).patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({})


@pytest.mark.parametrize(("running", "asked_for"), [(0, 2), (1, 2), (2, None), (6, None)])
def test_the_shim_keeps_replicas_that_the_autoscaler_added(running: int, asked_for: int | None) -> None:
    ScaledOut.replicas = running
    with http.server.HTTPServer(("127.0.0.1", 0), ScaledOut) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        python, address = ROOT / ".venv-bodywork/bin/python", f"http://127.0.0.1:{server.server_port}"
        subprocess.run([python, "-c", UPDATE, address], capture_output=True, check=True)
        server.shutdown()
    assert ScaledOut.patch["spec"].get("replicas") == asked_for
    assert ScaledOut.patch["spec"]["template"]["metadata"]["labels"]["git-commit-hash"] == "0123456"


def test_the_shim_makes_bodywork_keep_a_long_line_of_a_stages_log_whole() -> None:
    line = "train_model.main - Nothing was promoted: " + "a reason, " * 40 + "the end"
    code = f"""
import runpy
runpy.run_path("{ROOT / "deploy/bodywork"}", run_name="loaded")
from bodywork.cli.terminal import print_pod_logs
print_pod_logs({line!r}, "logs")
"""
    command: list[str | Path] = [ROOT / ".venv-bodywork/bin/python", "-c", code]
    assert line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_shim_makes_bodywork_take_revision_10_for_newer_than_9() -> None:
    code = f"""
import runpy
runpy.run_path("{ROOT / "deploy/bodywork"}", run_name="loaded")
from bodywork.k8s import deployments
print(deployments.sorted(["9", "10", "8"], key=lambda revision: str(revision), reverse=True))
"""
    command: list[str | Path] = [ROOT / ".venv-bodywork/bin/python", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "['10', '9', '8']\n"


def test_gits_helper_gives_the_token_and_is_silent_without_one() -> None:
    helper: list[str | Path] = [ROOT / "deploy/git-credential-token", "get"]
    for token, expected in (("a-token", "username=x-access-token\npassword=a-token\n"), ("", "")):
        environment = {**os.environ, "GIT_TOKEN": token}
        assert subprocess.run(helper, env=environment, capture_output=True, text=True, check=True).stdout == expected
