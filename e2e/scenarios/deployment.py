"""The first deployment, roll-outs under load, a third replica, and an interruption."""

import json
import os
import time

from e2e.cluster import let_all_in, predict
from e2e.environment import NODE_PORT, Environment, expect, under_load
from operations.cluster import CONTROLLER_NAMESPACE, kubectl, run
from operations.service import ask_replicas, check_replicas, cluster_folder, ready_pods, wait_for_rollout

ROLL_OUTS = 10
MIN_REQUESTS = 50_000


def first_deployment(environment: Environment) -> None:
    """Set the cluster up as a platform team does, and deploy."""
    with environment.scenario("the first deployment on an empty cluster") as figures:
        _set_up(environment)
        done = environment.deploy()
        ports = [{"port": 8000, "nodePort": NODE_PORT}]
        patch = json.dumps({"spec": {"type": "NodePort", "ports": ports}})
        kubectl("patch", "service", environment.project.service, "-n", environment.project.name, "--patch", patch)
        time.sleep(2)  # until kube-proxy has opened the port
        figures += [f"make deploy {done.seconds:.0f} s", predict(environment)]


def _set_up(environment: Environment) -> None:
    """Make image, namespaces, secrets, and a bucket with one week."""
    done = environment.make("image")
    expect(done.code == 0, done.error)
    if addition := os.environ.get("E2E_IMAGE_ADDITION"):
        run([addition, environment.project.image, environment.project.image], addition, seconds=300)
    for key in list(environment.store.keys("")):
        environment.client.delete_object(Bucket=environment.project.bucket, Key=key)
    environment.upload_week()
    kubectl("apply", "-k", str(cluster_folder()))
    kubectl("apply", "-f", "-", stdin=json.dumps(let_all_in(environment.project.name)))
    for namespace in (environment.project.name, CONTROLLER_NAMESPACE):
        environment.secret(namespace, "git", GIT_TOKEN=environment.token)
    environment.s3_secret()


def roll_outs(environment: Environment) -> None:
    """Deploy again and again: no request may fail, and only the old and the new model answer."""
    with environment.scenario(f"{ROLL_OUTS} roll-outs under load lose no request") as figures:
        versions, ends, seconds = [environment.champion()], [time.time()], []
        with under_load(environment, figures, versions) as seen:
            for number in range(ROLL_OUTS):
                environment.commit(f"Roll-out {number + 1}")
                environment.upload_week()
                seconds.append(environment.deploy().seconds)
                versions.append(environment.champion())
                ends.append(time.time())
        figures.append(f"make deploy {min(seconds):.0f} to {max(seconds):.0f} s")
        expect(seen["requests"] >= MIN_REQUESTS, f"only {seen['requests']} requests (at least {MIN_REQUESTS} needed)")
        expect(set(seen["versions"]) == set(versions), f"{len(seen['versions'])} of {len(versions)} versions")
        for number, version in enumerate(versions):  # each roll-out has only its old and its new version
            first, last = (seen["versions"][version][key] for key in ("first", "last"))
            expect(first >= ends[max(number - 1, 0)] - 1, f"{version} answered before its roll-out")
            expect(number == ROLL_OUTS or last <= ends[number + 1], f"{version} answered after the next one's roll-out")


def third_replica(environment: Environment) -> None:
    """Add a replica, as the autoscaler does, change a patch, and deploy."""
    project, replicas = environment.project, environment.project.replicas + 1
    with environment.scenario("a deployment keeps a third replica and applies a changed patch") as figures:
        kubectl("scale", f"deployment/{project.service}", "-n", project.name, f"--replicas={replicas}")
        wait_for_rollout(project)
        grace = "terminationGracePeriodSeconds: "
        environment.commit("Wait longer", "deploy/cluster/serve-model.yaml", f"{grace}30", f"{grace}31")
        with under_load(environment, figures, versions := [environment.champion()]):
            done = environment.deploy()
            versions.append(environment.champion())
            expect("patched into serve-model" in done.output, "make deploy did not apply the changed patch")
            expect(len(ready_pods(project)) == replicas, f"{len(ready_pods(project))} replicas instead of {replicas}")
        figures.append(f"make deploy {done.seconds:.0f} s")
        kubectl("scale", f"deployment/{project.service}", "-n", project.name, f"--replicas={project.replicas}")
        wait_for_rollout(project)


def interruption(environment: Environment) -> None:
    """Interrupt make deploy during the roll-out: it must undo the roll-out."""
    with environment.scenario("make deploy undoes the roll-out when it is interrupted") as figures:
        replica = ask_replicas(environment.project)[0]
        deployed, versions = replica.commit, [replica.model_version, environment.champion()]
        environment.commit("Deploy, and change one's mind")
        with under_load(environment, figures, versions):
            done = environment.make("deploy", until="Updating k8s deployment")
            expect(done.code != 0, "make deploy ended with exit code 0")
            expect("interrupted by SIGTERM" in done.error, done.error)
            expect("2 replicas go on as they were" in done.error, done.error)
            versions.append(environment.champion())
            wait_for_rollout(environment.project)
            check_replicas(ask_replicas(environment.project), commit=deployed)
        figures.append(f"{done.seconds:.0f} s; {done.error.removeprefix('ERROR: ')[:110]}")
