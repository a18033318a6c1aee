"""Deployments that fail in training or in the roll-out: the old replicas go on serving."""

import json
from collections.abc import Callable

from e2e.environment import Environment, expect, under_load
from operations.cluster import kubectl
from operations.service import ask_replicas, check_replicas, pods, ready_pods, wait_for_rollout

CRASH_SECONDS = 120  # Bodywork alone waits 150 s for the roll-out


def failed_trainings(environment: Environment) -> None:
    """Let the training fail in every way: the old replicas go on serving."""
    good = environment.git("rev-parse", "HEAD")

    def fails(name: str, prepare: Callable[[], object], words: str, restore: Callable[[], object]) -> None:
        with environment.scenario(name) as figures, under_load(environment, figures, [environment.champion()]):
            prepare()
            try:
                figures.append(environment.refused("deploy", words).error.removeprefix("ERROR: ")[:110])
            finally:
                restore()

    noise: list[str] = []
    fails(
        "a bad model is rejected by the gates",
        lambda: noise.append(environment.upload_week(noise=True)),
        "rejected",
        lambda: environment.client.delete_object(Bucket=environment.project.bucket, Key=noise[0]),
    )
    fails(
        "a training that crashes",
        lambda: environment.commit("Crash", "pipeline/train_model.py", "    args = _parse(arguments)\n", "    1 / 0\n"),
        "Bodywork ended with exit code 1",
        lambda: environment.back_to(good),
    )
    fails(
        "an S3 that does not answer",
        lambda: environment.s3_secret(AWS_ENDPOINT_URL="http://127.0.0.1:1"),
        "Nothing was promoted",
        environment.s3_secret,
    )
    fails(
        "a wrong S3 key",
        lambda: environment.s3_secret(AWS_SECRET_ACCESS_KEY="wrong"),
        "Nothing was promoted",
        environment.s3_secret,
    )
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "e2e", "namespace": environment.project.name},
        "spec": {"hard": {"pods": environment.project.replicas}},
    }
    fails(
        "an exceeded quota",
        lambda: kubectl("create", "-f", "-", stdin=json.dumps(quota)),
        "exceeded quota",
        lambda: kubectl("delete", "resourcequota", "e2e", "-n", environment.project.name),
    )


def commit_that_does_not_start(environment: Environment) -> None:
    """Deploy a service that crashes at its start: the roll-out is undone."""
    good = environment.git("rev-parse", "HEAD")
    with environment.scenario("a commit that does not start is undone") as figures:
        old, deployed = environment.champion(), ask_replicas(environment.project)[0].commit
        environment.commit("Do not start", "pipeline/serve_model.py", "    args = _parse(arguments)\n", "    1 / 0\n")
        try:
            with under_load(environment, figures, [old]):
                done = environment.refused("deploy", "2 replicas go on as they were")
                expect("crashes again and again" in done.output, "the roll-out was not reached or not interrupted")
                expect(done.seconds < CRASH_SECONDS, f"it took {done.seconds:.0f} s")
                figures.append(f"{done.seconds:.0f} s; {done.error.removeprefix('ERROR: ')[:110]}")
                wait_for_rollout(environment.project)
                expect(
                    pods(environment.project) == set(ready_pods(environment.project)),
                    "a pod of the broken commit is left",
                )
                check_replicas(ask_replicas(environment.project), commit=deployed, version=old)
        finally:
            environment.back_to(good)
