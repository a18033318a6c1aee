"""make rollback: the previous champion again, in every replica, verified.

Settings: CONTEXT as for make deploy, and the environment of an AWS client that may write models/champion.json.
"""

import sys
import time

from operations import service
from operations.cluster import (
    OperationError,
    Project,
    check_context,
    check_namespace,
    check_rights,
    exit_code,
    get,
    kubectl,
    read_project,
    run,
    step,
)
from pipeline.errors import TimeToDispatchError
from pipeline.object_store import ObjectStore
from pipeline.registry import Registry
from pipeline.registry_commands import ROLL_REPLICAS

RIGHTS = {"deployments.apps": "get list watch patch", "pods": "get list", "pods/exec": "create"}
REGISTRY_SECONDS = 60


def main() -> int:
    """Roll back; 0 if every replica serves the previous champion, 1 if not."""
    return exit_code(_rollback)


def _rollback() -> None:
    start = time.monotonic()
    project = read_project()
    step(f"context {check_context(required=True)}, bucket {project.bucket}")
    is_there = check_namespace(project.name)
    check_rights(project.name, RIGHTS)
    if not is_there or get(f"deployment/{project.service}", project.name) is None:
        raise OperationError(f"there is no deployment {project.service} in namespace {project.name}: make deploy")
    before = champion(project)
    run(
        [sys.executable, "-m", "pipeline.registry", project.bucket, "rollback"], "registry", seconds=REGISTRY_SECONDS
    )
    after = champion(project)
    step(f"champion: {after} instead of {before}")
    try:
        kubectl("rollout", "restart", f"deployment/{project.service}", "-n", project.name)
        service.wait_for_rollout(project)
        replicas = service.ask_replicas(project)
        service.check_replicas(replicas, version=after)
    except OperationError as error:
        raise OperationError(
            f"{after} is the champion, but not every replica serves it: {error}. Go on by: {ROLL_REPLICAS}; "
            "make rollback once more would go back"
        ) from error
    step(f"{len(replicas)} replicas serve {after}, {time.monotonic() - start:.0f} s after the start")


def champion(project: Project) -> str:
    """The version that the champion pointer names."""
    try:
        pointer = Registry(ObjectStore.connect(project.bucket)).read_champion()
    except TimeToDispatchError as error:
        raise OperationError(str(error)) from error
    if pointer is None:
        raise OperationError(f"bucket {project.bucket} has no champion, there is nothing to roll back")
    return pointer.champion.version


if __name__ == "__main__":
    sys.exit(main())
