"""make deploy: deploy the checked-out commit with Bodywork and verify the result, since its exit code proves nothing.

Settings from the environment:

    CONTEXT       kubectl's context, as a confirmation of the cluster
    CLUSTER       deploy/cluster (default) or deploy/eks
    GIT_REMOTE    the git remote that the tag is pushed to (default: origin)
    GIT_URL       the https:// address from which pods clone (default: the remote's)
    GIT_TOKEN     for a private repository; it may push tags
    WAIT_SECONDS  how long to wait for another deployment to end (default: 900)
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from operations import service
from operations.cluster import (
    CONTROLLER_NAMESPACE,
    ROOT,
    OperationError,
    Project,
    bodywork,
    check_context,
    check_namespace,
    check_rights,
    exit_code,
    get,
    items,
    kubectl,
    read_project,
    run,
    step,
    warnings_since,
)
from operations.image import check_tag, is_on_hub
from pipeline.registry.champion import PROMOTED

APPLY = "get create patch"
PROJECT_RIGHTS = {  # for kubectl, for Bodywork, and for kubectl apply
    "jobs.batch": "get list create delete",
    "deployments.apps": f"{APPLY} list watch delete",
    "deployments.apps/scale": "patch",
    "replicasets.apps": "get list",
    "pods": "get list",
    "pods/exec": "create",
    "pods/log": "get",
    "services": "list create",
    "ingresses.networking.k8s.io": "list",
    "secrets": "get list",
    "serviceaccounts": f"{APPLY} list",
    "roles.rbac.authorization.k8s.io": APPLY,
    "rolebindings.rbac.authorization.k8s.io": APPLY,
    "networkpolicies.networking.k8s.io": APPLY,
    "poddisruptionbudgets.policy": APPLY,
    "horizontalpodautoscalers.autoscaling": APPLY,
}
CONTROLLER_RIGHTS = {
    "jobs.batch": "list",
    "cronjobs.batch": APPLY,
    "secrets": "get list",
    "serviceaccounts": f"{APPLY} list",
    "roles.rbac.authorization.k8s.io": APPLY,
    "rolebindings.rbac.authorization.k8s.io": APPLY,
}
CLUSTER_RIGHTS = {
    "namespaces": f"{APPLY} list",
    "clusterroles.rbac.authorization.k8s.io": APPLY,
    "clusterrolebindings.rbac.authorization.k8s.io": f"{APPLY} list",
}
PLACEHOLDER_ACCOUNT = "111122223333"  # in deploy/eks; AWS uses it in examples
CLEAN_UP_SECONDS = 60  # for Bodywork after an interruption
POLL_SECONDS = 2
_REASON = re.compile(r"(?:ERROR - \S+ - |Deployment failed --> )(.+)")
_PROMOTED = re.compile(" - " + re.escape(PROMOTED).replace("%s", r"(\S+)", 1).replace("%s", ".*"))


def main() -> int:
    """Deploy; return 0 if every replica runs this commit and answers, and 1 otherwise."""
    return exit_code(_deploy)


def _deploy() -> None:
    project, folder, url, commit = _check()
    tag = f"{service.TAG_PREFIX}{commit[:12]}"
    _push_tag(tag, commit)
    _wait_for_others(project)
    step(f"applying {folder.relative_to(ROOT)}")
    kubectl("apply", "-k", str(folder))
    _check_secrets(project)  # again: the namespaces may be new, and the wait may have been long
    for fault in service.prepare(project, folder):
        step(f"patched into {project.service}: {fault}")
    step(f"Bodywork: {url}, tag {tag}")
    before = service.last_updated(get(f"deployment/{project.service}", project.name))
    _run_bodywork(project, url, tag)
    try:
        _wait_for_others(project)  # a weekly run may have started
        verify(project, folder, commit, tag, before)
        _schedule(project, folder, url, tag)
    except OperationError as error:
        raise OperationError(
            f"{tag} was rolled out, but its verification failed: {error}. The weekly runs keep the previous tag. "
            "Run make deploy again, or deploy the previous commit"
        ) from error
    step(f"deployed {tag}")


def verify(project: Project, folder: Path, commit: str, tag: str, before: str | None) -> None:
    """Raise OperationError if a replica is not what was deployed, or if Bodywork deployed nothing since `before`."""
    deployment = get(f"deployment/{project.service}", project.name)
    if deployment is None or service.last_updated(deployment) == before:
        raise OperationError("Bodywork ended with exit code 0 but deployed nothing: see its log above")
    service.check_deployment(project, deployment, folder, tag)
    service.wait_for_rollout(project)
    replicas = service.ask_replicas(project)
    service.check_replicas(replicas, commit=commit)
    for replica in replicas:
        step(f"{replica.pod}: commit {replica.commit[:7]}, {replica.model_version}, {replica.status}")
    step(f"through the Service: {replicas[0].order} -> {replicas[0].estimate}")


def _check() -> tuple[Project, Path, str, str]:
    """Refuse what cannot work before anything is changed; quick checks come first."""
    context = check_context(required=True)
    changes = run(["git", "status", "--porcelain"], "git status", cwd=ROOT).splitlines()
    if changes:
        raise OperationError(
            f"{len(changes)} changes are not committed, the first is {changes[0].strip()}: commit them"
        )
    commit = run(["git", "rev-parse", "HEAD"], "git", cwd=ROOT).strip()
    url = os.environ.get("GIT_URL") or run(["git", "remote", "get-url", _remote()], "git", cwd=ROOT).strip()
    for address in (url, _remote()):
        if "@" in urlsplit(address).netloc:
            raise OperationError(
                "GIT_URL or GIT_REMOTE has a name or a token in it, which logs would show: set GIT_TOKEN instead"
            )
    if not url.startswith("https://"):
        raise OperationError(f"GIT_URL is {url}, but pods clone by https://: set GIT_URL")
    run(bodywork("validate", "--check-files"), "bodywork.yaml", cwd=ROOT)
    project, folder = read_project(), service.cluster_folder()
    check_tag(project.image)
    step(f"context {context}, commit {commit[:7]}, image {project.image}")
    with ThreadPoolExecutor() as pool:
        on_hub = pool.submit(is_on_hub, project.image)
        are_there = [check_namespace(namespace) for namespace in (project.name, CONTROLLER_NAMESPACE)]
        check_rights(project.name, PROJECT_RIGHTS)
        check_rights(CONTROLLER_NAMESPACE, CONTROLLER_RIGHTS)
        check_rights("", CLUSTER_RIGHTS)
        _check_kind_of_cluster(project, folder)
        if all(are_there):
            _check_secrets(project)
        if not on_hub.result():
            raise OperationError(f"{project.image} is not on Docker Hub: make image")
    return project, folder, url, commit


def _check_kind_of_cluster(project: Project, folder: Path) -> None:
    """Raise OperationError if the objects are for another kind of cluster, or for the AWS account of the examples.

    deploy/cluster would remove the roles that deploy/eks gave to the accounts.
    """
    for path in (folder / "kustomization.yaml", folder / "serve-model.yaml"):
        if path.exists() and PLACEHOLDER_ACCOUNT in path.read_text():
            raise OperationError(
                f"{path.relative_to(ROOT)} names account {PLACEHOLDER_ACCOUNT}, an example: replace it with yours"
            )
    account = get("serviceaccount/bodywork-stage", project.name) or {"metadata": {}}
    has_role = "eks.amazonaws.com/role-arn" in account["metadata"].get("annotations", {})
    if has_role and folder.name != "eks":
        raise OperationError(
            "the service accounts of this cluster have AWS roles: run make deploy with CLUSTER=deploy/eks"
        )


def _remote() -> str:
    return os.environ.get("GIT_REMOTE", "origin")


def _wait_for_others(project: Project) -> None:
    """Wait until no other deployment runs: two would collide at the training's Job."""
    deadline = time.monotonic() + float(os.environ.get("WAIT_SECONDS", "900"))
    said = False
    while running := _other_deployments(project):
        if time.monotonic() > deadline:
            raise OperationError(f"another deployment is still running: {running}")
        if not said:
            step(f"waiting for another deployment to end: {running}")
        said = True
        time.sleep(POLL_SECONDS)


def _other_deployments(project: Project) -> str | None:
    if get(f"job/{project.batch_job}", project.name):
        return f"job {project.batch_job} in namespace {project.name}"
    for job in items("jobs", CONTROLLER_NAMESPACE):
        if job["status"].get("active"):
            return f"job {job['metadata']['name']} in namespace {CONTROLLER_NAMESPACE}"
    return None


def _check_secrets(project: Project) -> None:
    """Raise OperationError if the stages or the weekly run would lack a secret that bodywork.yaml names."""
    for namespace in (project.name, CONTROLLER_NAMESPACE):
        for name, variables in project.secrets.items():
            found = (get(f"secret/{name}", namespace) or {}).get("data", {})
            absent = sorted(variables - set(found))
            if absent:
                pairs = " ".join(f'{variable}="${variable}"' for variable in sorted(variables))
                raise OperationError(
                    f"secret {name} in namespace {namespace} lacks {', '.join(absent)}, which bodywork.yaml names: "
                    f"printf '%s\\n' {pairs} | kubectl -n {namespace} create secret generic {name} "
                    "--from-env-file=/dev/stdin --dry-run=client -o yaml | kubectl apply -f -"
                )


def _push_tag(tag: str, commit: str) -> None:
    """Push a tag for this deployment. Pods clone it: one started on Tuesday runs what was deployed on Saturday."""
    there = run(["git", "ls-remote", _remote(), f"refs/tags/{tag}"], "git ls-remote", cwd=ROOT, env=_git_environment())
    if there and there.split()[0] != commit:
        raise OperationError(
            f"tag {tag} at {_remote()} is {there.split()[0][:7]}, expected {commit[:7]}: delete it and deploy again"
        )
    if not there:
        run(
            ["git", "push", "--quiet", _remote(), f"{commit}:refs/tags/{tag}"],
            "git push",
            cwd=ROOT,
            env=_git_environment(),
            seconds=120,
        )


def _git_environment() -> dict[str, str]:
    """Return this environment; with GIT_TOKEN, git gets the token from the same helper as in the image."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    if environment.get("GIT_TOKEN"):
        number = int(environment.get("GIT_CONFIG_COUNT", "0"))
        environment |= {
            "GIT_CONFIG_COUNT": str(number + 2),
            f"GIT_CONFIG_KEY_{number}": "credential.helper",
            f"GIT_CONFIG_VALUE_{number}": "",  # turn off the user's own helpers, which would store the token
            f"GIT_CONFIG_KEY_{number + 1}": "credential.helper",
            f"GIT_CONFIG_VALUE_{number + 1}": str(ROOT / "deploy/git-credential-token"),
        }
    return environment


def _run_bodywork(project: Project, url: str, tag: str) -> None:
    """Run Bodywork's deployment and print its log; OperationError with the first cause if it fails."""
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    good, old = service.serving_replica_set(project), service.pods(project)
    interruption = None
    with (
        tempfile.TemporaryDirectory() as folder,  # Bodywork clones into the working directory
        subprocess.Popen(
            bodywork("create", "deployment", url, f"--branch={tag}"),
            cwd=folder,
            env=_git_environment() | {"PYTHONUNBUFFERED": "1", "TERM": "dumb"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches it only once, from here
        ) as process,
    ):
        said = []
        try:
            assert process.stdout is not None
            threading.Thread(target=_interrupt_if_replicas_crash, args=(project, old, process), daemon=True).start()
            for line in process.stdout:
                said.append(_show(line))
            process.wait()
        except OperationError as error:
            step(f"{error}: undoing the roll-out, which takes a minute")
            interruption = str(error)
            said += [_show(line) for line in _end(process).splitlines()]
    if not process.returncode and not interruption:
        return
    reasons = [found[1].strip() for line in said if (found := _REASON.search(line))]
    told = [interruption] if interruption else [*reasons[:1], *warnings_since(project.name, started)[-1:]]
    undone = service.take_back(project, good, old, tag)
    if promoted := next((found[1] for line in said if (found := _PROMOTED.search(line))), None):
        told.append(f"{promoted}, which the training promoted before, remains the champion")
    raise OperationError(
        f"Bodywork ended with exit code {process.returncode}, {undone}: {'; '.join(told) or 'see its log above'}"
    )


def _show(line: str) -> str:
    if line.strip():
        print(f"    {line.rstrip()}", flush=True)
    return line


def _end(process: "subprocess.Popen[str]") -> str:
    """Interrupt Bodywork, so that it deletes its Job and its roll-out; return the rest of its log."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=CLEAN_UP_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def _interrupt_if_replicas_crash(project: Project, old: set[str], process: "subprocess.Popen[str]") -> None:
    """Interrupt Bodywork if new replicas crash; it would wait until its time limit."""
    while process.poll() is None:
        with suppress(OperationError):
            if new := service.crashed_pods(project) - old:
                step(f"{min(new)} crashes again and again: interrupting Bodywork")
                process.send_signal(signal.SIGINT)
                return
        time.sleep(POLL_SECONDS)


def _schedule(project: Project, folder: Path, url: str, tag: str) -> None:
    """Make the weekly run deploy the verified tag, and never the head of the branch."""
    schedules = json.loads(json.dumps(yaml.safe_load((ROOT / "deploy/schedule.yaml").read_text())))  # no shared parts
    for cronjob in schedules["items"]:
        (container,) = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        container["image"] = project.image
        settings = {"GIT_URL": url, "DEPLOYED_TAG": tag, "CLUSTER": str(folder.relative_to(ROOT))}
        container["env"] += [{"name": name, "value": value} for name, value in settings.items()]
    kubectl("apply", "-f", "-", stdin=json.dumps(schedules))


if __name__ == "__main__":
    sys.exit(main())
