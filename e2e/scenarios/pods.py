"""Pods that are deleted, killed or evicted under load."""

from e2e.cluster import evict, wait_until
from e2e.environment import Environment, ExpectationFailed, expect, under_load
from operations.cluster import OperationError, kubectl
from operations.service import ask_replicas, check_replicas, ready_pods, wait_for_rollout


def lost_pods(environment: Environment) -> None:
    """Delete, kill and evict replicas."""
    project = environment.project
    with environment.scenario(
        "a pod deleted under load is replaced by the deployed commit, not by the head"
    ) as figures:
        environment.commit("Merged, and not deployed")
        with under_load(environment, figures):
            commit = ask_replicas(project)[0].commit
            head = environment.git("ls-remote", "origin", "HEAD").split()[0]
            expect(head != commit, "the head of the branch is the deployed commit")
            kubectl("delete", "pod", ready_pods(project)[0], "-n", project.name)
            wait_for_rollout(project)
            check_replicas(ask_replicas(project), commit=commit)
            figures.append(f"commit {commit[:7]}, head {head[:7]}")
    with environment.scenario("a killed stage starts again in the same pod"):
        pod = ready_pods(project)[0]
        kubectl("exec", "-n", project.name, pod, "--", "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
        wait_until(lambda: pod not in ready_pods(project), 60, "the pod stayed ready")
        wait_until(lambda: pod in ready_pods(project), 60, "the pod did not become ready")
        check_replicas(ask_replicas(project))
    with environment.scenario("of two evictions under load, the disruption budget refuses the second") as figures:
        with under_load(environment, figures):
            first, second = ready_pods(project)[:2]
            evict(environment, first)
            try:
                evict(environment, second)
            except OperationError as error:
                expect("disruption budget" in str(error), str(error))
            else:
                raise ExpectationFailed("the second eviction was not refused")
            wait_for_rollout(project)
