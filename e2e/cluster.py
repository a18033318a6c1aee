"""Helpers that several scenarios share: Jobs, evictions, accounts and conditions on the cluster."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from e2e.environment import Environment, expect
from e2e.example_client import ROUTE
from e2e.load import BODY
from operations.cluster import CONTROLLER_NAMESPACE, get, kubectl

JOB_SECONDS = 120


def let_all_in(namespace: str) -> dict[str, Any]:
    """Return a policy that allows everything: the load comes from outside, and S3 and git do not use port 443."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "e2e", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
    }


def predict(environment: Environment) -> str:
    """Ask the service for one estimate; return question and answer."""
    request = urllib.request.Request(environment.url + ROUTE, BODY, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return f"{BODY.decode()} -> {answer.read().decode()}"


def start_job(cronjob: str, name: str) -> None:
    """Start a Job from a CronJob."""
    kubectl("create", "job", name, "-n", CONTROLLER_NAMESPACE, f"--from=cronjob/{cronjob}")


def job_outcome(job: str, namespace: str = CONTROLLER_NAMESPACE) -> str:
    """Wait until a Job has ended; return "succeeded" or "failed"."""
    outcome = ""

    def ended() -> bool:
        nonlocal outcome
        status = get(f"job/{job}", namespace)["status"]
        outcome = "succeeded" if status.get("succeeded") else "failed" if status.get("failed") else ""
        return bool(outcome)

    wait_until(ended, JOB_SECONDS, f"job {job} has not ended")
    return outcome


def job_log(job: str, lines: int = 1, namespace: str = CONTROLLER_NAMESPACE) -> str:
    """Return the last lines of a Job's log; -1 for all."""
    return kubectl("logs", "-n", namespace, f"job/{job}", f"--tail={lines}").strip()


def evict(environment: Environment, pod: str) -> None:
    """Evict a pod, as a node drain does."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": environment.project.name},
    }
    path = f"/api/v1/namespaces/{environment.project.name}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for a condition; ExpectationFailed with `otherwise` after the given seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, f"{otherwise} after {seconds:g} s")
        time.sleep(0.5)


def kubeconfig(environment: Environment, **changed: str) -> str:
    """Write a copy of the current kubeconfig with another server or token; return its path."""
    config = json.loads(kubectl("config", "view", "--minify", "--flatten", "-o", "json"))
    if server := changed.get("server"):
        config["clusters"][0]["cluster"]["server"] = server
    if token := changed.get("token"):
        config["users"][0]["user"] = {"token": token}
    path = environment.folder / f"kubeconfig-{len(list(environment.folder.iterdir()))}"
    path.write_text(json.dumps(config))
    return str(path)


def token_of_nobody() -> str:
    """Return the token of an account that may only read namespaces and service accounts."""
    for command in (
        ("serviceaccount", "nobody", "-n", "default"),
        ("clusterrole", "e2e-nobody", "--verb=get", "--resource=namespaces,serviceaccounts"),
        ("clusterrolebinding", "e2e-nobody", "--clusterrole=e2e-nobody", "--serviceaccount=default:nobody"),
    ):
        manifest = kubectl("create", *command, "--dry-run=client", "-o", "yaml")
        kubectl("apply", "-f", "-", stdin=manifest)
    return kubectl("create", "token", "nobody", "-n", "default").strip()


@contextmanager
def uncommitted(environment: Environment) -> Iterator[None]:
    """Have an uncommitted file in the clone."""
    path = environment.clone / "not-committed.txt"
    path.touch()
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def terminating(name: str) -> Iterator[None]:
    """Have a namespace that is being deleted; a finalizer keeps it from going away."""
    kubectl("create", "namespace", name)
    holder = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "holder", "namespace": name, "finalizers": ["example.com/e2e"]},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(holder))
    kubectl("delete", "namespace", name, "--wait=false")
    try:
        yield
    finally:
        kubectl("patch", "configmap", "holder", "-n", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
