"""make e2e: every promise about a cluster, kept once on a real one; a table at the end, exit code 1 on any miss."""

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from e2e.example_client import ROUTE
from e2e.git_server import GitServer, git_server
from e2e.load import BODY
from e2e.world import (
    LOG,
    NODE_PORT,
    SETTINGS,
    CommandResult,
    Environment,
    ExpectationFailed,
    expect,
    seconds_of,
    under_load,
)
from operations.cluster import (
    CONTROLLER_NAMESPACE,
    ROOT,
    OperationError,
    check_namespace,
    get,
    items,
    kubectl,
    refused_rights,
    run,
)
from operations.service import (
    TAG_PREFIX,
    ask_replicas,
    check_deployment,
    check_replicas,
    cluster_folder,
    pods,
    ready_pods,
    wait_for_rollout,
)

ROLL_OUTS = 10
MIN_REQUESTS = 50_000
LIMIT_SECONDS = 15 * 60
ROLLBACK_SECONDS = 60
CRASH_SECONDS = 120  # Bodywork by itself takes 150 s for the roll-out alone
JOB_SECONDS = 120


def main() -> int:
    """Run every scenario; 0 if all held."""
    missing = [name for name in SETTINGS if not os.environ.get(name)]
    if missing:
        print(f"ERROR: set {', '.join(missing)}; e2e/__init__.py says what they are", file=sys.stderr)
        return 1
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        try:
            world = Environment(Path(folder))
            if check_namespace(world.project.name):
                raise OperationError(f"namespace {world.project.name} is there already: a cluster without it is needed")
        except OperationError as error:
            print(f"ERROR: {error}", file=sys.stderr)
            return 1
        world.make_repository()
        with git_server(os.environ["E2E_GIT_LISTEN"], world.repository, world.token) as server:
            _run(world, server)
    seconds = time.monotonic() - start
    world.table.append(("all of it within 15 minutes", seconds < LIMIT_SECONDS, seconds, ""))
    _print(world)
    return 0 if all(held for _, held, _, _ in world.table) else 1


def _run(world: Environment, server: GitServer) -> None:
    with world.scenario("first deployment from nothing") as figures:
        _set_up(world)
        done = world.deploy()
        kubectl(
            "patch",
            "service",
            world.project.service,
            "-n",
            world.project.name,
            "--patch",
            json.dumps({"spec": {"type": "NodePort", "ports": [{"port": 8000, "nodePort": NODE_PORT}]}}),
        )
        time.sleep(2)
        figures += [f"make deploy {done.seconds:.0f} s", _predict(world)]
    if not world.table[-1][1]:
        return  # without a service there is nothing to prove
    for scenario in (
        _roll_outs,
        _scaled_out,
        _refusals,
        _failures,
        _commit_that_does_not_start,
        _interrupted,
        _weekly,
        _pods,
        _rollback,
        _state,
    ):
        scenario(world)
    with world.scenario("the token shows up nowhere, and git asked for it") as figures:
        _token(world)
        expect(server.refused > 0, "the git server was never asked without a token")
        figures.append(f"{server.served} answers with the token, {server.refused} refused without")


def _set_up(world: Environment) -> None:
    """What a platform team does once: image, namespaces and secrets; and an S3 with one week."""
    done = world.make("image")
    expect(done.code == 0, done.error)
    if addition := os.environ.get("E2E_IMAGE_ADDITION"):
        run([addition, world.project.image, world.project.image], addition, seconds=300)
    for key in list(world.store.keys("")):
        world.client.delete_object(Bucket=world.project.bucket, Key=key)
    world.upload_week()
    kubectl("apply", "-k", str(cluster_folder()))
    kubectl("apply", "-f", "-", stdin=json.dumps(_let_all_in(world.project.name)))
    for namespace in (world.project.name, CONTROLLER_NAMESPACE):
        world.secret(namespace, "git", GIT_TOKEN=world.token)
    world.s3_secret()


def _let_all_in(namespace: str) -> dict[str, Any]:
    """Where policies are enforced: this load comes from no namespace, and this S3 and git are not on port 443."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "e2e", "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
    }


def _predict(world: Environment) -> str:
    request = urllib.request.Request(world.url + ROUTE, BODY, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return f"{BODY.decode()} -> {answer.read().decode()}"


def _roll_outs(world: Environment) -> None:
    with world.scenario(f"{ROLL_OUTS} roll-outs under load: kept, new and 1 s long requests") as figures:
        versions, ends, seconds = [world.champion()], [time.time()], []
        with under_load(world, figures, versions) as seen:
            for number in range(ROLL_OUTS):
                world.commit(f"Roll-out {number + 1}")
                world.upload_week()
                seconds.append(world.deploy().seconds)
                versions.append(world.champion())
                ends.append(time.time())
        figures.append(f"make deploy {min(seconds):.0f} to {max(seconds):.0f} s")
        expect(seen["requests"] >= MIN_REQUESTS, f"{seen['requests']} requests, {MIN_REQUESTS} are needed")
        expect(set(seen["versions"]) == set(versions), f"{len(seen['versions'])} of {len(versions)} versions")
        for number, version in enumerate(versions):  # only the old and the new one of each roll-out
            first, last = (seen["versions"][version][key] for key in ("first", "last"))
            expect(first >= ends[max(number - 1, 0)] - 1, f"{version} answered before its roll-out")
            expect(number == ROLL_OUTS or last <= ends[number + 1], f"{version} answered after the next one's roll-out")


def _scaled_out(world: Environment) -> None:
    """What the autoscaler does, this cluster having no metrics, and a platform team that changes a patch."""
    project, replicas = world.project, world.project.replicas + 1
    with world.scenario("a deployment leaves a third replica, and takes a changed patch over") as figures:
        kubectl("scale", f"deployment/{project.service}", "-n", project.name, f"--replicas={replicas}")
        wait_for_rollout(project)
        grace = "terminationGracePeriodSeconds: "
        world.commit("Wait longer", "deploy/cluster/serve-model.yaml", f"{grace}30", f"{grace}31")
        with under_load(world, figures, versions := [world.champion()]):
            done = world.deploy()
            versions.append(world.champion())
            expect("patched into serve-model" in done.output, "the changed patch was not seen")
            expect(len(ready_pods(project)) == replicas, f"{len(ready_pods(project))} replicas, {replicas} there were")
        figures.append(f"make deploy {done.seconds:.0f} s")
        kubectl("scale", f"deployment/{project.service}", "-n", project.name, f"--replicas={project.replicas}")
        wait_for_rollout(project)


def _interrupted(world: Environment) -> None:
    with world.scenario("make deploy interrupted in mid roll-out takes it back") as figures:
        replica = ask_replicas(world.project)[0]
        deployed, versions = replica.commit, [replica.model_version, world.champion()]  # of the commit before this
        world.commit("Deploy, and change one's mind")
        with under_load(world, figures, versions):
            done = world.make("deploy", until="Updating k8s deployment")
            expect(done.code != 0, "make deploy ended with exit code 0")
            expect("interrupted by SIGTERM" in done.error, done.error)
            expect("2 replicas go on as they were" in done.error, done.error)
            versions.append(world.champion())
            wait_for_rollout(world.project)
            check_replicas(ask_replicas(world.project), commit=deployed)
        figures.append(f"{done.seconds:.0f} s; {done.error.removeprefix('ERROR: ')[:110]}")


def _refusals(world: Environment) -> None:
    """What make deploy refuses before anything is touched."""
    good = world.git("rev-parse", "HEAD")
    deploy = "deploy"
    done: list[CommandResult] = []

    def refused(verb: str, *words: str, **settings: str) -> None:
        done.append(world.refused(verb, *words, **settings))

    with world.scenario("refused early: context, credentials, cluster, image, tree, DAG, namespace") as figures:
        with under_load(world, figures):
            refused(deploy, "CONTEXT says elsewhere", CONTEXT="elsewhere")
            refused(deploy, "say which cluster is meant", CONTEXT="")
            refused("rollback", "CONTEXT says elsewhere", CONTEXT="elsewhere")
            refused("status", "CONTEXT says elsewhere", CONTEXT="elsewhere")
            refused(deploy, "must be logged in", KUBECONFIG=_kubeconfig(world, token="expired"))
            refused(deploy, "refused", KUBECONFIG=_kubeconfig(world, server="https://127.0.0.1:1"))
            nobody = _kubeconfig(world, token=_token_of_nobody())
            refused(deploy, "no right in namespace", "create jobs", KUBECONFIG=nobody)
            refused("rollback", "no right in namespace", "watch deployments", KUBECONFIG=nobody)
            refused(deploy, "names account 111122223333", CLUSTER="deploy/eks")
            refused(deploy, "a name or a token in it", GIT_URL="https://me:secret@example.com/a.git")
            with _uncommitted(world):
                refused(deploy, "not committed")
            for old, new, words in (
                ("DAG: train_model >> serve_model", "DAG: train_model >> serve_modle", "serve_modle"),
                (world.project.image, world.project.image + "0", "its inputs give"),
                (world.project.image, "nobody/" + world.project.image.partition("/")[2], "is not on Docker Hub"),
                ("name: time-to-dispatch", "name: e2e-terminating", "Terminating"),
            ):
                world.commit("Try what is refused", "bodywork.yaml", old, new)
                try:
                    with _terminating("e2e-terminating") if words == "Terminating" else nullcontext():
                        refused(deploy, words)
                finally:
                    world.back_to(good)
        figures.append(f"{len(done)} refusals")


def _failures(world: Environment) -> None:
    """What fails in training: the old replicas go on."""
    good = world.git("rev-parse", "HEAD")

    def fails(name: str, prepare: Callable[[], object], words: str, restore: Callable[[], object]) -> None:
        with world.scenario(name) as figures, under_load(world, figures, [world.champion()]):
            prepare()
            try:
                figures.append(world.refused("deploy", words).error.removeprefix("ERROR: ")[:110])
            finally:
                restore()

    noise: list[str] = []
    fails(
        "a bad model: the gates reject it",
        lambda: noise.append(world.upload_week(noise=True)),
        "rejected",
        lambda: world.client.delete_object(Bucket=world.project.bucket, Key=noise[0]),
    )
    fails(
        "a crash in training",
        lambda: world.commit("Crash", "pipeline/train_model.py", "    args = _parse(arguments)\n", "    1 / 0\n"),
        "Bodywork ended with exit code 1",
        lambda: world.back_to(good),
    )
    fails(
        "S3 gone",
        lambda: world.s3_secret(AWS_ENDPOINT_URL="http://127.0.0.1:1"),
        "Nothing was promoted",
        world.s3_secret,
    )
    fails(
        "a key that the bucket does not take",
        lambda: world.s3_secret(AWS_SECRET_ACCESS_KEY="wrong"),
        "Nothing was promoted",
        world.s3_secret,
    )
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "e2e", "namespace": world.project.name},
        "spec": {"hard": {"pods": world.project.replicas}},
    }
    fails(
        "the quota exceeded",
        lambda: kubectl("create", "-f", "-", stdin=json.dumps(quota)),
        "exceeded quota",
        lambda: kubectl("delete", "resourcequota", "e2e", "-n", world.project.name),
    )


def _commit_that_does_not_start(world: Environment) -> None:
    good = world.git("rev-parse", "HEAD")
    with world.scenario("a commit that does not start") as figures:
        old, deployed = world.champion(), ask_replicas(world.project)[0].commit
        world.commit("Do not start", "pipeline/serve_model.py", "    args = _parse(arguments)\n", "    1 / 0\n")
        try:
            with under_load(world, figures, [old]):
                done = world.refused("deploy", "2 replicas go on as they were")
                expect("crashes again and again" in done.output, "the roll-out was not reached, or not interrupted")
                expect(done.seconds < CRASH_SECONDS, f"it took {done.seconds:.0f} s")
                figures.append(f"{done.seconds:.0f} s; {done.error.removeprefix('ERROR: ')[:110]}")
                wait_for_rollout(world.project)
                expect(pods(world.project) == set(ready_pods(world.project)), "a pod of the broken commit is there")
                check_replicas(ask_replicas(world.project), commit=deployed, version=old)
        finally:
            world.back_to(good)


def _weekly(world: Environment) -> None:
    with world.scenario("the weekly run from inside the cluster, and a second at the same time") as figures:
        replica = ask_replicas(world.project)[0]
        deployed, old = replica.commit, replica.model_version  # the champion is of the interrupted deployment
        world.commit("Merged, and not deployed")
        versions = [old]
        with under_load(world, figures, versions):
            world.upload_week()
            _start_job("weekly", "e2e-weekly-1")
            _wait_until(lambda: get("job/train-model", world.project.name) is not None, 60, "no training began")
            _start_job("weekly", "e2e-weekly-2")
            expect(_outcome("e2e-weekly-1") == "succeeded", f"the first run failed: {_job_log('e2e-weekly-1')}")
            expect(_outcome("e2e-weekly-2") == "failed", "the second run at the same time did not fail")
            expect("409" in _job_log("e2e-weekly-2", lines=-1), "the second run did not meet the first one's training")
            expect("the service answers with" in _job_log("e2e-weekly-1"), _job_log("e2e-weekly-1"))
            wait_for_rollout(world.project)
            versions.append(world.champion())
            check_replicas(ask_replicas(world.project), commit=deployed, version=versions[1])
        expect(versions[1] != old, "no new model was promoted")
    with world.scenario("the weekly run ended in mid-training takes its training with it") as figures:
        before = world.pods(), world.champion()
        with under_load(world, figures, [before[1]]):
            key = world.upload_week()
            _start_job("weekly", "e2e-weekly-ended")
            _wait_until(lambda: get("job/train-model", world.project.name) is not None, 60, "no training began")
            kubectl("delete", "job", "e2e-weekly-ended", "-n", CONTROLLER_NAMESPACE, "--wait=false")
            _wait_until(lambda: get("job/train-model", world.project.name) is None, 60, "the training's Job is there")
            of_it = ("-l", "stage=train-model")
            _wait_until(lambda: not items("pods", world.project.name, *of_it), 60, "the training's pod is there")
        expect((world.pods(), world.champion()) == before, "pods or champion changed")
        world.client.delete_object(Bucket=world.project.bucket, Key=key)
    with world.scenario("the weekly run without a new week leaves the service alone") as figures:
        before = world.pods(), world.champion()
        _start_job("weekly-second-chance", "e2e-weekly-3")
        expect(_outcome("e2e-weekly-3") == "succeeded", "the run failed")
        log = _job_log("e2e-weekly-3")
        expect("Nothing to do" in log, log)
        expect((world.pods(), world.champion()) == before, "pods or champion changed")
        figures.append(log.rpartition(" - ")[2])
    with world.scenario("a week that the gates reject, in the cluster: its log is kept") as figures:
        before = world.pods(), world.champion()
        key = world.upload_week(noise=True)
        _start_job("weekly", "e2e-weekly-4")
        expect(_outcome("e2e-weekly-4") == "failed", "the run did not fail")
        expect(
            "Nothing was promoted: rejected" in kubectl("logs", "-n", CONTROLLER_NAMESPACE, "job/e2e-weekly-4"),
            "the training's log is not in the run's",
        )
        expect((world.pods(), world.champion()) == before, "pods or champion changed")
        world.client.delete_object(Bucket=world.project.bucket, Key=key)


def _pods(world: Environment) -> None:
    project = world.project
    with world.scenario("a pod deleted under load: the new one runs the deployed commit, not the head") as figures:
        with under_load(world, figures):
            commit = ask_replicas(project)[0].commit
            head = world.git("ls-remote", "origin", "HEAD").split()[0]
            expect(head != commit, "the branch's head is what was deployed")
            kubectl("delete", "pod", ready_pods(project)[0], "-n", project.name)
            wait_for_rollout(project)
            check_replicas(ask_replicas(project), commit=commit)
            figures.append(f"commit {commit[:7]}, head {head[:7]}")
    with world.scenario("a stage killed in its container starts again in the same pod"):
        pod = ready_pods(project)[0]
        kubectl("exec", "-n", project.name, pod, "--", "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
        _wait_until(lambda: pod not in ready_pods(project), 60, "it was not killed")
        _wait_until(lambda: pod in ready_pods(project), 60, "it did not come back")
        check_replicas(ask_replicas(project))
    with world.scenario("a pod evicted under load, the second eviction refused by the budget") as figures:
        with under_load(world, figures):
            first, second = ready_pods(project)[:2]
            _evict(world, first)
            try:
                _evict(world, second)
            except OperationError as error:
                expect("disruption budget" in str(error), str(error))
            else:
                raise ExpectationFailed("the second eviction was not refused")
            wait_for_rollout(project)


def _rollback(world: Environment) -> None:
    with world.scenario("rollback under load") as figures:
        old = world.champion()
        versions = [old]
        with under_load(world, figures, versions):
            done = world.make("rollback")
            expect(done.code == 0, done.error)
            versions.append(world.champion())
            expect(versions[1] != old, "the champion is the same")
            check_replicas(ask_replicas(world.project), version=versions[1])
        seconds = seconds_of(done.output)
        figures.append(f"{seconds:.0f} s to {versions[1]} in every replica")
        expect(seconds < ROLLBACK_SECONDS, f"it took {seconds:.0f} s")
    with world.scenario("the same commit once more is a roll-out, and does not undo the rollback") as figures:
        before, commit = set(world.pods()), ask_replicas(world.project)[0].commit
        world.git("checkout", "--quiet", commit)  # the branch is ahead of it
        with under_load(world, figures, [versions[1]]):
            figures.append(f"make deploy {world.deploy().seconds:.0f} s")
            check_replicas(ask_replicas(world.project), commit=commit, version=versions[1])
        expect(not before & set(world.pods()), "a replica is the same")
    with world.scenario("status") as figures:
        done = world.make("status")
        expect(done.code == 0, done.error)
        for words in (versions[1], "e2e-weekly-1", "succeeded", "failed", "next weekly"):
            expect(words in done.output, f"make status does not say {words!r}")


def _state(world: Environment) -> None:
    project = world.project
    with world.scenario("what was patched in is still there; rights are what deploy/ says"):
        (commit,) = {replica.commit for replica in ask_replicas(project)}
        deployment = get(f"deployment/{project.service}", project.name)
        folder = world.clone / cluster_folder().relative_to(ROOT)
        check_deployment(project, deployment, folder, f"{TAG_PREFIX}{commit[:12]}")
        stage = f"system:serviceaccount:{project.name}:bodywork-stage"
        controller = f"system:serviceaccount:{CONTROLLER_NAMESPACE}:bodywork-workflow-controller"
        for account, verb, resource, namespace in (
            (stage, "list", "secrets", project.name),
            (stage, "get", "pods", project.name),
            (controller, "list", "secrets", "kube-system"),
            (controller, "create", "secrets", project.name),
            (controller, "patch", "deployments.apps", "default"),
        ):
            refused = refused_rights(namespace, {resource: verb}, "--as", account)
            expect(bool(refused), f"{account} may {verb} {resource} in {namespace}")
        for pod in ready_pods(project):
            listing = kubectl(
                "exec",
                "-n",
                project.name,
                pod,
                "--",
                "sh",
                "-c",
                "ls /var/run/secrets/kubernetes.io 2>&1; id -u; touch /opt/x 2>&1; true",
            )
            expect("No such file" in listing and "10001" in listing and "Read-only" in listing, listing)


def _token(world: Environment) -> None:
    project = world.project
    seen = kubectl("get", "all,cronjobs,events", "-n", project.name, "-o", "yaml")
    seen += kubectl("get", "all,cronjobs,events", "-n", CONTROLLER_NAMESPACE, "-o", "yaml")
    for pod in ready_pods(project):
        seen += kubectl("logs", "-n", project.name, pod)
        where = "/stage/bodywork_project/.git/config /opt/git/config /proc/[0-9]*/cmdline"
        seen += kubectl("exec", "-n", project.name, pod, "--", "sh", "-c", f"cat {where}")
    search = 'test -n "$GIT_TOKEN" || exit 1; grep -rlF "$GIT_TOKEN" /etc /opt /stage /tmp /usr /var 2>/dev/null; true'
    files = kubectl("exec", "-n", project.name, ready_pods(project)[0], "--", "sh", "-c", search).split()
    expect(not files, f"the token is in {files}")
    for job in items("jobs", CONTROLLER_NAMESPACE):
        seen += _job_log(job["metadata"]["name"], lines=-1)
    seen += LOG.read_text()
    expect(world.token not in seen, "the token was seen")
    expect("x-access-token" not in seen, "the token's user was seen")


def _kubeconfig(world: Environment, **changed: str) -> str:
    """A kubeconfig like this one with another server, or with a token instead of this user's certificate."""
    config = json.loads(kubectl("config", "view", "--minify", "--flatten", "-o", "json"))
    if server := changed.get("server"):
        config["clusters"][0]["cluster"]["server"] = server
    if token := changed.get("token"):
        config["users"][0]["user"] = {"token": token}
    path = world.folder / f"kubeconfig-{len(list(world.folder.iterdir()))}"
    path.write_text(json.dumps(config))
    return str(path)


def _token_of_nobody() -> str:
    """A token of an account that may do nothing but look at namespaces and accounts."""
    for command in (
        ("serviceaccount", "nobody", "-n", "default"),
        ("clusterrole", "e2e-nobody", "--verb=get", "--resource=namespaces,serviceaccounts"),
        ("clusterrolebinding", "e2e-nobody", "--clusterrole=e2e-nobody", "--serviceaccount=default:nobody"),
    ):
        manifest = kubectl("create", *command, "--dry-run=client", "-o", "yaml")
        kubectl("apply", "-f", "-", stdin=manifest)
    return kubectl("create", "token", "nobody", "-n", "default").strip()


@contextmanager
def _uncommitted(world: Environment) -> Iterator[None]:
    """A file in the clone that was not committed."""
    path = world.clone / "not-committed.txt"
    path.touch()
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def _terminating(name: str) -> Iterator[None]:
    """A namespace that is being deleted, and held there by an object that waits for its owner."""
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


def _start_job(cronjob: str, name: str) -> None:
    kubectl("create", "job", name, "-n", CONTROLLER_NAMESPACE, f"--from=cronjob/{cronjob}")


def _outcome(job: str) -> str:
    """Wait until a Job has ended: succeeded or failed."""
    outcome = ""

    def ended() -> bool:
        nonlocal outcome
        status = get(f"job/{job}", CONTROLLER_NAMESPACE)["status"]
        outcome = "succeeded" if status.get("succeeded") else "failed" if status.get("failed") else ""
        return bool(outcome)

    _wait_until(ended, JOB_SECONDS, f"job {job} has not ended")
    return outcome


def _job_log(job: str, lines: int = 1) -> str:
    return kubectl("logs", "-n", CONTROLLER_NAMESPACE, f"job/{job}", f"--tail={lines}").strip()


def _evict(world: Environment, pod: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": world.project.name},
    }
    path = f"/api/v1/namespaces/{world.project.name}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def _wait_until(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, f"{otherwise} after {seconds:g} s")
        time.sleep(0.5)


def _print(world: Environment) -> None:
    width = max(len(name) for name, *_ in world.table)
    print(f"\n{'scenario':{width}}  result  seconds  figures")
    for name, held, seconds, figures in world.table:
        print(f"{name:{width}}  {'ok' if held else 'MISSED':6}  {seconds:7.1f}  {figures}")


if __name__ == "__main__":
    sys.exit(main())
