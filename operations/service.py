"""The Deployment that Bodywork makes: what this project patches into it, and the state of its replicas."""

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
TAG_PREFIX = "deploy-"  # of a deployment's tag, followed by the first twelve digits of the commit
ROLL_OUT_SECONDS = 150
MAX_CRASHES = 2  # of a new replica, about 20 s after its start

_ASK_REPLICA = Path(__file__).with_name("ask_replica.py")


@dataclass(frozen=True)
class Replica:
    """What a replica says about itself, and an estimate that it got through the Service."""

    pod: str
    commit: str
    status: str
    model_version: str
    order: dict[str, Any]
    estimate: dict[str, Any]


def cluster_folder() -> Path:
    """Return the folder with the objects for this kind of cluster, from CLUSTER."""
    folder = ROOT / os.environ.get("CLUSTER", "deploy/cluster")
    if not (folder / "kustomization.yaml").exists():
        raise OperationError(f"CLUSTER={folder} has no kustomization.yaml (expected deploy/cluster or deploy/eks)")
    return folder


def patches(folder: Path) -> list[dict[str, Any]]:
    """Return what is patched into Bodywork's Deployment: on every cluster, then on this kind of cluster."""
    files = dict.fromkeys([folder.parent / "cluster/serve-model.yaml", folder / "serve-model.yaml"])
    return [yaml.safe_load(path.read_text()) for path in files if path.exists()]


def missing(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return the path of every field in `wanted` that `found` lacks or has with another value."""
    values = _flatten(found)
    faults = [path for path, value in _flatten(wanted).items() if values.get(path) != value]
    return [path for path in faults if not any(path.startswith((f"{parent}.", f"{parent}[")) for parent in faults)]


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return every path in an object with its value. A list item's path has its name, or else its index."""
    if isinstance(value, dict):
        children, value = {f"{path}.{key}": child for key, child in value.items()}, {}
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        children, value = {f"{path}[{_name(item) or index}]": item for index, item in enumerate(value)}, []
    else:
        children = {}
    return {path: value} | {
        key: leaf for place, child in children.items() for key, leaf in _flatten(child, place).items()
    }


def _name(item: dict[str, Any]) -> str | None:
    return next((item[key] for key in ("mountPath", "name", "topologyKey") if key in item), None)


def prepare(project: Project, folder: Path) -> list[str]:
    """Patch the Deployment, and return the fields that were missing. Without a Deployment, create one without replicas.

    Running replicas are rolled over. If the new ones do not start, the old ones go on serving.
    """
    deployment = get(f"deployment/{project.service}", project.name)
    if deployment is None:
        kubectl("create", "-f", "-", stdin=json.dumps(_skeleton(project)))
        deployment = {}
    faults = _lost(deployment, folder)
    if faults:
        good, old = serving_replica_set(project), pods(project)
        try:
            for patch in patches(folder):
                kubectl("patch", "deployment", project.service, "-n", project.name, "--patch", json.dumps(patch))
            wait_for_rollout(project)
        except OperationError as error:
            raise OperationError(
                f"the replicas do not start with the patch of {folder.relative_to(ROOT)} ({error}): "
                f"{take_back(project, good, old)}"
            ) from error
    return faults


def check_deployment(project: Project, deployment: dict[str, Any], folder: Path, tag: str) -> None:
    """Raise OperationError if the Deployment has another tag or commit, or lost a patched field."""
    labels = deployment["spec"]["template"]["metadata"].get("labels", {})
    for label, expected in (("git-commit-hash", tag.removeprefix(TAG_PREFIX)), ("git-branch", tag)):
        found = labels.get(label, "none")
        if not (found and expected.startswith(found)):
            raise OperationError(f"{project.service} has {label} {found}, expected {expected}")
    if faults := _lost(deployment, folder):
        raise OperationError(f"{project.service} lost these patched fields: {', '.join(faults)}")


def _lost(deployment: dict[str, Any], folder: Path) -> list[str]:
    return [fault for patch in patches(folder) for fault in missing(patch, deployment)]


def is_rolled_out(deployment: dict[str, Any]) -> bool:
    """Whether all replicas are new and ready, and as many as specified."""
    status, generation = deployment["status"], deployment["status"].get("observedGeneration", 0)
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return bool(generation >= deployment["metadata"]["generation"] and counts == {deployment["spec"]["replicas"]})


def last_updated(deployment: dict[str, Any] | None) -> str | None:
    """Return when Bodywork last deployed, from the pod template; None if it never did."""
    template = deployment["spec"]["template"]["metadata"] if deployment else {}
    updated: str | None = template.get("annotations", {}).get("last-updated")
    return updated


def wait_for_rollout(project: Project, seconds: float = ROLL_OUT_SECONDS) -> None:
    """Wait until every replica is new and ready, and the old ones are gone."""
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
            raise OperationError(f"{project.service} still has pods that are not ready after {seconds:g} s")
        time.sleep(0.5)


def ready_pods(project: Project) -> list[str]:
    """Return the names of the pods that are ready and not terminating."""
    return [pod["metadata"]["name"] for pod in _pods(project) if _is_ready(pod)]


def pods(project: Project) -> set[str]:
    """Return the names of all pods that have not ended."""
    return {pod["metadata"]["name"] for pod in _pods(project)}


def crashed_pods(project: Project) -> set[str]:
    """Return the names of the pods that crashed MAX_CRASHES times or more."""
    return {
        pod["metadata"]["name"]
        for pod in _pods(project)
        if any(status["restartCount"] >= MAX_CRASHES for status in pod["status"].get("containerStatuses", []))
    }


def serving_replica_set(project: Project) -> str | None:
    """Return the ReplicaSet of most ready pods; None without a ready pod."""
    hashes = Counter(pod["metadata"]["labels"]["pod-template-hash"] for pod in _pods(project) if _is_ready(pod))
    return f"{project.service}-{hashes.most_common(1)[0][0]}" if hashes else None


def take_back(project: Project, good: str | None, old: set[str], tag: str | None = None) -> str:
    """Go back to the ReplicaSet that served before, unless Bodywork has done so already; return what was done.

    Without pods before (`old`), scale to zero. A roll-out of another tag than `tag` belongs to another deployment: it
    is not touched.
    """
    try:
        return _take_back(project, good, old, tag)
    except OperationError as error:
        return f"the roll-out could not be undone ({error})"


def _take_back(project: Project, good: str | None, old: set[str], tag: str | None) -> str:
    deployment = _settled(project)
    if deployment is None:
        return "the service does not exist"
    if not old:
        kubectl("scale", f"deployment/{project.service}", "-n", project.name, "--replicas=0")
        return "there was no replica before, and the new ones were removed"
    replica_set = get(f"replicaset/{good}", project.name) if good else None
    if replica_set is None:
        return f"the ReplicaSet that served before is unknown or gone; {len(ready_pods(project))} replicas are ready"
    revision = _revision(replica_set)
    if revision != _revision(deployment):
        its_tag = deployment["spec"]["template"]["metadata"].get("labels", {}).get("git-branch")
        if tag and its_tag != tag:
            return f"another deployment is rolling out {its_tag}, which was not touched"
        kubectl("rollout", "undo", f"deployment/{project.service}", "-n", project.name, f"--to-revision={revision}")
    wait_for_rollout(project)
    return f"{len(ready_pods(project))} replicas go on as they were"


def _settled(project: Project) -> Any:
    """Wait until Kubernetes has observed the Deployment's last change, and return it."""
    deadline = time.monotonic() + ROLL_OUT_SECONDS
    while True:
        deployment = get(f"deployment/{project.service}", project.name)
        if deployment is None or deployment["status"].get("observedGeneration") == deployment["metadata"]["generation"]:
            return deployment
        if time.monotonic() > deadline:
            raise OperationError(
                f"Kubernetes has not observed the change of {project.service} for {ROLL_OUT_SECONDS} s"
            )
        time.sleep(0.5)


def _revision(item: dict[str, Any]) -> str:
    return str(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


def ask_replicas(project: Project) -> list[Replica]:
    """Ask each ready replica from inside its pod; skip one that the autoscaler removes at the same time."""

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
    """Raise OperationError if a replica runs another commit, serves another version, or got no valid estimate."""
    if not replicas:
        raise OperationError("no replica is ready")
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
    """Ask one replica; OperationError if it does not answer."""
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
    """Return a Deployment without replicas, so that it can be patched before Bodywork starts the first replica."""
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
