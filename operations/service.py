"""The Deployment that Bodywork makes: what this project adds to it, and what its replicas are."""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from operations.cluster import ROOT, OperationError, Project, get, items, kubectl

PORT = 8000
TAG_PREFIX = "deploy-"  # of the tag that is made for a deployment, before the commit's first twelve digits
ROLL_OUT_SECONDS = 150
MAX_CRASHES = 2  # of a new replica: with the kubelet's pauses between, some 20 s after its start

_ASK_REPLICA = Path(__file__).with_name("ask_replica.py")


@dataclass(frozen=True)
class Replica:
    """What a running replica says of itself, and the estimate that the Service gave to it."""

    pod: str
    commit: str
    status: str
    model_version: str
    order: dict[str, Any]
    estimate: dict[str, Any]


def cluster_folder() -> Path:
    """The folder with the objects for this kind of cluster: CLUSTER, or any cluster's."""
    folder = ROOT / os.environ.get("CLUSTER", "deploy/cluster")
    if not (folder / "kustomization.yaml").exists():
        raise OperationError(f"CLUSTER={folder}: there is no kustomization.yaml, deploy/cluster or deploy/eks is meant")
    return folder


def patches(folder: Path) -> list[dict[str, Any]]:
    """What is patched into Bodywork's Deployment: on any cluster, and besides on the folder's kind of one."""
    files = dict.fromkeys([folder.parent / "cluster/serve-model.yaml", folder / "serve-model.yaml"])
    return [yaml.safe_load(path.read_text()) for path in files if path.exists()]


def missing(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where `found` lacks, or has otherwise, what `wanted` says.

    Items of a list are matched by name or mount path; where they have none, by their place.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [path]
        return [fault for key, value in wanted.items() for fault in missing(value, found.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        faults = []
        for place, item in enumerate(wanted):
            key = next((key for key in ("mountPath", "name", "topologyKey") if key in item), None)
            same = [other for other in found or [] if other.get(key) == item[key]] if key else (found or [])[place:]
            faults += missing(item, same[0] if same else None, f"{path}[{item[key] if key else place}]")
        return faults
    return [] if wanted == found else [path]


def prepare(project: Project, folder: Path) -> list[str]:
    """Put the patches into the Deployment, made without a replica if Bodywork has not made it; what was not there.

    Replicas that run are rolled over; if those with the patches do not start, the ones before serve on.
    """
    deployment = get(f"deployment/{project.service}", project.name)
    if deployment is None:
        kubectl("create", "-f", "-", stdin=json.dumps(_skeleton(project)))
        deployment = {}
    faults = _lost(deployment, folder)
    if faults:
        good, old = replica_set_that_serves(project), pods(project)
        try:
            for patch in patches(folder):
                kubectl("patch", "deployment", project.service, "-n", project.name, "--patch", json.dumps(patch))
            wait_for_rollout(project)
        except OperationError as error:
            raise OperationError(
                f"the replicas do not start with what {folder.relative_to(ROOT)} patches in ({error}): "
                f"{take_back(project, good, old)}"
            ) from error
    return faults


def check_deployment(project: Project, deployment: dict[str, Any], folder: Path, tag: str) -> None:
    """An OperationError if the Deployment is not of this tag and its commit, or lost what was patched into it."""
    labels = deployment["spec"]["template"]["metadata"].get("labels", {})
    for label, expected in (("git-commit-hash", tag.removeprefix(TAG_PREFIX)), ("git-branch", tag)):
        found = labels.get(label, "none")
        if not (found and expected.startswith(found)):
            raise OperationError(f"{project.service} has {label} {found}, {expected} was deployed")
    if faults := _lost(deployment, folder):
        raise OperationError(f"{project.service} lost what was patched into it: {', '.join(faults)}")


def _lost(deployment: dict[str, Any], folder: Path) -> list[str]:
    return [fault for patch in patches(folder) for fault in missing(patch, deployment)]


def is_rolled_out(deployment: dict[str, Any]) -> bool:
    """Are there only new replicas, all of them ready, and as many as asked for?"""
    status, seen = deployment["status"], deployment["status"].get("observedGeneration", 0)
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return bool(seen >= deployment["metadata"]["generation"] and counts == {deployment["spec"]["replicas"]})


def last_updated(deployment: dict[str, Any] | None) -> str | None:
    """When Bodywork last deployed, as it says in the pods' template; None if it never did."""
    template = deployment["spec"]["template"]["metadata"] if deployment else {}
    updated: str | None = template.get("annotations", {}).get("last-updated")
    return updated


def wait_for_rollout(project: Project, seconds: float = ROLL_OUT_SECONDS) -> None:
    """Wait until every replica is a new one and ready, and the old ones are gone."""
    kubectl(
        "rollout",
        "status",
        f"deployment/{project.service}",
        "-n",
        project.name,
        f"--timeout={seconds:g}s",
        seconds=seconds + 5,
    )
    deadline = time.monotonic() + seconds
    while len(_pods(project)) > len(ready_pods(project)):
        if time.monotonic() > deadline:
            raise OperationError(f"{project.service}: not only ready pods after {seconds:g} s")
        time.sleep(0.5)


def ready_pods(project: Project) -> list[str]:
    """The names of the pods that are ready and not on their way out."""
    return [pod["metadata"]["name"] for pod in _pods(project) if _is_ready(pod)]


def pods(project: Project) -> set[str]:
    """The names of all pods that have not ended."""
    return {pod["metadata"]["name"] for pod in _pods(project)}


def crashed_pods(project: Project) -> set[str]:
    """The names of the pods that have crashed MAX_CRASHES times or more."""
    return {
        pod["metadata"]["name"]
        for pod in _pods(project)
        if any(status["restartCount"] >= MAX_CRASHES for status in pod["status"].get("containerStatuses", []))
    }


def replica_set_that_serves(project: Project) -> str | None:
    """The ReplicaSet of most of the ready pods; None if there is no ready one."""
    hashes = Counter(pod["metadata"]["labels"]["pod-template-hash"] for pod in _pods(project) if _is_ready(pod))
    return f"{project.service}-{hashes.most_common(1)[0][0]}" if hashes else None


def take_back(project: Project, good: str | None, old: set[str], tag: str | None = None) -> str:
    """Go back to the ReplicaSet that served before, if the Deployment has another; says what was done.

    Bodywork may have gone back by itself, and then nothing is done. Where there was no pod (`old`), none is left. What
    is not of `tag`, if that is given, is another deployment's, and left to it.
    """
    try:
        return _take_back(project, good, old, tag)
    except OperationError as error:
        return f"the roll-out could not be taken back ({error})"


def _take_back(project: Project, good: str | None, old: set[str], tag: str | None) -> str:
    deployment = _settled(project)
    if deployment is None:
        return "there is no service"
    if not old:
        kubectl("scale", f"deployment/{project.service}", "-n", project.name, "--replicas=0")
        return "nothing was there before, and no replica is left"
    replica_set = get(f"replicaset/{good}", project.name) if good else None
    if replica_set is None:
        return f"what served before is not known, or gone; {len(ready_pods(project))} replicas are ready"
    revision = _revision(replica_set)
    if revision != _revision(deployment):
        its_tag = deployment["spec"]["template"]["metadata"].get("labels", {}).get("git-branch")
        if tag and its_tag != tag:
            return f"{its_tag} is being rolled out by another deployment, and left to it"
        kubectl("rollout", "undo", f"deployment/{project.service}", "-n", project.name, f"--to-revision={revision}")
    wait_for_rollout(project)
    return f"{len(ready_pods(project))} replicas go on as they were"


def _settled(project: Project) -> Any:
    """The Deployment, when Kubernetes has seen what was last asked of it."""
    deadline = time.monotonic() + ROLL_OUT_SECONDS
    while True:
        deployment = get(f"deployment/{project.service}", project.name)
        if deployment is None or deployment["status"].get("observedGeneration") == deployment["metadata"]["generation"]:
            return deployment
        if time.monotonic() > deadline:
            raise OperationError(f"{project.service}: Kubernetes has not looked at it for {ROLL_OUT_SECONDS} s")
        time.sleep(0.5)


def _revision(item: dict[str, Any]) -> str:
    return str(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


def ask_replicas(project: Project) -> list[Replica]:
    """Ask each ready replica, from inside of it; one that the autoscaler took away meanwhile is none."""

    def ask_or_none(pod: str) -> Replica | None:
        try:
            return ask(project, pod)
        except OperationError:
            if pod in ready_pods(project):
                raise
            return None

    with ThreadPoolExecutor() as pool:
        return [replica for replica in pool.map(ask_or_none, ready_pods(project)) if replica]


def check_replicas(replicas: Sequence[Replica], commit: str | None = None, version: str | None = None) -> None:
    """An OperationError if a replica runs another commit, serves another version, or had no sound estimate."""
    if not replicas:
        raise OperationError("not one replica is ready")
    version = version or replicas[0].model_version
    for replica in replicas:
        if commit and replica.commit != commit:
            raise OperationError(f"{replica.pod} runs commit {replica.commit[:7]}, expected {commit[:7]}")
        if replica.model_version != version:
            raise OperationError(f"{replica.pod} serves {replica.model_version}, expected {version}")
        if replica.status != "ready":
            raise OperationError(f"{replica.pod} is {replica.status}")
        if replica.estimate["model_version"] != version or not replica.estimate["est_hours_to_dispatch"] >= 0:
            raise OperationError(f"the Service answered {replica.estimate}, expected an estimate of {version}")


def ask(project: Project, pod: str) -> Replica:
    """Ask one replica; an OperationError if it does not answer."""
    text = kubectl(
        "exec",
        "-i",
        "-n",
        project.name,
        pod,
        "--",
        "python",
        "-",
        str(PORT),
        f"{project.service}:{PORT}",
        stdin=_ASK_REPLICA.read_text(),
    )
    return Replica(pod=pod, **json.loads(text))


def _pods(project: Project) -> list[dict[str, Any]]:
    pods = items("pods", project.name, "-l", f"stage={project.service}")
    return [pod for pod in pods if pod["status"]["phase"] not in ("Succeeded", "Failed")]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    is_ready = any(fact["type"] == "Ready" and fact["status"] == "True" for fact in conditions)
    return is_ready and "deletionTimestamp" not in pod["metadata"]


def _skeleton(project: Project) -> dict[str, Any]:
    """A Deployment for Bodywork to find: what the patches add is there before the first replica starts."""
    labels = {"stage": project.service}
    container = {"name": "bodywork", "image": project.image}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": project.service, "namespace": project.name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
